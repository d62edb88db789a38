"""What the pickle in a PyTorch file may name, and what each name stands for here.

In a pickle a name (`os system`) is imported and may then be called: that is how a pickle runs code. Here a name is a
pair of texts. The few that PyTorch uses to describe tensors have a meaning, given by the functions of this module;
any other class becomes a `Placeholder`, which holds what was stored of the object and can do nothing. No name is ever
imported, looked up or called, so a hostile one could do no harm; all the same a file that names what no file of
weights needs is refused, for it would do harm in another program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from rein.formats.pickle_tensors import (
    DTYPES,
    STORAGE_TYPES,
    TENSOR_CLASSES,
    TENSORS,
    Name,
    is_text,
    refuse,
    tensor_of_class,
)


@dataclass(slots=True, eq=False)
class Placeholder:
    """An object of a class that is not made: what was stored of it."""

    name: Name
    state: object = None
    entries: dict[object, object] = field(default_factory=dict)


_LONGEST_KEY = 8
_INERT_OF_TORCH = ("torch.nn.", "torch.optim.", "torch.utils.data.")

_HARMLESS = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple type",
    "collections": "Counter OrderedDict UserDict UserList defaultdict deque",
    "copyreg": "_reconstructor",
    "_codecs": "encode",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "functools": "partial",
    "typing": "Any Dict List Optional Tuple Union",
    "uuid": "UUID",
    "enum": "Enum",
}
_HARMLESS["__builtin__"] = _HARMLESS["builtins"]
_HARMLESS["copy_reg"] = _HARMLESS["copyreg"]
_NOT_CALLED = {*STORAGE_TYPES, *DTYPES, *TENSOR_CLASSES}
_OF_PYTHON = {Name(module, name) for module, names in _HARMLESS.items() for name in names.split()}
_ROOTS_OF_PYTHON = sys.stdlib_module_names | {"__builtin__", "copy_reg", "exceptions", "commands", "cPickle", "pip"}
_FUNCTIONS_OF_NUMPY = {"_reconstruct", "scalar", "dtype", "ndarray", "_frombuffer"}
"""Called for numpy's numbers and arrays, such as a score beside the weights; what they would make is inert."""


def named(module: str, name: str) -> Name:
    """A name in a pickle, if a file of weights may have it. Raises `RefusedPickleError`."""
    found = _KNOWN.get(Name(module, name), Name(module, name))
    parts = [part for part in module.split(".") if module not in ("__main__", "__builtin__")]
    if len(module) + len(name) > 300 or not all(part.isidentifier() for part in [*parts, name]):
        refuse(f"it names {_shown(found)}, which is not the name of a class")
    if any(part.startswith("__") and part.endswith("__") for part in [*parts, name]):
        refuse(f"it names {_shown(found)}, and a name with '__' around it has no place in a file of weights")
    root = module.partition(".")[0]
    if root == "torch":
        if found not in _CALLS and found not in _NOT_CALLED and not module.startswith(_INERT_OF_TORCH):
            refuse(f"it names {_shown(found)}, and of PyTorch only plain dense tensors are read")
    elif root in _ROOTS_OF_PYTHON and found not in _OF_PYTHON:
        refuse(f"it names {_shown(found)}, which no file of weights needs: it may be an attack")
    return found


def _shown(name: Name) -> str:
    return repr(str(name)[:100])


def called(function: object, arguments: object) -> object:
    """What stands for the call of a name: a tensor, plain data or a placeholder. Raises `RefusedPickleError`."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        refuse("it calls what is not a name, or with what are not arguments")
    known = _CALLS.get(function)
    if known is not None:
        return known(arguments)
    if function in _NOT_CALLED:
        refuse(f"it would make a tensor by calling {_shown(function)}, which PyTorch does not do")
    if function.name.lstrip("_")[:1].isupper() or function in _OF_PYTHON:
        return Placeholder(function)
    if function.name not in _FUNCTIONS_OF_NUMPY or function.module.partition(".")[0] != "numpy":
        refuse(f"it calls the function {_shown(function)}, which no file of weights needs: it may be an attack")
    return Placeholder(function)


def made(kind: object, arguments: object) -> object:
    """What stands for a new object of a class. Raises `RefusedPickleError`."""
    if not isinstance(kind, Name) or not isinstance(arguments, tuple):
        refuse("it makes an object of what is not a class, or with what are not arguments")
    if kind in _CALLS and kind not in _TABLES:
        refuse(f"it makes an object of {_shown(kind)}, which is not a class")
    return called(kind, arguments if kind in _TABLES else ())


def _table(arguments: tuple[object, ...]) -> dict[object, object]:
    """An `OrderedDict`, filled later or of pairs; a `defaultdict`, whose argument is a class; a `Counter` of one."""
    if arguments and isinstance(arguments[0], dict):
        return arguments[0]  # itself, for copies of copies could grow without end
    if arguments and isinstance(arguments[0], list):
        return _of_pairs(arguments[0])
    if arguments and not isinstance(arguments[0], Name | None):
        refuse("it has a table that is not made empty")
    return {}


def _of_pairs(pairs: list[object]) -> dict[object, object]:
    """A table as Python 2 wrote it: a list of pairs, which is emptied, for copies without end could be made of it."""
    table: dict[object, object] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str | int):
            refuse("it has a table made of what are not keys and values")
        table[pair[0]] = pair[1]
    pairs.clear()
    return table


def _items(arguments: tuple[object, ...]) -> list[object] | tuple[object, ...]:
    """A set, list or queue: what it is made of."""
    if not arguments:
        return []
    if not isinstance(arguments[0], list | tuple):
        refuse("it has a collection made of what is not a list")
    return arguments[0]


def _size(arguments: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(_items(arguments)[:_LONGEST_KEY])


def _device(arguments: tuple[object, ...]) -> str:
    return ":".join(str(part) for part in arguments if isinstance(part, str | int))[:100]


def _encoded(arguments: tuple[object, ...]) -> bytes:
    """Bytes that older protocols store as text."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or not is_text(arguments[1], "latin1"):
        refuse("it has bytes that are not written as Latin-1 text")
    try:
        return arguments[0].encode("latin-1")
    except UnicodeEncodeError:
        refuse("it has bytes that are not written as Latin-1 text")


def _reconstructed(arguments: tuple[object, ...]) -> object:
    """(class, base, state of the base): an object as protocols 0 and 1 store it."""
    return made(arguments[0] if arguments else None, ())


def checked_key(key: object) -> object:
    """A key of a table: a plain value, a name, or a flat tuple. A nested one may take for ever to be hashed."""
    flat = key if isinstance(key, tuple) else (key,)
    if len(flat) > _LONGEST_KEY or not all(type(part) in _KEY_TYPES for part in flat):
        refuse(f"it has a table with a key of the kind {type(key).__name__}")
    return key


_KEY_TYPES = {str, int, float, bool, bytes, type(None), Name}
_TABLES: dict[Name, Callable[[tuple[object, ...]], object]] = {
    Name("collections", "OrderedDict"): _table,
    Name("collections", "defaultdict"): _table,
    Name("collections", "Counter"): _table,
}
_CALLS: dict[Name, Callable[[tuple[object, ...]], object]] = {
    **TENSORS,
    **_TABLES,
    Name("torch._tensor", "_rebuild_from_type_v2"): tensor_of_class,
    Name("torch", "Size"): _size,
    Name("torch", "device"): _device,
    Name("collections", "deque"): _items,
    Name("_codecs", "encode"): _encoded,
}
for _module in ("builtins", "__builtin__"):
    _CALLS |= {Name(_module, _name): _items for _name in ("set", "frozenset", "list")}
for _module in ("copyreg", "copy_reg"):
    _CALLS[Name(_module, "_reconstructor")] = _reconstructed
_KNOWN = {name: name for name in (*_CALLS, *_NOT_CALLED)}
"""The very objects that the tables have, which are looked up faster than their equals."""
