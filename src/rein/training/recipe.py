"""Recipes: a whole training run as a TOML file, checked before anything starts.

A recipe has a `[data]` table, a `[model]` table and a list of `[[stage]]` tables, run in order. Each stage is an
objective with the options of the loop; the tables stand in `rein.training.tables` and beside it. To add one: its class
there, its name in `Stage` and `_OBJECTIVES` here, and what builds it in `rein.training.stages`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationError

from rein.errors import InputError, nearest, quoted
from rein.training.pairs import impossible_pair
from rein.training.tables import AutoencoderTable, DataTable, DenoiserTable, FolderTable, ModelTable, Table
from rein.training.tables_forms import DistilTable, FormTable
from rein.training.tables_teach import FinetuneTable, InversionTable, LoraTable, PriorTable

Stage = Annotated[
    AutoencoderTable | DenoiserTable | FinetuneTable | LoraTable | InversionTable | FormTable | DistilTable,
    Field(discriminator="objective"),
]


def _kind_of_data(values: Any) -> str:
    """Which of the two tables `[data]` is: a folder makes the difference."""
    folder = "folder" in values if isinstance(values, dict) else isinstance(values, FolderTable)
    return "pictures" if folder else "art"


Data = Annotated[
    Annotated[DataTable, Tag("art")] | Annotated[FolderTable, Tag("pictures")], Discriminator(_kind_of_data)
]


class Recipe(Table):
    """A training run, from nothing or from a model, to what it makes."""

    name: str = Field(default="pocket", pattern=r"^[a-z0-9][a-z0-9-]*$")
    data: Data = Field(default_factory=DataTable)
    model: ModelTable = Field(default_factory=ModelTable)
    stage: tuple[Stage, ...] = Field(min_length=1, strict=False)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, or the shipped one of that name; `changes` are "key.key=value", see `with_changes`.

    Raises:
        InputError: no such file, not TOML, an unknown key (with the nearest known one) or a value out of range.
    """
    place = _shipped(path)
    try:
        values = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"recipe {path} is not there; shipped ones: {', '.join(shipped_recipes())}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from None
    return check_recipe(with_changes(values, changes), str(path))


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with Rein."""
    folder = files("rein") / "assets" / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _shipped(path: Path) -> Path:
    """The file of a shipped recipe where `path` is its name and no file."""
    if path.suffix or len(path.parts) != 1 or path.name not in shipped_recipes() or path.is_file():
        return path
    return Path(str(files("rein") / "assets" / "recipes" / f"{path.name}.toml"))


def with_changes(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A recipe's values with some of them set: "data.folder=DIR", "stage.steps=200", "stage.2.rank=4".

    A stage is named by its number, from 1; without one the value goes to every stage. Values are written as in TOML;
    what is none, such as a path, is text.

    Raises:
        InputError: a change without "=", or through something that is no table.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise InputError(f"--set {quoted(change)}: write it as key=value, such as stage.steps=200")
        names = key.strip().split(".")
        for place in _places(values, names, change):
            place[names[-1]] = _value(text.strip())
    return values


def _places(values: dict[str, Any], names: list[str], change: str) -> list[dict[str, Any]]:
    """The tables that the last of `names` is a key of."""
    places: list[Any] = [values]
    rest = names[:-1]
    if rest[:1] == ["stage"] and isinstance(values.get("stage"), list):
        stages = values["stage"]
        if len(rest) > 1 and rest[1].isdigit():
            number = int(rest[1])
            if not 1 <= number <= len(stages):
                raise InputError(f"--set {quoted(change)}: the recipe has {len(stages)} stages, counted from 1")
            places, rest = [stages[number - 1]], rest[2:]
        else:
            places, rest = list(stages), rest[1:]
    for name in rest:
        places = [place.setdefault(name, {}) if isinstance(place, dict) else None for place in places]
    if not all(isinstance(place, dict) for place in places):
        raise InputError(f"--set {quoted(change)}: {'.'.join(names[:-1])} is no table of the recipe")
    return places


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_recipe(values: dict[str, Any], source: str) -> Recipe:
    """A recipe from plain values; `source` names it in messages.

    Raises:
        InputError: for the first thing that is wrong.
    """
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        errors = error.errors()  # an unknown key before a missing one: it may be that one misspelt
        first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
        kind, place, value = first["type"], _place(first["loc"]), first["input"]
        if kind == "extra_forbidden":
            problem = f"{place} is unknown: {_known(first['loc'])}"
        elif kind == "missing":
            problem = f"{place} is missing"
        elif kind == "union_tag_not_found":
            problem = f"{place} has no objective; known: {', '.join(sorted(_OBJECTIVES))}"
        elif kind == "union_tag_invalid":
            problem = f"{place} has the unknown objective {quoted(value['objective'])}: "
            problem += nearest(str(value["objective"]), _OBJECTIVES)
        else:
            wanted = _TOML_NAMES.get(kind) or first["msg"].partition(" should ")[2] or first["msg"]
            problem = f"{place} is {quoted(value)}, but should {wanted}"
        raise InputError(f"{source}: {problem}") from None
    if impossible := impossible_pair(recipe):
        raise InputError(f"{source}: {impossible}")
    return recipe


_TOML_NAMES = {
    "tuple_type": "be a list",
    "model_type": "be a table",
    "model_attributes_type": "be a table",
    "dict_type": "be a table",
    "path_type": "be text",
}
"""pydantic's complaints that speak of Python's types, in TOML's words."""

_OBJECTIVES: dict[str, type[Table]] = {
    "autoencoder": AutoencoderTable,
    "denoiser": DenoiserTable,
    "finetune": FinetuneTable,
    "lora": LoraTable,
    "inversion": InversionTable,
    "form": FormTable,
    "distil": DistilTable,
}
_TABLES: dict[str, type[Table]] = {
    "art": DataTable,
    "pictures": FolderTable,
    "model": ModelTable,
    "prior": PriorTable,
    **_OBJECTIVES,
}
"""Tables by where they stand: their own key, or what tells them from others in their place."""

_TAGS = ("art", "pictures")


def _place(location: tuple[int | str, ...]) -> str:
    """Where something is wrong, in a person's words: stages count from 1, as their folders do."""
    location = tuple(part for number, part in enumerate(location) if number != 1 or part not in _TAGS)
    if location[0] != "stage" or len(location) == 1:
        return ".".join(map(str, location))
    rest = ".".join(str(part) for number, part in enumerate(location[2:]) if number or part not in _OBJECTIVES)
    return f"stage {int(location[1]) + 1}" + (f": {rest}" if rest else "")


def _known(location: tuple[int | str, ...]) -> str:
    """The nearest known key to an unknown one."""
    parents = [str(part) for part in location[:-1] if str(part) in _TABLES]
    table = _TABLES[parents[-1]] if parents else Recipe
    return nearest(str(location[-1]), table.model_fields)
