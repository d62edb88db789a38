"""An explained picture is the picture itself, and what is noted of it is what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import rein.explain
from rein.errors import InputError, ReinError
from rein.explain.pictures import png
from rein.explain.trace import STEPS_KEPT, Explanation, explain
from rein.nn.attention import Attention
from rein.nn.clip import CausalAttention
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from tests.explain.conftest import Loader

PROMPT = "a red apple, flat style"


def watchers(model: Model) -> int:
    """How many hooks and probes are on the networks of a model."""
    parts: list[nn.Module] = [model.parts.unet, *model.parts.towers]
    modules = [module for part in parts for module in part.modules()]
    probes = sum(isinstance(m, Attention | CausalAttention) and m.probe is not None for m in modules)
    return probes + sum(len(module._forward_hooks) for module in modules)


@pytest.mark.parametrize(
    ("family", "sampler"),
    [("pocket", "euler"), ("pocket", "heun"), ("sd1", "euler_ancestral"), ("sd2-v", "ddim"), ("sdxl", "dpmpp_2m_sde")],
)
def test_the_picture_is_that_of_generate(small_model: Loader, family: str, sampler: str) -> None:
    options = {"seed": 3, "steps": 3, "sampler": sampler, "negative_prompt": "blue"}
    model = small_model(family)
    drawn = model.generate(PROMPT, **options)
    explanation = explain(PROMPT, model, **options).finish()
    assert png(explanation.result.images[0]) == png(drawn.images[0])
    assert explanation.request == drawn.request
    assert explanation.kept[0].evaluations == (2 if sampler == "heun" else 1)


def test_the_file_of_the_page_is_that_of_generate(pocket: Model, apple: Explanation, tmp_path: object) -> None:
    [path] = pocket.generate(PROMPT, seed=7, steps=4).save(f"{tmp_path}/apple.png")
    assert png(apple.result.images[0]) == path.read_bytes()


def test_steps_are_those_of_the_model(pocket: Model, apple: Explanation) -> None:
    steps = list(pocket.steps(PROMPT, seed=7, steps=4))
    assert len(steps) == len(apple.kept) == 4
    for step, record in zip(steps, apple.kept, strict=True):
        assert (step.index, step.sigma, step.next_sigma) == (record.index, record.sigma, record.next_sigma)
        assert torch.equal(step.latents[0], record.latents)
        assert torch.equal(step.denoised[0], record.denoised)
    for one, other in zip(apple.kept, apple.kept[1:], strict=False):
        assert torch.equal(one.latents, other.before)


def test_the_starting_noise_is_that_of_the_seed(apple: Explanation) -> None:
    expected = torch.randn(*apple.latent_shape, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(apple.noise, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["pocket", "sd1", "sdxl"])
def test_both_predictions_are_what_the_model_says_without_guidance(small_model: Loader, family: str) -> None:
    """Guidance 1 is the prompt alone, guidance 0 the negative prompt alone; all begin with the same noise."""
    model = small_model(family)
    options = {"seed": 5, "steps": 2, "negative_prompt": "green"}
    first = next(iter(explain(PROMPT, model, guidance_scale=3.0, **options)))
    wanted = next(model.steps(PROMPT, guidance_scale=1.0, **options)).denoised[0]
    unwanted = next(model.steps(PROMPT, guidance_scale=0.0, **options)).denoised[0]
    assert first.unwanted is not None
    assert not torch.allclose(wanted, unwanted, rtol=1e-2)
    torch.testing.assert_close(first.wanted, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.unwanted, unwanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.denoised, unwanted + 3 * (wanted - unwanted), rtol=1e-4, atol=1e-4)


def test_what_guidance_added_is_measured(apple: Explanation) -> None:
    before = None
    for record in apple.kept:
        assert record.guidance is not None
        added = (record.denoised - record.wanted).double().flatten()
        assert record.guidance.size == pytest.approx(float(added.norm() / record.wanted.double().norm()), rel=1e-6)
        if before is None:
            assert record.guidance.turn is None
        else:
            expected = torch.nn.functional.cosine_similarity(added, before, dim=0)
            assert record.guidance.turn == pytest.approx(float(expected), rel=1e-6)
        before = added


def test_without_guidance_there_is_one_prediction(pocket: Model) -> None:
    explanation = explain(PROMPT, pocket, seed=1, steps=2, guidance_scale=1.0).finish()
    for record in explanation.kept:
        assert record.unwanted is None and record.guidance is None
        assert torch.equal(record.wanted, record.denoised)


def test_outside_its_interval_guidance_does_nothing(pocket: Model) -> None:
    explanation = explain(PROMPT, pocket, seed=1, steps=4, guidance_interval=(0.5, 5.0)).finish()
    acted = [number.guidance is not None for number in explanation.numbers]
    assert acted == [0.5 < number.sigma <= 5.0 for number in explanation.numbers]
    assert True in acted and False in acted


def test_nothing_stays_on_the_model(pocket: Model) -> None:
    assert watchers(pocket) == 0
    steps = iter(explain(PROMPT, pocket, seed=7, steps=4))
    assert watchers(pocket) == 0
    next(steps)
    assert watchers(pocket) == 0  # while the caller looks at a step, and if it goes away now


def test_long_runs_keep_some_steps_and_all_numbers(pocket: Model) -> None:
    steps = STEPS_KEPT + 7
    explanation = explain(PROMPT, pocket, seed=7, steps=steps).finish()
    assert len(explanation.numbers) == steps
    assert len(explanation.kept) == STEPS_KEPT
    assert (explanation.kept[0].index, explanation.kept[-1].index) == (0, steps - 1)
    assert len(explanation.heat_maps.by_step()) == STEPS_KEPT
    assert all(record.attention == () for record in explanation.kept)


def test_each_iteration_draws_anew(pocket: Model) -> None:
    explanation = explain(PROMPT, pocket, seed=7, steps=2)
    with pytest.raises(ReinError, match="not finished"):
        _ = explanation.result
    first = [record.latents for record in explanation]
    second = [record.latents for record in explanation]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert len(explanation.numbers) == 2


def test_the_package_can_be_called(pocket: Model) -> None:
    called = rein.explain(PROMPT, pocket, seed=7, steps=2)
    assert isinstance(called, Explanation)
    assert called.request.seed == 7


def test_a_model_without_text_tower_is_refused(pocket: Model) -> None:
    wordless = Model(replace(pocket.parts, towers=(), tokenizers=()))
    with pytest.raises(InputError, match="has no text tower: there are no words to explain"):
        explain(PROMPT, wordless)


def test_several_pictures_are_refused(pocket: Model) -> None:
    with pytest.raises(InputError, match="count is 2: one picture"):
        explain(Request(prompt=PROMPT, count=2), pocket)


@pytest.mark.parametrize("prompt", ["", "   ", "apple " * 70, "a\ud800b \x00 🍎"])
def test_any_prompt_can_be_explained(pocket: Model, prompt: str) -> None:
    explanation = explain(prompt, pocket, seed=7, steps=1).finish()
    places = [place for group in explanation.words.groups() for place in group.places]
    assert sorted(places) == list(range(len(explanation.words.tokens)))
    total = explanation.heat_maps.mean().sum(dim=0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)


def test_weights_and_breaks_are_those_of_the_prompts_language(pocket: Model) -> None:
    words = explain("a (red:1.5) apple BREAK flat style", pocket, seed=7, steps=1).words
    weights = {token.text: token.weight for token in words.tokens if token.kind == "word"}
    assert (weights["red"], weights["flat"]) == (1.5, 1.0)
    assert words.words == ("a", "red", "apple", "flat", "style")
    assert words.windows == 2
    assert [token.place for token in words.tokens if token.kind == "start"] == [0, words.length]
    assert len(words.readings) == 1


@pytest.mark.parametrize("prompt", ["a red apple AND a blue car :0.6", "a red apple :0.5"])
def test_parts_joined_by_and(pocket: Model, prompt: str) -> None:
    options = {"seed": 7, "steps": 2, "guidance_scale": 3.0}
    explanation = explain(prompt, pocket, **options).finish()
    assert png(explanation.result.images[0]) == png(pocket.generate(prompt, **options).images[0])
    assert [reading.weight for reading in explanation.words.readings][-1] == (0.6 if "AND" in prompt else 0.5)
    for record in explanation.kept:
        assert record.unwanted is not None
        torch.testing.assert_close(record.denoised, record.unwanted + 3 * (record.wanted - record.unwanted))
    alone = next(pocket.steps(prompt, **{**options, "guidance_scale": 1.0})).denoised[0]
    torch.testing.assert_close(explanation.kept[0].wanted, alone, rtol=1e-4, atol=1e-4)


def test_each_part_joined_by_and_has_tokens_and_maps_of_its_own(pocket: Model) -> None:
    """At the first step, where all see the same noise, a part's maps are those of that part alone."""
    options = {"seed": 7, "steps": 2, "guidance_scale": 3.0}
    texts = ("a red apple", "a blue car and a red house on a table of flat style :0.6")
    explanation = explain(" AND ".join(texts), pocket, **options).finish()
    words = explanation.words
    assert [part.words[:3] for part in words.parts] == [("a", "red", "apple"), ("a", "blue", "car")]
    assert words.parts[1].windows > words.parts[0].windows == 1
    assert words.weights == (1.0, 0.6)
    for maps, part in zip(explanation.maps, words.parts, strict=True):
        total = maps.mean().sum(dim=0)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)
        assert maps.groups == part.groups()
    first = next(iter(explain(" AND ".join(texts), pocket, **options)))
    longest = len(words.parts[1].tokens)
    alone = next(iter(explain(texts[1].partition(" :")[0], pocket, **options)))
    together = [entry for entry in first.attention if entry.part == 1]
    assert len(together) == len(alone.attention) > 0
    for one, other in zip(together, alone.attention, strict=True):
        assert one.layer == other.layer and len(one.maps) == longest
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-3, atol=1e-5)


def test_maps_are_the_prompts_where_the_negative_prompt_is_asked_apart(pocket: Model) -> None:
    """Three windows against two: the lengths do not divide each other, and the U-Net is asked twice."""
    prompt = "a red apple on a table and a blue car and a red house"
    options = {"seed": 7, "steps": 1, "dialect": "a1111"}
    negative = "blue car house table red apple green style flat " * 3
    asked = next(iter(explain(prompt, pocket, negative_prompt=negative, **options)))
    alone = next(iter(explain(prompt, pocket, guidance_scale=1.0, **options)))
    assert len(asked.attention) == len(alone.attention) > 0
    for one, other in zip(asked.attention, alone.attention, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-3, atol=1e-5)
    assert asked.unwanted is not None
    torch.testing.assert_close(asked.wanted, alone.wanted, rtol=1e-4, atol=1e-4)


def test_a_prompt_that_changes_is_told_in_its_readings(pocket: Model) -> None:
    prompt = "a [red:blue:0.5] apple"
    explanation = explain(prompt, pocket, seed=7, steps=4).finish()
    told = [(reading.steps, reading.text) for reading in explanation.words.readings]
    assert told == [((1, 2, 3), "a red apple"), ((4,), "a blue apple")]
    assert png(explanation.result.images[0]) == png(pocket.generate(prompt, seed=7, steps=4).images[0])
    assert explanation.heat_maps.filled


def test_a_longer_negative_prompt_does_not_disturb_the_maps(pocket: Model) -> None:
    long = "blue car house table red apple green style flat of on"
    guided = next(iter(explain("a red apple", pocket, seed=7, steps=1, negative_prompt=long)))
    explanation = explain("a red apple", pocket, seed=7, steps=1, negative_prompt=long).finish()
    assert len(guided.attention[0].maps) % len(explanation.words.tokens) == 0
    total = explanation.heat_maps.mean().sum(dim=0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)
