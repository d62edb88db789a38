"""Work that begins with a picture, on small models: what each option does, and what it leaves alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rein import explain
from rein.errors import DamagedFileError, InputError
from rein.images import pil_to_tensor
from rein.pipeline.encode import encode_picture
from rein.pipeline.job import prepare
from rein.pipeline.model import Model, load
from rein.pipeline.request import Request
from tests.pipeline.small import save_small

SIDE = 32


@pytest.fixture
def picture() -> Image.Image:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return Image.fromarray(np.stack([rows * 8, columns * 8, (rows + columns) * 4], axis=-1).astype(np.uint8))


@pytest.fixture
def mask() -> Image.Image:
    levels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    levels[8:24, 8:24] = 255
    return Image.fromarray(levels)


def drawn(model: Model, **options: Any) -> np.ndarray[Any, Any]:
    settings = {"seed": 3, "steps": 4, "guidance_scale": 2.0, **options}
    return np.asarray(model.generate("a red apple", **settings).images[0])


def differs(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.shape != other.shape or bool(np.abs(one.astype(int) - other).max() > 2)


def test_strength_says_how_many_steps_are_gone(pocket: Model, picture: Image.Image) -> None:
    request = Request.model_validate({"prompt": "a", "init_image": picture, "steps": 10, "seed": 1})
    counts = {
        s: len(prepare(pocket.parts, request.replace(strength=s)).sigmas) - 1 for s in (0.0, 0.01, 0.3, 0.75, 1.0)
    }
    assert counts == {0.0: 0, 0.01: 1, 0.3: 3, 0.75: 7, 1.0: 10}


def test_strength_0_is_the_picture_through_the_autoencoder(pocket: Model, picture: Image.Image) -> None:
    spec = pocket.spec
    latents = encode_picture(pocket.parts, picture)
    decoded = pocket.parts.autoencoder.decode(latents / spec.latent_scale + spec.latent_shift)[0]
    expected = (decoded.clamp(-1, 1) + 1) * 127.5
    made = drawn(pocket, init_image=picture, strength=0.0)
    assert np.abs(made - expected.permute(1, 2, 0).numpy()).max() <= 0.51


def test_a_picture_in_a_file_and_in_memory_are_the_same_start(
    pocket: Model, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    one = drawn(pocket, init_image=picture, strength=0.5)
    assert not differs(one, drawn(pocket, init_image=tmp_path / "a.png", strength=0.5))
    assert differs(one, drawn(pocket, strength=None)) and differs(one, drawn(pocket, init_image=picture, strength=0.9))


@pytest.mark.parametrize("resize", ["stretch", "crop", "fill", "latent"])
def test_resize_modes(pocket: Model, picture: Image.Image, resize: str) -> None:
    made = drawn(pocket, init_image=picture, width=48, height=32, strength=0.0, resize=resize)
    assert made.shape == (32, 48, 3)
    others = [m for m in ("stretch", "crop", "fill", "latent") if m != resize]
    assert all(
        differs(made, drawn(pocket, init_image=picture, width=48, height=32, strength=0.0, resize=m)) for m in others
    )


@pytest.mark.parametrize("content", ["original", "fill", "noise", "nothing"])
@pytest.mark.parametrize("family", ["pocket", "sd1"])
def test_outside_the_mask_the_picture_stays_to_the_bit(
    small_model: Callable[[str], Model], picture: Image.Image, mask: Image.Image, family: str, content: str
) -> None:
    options = {"init_image": picture, "mask": mask, "strength": 0.75, "mask_blur": 1.0, "masked_content": content}
    made = drawn(small_model(family), **options)
    source, far = np.asarray(picture), np.ones((SIDE, SIDE), dtype=bool)
    far[5:27, 5:27] = False
    assert np.array_equal(made[far], source[far])
    assert differs(made[8:24, 8:24], source[8:24, 8:24])
    if content != "original":
        assert differs(made, drawn(small_model(family), **{**options, "masked_content": "original"}))


def test_an_inverted_mask_paints_the_rest(pocket: Model, picture: Image.Image, mask: Image.Image) -> None:
    made = drawn(pocket, init_image=picture, mask=mask, mask_invert=True, mask_blur=0.0)
    assert np.array_equal(made[8:24, 8:24], np.asarray(picture)[8:24, 8:24])
    assert differs(made[:8], np.asarray(picture)[:8])


def test_only_the_masked_part_is_drawn_at_full_size(pocket: Model, mask: Image.Image) -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8))
    options = {"init_image": large, "mask": mask, "only_masked": True, "mask_padding": 4, "mask_blur": 0.0}
    made = drawn(pocket, **options)
    assert made.shape == (90, 100, 3)
    painted = np.zeros((90, 100), dtype=bool)
    painted[20:70, 23:77] = True
    assert np.array_equal(made[~painted], np.asarray(large)[~painted])
    assert differs(made[30:60, 30:70], np.asarray(large)[30:60, 30:70])
    assert differs(made, drawn(pocket, **{**options, "mask_padding": 20}))


def test_a_soft_mask_paints_grey_parts_less(pocket: Model, picture: Image.Image) -> None:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, SIDE, dtype=np.uint8), (SIDE, 1)))
    options = {"init_image": picture, "mask": ramp, "strength": 1.0, "mask_blur": 0.0, "steps": 8}
    soft, hard = (drawn(pocket, soft_mask=value, **options) for value in (True, False))
    assert differs(soft, hard)
    assert np.array_equal(soft[:, 0], np.asarray(picture)[:, 0])


@pytest.mark.parametrize("black", [True, False])
def test_an_empty_mask_is_refused_and_a_full_one_is_not(pocket: Model, picture: Image.Image, black: bool) -> None:
    plain = Image.new("L", (10, 20), 0 if black else 255)
    if black:
        with pytest.raises(InputError, match="mask has no white part, so there is nothing to paint"):
            drawn(pocket, init_image=picture, mask=plain)
    else:
        assert differs(drawn(pocket, init_image=picture, mask=plain), np.asarray(picture))


def test_outpainting_keeps_the_picture_and_has_no_bare_canvas(pocket: Model, picture: Image.Image) -> None:
    made = drawn(pocket, init_image=picture, outpaint=(24, 0, 5, 16), mask_blur=1.0)
    assert made.shape == (48, 61, 3)
    assert np.array_equal(made[:25, 31:49], np.asarray(picture)[:25, 7:25])
    steps = list(pocket.steps("a", seed=3, steps=2, init_image=picture, outpaint=(24, 0, 5, 16)))
    assert [step.last for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [step.index for step in steps] == list(range(len(steps))) and {step.steps for step in steps} == {len(steps)}


def test_outpainting_in_one_window_tells_the_whole_request(pocket: Model, picture: Image.Image) -> None:
    result = pocket.generate("a", seed=3, steps=2, init_image=picture, outpaint=(8, 0, 0, 0))
    assert result.images[0].size == (40, 32) and result.request.outpaint == (8, 0, 0, 0)
    again = pocket.generate(Request.from_json(result.single(0).to_json()))
    assert again.images[0].tobytes() == result.images[0].tobytes()


def test_loops_go_on_from_each_result(pocket: Model, picture: Image.Image) -> None:
    options = {"init_image": picture, "strength": 0.5}
    first = drawn(pocket, **options)
    second = drawn(pocket, init_image=Image.fromarray(first), strength=0.25, seed=4)
    assert np.array_equal(second, drawn(pocket, loops=2, loop_strength=0.5, **options))


@pytest.mark.parametrize("upscaler", ["lanczos", "latent", "nearest"])
def test_a_larger_picture_over_a_small_one(pocket: Model, upscaler: str) -> None:
    made = drawn(pocket, hires_scale=1.5, hires_upscaler=upscaler, hires_strength=0.5, hires_steps=2)
    assert made.shape == (48, 48, 3)
    if upscaler != "latent":
        small = Image.fromarray(drawn(pocket))
        ways = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}
        start = small.resize((48, 48), ways[upscaler])
        assert np.array_equal(made, drawn(pocket, init_image=start, strength=0.5, steps=2))


def test_passes_draw_each_picture_as_alone(pocket: Model) -> None:
    both = pocket.generate("a {red|green} apple", seed=5, count=2, steps=2, hires_scale=2.0)
    assert both.seeds == [5, 6]
    for seed, image in zip(both.seeds, both.images, strict=True):
        alone = pocket.generate("a {red|green} apple", seed=seed, steps=2, hires_scale=2.0).images[0]
        assert alone.tobytes() == image.tobytes()


def test_a_refiner_draws_the_last_steps(small_model: Callable[[str], Model], tmp_path: Path) -> None:
    model, other = small_model("sd1"), save_small(tmp_path / "other", "sd1", seed=9)
    plain = drawn(model)
    assert np.array_equal(plain, drawn(model, refiner=other, refiner_switch=1.0))
    halfway = drawn(model, refiner=other, refiner_switch=0.5)
    assert differs(plain, halfway) and differs(halfway, drawn(model, refiner=other, refiner_switch=0.25))
    request = Request(prompt="a red apple", seed=3, steps=4)
    *_, alone = load(other, "cpu", "float32").steps(request)
    *_, all_of_it = model.steps(request, refiner=other, refiner_switch=0.0)
    assert torch.equal(alone.latents, all_of_it.latents)


def test_a_refiner_of_another_kind_is_refused(small_model: Callable[[str], Model], tmp_path: Path) -> None:
    flow = save_small(tmp_path / "flow", "pocket")
    with pytest.raises(InputError, match="refiner .*: "):
        drawn(small_model("sd1"), refiner=flow)
    with pytest.raises(InputError, match="unknown model"):
        drawn(small_model("sd1"), refiner=tmp_path / "none")


@pytest.mark.parametrize("name", ["none.png", "text.png", "cut.png"])
def test_a_picture_that_cannot_be_read_is_refused(pocket: Model, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.png").write_text("hello")
    Image.effect_noise((40, 40), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    with pytest.raises((InputError, DamagedFileError), match=name):
        drawn(pocket, init_image=tmp_path / name)


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16", "CMYK", "L", "1", "LA"])
def test_pictures_of_all_kinds_are_starts(pocket: Model, tmp_path: Path, mode: str) -> None:
    name = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (SIDE, SIDE), 1).save(name)
    assert drawn(pocket, init_image=name, strength=0.5).shape == (SIDE, SIDE, 3)


def test_a_turned_photo_is_held_upright(pocket: Model, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 32)).save(tmp_path / "a.jpg", exif=exif)
    assert drawn(pocket, init_image=tmp_path / "a.jpg", strength=0.5).shape == (48, 32, 3)


def test_batches_and_seeds_hold_for_pictures_too(pocket: Model, picture: Image.Image, mask: Image.Image) -> None:
    options = {"init_image": picture, "mask": mask, "steps": 3, "sampler": "euler_ancestral"}
    batch = pocket.generate("a", seed=1, count=2, **options)
    assert batch.images[1].tobytes() == pocket.generate("a", seed=2, **options).images[0].tobytes()
    again = Request.from_json(batch.single(1).to_json())
    assert pocket.generate(again).images[0].tobytes() == batch.images[1].tobytes()
    assert pil_to_tensor(batch.images[0]).shape == (3, SIDE, SIDE)


def test_the_record_tells_which_pictures_were_given(
    pocket: Model, picture: Image.Image, mask: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    result = pocket.generate("a", seed=1, steps=2, init_image=tmp_path / "a.png", mask=mask)
    digests = result.manifest()["pictures"]
    assert digests["init_image"] == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert set(digests) == {"init_image", "mask"} and "pictures" not in pocket.generate("a", steps=1).manifest()


def test_a_start_that_goes_away_meanwhile_costs_no_picture(pocket: Model, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    steps = pocket.steps("a", seed=1, steps=2, strength=1.0, init_image=tmp_path / "a.png")
    next(steps)
    (tmp_path / "a.png").unlink()
    *_, last = steps
    assert set(last.result.manifest()["pictures"]) == {"init_image"} and last.result.save(tmp_path / "out.png")


def test_the_record_tells_of_the_start_as_it_was_read(pocket: Model, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    for options in ({}, {"loops": 2}):
        steps = pocket.steps("a", seed=1, steps=4, init_image=tmp_path / "a.png", **options)
        next(steps)
        picture.rotate(90).save(tmp_path / "a.png")
        *_, last = steps
        assert last.result.manifest()["pictures"] == {"init_image": digest}
        picture.save(tmp_path / "a.png")


@pytest.mark.parametrize("options", [{"loops": 2}, {"outpaint": (8, 0, 0, 0)}, {"strength": 0.0}])
def test_what_is_not_one_pass_is_not_explained(pocket: Model, picture: Image.Image, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="explained"):
        explain("a", model=pocket, init_image=picture, **options)


def test_a_picture_from_a_picture_is_explained(pocket: Model, picture: Image.Image) -> None:
    explanation = explain("a red apple", model=pocket, init_image=picture, strength=0.5, steps=4, seed=2)
    records = list(explanation)
    made = pocket.generate("a red apple", init_image=picture, strength=0.5, steps=4, seed=2).images[0]
    assert len(records) == 2 and explanation.result.images[0].tobytes() == made.tobytes()
