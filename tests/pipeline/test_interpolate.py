"""From one picture to another: both ends exactly, and every frame between."""

from __future__ import annotations

import math

import pytest
import torch

from rein.errors import InputError
from rein.pipeline.interpolate import interpolated, mixed, record, shares
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from rein.text.encode import Conditioning
from rein.text.plan import PromptPlan, StepWords
from tests.pipeline.conftest import Loader

START = Request(prompt="a red apple", negative_prompt="blue", seed=3, steps=2, sampler="euler")


def drawn(model: Model, *arguments: object, **options: object) -> list[bytes]:
    frames = interpolated(model.parts, START, *arguments, **options)  # type: ignore[arg-type]
    return [step.result.images[0].tobytes() for _, step in frames if step.last]


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
@pytest.mark.parametrize("way", ["line", "arc"])
def test_both_ends_are_the_two_pictures(small_model: Loader, family: str, way: str) -> None:
    model = small_model(family)
    frames = drawn(model, "two green apples on a table", 4, to_seed=9, way=way)
    assert len(set(frames)) == 4
    ends = [START, START.replace(prompt="two green apples on a table", seed=9)]
    assert [frames[0], frames[-1]] == [model.generate(request).images[0].tobytes() for request in ends]


def test_words_alone_and_seeds_alone(pocket: Model) -> None:
    words = drawn(pocket, "a blue car", 3)
    seeds = drawn(pocket, START.prompt, 3, to_seed=9)
    assert words[0] == seeds[0]
    assert len({*words, *seeds}) == 5
    variation = START.replace(variation_seed=9, variation_strength=0.5)
    assert seeds[1] == pocket.generate(variation).images[0].tobytes()


def plan_of(context: torch.Tensor, pooled: torch.Tensor | None = None) -> PromptPlan:
    words = Conditioning(context, pooled)
    return PromptPlan((StepWords(((words, 1.0),), words),) * 2)


def test_words_go_along_the_line_or_the_arc() -> None:
    one, other = plan_of(torch.tensor([[[1.0, 0.0]]])), plan_of(torch.tensor([[[0.0, 1.0]]]))
    line, arc = (mixed(one, other, 0.25, way).steps[0].wanted[0][0].context for way in ("line", "arc"))
    assert line.flatten().tolist() == pytest.approx([0.75, 0.25])
    assert arc.flatten().tolist() == pytest.approx([math.cos(math.pi / 8), math.sin(math.pi / 8)])
    assert mixed(one, other, 0.25).constant


def test_texts_of_different_lengths_are_repeated_whole() -> None:
    one, other = plan_of(torch.ones(1, 2, 4)), plan_of(torch.zeros(1, 6, 4))
    words = mixed(one, other, 0.5).steps[0].wanted[0][0]
    assert words.context.shape == (1, 6, 4)
    assert torch.equal(words.context, torch.full((1, 6, 4), 0.5))


def test_zeros_have_no_direction_and_go_along_the_line() -> None:
    words = mixed(plan_of(torch.zeros(1, 2, 4)), plan_of(torch.ones(1, 2, 4)), 0.5, "arc").steps[0].wanted[0][0]
    assert torch.equal(words.context, torch.full((1, 2, 4), 0.5))


def test_half_precision_is_mixed_in_float32() -> None:
    one, other = plan_of(torch.full((1, 1, 2), 6e4).half()), plan_of(torch.full((1, 1, 2), 6e4 - 64).half())
    words = mixed(one, other, 0.5).steps[0].wanted[0][0]
    assert words.context.dtype == torch.float16 and bool(torch.isfinite(words.context).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "frames is 1: it must be a whole number from 2 to 1000"),
        ({"frames": 1001}, "frames is 1001"),
        ({"to": "a AND b"}, "prompts with AND cannot be mixed"),
        ({"start": START.replace(hires_scale=2.0)}, "hires_scale is 2.0: frames between two pictures have none"),
    ],
)
def test_what_cannot_be_a_way(pocket: Model, options: dict[str, object], message: str) -> None:
    given = {"start": START, "to": "a blue car", "frames": 3, **options}
    with pytest.raises(InputError, match=message):
        list(interpolated(pocket.parts, **given))  # type: ignore[arg-type]


def test_shares_and_records() -> None:
    assert shares(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    told = record(START, "a car", 5, 9, "arc")["interpolation"]
    assert (told["to"]["prompt"], told["to"]["seed"], told["frames"], told["way"]) == ("a car", 9, 5, "arc")
