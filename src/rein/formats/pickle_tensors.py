"""How a pickle describes a tensor: a name, a storage, and a place in it. Everything is checked, nothing is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeGuard

from rein.formats.header import TYPES

_LARGEST_SIZE = 2**48
_MOST_DIMENSIONS = 8


class RefusedPickleError(Exception):
    """What is wrong with a pickle, as the end of a sentence; turned into `DamagedFileError` where the file is known."""


def refuse(reason: str) -> NoReturn:
    """Raise `RefusedPickleError`."""
    raise RefusedPickleError(reason)


@dataclass(frozen=True, slots=True)
class Name:
    """Something that a pickle names: two texts, never looked up."""

    module: str
    name: str

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file: `count` of them, of a type of `TYPES`, or bytes of no type where that is ""."""

    key: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return self.count * (TYPES[self.dtype][1] if self.dtype else 1)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a storage. `offset` and `strides` count its own elements; strides are None where rows follow."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None


_BY_TORCH_NAME = {ours: theirs for theirs, (ours, _) in TYPES.items()}
_STORAGES = {
    "Float": "F32",
    "Double": "F64",
    "Half": "F16",
    "BFloat16": "BF16",
    "Long": "I64",
    "Int": "I32",
    "Short": "I16",
    "Char": "I8",
    "Byte": "U8",
    "Bool": "BOOL",
    "ComplexFloat": "C64",
}
STORAGE_TYPES = {Name("torch", f"{name}Storage"): dtype for name, dtype in _STORAGES.items()}
STORAGE_TYPES |= {Name("torch.storage", "UntypedStorage"): "", Name("torch", "UntypedStorage"): ""}
DTYPES = {Name("torch", ours): theirs for ours, theirs in _BY_TORCH_NAME.items()}
TENSOR_CLASSES = {
    Name("torch.nn.parameter", "Parameter"),
    Name("torch.nn.parameter", "Buffer"),
    Name("torch", "Tensor"),
    Name("torch._tensor", "Tensor"),
}


def module_class(identity: object) -> Name | None:
    """The class in a persistent identity ("module", class, file, source code), which old files have for networks."""
    if isinstance(identity, tuple) and len(identity) == 4 and is_text(identity[0], "module"):
        return identity[1] if isinstance(identity[1], Name) else None
    return None


def storage(identity: object) -> Storage:
    """The storage that a persistent identity describes. Raises `RefusedPickleError`."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or not is_text(identity[0], "storage"):
        refuse("it has a persistent identity that is not of a storage")
    kind, key, location, count = identity[1:5]
    if not isinstance(kind, Name) or kind not in STORAGE_TYPES:
        refuse("it has a storage of an unknown type")
    if not isinstance(key, str) or not (key.isascii() and key.isdigit() and len(key) <= 20):
        refuse("it has a storage whose key is not a number")
    if not isinstance(location, str) or not _is_natural(count) or (len(identity) == 6 and identity[5] is not None):
        refuse(f"its storage {key} is not described by a place and a number of elements")
    return Storage(key, STORAGE_TYPES[kind], count)


def is_text(value: object, text: str) -> bool:
    """Whether a value from a pickle is this very text."""
    return isinstance(value, str) and value == text


def _is_natural(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _LARGEST_SIZE


def _tensor(arguments: tuple[object, ...], dtype: str | None = None) -> StoredTensor:
    """A tensor from (storage, offset, sizes, strides, ...); `dtype` where the storage has no type of its own."""
    if len(arguments) < 4:
        refuse("it has a tensor without storage, offset, shape and strides")
    source, offset, shape, strides = arguments[:4]
    if not isinstance(source, Storage) or (source.dtype == "") != (dtype is not None):
        refuse("it has a tensor that is not made from a storage of its type")
    [first], extents, steps = _naturals((offset,)), _naturals(shape), _naturals(strides)
    if len(extents) != len(steps):
        refuse(f"it has a tensor with {len(extents)} extents and {len(steps)} strides")
    kind = dtype or source.dtype
    plain, last = _geometry(extents, steps)
    if last >= 0 and (first + last + 1) * TYPES[kind][1] > source.bytes:
        refuse(f"it has a tensor of shape {list(extents)} that reaches beyond its storage of {source.bytes} bytes")
    return StoredTensor(source, kind, first, extents, None if plain else steps)


def _naturals(numbers: object) -> tuple[int, ...]:
    """A tuple of whole numbers from 0, checked."""
    if isinstance(numbers, tuple) and len(numbers) <= _MOST_DIMENSIONS:
        for number in numbers:
            if type(number) is not int or not 0 <= number < _LARGEST_SIZE:
                break
        else:
            return numbers
    refuse(f"it has a tensor whose offset, shape or strides are not up to {_MOST_DIMENSIONS} whole numbers from 0")


def _geometry(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[bool, int]:
    """Whether elements lie in rows, and how far behind the first the last one is; -1 where there is none.

    Refused where the shape overflows PyTorch's sizes, or two indices lead to one element, so that few bytes seem many.
    """
    plain, size = True, 1
    for extent, stride in zip(shape[::-1], strides[::-1], strict=True):
        plain = plain and (extent <= 1 or stride == size)
        size *= extent or 1  # a zero among the extents must not hide others that overflow
    if size >= 2**60:
        refuse(f"it has a tensor of the impossible shape {list(shape)}")
    if 0 in shape:
        return True, -1
    if plain:
        return True, size - 1
    reach = 0
    for stride, extent in sorted(zip(strides, shape, strict=True)):
        if extent > 1 and stride <= reach:
            refuse(f"it has a tensor of shape {list(shape)} whose elements overlap")
        reach += stride * (extent - 1)
    return False, reach


def _tensor_v2(arguments: tuple[object, ...]) -> StoredTensor:
    """(storage, offset, shape, strides, needs gradient, hooks, notes); notes mark conjugates and negatives."""
    if len(arguments) > 6 and arguments[6]:
        refuse("it has a tensor that is a conjugate or a negative of another")
    return _tensor(arguments)


def _tensor_v3(arguments: tuple[object, ...]) -> StoredTensor:
    """As `_tensor_v2` with the type as its seventh argument, and a storage without one."""
    dtype = arguments[6] if len(arguments) > 6 else None
    if not isinstance(dtype, Name) or dtype not in DTYPES or (len(arguments) > 7 and arguments[7]):
        refuse("it has a tensor of an unknown type")
    return _tensor(arguments, DTYPES[dtype])


def _parameter(arguments: tuple[object, ...]) -> StoredTensor:
    if not arguments or not isinstance(arguments[0], StoredTensor):
        refuse("it has a parameter that is not made from a tensor")
    return arguments[0]


def tensor_of_class(arguments: tuple[object, ...]) -> StoredTensor:
    """(function, class, its arguments, attributes): a tensor with attributes of its own, which are dropped."""
    function, kind, inner = (*arguments, None, None, None)[:3]
    known = TENSORS.get(function) if isinstance(function, Name) else None
    if known is None or not isinstance(kind, Name) or kind not in TENSOR_CLASSES or not isinstance(inner, tuple):
        refuse("it has a tensor of an unknown class")
    return known(inner)


TENSORS: dict[Name, Callable[[tuple[object, ...]], StoredTensor]] = {
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    Name("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): _parameter,
}
"""What makes a tensor, by the name that PyTorch gives it."""
