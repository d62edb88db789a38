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

from benchmarks import heat_maps
from rein.formats.checkpoint import save_model
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.unet import UNet
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
