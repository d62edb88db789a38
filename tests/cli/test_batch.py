"""`rein batch`: many requests, bad ones among them, stopped and continued."""

from __future__ import annotations

import json
from pathlib import Path

from rein.image_files import read_image, read_texts
from rein.pipeline.batch import RECORD, read_batch
from tests.cli.conftest import Run


def lines(*requests: object) -> Path:
    path = Path("requests.jsonl")
    path.write_text("\n".join(text if isinstance(text, str) else json.dumps(text) for text in requests) + "\n")
    return path


def test_every_request_is_drawn_and_bad_lines_are_listed(rein: Run, tiny: str) -> None:
    good = {"prompt": "a red apple", "seed": 7, "steps": 2}
    path = lines(good, {"prompt": "x", "steps": 0}, "{", "", "[1]", good | {"seed": 8, "count": 2}, {"promt": "y"})
    done = rein("batch", path, "--model", tiny, "--output", "out")
    assert done.code == 1
    *problems, summary, folder = done.out.splitlines()
    assert [problem.partition(":")[0] for problem in problems] == ["line 2", "line 3", "line 5", "line 7"]
    assert "steps is 0: it must be a whole number from 1 to 1000" in problems[0]
    assert "did you mean 'prompt'" in problems[3]
    assert (summary, folder) == ("2 requests drawn, 0 done before, 4 bad", "out")
    names = sorted(file.name for file in Path("out").glob("*.png"))
    assert names == ["000001-7.png", "000006-8.png", "000006-9.png"]
    alone = rein("generate", "a red apple", "--model", tiny, "--seed", 8, "--steps", 2, "--output", "alone.png")
    assert alone.code == 0
    assert Path("alone.png").read_bytes() == Path("out/000006-8.png").read_bytes()


def test_it_goes_on_where_it_stopped(rein: Run, tiny: str) -> None:
    path = lines(*({"prompt": "an apple", "seed": seed, "steps": 1} for seed in (1, 2, 3)))
    assert rein("batch", path, "--model", tiny, "--output", "out").code == 0
    first = Path("out/000001-1.png").stat().st_mtime_ns
    Path("out/000002-2.png").unlink()  # a picture that is lost is drawn again
    record = Path("out", RECORD)
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:2]) + '{"line": 3, "dig')
    again = json.loads(rein("batch", path, "--model", tiny, "--output", "out", "--json").out)
    assert (again["drawn"], again["skipped"], again["problems"]) == (2, 1, [])
    assert Path("out/000001-1.png").stat().st_mtime_ns == first
    assert sorted(file.name for file in Path("out").glob("*.png")) == ["000001-1.png", "000002-2.png", "000003-3.png"]
    last = json.loads(rein("batch", path, "--model", tiny, "--output", "out", "--json").out)
    assert (last["drawn"], last["skipped"]) == (0, 3)


def test_a_changed_line_is_drawn_anew(rein: Run, tiny: str) -> None:
    rein("batch", lines({"prompt": "an apple", "seed": 1, "steps": 1}), "--model", tiny, "--output", "out")
    done = rein("batch", lines({"prompt": "a car", "seed": 1, "steps": 1}), "--model", tiny, "--output", "out")
    assert done.out.splitlines()[0] == "1 requests drawn, 0 done before, 0 bad"
    assert "a car" in read_texts("out/000001-1.png")["parameters"]


def test_a_table(rein: Run, tiny: str) -> None:
    Path("t.csv").write_text('prompt,seed,steps,width,guidance_scale\n"red, round",3,1,,2.5\nb,x,1,,\nc,1,1,16,,9\n')
    done = rein("batch", "t.csv", "--model", tiny, "--output", "out")
    assert done.code == 1
    assert done.out.splitlines()[0].startswith("line 3: seed is 'x': it must be")
    assert done.out.splitlines()[1].startswith("line 4: it has 6 cells, more than the first row has names")
    assert "red, round" in read_texts("out/000002-3.png")["parameters"]
    assert read_image("out/000002-3.png").width > 0


def test_a_table_whose_names_are_wrong(rein: Run) -> None:
    Path("t.csv").write_text("promt,seed\na,1\n")
    refused = rein("batch", "t.csv", "--model", "no such model")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "did you mean 'prompt'?" in refused.err


def test_wrong_calls(rein: Run) -> None:
    assert rein("batch", "nothing.jsonl").code == 2
    Path("a.txt").write_text("{}")
    refused = rein("batch", "a.txt")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert ".jsonl or a .csv" in refused.err


def test_line_5000_is_bad_and_those_round_it_are_drawn(rein: Run, tiny: str) -> None:
    """A batch of 5,010 requests that was stopped after 4,990: what is left is drawn, and the bad line is told."""
    rows = ['{"prompt": "a", "steps": 1, "seed": 3}' if line != 5000 else "oops" for line in range(1, 5011)]
    path = lines(*rows)
    entries = list(read_batch(path))
    assert len(entries) == len({entry.digest for entry in entries}) == 5010
    assert [entry.line for entry in entries if entry.request is None] == [5000]
    Path("out").mkdir()
    Path("out/before.png").touch()
    done = [json.dumps({"line": entry.line, "digest": entry.digest, "files": ["before.png"]}) for entry in entries]
    Path("out", RECORD).write_text("\n".join(done[:4990]) + "\n")
    finished = rein("batch", path, "--model", tiny, "--output", "out")
    assert finished.code == 1
    assert finished.out.splitlines()[0].startswith("line 5000: it is not valid JSON")
    assert finished.out.splitlines()[1] == "19 requests drawn, 4990 done before, 1 bad"
    names = sorted(file.name for file in Path("out").glob("00*.png"))
    assert names == [f"{line:06}-3.png" for line in range(4991, 5011) if line != 5000]
