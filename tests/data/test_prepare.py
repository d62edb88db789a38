"""A collection made ready: what is in the folder, what is left out, what happens when something goes wrong."""

from __future__ import annotations

import csv
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.data.augment import LIGHT, STRONG
from rein.data.crop_list import read_crop_list
from rein.data.pictures import PictureOptions, open_pictures
from rein.data.preparation import Outcome, Preparation
from rein.data.prepare import prepare_pictures
from rein.data.set_file import read_set_file
from rein.errors import DamagedFileError, InputError, OutputError
from tests.data.gathered import archive, bytes_of, painted, save_collection


def prepare(source: Path, out: Path, wanted: Preparation, replaced: bool = False) -> Outcome:
    news = list(prepare_pictures([str(source)], out, wanted, replaced))
    assert news[-1].outcome is not None
    return news[-1].outcome


def rows(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three good pictures, one of them twice, one tiny, one damaged, one of a kind that is not read."""
    folder = save_collection(tmp_path / "in", [(48, 48), (96, 48), (48, 80), (10, 10)])
    painted(96, 48, 1).resize((72, 36)).save(folder / "again.jpg", quality=70)
    (folder / "broken.png").write_bytes(bytes_of(painted(48, 48, 7))[:900])
    (folder / "moving.gif").write_bytes(b"GIF89a")
    return folder


def test_the_folder_and_its_tables(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = prepare(source, out, Preparation(size=48, trigger="sks"))
    assert [made.name for made in outcome.kept.values()] == ["0.png", "1.png", "2.png"]
    assert [(twin.name, kept.name) for twin, kept in outcome.twins] == [("again.jpg", "1.png")]
    table = rows(out)
    assert [row["text"] for row in table] == ["sks, picture 0", "sks, picture 1", "sks, picture 2"]
    assert [row["source_size"] for row in table] == [[48, 48], [96, 48], [48, 80]]
    with (out / "refused.csv").open(newline="") as handle:
        refused = {row["name"]: row["reason"] for row in csv.DictReader(handle)}
    assert set(refused) == {"3.png", "again.jpg", "broken.png", "moving.gif"}
    assert "10 x 10 pixels: the short side must have 24" in refused["3.png"]
    assert "nearly the same as 1.png" in refused["again.jpg"]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}  # nothing is left beside it


def test_what_was_prepared_opens_as_it_is(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", Preparation(size=48))
    found = open_pictures(tmp_path / "out")
    assert (found.size, len(found), found.skipped) == (48, 3, ())
    for index, row in enumerate(rows(tmp_path / "out")):
        assert (found.pixels(index) == np.asarray(Image.open(tmp_path / "out" / str(row["file_name"])))).all()
        assert found.captions(index) == (f"picture {index}", "the same again")
    described = read_set_file(tmp_path / "out")
    assert described is not None
    for space, entry in found.statistics.items():
        assert np.allclose(entry.mean, described.statistics[space].mean, atol=1e-4)
        assert np.allclose(entry.deviation, described.statistics[space].deviation, atol=1e-4)
    direct = open_pictures(source, 48)
    assert (direct.pixels(2) == found.pixels(2)).all()


def test_the_result_depends_on_no_machine(source: Path, tmp_path: Path) -> None:
    for name, threads in (("one", 1), ("five", 5)):
        wanted = Preparation(size=48, threads=threads, augmentations=LIGHT, copies=2)
        prepare(source, tmp_path / name, wanted)
    assert contents(tmp_path / "one") == contents(tmp_path / "five")


def test_copies_are_changed_and_stay_on_one_side(source: Path, tmp_path: Path) -> None:
    (source / "2-masklabel.png").write_bytes(bytes_of(painted(48, 80, 9).convert("L")))
    outcome = prepare(source, tmp_path / "out", Preparation(size=48, augmentations=STRONG, copies=3))
    assert outcome.copies == 9
    found = open_pictures(tmp_path / "out")
    assert len(found) == 12
    assert len({found.pixels(index).tobytes() for index in range(12)}) == 12
    masked = [index for index in range(12) if found.mask(index) is not None]
    assert [found.name(index)[:15] for index in masked] == ["pictures/000003"] * 4
    most, held = found.split(0.5)
    numbers = [{part.name(index)[:15] for index in range(len(part))} for part in (most, held)]
    assert numbers[0] & numbers[1] == set()
    assert len(numbers[0] | numbers[1]) == 3


def test_the_report_shows_pictures_and_reasons(source: Path, tmp_path: Path) -> None:
    (source / "0.txt").write_text("<script>alert(1)</script>")
    prepare(source, tmp_path / "out", Preparation(size=48))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 + 2 + 1  # kept, a pair of twins, the tiny one
    assert "moving.gif" in page and "convert it" in page
    assert "again.jpg was left out, 1.png stays" in page
    assert "3 of 7 pictures are kept; left out: unusable 3, nearly the same as another 1." in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_crops_by_hand(source: Path, tmp_path: Path) -> None:
    listed = tmp_path / "crops.csv"
    listed.write_text("file_name,left,top,width,height\n1.png,40,0,48,48\n2.png,0,60,48,48\ngone.png,0,0,9,9\n")
    outcome = prepare(source, tmp_path / "out", Preparation(size=48, boxes=read_crop_list(listed)))
    kept = {made.name: made for made in outcome.kept.values()}
    assert (kept["1.png"].bucket, kept["1.png"].box) == ((48, 48), (40, 0, 88, 48))
    found = open_pictures(tmp_path / "out")
    assert (found.pixels(1) == np.asarray(painted(96, 48, 1))[:, 40:88]).all()
    reasons = {entry.refused.name: entry.refused.reason for entry in outcome.refused}
    assert "is not within its 48 x 80 pixels" in reasons["2.png"]
    assert "it was not found" in reasons["gone.png"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n", "needs a first line"),
        ("file_name,left,top,width,height\na.png,0,0,9,9\na.png,0,0,9,9\n", "stands there twice"),
        ("file_name,left,top,width,height\na.png,0,0,x,9\n", "must be numbers"),
        ("file_name,left,top,width,height\na.png,0,0,0,9\n", "at least 1 pixel"),
        ("file_name,left,top,width,height\na.png,0,0,nan,9\n", "at least 1 pixel"),
        ("file_name,left,top,width,height\na.png,0\n", "must be numbers"),
    ],
)
def test_a_wrong_list_of_crops_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "crops.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_crop_list(tmp_path / "crops.csv")
    with pytest.raises(InputError, match="cannot read"):
        read_crop_list(tmp_path / "none.csv")


def test_archives_folders_and_captions_that_are_needed(source: Path, tmp_path: Path) -> None:
    (source / "0.txt").unlink()
    shard = tmp_path / "shard.tar"
    shard.write_bytes(archive([("x.png", bytes_of(painted(60, 60, 21))), ("x.txt", b"in a shard")]))
    wanted = Preparation(size=48, need_captions=True, pictures=PictureOptions(minimum=1), duplicates=None)
    outcome = list(prepare_pictures([str(source), str(shard)], tmp_path / "out", wanted))[-1].outcome
    assert outcome is not None
    assert [made.name for made in outcome.kept.values()] == ["1.png", "2.png", "3.png", "shard.tar/x"]
    assert ("0.png", "it has no caption") in [(e.refused.name, e.refused.reason) for e in outcome.refused]


def test_of_twins_the_largest_stays(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("a", 48), ("b", 96), ("c", 96)):
        painted(side, side, 5).save(folder / f"{name}.png")
    (folder / "c.txt").write_text("of two as large, the one with a caption")
    outcome = prepare(folder, tmp_path / "out", Preparation(size=48, trigger="sks"))
    assert [made.name for made in outcome.kept.values()] == ["c.png"]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 1


def test_a_place_that_is_taken_is_left_alone(source: Path, tmp_path: Path) -> None:
    out, wanted = tmp_path / "out", Preparation(size=48)
    out.mkdir()
    prepare(source, out, wanted)  # an empty folder will do
    before = contents(out)
    with pytest.raises(InputError, match="prepared folder already"):
        prepare(source, out, Preparation(size=24))
    with pytest.raises(InputError, match="holds something else"):
        prepare(source, source.parent, wanted)
    with pytest.raises(InputError, match="is read: choose a place beside it"):
        prepare(source, source / "out", wanted)
    with pytest.raises(InputError, match="is a file"):
        prepare(source, out / "dataset.json", wanted)
    assert contents(out) == before
    prepare(source, out, Preparation(size=24), replaced=True)
    assert open_pictures(out).size == 24


def test_nothing_usable_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="there are no pictures in"):
        prepare(tmp_path / "in", tmp_path / "out", Preparation())
    (tmp_path / "in" / "a.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"can be used, 1 were left out: a\.png"):
        prepare(tmp_path / "in", tmp_path / "out", Preparation())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_full_disk_leaves_the_former_folder(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(source, out, Preparation(size=24))
    before = contents(out)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot write .*out"):
            prepare(source, out, Preparation(size=48), replaced=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_stopping_on_the_way_leaves_nothing(source: Path, tmp_path: Path) -> None:
    work = prepare_pictures([str(source)], tmp_path / "out", Preparation(size=48))
    next(work)
    work.close()  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"size": 50}, "multiple of 8"),
        ({"copies": 2}, "give both"),
        ({"augmentations": LIGHT}, "give both"),
        ({"duplicates": 65}, "from 0 to 32"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Preparation(**options)  # type: ignore[arg-type]


def test_a_damaged_description_is_named(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", Preparation(size=48))
    (tmp_path / "out" / "dataset.json").write_text('{"format": "rein-dataset", "size": -1}')
    with pytest.raises(DamagedFileError, match="prepare it again"):
        open_pictures(tmp_path / "out")
