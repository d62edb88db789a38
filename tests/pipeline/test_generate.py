"""The loop: a picture depends on its own seed alone, every option reaches it, steps and results fit together."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch

from rein.diffusion.samplers import SAMPLERS
from rein.errors import InputError, NonFiniteError
from rein.pipeline import job
from rein.pipeline.generate import GenerationStep
from rein.pipeline.infotext_reader import from_infotext
from rein.pipeline.job import batch_size
from rein.pipeline.model import Model, load
from rein.pipeline.request import Request
from tests.pipeline.conftest import Loader
from tests.pipeline.small import SPECS, save_small

FAMILIES = tuple(SPECS)


def pixels(model: Model, **options: object) -> list[bytes]:
    settings: dict[str, object] = {"prompt": "a red apple", "seed": 3, "steps": 3, **options}
    return [image.tobytes() for image in model.generate(Request.model_validate(settings)).images]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_four_pictures_are_four_single_ones_in_any_order(pocket: Model, sampler: str) -> None:
    # One that chooses its own steps needs hundreds of them for random networks; a short range of levels needs fewer.
    options = {"spacing": "karras", "sigma_min": 1.0, "sigma_max": 4.0} if sampler == "dpm_adaptive" else {}
    together = pixels(pocket, sampler=sampler, count=4, seed=5, **options)
    alone = {seed: pixels(pocket, sampler=sampler, seed=seed, **options)[0] for seed in (7, 5, 8, 6)}
    assert together == [alone[seed] for seed in (5, 6, 7, 8)]
    assert len(set(together)) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_the_same_picture_twice_and_alone(small_model: Loader, family: str) -> None:
    model = small_model(family)
    first = pixels(model, count=2, sampler="dpmpp_2m_sde")
    assert pixels(model, count=2, sampler="dpmpp_2m_sde") == first
    assert pixels(model, seed=4, sampler="dpmpp_2m_sde") == first[1:]


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue car"},
        {"negative_prompt": "two green apples"},
        {"seed": 4},
        {"steps": 4},
        {"guidance_scale": 2.0},
        {"guidance_rescale": 0.5},
        {"guidance_interval": (0.0, 1.0)},
        {"sampler": "lcm"},
        {"sampler": "heun"},
        {"spacing": "exponential"},
        {"width": 48},
        {"height": 40},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_reaches_the_picture(small_model: Loader, family: str, change: dict[str, object]) -> None:
    model = small_model(family)
    assert pixels(model, **change) != pixels(model)


def test_eta_reaches_the_samplers_that_read_it(pocket: Model) -> None:
    assert pixels(pocket, sampler="ddim", eta=0.5) != pixels(pocket, sampler="ddim", eta=0.0)
    assert pixels(pocket, sampler="ddim", eta=0.0) == pixels(pocket, sampler="ddim")


def test_pictures_have_the_size_that_is_asked_for(small_model: Loader) -> None:
    result = small_model("sdxl").generate("", width=48, height=24, steps=1, seed=1)
    assert [image.size for image in result.images] == [(48, 24)]
    assert small_model("sdxl").generate("", steps=1).images[0].size == (32, 32)


def test_guidance_one_is_the_prompt_alone(pocket: Model) -> None:
    plain = pixels(pocket, guidance_scale=1.0)
    assert pixels(pocket, guidance_scale=1.0, negative_prompt="two green apples") == plain
    assert pixels(pocket, guidance_scale=3.0, guidance_interval=(1e9, 1e10)) == plain


def test_guidance_zero_is_the_negative_prompt_alone(pocket: Model) -> None:
    first = pocket.generate("a red apple", guidance_scale=0.0, negative_prompt="a blue car", seed=1, steps=3)
    other = pocket.generate("a blue car", guidance_scale=1.0, seed=1, steps=3)
    for ours, theirs in zip(first.images[0].tobytes(), other.images[0].tobytes(), strict=True):
        assert abs(ours - theirs) <= 1


def test_an_empty_prompt_works(pocket: Model) -> None:
    assert pixels(pocket, prompt="") != pixels(pocket)


def test_a_prompt_of_several_windows_works_and_its_end_matters(pocket: Model) -> None:
    long = "a red apple on a table and a blue car " * 5
    assert pixels(pocket, prompt=long + "green") != pixels(pocket, prompt=long + "blue")


@pytest.mark.parametrize("length", [20_000, 999_000, 1_048_576])
def test_a_prompt_that_is_far_too_long_is_refused_in_one_line(pocket: Model, length: int) -> None:
    with pytest.raises(InputError) as caught:
        pocket.generate("apple " * (length // 6), seed=1)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_steps_come_one_noise_level_at_a_time(pocket: Model) -> None:
    steps = list(pocket.steps("a red apple", seed=3, steps=4))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert {step.steps for step in steps} == {4}
    assert [step.last for step in steps] == [False, False, False, True]
    assert all(before.next_sigma == after.sigma for before, after in pairwise(steps))
    assert steps[-1].next_sigma == 0
    assert steps[0].latents.shape == steps[0].denoised.shape == (1, 4, 4, 4)
    assert torch.equal(steps[-1].latents, steps[-1].denoised)


def test_the_last_step_has_the_result_and_no_other(pocket: Model) -> None:
    steps = list(pocket.steps("a red apple", seed=3, steps=3))
    assert steps[-1].result is steps[-1].result
    assert steps[-1].result.images[0].tobytes() == pixels(pocket)[0]
    with pytest.raises(ValueError, match="step 1 of 3"):
        _ = steps[0].result


def test_a_preview_shows_what_the_network_sees(pocket: Model) -> None:
    steps = list(pocket.steps("a red apple", seed=3, steps=3))
    assert steps[0].preview().size == (32, 32)
    assert steps[-1].preview().tobytes() == steps[-1].result.images[0].tobytes()
    assert steps[0].preview().tobytes() != steps[-1].preview().tobytes()


def test_pictures_of_one_request_finish_one_after_the_other_on_the_cpu(pocket: Model) -> None:
    finished = [step.result for step in pocket.steps("a red apple", seed=3, steps=2, count=3) if step.last]
    assert [result.seeds for result in finished] == [[3], [4], [5]]
    joined = pocket.generate("a red apple", seed=3, steps=2, count=3)
    assert joined.seeds == [3, 4, 5]
    assert [image.tobytes() for image in joined.images] == [result.images[0].tobytes() for result in finished]
    assert joined.texts(1) == finished[1].texts(0)


def test_stopping_in_the_middle_leaves_nothing_behind(pocket: Model) -> None:
    whole = pixels(pocket, sampler="euler_ancestral")
    list(islice(pocket.steps("a red apple", seed=3, steps=3, sampler="euler_ancestral"), 2))
    assert pixels(pocket, sampler="euler_ancestral") == whole


def test_the_global_generator_is_neither_read_nor_moved(pocket: Model) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = pixels(pocket, sampler="ddpm")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert pixels(pocket, sampler="ddpm") == first


def test_gradients_and_inference_mode_outside_are_as_before(pocket: Model) -> None:
    steps = pocket.steps("a red apple", seed=3, steps=2)
    next(steps)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_finished_run_is_forgotten(pocket: Model) -> None:
    """Neither the model nor a reference circle keeps what a run has made."""
    gc.collect()
    gc.disable()
    try:
        steps = list(pocket.steps("a red apple", seed=3, steps=2))
        kept = [weakref.ref(step) for step in steps] + [weakref.ref(steps[0].job)]
        assert steps[-1].result.images
        del steps
        assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()


def test_wrong_options_are_refused_before_the_first_step(pocket: Model) -> None:
    with pytest.raises(InputError, match="steps is 0"):
        pocket.steps("a red apple", steps=0)


def test_options_change_a_request(pocket: Model) -> None:
    request = Request(prompt="a red apple", seed=3, steps=3)
    changed = pocket.generate(request, seed=4)
    assert changed.seeds == [4] and request.seed == 3
    assert changed.images[0].tobytes() == pixels(pocket, seed=4)[0]


def test_a_seed_counts_modulo_two_to_the_thirty_two(pocket: Model) -> None:
    """What the documentation of `Request.seed` says of PyTorch's generator."""
    assert pixels(pocket, seed=7 + 2**32) == pixels(pocket, seed=7)
    assert pixels(pocket, seed=2**63 - 1) == pixels(pocket, seed=2**32 - 1)


def test_no_seed_is_a_fresh_one(pocket: Model) -> None:
    seeds = {pocket.generate("a red apple", steps=1).seeds[0] for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_half_precision_draws_about_the_same_picture(
    small_model: Loader, tmp_path_factory: pytest.TempPathFactory, family: str, dtype: str
) -> None:
    half = load(save_small(tmp_path_factory.mktemp("half"), family), "cpu", dtype)
    step, exact, other = (
        list(model.steps("a red apple", seed=seed, steps=3, sampler="euler", guidance_scale=1))[-1]
        for model, seed in ((half, 3), (small_model(family), 3), (small_model(family), 4))
    )
    assert step.latents.dtype == torch.float32
    error, distance = ((entry.latents - exact.latents).norm() for entry in (step, other))
    assert 0 < float(error / distance) < (0.2 if dtype == "bfloat16" else 0.03)
    assert step.result.manifest()["dtype"] == dtype
    assert step.result.notes == {}


def damaged(model: Model, name: str) -> Model:
    with torch.no_grad():
        getattr(model.parts, name).get_parameter("conv_in.bias" if name == "unet" else "post_quant_conv.bias").fill_(
            float("nan")
        )
    return model


def test_a_network_that_gives_nan_is_an_error_and_no_black_picture(tiny_model_folder: Path) -> None:
    model = damaged(load(tiny_model_folder, "cpu"), "unet")
    with pytest.raises(NonFiniteError, match="the U-Net gave NaN or infinity"):
        model.generate("a red apple", steps=1)


def test_an_autoencoder_that_gives_nan_is_an_error(tiny_model_folder: Path) -> None:
    model = damaged(load(tiny_model_folder, "cpu"), "autoencoder")
    with pytest.raises(NonFiniteError, match="the autoencoder gave NaN or infinity"):
        model.generate("a red apple", steps=1)


def test_an_autoencoder_that_overflows_in_half_precision_decodes_in_float32(tiny_model_folder: Path) -> None:
    """Latents scaled past 65504, and weights that undo it: nothing but the room for large numbers changes."""

    def overflowing(dtype: str) -> Model:
        parts = load(tiny_model_folder, "cpu", dtype).parts
        with torch.no_grad():
            parts.autoencoder.post_quant_conv.weight.mul_(2.0**-10)
            parts.autoencoder.get_parameter("post_quant_conv.bias").zero_()
            parts.autoencoder.decoder.conv_in.weight.mul_(2.0**-8)
        return Model(replace(parts, spec=replace(parts.spec, latent_scale=2.0**-18)))

    half = overflowing("float16").generate("a red apple", seed=3, steps=2, count=2)
    note = "the autoencoder overflowed in float16 at its input and decoded in float32"
    assert half.notes == {3: (note,), 4: (note,)}
    assert half.manifest(1)["notes"] == [note]
    exact = overflowing("float32").generate("a red apple", seed=3, steps=2)
    assert exact.notes == {}
    assert len(set(exact.images[0].tobytes())) > 100
    difference = [abs(a - b) for a, b in zip(half.images[0].tobytes(), exact.images[0].tobytes(), strict=True)]
    assert sum(difference) / len(difference) < 2


def test_pictures_are_batched_on_other_devices_by_their_size(small_model: Loader) -> None:
    class OnGpu:
        device = torch.device("cuda")
        spec = small_model("sd1").parts.spec

    parts = small_model("sd1").parts
    assert batch_size(parts, Request(prompt="", width=64, height=64)) == 1
    sizes = [batch_size(OnGpu(), Request(prompt="", width=side, height=side)) for side in (512, 1024, 4096)]  # type: ignore[arg-type]
    assert sizes == [32, 8, 1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_batches_as_on_other_devices_draw_the_same_pictures_to_rounding(
    small_model: Loader, monkeypatch: pytest.MonkeyPatch, family: str, guidance: float
) -> None:
    """The batched way of other devices, run on the CPU: three pictures at once, then the fourth."""
    request = Request(
        prompt="a red apple", seed=3, steps=3, count=4, sampler="euler_ancestral", guidance_scale=guidance
    )
    model = small_model(family)
    alone = [step for step in model.steps(request) if step.last]
    monkeypatch.setattr(job, "batch_size", lambda parts, request: 3)
    batches = [step for step in model.steps(request) if step.last]
    assert [list(step.seeds) for step in batches] == [[3, 4, 5], [6]]
    assert [step.result.seeds for step in batches] == [[3, 4, 5], [6]]
    ours, theirs = (torch.cat([step.latents for step in steps]) for steps in (batches, alone))
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= 1e-3
    assert batches[0].preview(2).tobytes() == batches[0].result.images[2].tobytes()


def test_steps_can_be_told_apart_by_their_seeds(pocket: Model) -> None:
    steps: list[GenerationStep] = list(pocket.steps("a red apple", seed=3, steps=2, count=2))
    assert [(list(step.seeds), step.index) for step in steps] == [([3], 0), ([3], 1), ([4], 0), ([4], 1)]


RARE: dict[str, dict[str, object]] = {
    "s_churn": {"sampler": "euler", "s_churn": 2.0},
    "s_tmin": {"sampler": "euler", "s_churn": 2.0, "s_tmin": 1.0},
    "s_tmax": {"sampler": "euler", "s_churn": 2.0, "s_tmax": 1.0},
    "s_noise": {"sampler": "euler_ancestral", "s_noise": 0.5},
    "rho": {"spacing": "karras", "rho": 3.0},
    "sigma_min": {"spacing": "karras", "sigma_min": 0.3},
    "sigma_max": {"spacing": "karras", "sigma_max": 5.0},
}


@pytest.mark.parametrize("name", RARE)
def test_a_rare_setting_changes_the_picture_and_is_told(small_model: Loader, name: str) -> None:
    model, options = small_model("sd1"), {"steps": 4, "seed": 3, **RARE[name]}
    without = {key: value for key, value in options.items() if key != name}
    result = model.generate("a red apple", **options)
    assert result.images[0].tobytes() != model.generate("a red apple", **without).images[0].tobytes()
    read = from_infotext(result.infotext())
    assert read.fields[name] == options[name]
    assert read.unread == []


@pytest.mark.parametrize("name", ["s_churn", "s_tmin", "s_tmax", "s_noise", "rho", "sigma_min"])
def test_a_rare_setting_is_refused_where_nothing_reads_it(pocket: Model, name: str) -> None:
    with pytest.raises(InputError, match=f"^{name} is .*leave it out, or use "):
        pocket.generate("a", steps=2, sampler="dpmpp_2m", spacing="leading", **{name: 0.5})


def test_names_of_other_programs_choose_sampler_and_spacing(small_model: Loader) -> None:
    def settings(family: str = "sd1", **options: object) -> tuple[str | None, str | None]:
        request = Request(prompt="", **options).resolved(small_model(family).spec)  # type: ignore[arg-type]
        return request.sampler, request.spacing

    assert settings(sampler="DPM++ 2M SDE Karras") == ("dpmpp_2m_sde", "karras")
    assert settings(sampler="DPM++ 2M SDE Karras", spacing="exponential") == ("dpmpp_2m_sde", "exponential")
    assert settings(sampler="Euler a", spacing="Automatic") == ("euler_ancestral", "uniform")
    assert settings(sampler="euler", spacing="Align Your Steps") == ("euler", "align_your_steps")
    assert settings("sdxl", sampler="euler", spacing="Align Your Steps") == ("euler", "align_your_steps_sdxl")
