"""`rein upscale`: what it writes, what it keeps of a picture's settings, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rein.image_files import read_image, read_texts, write_png
from rein.nn.upscaler import SRVGGConfig, SRVGGNet
from tests.cli.conftest import Run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "owl.png"
    noise = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    write_png(Image.fromarray(noise), path, {"parameters": "an owl\nSteps: 2", "rein": '{"request": {"steps": 2}}'})
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A file of an upscaler that repeats every pixel."""
    made = SRVGGNet(SRVGGConfig(width=4, layers=1, scale=2))
    torch.save({"params": {name: tensor.zero_() for name, tensor in made.state_dict().items()}}, tmp_path / "r2.pth")
    return tmp_path / "r2.pth"


def test_a_picture_becomes_larger_and_keeps_its_settings(rein: Run, picture: Path) -> None:
    done = rein("upscale", picture)
    assert (done.code, done.last) == (0, Path("pictures/owl-x2.png"))
    made = read_image(done.last)
    assert made.tobytes() == read_image(picture).resize((80, 60), Image.Resampling.LANCZOS).tobytes()
    texts = read_texts(done.last)
    assert texts["parameters"] == "an owl\nSteps: 2"
    assert texts["postprocessing"] == "Postprocess upscale by: 2, Postprocess upscaler: lanczos"
    record = json.loads(texts["rein"])
    assert record == {"request": {"steps": 2}, "upscaled": {"by": 2, "upscaler": "lanczos", "size": [80, 60]}}


def test_a_network_from_a_file(rein: Run, picture: Path, network: Path) -> None:
    done = rein("upscale", picture, "--upscaler", network, "--by", 4, "--tile", 32, "--overlap", 8, "-o", "large.png")
    assert (done.code, done.out.splitlines()) == (0, ["large.png"])
    assert read_image("large.png").tobytes() == read_image(picture).resize((160, 120), 0).tobytes()
    assert "upscaler: r2" in read_texts("large.png")["postprocessing"]


def test_names_that_are_taken_are_kept(rein: Run, picture: Path) -> None:
    for _ in range(2):
        assert rein("upscale", picture, "--by", 1.5, "-o", "out").code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["owl-x1.5-1.png", "owl-x1.5.png"]
    before = picture.read_bytes()
    assert rein("upscale", picture, "-o", picture).last == picture.with_name("owl-1.png")
    assert picture.read_bytes() == before


def test_other_formats(rein: Run, picture: Path) -> None:
    assert rein("upscale", picture, "-o", "a.webp").last == Path("a.webp")
    assert rein("upscale", "a.webp", "-o", "b.jpg").last == Path("b.jpg")
    assert read_image("b.jpg").size == (160, 120)
    assert json.loads(read_texts("a.webp")["rein"])["upscaled"]["size"] == [80, 60]


def test_a_bad_picture_among_others_is_listed(rein: Run, picture: Path) -> None:
    Path("bad.png").write_bytes(b"no picture")
    done = rein("upscale", picture, "bad.png", "missing.png", "-o", "out")
    assert done.code == 1
    listed = done.out.splitlines()
    assert listed[0].startswith("not enlarged: bad.png: cannot read bad.png: not a PNG, JPEG or WebP picture")
    assert listed[1].startswith("not enlarged: missing.png: there is no picture")
    assert listed[2] == "out/owl-x2.png"
    told = json.loads(rein("upscale", picture, "bad.png", "-o", "more", "--json").out)
    assert told["paths"] == ["more/owl-x2.png"] and list(told["problems"]) == ["bad.png"]


def test_tiles_are_drawn_again_by_a_model(rein: Run, picture: Path, tiny: str) -> None:
    call = ("upscale", picture, "--prompt", "a red apple", "--model", tiny, "--steps", 3, "--seed", 7)
    first = rein(*call, "--strength", 0.6, "-o", "a.png")
    assert first.code == 0, first.err
    assert rein(*call, "--strength", 0.6, "-o", "b.png").code == 0
    assert rein(*call, "--strength", 0.9, "-o", "c.png").code == 0
    pixels = [read_image(name).tobytes() for name in ("a.png", "b.png", "c.png")]
    assert pixels[0] == pixels[1] != pixels[2]
    plain = read_image(picture).resize((80, 60), Image.Resampling.LANCZOS)
    assert pixels[0] != plain.tobytes()
    upscaled = json.loads(read_texts("a.png")["rein"])["upscaled"]
    assert upscaled["request"] == {"prompt": "a red apple", "steps": 3, "seed": 7}
    assert (upscaled["strength"], upscaled["size"]) == (0.6, [80, 60])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by", 0.5), "--by is 0.5: it must be a number from 1 to 16"),
        (("--by", "nan"), "--by is nan"),
        (("--upscaler", "nothing.pth"), "--upscaler is 'nothing.pth', and there is no such file: give one, or lanczos"),
        (("--tile", 4), "tile is 4: it must be at least 16"),
        (("--prompt", "x", "--strength", 2), "strength is 2: it must be a number from 0 to 1"),
        (("--prompt", "x", "--steps", 0), "steps is 0"),
        (("--prompt", "x", "--draw-tile", 0), "tile is 0: it must be at least 16"),
        (("--prompt", "x", "--set", "etta=1"), "unknown option 'etta'"),
        (("--device", "cuda:99"), "device 'cuda:99' is not there"),
    ],
)
def test_wrong_options_are_refused(rein: Run, picture: Path, options: tuple[object, ...], message: str) -> None:
    device = ("--upscaler", picture) if "--device" in options else ()
    done = rein("upscale", picture, *options, *device)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert message in done.err
    assert not Path("pictures").exists()


def test_one_file_for_many_pictures_and_files_of_other_kinds(rein: Run, picture: Path, tiny: str) -> None:
    assert "one file for 2 pictures: give a folder" in rein("upscale", picture, picture, "-o", "a.png").err
    refused = rein("upscale", picture, "--upscaler", Path(tiny) / "autoencoder.safetensors")
    assert refused.code == 2
    assert "is no upscaler (autoencoder)" in refused.err


def test_a_picture_that_no_webp_file_holds_is_refused_before_the_work(rein: Run) -> None:
    Image.new("RGB", (1100, 8), "red").save("wide.png")
    done = rein("upscale", "wide.png", "--by", 16, "-o", "wide.webp")
    assert done.code == 2
    assert "cannot write wide.webp: it would be 17600 x 128, and a webp file has at most 16,383 pixels" in done.err
    assert not Path("wide.webp").exists()
