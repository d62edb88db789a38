"""Augmentations: drawn by a seed, the mask moving along."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from rein.data.augment import BUILT_IN, LIGHT, STRONG, Augmentations, Augmenter, names_of, read_augmentations
from rein.errors import InputError
from tests.data.gathered import painted

PIXELS = np.asarray(painted(48, 32, 3))
KINDS = ("flip", "crop", "rotation", "colour", "blur", "noise")


def only(kind: str, **options: object) -> Augmenter:
    table = {"kind": kind, "probability": 1.0, **options}
    return Augmenter(Augmentations.model_validate({"augmentation": [table]}))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_the_picture_and_keeps_its_size(kind: str) -> None:
    drawn, mask = only(kind).draw(PIXELS, None, "key", 0)
    assert drawn.shape == PIXELS.shape
    assert drawn.dtype == np.uint8
    assert mask is None
    assert (drawn != PIXELS).any()
    assert np.abs(drawn.astype(int) - PIXELS).mean() < 90


def test_a_drawing_depends_on_seed_key_and_number_alone() -> None:
    one = Augmenter(STRONG)
    first = one.draw(PIXELS, None, "key", 0)[0]
    others = [one.draw(PIXELS, None, "key", 1)[0], one.draw(PIXELS, None, "other", 0)[0]]
    others.append(Augmenter(STRONG.seeded(1)).draw(PIXELS, None, "key", 0)[0])
    assert (Augmenter(STRONG).draw(PIXELS, None, "key", 0)[0] == first).all()
    for left, right in itertools.combinations([first, *others], 2):
        assert (left != right).any()


def test_the_random_numbers_of_others_are_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    Augmenter(LIGHT).draw(PIXELS, None, "key", 0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["flip", "crop", "rotation"])
def test_a_mask_moves_with_its_picture(kind: str) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:30, 6:40] = 255
    drawn, mask = only(kind).draw(pixels, pixels[..., 0], "key", 2)
    assert mask is not None
    assert ((drawn[..., 1] > 127) != (mask > 127)).mean() < 0.02
    assert (drawn != pixels).any()


def test_colours_and_noise_leave_a_mask_alone() -> None:
    mask = np.asarray(painted(48, 32, 8).convert("L"))
    for kind in ("colour", "blur", "noise"):
        moved = only(kind).draw(PIXELS, mask, "key", 0)[1]
        assert moved is not None and (moved == mask).all()


def test_a_flip_is_a_flip_and_half_are() -> None:
    assert (only("flip").draw(PIXELS, None, "k", 0)[0] == PIXELS[:, ::-1]).all()
    half = Augmenter(Augmentations.model_validate({"augmentation": [{"kind": "flip"}]}))
    flipped = [(half.draw(PIXELS, None, "k", number)[0] != PIXELS).any() for number in range(40)]
    assert 10 <= sum(flipped) <= 30


def test_lists_from_files_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text('seed = 7\n[[augmentation]]\nkind = "crop"\nsmallest = 0.5\n[[augmentation]]\nkind = "noise"\n')
    found = read_augmentations(str(path))
    assert (found.seed, names_of(found)) == (7, ["crop", "noise"])
    assert read_augmentations("light") is BUILT_IN["light"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed = 1", "augmentation: Field required"),
        ('[[augmentation]]\nkind = "twirl"', "twirl"),
        ('[[augmentation]]\nkind = "flip"\nchance = 1', "chance"),
        ('[[augmentation]]\nkind = "flip"\nprobability = 2', "less than or equal to 1"),
        ('[[augmentation]]\nkind = "crop"\nsmallest = 0', "greater than 0"),
        ("[[", "is not a TOML file"),
    ],
)
def test_wrong_lists_are_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "list.toml").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_augmentations(str(tmp_path / "list.toml"))
    with pytest.raises(InputError, match="did you mean 'light'"):
        read_augmentations("ligth")
    with pytest.raises(InputError, match="seed is -1"):
        LIGHT.seeded(-1)
