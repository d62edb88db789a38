"""Wildcards and variants: what is drawn, from which files, and never from elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.errors import InputError
from rein.text.variants import MAX_NESTING, Draws, expand, wildcards_in
from rein.text.wildcards import MAX_BYTES, WildcardFolder


def drawn(text: str, count: int = 200, folder: WildcardFolder | None = None) -> Counter[str]:
    lines = None if folder is None else folder.lines
    return Counter(expand(text, Draws(seed, "prompt"), lines) for seed in range(count))


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("{a|b|c}", {"a", "b", "c"}),
        ("x {a|} y", {"x a y", "x  y"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0$$a|b}", {""}),
        ("{0::a|1::b}", {"b"}),
        ("{1$$$$a|b}", {"a", "b"}),
        ("{a}", {"{a}"}),
        ("{a|b", {"{a|b"}),
        ("a|b}", {"a|b}"}),
        (r"\{a\|b\}", {"{a|b}"}),
        ("__name__ snake_case __init", {"__name__ snake_case __init"}),
    ],
)
def test_what_may_be_drawn_and_all_of_it(text: str, possible: set[str]) -> None:
    assert set(drawn(text)) == possible


def test_weights_say_how_often() -> None:
    found = drawn("{3::a|b|0.5::c}", 4000)
    for option, share in {"a": 3 / 4.5, "b": 1 / 4.5, "c": 0.5 / 4.5}.items():
        assert abs(found[option] / 4000 - share) < 0.03


def test_a_seed_draws_the_same_whatever_else_is_drawn() -> None:
    """The numbers are BLAKE2b's and must never change: pictures would."""
    draws = Draws(7, "prompt")
    for count in (1, 2, 3):
        digest = hashlib.blake2b(f"rein prompt 7 {count}".encode(), digest_size=8).digest()
        assert draws.share() == (int.from_bytes(digest, "little") // 2**11) / 2**53
    assert Draws(7, "prompt").share() == Draws(7, "prompt").share() != Draws(8, "prompt").share()
    assert Draws(7, "prompt").share() != Draws(7, "negative").share()


@given(st.text(st.characters(exclude_characters="{}_")))
def test_text_without_marks_comes_back(text: str) -> None:
    assert expand(text, Draws(0, "prompt")) == text


@pytest.fixture
def folder(tmp_path: Path) -> WildcardFolder:
    (tmp_path / "cards" / "people").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret\n")
    (tmp_path / "cards" / "colours.txt").write_text("# colours\nred\n\n2::green # of leaves\nblue\n")
    (tmp_path / "cards" / "people" / "jobs.txt").write_text("{baker|cook} in __colours__\n", encoding="utf-8-sig")
    (tmp_path / "cards" / "circle.txt").write_text("x __circle__\n")
    (tmp_path / "cards" / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "cards" / "binary.txt").write_bytes(b"\xff\xfe\x00")
    return WildcardFolder(tmp_path / "cards")


def test_the_names_of_wildcards_are_found() -> None:
    assert wildcards_in("a __red__ {__b/c__|2} __red__ __init _x_ ____ \\{") == ("red", "b/c")


def test_wildcards_are_lines_of_files(folder: WildcardFolder) -> None:
    assert folder.lines("colours") == ("red", "2::green", "blue")
    found = drawn("a __colours__ hat", 1000, folder)
    assert set(found) == {"a red hat", "a green hat", "a blue hat"}
    assert 0.42 < found["a green hat"] / 1000 < 0.58
    assert set(drawn("__people/jobs__", 200, folder)) == {
        f"{job} in {colour}" for job in ("baker", "cook") for colour in ("red", "green", "blue")
    }
    pairs = set(drawn("{2$$__colours__}", 200, folder))
    assert pairs == {f"{a}, {b}" for a in ("red", "green", "blue") for b in ("red", "green", "blue") if a != b}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret", "without '..'"),
        ("people/../../secret", "without '..'"),
        ("/etc/passwd", "without '..'"),
        ("people//jobs", "without '..'"),
        ("C:/secret", "without '..'"),
        ("people\\jobs", "without '..'"),
        ("colour", "did you mean 'colours'"),
        ("people", "unknown wildcard '__people__'"),
        ("empty", "has no values"),
        ("binary", "is not UTF-8"),
        ("circle", f"nested over {MAX_NESTING} deep"),
    ],
)
def test_what_is_no_wildcard_is_refused_in_one_line(folder: WildcardFolder, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        expand(f"__{name}__", Draws(0, "prompt"), folder.lines)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(folder: WildcardFolder, tmp_path: Path) -> None:
    os.symlink(tmp_path / "secret.txt", tmp_path / "cards" / "link.txt")
    with pytest.raises(InputError, match="leads out of"):
        folder.lines("link")


def test_a_huge_file_and_a_missing_folder_are_refused(folder: WildcardFolder, tmp_path: Path) -> None:
    (tmp_path / "cards" / "huge.txt").write_bytes(b"a\n" * (MAX_BYTES // 2 + 1))
    with pytest.raises(InputError, match="longer than 4,194,304 bytes: divide the file"):
        folder.lines("huge")
    for wrong in (tmp_path / "none", tmp_path / "secret.txt", "a\0b"):
        with pytest.raises(InputError, match="is not a folder"):
            WildcardFolder(wrong)


def test_an_explosion_is_stopped(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"w{number}.txt").write_text(f"__w{number + 1}__ " * 10 + "\n")
    (tmp_path / "w8.txt").write_text("x\n")
    with pytest.raises(InputError, match="more than 1,000 draws"):
        expand("__w0__", Draws(0, "prompt"), WildcardFolder(tmp_path).lines)
