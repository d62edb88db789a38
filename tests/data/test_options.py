import math
from pathlib import Path
from typing import Any

import pytest

from rein.data.options import KINDS, ArtOptions, Mixture
from rein.errors import InputError


def test_the_weights_follow_the_kinds() -> None:
    assert Mixture(plain=1, colour=2, background=3, position=4, count=5, pair=6, triple=7).weights == (
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    )
    assert len(KINDS) == 7


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_bad_weight_is_named(weight: float) -> None:
    with pytest.raises(InputError, match=f"mixture.pair is {weight}"):
        Mixture(pair=weight)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="all weights are 0"):
        Mixture(0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 16}, "size is 16; it must be from 32 to 512"),
        ({"captions": 0}, "captions is 0"),
        ({"length": 0}, "length is 0"),
        ({"concept_count": 0}, "concept_count is 0"),
        ({"styles": ("flat", "flatt")}, "unknown style 'flatt': did you mean 'flat'"),
        ({"styles": ()}, "one at least"),
        ({"styles": ("flat", "flat")}, "at most once"),
        ({"held_out_share": 0.6}, "held_out_share is 0.6"),
        ({"held_out_share": math.nan}, "held_out_share is nan"),
    ],
)
def test_a_bad_option_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ArtOptions(**changes)


def test_the_home_folder_is_resolved_and_sources_follow_the_styles() -> None:
    options = ArtOptions(cache_folder=Path("~/art"), styles=("sticker", "flat"))
    assert options.folder == Path.home() / "art"
    assert [source.style for source in options.chosen_sources] == ["sticker", "flat"]
