"""Requests: ranges, one line for each mistake, JSON and back, and what a model fills in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rein.diffusion.samplers import SAMPLERS
from rein.diffusion.spacing import SPACINGS
from rein.errors import InputError
from rein.image_files import read_image
from rein.nn.specs import POCKET, SD15, SDXL
from rein.pipeline.request import Request

NAN, INFINITY = float("nan"), float("inf")
WHOLE = ["1", 1.0, 1.5, True, NAN, INFINITY, [1]]
REAL = ["1", True, NAN, INFINITY, -INFINITY, [1.0]]

WRONG: dict[str, list[Any]] = {
    "prompt": [None, 5, b"apple", ["apple"], "a" * 1_000_001],
    "negative_prompt": [None, 5, "a" * 1_000_001],
    "width": [0, 15, 4097, -8, "128", 128.0, True, NAN],
    "height": [0, 15, 4097, -8, "128", 128.0, True, NAN],
    "steps": [0, 1001, -1, *WHOLE],
    "guidance_scale": [-0.1, 100.1, *REAL],
    "guidance_rescale": [-0.1, 1.1, None, *REAL],
    "guidance_interval": [(1.0,), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, INFINITY), ("0", 1.0), 3.0, "01"],
    "sampler": [5, "eulr", ""],
    "spacing": [5, "karas", ""],
    "eta": [-0.1, 1.1, *REAL],
    "s_churn": [-0.1, 1000.1, None, *REAL],
    "s_tmin": [-0.1, None, *REAL],
    "s_tmax": [-0.1, *REAL],
    "s_noise": [-0.1, 2.1, None, *REAL],
    "rho": [0.0, 100.1, *REAL],
    "sigma_min": [0.0, 2.0**20 + 1, *REAL],
    "sigma_max": [0.0, 2.0**20 + 1, *REAL],
    "seed": [-1, 2**63, "7", 7.0, True, NAN],
    "count": [0, 1001, None, *WHOLE],
    "dialect": [5, "a111", ""],
    "emphasis": [5, "strong", ""],
    "clip_skip": [0, 33, *WHOLE],
    "styles": ["Vivid", [5], ["x"] * 33, None],
    "styles_file": [5, ["a.csv"]],
    "wildcards": [5, ["folder"]],
    "dynamic": [None, 1, "yes"],
    "original_size": [(1,), (0, 8), (8, 65537), (8, 8, 8), "8x8", (8.0, 8), (True, 8)],
    "crop": [(1,), (-1, 0), (0, 65537), None, "0"],
    "target_size": [(1,), (0, 8), (8, 65537), (8.5, 8)],
    "aesthetic_score": [-0.1, 10.1, *REAL],
    "negative_aesthetic_score": [-0.1, 10.1, *REAL],
    "loras": [
        None,
        5,
        "a.pt",
        [5],
        [("a.pt", "1")],
        [("a.pt", 11.0)],
        [("a.pt", NAN)],
        [""],
        ["a"] * 65,
        [{"file": 1}],
    ],
    "lora_folder": [5, "", "a\0b", ["folder"]],
    "embeddings": [None, 5, "a.pt", [5], [""], ["a"] * 65],
    "embedding_folder": [5, "", "a\0b", ["folder"]],
    "noise_source": [None, 5, "gpu", "CPU"],
    "variation_seed": [-1, 2**63, "7", 7.0, True],
    "variation_strength": [-0.1, 1.1, None, *REAL],
    "seed_resize_from": [(64,), (8, 64), (64, 4097), "64x64", (64.0, 64)],
    "init_image": [5, "", "a\0b", ["a.png"], b"a"],
    "strength": [-0.1, 1.1, *REAL],
    "resize": [None, "zoom", 1],
    "loops": [0, 101, None, *WHOLE],
    "loop_strength": [0.05, 2.1, None, *REAL],
    "mask": [5, "", "a\0b", ["a.png"]],
    "mask_invert": [None, 1, "yes"],
    "mask_blur": [-0.1, 256.1, None, *REAL],
    "masked_content": [None, "noisy", 1],
    "only_masked": [None, 1, "yes"],
    "mask_padding": [-1, 1025, None, *WHOLE],
    "soft_mask": [None, 1, "yes"],
    "outpaint": [(0, 0, 0, 0), (8, 8), (-8, 0, 0, 0), (0, 0, 0, 4097), 64, "left=8", (8.5, 0, 0, 0)],
    "depth_image": [5, "", "a\0b"],
    "depth_model": [5, "", "a\0b"],
    "image_guidance_scale": [-0.1, 100.1, *REAL],
    "hires_scale": [1.0, 8.1, *REAL],
    "hires_upscaler": [None, 5, "", "a\0b"],
    "hires_steps": [0, 1001, "1", 1.0, True, NAN],
    "hires_strength": [-0.1, 1.1, None, *REAL],
    "seamless": [None, "xy", 1],
    "tile": [63, 4097, "64", 64.0, True],
    "refiner": [5, "", "a\0b"],
    "refiner_switch": [-0.1, 1.1, None, *REAL],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_in_one_line_with_its_field(field: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        Request.model_validate({"prompt": "apple", field: value})
    message = str(caught.value)
    assert field in message
    assert "\n" not in message and len(message) < 300
    assert "pydantic" not in message and "Input should" not in message


def test_every_field_has_wrong_values_above() -> None:
    assert set(WRONG) == set(Request.model_fields)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "a", "steps": 0}, "steps is 0: it must be a whole number from 1 to 1000"),
        ({"prompt": "a", "guidance_scale": NAN}, "guidance_scale is nan: it must be a number from 0 to 100"),
        ({"prompt": "a", "seed": "x"}, "seed is 'x': it must be a whole number from 0 to 9223372036854775807"),
        ({"prompt": "a", "step": 3}, "unknown option 'step': did you mean 'steps'"),
        ({"prompt": "a", "sampler": "eulr"}, "unknown sampler 'eulr': did you mean 'euler'? Known: "),
        ({"prompt": "a", "spacing": "karas"}, "unknown spacing 'karas': did you mean 'karras'? Known: "),
        ({}, "prompt is missing: it must be a text"),
        ("apple", "a request must be an object of named fields, not 'apple'"),
        (
            {"prompt": "a", "seed": 2**63 - 1, "count": 2},
            "seed is 9223372036854775807: with 2 pictures it may be at most",
        ),
    ],
)
def test_what_the_message_says(settings: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.model_validate(settings)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 16, "height": 4096, "steps": 1000, "guidance_scale": 0, "seed": 0, "count": 1000},
        {"width": 4096, "steps": 1, "guidance_scale": 100, "guidance_rescale": 1, "eta": 1, "seed": 2**63 - 1},
        {"guidance_interval": [0, 5], "guidance_rescale": 0.0},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(settings: dict[str, Any]) -> None:
    request = Request.model_validate({"prompt": "", **settings})
    for field, value in settings.items():
        assert getattr(request, field) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.5}, "strength is 0.5: it means nothing without init_image"),
        ({"mask": "m.png"}, "mask is 'm.png': it means nothing without init_image"),
        ({"init_image": "a.png", "mask_blur": 8.0}, "mask_blur is 8.0: it means nothing without mask or outpaint"),
        ({"hires_steps": 5}, "hires_steps is 5: it means nothing without hires_scale"),
        (
            {"init_image": "a.png", "outpaint": (8, 0, 0, 0), "mask": "m.png"},
            "mask is 'm.png': it does not go with",
        ),
        (
            {"init_image": "a.png", "outpaint": (8, 0, 0, 0), "seamless": "x"},
            "outpaint is (8, 0, 0, 0): it does not go with seamless",
        ),
        ({"init_image": "a.png", "hires_scale": 2.0}, "init_image is 'a.png': it does not go with hires_scale"),
    ],
)
def test_fields_that_need_or_exclude_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.model_validate({"prompt": "a", **settings})
    assert str(caught.value).startswith(message)


def test_a_picture_in_memory_travels_in_the_request() -> None:
    picture = Image.new("RGB", (24, 16), "red")
    request = Request.model_validate({"prompt": "a", "init_image": picture, "strength": 0.5})
    again = Request.from_json(request.to_json())
    assert again == request and again.init_image is not None
    assert read_image(again.init_image).tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("given", "asked", "sides"),
    [
        ((512, 768), {}, (512, 768)),
        ((515, 765), {}, (512, 768)),
        ((2000, 1000), {}, (728, 360)),
        ((100, 100), {}, (512, 512)),
        ((600, 300), {"width": 512}, (512, 256)),
        ((600, 300), {"height": 512}, (1024, 512)),
        ((600, 300), {"width": 64, "height": 128}, (64, 128)),
        ((600, 300), {"mask": "m.png", "only_masked": True}, (512, 512)),
        ((601, 300), {"outpaint": (8, 0, 1, 3)}, (610, 303)),
    ],
)
def test_the_sides_follow_the_picture(given: tuple[int, int], asked: dict[str, Any], sides: tuple[int, int]) -> None:
    picture = Image.new("RGB", given)
    resolved = Request.model_validate({"prompt": "a", "init_image": picture, **asked}).resolved(SD15)
    assert (resolved.width, resolved.height) == sides
    assert resolved.strength == (1.0 if "outpaint" in asked else 0.75) and resolved.resolved(SD15) == resolved


@pytest.mark.parametrize(("width", "message"), [(64, "width is 64: with this outpaint it is 40"), (40, "")])
def test_the_size_of_an_outpainted_picture_is_given(width: int, message: str) -> None:
    picture = {"init_image": Image.new("RGB", (32, 32)), "outpaint": (8, 0, 0, 0), "width": width}
    asked = Request.model_validate({"prompt": "a", **picture})
    if message:
        with pytest.raises(InputError, match=message):
            asked.resolved(SD15)
    else:
        assert asked.resolved(SD15).height == 32


@pytest.mark.parametrize("settings", [{"depth_image": "d.png"}, {"image_guidance_scale": 2.0, "init_image": "a.png"}])
def test_what_a_model_is_not_told_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is not told it"):
        Request.model_validate({"prompt": "a", **settings}).resolved(SD15)


def test_a_request_cannot_be_changed_but_replaced() -> None:
    request = Request(prompt="apple")
    with pytest.raises(Exception, match="frozen"):
        request.steps = 3
    assert request.replace(steps=3).steps == 3 and request.steps is None
    with pytest.raises(InputError, match="steps is 0"):
        request.replace(steps=0)
    with pytest.raises(InputError, match="unknown option"):
        request.replace(stepz=1)


requests = st.builds(
    Request,
    prompt=st.text(max_size=40),
    negative_prompt=st.text(max_size=40),
    width=st.none() | st.integers(16, 4096),
    height=st.none() | st.integers(16, 4096),
    steps=st.integers(1, 1000),
    guidance_scale=st.none() | st.floats(0, 100),
    guidance_rescale=st.floats(0, 1),
    guidance_interval=st.none() | st.tuples(st.floats(0, 5), st.floats(6, 1e9)),
    sampler=st.none() | st.sampled_from(sorted(SAMPLERS)),
    spacing=st.none() | st.sampled_from(sorted(SPACINGS)),
    eta=st.none() | st.floats(0, 1),
    seed=st.none() | st.integers(0, 2**62),
    count=st.integers(1, 1000),
    dialect=st.none() | st.sampled_from(["rein", "a1111", "A1111"]),
    emphasis=st.none() | st.sampled_from(["original", "No norm", "ignore", "none"]),
    clip_skip=st.integers(1, 32),
    styles=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    styles_file=st.none() | st.text(max_size=8),
    wildcards=st.none() | st.text(max_size=8),
    dynamic=st.booleans(),
    original_size=st.none() | st.tuples(st.integers(1, 65536), st.integers(1, 65536)),
    crop=st.tuples(st.integers(0, 65536), st.integers(0, 65536)),
    aesthetic_score=st.none() | st.floats(0, 10),
    loras=st.lists(
        st.tuples(st.text("ab.:/ ", min_size=1), st.floats(-10, 10), st.none() | st.floats(-10, 10)), max_size=3
    ).map(tuple),
    embeddings=st.lists(st.text("ab.:/ ", min_size=1), max_size=3).map(tuple),
    lora_folder=st.none() | st.text("ab.:/ ", min_size=1),
)


@given(requests)
def test_json_and_back_is_the_same_request(request: Request) -> None:
    assert Request.from_json(request.to_json()) == request
    assert Request.model_validate(json.loads(request.to_json())) == request


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"prompt": NaN}', '{"prompt": "a", "steps": 1e400}', "[" * 5000]
)
def test_broken_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.from_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("prompt", ["a\udcffb", "\ud83d\ude00", "\ud83d", "naïve 猫 🐈", "two\nlines"])
def test_any_text_is_a_prompt_and_becomes_well_formed(prompt: str) -> None:
    request = Request(prompt=prompt, negative_prompt=prompt)
    assert request.prompt == prompt.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert Request.from_json(request.to_json()) == request


def test_a_model_fills_in_what_is_left_open() -> None:
    resolved = Request(prompt="apple").resolved(POCKET)
    assert (resolved.width, resolved.height) == (128, 128)
    assert (resolved.sampler, resolved.spacing, resolved.guidance_scale) == ("euler", "linspace", 4.0)
    assert resolved.seed is not None
    assert resolved.resolved(POCKET) == resolved
    assert Request(prompt="apple", seed=7).resolved(SDXL).width == 1024


def test_what_is_given_is_kept_and_labels_become_names() -> None:
    request = Request(
        prompt="a", width=64, height=32, guidance_scale=0, seed=0, sampler="Euler a", spacing="Karras", eta=0
    )
    resolved = request.resolved(SD15)
    assert (resolved.width, resolved.height, resolved.guidance_scale, resolved.seed) == (64, 32, 0, 0)
    assert (resolved.sampler, resolved.spacing, resolved.eta) == ("euler_ancestral", "karras", 0)


def test_steps_are_the_models_own_unless_asked_for() -> None:
    request = Request(prompt="a")
    assert request.resolved(POCKET).step_count == 20
    assert request.resolved(replace(POCKET, default_steps=4)).step_count == 4
    assert request.replace(steps=9).resolved(replace(POCKET, default_steps=4)).step_count == 9
    with pytest.raises(ValueError, match="not resolved"):
        assert request.step_count


def test_a_sampler_brings_its_own_spacing_where_levels_are_discrete() -> None:
    assert Request(prompt="a", sampler="ddim").resolved(SD15).spacing == "leading"
    assert Request(prompt="a", sampler="ddim").resolved(POCKET).spacing == "linspace"
    tuned = replace(SD15, default_sampler="ddim", default_spacing="trailing")
    assert Request(prompt="a", sampler="DDIM").resolved(tuned).spacing == "trailing"


@pytest.mark.parametrize(
    ("side", "choices"), [(130, "128 or 136"), (17, "16 or 24"), (4095, "4088 or 4096"), (127, "120 or 128")]
)
@pytest.mark.parametrize("field", ["width", "height"])
def test_a_size_that_does_not_fit_names_the_nearest(field: str, side: int, choices: str) -> None:
    request = Request.model_validate({"prompt": "a", field: side})
    with pytest.raises(InputError) as caught:
        request.resolved(POCKET)
    assert str(caught.value) == f"{field} is {side}: model 'pocket' needs a multiple of 8 pixels; use {choices}"


def test_eta_for_a_sampler_without_it_is_refused() -> None:
    with pytest.raises(InputError, match="eta is 0.5: sampler 'euler' has none; leave it out, or use ddim, euler_anc"):
        Request(prompt="a", sampler="euler", eta=0.5).resolved(POCKET)
