"""Pictures with depth: where a map says that something is near, something is drawn."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from rein.data.compose import ArtDataset, placed
from rein.data.depth import DepthDataset, arranged
from rein.data.icons import IconArt
from rein.data.options import KINDS, Mixture
from rein.data.scenes import PLACES, Scene, Thing


def depth_of(art: IconArt, kind: str, split: str = "train") -> DepthDataset:
    mixture = Mixture(**{name: float(name == kind) for name in KINDS})
    return DepthDataset(ArtDataset(replace(art.options, mixture=mixture), split, art=None))


def test_a_sample_is_a_function_of_its_index(art: IconArt) -> None:
    dataset = DepthDataset(ArtDataset(art.options, "train", art))
    later = [dataset.sample(index) for index in (7, 3)]
    sample = DepthDataset(ArtDataset(art.options, "train", art)).sample(3)
    assert np.array_equal(sample.pixels, later[1].pixels) and np.array_equal(sample.maps, later[1].maps)
    assert not np.array_equal(later[0].pixels, later[1].pixels)
    assert sample.label == later[1].label == dataset.label(3)
    size = art.options.size
    assert sample.pixels.shape == (size, size, 3) and sample.maps.shape == (2, size, size)
    assert sample.maps.dtype == np.uint8


def test_captions_of_neighbouring_splits_and_plain_pictures_have_other_fingerprints(art: IconArt) -> None:
    plain = ArtDataset(art.options, "train", art)
    known = {plain.fingerprint, DepthDataset(plain).fingerprint}
    known.add(DepthDataset(ArtDataset(art.options, "validation", art)).fingerprint)
    assert len(known) == 3


def test_a_single_thing_is_where_the_map_says(art: IconArt) -> None:
    dataset = depth_of(art, "plain")
    places = set()
    for index in range(24):
        sample = dataset.sample(index)
        outline, rough = sample.maps > 0
        drawn = (sample.pixels < 250).any(axis=2)
        assert (outline & ~drawn).sum() == 0, "what is near is drawn"
        assert (drawn & ~outline).sum() < 0.35 * drawn.sum(), "only the soft edge of the drawing is outside of it"
        left, top, right, bottom = sample.boxes[0]
        assert outline[top:bottom, left:right].sum() == outline.sum()
        rows, columns = np.nonzero(rough)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(np.subtract(box, sample.boxes[0])).max() <= 2, "an ellipse fills the same box"
        places.add((left // 4, top // 4))
    assert len(places) > 8


def test_the_nearest_thing_stands_before_the_others(art: IconArt) -> None:
    dataset = depth_of(art, "pair")
    overlaps = 0
    for index in range(60):
        sample = dataset.sample(index)
        (a, b), outline = sample.boxes, sample.maps[0]
        assert outline.max() > 220 and len(set(np.unique(outline)) - {0}) >= 2
        scene, nearness, _ = dataset._scene(index)
        card, (left, top) = placed(scene.things[int(np.argmax(nearness))], scene.style, dataset.dataset.art)
        *colours, alpha = np.moveaxis(np.asarray(card), -1, 0)
        seen = sample.pixels[top : top + card.height, left : left + card.width]
        assert np.array_equal(seen[alpha == 255], np.stack(colours, axis=-1)[alpha == 255]), "nothing covers it"
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        overlaps += width > 0 and height > 0
    assert overlaps > 5, "things cover each other now and then"


@pytest.mark.parametrize("relation", ["beside", "above"])
def test_a_pair_stays_in_the_order_of_its_words(relation: str) -> None:
    scene = Scene("pair", 0, (Thing(0), Thing(1)), relation=relation)
    for seed in range(50):
        first, second = arranged(scene, Random(seed)).things
        axis = 0 if relation == "beside" else 1
        assert first.centre[axis] + 0.15 < second.centre[axis]


def test_words_about_the_place_stay_true() -> None:
    place = next(iter(PLACES))
    scene = Scene("position", 0, (Thing(0, centre=PLACES[place], side=0.4),), place=place)
    assert arranged(scene, Random(1)) == scene
    count = Scene("count", 0, (Thing(0),) * 3)
    assert arranged(count, Random(1)) == count


def test_a_thing_stays_inside_and_changes_its_size() -> None:
    scene, sides = Scene("plain", 0, (Thing(0),)), []
    for seed in range(200):
        [thing] = arranged(scene, Random(seed)).things
        sides.append(thing.side)
        assert all(thing.side / 2 <= middle <= 1 - thing.side / 2 for middle in thing.centre)
    assert min(sides) < 0.45 and max(sides) > 0.88
