"""What is computed once for all steps equals what the networks say step by step."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import NetworkDenoiser, find_prediction
from rein.diffusion.schedule import NoiseSchedule, make_schedule
from rein.diffusion.spacing import spaced_sigmas
from rein.formats.checkpoint import LoadedModel
from rein.pipeline import prompted
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.prompted import PromptedNetwork
from rein.pipeline.request import Request
from rein.text.encode import Conditioning, encode_texts
from tests.pipeline.conftest import Loader
from tests.pipeline.small import SPECS


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def schedule_of(parts: LoadedModel) -> NoiseSchedule:
    return make_schedule(**asdict(parts.spec.schedule))


def plain(parts: LoadedModel, words: Conditioning) -> NetworkDenoiser:
    """The U-Net asked with text and timestep each time."""

    def ask(x: Tensor, timestep: Tensor) -> Tensor:
        out: Tensor = parts.unet(x, timestep, words.context, words.pooled, words.size_ids)
        return out

    return NetworkDenoiser(ask, schedule_of(parts), find_prediction(parts.spec.prediction))


def rows_of(parts: LoadedModel, request: Request) -> Conditioning:
    """The negative prompt, if there is one, and the prompt."""
    return Conditioning.cat(plan_request(parts, request).steps[0].rows)


def request_for(parts: LoadedModel, **options: object) -> Request:
    settings: dict[str, object] = {"prompt": "a red apple", "negative_prompt": "a blue car", "seed": 1, **options}
    return Request.model_validate(settings).resolved(parts.spec)


@pytest.mark.parametrize("family", SPECS)
@pytest.mark.parametrize("pictures", [1, 3])
def test_it_equals_the_plain_network_at_every_level(small_model: Loader, family: str, pictures: int) -> None:
    """Row i of the words guides the i-th part of a batch: here 3 pictures with each of the two texts."""
    parts = small_model(family).parts
    words = rows_of(parts, request_for(parts))
    sigmas = spaced_sigmas("linspace", 5, schedule_of(parts))
    rows = [row for row in (0, 1) for _ in range(pictures)]
    x = PictureNoise(range(2 * pictures)).draw((4, 4, 4))
    with torch.inference_mode():
        ours = PromptedNetwork(parts, words, schedule_of(parts), sigmas)
        theirs = plain(parts, words.select(rows))
        for sigma in [*sigmas[:-1], sigmas[0], torch.tensor(0.7)]:
            state = x * (1 + sigma)
            assert relative_error(ours(state, sigma), theirs(state, sigma)) <= 1e-5


def test_many_levels_are_computed_in_parts(small_model: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = small_model("pocket").parts
    words = rows_of(parts, request_for(parts))
    sigmas = spaced_sigmas("karras", 7, schedule_of(parts))
    x = PictureNoise([1, 2]).draw((4, 4, 4))
    with torch.inference_mode():
        whole = PromptedNetwork(parts, words, schedule_of(parts), sigmas)
        answers = [whole(x, sigma) for sigma in sigmas[:-1]]
        monkeypatch.setattr(prompted, "_LEVELS_AT_ONCE", 3)
        divided = PromptedNetwork(parts, words, schedule_of(parts), sigmas)
        for index in (0, 6, 2, 3, 1, 5, 4):
            assert relative_error(divided(x, sigmas[index]), answers[index]) <= 1e-5


@pytest.mark.parametrize("family", SPECS)
def test_guidance_goes_from_the_negative_prompt_past_the_prompt(small_model: Loader, family: str) -> None:
    parts = small_model(family).parts
    request = request_for(parts, guidance_scale=3.0)
    plan = plan_request(parts, request)
    words = rows_of(parts, request)
    sigmas = spaced_sigmas("linspace", 3, schedule_of(parts))
    x = PictureNoise([1]).draw((4, 4, 4))
    with torch.inference_mode():
        guided = guided_denoiser(parts, request, plan, schedule_of(parts), sigmas)(x, sigmas[1])
        negative, positive = (plain(parts, words.select(row))(x, sigmas[1]) for row in (0, 1))
        assert relative_error(guided, negative + 3.0 * (positive - negative)) <= 1e-4


def test_a_prompt_and_its_negative_get_as_many_windows(small_model: Loader) -> None:
    parts = small_model("sd1").parts
    long = "a red apple on a table and a blue car " * 2
    for options in ({"prompt": long}, {"negative_prompt": long}):
        words = rows_of(parts, request_for(parts, **options))
        assert len(words) == 2 and words.context.shape[1] > 12 and words.context.shape[1] % 12 == 0


def test_the_rows_are_the_negative_prompt_and_the_prompt(small_model: Loader) -> None:
    parts = small_model("sd1").parts
    words = rows_of(parts, request_for(parts))
    expected = encode_texts(["a blue car", "a red apple"], parts.towers, parts.tokenizers)
    assert torch.equal(words.context, expected.context)
    alone = rows_of(parts, request_for(parts, guidance_scale=1))
    assert len(alone) == 1 and torch.equal(alone.context, expected.context[1:])


def test_only_families_that_read_them_get_pooled_text_and_sizes(small_model: Loader) -> None:
    given = {}
    for family in SPECS:
        parts = small_model(family).parts
        words = rows_of(parts, request_for(parts, width=48, height=24))
        given[family] = (words.pooled is not None, words.size_ids is not None)
    assert given == {"pocket": (True, False), "sd1": (False, False), "sd2-v": (False, False), "sdxl": (True, True)}
    words = rows_of(small_model("sdxl").parts, request_for(small_model("sdxl").parts, width=48, height=24))
    assert words.size_ids is not None and words.size_ids.tolist() == [[24, 48, 0, 0, 24, 48]] * 2
