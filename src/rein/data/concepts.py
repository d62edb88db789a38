"""The things that can be drawn: a ranked list of concepts, read from a text file that a person can edit."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rein.data.colours import COLOUR_WORDS
from rein.errors import InputError, quoted

NOTES = frozenset({"fixed", "natural"})


@dataclass(frozen=True)
class Concept:
    """One thing: the icon's name in all styles, the words a person would type, and how the words behave.

    `bare`: those of the names that take no article and are not counted ("cherries", "bread"). `fixed`: never mirrored,
    since it carries text or a direction. `natural`: never recoloured.
    """

    icon: str
    name: str
    other_names: tuple[str, ...] = ()
    bare: frozenset[str] = frozenset()
    fixed: bool = False
    natural: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every way to call it, the main one first."""
        return (self.name, *self.other_names)

    @property
    def countable_names(self) -> tuple[str, ...]:
        """The names that have a plural: none of "bread", "fork and knife"; empty unless the main name has one."""
        if self.name in self.bare or " and " in self.name:
            return ()
        return tuple(name for name in self.names if name not in self.bare and " and " not in name)

    @property
    def colourless_names(self) -> tuple[str, ...]:
        """The names that hold no colour word: with a colour in front they cannot contradict themselves."""
        return tuple(name for name in self.names if not COLOUR_WORDS.intersection(name.replace("-", " ").split()))


def read_concepts(path: Path | None = None, count: int | None = None) -> tuple[Concept, ...]:
    """The first `count` concepts (all when None) of a list, the shipped one when `path` is None.

    Raises:
        InputError: the list cannot be read, a line is malformed or repeats an icon or a name, or has too few lines.
    """
    if path is None:
        text = resources.files("rein").joinpath("assets", "pocket_concepts.txt").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the list of concepts {path} cannot be read: {error}") from error
    source = str(path or "pocket_concepts.txt")
    concepts = parse_concepts(text, source)
    if count is not None and not 1 <= count <= len(concepts):
        raise InputError(f"concept_count is {count}; {source} has 1 to {len(concepts)}")
    return concepts[:count]


def parse_concepts(text: str, source: str) -> tuple[Concept, ...]:
    """Concepts from lines `icon | name | other names, with commas | notes`, `~` before a bare name.

    Empty lines and lines that begin with `#` are skipped.
    """
    concepts: list[Concept] = []
    taken: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        concept = _parse_line(line, f"{source}, line {number}")
        for word in (f"icon {concept.icon}", *concept.names):
            if word in taken:
                raise InputError(f"{source}, line {number}: {quoted(word)} stands twice in the list")
            taken.add(word)
        concepts.append(concept)
    return tuple(concepts)


def _parse_line(line: str, place: str) -> Concept:
    fields = [field.strip() for field in line.split("|")]
    if not 2 <= len(fields) <= 4 or not fields[0] or not fields[1]:
        raise InputError(f"{place}: {quoted(line)} is not 'icon | name | other names | notes'")
    marked = [fields[1], *(fields[2].split(",") if len(fields) > 2 and fields[2] else ())]
    names = [name.strip().removeprefix("~") for name in marked]
    bare = frozenset(name for name, mark in zip(names, marked, strict=True) if mark.strip().startswith("~"))
    if not all(names):
        raise InputError(f"{place}: {quoted(line)} has an empty name")
    notes = set(fields[3].split()) if len(fields) > 3 else set()
    if unknown := notes - NOTES:
        raise InputError(f"{place}: unknown note {quoted(min(unknown))}; notes are {', '.join(sorted(NOTES))}")
    return Concept(fields[0], names[0], tuple(names[1:]), bare, **dict.fromkeys(notes, True))
