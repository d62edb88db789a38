"""What a pickle built, sorted: the tensors of the model by dotted names, and the plain values beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rein.formats.header import name_problem
from rein.formats.pickle_names import Placeholder
from rein.formats.pickle_tensors import StoredTensor, refuse

VALUE_LIMIT = 40_000
DEPTH_LIMIT = 64
"""How many values are looked at, and how deep: a value that is stored once may stand in many places."""

LONE_NAME = "tensor"
"""The name of a tensor that is all there is in a pickle."""

_MODULE_TABLES = ("_parameters", "_buffers", "_modules")
_OUTER = "state_dict"


@dataclass
class State:
    """The tensors of a model by name, plain values beside them, and names of tensors that belong to something else."""

    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def sorted_state(root: object) -> State:
    """Sort what a pickle built.

    Tables and lists inside one another become dotted names. Where an outer table has an entry `state_dict` with
    tensors in it, that entry is the model, and other tensors, such as an optimiser's, are left out. Of an object whose
    class was not made (a whole network that was pickled) its tables of parameters, buffers and inner networks count.

    Raises:
        RefusedPickleError: too many values, too deep, two of one name, a name that a tensor may not have, or no tensor.
    """
    walk = _Walk()
    state = State()
    entries = walk.entries(root)
    if entries is None:
        entries = [(LONE_NAME, root)]
    inner = dict(entries).get(_OUTER)
    main: dict[str, StoredTensor] = {}
    _merge(main, walk.tensors(inner, ""))
    for name, value in entries:
        if main and name == _OUTER:
            state.extras |= walk.scalars(inner, "")
            continue
        plain = walk.plain(value, 1)
        if plain is not _NOT_PLAIN:
            state.extras[name] = plain
            continue
        found = walk.tensors(value, name)
        if main:
            state.left_out += [key for key, _ in found]
        else:
            _merge(state.tensors, found)
            state.extras |= walk.scalars(value, f"{name}.")
    state.tensors |= main
    if not state.tensors:
        refuse("it holds no tensors")
    return state


def _merge(tensors: dict[str, StoredTensor], found: list[tuple[str, StoredTensor]]) -> None:
    for name, tensor in found:
        problem = name_problem(name)
        if problem is not None or name in tensors:
            refuse(f"its tensor {name[:100]!r} has a name that is {problem or 'there twice'}")
        tensors[name] = tensor


_NOT_PLAIN = object()


class _Walk:
    """Counts every value that is looked at."""

    def __init__(self) -> None:
        self._left = VALUE_LIMIT

    def entries(self, value: object) -> list[tuple[str, object]] | None:
        """The named values in a table, a list or an object; None for anything else."""
        if isinstance(value, Placeholder):
            tables = value.state if isinstance(value.state, dict) else {}
            inner = [tables.get(name) for name in _MODULE_TABLES]
            pairs = [pair for table in (value.entries, *inner) if isinstance(table, dict) for pair in table.items()]
        elif isinstance(value, dict):
            pairs = list(value.items())
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        else:
            return None
        self._left -= len(pairs)
        if self._left < 0:
            refuse(f"it holds more than {VALUE_LIMIT} values")
        return [(str(key), item) for key, item in pairs]

    def tensors(self, value: object, name: str) -> list[tuple[str, StoredTensor]]:
        """Every tensor in `value` and its dotted name, which begins with `name`."""
        found, waiting = [], [(name, value, 1)]
        while waiting:
            name, value, depth = waiting.pop()
            if isinstance(value, StoredTensor):
                found.append((name, value))
                continue
            if depth > DEPTH_LIMIT:
                refuse(f"its tables are nested more than {DEPTH_LIMIT} deep")
            before = f"{name}." if name else ""
            inner = [(before + key, item, depth + 1) for key, item in self.entries(value) or []]
            waiting += reversed(inner)
        return found

    def plain(self, value: object, depth: int) -> Any:
        """`value` if it is a number, text, list or table of such, and `_NOT_PLAIN` otherwise."""
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, Placeholder) or depth > DEPTH_LIMIT:
            return _NOT_PLAIN
        entries = self.entries(value)
        if entries is None:
            return _NOT_PLAIN
        copied: dict[str, Any] = {}
        for key, item in entries:
            copied[key] = self.plain(item, depth + 1)
            if copied[key] is _NOT_PLAIN:
                return _NOT_PLAIN
        return copied if isinstance(value, dict) else list(copied.values())

    def scalars(self, value: object, before: str) -> dict[str, Any]:
        """The plain values directly in a table that also holds tensors, each with `before` before its name."""
        return {before + key: item for key, item in self.entries(value) or [] if isinstance(item, str | int | float)}
