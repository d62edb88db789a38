"""Captions on their way into training."""

from __future__ import annotations

import pytest

from rein.data.caption_edits import CaptionEdits, with_trigger
from rein.errors import InputError

TAGS = ("sks, cat, sitting, red sofa, window, evening",)


def test_a_trigger_stands_in_front_once() -> None:
    assert with_trigger("a cat", "sks") == "sks, a cat"
    assert with_trigger("a photo of Sks, sitting", "sks") == "a photo of Sks, sitting"
    assert with_trigger("asks a cat", "sks") == "sks, asks a cat"
    assert with_trigger("", "sks") == "sks"
    assert with_trigger("a cat", "") == "a cat"


def test_tags_are_shuffled_behind_those_that_stay() -> None:
    edits = CaptionEdits(shuffle=True, keep=2)
    seen = {edits.edited(TAGS, "key", turn) for turn in range(40)}
    assert len(seen) > 10
    for text in seen:
        parts = text.split(", ")
        assert parts[:2] == ["sks", "cat"]
        assert sorted(parts) == sorted(TAGS[0].split(", "))


def test_tags_and_captions_fall_as_often_as_asked() -> None:
    edits = CaptionEdits(keep=1, tag_dropout=0.3)
    counts = [len(edits.edited(TAGS, "key", turn).split(", ")) - 1 for turn in range(2000)]
    assert sum(counts) / (5 * 2000) == pytest.approx(0.7, abs=0.03)
    dropped = [CaptionEdits(trigger="sks", dropout=0.2).edited(TAGS, "key", turn) == "" for turn in range(2000)]
    assert sum(dropped) / 2000 == pytest.approx(0.2, abs=0.03)


def test_the_same_turn_gives_the_same_words() -> None:
    edits = CaptionEdits(shuffle=True, tag_dropout=0.5, dropout=0.1)
    first = [edits.edited(("a, b, c, d", "e, f"), "key", turn) for turn in range(30)]
    assert first == [edits.edited(("a, b, c, d", "e, f"), "key", turn) for turn in range(30)]
    assert first != [
        CaptionEdits(shuffle=True, tag_dropout=0.5, dropout=0.1, seed=1).edited(("a, b, c, d", "e, f"), "key", t)
        for t in range(30)
    ]
    assert first != [edits.edited(("a, b, c, d", "e, f"), "other", turn) for turn in range(30)]


def test_plain_captions_are_left_and_each_comes() -> None:
    edits = CaptionEdits()
    assert {edits.edited(("one,  two", "three"), "key", turn) for turn in range(20)} == {"one,  two", "three"}
    assert edits.edited((), "key", 0) == ""
    assert CaptionEdits(trigger="sks").edited((), "key", 0) == "sks"
    assert CaptionEdits(shuffle=True, separator=";").edited(("a, b",), "key", 0) == "a, b"


@pytest.mark.parametrize("options", [{"dropout": 1.5}, {"tag_dropout": -0.1}, {"keep": -1}, {"separator": " "}])
def test_impossible_edits_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        CaptionEdits(**options)  # type: ignore[arg-type]
