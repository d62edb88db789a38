"""Where pictures go, and under which names."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import InputError, OutputError
from rein.files import atomic_file
from rein.places import Place, free_name, slug, written_free


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red apple, flat style", "a-red-apple-flat-style"),
        ("", "picture"),
        ("  ?!", "picture"),
        ("../../etc/passwd", "etc-passwd"),
        ("snake_case {seed}", "snake-case-seed"),
        ("Ein Käse für 2", "ein-käse-für-2"),
        ("word " * 100, "-".join(["word"] * 16)),
        ("x" * 1000, "x" * 80),
    ],
)
def test_a_prompt_becomes_a_file_name(text: str, name: str) -> None:
    assert slug(text) == name


@given(st.text())
def test_any_prompt_becomes_a_usable_file_name(text: str) -> None:
    name = slug(text)
    assert name
    assert len(name.encode()) <= 80
    assert not set(name) & set('/\\:*?"<>|{}.\0\n')


def test_a_folder_gets_names_of_prompt_and_seed(tmp_path: Path) -> None:
    for output in (str(tmp_path), str(tmp_path / "new"), f"{tmp_path / 'new.png'}{os.sep}", str(tmp_path / "v1.5")):
        place = Place.of(output, "two owls", count=1)
        place.check()
        assert place.picture(7) == Path(output) / "two-owls-7.png"
        assert place.sheet(7) == Path(output) / "two-owls-7-sheet.png"
        assert list(Path(output).glob("*rein*")) == []


def test_without_an_output_pictures_go_to_their_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place.of(None, "owl", count=3)
    place.check()
    assert place.picture(7) == Path("pictures/owl-7.png")
    assert Path("pictures").is_dir()


def test_a_file_name_is_taken_as_it_is_for_one_picture(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path / "owl.PNG"), "prompt", count=1)
    place.check()
    assert place.picture(7) == tmp_path / "owl.PNG"
    assert place.sheet(7) == tmp_path / "owl-sheet.PNG"


def test_a_file_name_is_numbered_for_several_after_those_that_are_there(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path / "owl.png"), "prompt", count=2)
    assert place.picture(7) == tmp_path / "owl-1.png"
    for name in ("owl-1.png", "owl-4.png", "owl-x.png", "owl-5.txt", "my-owl-9.png"):
        (tmp_path / name).touch()
    assert place.picture(8) == tmp_path / "owl-5.png"


def test_a_file_name_with_seed_in_it_is_not_numbered(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path / "owl-{seed}.png"), "prompt", count=2)
    assert place.picture(7) == tmp_path / "owl-7.png"
    assert place.sheet(7) == tmp_path / "owl-7-sheet.png"


def test_a_picture_goes_under_a_free_name_that_shows_nothing_before_it_is_complete(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path), "owl", count=1)
    (tmp_path / "owl-7.png").write_text("there before")

    def write(path: Path) -> None:
        with atomic_file(path, replace=False) as handle:
            assert not path.exists()
            handle.write(b"picture")

    assert place.written(7, False, write) == tmp_path / "owl-7-1.png"
    assert place.written(7, False, write) == tmp_path / "owl-7-2.png"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "owl-7.png": "there before",
        "owl-7-1.png": "picture",
        "owl-7-2.png": "picture",
    }
    assert place.written(7, True, lambda path: path.write_text("new")) == tmp_path / "owl-7.png"


def test_another_program_that_takes_the_name_meanwhile_keeps_it(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path), "owl", count=1)

    def write(path: Path) -> None:
        with atomic_file(path, replace=False) as handle:
            handle.write(b"mine")
            if path.name == "owl-7.png":
                path.write_text("theirs")

    assert place.written(7, False, write) == tmp_path / "owl-7-1.png"
    assert (tmp_path / "owl-7.png").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["owl-7-1.png", "owl-7.png"]


def test_a_sheet_takes_a_free_name(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path), "owl", count=2)
    for name in ("owl-7-sheet.png", "owl-7-sheet-1.png"):
        (tmp_path / name).touch()
    assert free_name(place.sheet(7)) == tmp_path / "owl-7-sheet-2.png"


@pytest.mark.parametrize("output", ["", "a\0b", "owl.gif", "folder/owl.tiff"])
def test_what_cannot_be_a_place_is_refused(output: str) -> None:
    with pytest.raises(InputError, match="output is"):
        Place.of(output, "prompt", count=1)


def test_the_format_is_told_by_the_name_or_by_itself(tmp_path: Path) -> None:
    assert Place.of(str(tmp_path / "owl.JPG"), "prompt", 1).picture(7) == tmp_path / "owl.JPG"
    assert Place.of(str(tmp_path / "owl.jpeg"), "prompt", 1, "jpeg").picture(7) == tmp_path / "owl.jpeg"
    assert Place.of(str(tmp_path), "owl", 1, "webp").picture(7) == tmp_path / "owl-7.webp"
    assert Place.of(str(tmp_path), "owl", 1, "jpeg").sheet(7) == tmp_path / "owl-7-sheet.jpg"
    with pytest.raises(InputError, match="format webp needs a name that ends in .webp"):
        Place.of(str(tmp_path / "owl.png"), "prompt", 1, "webp")
    with pytest.raises(InputError, match="unknown picture format 'tif'"):
        Place.of(str(tmp_path), "prompt", 1, "tif")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, reason in {
        "file": "it is a file, not a folder",
        "file/owl.png": "part of the path is a file",
        "file/owls/": "part of the path is a file",
        "missing/owl.png": "its folder does not exist",
        "x" * 250 + ".png": "the name is too long",
        "x" * 300: "the name is too long",
    }.items():
        with pytest.raises(OutputError, match=reason):
            Place.of(str(tmp_path) + os.sep + output, "prompt", count=1).check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="no permission"):
            Place.of(str(tmp_path), "prompt", count=1).check()
    finally:
        tmp_path.chmod(0o700)


def test_two_programs_that_write_at_once_get_two_names(tmp_path: Path) -> None:
    seen: list[Path] = []

    def write(path: Path) -> None:
        if not seen:
            path.write_text("theirs")
        seen.append(path)
        with atomic_file(path, replace=False) as handle:
            handle.write(b"ours")

    assert written_free(tmp_path / "s.png", write) == tmp_path / "s-1.png"
    assert (tmp_path / "s.png").read_text() == "theirs" and (tmp_path / "s-1.png").read_text() == "ours"
