"""What would change: the same seed with one thing done otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from rein.diffusion.samplers import find_sampler
from rein.errors import InputError, nearest, quoted
from rein.pipeline.fields import MAX_GUIDANCE, MAX_STEPS
from rein.pipeline.model import Model
from rein.pipeline.request import Request

STRIPS = {
    "guidance": "another guidance scale",
    "steps": "another number of steps",
    "sampler": "another sampler",
    "word": "one word taken out",
    "negative": "a negative prompt",
    "strength": "another strength",
    "adapter": "adapters weaker, or left out",
}
"""What can be done otherwise, by name."""

_SMALL_WORDS = frozenset(
    ("a", "an", "the", "of", "and", "or", "with", "in", "on", "at", "to", "by", "for", "from", "is", "are")
)
_PICTURES = 3


@dataclass(frozen=True, eq=False)
class Variant:
    """One picture of a strip: what was done otherwise, the request, the picture."""

    label: str
    request: Request
    image: Image.Image


@dataclass(frozen=True, eq=False)
class Strip:
    """Pictures in which one thing differs from the explained one."""

    name: str
    title: str
    variants: tuple[Variant, ...]


def strip_names(text: str) -> tuple[str, ...]:
    """The names in "guidance,word", each once; "none" and "" are none, "all" is all.

    Raises:
        InputError: there is no strip of that name.
    """
    wanted = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
    if wanted in ([], ["none"]):
        return ()
    if wanted == ["all"]:
        return tuple(STRIPS)
    for entry in wanted:
        if entry not in STRIPS:
            raise InputError(f"unknown strip {quoted(entry)}: {nearest(entry, [*STRIPS, 'all', 'none'])}")
    return tuple(dict.fromkeys(wanted))


def usual_strips(request: Request) -> tuple[str, ...]:
    """What is drawn unless told: words, and what was given besides them; of words alone, guidance."""
    given = (*(() if request.init_image is None else ("strength",)), *(("adapter",) if request.loras else ()))
    return (*given, "word") if given else ("guidance", "word")


def draw_strips(model: Model, request: Request, names: Sequence[str]) -> Iterator[Strip]:
    """Draw the strips, one after another; one that has nothing to draw is left out. `request` is a resolved one."""
    for name in names:
        if not (changed := requests(name, request)):
            continue
        variants = [Variant(label, other, model.generate(other).images[0]) for label, other in changed]
        yield Strip(name, STRIPS[name], tuple(variants))


def requests(name: str, request: Request) -> list[tuple[str, Request]]:
    """What a strip draws: label and request of each picture, three at most, none equal to `request`."""
    listed = {
        "guidance": _guidance,
        "steps": _steps,
        "sampler": _samplers,
        "word": _words,
        "negative": _negatives,
        "strength": _strengths,
        "adapter": _adapters,
    }[name](request)
    return [entry for entry in listed if entry[1] != request][:_PICTURES]


def _guidance(request: Request) -> list[tuple[str, Request]]:
    own = request.guidance_scale or 1.0
    scales = sorted({1.0, round(own * 1.5, 1), round(min(own * 3, MAX_GUIDANCE), 1)} - {own})
    return [(f"guidance {scale:g}", request.replace(guidance_scale=scale)) for scale in scales]


def _steps(request: Request) -> list[tuple[str, Request]]:
    own = request.step_count
    counts = sorted({1, max(1, own // 4), min(own * 2, MAX_STEPS)} - {own})
    return [(f"{count} step{'s' if count > 1 else ''}", request.replace(steps=count)) for count in counts]


def _samplers(request: Request) -> list[tuple[str, Request]]:
    names = [name for name in ("euler", "dpmpp_2m", "heun", "euler_ancestral", "ddim") if name != request.sampler]
    # The noise levels stay, and so does all else; eta belongs to the sampler that it was set for.
    return [(find_sampler(name).label, request.replace(sampler=name, eta=None)) for name in names]


def _words(request: Request) -> list[tuple[str, Request]]:
    """Each word that means something is taken out in turn. A plan of prompts would be read here for its words."""
    words = request.prompt.split()
    places = _meaningful(words)
    return [
        (f"without “{words[place].strip(',.')}”", request.replace(prompt=" ".join(words[:place] + words[place + 1 :])))
        for place in places
    ]


def _negatives(request: Request) -> list[tuple[str, Request]]:
    """Away from one of the prompt's own words; and without the negative prompt where there is one."""
    words = request.prompt.split()
    before = request.negative_prompt
    listed = [("no negative prompt", request.replace(negative_prompt=""))] if before else []
    for word in dict.fromkeys(words[place].strip(",.") for place in _meaningful(words)):
        listed.append((f"away from “{word}”", request.replace(negative_prompt=f"{before}, {word}" if before else word)))
    return listed


def _strengths(request: Request) -> list[tuple[str, Request]]:
    """Of a picture to start from: less and more of it kept."""
    if request.init_image is None or request.strength is None:
        return []
    others = [value for value in (0.3, 0.5, 0.7, 0.9) if abs(value - request.strength) > 0.06]
    return [(f"strength {value:g}", request.replace(strength=value)) for value in others]


def _adapters(request: Request) -> list[tuple[str, Request]]:
    """Without the adapters that the request names (those in the prompt are words of it), and at half their weights."""
    if not request.loras:
        return []
    halved = [
        entry.model_copy(
            update={
                "weight": entry.weight / 2,
                "text_weight": None if entry.text_weight is None else entry.text_weight / 2,
            }
        ).model_dump()
        for entry in request.loras
    ]
    return [("without adapters", request.replace(loras=[])), ("at half the weight", request.replace(loras=halved))]


def _meaningful(words: Sequence[str]) -> list[int]:
    """Places of words that are not small ones, at most `_PICTURES`, in order."""
    return [place for place, word in enumerate(words) if says_something(word)][:_PICTURES]


def says_something(word: str) -> bool:
    """Whether a word is more than a sign, an article or a preposition."""
    return any(sign.isalnum() for sign in word) and word.lower().strip(",.") not in _SMALL_WORDS
