"""Growing a picture: windows cover what is new, each sees enough of what is known, seams have room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rein.pipeline import outpaint

NATIVE, UNIT = 128, 8
margin = st.sampled_from([0, 1, 8, 40, 64, 65, 130, 200])


@given(st.tuples(st.sampled_from([64, 128, 130, 300]), st.sampled_from([64, 128, 200])), st.tuples(*[margin] * 4))
def test_windows_cover_all_that_is_new_and_always_see_the_picture(
    size: tuple[int, int], margins: tuple[int, int, int, int]
) -> None:
    left, top, right, bottom = margins
    whole = size[0] + left + right, size[1] + top + bottom
    known = np.zeros((whole[1], whole[0]), dtype=bool)
    known[top : top + size[1], left : left + size[0]] = True
    for window in outpaint.windows(size, margins, NATIVE, UNIT):
        box = window.box
        assert 0 <= box[0] < box[2] <= whole[0] and 0 <= box[1] < box[3] <= whole[1]
        assert max(box[2] - box[0], box[3] - box[1]) <= NATIVE * 3 // 2
        assert np.array_equal(outpaint.unknown(whole, window.known) == 0, known)
        part = known[box[1] : box[3], box[0] : box[2]]
        assert 0.3 <= part.mean() < 1, "it has something to see and something to do"
        known[box[1] : box[3], box[0] : box[2]] = True
    assert known.all()


def test_nothing_to_add_is_no_window() -> None:
    assert outpaint.windows((64, 64), (0, 0, 0, 0), NATIVE, UNIT) == []


@pytest.mark.parametrize("blur", [0.0, 2.0, 4.0])
def test_a_seam_lays_on_all_that_is_new_and_fades_into_what_is_known(blur: float) -> None:
    new = outpaint.unknown((80, 60), ((30, 0, 80, 60),))
    drawn, share = outpaint.joined(new, blur)
    assert (share[new == 1] == 1).all()
    assert (drawn[share > 0] == 1).all()
    reach = int(2.5 * blur + 0.5)
    assert (share[:, 30 + 2 * reach + 1 :] == 0).all()
    assert blur == 0 or 0 < share[30, 30 + reach] < 1


def test_the_canvas_keeps_the_picture_and_goes_on_with_its_colours() -> None:
    pixels = np.zeros((60, 120, 3), dtype=np.uint8)
    pixels[:, :60], pixels[:, 60:] = (250, 0, 0), (0, 0, 250)
    whole = np.asarray(outpaint.canvas(Image.fromarray(pixels), (12, 0, 12, 4)))
    assert whole.shape == (64, 144, 3) and np.array_equal(whole[:60, 12:132], pixels)
    assert whole[30, 2, 0] > 200 > 50 > whole[30, 2, 2] and whole[30, 142, 2] > 200


def test_what_lies_inside_does_not_colour_the_canvas_and_nothing_fine_is_drawn_far_out() -> None:
    pixels = np.full((64, 64, 3), 255, dtype=np.uint8)
    pixels[8:56, 8:56] = (200, 0, 0)
    assert (np.asarray(outpaint.canvas(Image.fromarray(pixels), (64, 64, 64, 64)))[:64] == 255).all()
    pixels[::2] = 0
    left = np.asarray(outpaint.canvas(Image.fromarray(pixels), (40, 0, 0, 0)))[:, :40, 0].astype(int)
    assert np.ptp(left[16:48, 39]) == 255 and np.ptp(left[16:48, 10]) < 10
