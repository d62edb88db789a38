"""`rein interpolate`: animations and sheets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from rein.image_files import read_texts
from tests.cli.conftest import Run

SMALL = ("--frames", 3, "--steps", 2, "--seed", 5)


def test_an_animation_and_its_settings(rein: Run, tiny: str) -> None:
    done = rein(
        "interpolate", "a red apple", "a blue car", "--model", tiny, *SMALL, "--fps", 4, "--back", "-o", "a.webp"
    )
    assert (done.code, done.out) == (0, "a.webp\n"), done.err
    with Image.open("a.webp") as animation:
        assert (getattr(animation, "n_frames", 1), animation.size) == (4, (32, 32))
        pictures = []
        for place in range(4):
            animation.seek(place)
            animation.load()
            assert animation.info["duration"] == 250
            pictures.append(animation.convert("RGB").tobytes())
    assert pictures[1] == pictures[3] and len(set(pictures)) == 3
    record = json.loads(read_texts("a.webp")["rein"])
    assert record["request"]["prompt"] == "a red apple"
    assert record["interpolation"]["to"]["prompt"] == "a blue car"


def test_a_sheet_from_seed_to_seed(rein: Run, tiny: str) -> None:
    done = rein("interpolate", "an owl", "an owl", "--model", tiny, *SMALL, "--to-seed", 9, "-o", "a.png")
    assert done.code == 0, done.err
    with Image.open("a.png") as sheet:
        assert sheet.width > 2 * 32
    assert json.loads(read_texts("a.png")["rein"])["interpolation"]["to"]["seed"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--frames", 1), "frames is 1"),
        (("--way", "zigzag"), "--way is 'zigzag': it must be line or arc"),
        (("--fps", 0), "--fps is 0: it must be a number from 0.1 to 100"),
        (("-o", "a.gif"), "pictures are saved as .png"),
        (("--set", "hires_scale=2"), "hires_scale is 2.0: frames between two pictures have none"),
    ],
)
def test_wrong_calls(rein: Run, tiny: str, options: tuple[object, ...], message: str) -> None:
    done = rein("interpolate", "a", "b", "--model", tiny, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err and done.err.count("\n") == 1
    assert not list(Path().glob("*.*"))


def test_a_sheet_that_no_jpeg_file_holds_is_refused_at_the_first_step(rein: Run, tiny: str) -> None:
    options = ("--frames", 1000, "--width", 2048, "--height", 16, "--steps", 2, "-m", tiny, "-o", "way.jpg")
    done = rein("interpolate", "an owl", "a cat", *options)
    assert done.code == 2 and "a jpeg file has at most 65,535 pixels a side" in done.err
    assert not Path("way.jpg").exists()
