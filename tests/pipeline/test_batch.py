"""Files of requests: every row that can be read is, whatever stands in its neighbours."""

from __future__ import annotations

from pathlib import Path

import pytest

from rein.errors import InputError
from rein.pipeline.batch import LONGEST_ROW, Entry, read_batch


def entries(tmp_path: Path, text: str) -> list[Entry]:
    path = tmp_path / "requests.csv"
    path.write_bytes(text.encode())
    return list(read_batch(path))


def problems(found: list[Entry]) -> dict[int, str]:
    return {entry.line: entry.problem for entry in found if entry.request is None}


def test_cells_become_fields(tmp_path: Path) -> None:
    text = (
        "\ufeffprompt, seed ,guidance_scale,dynamic,styles,init_image,outpaint\r\n"
        '7,3,.5,FALSE,"[""photo""]",1.png,"[0, 8, 0, 8]"\r\n'
        '"a ""red""\napple, round",,,,,,\r\n'
        "\r\n,,,,,,\r\n"
    )
    first, second = entries(tmp_path, text)
    assert first.request is not None and second.request is not None
    wanted = {"prompt": "7", "seed": 3, "guidance_scale": 0.5, "dynamic": False, "styles": ("photo",)}
    assert {name: getattr(first.request, name) for name in wanted} == wanted
    assert (first.request.init_image, first.request.outpaint) == ("1.png", (0, 8, 0, 8))
    assert (second.line, second.request.prompt, second.request.seed) == (3, 'a "red"\napple, round', None)


def test_line_5000_is_bad_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [f'"apple, {line}",{line}\n' for line in range(2, 6001)]
    rows[4998] = "apple,many\n"
    found = entries(tmp_path, "prompt,seed\n" + "".join(rows))
    assert len(found) == 5999
    assert list(problems(found)) == [5000]
    assert len({entry.digest for entry in found}) == 5999


@pytest.mark.parametrize("bad", ['"apple,1', 'app"le,1', '"a"b"c,1'])
def test_a_forgotten_quotation_mark_spoils_its_own_line_only(tmp_path: Path, bad: str) -> None:
    rows = [f'"apple, {line}",{line}\n' for line in range(2, 4001)]
    rows[1000] = bad + "\n"
    found = entries(tmp_path, "prompt,seed\n" + "".join(rows))
    assert problems(found) == {1002: "a quotation mark is opened and not closed"}
    assert [entry.request.seed for entry in found if entry.request][999:1001] == [1001, 1003]
    assert len(found) == 3999


def test_long_texts_may_have_many_lines(tmp_path: Path) -> None:
    lines = "\n".join(f"line {number}" for number in range(LONGEST_ROW - 1))
    found = entries(tmp_path, f'prompt,seed\n"{lines}",1\nlast,2\n')
    assert [entry.line for entry in found] == [2, LONGEST_ROW + 1]
    assert found[0].request is not None and found[0].request.prompt == lines


def test_rows_of_other_lengths(tmp_path: Path) -> None:
    found = entries(tmp_path, "prompt,seed\na\nb,1,2\nc,2\n,3\n")
    assert [entry.line for entry in found if entry.request] == [2, 4]
    assert problems(found)[3] == "it has 3 cells, more than the first row has names"
    assert problems(found)[5].startswith("prompt is missing")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("promt,seed\na,1\n", "'promt', which is no field of a request: did you mean 'prompt'?"),
        ("prompt;seed\na;1\n", "'prompt;seed', which is no field"),
        ("prompt,seed,prompt\n", "has 'prompt' twice"),
        ("", "its first row is empty"),
        ('"prompt,seed\na,1\n', "its first row cannot be read: a quotation mark"),
    ],
)
def test_a_first_row_without_names_is_refused_at_once(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_batch(path)  # not only when the first request is asked for
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
