"""Named styles: A1111's CSV form, and the ones that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from rein.errors import InputError
from rein.text.emphasis import parse_emphasis
from rein.text.styles import Style, apply_styles, find_style, read_styles, shipped_styles

KNOWN = {
    style.name: style
    for style in (
        Style("Frame", "a frame of {prompt}, gold", "plain"),
        Style("Tail", "very detailed", ""),
        Style("Only negative", "", "blurry"),
    )
}


@pytest.mark.parametrize(
    ("names", "prompt", "negative"),
    [
        ([], "a cat", "dog"),
        (["Frame"], "a frame of a cat, gold", "dog, plain"),
        (["tail"], "a cat, very detailed", "dog"),
        (["Only negative"], "a cat", "dog, blurry"),
        (["Tail", "Frame"], "a frame of a cat, very detailed, gold", "dog, plain"),
    ],
)
def test_styles_are_added_in_order(names: list[str], prompt: str, negative: str) -> None:
    assert apply_styles("a cat", "dog", names, KNOWN) == (prompt, negative)


def test_an_unknown_style_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown style 'Fram': did you mean 'Frame'"):
        find_style("Fram", KNOWN)
    with pytest.raises(InputError, match="did you mean 'Only negative'.* .rein prompt styles lists them."):
        find_style("negative", KNOWN)


def test_a_file_in_that_programs_form(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text('name,prompt,negative_prompt\nA,"x, {prompt}, ""y""",bad\nB,z\n,no name,\n', encoding="utf-8-sig")
    assert read_styles(path) == {"A": Style("A", 'x, {prompt}, "y"', "bad"), "B": Style("B", "z", "")}
    path.write_text("name,text\nOld,words\n")
    assert read_styles(path) == {"Old": Style("Old", "words", "")}


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b"\xff\xfe", b'name,prompt\n"a,b\n', b"name,prompt\na\0,b\n"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(content)
    if content.endswith(b"a\0,b\n"):  # newer versions of Python read a zero character
        return
    with pytest.raises(InputError) as caught:
        read_styles(path)
    assert "\n" not in str(caught.value) and "styles" in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_styles(tmp_path / "none.csv")


def test_a_repetition_of_the_prompt_has_an_end() -> None:
    styles = {"X": Style("X", "{prompt} {prompt}", "")}
    with pytest.raises(InputError, match="too long|longer than"):
        apply_styles("word", "", ["X"] * 32, styles)


def test_the_shipped_set_is_sound() -> None:
    styles = shipped_styles()
    assert len(styles) >= 60
    kinds = {name.split(":")[0] for name in styles}
    assert {"Detail", "Light", "Medium", "Camera"} <= kinds
    for style in styles.values():
        prompt, negative = apply_styles("a cat", "", [style.name], styles)
        assert "a cat" in prompt and "{" not in prompt + negative
        parse_emphasis(prompt)
        assert style.prompt == style.prompt.strip() and not set("()[]<>#|") & set(prompt + negative)
        assert style.prompt.replace("{prompt}", "").strip() or style.negative_prompt
