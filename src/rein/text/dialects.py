"""Dialects of prompts as rows of data: which marks they have, how they cut windows, what weights do.

| dialect | marks                                              | windows              | weights            |
|---------|----------------------------------------------------|----------------------|--------------------|
| rein    | as a1111                                           | cut plainly          | as a1111           |
| a1111   | `emphasis`, `editing`, AND, BREAK, `#` comments    | cut back to a comma  | by `emphasis` mode |
| comfy   | `comfy`                                            | cut by words         | `comfy`            |
| compel  | `compel`                                           | cut plainly          | `compel`           |

A prompt and its negative prompt may need different numbers of windows. rein and compel fill up with windows of an empty
text; a1111 and comfy leave each as long as it is. A prompt without marks that fits one window is the same in all four.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from rein.errors import InputError, nearest, quoted
from rein.text.comfy import parse_comfy
from rein.text.compel import parse_compel
from rein.text.emphasis import parse_emphasis, parse_plain
from rein.text.prompt import Expression
from rein.text.weighting import WEIGHTINGS, Weighting
from rein.text.windows import Cutting


@dataclass(frozen=True)
class Dialect:
    """One row.

    Fields:
        parse: a text, after AND and editing, into pieces with weights.
        weighting: name in `WEIGHTINGS`; where it has emphasis modes, that of the default one.
        edits: whether AND, prompt editing and # comments are read.
        modes: whether the emphasis mode can be chosen.
        fill: "empty" fills the shorter of two contexts with windows of an empty text; "none" leaves it.
        zeroes_empty: whether an empty negative prompt is all zeros for a model that was trained so (SDXL).
    """

    name: str
    parse: Callable[[str], Expression]
    weighting: str
    cutting: Cutting = field(default_factory=Cutting)
    edits: bool = False
    modes: bool = False
    fill: Literal["empty", "none"] = "none"
    zeroes_empty: bool = True

    def arithmetic(self) -> Weighting:
        """What weights do."""
        return WEIGHTINGS[self.weighting]


_A1111 = Dialect("a1111", parse_emphasis, "original", Cutting(backtrack=20), edits=True, modes=True)

DIALECTS: dict[str, Dialect] = {
    row.name: row
    for row in (
        replace(_A1111, name="rein", cutting=Cutting(), fill="empty"),
        _A1111,
        Dialect("comfy", parse_comfy, "comfy", Cutting(keep_words=True), zeroes_empty=False),
        Dialect("compel", parse_compel, "compel", fill="empty", zeroes_empty=False),
    )
}
"""Every dialect by name."""

EMPHASES: dict[str, str] = {"original": "Original", "no_norm": "No norm", "ignore": "Ignore", "none": "None"}
"""Emphasis modes, and the label of each in AUTOMATIC1111's infotext. "none" reads brackets as text."""


def find_emphasis(name: str) -> str:
    """The mode of a name or a label. Raises `InputError` with the nearest names."""
    wanted = name.strip().lower().replace(" ", "_").replace("-", "_")
    if wanted not in EMPHASES:
        raise InputError(f"unknown emphasis {quoted(name)}: {nearest(wanted, EMPHASES)}")
    return wanted


def find_dialect(name: str, emphasis: str | None = None) -> Dialect:
    """The dialect of a name, with its weights in an emphasis mode (None is its own).

    Raises:
        InputError: an unknown name, or a mode for a dialect that has none.
    """
    wanted = name.strip().lower()
    if wanted not in DIALECTS:
        raise InputError(f"unknown dialect {quoted(name)}: {nearest(wanted, DIALECTS)}")
    dialect = DIALECTS[wanted]
    if emphasis is None:
        return dialect
    mode = find_emphasis(emphasis)
    if not dialect.modes:
        having = ", ".join(row.name for row in DIALECTS.values() if row.modes)
        raise InputError(
            f"emphasis is {quoted(emphasis)}: dialect {wanted!r} has no modes; leave it out, or use {having}"
        )
    if mode == "none":
        return replace(dialect, parse=parse_plain, weighting="ignore")
    return replace(dialect, weighting=mode)
