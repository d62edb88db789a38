"""Captions on their way into training."""

from __future__ import annotations

import pytest

from rein.data.caption_edits import AS_WRITTEN, CaptionEdits, with_trigger
from rein.errors import InputError

TAGS = ("sks, cat, sitting, red sofa, window, evening",)


def lots(count: int) -> list[float]:
    return [(number + 0.5) / count for number in range(count)]


def test_a_trigger_stands_in_front_once() -> None:
    assert with_trigger("a cat", "sks") == "sks, a cat"
    assert with_trigger("a photo of Sks, sitting", "sks") == "a photo of Sks, sitting"
    assert with_trigger("asks a cat", "sks") == "sks, asks a cat"
    assert with_trigger("", "sks") == "sks"
    assert with_trigger("a cat", "") == "a cat"


def test_tags_are_shuffled_behind_those_that_stay() -> None:
    edits = CaptionEdits(shuffle=True, keep=2)
    seen = {edits.chosen(TAGS, "key", lot) for lot in lots(40)}
    assert len(seen) > 10
    for text in seen:
        parts = text.split(", ")
        assert parts[:2] == ["sks", "cat"]
        assert sorted(parts) == sorted(TAGS[0].split(", "))


def test_a_trigger_is_never_moved_or_left_out() -> None:
    edits = CaptionEdits(shuffle=True, tag_dropout=0.9, trigger="sks")
    seen = {edits.chosen(TAGS, "key", lot) for lot in lots(60)}
    assert len(seen) > 5 and all(text.split(", ")[0] == "sks" for text in seen)
    inside = {edits.chosen(("a photo of sks, sitting",), "key", lot) for lot in lots(60)}
    assert all("sks" in text.replace(",", " ").split() for text in inside)


def test_tags_fall_as_often_as_asked() -> None:
    edits = CaptionEdits(keep=1, tag_dropout=0.3)
    counts = [len(edits.chosen(TAGS, "key", lot).split(", ")) - 1 for lot in lots(2000)]
    assert sum(counts) / (5 * 2000) == pytest.approx(0.7, abs=0.03)


def test_the_same_lot_gives_the_same_words() -> None:
    edits = CaptionEdits(shuffle=True, tag_dropout=0.5)
    first = [edits.chosen(("a, b, c, d", "e, f"), "key", lot) for lot in lots(30)]
    assert first == [edits.chosen(("a, b, c, d", "e, f"), "key", lot) for lot in lots(30)]
    assert first != [edits.chosen(("a, b, c, d", "e, f"), "other", lot) for lot in lots(30)]


def test_plain_captions_are_left_and_each_comes() -> None:
    assert [AS_WRITTEN.chosen(("one,  two", "three"), "key", lot) for lot in (0.0, 0.49, 0.5, 0.99)] == [
        "one,  two",
        "one,  two",
        "three",
        "three",
    ]
    assert not AS_WRITTEN.changing and CaptionEdits(tag_dropout=0.1).changing
    assert CaptionEdits(shuffle=True, separator=";").chosen(("a, b",), "key", 0.3) == "a, b"


@pytest.mark.parametrize("options", [{"tag_dropout": -0.1}, {"tag_dropout": 1.1}, {"keep": -1}, {"separator": " "}])
def test_impossible_edits_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        CaptionEdits(**options)  # type: ignore[arg-type]
