"""Prompt editing: A1111's own examples, and what follows from its way of counting steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import InputError
from rein.text.editing import MAX_EDITS, schedule, texts_by_step
from rein.text.prompt import MAX_DEPTH

CASES: list[tuple[str, list[tuple[int, str]]]] = [
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [b:3 ]", [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("a [b::.5] c", [(5, "a b c"), (10, "a  c")]),
    ("a [:b:0.25] c", [(2, "a  c"), (10, "a b c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a:b:0]", [(10, "b")]),
    ("[a:b:-3]", [(10, "b")]),
    ("[a:b:1.0]", [(10, "a")]),
    ("[a:b:25]", [(10, "a")]),
    ("[a:b:1e999]", [(10, "a")]),
    ("[a:b:-1e999]", [(10, "b")]),
    ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
    ("[a:b]", [(10, "[a:b]")]),
    ("[a|b:3]", [(10, "[a|b:3]")]),
    ("(a:b:3)", [(10, "(a:b:3)")]),
    (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
    (r"[a\]:b:3]", [(3, r"a\]"), (10, "b")]),
    ("[a (b:c:3]", [(10, "[a (b:c:3]")]),
    ("[x [a:b]:c:3]", [(10, "[x [a:b]:c:3]")]),
    ("[[a:b:2]:c:6]", [(2, "a"), (6, "b"), (10, "c")]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_it_reads_as_that_program_reads(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(schedule(text, 10)) == expected


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("[a|(b:1.1)]", ["a", "(b:1.1)"] * 5),
        ("[fe|]male", ["female", "male"] * 5),
        ("[fe|||]male", ["female", "male", "male", "male"] * 3),
        ("[a|b|c]", ["a", "b", "c"] * 4),
        ("[[a|b]:c:4]", ["a", "b", "a", "b"] + ["c"] * 6),
    ],
)
def test_alternation_changes_at_every_step(text: str, texts: list[str]) -> None:
    assert list(schedule(text, 10)) == list(zip(range(1, 11), texts, strict=False))


def test_the_first_text_acts_one_step_longer_as_that_program_counts() -> None:
    """Its denoiser counts from 0 and keeps a text as long as the count is at most the text's end."""
    assert texts_by_step("[a:b:3]", 6) == ("a", "a", "a", "a", "b", "b")
    assert texts_by_step("[a|b]", 5) == ("a", "a", "b", "a", "b")
    assert texts_by_step("[a:b:5]", 6) == ("a",) * 6
    assert texts_by_step("x", 3) == ("x",) * 3


def test_the_documented_landscape() -> None:
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
        "[: in background:0.25] [shoddy:masterful:0.5]"
    )
    assert list(schedule(text, 100)) == [
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    ]


@given(st.text(st.characters(exclude_characters="[")), st.integers(1, 50))
def test_text_without_square_brackets_comes_back(text: str, steps: int) -> None:
    assert texts_by_step(text, steps) == (text,) * steps


@given(st.text(alphabet="ab []()|:\\.3 ", max_size=80), st.integers(1, 30))
def test_any_text_has_a_reading_for_every_step(text: str, steps: int) -> None:
    texts = texts_by_step(text, steps)
    assert len(texts) == steps
    assert all(len(reading) <= len(text) for reading in texts)


@given(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 12), st.integers(1, 12))
def test_an_edit_changes_once(before: str, after: str, when: int, steps: int) -> None:
    texts = texts_by_step(f"[{before}:{after}:{when}]", steps)
    kept = min(when + 1, steps) if when else 0
    assert texts == (before,) * kept + (after,) * (steps - kept)


def test_limits_are_said() -> None:
    with pytest.raises(InputError, match=f"more than {MAX_EDITS} edits"):
        schedule("[a|b]" * (MAX_EDITS + 1), 10)
    with pytest.raises(InputError, match="nested more than 64 deep"):
        schedule("[" * (MAX_DEPTH + 1), 10)
    with pytest.raises(InputError, match="reads differently at 1000 of 1000 steps"):
        schedule("[a|b]" + "x" * 5000, 1000)
