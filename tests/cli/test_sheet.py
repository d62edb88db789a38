"""`rein sheet`: the sheet, what is kept, what is scored, and what is refused."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rein.formats.checkpoint import save_model
from rein.image_files import read_image, read_texts
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from tests.cli.conftest import ENVIRONMENT, Run
from tests.pipeline.small import SPECS, networks

CALL = ("sheet", "a red apple", "--steps", 1, "--seed", 7)


def clip_reader() -> tuple[ModelSpec, UNet, Autoencoder, list[TextTower]]:
    """A small model with CLIP's vocabulary."""
    spec = SPECS["sd1"]
    tower = replace(spec.towers[0], vocabulary_size=49408, end_token=49407, pad_token=49407)
    spec = replace(spec, vocabulary="clip", towers=(tower,))
    return spec, *networks(spec)


def test_a_sheet_with_its_pictures(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "--x", "steps=1,2", "--y", "guidance=2-4 (+2)", "--keep", "-o", "out/")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-2].startswith("4 of 4 pictures, ")
    assert done.last == Path("out/a-red-apple-7-sheet.png")
    names = ["0001-steps-1-guidance-2", "0002-steps-2-guidance-2", "0003-steps-1-guidance-4", "0004-steps-2-guidance-4"]
    folder = Path("out/a-red-apple-7-sheet")
    assert sorted(path.stem for path in folder.iterdir()) == names
    sheet = read_image(done.last)
    whole = sheet.tobytes()
    alone = rein("generate", "a red apple", "-m", tiny, "--steps", 2, "--guidance", 4, "--seed", 7, "-o", "alone.png")
    assert alone.code == 0
    assert Path("alone.png").read_bytes() == (folder / f"{names[3]}.png").read_bytes()
    row = read_image("alone.png").crop((0, 0, 32, 1)).tobytes()
    assert row in whole
    texts = read_texts(done.last)
    assert 'Script: X/Y/Z plot, X Type: steps, X Values: "1, 2", Y Type: guidance_scale' in texts["parameters"]
    assert json.loads(texts["rein-sheet"])["request"]["seed"] == 7


def test_nothing_is_replaced(rein: Run, tiny: str) -> None:
    call = (*CALL, "-m", tiny, "--x", "seed=1,2")
    assert [str(rein(*call, "-o", "s.png").last) for _ in range(2)] == ["s.png", "s-1.png"]
    assert [rein(*call).last.name for _ in range(2)] == ["a-red-apple-7-sheet.png", "a-red-apple-7-sheet-1.png"]


def test_a_cell_that_fails_shows_why_and_the_others_are_drawn(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "--x", "width=32,33,40", "-o", "s.png")
    assert (done.code, done.err) == (1, "")
    problem, summary, path = done.out.splitlines()
    assert problem.startswith("width 33: width is 33: model 'small-pocket' needs a multiple of 8")
    assert summary.startswith("2 of 3 pictures")
    assert read_image(path).width > 3 * 40


def test_where_all_fail_there_is_no_sheet(rein: Run, tiny: str) -> None:
    done = rein(*CALL, "-m", tiny, "--x", "width=33,41", "-o", "s.png")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert not Path("s.png").exists()


def test_a_full_disk_keeps_what_is_finished(process: Run, tiny: str, tmp_path: Path) -> None:
    """The system refuses files over 70,000 bytes, as a full disk would: the second picture does not fit."""

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))

    call = (*CALL, "-m", tiny, "--x", "size=16x16,256x256", "--keep", "--output", "s.png")
    done = process(*call, preexec_fn=small_files_only)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("rein: error: cannot write s/0002-256-x-256.png: ")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["0001-16-x-16.png", "s.png"]


def test_ctrl_c_writes_the_sheet_of_what_is_finished(tiny: str, tmp_path: Path) -> None:
    call = [*CALL, "-m", tiny, "--x", "seed=1-1000 (+2)", "--keep", "--output", "s.png"]
    running = subprocess.Popen(
        [sys.executable, "-m", "rein", *(str(word) for word in call)],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs deaf to Ctrl-C, and they hand that on; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while running.poll() is None and len(list(tmp_path.glob("s/*.png"))) < 2:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=300)
    assert (running.returncode, errors.count("\n")) == (130, 1)
    assert re.match(r"rein: interrupted: \d+ of 500 pictures are finished, on s\.png", errors)
    assert read_image(tmp_path / "s.png").width > 500 * 32
    assert 2 <= len(list(tmp_path.glob("s/*.png"))) < 500


def test_a_matrix_in_layers(rein: Run, tiny: str) -> None:
    done = rein("sheet", "an apple|red|blue", "--matrix", "--z", "seed=1,2", "--steps", 1, "-m", tiny, "--json")
    told = json.loads(done.out)
    assert [cell["labels"] for cell in told["cells"]][:2] == [["-", "-", "seed 1"], ["-", "-", "seed 2"]]
    assert len(told["cells"]) == 8
    assert {tuple(cell["place"]) for cell in told["cells"]} == {
        (x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)
    }
    assert all(cell["score"] is None and cell["problem"] == "" for cell in told["cells"])
    assert Path(told["sheet"]).is_file()


def test_scores(rein: Run, tiny: str) -> None:
    done = rein("sheet", "an owl", "-m", tiny, "--x", "replace=owl,car", "--steps", 1, "--score", "--json")
    assert all(0 <= cell["score"] <= 1 for cell in json.loads(done.out)["cells"])
    nothing = rein("sheet", "xyz", "-m", tiny, "--x", "seed=1", "--steps", 1, "--score")
    assert nothing.code == 0
    assert nothing.out.startswith("no scores: the judge")


def test_no_score_for_models_of_other_art(rein: Run, tmp_path: Path) -> None:
    """A model that reads CLIP's words draws what the judge never saw."""
    save_model(tmp_path / "other", *clip_reader())
    done = rein(*CALL, "-m", tmp_path / "other", "--x", "seed=1", "--score", "-o", "s.png")
    assert (done.code, done.out) == (2, "")
    assert "--score: the judge knows the art of 'pocket'" in done.err
    assert rein(*CALL, "-m", tmp_path / "other", "--x", "seed=1", "-o", "s.png").code == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "nothing varies: give an axis"),
        (("--x", "steps=0,5"), "steps is 0: it must be"),
        (("--x", "stps=5"), "unknown axis 'stps'"),
        (("--matrix",), 'has no "|" outside of brackets'),
        (("--matrix", "--x", "seed=1"), "--matrix makes --x and --y itself"),
        (("--x", "seed=1", "--set", "count=2"), "put seeds on an axis"),
        (("--x", "replace=pear,plum"), "'pear' is in no prompt"),
        (("--x", "seed=1", "--output", "s.jpg"), "output is 's.jpg': a sheet is written as PNG"),
        (("--x", "seed=1", "--output", "missing/s.png"), "cannot write"),
    ],
)
def test_a_wrong_call_is_one_line(rein: Run, options: tuple[str, ...], reason: str) -> None:
    done = rein(*CALL, "-m", "no such model", *options)
    assert done.code == (1 if "cannot" in reason else 2)
    assert reason in done.err
    assert (done.out, done.err.count("\n")) == ("", 1)
