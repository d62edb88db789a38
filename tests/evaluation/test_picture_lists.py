"""Lists of pictures: what is in them, what their prompts are, what pairs them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.evaluation.gallery import Gallery
from rein.evaluation.picture_lists import drawn_pictures, open_list, paired_places
from rein.evaluation.results import Results, write_results
from tests.evaluation.pictures import folder


def test_a_folder_has_names_pictures_and_prompts(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", 3, prompt="an owl")
    (place / "001.txt").write_text("a dog\nanother caption\n")
    Image.new("RGB", (8, 9), "red").save(place / "z.jpg")
    (place / "old.bmp").write_bytes(b"BM")
    found = open_list(place)
    assert found.names == ["000", "001", "002", "z"]
    assert found.prompts == ["an owl", "a dog", "an owl", None]
    assert found[3].size == (8, 9) and len(found) == 4
    assert [name for name, _ in found.skipped] == ["old.bmp"]
    assert found.some([3, 0]).names == ["z", "000"]


def test_an_archive_is_a_list_too(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", 2)
    (place / "000.txt").write_text("an owl")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for file in sorted(place.iterdir()):
            archive.add(file, file.name)
    found = open_list(tmp_path / "shard.tar")
    assert len(found) == 2 and found.prompts == ["an owl", None]
    assert found.names == open_list(place).names, "they pair with those of the folder that was packed"
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        (tmp_path / "x.png").write_bytes(b"no picture")
        archive.add(tmp_path / "x.png", "x.png")
    with pytest.raises(DamagedFileError, match=r"cannot read .*/bad\.tar/x:"):
        open_list(tmp_path / "bad.tar")[0]
    np.testing.assert_array_equal(np.asarray(found[1]), np.asarray(open_list(place)[1]))


def test_what_a_gallery_drew_is_a_list_in_the_order_asked(tmp_path: Path) -> None:
    orders = [("b", 1), ("a", 0), ("b", 2)]
    gallery = Gallery(
        lambda prompts, seeds: [Image.new("RGB", (4, 4), (seed, 0, 0)) for seed in seeds], tmp_path, "key"
    )
    assert list(gallery.fill(orders)) == [0, 3]
    found = drawn_pictures("model", gallery, orders)
    assert found.prompts == ["b", "a", "b"]
    assert [found[place].getpixel((0, 0)) for place in range(3)] == [(1, 0, 0), (0, 0, 0), (2, 0, 0)]
    assert sorted(found.names) == sorted(open_list(gallery.folder).names)


def test_pictures_pair_by_their_names(tmp_path: Path) -> None:
    one, other = open_list(folder(tmp_path / "a", 4)), open_list(folder(tmp_path / "b", 3, seed=1))
    assert paired_places(one, other) == [(0, 0), (1, 1), (2, 2)]
    (tmp_path / "c").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "c" / "other.png")
    with pytest.raises(InputError, match="no picture in .*a has the name of one in .*c"):
        paired_places(one, open_list(tmp_path / "c"))


def test_the_folder_of_an_evaluation_stands_for_its_pictures(tmp_path: Path) -> None:
    def judged(where: Path, drawn: str, settings: dict[str, str]) -> None:
        where.mkdir(exist_ok=True)
        write_results(Results(drawn, 2, "", 0, (), (), (), settings, {}, 0.0), where / "results.json")

    folder(tmp_path / "model" / "drawn-1", 3), folder(tmp_path / "model" / "drawn-2", 2)
    judged(tmp_path / "model", "pocket", {"pictures": "drawn-2"})
    assert open_list(tmp_path / "model").names == ["000", "001"]
    judged(tmp_path / "out", str(tmp_path / "model"), {})
    found = open_list(tmp_path / "out", 2)
    assert found.names == ["000", "001"] and found.label == str(tmp_path / "model")
    judged(tmp_path / "lost", str(tmp_path / "nothing"), {"pictures": "../model"})
    for place in ("lost", "own"):
        judged(tmp_path / "own", str(tmp_path / "own"), {})
        with pytest.raises(InputError, match=f"there are no pictures in .*{place}"):
            open_list(tmp_path / place)
    (tmp_path / "model" / "results.json").write_text("{}")
    assert len(open_list(tmp_path / "model")) == 5, "a file of that name that is something else changes nothing"


def test_places_without_pictures_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no pictures in .*empty, and 1 at least are needed"):
        open_list(tmp_path / "empty")
    with pytest.raises(InputError, match="there is no folder or file"):
        open_list(tmp_path / "nothing")
    place = folder(tmp_path / "a", 1)
    with pytest.raises(InputError, match="there is 1 picture in"):
        open_list(place, 2)
    (place / "000.png").write_bytes(b"no picture")
    with pytest.raises(DamagedFileError, match=r"000\.png"):
        open_list(place)[0]
