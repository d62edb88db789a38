"""Saving: settings inside, names that replace nothing, and what happens when a place cannot be written."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from rein.errors import InputError, NonFiniteError, OutputError
from rein.image_files import read_image, read_texts
from rein.pipeline.model import Model, Result, load
from rein.pipeline.request import Request


@pytest.fixture(scope="module")
def result(pocket: Model) -> Result:
    """Two pictures with seeds 7 and 8, in one step."""
    return pocket.generate("a red apple, naïve 猫", negative_prompt="blue", seed=7, steps=1, count=2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


STEM = "a-red-apple-naïve-猫"


def test_a_folder_gets_names_of_prompt_and_seed_as_on_the_command_line(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    assert result.save(folder) == [folder / f"{STEM}-7.png", folder / f"{STEM}-8.png"]
    assert result.save(folder) == [folder / f"{STEM}-7-1.png", folder / f"{STEM}-8-1.png"]
    assert len(names(folder)) == 4
    before = (folder / f"{STEM}-8.png").stat().st_mtime_ns
    assert result.save(folder, overwrite=True)[1].stat().st_mtime_ns > before
    assert len(names(folder)) == 4


def test_the_working_folder_is_the_default(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert result.save() == [Path(f"{STEM}-7.png"), Path(f"{STEM}-8.png")]
    assert names(tmp_path) == [f"{STEM}-7.png", f"{STEM}-8.png"]


def test_a_name_is_taken_and_never_replaced_silently(result: Result, tmp_path: Path) -> None:
    wanted = tmp_path / "apple.png"
    wanted.write_bytes(b"mine")
    assert [path.name for path in result.save(wanted)] == ["apple-1.png", "apple-2.png"]
    assert wanted.read_bytes() == b"mine"


def test_overwrite_replaces_the_name(result: Result, tmp_path: Path) -> None:
    wanted = tmp_path / "apple 8.png"
    wanted.write_bytes(b"mine")
    saved = result.save(tmp_path / "apple {seed}.png", overwrite=True)
    assert [path.name for path in saved] == ["apple 7.png", "apple 8.png"]
    assert read_image(wanted).size == (32, 32)


def test_the_seed_may_stand_in_a_name(result: Result, tmp_path: Path) -> None:
    assert [path.name for path in result.save(tmp_path / "apple {seed}.PNG")] == ["apple 7.PNG", "apple 8.PNG"]


def test_a_folder_that_ends_in_png_is_a_folder(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert result.save(folder)[0] == folder / f"{STEM}-7.png"


def test_the_settings_are_inside(result: Result, tmp_path: Path) -> None:
    _, second = result.save(tmp_path)
    texts = read_texts(second)
    assert texts["parameters"] == result.infotext(1)
    assert texts["parameters"].startswith("a red apple, naïve 猫\nNegative prompt: blue\nSteps: 1, ")
    assert json.loads(texts["rein"]) == result.manifest(1)


def test_the_settings_of_a_picture_make_it_again(pocket: Model, result: Result, tmp_path: Path) -> None:
    _, second = result.save(tmp_path)
    request = Request.model_validate(json.loads(read_texts(second)["rein"])["request"])
    again = pocket.generate(request)
    assert again.images[0].tobytes() == result.images[1].tobytes()
    assert again.save(tmp_path / "again.png")[0].read_bytes() == second.read_bytes()


def test_pillow_saves_the_settings_too(result: Result, tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        result.images[1].save(tmp_path / name)
        assert read_texts(tmp_path / name) == result.texts(1)
    result.images[1].save(tmp_path / "plain.jpg")
    assert read_image(tmp_path / "plain.jpg").size == (32, 32)


@pytest.mark.parametrize("name", ["apple.jpg", "apple {seed}.WEBP"])
def test_other_formats_have_the_settings_inside_too(result: Result, tmp_path: Path, name: str) -> None:
    paths = result.save(tmp_path / name, quality=80)
    assert len(paths) == 2 and all(path.suffix == Path(name).suffix for path in paths)
    texts = read_texts(paths[1])
    assert texts["parameters"] == result.infotext(1)
    file = {"format": "jpeg" if name.endswith("jpg") else "webp", "quality": 80}
    assert json.loads(texts["rein"]) == result.manifest(1) | {"file": file}
    assert read_image(paths[1]).size == (32, 32)


def test_a_folder_may_have_another_format(result: Result, tmp_path: Path) -> None:
    assert [path.name for path in result.save(tmp_path, file_format="webp")] == [f"{STEM}-7.webp", f"{STEM}-8.webp"]
    assert [path.name for path in result.save(tmp_path, file_format="jpeg")] == [f"{STEM}-7.jpg", f"{STEM}-8.jpg"]
    assert [path.name for path in result.save(tmp_path / "a.jpeg", file_format="jpeg")] == ["a-1.jpeg", "a-2.jpeg"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("apple.gif", {}, "pictures are written as PNG, JPEG or WebP"),
        ("apple.TIFF", {"file_format": "png"}, "pictures are written as PNG"),
        ("apple.png", {"file_format": "jpeg"}, "format jpeg needs a name that ends in .jpg"),
        ("", {"file_format": "jpg2"}, "unknown picture format 'jpg2': did you mean 'jpeg'?"),
        ("", {"quality": 90}, "PNG files have none"),
        ("apple.jpg", {"quality": 0}, "quality is 0: it must be"),
    ],
)
def test_another_format_is_refused(
    result: Result, tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        result.save(tmp_path / name, **options)
    assert names(tmp_path) == []


def test_a_black_picture_is_no_success(tiny_model_folder: Path) -> None:
    broken = load(tiny_model_folder, "cpu", "float32")
    with torch.no_grad():
        broken.parts.autoencoder.get_parameter("decoder.conv_out.bias").fill_(-1e4)
    with pytest.raises(NonFiniteError, match="the picture with seed 7 came out black all over"):
        broken.generate("a red apple", seed=7, steps=1)


def test_a_place_that_cannot_be_written_is_one_line(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file" / "below", tmp_path / "missing" / "apple.png", tmp_path / "file"):
        with pytest.raises(OutputError) as caught:
            result.save(place)
        assert "\n" not in str(caught.value) and str(place.name) in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_a_failure_leaves_no_empty_file_and_keeps_what_was_written(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second picture cannot be encoded, as with a full disk."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result.images[1], "save", full)
    with pytest.raises(OutputError, match="the disk is full"):
        result.save(tmp_path)
    assert names(tmp_path) == [f"{STEM}-7.png"]


def test_programs_that_save_at_once_do_not_meet(result: Result, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda _: result.save(tmp_path), range(6)))
    paths = [path for paths in saved for path in paths]
    assert len(set(paths)) == 12 == len(names(tmp_path))
