"""The words of each picture: drawn from its own seed, told in its file, asked of the U-Net as A1111 asks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import NetworkDenoiser, find_prediction
from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import spaced_sigmas
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.nn.specs import POCKET, SD15, SDXL, SDXL_REFINER
from rein.pipeline.model import Model
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.request import Request
from rein.pipeline.words import WordSource
from rein.text.encode import Conditioning
from tests.pipeline.conftest import Loader

SCALE = 3.0


def request_for(parts: LoadedModel, **options: object) -> Request:
    settings: dict[str, object] = {"prompt": "a red apple", "seed": 1, "guidance_scale": SCALE, "dialect": "a1111"}
    return Request.model_validate({**settings, **options}).resolved(parts.spec)


def answer(parts: LoadedModel, words: Conditioning, x: Tensor, sigma: Tensor) -> Tensor:
    """The U-Net asked by itself, without anything kept."""

    def ask(shown: Tensor, timestep: Tensor) -> Tensor:
        out: Tensor = parts.unet(shown, timestep, words.context, words.pooled, words.size_ids)
        return out

    schedule = make_schedule(**asdict(parts.spec.schedule))
    return NetworkDenoiser(ask, schedule, find_prediction(parts.spec.prediction))(x, sigma)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def passes(parts: LoadedModel, request: Request, x: Tensor, steps: int = 1) -> tuple[list[Tensor], list[int]]:
    """What the denoiser says at its first levels, and the batch of each pass through the U-Net."""
    schedule = make_schedule(**asdict(parts.spec.schedule))
    sigmas = spaced_sigmas("linspace", request.step_count, schedule)
    batches: list[int] = []
    hook = parts.unet.register_forward_hook(lambda module, arguments, output: batches.append(len(output)))
    try:
        denoise = guided_denoiser(parts, request, plan_request(parts, request), schedule, sigmas)
        return [denoise(x, sigma) for sigma in sigmas[:steps]], batches
    finally:
        hook.remove()


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_parts_add_their_directions_from_the_negative_prompt(small_model: Loader, family: str) -> None:
    parts = small_model(family).parts
    request = request_for(parts, prompt="a red apple :0.7 AND a blue car :-0.4", negative_prompt="table", steps=3)
    x = PictureNoise([1]).draw((4, 4, 4))
    with torch.inference_mode():
        [found], batches = passes(parts, request, x)
        [words] = {id(step): step for step in plan_request(parts, request).steps}.values()
        sigma = spaced_sigmas("linspace", 3, make_schedule(**asdict(parts.spec.schedule)))[0]
        assert words.unwanted is not None
        base = answer(parts, words.unwanted, x, sigma)
        directions = [weight * (answer(parts, part, x, sigma) - base) for part, weight in words.wanted]
        assert relative_error(found, base + SCALE * sum(directions, torch.zeros(()))) <= 1e-4
        assert batches == [3]
        alone, _ = passes(parts, request.replace(guidance_scale=1.0), x)
        assert relative_error(alone[0], base + sum(directions, torch.zeros(()))) <= 1e-4


@pytest.mark.parametrize(
    ("wanted", "unwanted", "batches"),
    [("apple", "car", [2]), ("red " * 15, "car", [2]), ("car", "red " * 15, [2]), ("red " * 15, "red " * 25, [1, 1])],
)
def test_lengths_differ_without_one_prompt_changing_the_other(
    small_model: Loader, wanted: str, unwanted: str, batches: list[int]
) -> None:
    """1, 2 and 3 windows: a context repeated whole gives the same attention; where none fits there are two passes."""
    parts = small_model("sd1").parts
    request = request_for(parts, prompt=wanted, negative_prompt=unwanted, steps=2)
    x = PictureNoise([1]).draw((4, 4, 4))
    with torch.inference_mode():
        [found], made = passes(parts, request, x)
        words = plan_request(parts, request).steps[0]
        sigma = spaced_sigmas("linspace", 2, make_schedule(**asdict(parts.spec.schedule)))[0]
        assert words.unwanted is not None
        base, toward = (answer(parts, row, x, sigma) for row in words.rows)
    assert sorted(made) == sorted(batches)
    assert relative_error(found, base + SCALE * (toward - base)) <= 1e-4


def test_words_change_at_their_step_and_cost_no_more_passes(small_model: Loader) -> None:
    parts = small_model("pocket").parts
    x = PictureNoise([1]).draw((4, 4, 4))
    with torch.inference_mode():
        edited, batches = passes(parts, request_for(parts, prompt="[a red apple:a blue car:1]", steps=4), x, 4)
        first, plain = passes(parts, request_for(parts, prompt="a red apple", steps=4), x, 4)
        second, _ = passes(parts, request_for(parts, prompt="a blue car", steps=4), x, 4)
    assert batches == plain == [2, 2, 2, 2]
    for step, source in enumerate([first, first, second, second]):
        assert torch.equal(edited[step], source[step])
    assert not torch.equal(first[2], second[2])


TEMPLATE = "a {red|green|blue} apple, __place__"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "place.txt").write_text("on a table\nin a house\nby a car\n")
    return str(tmp_path)


def test_wildcards_are_drawn_from_the_pictures_own_seed(pocket: Model, folder: str) -> None:
    options: dict[str, object] = {"steps": 2, "wildcards": folder, "negative_prompt": "{car|house}"}
    together = pocket.generate(TEMPLATE, seed=3, count=6, **options)
    assert together.seeds == list(range(3, 9))
    prompts = [together.single(index).prompt for index in range(6)]
    assert len(set(prompts)) > 2
    for index, seed in enumerate(together.seeds):
        alone = pocket.generate(TEMPLATE, seed=seed, **options)
        assert alone.images[0].tobytes() == together.images[index].tobytes()
        again = pocket.generate(together.single(index))
        assert again.images[0].tobytes() == together.images[index].tobytes()
        assert together.single(index).wildcards is None and "{" not in prompts[index] + again.infotext()[:40]
        content = together.manifest(index)
        assert content["asked"]["prompt"] == TEMPLATE and content["request"]["prompt"] == prompts[index]
        assert together.infotext(index).startswith(f"{prompts[index]}\nNegative prompt: ")
        assert f'Template: "{TEMPLATE}", Negative Template: {{car|house}}' in together.infotext(index)


def test_styles_and_comments_are_told_as_words(pocket: Model) -> None:
    result = pocket.generate("a red apple # no car", seed=1, steps=1, styles=["light: neon"])
    assert result.single(0).prompt.startswith("a red apple , neon signs") and result.single(0).styles == ()
    assert "Negative prompt: daylight" in result.infotext() and "Styles: " in result.infotext()
    assert pocket.generate(result.single(0)).images[0].tobytes() == result.images[0].tobytes()
    assert "asked" not in pocket.generate("a red apple", seed=1, steps=1).manifest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": ["Light: nion"]}, "unknown style 'Light: nion': did you mean 'Light: neon'"),
        ({"styles_file": "/none.csv"}, "styles '/none.csv' cannot be read: No such file"),
        ({"wildcards": "/none"}, "wildcards: '/none' is not a folder"),
        ({"dialect": "a111"}, "unknown dialect 'a111': did you mean 'a1111'"),
        ({"dialect": "comfy", "emphasis": "no norm"}, "dialect 'comfy' has no modes; leave it out, or use rein, a1111"),
        ({"prompt": "(" * 70}, "nested more than 64 deep"),
        ({"prompt": "(a:9999)"}, "the weight of 'a' is 9999"),
        ({"prompt": "a <lora:x:y>"}, "its weight 'y' is not a number"),
        ({"clip_skip": 9}, "clip_skip is 9: this model's text tower has 2 layers"),
        ({"crop": (1, 2)}, "crop is (1, 2): model 'small-pocket' is not told it"),
        ({"aesthetic_score": 6.0}, "aesthetic_score is 6.0: model 'small-pocket' is not told it"),
    ],
)
def test_a_mistake_is_said_in_one_line_before_anything_is_drawn(
    pocket: Model, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        pocket.steps(Request.model_validate({"prompt": "a", "steps": 1, **options}))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_unbalanced_brackets_are_drawn(pocket: Model) -> None:
    for prompt in ("((a red] apple:", "[a:b", "{a|b", ")", "[[[", "a:1.2)", "__", "AND", "BREAK"):
        assert len(pocket.generate(prompt, seed=1, steps=1).images) == 1


def test_sizes_and_scores_are_told(small_model: Loader) -> None:
    parts = small_model("sdxl").parts
    sizes = {"width": 48, "height": 24, "original_size": (640, 480), "crop": (8, 16), "target_size": (96, 64)}
    for row in plan_request(parts, request_for(parts, **sizes)).steps[0].rows:
        assert row.size_ids is not None and row.size_ids.tolist() == [[480, 640, 16, 8, 64, 96]]
    request = Request.model_validate({"prompt": "a", "width": 48, "height": 24, "aesthetic_score": 7.0, "seed": 1})
    assert request.resolved(SDXL_REFINER).aesthetic_score == 7.0
    with pytest.raises(InputError, match="aesthetic_score"):
        request.resolved(SDXL)


def test_an_empty_negative_prompt_is_zeros_where_the_model_was_trained_so(small_model: Loader) -> None:
    for family, zero in [("sdxl", True), ("sd1", False)]:
        parts = small_model(family).parts
        words = plan_request(parts, request_for(parts)).steps[0]
        assert words.unwanted is not None and bool((words.unwanted.context == 0).all()) == zero


def test_each_model_has_a_dialect() -> None:
    assert Request(prompt="a").resolved(SD15).dialect == "a1111"
    assert Request(prompt="a").resolved(POCKET).dialect == "rein"
    assert Request(prompt="a", dialect="Comfy").resolved(SD15).dialect == "comfy"


def test_how_prompts_are_read_is_told_as_that_program_does(pocket: Model) -> None:
    plain = pocket.generate("a (red:1.2) apple", seed=1, steps=1)
    assert "Emphasis" not in plain.infotext() and "Clip skip" not in plain.infotext()
    other = pocket.generate("a (red:1.2) apple", seed=1, steps=1, emphasis="No norm", clip_skip=2)
    assert "Clip skip: 2, Emphasis: No norm, RNG: CPU" in other.infotext()
    assert other.images[0].tobytes() != plain.images[0].tobytes()
    assert "Prompt dialect: comfy" in pocket.generate("a", seed=1, steps=1, dialect="comfy").infotext()


def test_the_same_object_serves_pictures_with_the_same_words() -> None:
    source = WordSource(Request(prompt="a plain one", seed=1).resolved(POCKET))
    assert source.drawn(1) is source.drawn(2)
