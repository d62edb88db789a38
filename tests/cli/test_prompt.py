"""`rein prompt`: what it shows, how wide, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import rein.cli  # noqa: F401 - enters the commands
from rein.cli.app import run


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["prompt", "explain", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "a (red:1.3) apple on a very long table, [sketch:oil painting:0.4], " * 2 + "AND a garden :0.5"
    assert run(["prompt", "explain", prompt, "--model", "sd15", "--steps", "10", "--negative", "[bad]"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for words in ("dialect a1111", "STEPS OF 10", "1-5", "6-10", "part 2, weight 0.5", "1.3   red", "negative prompt"):
        assert words in shown


def test_json_has_chunks_weights_and_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, "a [red:(blue:1.5):2] car :0.8 AND b BREAK c", "--model", "sdxl", "--steps", "5")
    assert (found["dialect"], found["model"], found["window"], found["steps"]) == ("a1111", "sdxl", 75, 5)
    first, second = found["parts"]
    assert (first["weight"], second["weight"]) == (0.8, 1.0)
    assert [reading["steps"] for reading in first["readings"]] == [[1, 2, 3], [4, 5]]
    [[*tokens]] = first["readings"][1]["texts"][0]["windows"]
    assert [(token["text"], token["weight"]) for token in tokens] == [("a", 1), ("blue", 1.5), ("car", 1)]
    assert tokens[0]["id"] == 320
    assert [len(window) for window in second["readings"][0]["texts"][0]["windows"]] == [1, 1]


def test_wildcards_styles_and_networks_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "colour.txt").write_text("red\n")
    arguments = ["a __colour__ car <lora:x:0.5:0.8>", "--wildcards", str(tmp_path), "--style", "Mood: serene"]
    found = explained(capsys, *arguments)
    assert found["drawn"] and found["prompt"].startswith("a red car <lora:x:0.5:0.8>, calm")
    assert found["networks"] == [{"name": "x", "weight": 0.8, "text_weight": 0.5}]
    assert run(["prompt", "explain", *arguments]) == 0
    assert "network x: U-Net 0.8, text 0.5" in capsys.readouterr().out


def test_a_wildcard_without_a_folder_is_told(capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path) -> None:
    note = "note: '__colour__' in the prompt stays as it is: --wildcards says in which folder to find it\n"
    assert run(["prompt", "explain", "a __colour__ car"]) == 0
    assert note in capsys.readouterr().out
    arguments = ["generate", "a __colour__ car", "--model", tiny, "--steps", "1", "--output", str(tmp_path / "a.png")]
    assert run(arguments) == 0
    assert note in "".join(capsys.readouterr())


def test_a_learned_vocabulary_and_another_dialect(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, '("a red apple", "b").blend(1, 0.5)', "--dialect", "compel")
    assert (found["model"], found["window"]) == ("pocket", 30)
    [reading] = found["parts"][0]["readings"]
    assert (reading["how"], [text["weight"] for text in reading["texts"]]) == ("blend", [1, 0.5])


def test_styles_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("name,prompt,negative_prompt\nMine,[x],y\n")
    assert run(["prompt", "styles", "--styles", str(path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) > 60 and listed[-1] == {"name": "Mine", "prompt": "[x]", "negative_prompt": "y"}
    assert run(["prompt", "styles", "--styles", str(path)]) == 0
    assert "[x]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--model", "sd16"], "unknown model 'sd16'"),
        (["a", "--dialect", "comfi"], "did you mean 'comfy'"),
        (["a", "--style", "neon"], "unknown style 'neon'"),
        (["(" * 100], "nested more than 64 deep"),
        ([], "there is no prompt"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(["prompt", "explain", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_signs_that_a_terminal_would_obey_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prompt", "explain", "a \x1b[31mred [b:c:0.5]", "--model", "sd15"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_generate_takes_the_same_options(capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path) -> None:
    (tmp_path / "colour.txt").write_text("red\n")
    styles = tmp_path / "mine.csv"
    styles.write_text("name,prompt,negative_prompt\nMine,{prompt} on a table,car\n")
    arguments = ["generate", "a __colour__ (apple:1.2)", "--model", tiny, "--steps", "1", "--seed", "3"]
    arguments += ["--wildcards", str(tmp_path), "--style", "Mine", "--styles", str(styles), "--dialect", "a1111"]
    arguments += ["--emphasis", "no-norm", "--clip-skip", "2", "--output", str(tmp_path / "a.png")]
    assert run(arguments) == 0
    capsys.readouterr()
    with Image.open(tmp_path / "a.png") as picture:
        text = str(picture.info["parameters"])
    assert text.startswith("a red (apple:1.2) on a table\nNegative prompt: car\nSteps: 1")
    for entry in ("Clip skip: 2", "Emphasis: No norm", "Styles: Mine", 'Template: "a __colour__ (apple:1.2)"'):
        assert entry in text


@pytest.mark.parametrize(
    "wrong", [["--style", "Mine"], ["--wildcards", "none"], ["--dialect", "x"], ["--styles", "none.csv"]]
)
def test_generate_writes_nothing_after_a_mistake(
    capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path, wrong: list[str]
) -> None:
    assert run(["generate", "a", "--model", tiny, "--output", str(tmp_path / "a.png"), *wrong]) == 2
    assert capsys.readouterr().err.count("\n") >= 1
    assert list(tmp_path.iterdir()) == []
