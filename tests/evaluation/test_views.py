from itertools import islice

import numpy as np
import pytest

from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.data.scenes import SceneMaker
from rein.evaluation.views import layout_windows, training_views, window


def numbered(side: int = 128) -> np.ndarray:
    """A picture whose pixels tell their row and column."""
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2)


@pytest.mark.parametrize(
    ("centre", "top", "left"), [((0.5, 0.5), 32, 32), ((0.26, 0.5), 32, 1), ((0.5, 0.99), 64, 32), ((0.0, 0.3), 6, 0)]
)
def test_a_window_lies_round_its_centre_and_within_the_picture(
    centre: tuple[float, float], top: int, left: int
) -> None:
    cut = window(numbered(), centre)
    assert cut.shape == (64, 64, 3)
    assert cut[0, 0].tolist() == [top, left, 0] and cut[-1, -1].tolist() == [top + 63, left + 63, 0]


def test_windows_of_all_layouts() -> None:
    windows = layout_windows(np.stack([numbered(), numbered() // 2]))
    assert windows.shape == (2, 2, 2, 64, 64, 3)
    assert windows[0, 0, 0, 0, 0].tolist() == [32, 1, 0]  # left of beside
    assert windows[0, 1, 1, 0, 0].tolist() == [63, 32, 0]  # lower of above


def test_training_views_are_the_same_again_and_show_what_they_say(art: IconArt) -> None:
    maker = SceneMaker(art, HeldOut(art))
    first, second = (list(islice(training_views(art, maker, 3), 200)) for _ in range(2))
    other = list(islice(training_views(art, maker, 4), 200))
    assert all(np.array_equal(a.pixels, b.pixels) and a.thing == b.thing for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))
    assert {view.pixels.shape for view in first} == {(64, 64, 3)}
    for view in first:
        if view.thing is not None:
            pixels = view.pixels.reshape(-1, 3)
            assert len(np.unique(pixels, axis=0)) > 1, "an empty view with a thing's name"
    nothing = sum(view.thing is None for view in first)
    assert 1 <= nothing <= 40
