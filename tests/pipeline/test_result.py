"""Saving: settings inside, names that replace nothing, and what happens when a place cannot be written."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rein.errors import InputError, OutputError
from rein.images import read_image, read_png_texts
from rein.pipeline.model import Model, Result
from rein.pipeline.request import Request


@pytest.fixture(scope="module")
def result(pocket: Model) -> Result:
    """Two pictures with seeds 7 and 8, in one step."""
    return pocket.generate("a red apple, naïve 猫", negative_prompt="blue", seed=7, steps=1, count=2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gets_numbered_names_with_the_seed(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    assert result.save(folder) == [folder / "00000-7.png", folder / "00001-8.png"]
    assert result.save(folder) == [folder / "00002-7.png", folder / "00003-8.png"]
    assert names(folder) == ["00000-7.png", "00001-8.png", "00002-7.png", "00003-8.png"]


def test_numbers_go_on_after_the_highest(result: Result, tmp_path: Path) -> None:
    for name in ("00041-99.png", "notes.txt", "12-3.png", "00007-x.png"):
        (tmp_path / name).write_bytes(b"kept")
    assert [path.name for path in result.save(tmp_path)] == ["00042-7.png", "00043-8.png"]


def test_the_working_folder_is_the_default(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert result.save() == [Path("00000-7.png"), Path("00001-8.png")]
    assert names(tmp_path) == ["00000-7.png", "00001-8.png"]


def test_a_name_is_taken_and_never_replaced_silently(result: Result, tmp_path: Path) -> None:
    wanted = tmp_path / "apple.png"
    wanted.write_bytes(b"mine")
    assert [path.name for path in result.save(wanted)] == ["apple-1.png", "apple-2.png"]
    assert wanted.read_bytes() == b"mine"


def test_overwrite_replaces_the_name_and_gives_every_picture_its_own(result: Result, tmp_path: Path) -> None:
    wanted = tmp_path / "apple.png"
    wanted.write_bytes(b"mine")
    assert [path.name for path in result.save(wanted, overwrite=True)] == ["apple.png", "apple-1.png"]
    assert read_image(wanted).size == (32, 32)


def test_the_seed_may_stand_in_a_name(result: Result, tmp_path: Path) -> None:
    assert [path.name for path in result.save(tmp_path / "apple {seed}.PNG")] == ["apple 7.PNG", "apple 8.PNG"]


def test_a_folder_that_ends_in_png_is_a_folder(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert result.save(folder)[0] == folder / "00000-7.png"


def test_the_settings_are_inside(result: Result, tmp_path: Path) -> None:
    _, second = result.save(tmp_path)
    texts = read_png_texts(second)
    assert texts["parameters"] == result.infotext(1)
    assert texts["parameters"].startswith("a red apple, naïve 猫\nNegative prompt: blue\nSteps: 1, ")
    assert json.loads(texts["rein"]) == result.manifest(1)


def test_the_settings_of_a_picture_make_it_again(pocket: Model, result: Result, tmp_path: Path) -> None:
    _, second = result.save(tmp_path)
    request = Request.model_validate(json.loads(read_png_texts(second)["rein"])["request"])
    again = pocket.generate(request)
    assert again.images[0].tobytes() == result.images[1].tobytes()
    assert again.save(tmp_path / "again.png")[0].read_bytes() == second.read_bytes()


def test_pillow_saves_the_settings_too(result: Result, tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        result.images[1].save(tmp_path / name)
        assert read_png_texts(tmp_path / name) == result.texts(1)
    result.images[1].save(tmp_path / "plain.jpg")
    assert read_image(tmp_path / "plain.jpg").size == (32, 32)


@pytest.mark.parametrize("name", ["apple.jpg", "apple.webp", "apple.TIFF"])
def test_another_format_is_refused(result: Result, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="pictures are saved as .png"):
        result.save(tmp_path / name)


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
    assert names(tmp_path) == ["00000-7.png"]


def test_programs_that_save_at_once_do_not_meet(result: Result, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda _: result.save(tmp_path), range(6)))
    paths = [path for paths in saved for path in paths]
    assert len(set(paths)) == 12 == len(names(tmp_path))
