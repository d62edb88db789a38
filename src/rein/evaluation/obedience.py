"""Does it draw what it is told? The judge reads the drawn pictures, and beside them real ones of the same prompts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rein.data.colours import COLOUR_NAMES
from rein.data.icons import IconArt
from rein.data.prompts import EvaluationPrompt, held_out_prompts, trained_prompts
from rein.errors import InputError, quoted
from rein.evaluation.classifier import Classifier, judge
from rein.evaluation.intervals import Share, share
from rein.evaluation.views import layout_windows

SEEDS = 10**9
CLAIM_SEED, MEASURE_SEED, REAL_SEED = 0, SEEDS, 2 * SEEDS
"""First of the `SEEDS` seeds of pictures by which claims are chosen, of those that are measured, and of real ones."""


Seen = tuple[tuple[int, ...], int, int | None]
"""Concepts, style and colour that the judge names."""


@dataclass(frozen=True)
class Group:
    """Prompts that are asked and counted together; `held_out` ones were never trained on."""

    name: str
    label: str
    kind: str
    held_out: bool
    count: int


GROUPS = (
    Group("trained", "trained prompts", "plain", False, 400),
    Group("held_out_style", "held-out concept-style pairs", "plain", True, 400),
    Group("colour", "trained colours", "colour", False, 150),
    Group("held_out_colour", "held-out concept-colour pairs", "colour", True, 200),
    Group("pair", "trained two-thing prompts", "pair", False, 60),
    Group("held_out_pair", "held-out two-thing prompts", "pair", True, 200),
)
"""With how many prompts at most are asked of each, unless told; there are fewer where the art has fewer."""

MEASURES = {
    "plain": (("concept", "the thing (top-1)"), ("style", "the style"), ("both", "thing and style")),
    "colour": (("colour", "the colour word"), ("concept", "the thing (top-1)"), ("both", "thing and colour")),
    "pair": (("concept", "both things"), ("any", "at least one of them"), ("style", "the style")),
}
"""What is counted in a group of each kind: a key of `Outcome.right`, and how a reader calls it."""

FLOORS = {
    ("trained", "concept"): 0.80,
    ("held_out_style", "concept"): 0.60,
    ("colour", "colour"): 0.85,
    ("held_out_colour", "colour"): 0.85,
    ("held_out_pair", "concept"): 0.50,
}
"""The least that the shipped model should reach, by group and measure."""


@dataclass(frozen=True)
class Question:
    """A prompt to draw with a seed, and the group in which the picture counts."""

    group: str
    prompt: EvaluationPrompt
    seed: int

    @property
    def order(self) -> tuple[str, int]:
        return self.prompt.text, self.seed


@dataclass(frozen=True)
class Outcome:
    """What the judge saw, a concept for each thing asked for, colour None being the thing's own; and what is right."""

    question: Question
    named: tuple[int, ...]
    style: int
    colour: int | None
    right: dict[str, bool]


@dataclass(frozen=True)
class Measure:
    """One counted figure of a group, beside the judge's own limit: the same on real pictures of those prompts."""

    group: str
    name: str
    label: str
    drawn: Share
    real: Share
    floor: float | None


@dataclass(frozen=True)
class Failing:
    """A concept, how often it was drawn so that the judge named it, and what the judge named instead most often."""

    concept: str
    right: int
    total: int
    taken_for: str


def questions(
    art: IconArt, claimed: Sequence[int], counts: dict[str, int] | None = None, seed: int = 0
) -> list[Question]:
    """The prompts of all groups about claimed concepts only, each with a seed of its own.

    `counts` gives the most of a group by its name, in place of that in `GROUPS`; 0 leaves it out.

    Raises:
        InputError: a group that there is not.
    """
    counts = counts or {}
    if unknown := counts.keys() - {group.name for group in GROUPS}:
        known = ", ".join(group.name for group in GROUPS)
        raise InputError(f"unknown group of prompts {quoted(min(unknown))}; there are {known}")
    asked: list[Question] = []
    for group in GROUPS:
        chosen = _chosen(art, group, set(claimed), counts.get(group.name, group.count), seed)
        asked.extend(Question(group.name, prompt, MEASURE_SEED + _lot(prompt, seed)) for prompt in chosen)
    return asked


def claim_questions(art: IconArt, seed: int = 0) -> list[Question]:
    """Every concept in every style it is trained in: what claims are chosen by, with seeds of their own."""
    return [Question("claims", prompt, CLAIM_SEED + _lot(prompt, seed)) for prompt in trained_prompts(art, "plain")]


def _lot(prompt: EvaluationPrompt, seed: int) -> int:
    """A number of a prompt's own, below `SEEDS`: what else is asked changes neither its seed nor its turn."""
    digest = hashlib.blake2b(f"{seed}/{prompt.text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % SEEDS


def _chosen(art: IconArt, group: Group, claimed: set[int], count: int, seed: int) -> list[EvaluationPrompt]:
    if count < 0:
        raise InputError(f"the count of {group.name} prompts is {count}; it must be at least 0")
    if count == 0:
        return []
    listed = held_out_prompts if group.held_out else trained_prompts
    # Of pairs there are too many to list: twice as many are drawn, of which some have a concept that is not claimed.
    wanted = 2 * count if group.kind == "pair" else None
    known = [prompt for prompt in listed(art, group.kind, wanted, seed) if claimed.issuperset(prompt.concepts)]
    return sorted(known, key=lambda prompt: (_lot(prompt, seed), prompt.text))[:count]


class Examiner:
    """Reads pictures with the judge, in the terms of some art: top-1 means first of all `claimed` concepts.

    Raises:
        InputError: the judge does not know a concept, a style or a colour of the art.
    """

    def __init__(self, classifier: Classifier, art: IconArt, claimed: Sequence[int] | None = None) -> None:
        config = classifier.config
        self.classifier, self.art = classifier, art
        self.claimed = list(range(len(art.concepts)) if claimed is None else claimed)
        self._concepts = _places([art.concepts[c].icon for c in self.claimed], config.concepts, "concept")
        self._styles = _places(art.styles, config.styles, "style")
        self._colours = [0, *(1 + place for place in _places(COLOUR_NAMES, config.colours, "colour"))]

    def outcomes(self, asked: Sequence[Question], pictures: NDArray[np.uint8]) -> list[Outcome]:
        """What is to be seen on the picture of each question."""
        pairs = [place for place, question in enumerate(asked) if len(question.prompt.concepts) == 2]
        singles = [place for place, question in enumerate(asked) if len(question.prompt.concepts) == 1]
        seen = dict(zip(singles, self._one(pictures[singles]), strict=True)) if singles else {}
        seen |= dict(zip(pairs, self._two(pictures[pairs]), strict=True)) if pairs else {}
        return [_outcome(question, *seen[place]) for place, question in enumerate(asked)]

    def _one(self, pictures: NDArray[np.uint8]) -> list[Seen]:
        """The best concept, the style and the colour of each whole picture."""
        verdict = judge(self.classifier, pictures)
        best = verdict.concepts[:, self._concepts].argmax(dim=1).tolist()
        styles = verdict.styles[:, self._styles].argmax(dim=1).tolist()
        colours = verdict.colours[:, self._colours].argmax(dim=1).tolist()
        rows = zip(best, styles, colours, strict=True)
        return [((self.claimed[place],), style, colour - 1 if colour else None) for place, style, colour in rows]

    def _two(self, pictures: NDArray[np.uint8]) -> list[Seen]:
        """The best concepts in the two windows of the layout in which the judge is surer of both."""
        windows = layout_windows(pictures)
        shape = windows.shape[:3]  # pictures, layouts, windows of each
        verdict = judge(self.classifier, windows.reshape(-1, *windows.shape[3:]))
        # Over all that the judge knows, none included: a window between two things is sure of nothing.
        chances = verdict.concepts.log_softmax(dim=1)[:, self._concepts]
        sureness, best = (part.reshape(shape) for part in chances.max(dim=1))
        layout = sureness.sum(dim=2).argmax(dim=1)
        rows = torch.arange(len(pictures))
        styles = verdict.styles[:, self._styles].reshape(*shape, -1)[rows, layout].mean(dim=1).argmax(dim=1).tolist()
        named = best[rows, layout].tolist()
        return [
            (tuple(self.claimed[place] for place in places), style, None)
            for places, style in zip(named, styles, strict=True)
        ]


def _places(names: Sequence[str], known: Sequence[str], what: str) -> list[int]:
    places = {name: place for place, name in enumerate(known)}
    if missing := [name for name in names if name not in places]:
        raise InputError(f"the judge does not know the {what} {quoted(missing[0])}; train one on this art")
    return [places[name] for name in names]


def _outcome(question: Question, named: tuple[int, ...], style: int, colour: int | None) -> Outcome:
    prompt = question.prompt
    concept, style_right = set(named) == set(prompt.concepts), style == prompt.style
    right = {"concept": concept, "any": bool(set(named) & set(prompt.concepts)), "style": style_right}
    if prompt.colour is None:
        return Outcome(question, named, style, colour, right | {"both": concept and style_right})
    colour_right = colour == prompt.colour
    return Outcome(question, named, style, colour, right | {"colour": colour_right, "both": concept and colour_right})


def measures(drawn: Iterable[Outcome], real: Iterable[Outcome]) -> list[Measure]:
    """The figures of every group that was asked."""
    by_group: dict[str, tuple[list[Outcome], list[Outcome]]] = {group.name: ([], []) for group in GROUPS}
    for side, outcomes in enumerate((drawn, real)):
        for outcome in outcomes:
            by_group[outcome.question.group][side].append(outcome)
    return [
        Measure(
            group.name,
            name,
            f"{group.label}: {label}",
            _counted(by_group[group.name][0], name),
            _counted(by_group[group.name][1], name),
            FLOORS.get((group.name, name)),
        )
        for group in GROUPS
        if by_group[group.name][0]
        for name, label in MEASURES[group.kind]
    ]


def _counted(outcomes: list[Outcome], name: str) -> Share:
    return share(sum(outcome.right[name] for outcome in outcomes), len(outcomes))


def choose_claims(outcomes: Sequence[Outcome], art: IconArt, at_least: int = 300) -> list[int]:
    """The concepts that a card may claim: those named in more than half of their trained prompts.

    Where fewer than `at_least` are, the best others are claimed too; the figures then say so, being measured on
    pictures of other seeds.
    """
    right, total = Counter[int](), Counter[int]()
    for outcome in outcomes:
        [concept] = outcome.question.prompt.concepts
        total[concept] += 1
        right[concept] += outcome.right["concept"]
    rates = {concept: right[concept] / total[concept] for concept in total}
    ranked = sorted(rates, key=lambda concept: (-rates[concept], concept))
    good = sum(rate > 0.5 for rate in rates.values())
    return sorted(ranked[: max(good, min(at_least, len(art.concepts)))])


def worst_concepts(outcomes: Iterable[Outcome], art: IconArt, count: int = 20) -> list[Failing]:
    """The concepts named least often where they alone were asked for, the worst first; those always named left out."""
    right, total = Counter[int](), Counter[int]()
    mistaken: dict[int, Counter[int]] = {}
    for outcome in outcomes:
        if len(outcome.question.prompt.concepts) != 1:
            continue
        [concept] = outcome.question.prompt.concepts
        total[concept] += 1
        right[concept] += outcome.right["concept"]
        if not outcome.right["concept"]:
            mistaken.setdefault(concept, Counter())[outcome.named[0]] += 1
    ranked = sorted(mistaken, key=lambda concept: (right[concept] / total[concept], -total[concept], concept))
    return [
        Failing(
            art.concepts[concept].name,
            right[concept],
            total[concept],
            art.concepts[mistaken[concept].most_common(1)[0][0]].name,
        )
        for concept in ranked[:count]
    ]
