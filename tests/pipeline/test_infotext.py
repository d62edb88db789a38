"""Infotext, read back by the rules of AUTOMATIC1111's reader, and the manifest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rein.nn.specs import POCKET, SD15
from rein.pipeline.infotext import Provenance, infotext, manifest, quote
from rein.pipeline.infotext_reader import from_infotext
from rein.pipeline.request import Request
from rein.version import __version__

MADE_BY = Provenance("pocket", "0123456789abcdef" * 4, "cpu", "float32", "2.13.0")


def text_of(provenance: Provenance = MADE_BY, **options: Any) -> str:
    settings = {"prompt": "a red apple", "seed": 7, "width": 128, "height": 128, **options}
    return infotext(Request.model_validate(settings).resolved(POCKET), provenance)


def read(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and settings, as the web UI takes them apart: the last line is `key: value` pairs."""
    *lines, last = text.strip().split("\n")
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    settings = {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}
    prompt: list[str] = []
    negative: list[str] = []
    target = prompt
    for line in lines:
        if line.startswith("Negative prompt:"):
            target, line = negative, line.removeprefix("Negative prompt:").strip()
        target.append(line)
    return "\n".join(prompt), "\n".join(negative), settings


def test_it_reads_as_that_program_writes_it() -> None:
    assert text_of(negative_prompt="blue") == (
        "a red apple\n"
        "Negative prompt: blue\n"
        "Steps: 20, Sampler: Euler, Schedule type: Linspace, CFG scale: 4, Seed: 7, Size: 128x128, "
        f"Model hash: 0123456789, Model: pocket, RNG: CPU, Version: rein {__version__}"
    )


def test_no_negative_prompt_has_no_line_and_no_prompt_leaves_the_settings() -> None:
    assert text_of().split("\n")[1].startswith("Steps: 20")
    assert text_of(prompt="").startswith("Steps: 20")
    assert text_of(prompt="", negative_prompt="blue").startswith("Negative prompt: blue\nSteps: 20")


def test_rarer_options_are_told_where_they_are_used() -> None:
    options: dict[str, Any] = {
        "sampler": "Euler a",
        "eta": 0.25,
        "guidance_rescale": 0.7,
        "guidance_interval": (0.5, 12.0),
    }
    _, _, settings = read(text_of(spacing="karras", guidance_scale=4.5, steps=31, **options))
    assert settings["Sampler"] == "Euler a" and settings["Schedule type"] == "Karras"
    assert settings["CFG scale"] == "4.5" and settings["Steps"] == "31"
    assert settings["Eta"] == "0.25" and settings["Guidance rescale"] == "0.7"
    assert settings["Guidance interval"] == "0.5 to 12"
    assert "Eta" not in text_of() and "Guidance" not in text_of()


def test_variations_and_sizes_are_told_as_that_program_does() -> None:
    options: dict[str, Any] = {
        "variation_seed": 99,
        "variation_strength": 0.25,
        "seed_resize_from": (64, 96),
        "noise_source": "philox",
    }
    text = text_of(**options)
    assert "Model: pocket, Variation seed: 99, Variation seed strength: 0.25, Seed resize from: 64x96, RNG: NV" in text
    assert "Variation" not in text_of() and "Seed resize" not in text_of()
    fields = from_infotext(text).fields
    assert {name: fields[name] for name in options} == options


def test_a_second_pass_is_told_and_read() -> None:
    options: dict[str, Any] = {
        "hires_scale": 2.0,
        "hires_strength": 0.35,
        "hires_steps": 6,
        "hires_upscaler": "latent",
        "seamless": "y",
    }
    _, _, settings = read(text_of(**options))
    told = ("Denoising strength", "Hires upscale", "Hires steps", "Hires upscaler", "Tile Y")
    assert [settings[name] for name in told] == ["0.35", "2", "6", "Latent", "True"]
    fields = from_infotext(text_of(**options)).fields
    assert {name: fields[name] for name in options} == options
    assert "Hires" not in text_of() and "Denoising strength" not in text_of()


def test_painting_is_told_and_what_has_no_picture_is_left_unread(tmp_path: Path) -> None:
    for name in ("a.png", "mask.png"):
        Image.new("RGB", (128, 128), "white").save(tmp_path / name)
    options: dict[str, Any] = {
        "init_image": str(tmp_path / "a.png"),
        "mask": str(tmp_path / "mask.png"),
        "strength": 0.4,
        "mask_invert": True,
        "mask_blur": 2.5,
        "masked_content": "noise",
        "only_masked": True,
        "mask_padding": 8,
        "loops": 3,
        "loop_strength": 0.9,
    }
    text = text_of(**options)
    expected = {
        "Denoising strength": "0.4",
        "Mask blur": "2.5",
        "Mask mode": "Inpaint not masked",
        "Masked content": "latent noise",
        "Inpaint area": "Only masked",
        "Masked area padding": "8",
        "Loops": "3",
        "Denoising strength change factor": "0.9",
    }
    _, _, settings = read(text)
    assert {name: settings[name] for name in expected} == expected
    assert from_infotext(text).unread == [f"{name}: {value}" for name, value in expected.items()]


def test_added_sides_and_a_refiner_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (128, 128)).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    text = infotext(Request(prompt="", seed=1, init_image=path, outpaint=(64, 0, 8, 0)).resolved(POCKET), MADE_BY)
    _, _, settings = read(text)
    assert settings["Outpaint"] == "left 64 right 8"
    _, _, settings = read(text_of(refiner="models/second_one.safetensors"))
    assert (settings["Refiner"], settings["Refiner switch at"]) == ("second_one", "0.8")


@given(prompt=st.text(max_size=60), negative=st.text(max_size=60))
def test_prompts_come_back_whole(prompt: str, negative: str) -> None:
    """Of texts that do not look like the format themselves; white space at the ends is that reader's to drop."""
    wanted, unwanted = (re.sub(r"[\r\v\f\x1c-\x1e\x85\u2028\u2029]", " ", text).strip() for text in (prompt, negative))
    if "Negative prompt:" in wanted + unwanted:
        return
    found, against, settings = read(text_of(prompt=wanted, negative_prompt=unwanted))
    assert (found.strip(), against.strip()) == (wanted, unwanted)
    assert settings["Seed"] == "7"


@pytest.mark.parametrize(
    "name", ["my model, v2", 'a "quoted" one: x', "two\nlines", "back\\slash,", "plain", "ünï,cödé"]
)
def test_values_with_signs_of_the_format_are_quoted(name: str) -> None:
    _, _, settings = read(text_of(Provenance(name, "", "cpu", "float32", "2.13.0")))
    assert settings["Model"] == name
    assert settings["Version"] == f"rein {__version__}"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        (7, "7"),
        ("a,b", '"a,b"'),
        ("a:b", '"a:b"'),
        ("a\nb", '"a\\nb"'),
        ('say "hi", é', '"say \\"hi\\", é"'),
    ],
)
def test_quoting(value: object, written: str) -> None:
    assert quote(value) == written


def test_a_model_without_a_hash_has_none() -> None:
    assert "Model hash" not in text_of(Provenance("pocket", "", "cpu", "float32", "2.13.0"))


def test_the_manifest_is_complete_and_makes_the_request_again() -> None:
    request = Request(prompt="a, b", seed=7, guidance_interval=(0.5, 12.0)).resolved(SD15)
    content = json.loads(json.dumps(manifest(request, MADE_BY, ("a note",))))
    assert Request.model_validate(content["request"]) == request
    assert content["rein"] == __version__
    assert content["model"] == {"name": "pocket", "sha256": MADE_BY.model_hash}
    assert (content["device"], content["dtype"], content["torch"]) == ("cpu", "float32", "2.13.0")
    assert content["notes"] == ["a note"]
