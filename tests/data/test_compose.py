import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rein.data.colours import BACKGROUNDS, COLOUR_NAMES
from rein.data.compose import ArtDataset, draw
from rein.data.icons import IconArt
from rein.data.options import KINDS, Mixture
from rein.data.scenes import PLACES, Scene, Thing
from rein.errors import InputError
from tests.data.drawings import drawn_options


def only(kind: str) -> Mixture:
    return Mixture(**{name: float(name == kind) for name in KINDS})


def dataset_of(art: IconArt, kind: str) -> ArtDataset:
    options = replace(art.options, mixture=only(kind))
    other = IconArt(options)
    return ArtDataset(options, "train", other)


def digest(dataset: ArtDataset, count: int = 30) -> str:
    total = hashlib.sha256()
    for index in range(count):
        sample = dataset.picture(index)
        total.update(sample.pixels.tobytes())
        total.update(repr(sample.label).encode())
    return total.hexdigest()


def drawn(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Where anything is on white paper: left, right, top, bottom as fractions."""
    rows, columns = np.nonzero((pixels < 240).any(axis=2))
    size = pixels.shape[0]
    return columns.min() / size, (columns.max() + 1) / size, rows.min() / size, (rows.max() + 1) / size


def test_pictures_are_the_same_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from rein.data.compose import ArtDataset; "
        "from tests.data.drawings import drawn_options; from tests.data.test_compose import digest; "
        "print(digest(ArtDataset(drawn_options(Path(sys.argv[1])))))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": "src:."})
    dataset = ArtDataset(drawn_options(tmp_path))
    assert done.stdout.strip() == digest(dataset)
    assert digest(dataset) == digest(dataset)


def test_an_index_does_not_depend_on_what_was_asked_before(art: IconArt) -> None:
    dataset = ArtDataset(art.options, "train", art)
    alone = dataset.picture(17)
    others = [sample.pixels for sample in dataset]
    assert len(others) == len(dataset) == 50
    assert np.array_equal(others[17], alone.pixels) and dataset.label(17) == alone.label


def test_seed_split_and_index_each_change_the_pictures(art: IconArt) -> None:
    train, validation = ArtDataset(art.options, "train", art), ArtDataset(art.options, "validation", art)
    other_options = replace(art.options, seed=1)
    other = ArtDataset(other_options, "train", IconArt(other_options))
    assert len({digest(train), digest(validation), digest(other)}) == 3
    assert len({train.picture(index).pixels.tobytes() for index in range(40)}) == 40


def test_a_sample_is_a_picture_with_its_label(art: IconArt) -> None:
    sample = ArtDataset(art.options, "train", art).picture(10**12)
    assert sample.pixels.shape == (32, 32, 3) and sample.pixels.dtype == np.uint8
    assert len(sample.label.captions) == 4
    with pytest.raises(InputError, match="picture index -1: it must be at least 0"):
        ArtDataset(art.options, "train", art).picture(-1)
    with pytest.raises(InputError, match="unknown split 'validate': did you mean 'validation'"):
        ArtDataset(art.options, "validate", art)


def test_kinds_come_as_often_as_the_mixture_says(art: IconArt) -> None:
    options = replace(
        art.options, mixture=Mixture(plain=5, colour=2, background=1, position=0, count=0, pair=2, triple=0)
    )
    dataset = ArtDataset(options, "train", IconArt(options))
    kinds = Counter(dataset.label(index).kind for index in range(2000))
    assert set(kinds) == {"plain", "colour", "background", "pair"}
    assert kinds["plain"] == pytest.approx(1000, abs=100) and kinds["pair"] == pytest.approx(400, abs=80)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_says_what_it_shows(kind: str, art: IconArt) -> None:
    dataset = dataset_of(art, kind)
    things = {
        "plain": {1},
        "colour": {1},
        "background": {1},
        "position": {1},
        "count": {2, 3, 4},
        "pair": {2},
        "triple": {3},
    }
    labels = [dataset.label(index) for index in range(60)]
    assert {label.kind for label in labels} == {kind}
    assert {len(label.concepts) for label in labels} == things[kind]
    assert all(len(set(label.concepts)) == (1 if kind == "count" else len(label.concepts)) for label in labels)
    assert all((label.colour is not None) for label in labels) == (kind == "colour")
    for label in labels:
        for text in label.captions:
            assert kind != "colour" or COLOUR_NAMES[label.colour or 0] in text
            assert kind != "position" or any(place in text for place in PLACES)


def test_a_plain_thing_fills_the_paper_and_a_small_one_is_where_it_is_said(art: IconArt) -> None:
    left, right, top, bottom = drawn(draw(Scene("plain", 0, (Thing(0, side=0.9),)), art))
    assert left < 0.12 and right > 0.88 and top < 0.12 and bottom > 0.88
    for place, (x, y) in PLACES.items():
        scene = Scene("position", 0, (Thing(0, centre=(x, y), side=0.4),), place=place)
        left, right, top, bottom = drawn(draw(scene, art))
        assert (left + right) / 2 == pytest.approx(x, abs=0.05) and (top + bottom) / 2 == pytest.approx(y, abs=0.05)


def test_a_ground_fills_what_the_thing_leaves(art: IconArt) -> None:
    pixels = draw(Scene("background", 0, (Thing(0),), ground="dark blue"), art)
    assert tuple(pixels[0, 0]) == BACKGROUNDS["dark blue"]
    assert pixels[16, 16, 0] > 200


def test_a_thing_is_mirrored_unless_it_is_fixed(art: IconArt) -> None:
    step = draw(Scene("plain", 0, (Thing(13, side=1.0),)), art)
    mirrored = draw(Scene("plain", 0, (Thing(13, side=1.0, mirrored=True),)), art)
    assert not np.array_equal(step, mirrored)
    assert np.abs(step.astype(int) - mirrored[:, ::-1]).mean() < 3
    for share, shown in ((0.5, {False, True}), (0.0, {False})):
        dataset = ArtDataset(replace(art.options, mirrored=share, mixture=only("plain")), "train")
        scenes = [dataset.scene(index)[0].things[0] for index in range(400)]
        assert {thing.mirrored for thing in scenes if thing.concept == 15} == {False}
        assert {thing.mirrored for thing in scenes if thing.concept != 15} == shown


def test_white_things_stand_on_a_coloured_ground(art: IconArt) -> None:
    dataset = dataset_of(art, "colour")
    white = COLOUR_NAMES.index("white")
    labels = [dataset.label(index) for index in range(600)]
    whites = [label for label in labels if label.colour == white]
    assert whites and all("background" in text for label in whites for text in label.captions)


def test_the_fingerprint_follows_what_decides_the_pictures(art: IconArt, tmp_path: Path) -> None:
    base = ArtDataset(art.options, "train", art).fingerprint
    assert ArtDataset(drawn_options(tmp_path, length=7)).fingerprint == base
    assert ArtDataset(drawn_options(tmp_path, seed=3)).fingerprint != base
    assert ArtDataset(art.options, "validation", art).fingerprint != base
    options = drawn_options(tmp_path)
    (tmp_path / "concepts.txt").write_text((tmp_path / "concepts.txt").read_text().replace("coin", "penny"))
    assert ArtDataset(options).fingerprint != base
