import pytest
import torch

from rein.evaluation.damage import DamageOptions, damaged

NONE = dict.fromkeys(("warp", "blur", "noise", "blotches", "tint", "patches", "jpeg"), 0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture() -> torch.Tensor:
    """Eight copies of a red square on white."""
    pixels = torch.ones(8, 3, 64, 64)
    pixels[:, 1:, 16:48, 16:48] = -0.8
    return pixels


def test_the_same_generator_gives_the_same_damage() -> None:
    first, second = (damaged(picture(), generator(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, damaged(picture(), generator(5)))


def test_the_pixels_given_stay_and_the_range_is_kept() -> None:
    pixels = picture()
    out = damaged(pixels, generator())
    assert torch.equal(pixels, picture())
    assert out.min() >= -1 and out.max() <= 1 and torch.isfinite(out).all()


def test_without_shares_nothing_changes() -> None:
    assert torch.equal(damaged(picture(), generator(), DamageOptions(**NONE)), picture())


@pytest.mark.parametrize("kind", sorted(NONE))
def test_each_kind_does_something_and_leaves_red_red(kind: str) -> None:
    out = damaged(picture(), generator(1), DamageOptions(**(NONE | {kind: 1.0})))
    assert ((out - picture()).abs().flatten(1).max(dim=1).values > 0.01).all()
    middle = out[:, :, 24:40, 24:40].mean(dim=(2, 3))
    if kind != "patches":
        assert (middle[:, 0] > middle[:, 1:].max(dim=1).values + 1.0).all()


def test_a_share_is_met() -> None:
    pixels = picture().repeat(50, 1, 1, 1)
    out = damaged(pixels, generator(), DamageOptions(**(NONE | {"tint": 0.25})))
    changed = (out != pixels).flatten(1).any(dim=1).float().mean()
    assert changed == pytest.approx(0.25, abs=0.07)
