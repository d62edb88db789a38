"""`rein data`: what it makes, what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rein.data.pictures import open_pictures
from tests.cli.conftest import Run
from tests.data.gathered import save_collection


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = save_collection(tmp_path / "in", [(48, 48), (96, 48), (10, 10)])
    (folder / "1.txt").unlink()
    return folder


def test_prepare_says_what_it_made_and_left_out(source: Path, tmp_path: Path, rein: Run) -> None:
    done = rein("data", "prepare", str(source), str(tmp_path / "out"), "--size", "48", "--trigger", "sks")
    assert (done.code, done.last) == (0, tmp_path / "out")
    assert "2 pictures kept, 1 left out" in done.out
    assert "  2.png: 10 x 10 pixels: the short side must have 24 or more" in done.out
    found = open_pictures(tmp_path / "out")
    assert [found.captions(index)[0] for index in range(2)] == ["sks, picture 0", "sks"]


def test_prepare_with_everything(source: Path, tmp_path: Path, rein: Run) -> None:
    (tmp_path / "more.csv").write_text("file_name,left,top,width,height\n1.png,0,0,48,48\n")
    options = ["--size", "32", "--square", "--crop", "smart", "--crops", str(tmp_path / "more.csv"), "--minimum", "8"]
    options += ["--resize-in", "lab", "--duplicates", "keep", "--augment", "light", "--copies", "2", "--seed", "3"]
    again = save_collection(tmp_path / "also", [(40, 40)])
    done = rein("data", "prepare", str(source), str(tmp_path / "out"), "--also", str(again), *options, "--json")
    told = json.loads(done.out)
    assert (told["kept"], told["copies"], told["without_captions"], told["refused"]) == (4, 8, 1, [])
    assert told["options"]["resized in"] == "lab"
    assert told["options"]["seed"] == 3
    found = open_pictures(tmp_path / "out")
    assert len(found) == 12
    assert set(found.buckets()) == {(32, 32)}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--size", "50"], "multiple of 8"),
        (["--crop", "smrt"], "did you mean 'smart'"),
        (["--resize-in", "rgb"], "unknown colour space 'rgb'"),
        (["--duplicates", "many"], "not a whole number"),
        (["--duplicates", "99"], "from 0 to 32"),
        (["--copies", "2"], "give both"),
        (["--augment", "huge", "--copies", "2"], "give a TOML file, or a name"),
        (["--encoding", "klingon"], "unknown encoding"),
        (["--crops", "none.csv"], "cannot read the list of crops"),
        (["--longest", "99"], "from 1 to 8"),
        (["--also", "nowhere"], "there is no folder or file 'nowhere'"),
    ],
)
def test_wrong_calls_are_one_line(options: list[str], problem: str, source: Path, tmp_path: Path, rein: Run) -> None:
    done = rein("data", "prepare", str(source), str(tmp_path / "out"), *options)
    assert done.code == 2
    assert problem in done.err
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_what_is_not_there_or_empty(tmp_path: Path, rein: Run) -> None:
    (tmp_path / "empty").mkdir()
    for place, problem in (("nowhere", "there is no folder or file"), ("empty", "there are no pictures in")):
        done = rein("data", "prepare", str(tmp_path / place), str(tmp_path / "out"))
        assert done.code == 2
        assert problem in done.err


def test_caption_refuses_what_is_no_model(source: Path, tmp_path: Path, rein: Run) -> None:
    done = rein("data", "caption", str(source), "--model", str(tmp_path / "none"))
    assert done.code == 2
    assert "must be a folder with config.json" in done.err
    assert rein("data", "caption", str(source), "--model", "x", "--beams", "0").code == 2


def test_rare_tokens_of_a_family_and_of_a_model(tiny: str, rein: Run) -> None:
    listed = rein("data", "rare-tokens", "--model", "sd15", "--count", "5").out.splitlines()
    assert listed[0].split() == ["WORD", "TOKEN", "RARITY", "MOVED"]
    assert len(listed) == 6
    found = json.loads(rein("data", "rare-tokens", "--model", tiny, "--most", "8", "--json").out)
    assert all(entry["movement"] > 0 for entry in found)
    assert {"text", "id", "rarity", "movement"} == set(found[0])
    assert rein("data", "rare-tokens", "--model", tiny, "--shortest", "30", "--most", "31").code == 2
    assert rein("data", "rare-tokens", "--count", "0").code == 2
