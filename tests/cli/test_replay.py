"""`rein replay`: the same picture again, or what changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from rein.image_files import read_image, read_texts, write_image, write_png
from rein.pipeline.replay import compared, differences
from tests.cli.conftest import Run


@pytest.fixture
def drawn(rein: Run, tiny: Path) -> Path:
    done = rein("generate", "a red apple", "--model", tiny, "--steps", "3", "--seed", "7", "--output", "a.png")
    assert done.code == 0, done.err
    return Path("a.png")


def test_a_picture_is_made_again_to_the_byte(rein: Run, tiny: Path, drawn: Path) -> None:
    done = rein("replay", drawn, "--model", tiny, "--output", "b.png")
    assert (done.code, done.out.splitlines()) == (0, ["identical", "b.png"])
    assert Path("b.png").read_bytes() == drawn.read_bytes()


def test_a_changed_picture_and_a_changed_field_are_named(rein: Run, tiny: Path, drawn: Path) -> None:
    texts = read_texts(drawn)
    record = json.loads(texts["rein"])
    record["torch"] = "1.0"
    other = Image.new("RGB", read_image(drawn).size, (255, 0, 0))
    write_png(other, "c.png", {"rein": json.dumps(record)})
    done = rein("replay", "c.png", "--model", tiny, "--json")
    told = json.loads(done.out)
    assert (done.code, told["verdict"]) == (1, "different")
    assert [*told["changed"]] == ["torch"]
    assert told["changed"]["torch"][0] == "1.0"


def test_a_picture_that_differs_by_rounding_is_within_tolerance(rein: Run, tiny: Path, drawn: Path) -> None:
    pixels = read_image(drawn).convert("RGB")
    first = pixels.getpixel((0, 0))
    assert isinstance(first, tuple)
    pixels.putpixel((0, 0), tuple(level ^ 1 for level in first))
    write_png(pixels, "d.png", read_texts(drawn))
    done = rein("replay", "d.png", "--model", tiny)
    assert done.code == 0
    assert done.out.startswith("within tolerance (")


@pytest.mark.parametrize("name", ["e.jpg", "e.webp"])
def test_a_file_with_a_loss_is_compared_after_the_same_loss(rein: Run, tiny: Path, name: str) -> None:
    drawing = ("generate", "a red apple", "--model", tiny, "--steps", "3", "--seed", "7", "--output", name)
    assert rein(*drawing, "--quality", 40).code == 0
    assert rein("replay", name, "--model", tiny).out == "identical\n"
    texts = read_texts(name)
    record = json.loads(texts["rein"])
    assert record["file"] == {"format": "jpeg" if name == "e.jpg" else "webp", "quality": 40}
    record["request"]["seed"] = 8
    write_image(read_image(name), name, {"rein": json.dumps(record)}, 40)
    assert rein("replay", name, "--model", tiny).code == 1


def test_another_programs_jpeg_may_differ_more(rein: Run, tiny: Path, drawn: Path) -> None:
    infotext = read_texts(drawn)["parameters"]
    write_image(read_image(drawn), "f.jpg", {"parameters": infotext}, 97)
    done = rein("replay", "f.jpg", "--model", tiny, "--json")
    told = json.loads(done.out)
    assert (done.code, told["source"], told["verdict"]) == (0, "a1111", "within tolerance")
    assert 30 <= told["psnr"] < 60


def test_what_cannot_be_replayed(rein: Run, drawn: Path) -> None:
    assert rein("replay", "nothing.png").code == 2
    unnamed = rein("replay", drawn)
    assert unnamed.code == 2
    assert "with --model" in unnamed.err
    write_png(Image.new("RGB", (8, 8)), "bare.png", {})
    assert "holds no settings" in rein("replay", "bare.png").err


def test_comparing_by_hand() -> None:
    grey, larger = Image.new("RGB", (4, 4), (9, 9, 9)), Image.new("RGB", (5, 4))
    assert compared(grey, grey, {}, {}).verdict == "identical"
    assert (compared(grey, larger, {}, {}).verdict, compared(grey, larger, {}, {}).psnr) == ("different", 0.0)
    off = compared(grey, Image.new("RGB", (4, 4), (10, 9, 9)), {}, {})
    assert off.psnr == pytest.approx(52.9, abs=0.05)  # 10 log10(255² * 3)
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}}) == {"a.c": (2, 5), "d": (3, None)}
