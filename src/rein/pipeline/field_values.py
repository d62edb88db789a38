"""Values of a request's fields from plain text: the cells of a table, the entries of an axis."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from rein.pipeline.request import Request


@cache
def kinds_of(name: str) -> frozenset[type]:
    """The types that a field may have besides None; none for a name that is no field."""
    field = Request.model_fields.get(name)
    return frozenset() if field is None else frozenset(_bases(field.annotation))


def _bases(annotation: Any) -> set[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _bases(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return set[type]().union(*(_bases(entry) for entry in get_args(annotation)))
    if origin is Literal:
        return {type(entry) for entry in get_args(annotation)}
    kind = origin or annotation
    return set() if kind is types.NoneType or not isinstance(kind, type) else {kind}


def is_text(name: str) -> bool:
    """Whether a field is a text, or one of some words."""
    return str in kinds_of(name)


def is_number(name: str) -> bool:
    """Whether a field is a number, whole or not."""
    return bool(kinds_of(name) & {int, float})


def is_whole(name: str) -> bool:
    """Whether a field is a whole number."""
    return int in kinds_of(name)


def field_value(name: str, text: str) -> Any:
    """What a text stands for in a field: texts as they are, the rest as JSON has it.

    Also numbers such as ".5", and TRUE and FALSE as spreadsheets write them. What is neither stays the text, which a
    `Request` then refuses in its own words.
    """
    if is_text(name):
        return text
    if bool in kinds_of(name):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    readers: tuple[Callable[[str], Any], ...] = (json.loads, float) if float in kinds_of(name) else (json.loads,)
    for reader in readers:
        try:
            return reader(text)
        except (ValueError, RecursionError):
            continue
    return text
