"""Named tensors in one file, in the safetensors format; what its header may say is in `rein.formats.header`."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, BinaryIO

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import atomic_file
from rein.formats.header import (
    TENSOR_LIMIT,
    TYPES,
    Header,
    TensorInfo,
    checked_header,
    name_problem,
    opened,
    without_collection,
)

if TYPE_CHECKING:
    import torch

Entry = tuple[str, "torch.dtype", tuple[int, ...], Callable[[], "torch.Tensor"]]
"""A tensor to be written: its name, type and shape, and what makes it when its turn comes."""


_NAMES = {f"torch.{ours}": theirs for theirs, (ours, _) in TYPES.items()}


def read_header(path: str | os.PathLike[str], most: int = TENSOR_LIMIT) -> Header:
    """Read and check the header of a safetensors file, and none of its data; `most` is how many tensors it may have.

    Raises:
        InputError: there is no such file, or it may not be read.
        DamagedFileError: it is not a whole and correct safetensors file; the message says what is wrong.
    """
    with opened(path) as handle, without_collection():
        return checked_header(handle, os.fspath(path), most)


def read_tensors(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    names: Iterable[str] | None = None,
    most: int = TENSOR_LIMIT,
) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, all of them or those in `names`; it may have `most`.

    On the CPU they are views of the mapped file: a page is read when it is first touched, and what is written to a
    tensor stays in memory, apart from the file.

    Raises:
        InputError, DamagedFileError: as `read_header`; InputError also for a name that is not in the file.
    """
    with opened(path) as handle:
        header = checked_header(handle, os.fspath(path), most)
        wanted = list(header.tensors if names is None else names)
        for name in wanted:
            if name not in header.tensors:
                raise InputError(f"{os.fspath(path)} has no tensor {quoted(name)}")
        mapped = mapped_file(handle, os.fspath(path))
    return {name: tensor_view(mapped, header.tensors[name], header.data_start).to(device) for name in wanted}


def mapped_file(handle: BinaryIO, path: str) -> mmap.mmap:
    """A file in memory: a page is read when it is first touched, and what is written to one stays apart from the file.

    Raises:
        DamagedFileError: the file cannot be mapped.
    """
    try:
        return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"cannot read {path}: {error}") from error


def tensor_view(mapped: mmap.mmap, info: TensorInfo, data_start: int) -> torch.Tensor:
    """The tensor that `info` describes, as a view of a mapped file whose data begin at byte `data_start`."""
    import torch

    if info.bytes == 0:
        return torch.empty(info.shape, dtype=torch_type(info.dtype))
    return flat_view(mapped, info.dtype, data_start + info.start, info.bytes).reshape(info.shape)


def flat_view(mapped: mmap.mmap, dtype: str, start: int, size: int) -> torch.Tensor:
    """`size` bytes of a mapped file from byte `start` as a vector of a type of `TYPES`; `size` is at least 1."""
    import torch

    flat = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=start)
    if start % TYPES[dtype][1]:
        flat = flat.clone()  # legal in the format, and slow or fatal for vector instructions
    return flat.view(torch_type(dtype))


def torch_type(name: str) -> torch.dtype:
    """PyTorch's type of a name of `TYPES`."""
    import torch

    dtype = getattr(torch, TYPES[name][0])
    assert isinstance(dtype, torch.dtype)
    return dtype


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
    write_streaming(path, [_entry(name, tensor) for name, tensor in tensors.items()], metadata)


def write_streaming(
    path: str | os.PathLike[str], entries: Iterable[Entry], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors that are made one after another, each dropped before the next. Otherwise as `write_tensors`.

    Args:
        entries: name, type, shape and maker of each tensor, see `Entry`. Makers are called once, in the order of the
            file: the widest type first, then by name.

    Raises:
        InputError: a type that the format does not have, a name that it may not have or has already.
        OutputError: the file cannot be written.
        ReinError: what a maker raises; nothing is written then.
    """
    made: dict[str, Entry] = {}
    for entry in entries:
        _check_entry(entry, made)
        made[entry[0]] = entry
    order = sorted(made.values(), key=lambda entry: (-entry[1].itemsize, entry[0]))  # so that each is aligned
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name, dtype, shape, _ in order:
        end = start + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": type_name(dtype), "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for name, dtype, shape, make in order:
            tensor = make()
            if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                raise ValueError(f"{name}: {tensor.dtype} {tuple(tensor.shape)}, announced as {dtype} {tuple(shape)}")
            handle.write(_bytes_of(tensor))


def type_name(dtype: torch.dtype) -> str | None:
    """The format's name for a type, None where it has none."""
    return _NAMES.get(str(dtype))


def _entry(name: str, tensor: torch.Tensor) -> Entry:
    if str(tensor.layout) != "torch.strided":
        raise InputError(f"tensor {quoted(name)} ({tensor.layout}) cannot be stored as safetensors")
    return name, tensor.dtype, tuple(tensor.shape), lambda: tensor


def _check_entry(entry: Entry, before: Mapping[str, Entry]) -> None:
    name, dtype = entry[:2]
    if type_name(dtype) is None:
        raise InputError(f"tensor {quoted(name)} ({dtype}) cannot be stored as safetensors")
    problem = "the name of the metadata" if name == "__metadata__" else name_problem(name)
    if problem is None and name in before:
        problem = "there twice"
    if problem is not None:
        raise InputError(f"tensor {quoted(name)} cannot be stored as safetensors: its name is {problem}")


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data
