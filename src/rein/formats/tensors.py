"""Named tensors in one file, in the safetensors format: https://github.com/huggingface/safetensors (format section).

A file is an unsigned 64-bit little-endian number n, a header of n bytes of JSON that gives each tensor's type, shape
and place, and the tensors' bytes, back to back. The header is checked in full before a byte of data is touched: a file
passes only if every byte in it is accounted for, so that nothing can hide in it and no length can lie.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import atomic_file

if TYPE_CHECKING:
    import torch

HEADER_LIMIT = 100_000_000
"""The longest header that is read, in bytes; SDXL's has about 300,000."""

_TYPES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}
"""Of each type in the format: PyTorch's name for it, and bytes per element."""

_OTHER_FORMATS = (
    (b"PK\x03\x04", "a PyTorch or ZIP archive, which may hold code to run, and not a safetensors file"),
    (b"\x80", "a Python pickle, which is code to run, and not a safetensors file"),
    (b"GGUF", "a GGUF file, not a safetensors file"),
    (b"\x89HDF", "an HDF5 file, not a safetensors file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch that with `git lfs pull`"),
    (b"<", "a web page, not a safetensors file; download it again"),
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says of one tensor; `start` and `end` count bytes from the first byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The contents of a file without its data: tensors in the order in which they lie there, and free texts."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of a safetensors file, and none of its data.

    Raises:
        InputError: there is no such file, or it may not be read.
        DamagedFileError: it is not a whole and correct safetensors file; the message says what is wrong.
    """
    with _opened(path) as handle:
        return _checked_header(handle, os.fspath(path))


def read_tensors(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", names: Iterable[str] | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, all of them or those in `names`.

    On the CPU they are views of the mapped file: a page is read when it is first touched, and what is written to a
    tensor stays in memory, apart from the file.

    Raises:
        InputError, DamagedFileError: as `read_header`; InputError also for a name that is not in the file.
    """
    with _opened(path) as handle:
        header = _checked_header(handle, os.fspath(path))
        wanted = list(header.tensors if names is None else names)
        for name in wanted:
            if name not in header.tensors:
                raise InputError(f"{os.fspath(path)} has no tensor {quoted(name)}")
        try:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise DamagedFileError(f"cannot read {os.fspath(path)}: {error}") from error
    return {name: _view(mapped, header.tensors[name], header.data_start).to(device) for name in wanted}


def _view(mapped: mmap.mmap, info: TensorInfo, data_start: int) -> torch.Tensor:
    import torch

    type_name, item_size = _TYPES[info.dtype]
    dtype: torch.dtype = getattr(torch, type_name)
    size = info.end - info.start
    if size == 0:
        return torch.empty(info.shape, dtype=dtype)
    flat = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=data_start + info.start)
    if (data_start + info.start) % item_size:
        flat = flat.clone()  # legal in the format, and slow or fatal for vector instructions
    return flat.view(dtype).reshape(info.shape)


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` as a safetensors file, all of it or nothing. The same contents give the same bytes.

    Args:
        path: where to; what is there is replaced when the new file is complete.
        tensors: dense tensors on any device.
        metadata: free texts.

    Raises:
        InputError: a tensor is sparse or of a type that the format does not have.
        OutputError: the file cannot be written.
    """
    types = {name: _type_of(name, tensor) for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (-_TYPES[types[name]][1], name))  # widest first, so that each is aligned
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in order:
        end = start + tensors[name].numel() * _TYPES[types[name]][1]
        entries[name] = {"dtype": types[name], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            handle.write(_bytes_of(tensors[name]))


def _type_of(name: str, tensor: torch.Tensor) -> str:
    """The format's name for a tensor's type."""
    known = {f"torch.{ours}": theirs for theirs, (ours, _) in _TYPES.items()}
    if name == "__metadata__" or str(tensor.dtype) not in known or str(tensor.layout) != "torch.strided":
        kind = f"{tensor.dtype}, {tensor.layout}"
        raise InputError(f"tensor {quoted(name)} ({kind}) cannot be stored as safetensors")
    return known[str(tensor.dtype)]


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {os.fspath(path)}") from error
    except IsADirectoryError as error:
        raise InputError(f"{os.fspath(path)} is a folder; give a safetensors file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {os.fspath(path)}: {getattr(error, 'strerror', None) or error}") from error


def _checked_header(handle: BinaryIO, path: str) -> Header:
    try:
        size = os.fstat(handle.fileno()).st_size
        start = handle.read(32)
        for magic, what in _OTHER_FORMATS:
            if start.startswith(magic) and start[8:9] != b"{":
                _refuse(path, f"it is {what}")
        if size < 8:
            _refuse(path, "it is empty" if size == 0 else f"it is cut short: {size} bytes, less than the 8 of a length")
        length = int.from_bytes(start[:8], "little")
        if length > HEADER_LIMIT:
            _refuse(path, f"not a safetensors file: the header would have {length} bytes (at most {HEADER_LIMIT})")
        if 8 + length > size:
            _refuse(
                path, f"it is cut short within its header: {size} bytes of at least {8 + length}; download it again"
            )
        handle.seek(8)
        text = handle.read(length)
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror or error}") from error
    entries = _parsed(text, path)
    metadata = _checked_metadata(entries.pop("__metadata__", {}), path)
    tensors = {name: _checked_entry(name, entry, path) for name, entry in entries.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    _check_cover(ordered, size - 8 - length, path)
    return Header(ordered, metadata, 8 + length)


def _parsed(text: bytes, path: str) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
            _refuse(path, f"its header has the key {quoted(twice)} twice")
        return result

    if not text.startswith(b"{"):
        _refuse(path, "its header does not begin with '{'")
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates)
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"cannot read {path}: its header is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"cannot read {path}: its header is not correct JSON") from error
    assert isinstance(entries, dict), "what begins with a brace and parses is an object"
    return entries


def _checked_metadata(metadata: Any, path: str) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its metadata is not a table of texts")
    return dict(metadata)


def _checked_entry(name: str, entry: Any, path: str) -> TensorInfo:
    label = f"tensor {quoted(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"{label} is not described by exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        _refuse(path, f"{label} has the type {quoted(dtype)}; known: {', '.join(_TYPES)}")
    if not isinstance(shape, list) or not all(_is_natural(extent) for extent in shape):
        _refuse(path, f"{label} has the shape {quoted(shape)}, not a list of whole numbers from 0")
    # A zero among the extents must not hide others that overflow PyTorch's 64-bit sizes.
    if len(shape) > 64 or math.prod(extent for extent in shape if extent) >= 2**60:
        _refuse(path, f"{label} has the impossible shape {quoted(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_natural(offset) for offset in offsets):
        _refuse(path, f"{label} has the offsets {quoted(offsets)}, not two whole numbers from 0")
    start, end = offsets
    needed = math.prod(shape) * _TYPES[dtype][1]
    if end - start != needed:
        _refuse(path, f"{label} takes {end - start} bytes by its offsets and {needed} by its shape and type")
    return TensorInfo(dtype, tuple(shape), start, end)


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63  # to isinstance a bool is an int


def _check_cover(tensors: Mapping[str, TensorInfo], size: int, path: str) -> None:
    """Tensors, in order of their start, must follow one another without gap or overlap and end with the file."""
    position = 0
    for name, info in tensors.items():
        if info.start < position:
            _refuse(path, f"tensor {quoted(name)} overlaps the one before it")
        if info.start > position:
            _refuse(path, f"there are {info.start - position} bytes of no tensor before tensor {quoted(name)}")
        position = info.end
    if position > size:
        _refuse(
            path, f"it is cut short: its tensors have {position} bytes, of which {size} are there; download it again"
        )
    if position < size:
        _refuse(path, f"{size - position} bytes of no tensor follow the last one")


def _refuse(path: str, reason: str) -> NoReturn:
    raise DamagedFileError(f"cannot read {path}: {reason}")
