"""ComfyUI's and compel's notations, marks that all dialects share, and the time that reading takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import InputError
from rein.text.comfy import parse_comfy
from rein.text.compel import parse_compel
from rein.text.editing import texts_by_step
from rein.text.emphasis import parse_emphasis
from rein.text.prompt import (
    MAX_PARTS,
    Expression,
    NetworkTag,
    extract_networks,
    split_parts,
    strip_comments,
)
from rein.text.variants import Draws, expand

COMFY: list[tuple[str, list[tuple[str, float]]]] = [
    ("plain [text] a:1.3 BREAK", [("plain [text] a:1.3 BREAK", 1.0)]),
    ("a (b) ((c))", [("a ", 1.0), ("b", 1.1), (" ", 1.0), ("c", 1.21)]),
    ("(a (b:2) c)", [("a ", 1.1), ("b", 2.0), (" c", 1.1)]),
    ("((a:1.5) b:2)", [("a", 1.5), (" b", 2.0)]),
    ("((a) b:2)", [("a", 2.2), (" b", 2.0)]),
    ("(a:0) (b:-1.5) (c:1e-1)", [("a", 0.0), (" ", 1.0), ("b", -1.5), (" ", 1.0), ("c", 0.1)]),
    ("(:1.3)", [(":1.3", 1.1)]),
    ("(a:b)", [("a:b", 1.1)]),
    ("(a:inf)", [("a:inf", 1.1)]),
    (r"\(x\) (y\):1.4)", [("(x) ", 1.0), ("y)", 1.4)]),
    ("(a:1.2", [("(a:1.2", 1.0)]),
    ("a) (b)", [("a) ", 1.0), ("b", 1.1)]),
]

COMPEL: list[tuple[str, list[tuple[str, float]]]] = [
    ("a tall man", [("a tall man", 1.0)]),
    ("mountain+ man", [("mountain", 1.1), ("man", 1.0)]),
    ("mountain man---", [("mountain", 1.0), ("man", 0.729)]),
    ("picking (apricots)+", [("picking", 1.0), ("apricots", 1.1)]),
    ("(picking apricots+)++", [("picking", 1.21), ("apricots", 1.331)]),
    ("picking (apricots)1.1", [("picking", 1.0), ("apricots", 1.1)]),
    ("(picking (apricots)1.3)1.1", [("picking", 1.1), ("apricots", 1.43)]),
    ("(a b) c", [("a b c", 1.0)]),
    ('"two words"- x', [("two words", 0.9), ("x", 1.0)]),
    ("well-known C++, yes", [("well-known", 1.0), ("C", 1.21), (", yes", 1.0)]),
    ("a - b + c", [("a - b + c", 1.0)]),
    (r"a \(b\) (c\+)2", [("a (b)", 1.0), ("c+", 2.0)]),
    ("(unbalanced a+ b", [("(unbalanced", 1.0), ("a", 1.1), ("b", 1.0)]),
    ("", []),
]


def weighted(expression: Expression) -> list[tuple[str, float]]:
    assert expression.how == "single"
    [entry] = expression.texts
    [section] = entry.sections
    return [(piece.text, piece.weight) for piece in section]


def assert_same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [text for text, _ in found] == [text for text, _ in expected]
    for (_, weight), (_, wanted) in zip(found, expected, strict=True):
        assert math.isclose(weight, wanted, rel_tol=1e-12)


@pytest.mark.parametrize(("text", "expected"), COMFY)
def test_comfy_replaces_weights(text: str, expected: list[tuple[str, float]]) -> None:
    assert_same(weighted(parse_comfy(text)), expected)


@pytest.mark.parametrize(("text", "expected"), COMPEL)
def test_compel_counts_signs(text: str, expected: list[tuple[str, float]]) -> None:
    assert_same(weighted(parse_compel(text)), expected)


def test_compels_blend_and_conjunction() -> None:
    blend = parse_compel('("spider man", "robot, (mech)+").blend(1, 0.8)')
    assert (blend.how, blend.normalise) == ("blend", True)
    assert [entry.weight for entry in blend.texts] == [1.0, 0.8]
    assert [piece.text for piece in blend.texts[1].sections[0]] == ["robot,", "mech"]
    assert parse_compel('("a", "b").blend(1, -1, no_normalize)').normalise is False
    both = parse_compel('("a galaxy", (two words)+, c).and()')
    assert (both.how, [entry.weight for entry in both.texts]) == ("join", [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('("a", "b").blend(1)', "2 texts and 1 weights"),
        ('("a", "b").blend(1, x)', "must be numbers"),
        ('("a", "b").blend(1, -1)', "add up to 0"),
        ('("a", "b").blend(1, inf)', "must be from -1000 to 1000"),
        ('("a", ' + '"b", ' * MAX_PARTS + '"c").and()', "at most 16"),
        ("a cat.swap(dog)", "swap"),
    ],
)
def test_compels_calls_are_checked(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_compel(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat :1.2 ", [("a cat", 1.2)]),
        ("a cat AND a dog", [("a cat", 1.0), (" a dog", 1.0)]),
        ("a cat :1.2 AND a dog AND a penguin :-2.5", [("a cat", 1.2), (" a dog", 1.0), (" a penguin", -2.5)]),
        ("ANDROID and BAND", [("ANDROID and BAND", 1.0)]),
        ("a AND", [("a", 1.0), ("", 1.0)]),
        ("(a:1.3)", [("(a:1.3)", 1.0)]),
        ("a: b", [("a: b", 1.0)]),
    ],
)
def test_and_joins_parts_with_weights(text: str, parts: list[tuple[str, float]]) -> None:
    assert split_parts(text) == parts


def test_too_many_parts_and_too_heavy_ones_are_refused() -> None:
    assert len(split_parts(" AND ".join("a" * MAX_PARTS))) == MAX_PARTS
    with pytest.raises(InputError, match="more than 16 parts"):
        split_parts(" AND ".join("a" * (MAX_PARTS + 1)))
    with pytest.raises(InputError, match="the weight of 'a' is 2000"):
        split_parts("a :2000")


@pytest.mark.parametrize(
    ("text", "left"),
    [("a # b", "a "), ("# all\na", "a"), ("a\n# all\nb", "a\nb"), ("#", ""), ("a", "a"), ("a #b\nc #d", "a \nc ")],
)
def test_comments_go(text: str, left: str) -> None:
    assert strip_comments(text) == left
    assert strip_comments(left) == left


def test_tags_for_networks_are_taken_out() -> None:
    """Of two numbers the first is for the text tower, as in A1111's own reader."""
    text, tags = extract_networks("a<lora:one> cat <lora:two words:0.5><LYCO:three:0.2:0.8> <b:c> <lora:x:unet=1:te=2>")
    assert text == "a cat  <b:c> "
    assert tags == [
        NetworkTag("one", 1.0, None),
        NetworkTag("two words", 0.5, None),
        NetworkTag("three", 0.8, 0.2),
        NetworkTag("x", 1.0, 2.0),
    ]


@pytest.mark.parametrize(
    "text", ["<lora::1>", "<lora:a:b>", "<lora:a:1:2:3>", "<lora:a:dyn=4>", "<lora:a:2000>", "<hypernet:a:1>"]
)
def test_a_tag_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError) as caught:
        extract_networks(text)
    assert text in str(caught.value) and "\n" not in str(caught.value)


READERS: dict[str, Callable[[str], object]] = {
    "emphasis": parse_emphasis,
    "editing": lambda text: texts_by_step(text, 20),
    "comfy": parse_comfy,
    "compel": parse_compel,
    "variants": lambda text: expand(text, Draws(1, "prompt"), lambda name: ("a", "b")),
    "parts": split_parts,
    "comments": strip_comments,
    "networks": extract_networks,
}
ATTACKS = [
    *("(", ")", "[", "[[:", "]", "{", "}", "__", "_", "[a|b]", "[a:b:1]", "{a|b}", "{2$$", "(a)", "(a:1", ":1", "|"),
    *("BREAK ", "AND ", "#\n", "<lora:a>", "<lora:", "\\(", "\\", '"', '("a"', "a+ ", "(a)+ ", "a-", " ", "a ", "a"),
]


def refusal(reader: Callable[[str], object], text: str) -> str:
    """What the reader says against the text, or nothing. Any other error is not caught."""
    try:
        reader(text)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("unit", ATTACKS)
@pytest.mark.parametrize("length", [100_000, 1_000_000])
def test_every_reader_answers_within_50_ms_for_100_kilobytes(unit: str, length: int) -> None:
    """With a result, or with a refusal in one line. The best of three, since the machine may be busy."""
    text = (unit * (length // len(unit) + 1))[:length]
    for name, reader in READERS.items():
        times = []
        for _ in range(3):
            began = time.process_time()
            message = refusal(reader, text)
            times.append(time.process_time() - began)
            assert "\n" not in message and len(message) < 200
            if times[-1] < 0.02:
                break
        assert min(times) <= 0.05 * length / 100_000, f"{name} takes {min(times):.3f} s for {length:,} times {unit!r}"


@given(st.text(alphabet='ab (){}[]|:\\"+-._$#<>AND1,\n', max_size=120))
def test_no_reader_raises_anything_but_input_errors(text: str) -> None:
    for reader in READERS.values():
        assert "\n" not in refusal(reader, text)


@given(st.text(st.characters(exclude_characters="()\\")))
def test_comfys_plain_text_comes_back(text: str) -> None:
    assert weighted(parse_comfy(text)) == ([(text, 1.0)] if text else [])
