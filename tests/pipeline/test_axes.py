"""Axes of sheets, from the texts that people write."""

from __future__ import annotations

import pytest

from rein.errors import InputError
from rein.pipeline.axes import MAX_VALUES, NO_AXIS, Value, matrix_axes, read_axis
from rein.pipeline.field_values import field_value, is_number, is_text, is_whole
from rein.pipeline.request import Request

RANGES: dict[str, list[int] | list[float]] = {
    "steps=5,10,20": [5, 10, 20],
    "steps=1-5": [1, 2, 3, 4, 5],
    "steps=1-5 (+2)": [1, 3, 5],
    "steps=10-5 (-3)": [10, 7],
    "steps=5-3": [5, 4, 3],
    "steps=1-10 [5]": [1, 3, 5, 7, 10],
    "steps=4-9[1]": [4],
    "steps=1-3, 20 , 30-32": [1, 2, 3, 20, 30, 31, 32],
    "guidance=1-9 (+4)": [1.0, 5.0, 9.0],
    "cfg=1-3 (+0.5)": [1.0, 1.5, 2.0, 2.5, 3.0],
    "CFG Scale=0-1 [6]": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    "guidance_scale=0-1 (.1)": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "guidance=.5": [0.5],
    "seed=9223372036854775806-9223372036854775807": [2**63 - 2, 2**63 - 1],
}
"""The first half as AUTOMATIC1111's X/Y/Z plot reads them, but for a falling range without a step, which it has not."""


@pytest.mark.parametrize("text", RANGES)
def test_numbers_and_ranges(text: str) -> None:
    axis = read_axis(text)
    [name] = axis.fields
    assert [value.changes[name] for value in axis.values] == RANGES[text]
    assert all(type(value.changes[name]) is type(RANGES[text][0]) for value in axis.values)


def test_choices_and_texts() -> None:
    sampler = read_axis("sampler=DPM++ 2M Karras,euler")
    assert [value.changes for value in sampler.values] == [{"sampler": "DPM++ 2M Karras"}, {"sampler": "euler"}]
    assert sampler.labels == ("sampler DPM++ 2M Karras", "sampler euler")
    assert read_axis("schedule=karras").labels == ("schedule karras",)
    assert read_axis("guidance=1-2 (.5)").labels == ("guidance 1", "guidance 1.5", "guidance 2")
    prompt = read_axis('prompt="an apple, red", 7')
    assert [value.changes["prompt"] for value in prompt.values] == ["an apple, red", "7"]
    assert prompt.labels == ("an apple, red", "7")
    assert read_axis("only-masked=TRUE,false").values[0].changes == {"only_masked": True}
    assert [value.changes for value in read_axis("style=none,photo").values] == [{"styles": ()}, {"styles": ("photo",)}]
    assert read_axis('crop="[8, 16]"').values[0].changes == {"crop": [8, 16]}


def test_sizes_set_both_sides() -> None:
    axis = read_axis("size=512x768, 64 × 32")
    assert [dict(value.changes) for value in axis.values] == [
        {"width": 512, "height": 768},
        {"width": 64, "height": 32},
    ]
    assert axis.labels == ("512 x 768", "64 x 32")


def test_texts_to_replace() -> None:
    axis = read_axis("Prompt S/R=red apple,pear,")
    assert [value.swap for value in axis.values] == [
        ("red apple", "red apple"),
        ("red apple", "pear"),
        ("red apple", ""),
    ]
    assert axis.labels == ("red apple", "pear", "-")
    assert axis == read_axis("replace=red apple,pear,")


REFUSED = {
    "steps": "write NAME=VALUES",
    "stps=5": "unknown axis 'stps'",
    "count=1,2": "unknown axis 'count'",
    "=5": "unknown axis ''",
    "steps=": "axis steps has no values",
    'prompt="a': "is not a list with commas",
    "steps=1-5 (-1)": "'1-5 (-1)' never gets to 5 by steps of -1",
    "steps=5-1 (+1)": "never gets to 1 by steps of 1",
    "guidance=1-5 (+0)": "never gets to 5 by steps of 0",
    "seed=0-9223372036854775807": f"1 to {MAX_VALUES} are drawn",
    "steps=1-5 [0]": "a range of 0 values",
    "steps=1-5 [999999999]": "a range of 999999999 values",
    f"seed={','.join(['1-600'] * 2)}": "has 1200 values",
    "size=512": "'512' is no size",
    "replace=,a": "its first text is empty",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_axis_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_axis(text)
    assert REFUSED[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prompt_matrix_is_every_choice() -> None:
    prompt, x, y = matrix_axes(r"a [cat|dog] \| street | in the rain|(night|day:1.2) |red")
    assert prompt == r"a [cat|dog] \| street"
    assert [value.added for value in x.values] == [
        (),
        ("in the rain",),
        ("(night|day:1.2)",),
        ("in the rain", "(night|day:1.2)"),
    ]
    assert [value.label for value in x.values][::3] == ["-", "in the rain + (night|day:1.2)"]
    assert [value.added for value in y.values] == [(), ("red",)]
    assert matrix_axes("a|b") == ("a", read_matrix("b"), NO_AXIS)


def read_matrix(text: str) -> object:
    axis = matrix_axes(f"a|{text}")[1]
    assert axis.values == (Value("-"), Value(text, added=(text,)))
    return axis


@pytest.mark.parametrize("prompt", ["", "a", "[a|b]", "a || ", "|".join("abcdefghijkl")])
def test_no_matrix(prompt: str) -> None:
    with pytest.raises(InputError, match=r"outside of brackets|11 texts to choose from"):
        matrix_axes(prompt)


def test_every_field_has_a_kind() -> None:
    """What a table's cell or an axis's entry becomes follows from the fields themselves."""
    numbers = {"steps", "seed", "width", "guidance_scale", "eta", "strength", "tile", "hires_scale", "mask_blur"}
    texts = {"prompt", "negative_prompt", "sampler", "init_image", "mask", "resize", "lora_folder", "seamless"}
    assert all(is_number(name) and not is_text(name) for name in numbers)
    assert all(is_text(name) and not is_number(name) for name in texts)
    assert is_whole("steps") and not is_whole("guidance_scale") and not is_whole("dynamic")
    for name, field in Request.model_fields.items():
        value = field.default
        if isinstance(value, int | float | str):
            assert field_value(name, str(value)) == value, name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("prompt", "7", "7"),
        ("prompt", "true", "true"),
        ("seed", "7", 7),
        ("seed", "x", "x"),
        ("guidance_scale", ".5", 0.5),
        ("dynamic", " FALSE ", False),
        ("dynamic", "no", "no"),
        ("styles", '["a"]', ["a"]),
        ("styles", "[", "["),
        ("nothing", "3", 3),
        ("seed", "[" * 100_000, "[" * 100_000),
    ],
)
def test_values_of_fields(name: str, text: str, value: object) -> None:
    found = field_value(name, text)
    assert (found, type(found)) == (value, type(value))
