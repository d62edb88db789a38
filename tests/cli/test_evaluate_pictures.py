"""`rein evaluate` as a group, and its commands about pictures, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rein.evaluation.results import read_results
from tests.cli.conftest import Run
from tests.evaluation.pictures import folder


def test_pictures_are_judged_against_real_ones(rein: Run) -> None:
    folder(Path("drawn"), 12, 0, 0, prompt="an owl"), folder(Path("real"), 12, 60, 1)
    done = rein("evaluate", "pictures", "drawn", "real", "--training", "real", "--output", "out")
    assert done.code == 0 and done.err == ""
    lines = done.out.splitlines()
    assert lines[0].split() == ["FIGURE", "VALUE", "95%", "INTERVAL", "BETTER", "PICTURES", "BY"]
    assert "kernel distance of features" in done.out and "judge's chance of what is asked" in done.out
    assert "note: too few pictures for a Fréchet distance: 12 give no full covariance of 192 features" in done.out
    assert "near-copies, drawn pictures: " in done.out
    assert done.last == Path("out/results.json")
    assert read_results(done.last).drawn_count == 12
    page = Path("out/page.html").read_text()
    assert page.count("<svg") >= 3 and "an owl" in page and "Nearest training pictures" in page
    told = rein("evaluate", "pictures", "drawn", "--json", "--no-judge")
    assert [figure["key"] for figure in json.loads(told.out)["figures"]] == ["is"]
    assert Path("evaluation/drawn/page.html").is_file()


def test_a_model_draws_its_prompts_and_goes_on_where_it_was(rein: Run, tiny: str) -> None:
    Path("prompts.txt").write_text("an owl\na red apple\n")
    arguments = ["evaluate", "model", tiny, "--prompts", "prompts.txt", "--each", 2, "--steps", 2, "-o", "out"]
    done = rein(*arguments, "--json")
    assert done.code == 0 and done.err == ""
    results = json.loads(done.out)
    assert results["drawn_count"] == 4 and results["settings"]["steps"] == "2"
    assert results["settings"]["model"] == tiny and len(results["settings"]["weights"]) == 64
    drawn = sorted(Path("out").glob("drawn-*/*.png"))
    assert len(drawn) == 4
    times = [path.stat().st_mtime_ns for path in drawn[1:]]
    drawn[0].unlink()
    assert rein(*arguments).code == 0
    assert drawn[0].exists() and [path.stat().st_mtime_ns for path in drawn[1:]] == times


def test_a_data_set_gives_prompts_and_real_pictures(rein: Run, tiny: str) -> None:
    folder(Path("data"), 8, prompt="an owl")
    done = rein("evaluate", "model", tiny, "--data", "data", "--count", 6, "--steps", 1, "--json", "-o", "out")
    results = json.loads(done.out)
    assert (results["drawn_count"], results["real_count"], results["real"]) == (6, 8, "data")
    assert {"fd", "kid", "coverage"} <= {figure["key"] for figure in results["figures"]}


def test_two_sets_are_compared(rein: Run) -> None:
    folder(Path("near"), 20, 5, 0), folder(Path("far"), 20, 130, 1), folder(Path("real"), 20, 0, 2)
    done = rein("evaluate", "compare", "near", "far", "--real", "real", "--no-judge", "-o", "page.html")
    assert done.code == 0, done.err
    assert done.out.splitlines()[:2] == ["first: near", "second: far"]
    assert "the first is better" in done.out and "note: 20 pairs of the same name" in done.out
    assert done.last == Path("page.html") and "the first is better" in Path("page.html").read_text()
    found = json.loads(rein("evaluate", "compare", "near", "near", "--real", "real", "--json", "--no-judge").out)
    assert {row["verdict"] for row in found["differences"]} == {"noise"}


def test_the_usual_command_needs_no_name(rein: Run, tiny: str) -> None:
    named = rein("evaluate", "obedience", tiny, "--steps", 0)
    for arguments in ((tiny, "--steps", 0), ("--steps", 0, tiny)):
        assert rein("evaluate", *arguments) == named
    assert "steps is 0" in named.err
    shown = rein("evaluate", "--help").out
    for command in ("obedience", "pictures", "model", "compare", "rate", "votes"):
        assert f"  {command} " in shown
    assert "MODEL" in rein("evaluate", "pocket", "--help").out
    assert rein("evaluate").code == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("pictures nothing", "there is no folder or file 'nothing'"),
        ("pictures empty", "there are no pictures in empty"),
        ("pictures a b --features notes.txt", "cannot read notes.txt"),
        ("pictures a b --lpips x.pth", "--lpips compares pairs: say --pairs too"),
        ("pictures a b --lpips x.pth --pairs", "LPIPS needs two files, and 1 are given"),
        ("pictures a --pairs", "pairs need a second folder"),
        ("pictures a other --pairs", "no picture in a has the name of one in other"),
        ("pictures a --clip nothing", "nothing"),
        ("pictures a --device tpu", "unknown device 'tpu'"),
        ("pictures a --training b --nearest words", "nearest is 'words': it must be pixels or features or both"),
        ("pictures other a", "other has 1 picture: a comparison of sets needs 2 at least"),
        ("pictures a --training b", "there are 3 training pictures: 10 at least"),
        ("pictures a b --neighbours 0", "neighbours is 0"),
        ("model pocket", "give either --prompts FILE or --data PICTURES"),
        ("model pocket --prompts notes.txt --data a", "give either --prompts FILE or --data PICTURES"),
        ("model pocket --data a", "no picture in a has a caption"),
        ("compare a b --no-judge", "nothing to compare by: give real pictures with --real"),
        ("compare a evaluated", "compare two folders that `rein evaluate MODEL` left"),
    ],
)
def test_a_wrong_call_is_one_line(rein: Run, arguments: str, reason: str) -> None:
    folder(Path("a"), 3), folder(Path("b"), 3)
    Path("empty").mkdir()
    Path("notes.txt").write_text("an owl")
    folder(Path("other"), 1)
    shutil.move("other/000.png", "other/x.png")
    Path("evaluated").mkdir()
    Path("evaluated/report.json").write_text("{}")
    done = rein("evaluate", *arguments.split())
    assert done.code in (1, 2) and done.out == ""
    assert done.err.startswith("rein: error: ") and done.err.count("\n") == 1
    assert reason in done.err
    assert not Path("evaluation").exists()
