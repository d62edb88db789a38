"""Any single file of weights as a table of tensors: safetensors, or a PyTorch file that is read without running it.

What a file is, is decided by its contents and never by its name.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rein.errors import DamagedFileError
from rein.formats.archive import read_archive
from rein.formats.header import checked_header, opened, without_collection
from rein.formats.legacy import MAGIC, read_legacy
from rein.formats.pickle_tensors import RefusedPickleError
from rein.formats.placed import Contents, PlacedTensor
from rein.formats.scaled import multiplied, scales_of, without_scales
from rein.formats.tensors import flat_view, mapped_file, torch_type, write_streaming

if TYPE_CHECKING:
    import torch

__all__ = ["SAFETENSORS", "TORCH_LEGACY", "TORCH_ZIP", "Weights", "open_weights", "write_streaming"]

SAFETENSORS, TORCH_ZIP, TORCH_LEGACY = "safetensors", "torch zip", "torch legacy"

Identity = tuple[int, int, int, int]
"""What tells a file from another that was put in its place."""

_OLDEST_PICKLE = f"L{MAGIC}L\n".encode()
_LONGEST_MAGIC = 32
_LARGEST_SHARE = 4
"""Tensors may share their data; all of them together may be this many times as large as the file."""

_BLOCK = 2**24


class Weights(Mapping[str, "torch.Tensor"]):
    """The tensors of a file, each made when it is asked for.

    `weights[name]` is a view of the mapped file: it takes no memory before it is touched, and what is written to it
    stays apart from the file. `weights.read(name)` is a copy in memory of its own, read without the map. An 8-bit
    weight with a scale beside it (`rein.formats.scaled`) comes multiplied, in float32, and always as a copy.

    Attributes:
        path: the file.
        container: "safetensors", "torch zip" or "torch legacy".
        infos: type, shape and place of each tensor, by name, in the order of the file; scales are not among them.
        scales: names of the scales of 8-bit weights, by those of the weights.
        metadata: free texts of a safetensors file.
        extras: plain values (numbers, texts, lists, tables) found in a pickle beside the tensors.
        inert: names of classes that a pickle asks for; none is imported or made.
        left_out: names of tensors that are no part of the model, such as an optimiser's; they cannot be asked for.
    """

    def __init__(self, path: Path, container: str, contents: Contents, source: tuple[mmap.mmap, Identity]) -> None:
        self.path = path
        self.container = container
        self.scales: Mapping[str, str] = scales_of(contents.tensors)
        self.infos: Mapping[str, PlacedTensor] = without_scales(contents.tensors, self.scales)
        self._placed = contents.tensors
        self.metadata: Mapping[str, str] = contents.metadata
        self.extras: Mapping[str, Any] = contents.extras
        self.inert = contents.inert
        self.left_out = contents.left_out
        self._checksums = contents.checksums
        self._mapped, self._identity = source

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def __contains__(self, name: object) -> bool:
        return name in self.infos

    def __getitem__(self, name: str) -> torch.Tensor:
        view = self._view(self.infos[name])
        return self._multiplied(name, view) if name in self.scales else view

    def _view(self, info: PlacedTensor) -> torch.Tensor:
        import torch

        if not info.parameters:
            return _empty(info)
        flat = flat_view(self._mapped, info.dtype, info.start, info.span)
        return flat.view(info.shape) if info.strides is None else torch.as_strided(flat, info.shape, info.strides)

    def read(self, name: str) -> torch.Tensor:
        """Tensor `name`, in memory of its own and in rows.

        Raises:
            DamagedFileError: the file changed since it was opened.
        """
        copy = self._copy(self.infos[name])
        return self._multiplied(name, copy) if name in self.scales else copy

    def _multiplied(self, name: str, stored: torch.Tensor) -> torch.Tensor:
        return multiplied(name, stored, self._copy(self._placed[self.scales[name]]), self.path)

    def _copy(self, info: PlacedTensor) -> torch.Tensor:
        import torch

        if not info.parameters:
            return _empty(info)
        memory = torch.empty(info.span, dtype=torch.uint8)
        with self._reopened() as handle:
            handle.seek(info.start)
            if handle.readinto(memory.numpy().data) != info.span:
                raise DamagedFileError(f"cannot read {self.path}: it became shorter while it was read")
        flat = memory.view(_dtype(info))
        if info.strides is None:
            return flat.view(info.shape)
        return torch.as_strided(flat, info.shape, info.strides).contiguous()

    def release(self, name: str) -> None:
        """Let the system take back the memory of the mapped pages of tensor `name`, which nobody reads any more.

        What was written to a view of it is lost. Pages at its ends, which other tensors share, stay.
        """
        info = self.infos[name]
        first = -(-info.start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (info.start + info.span) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED, first, length)

    def verify(self) -> None:
        """Compare the checksums of a ZIP archive with all of its data, which is read for that.

        Raises:
            DamagedFileError: one of them differs, or the file changed since it was opened.
        """
        with self._reopened() as handle:
            for (start, size), expected in self._checksums.items():
                handle.seek(start)
                if _checksum(handle, size) != expected:
                    where = f"the {size} bytes at {start}"
                    raise DamagedFileError(f"cannot read {self.path}: {where} are damaged; download it again")

    def dtype(self, name: str) -> torch.dtype:
        """The type in which tensor `name` comes, in PyTorch's terms."""
        return torch_type("F32") if name in self.scales else _dtype(self.infos[name])

    @contextmanager
    def _reopened(self) -> Iterator[BufferedReader]:
        try:
            with opened(self.path) as handle:
                if _identity(handle) != self._identity:
                    raise DamagedFileError(f"cannot read {self.path}: it changed while it was read; run again")
                yield handle
        except OSError as error:
            raise DamagedFileError(f"cannot read {self.path}: {error.strerror or error}") from error


def _identity(handle: BinaryIO) -> Identity:
    status = os.fstat(handle.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _checksum(handle: BinaryIO, size: int) -> int:
    value = 0
    while size:
        block = handle.read(min(size, _BLOCK))
        if not block:
            return -1
        value, size = zlib.crc32(block, value), size - len(block)
    return value


def _dtype(info: PlacedTensor) -> torch.dtype:
    return torch_type(info.dtype)


def _empty(info: PlacedTensor) -> torch.Tensor:
    import torch

    return torch.empty(info.shape, dtype=_dtype(info))


def open_weights(path: str | os.PathLike[str]) -> Weights:
    """Open a file of weights and check all of it but the numbers themselves. None of its data are read.

    Raises:
        InputError: there is no such file, or it may not be read.
        DamagedFileError: it is no file of weights, is cut short, or holds what no honest file of weights does; the
            message says what is wrong.
    """
    path = Path(path)
    with opened(path) as handle, without_collection():
        container, contents, mapped = _contents(handle, path)
        return Weights(path, container, contents, (mapped, _identity(handle)))


def _contents(handle: BinaryIO, path: Path) -> tuple[str, Contents, mmap.mmap]:
    start = handle.read(_LONGEST_MAGIC)
    handle.seek(0)
    is_pickle = start.startswith((b"\x80", _OLDEST_PICKLE))
    if start[8:9] == b"{" or not (is_pickle or start.startswith(b"PK")):
        header = checked_header(handle, str(path))
        placed = {
            name: PlacedTensor(info.dtype, info.shape, header.data_start + info.start)
            for name, info in header.tensors.items()
        }
        return SAFETENSORS, Contents(placed, header.metadata), mapped_file(handle, str(path))
    mapped = mapped_file(handle, str(path))
    try:
        contents = read_legacy(mapped) if is_pickle else read_archive(mapped)
    except RefusedPickleError as error:
        raise DamagedFileError(f"cannot read {path}: {error}") from None
    total = sum(info.bytes for info in contents.tensors.values())
    if total > _LARGEST_SHARE * len(mapped) + 2**20:
        raise DamagedFileError(
            f"cannot read {path}: its tensors share their data so often that they come to {total} bytes"
        )
    return (TORCH_LEGACY if is_pickle else TORCH_ZIP), contents, mapped
