"""A1111's brackets: what its documentation and its own examples say of them, as a table."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import InputError
from rein.text.emphasis import parse_emphasis, parse_plain
from rein.text.prompt import MAX_DEPTH, MAX_WEIGHT

Weighted = list[tuple[str, float]]

CASES: list[tuple[str, list[Weighted]]] = [
    ("normal text", [[("normal text", 1.0)]]),
    ("", [[]]),
    ("an (important) word", [[("an ", 1.0), ("important", 1.1), (" word", 1.0)]]),
    ("((very)) good", [[("very", 1.21), (" good", 1.0)]]),
    ("[less]", [[("less", 1 / 1.1)]]),
    ("[[less]]", [[("less", 1 / 1.21)]]),
    ("([both])", [[("both", 1.0)]]),
    ("(a:1.5)", [[("a", 1.5)]]),
    ("(a:0)", [[("a", 0.0)]]),
    ("(a:-1)", [[("a", -1.0)]]),
    ("(a: 1.5 )", [[("a", 1.5)]]),
    ("(a:.5)", [[("a", 0.5)]]),
    ("((a:1.5) b:2)", [[("a", 3.0), (" b", 2.0)]]),
    ("[(a:1.5)]", [[("a", 1.5 / 1.1)]]),
    ("(unbalanced", [[("unbalanced", 1.1)]]),
    ("[unbalanced", [[("unbalanced", 1 / 1.1)]]),
    ("unopened) and ]", [[("unopened) and ]", 1.0)]]),
    ("a:1.3)", [[("a:1.3)", 1.0)]]),
    ("[a:1.3]", [[("a:1.3", 1 / 1.1)]]),
    ("(a:1.2.3)", [[("a:1.2.3)", 1.1)]]),
    ("ratio 3:2", [[("ratio 3:2", 1.0)]]),
    (r"\(literal\]", [[("(literal]", 1.0)]]),
    (r"\\ back", [[("\\ back", 1.0)]]),
    (r"a\b", [[("ab", 1.0)]]),
    (r"(a\):1.5)", [[("a)", 1.5)]]),
    ("(unnecessary)(parens)", [[("unnecessaryparens", 1.1)]]),
    ("(a [b) c]", [[("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1)]]),
    (
        "a (((house:1.3)) [on] a (hill:0.5)",
        [
            [("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55)],
        ],
    ),
    (", sun, (((sky))).", [[(", sun, ", 1.0), ("sky", 1.331), (".", 1.0)]]),
    ("a BREAK b", [[("a", 1.0)], [("b", 1.0)]]),
    ("a\n BREAK \nb BREAKFAST", [[("a", 1.0)], [("b BREAKFAST", 1.0)]]),
    ("break", [[("break", 1.0)]]),
    ("BREAK", [[], []]),
    ("(a BREAK b:1.5)", [[("a", 1.5)], [("b", 1.5)]]),
    ("a BREAK BREAK b", [[("a", 1.0)], [], [("b", 1.0)]]),
]


def sections(text: str) -> list[Weighted]:
    [entry] = parse_emphasis(text).texts
    return [[(piece.text, piece.weight) for piece in section] for section in entry.sections]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_it_reads_as_that_program_reads(text: str, expected: list[Weighted]) -> None:
    found = sections(text)
    assert [[words for words, _ in section] for section in found] == [[words for words, _ in row] for row in expected]
    for section, row in zip(found, expected, strict=True):
        for (_, weight), (_, wanted) in zip(section, row, strict=True):
            assert math.isclose(weight, wanted, rel_tol=1e-12)


plain_text = st.text(st.characters(exclude_characters="()[]:\\")).filter(lambda text: not re.search("BREAK", text))


@given(plain_text)
def test_plain_text_is_one_piece_of_its_own(text: str) -> None:
    assert sections(text) == [[(text, 1.0)] if text else []]


@given(st.text(alphabet="ab ()[]:\\1.5", max_size=60))
def test_mode_none_reads_no_bracket(text: str) -> None:
    [entry] = parse_plain(text).texts
    assert [piece.text for section in entry.sections for piece in section] == ([text] if text else [])


@given(st.text(alphabet="ab \\()[]:", max_size=60))
def test_escaped_text_comes_back(text: str) -> None:
    escaped = re.sub(r"([\\()\[\]])", r"\\\1", text)
    assert sections(escaped) == [[(text, 1.0)] if text else []]


@given(st.lists(st.floats(0.1, 3).map(lambda number: round(number, 3)), min_size=1, max_size=6))
def test_nested_weights_multiply(weights: list[float]) -> None:
    text = "word"
    for weight in weights:
        text = f"({text}:{weight})"
    [[(found, weight)]] = sections(text)
    assert found == "word" and math.isclose(weight, math.prod(weights), rel_tol=1e-12)


@given(st.integers(0, MAX_DEPTH), st.integers(0, MAX_DEPTH))
def test_brackets_multiply_by_a_tenth_more_or_less(rounds: int, squares: int) -> None:
    [[(_, weight)]] = sections("(" * rounds + "[" * squares + "x")
    assert math.isclose(weight, 1.1 ** (rounds - squares), rel_tol=1e-9)


@given(st.text(alphabet="ab ()[]:\\1.5-+BREAK\n", max_size=200))
def test_any_text_is_read_and_no_letter_is_made_up(text: str) -> None:
    found = "".join(words for section in sections(text) for words, _ in section)
    letters = iter(text)
    assert all(letter in letters for letter in found)


@pytest.mark.parametrize("text", ["(" * (MAX_DEPTH + 1), "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)])
def test_too_deep_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="nested more than 64 deep"):
        parse_emphasis(text)


@pytest.mark.parametrize("text", ["(apple:1001)", "(apple:-1001)", "((apple:500):3)", f"(apple:{'9' * 400})"])
def test_a_weight_out_of_range_names_its_words(text: str) -> None:
    with pytest.raises(InputError, match="the weight of 'apple' is .*: it must be from -1000 to 1000"):
        parse_emphasis(text)
    assert sections(f"(apple:{MAX_WEIGHT:g})") == [[("apple", MAX_WEIGHT)]]


def test_too_many_breaks_are_refused() -> None:
    with pytest.raises(InputError, match="100 times BREAK or more"):
        parse_emphasis("a BREAK " * 100)
