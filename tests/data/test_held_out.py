from itertools import combinations
from pathlib import Path

import pytest

from rein.data.colours import COLOUR_NAMES
from rein.data.compose import ArtDataset
from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.errors import InputError
from tests.data.drawings import drawn_options


def shown(art: IconArt, split: str, count: int = 1500) -> tuple[list[bool], HeldOut]:
    """For each picture whether it shows anything that is held out."""
    dataset = ArtDataset(art.options, split, art)
    held = dataset.held_out
    flags = []
    for index in range(count):
        label = dataset.label(index)
        styles = any(held.styles[concept] == label.style for concept in label.concepts)
        colours = any(
            colour in held.held_colours[concept]
            for concept, colour in zip(label.concepts, label.colours, strict=True)
            if colour is not None
        )
        pairs = any(held.pair(a, b) for a, b in combinations(sorted(set(label.concepts)), 2))
        assert label.held_out == (split == "validation")
        flags.append(styles or colours or pairs)
    return flags, held


def test_training_pictures_show_nothing_held_out(art: IconArt) -> None:
    flags, held = shown(art, "train")
    assert not any(flags)
    assert any(style is not None for style in held.styles) and any(held.held_colours)


def test_every_validation_picture_shows_something_held_out(art: IconArt) -> None:
    flags, _ = shown(art, "validation")
    assert all(flags)


def test_everything_stays_trained_in_some_way(art: IconArt) -> None:
    held = HeldOut(art)
    for concept in range(16):
        assert held.trained_styles[concept]
        assert bool(held.trained_colours[concept]) == bool(held.colours[concept])
        assert any(not held.pair(concept, other) for other in range(16) if other != concept)


def test_a_pair_has_no_order(art: IconArt) -> None:
    held = HeldOut(art)
    pairs = list(combinations(range(16), 2))
    assert [held.pair(a, b) for a, b in pairs] == [held.pair(b, a) for a, b in pairs]
    assert 0.12 < sum(held.pair(a, b) for a, b in pairs) / len(pairs) < 0.38  # 0.25 of 120, three deviations


def test_a_shorter_list_holds_out_the_same(art: IconArt, tmp_path: Path) -> None:
    short, long = HeldOut(IconArt(drawn_options(tmp_path, concept_count=9))), HeldOut(art)
    assert short.styles == long.styles[:9]
    assert short.held_colours == long.held_colours[:9]
    assert [short.pair(0, k) for k in range(1, 9)] == [long.pair(0, k) for k in range(1, 9)]


def test_another_seed_holds_out_something_else(art: IconArt, tmp_path: Path) -> None:
    other = HeldOut(IconArt(drawn_options(tmp_path, held_out_seed=1)))
    assert other.styles != HeldOut(art).styles


def test_own_colours_and_natural_things_are_not_held_out(art: IconArt) -> None:
    held = HeldOut(art)
    red = COLOUR_NAMES.index("red")
    assert red in held.own_colours[0] and red in held.trained_colours[0]
    assert held.colours[15] == ()  # the flag is marked natural
    assert held.own_colours[0].isdisjoint(held.held_colours[0])


def test_nothing_held_out_means_no_validation(tmp_path: Path) -> None:
    art = IconArt(drawn_options(tmp_path, held_out_share=0.0))
    ArtDataset(art.options, "train", art).picture(0)
    with pytest.raises(InputError, match="there is nothing held out"):
        ArtDataset(art.options, "validation", art).picture(0)


def test_a_single_style_holds_out_no_style(tmp_path: Path) -> None:
    art = IconArt(drawn_options(tmp_path, styles=("plain",)))
    flags, held = shown(art, "validation", 200)
    assert all(flags) and set(held.styles) == {None}
