"""Options of work that begins with a picture, and of larger ones: each reaches the request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.cli.starting import margins
from rein.errors import InputError
from rein.image_files import read_image, read_texts
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def pictures(rein: Run) -> None:
    """A picture and a mask in the working folder."""
    rows, columns = np.mgrid[:40, :32]
    Image.fromarray(np.stack([rows * 6, columns * 8, rows + columns], axis=-1).astype(np.uint8)).save("a.png")
    mask = np.zeros((40, 32), dtype=np.uint8)
    mask[10:20, 10:20] = 255
    Image.fromarray(mask).save("m.png")


def request_of(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(read_texts(path)["rein"])["request"]
    return found


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--init", "a.png", "--strength", "0.5"), {"init_image": "a.png", "strength": 0.5, "width": 32, "height": 40}),
        (("-i", "a.png", "-W", "24", "-H", "24", "--resize", "fill"), {"resize": "fill", "width": 24}),
        (("-i", "a.png", "--loops", "2", "--loop-strength", "0.9"), {"loops": 2, "loop_strength": 0.9}),
        (
            ("-i", "a.png", "--mask", "m.png", "--mask-blur", "1", "--fill", "noise", "--mask-invert", "--soft-mask"),
            {"mask": "m.png", "mask_blur": 1.0, "masked_content": "noise", "mask_invert": True, "soft_mask": True},
        ),
        (
            ("-i", "a.png", "--mask", "m.png", "--only-masked", "--mask-padding", "4"),
            {"only_masked": True, "mask_padding": 4, "width": 32, "height": 32},
        ),
        (("-i", "a.png", "--outpaint", "left=8,bottom=3"), {"outpaint": [8, 0, 0, 3], "width": 40, "height": 43}),
        (("-i", "a.png", "--outpaint", "48x40"), {"outpaint": [8, 0, 8, 0]}),
        (
            ("--hires", "1.5", "--upscaler", "latent", "--hires-steps", "1", "--hires-strength", "0.7"),
            {"hires_scale": 1.5, "hires_upscaler": "latent", "hires_steps": 1, "hires_strength": 0.7},
        ),
        (("--seamless", "x", "--tile", "64"), {"seamless": "x", "tile": 64}),
    ],
)
def test_options_reach_the_request(rein: Run, tiny: str, options: tuple[str, ...], wanted: dict[str, object]) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 2, "--seed", 3, *options, "-o", "out.png")
    assert (done.code, done.err, done.last) == (0, "", Path("out.png"))
    assert wanted.items() <= request_of(Path("out.png")).items()


def test_the_summary_tells_the_size_of_the_larger_picture(rein: Run, tiny: str) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 1, "--seed", 1, "--hires", 2)
    assert done.out.startswith("seed 1, 64 x 64, 1 steps of euler")


def test_the_masked_part_alone_changes(rein: Run, tiny: str) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 2, "-i", "a.png", "--mask", "m.png", "--mask-blur", 0)
    made, source = np.asarray(read_image(done.last)), np.asarray(read_image("a.png"))
    assert np.array_equal(made[:10], source[:10]) and not np.array_equal(made[10:20, 10:20], source[10:20, 10:20])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strength", "0.5"), "strength is 0.5: it means nothing without init_image"),
        (("--init", "none.png"), "there is no picture none.png"),
        (("--init", "a.png", "--strength", "1.5"), "strength is 1.5: it must be a number from 0 to 1"),
        (
            ("--init", "a.png", "--depth", "a.png"),
            "is not told it; leave it out, or take a model for depth, such as pocket-depth",
        ),
        (("--init", "a.png", "--outpaint", "left"), "--outpaint 'left': write pixels by side"),
        (("--outpaint", "left=8"), "outpaint is (8, 0, 0, 0): it means nothing without init_image"),
        (("--hires", "1"), "hires_scale is 1.0: it must be a number above 1"),
        (("--hires", "2", "--upscaler", "none.pth"), "none.pth"),
    ],
)
def test_mistakes_are_one_line(rein: Run, tiny: str, options: tuple[str, ...], message: str) -> None:
    done = rein("generate", "owl", "-m", tiny, "--steps", 1, *options)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1
    assert not Path("pictures").exists() or not list(Path("pictures").iterdir())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None),
        ("left=8", (8, 0, 0, 0)),
        (" all = 16 , top=4", (16, 4, 16, 16)),
        ("33x40", (0, 0, 1, 0)),
        ("32x40", (0, 0, 0, 0)),
    ],
)
def test_margins(text: str | None, found: tuple[int, int, int, int] | None) -> None:
    assert margins(text, "a.png") == found


@pytest.mark.parametrize("text", ["", "left", "left=", "left=-8", "up=8", "20x40", "left=8;top=8"])
def test_wrong_margins(text: str) -> None:
    with pytest.raises(InputError, match="--outpaint"):
        margins(text, "a.png")


def test_a_size_needs_the_picture() -> None:
    with pytest.raises(InputError, match="give --init"):
        margins("64x64", None)
