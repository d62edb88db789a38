"""The benchmarks run, and what they compare is the same work. Their speeds are for people to measure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import few_steps, heat_maps
from benchmarks.common import put_section
from benchmarks.drawing import Together, check, kept_pictures, requests_of
from rein.formats.checkpoint import save_model
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.unet import UNet
from rein.pipeline.model import load
from tests.pipeline.small import SPECS, own_tokenizer

ROOT = Path(__file__).parent.parent


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A small model with first weights, whose output changes slowly with time: Rein's flow begins at t = 1 - 2**-20,
    the peer's at t = 1, which livelier weights would show.
    """
    torch.manual_seed(0)
    spec = SPECS["pocket"]
    towers = [TextTower(spec.towers[0])]
    return str(save_model(tmp_path, spec, UNet(spec.unet), Autoencoder(spec.autoencoder), towers, own_tokenizer()))


def printed(script: str, model: str) -> list[str]:
    """The lines that a benchmark prints for a small model."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    options = ["--model", model, "--threads", "1", "--runs", "2", "--steps", "6"]
    command = [sys.executable, "-m", f"benchmarks.{script}", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_denoising_loop_does_what_diffusers_does(model: str) -> None:
    lines = printed("denoising_loop", model)
    assert [line.split("  ")[0] for line in lines[1:5]] == ["seconds", "rein", "diffusers", "diffusers, channels_last"]
    found = re.fullmatch(r"largest difference of the final latents: (\S+), their largest value being (\S+)", lines[5])
    assert found is not None
    assert float(found[1]) < 1e-5 * float(found[2])


@pytest.mark.slow
def test_words_to_png_prints_its_table(model: str) -> None:
    lines = printed("words_to_png", model)
    names = [line.split("  ")[0] for line in lines[1:5]]
    assert names == ["seconds", "rein generate", "import torch", "import diffusers' classes"]
    assert all(float(number) > 0 for line in lines[2:5] for number in line.split()[-3:])
    assert float(lines[5].removeprefix("of which drawing and decoding: ")) > 0


@pytest.mark.parametrize("beside", [True, False])
def test_heat_maps_are_asked_where_they_are_bright(beside: bool) -> None:
    """Two things of a prompt, the second of them on the left or above; its map is there, that of the first nowhere."""
    levels = np.full((64, 64, 3), 255, dtype=np.uint8)
    levels[24:40, 8:24] = levels[24:40, 40:56] = 0
    maps = torch.full((5, 8, 8), 0.1)
    maps[4, 3:5, 1:3] = 0.5
    if not beside:
        levels, maps = levels.transpose(1, 0, 2), maps.transpose(1, 2)
    scene = heat_maps.Scene(Image.fromarray(np.ascontiguousarray(levels)), beside, (False, True), ((1,), (3,)))
    found = heat_maps.answers(scene, maps)
    assert [found[name][1] for name in heat_maps.ANSWERS] == [True, True, True]
    assert [found["half"][0], found["outline"][0]] == [False, False]
    count = heat_maps.Count()
    count.add(found)
    assert count.row("all")[1] == "50%" and count.row("all")[-2:] == ["0%", "50%"]


def test_the_words_of_a_thing_are_found_in_a_prompt() -> None:
    words = ("a", "hot", "air", "balloon", "and", "a", "t-shirt", ",", "flat", "style")
    assert heat_maps.places_of("hot air balloon", words) == (1, 2, 3)
    assert heat_maps.places_of("T-shirt", words) == (6,)
    assert heat_maps.places_of("car", words) == ()


def test_pictures_that_are_drawn_together_are_those_drawn_alone_and_are_kept(model: str, tmp_path: Path) -> None:
    loaded, orders = load(model, device="cpu"), [("a red apple", 3), ("a dog and a cat", 9), ("", 2**31)]
    check(loaded, orders)
    requests = requests_of(orders, steps=2)
    latents, asked = Together.of(loaded, requests).latents("heun")
    assert len(latents) == 3 and asked == 3, "the last of Heun's steps asks once"
    first = kept_pictures(loaded, requests[:2], tmp_path / "kept", 2)
    alone = loaded.generate(orders[1][0], seed=orders[1][1], steps=2).images[0]
    assert np.abs(first[1].astype(int) - np.asarray(alone)).max() <= 1
    [folder] = (tmp_path / "kept").iterdir()
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = kept_pictures(loaded, requests, tmp_path / "kept", 2)
    np.testing.assert_array_equal(again[:2], first)
    assert len(list(folder.iterdir())) == 3 and all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_the_ratio_of_two_kernel_distances_is_taken_prompt_by_prompt() -> None:
    random = np.random.default_rng(0)
    teacher, real = (random.normal(size=(count, 8)).astype(np.float32) for count in (80, 120))
    teacher += 1
    same = few_steps.ratio(teacher, teacher, real)
    assert same.value == same.low == same.high == 1
    worse = few_steps.ratio(teacher, teacher + 0.5, real)
    assert 1 < worse.low < worse.value < worse.high
    with pytest.raises(ValueError, match="take more pictures"):
        few_steps.ratio(random.normal(size=(80, 8)).astype(np.float32), teacher, real)


def test_a_section_of_a_page_is_put_in_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nText.\n\n## Other\n\nMore.\n")
    put_section(page, "## Measured", "first")
    assert page.read_text() == "# Page\n\nText.\n\n## Other\n\nMore.\n\n## Measured\n\nfirst\n"
    page.write_text(page.read_text() + "\n### Detail\n\nOld.\n\n## Last\n\nEnd.\n")
    put_section(page, "## Measured", "second")
    assert page.read_text() == ("# Page\n\nText.\n\n## Other\n\nMore.\n\n## Measured\n\nsecond\n\n## Last\n\nEnd.\n")
