"""The header of a safetensors file, checked in full: https://github.com/huggingface/safetensors (format section).

A file is an unsigned 64-bit little-endian number n, a header of n bytes of JSON that gives each tensor's type, shape
and place, and the tensors' bytes, back to back. A file passes only if every byte in it is accounted for, so that
nothing can hide in it and no length can lie.
"""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import parse_json

HEADER_LIMIT = 8_000_000
"""The longest header that is read, in bytes. SDXL's has about 300,000, an adapter's with notes a few million."""

TENSOR_LIMIT = 10_000
"""The most tensors in a file; SDXL has 2,500, with averages 4,200."""

STATE_LIMIT = 40_000
"""The most in a training state, which is one's own: five for each that is trained."""

NAME_LIMIT = 1000
"""The longest name of a tensor, in characters."""

TYPES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
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

_TEXTS = re.compile(rb'"[^"]*+(?:"|\Z)')
_KEYS = frozenset(("dtype", "shape", "data_offsets"))
_MAY_MISLEAD = re.compile(r"[/\\:~]|__")

_OTHER_FORMATS = (
    (b"PK\x03\x04", "a PyTorch or ZIP archive, which may hold code to run, and not a safetensors file"),
    (b"\x80", "a Python pickle, which is code to run, and not a safetensors file"),
    (b"GGUF", "a GGUF file, not a safetensors file"),
    (b"\x89PNG", "a picture, not a safetensors file"),
    (b"\xff\xd8\xff", "a picture, not a safetensors file"),
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

    @property
    def bytes(self) -> int:
        """The size of its data."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """The contents of a file without its data: tensors in the order in which they lie there, and free texts."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def opened(path: str | os.PathLike[str]) -> BufferedReader:
    """A file of weights, opened for reading. Raises `InputError`."""
    try:
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {os.fspath(path)}") from error
    except IsADirectoryError as error:
        raise InputError(f"{os.fspath(path)} is a folder; give a file of weights") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {os.fspath(path)}: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def without_collection() -> Iterator[None]:
    """Python looks for no cycles of garbage meanwhile: a file's tables hold none, and beside PyTorch a look is slow."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def checked_header(handle: BinaryIO, path: str, most: int = TENSOR_LIMIT) -> Header:
    """As `read_header`, of an open file; `path` is for messages, `most` the number of tensors that is read."""
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
    _check_amount(text, path, most)
    entries = _parsed(text, path)
    metadata = _checked_metadata(entries.pop("__metadata__", {}), path)
    tensors = {name: _checked_entry(name, entry, path) for name, entry in entries.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    _check_cover(ordered, size - 8 - length, path)
    return Header(ordered, metadata, 8 + length)


def _check_amount(text: bytes, path: str, most: int) -> None:
    """Refuse a header with so much in it that parsing would take seconds. Texts may be long, as they cost nothing."""
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"")  # escapes, which stand in texts only
    quotes = plain.count(b'"')
    signs = max(plain.count(b"{"), plain.count(b"[") / 2, plain.count(b":") / 5, len(plain) / 200)
    if quotes <= 12 * most and signs <= most:
        return  # also if all of it stood outside texts
    # A tensor's entry has 10 quotation marks.
    rest = b"" if quotes > 12 * most else _TEXTS.sub(b"", plain)
    tensors = max(quotes / 12, rest.count(b"{") - 2, rest.count(b"[") / 2, rest.count(b":") / 5, len(rest) / 100)
    if tensors > most:
        _refuse(path, f"its header is that of {int(tensors)} tensors; at most {most} are read")


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
        entries = parse_json(text.decode("utf-8"), without_duplicates)
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"cannot read {path}: its header is not UTF-8 text") from error
    except ValueError as error:
        raise DamagedFileError(f"cannot read {path}: its header is not correct JSON") from error
    assert isinstance(entries, dict), "what begins with a brace and parses is an object"
    return entries


def _checked_metadata(metadata: Any, path: str) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its metadata is not a table of texts")
    return dict(metadata)


def _checked_entry(name: str, entry: Any, path: str) -> TensorInfo:
    problem = name_problem(name)
    if problem is not None:
        _refuse(path, f"tensor {quoted(name)} has a name that is {problem}")
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        _refuse(path, f"tensor {quoted(name)} is not described by exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in TYPES:
        _refuse(path, f"tensor {quoted(name)} has the type {quoted(dtype)}; known: {', '.join(TYPES)}")
    if not _are_naturals(shape):
        _refuse(path, f"tensor {quoted(name)} has the shape {quoted(shape)}, not a list of whole numbers from 0")
    size, real = _product(shape)
    if len(shape) > 64 or real >= 2**60:
        _refuse(path, f"tensor {quoted(name)} has the impossible shape {quoted(shape)}")
    if not _are_naturals(offsets) or len(offsets) != 2:
        _refuse(path, f"tensor {quoted(name)} has the offsets {quoted(offsets)}, not two whole numbers from 0")
    start, end = offsets
    needed = size * TYPES[dtype][1]
    if end - start != needed:
        took = f"{end - start} bytes by its offsets and {needed} by its shape and type"
        _refuse(path, f"tensor {quoted(name)} takes {took}")
    return TensorInfo(dtype, tuple(shape), start, end)


def _are_naturals(values: Any) -> bool:
    """Whether it is a list of whole numbers from 0; to `isinstance` a bool would be one."""
    if not isinstance(values, list):
        return False
    for value in values:
        if type(value) is not int or not 0 <= value < 2**63:
            break
    else:
        return True
    return False


def _product(shape: list[int]) -> tuple[int, int]:
    """All extents multiplied, and all but the zeros, which must not hide others that overflow PyTorch's sizes."""
    real = 1
    for extent in shape:
        real *= extent or 1
        if real >= 2**60:
            break
    return (0 if 0 in shape else real), real


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


def name_problem(name: str) -> str | None:
    """What is wrong with a tensor's name, None where nothing is.

    A name is only ever compared with others, so none can do harm here; one that would in another program (a path that
    leaves its folder, an attribute such as `__class__`) has no place in a file of weights.
    """
    if len(name) > NAME_LIMIT:
        return f"{len(name)} characters long (at most {NAME_LIMIT})"
    if not name.isprintable():
        return "not printable text"
    if _MAY_MISLEAD.search(name) is None and name != "..":
        return None
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or (len(parts) > 1 and parts[0] in ("", "~")) or name[1:3] in (":/", ":\\"):
        return "a path, not the name of a tensor"
    if any(part.startswith("__") and part.endswith("__") and len(part) > 4 for part in name.split(".")):
        return "an attribute of Python, not the name of a tensor"
    return None
