"""`rein train`: what it tells of a run, and what it refuses. The training itself is tested in `tests/training`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from rein.cli.progress import Meter
from rein.cli.train import Diary, how_to_resume, progress_note, speaks
from rein.training.loop import Report
from rein.training.prepare import compose_art
from rein.training.run import StageReport, train_recipe
from tests.cli.conftest import Run
from tests.data.drawings import drawn_options

RECIPE = """
[data]
size = 32
pictures = 16
validation_pictures = 4
cache_folder = "art"

[model]
vocabulary = 600

[model.overrides]
native_size = 32
"autoencoder.latent_channels" = 4
"autoencoder.channels" = [16, 16]

[[stage]]
objective = "autoencoder"
steps = 3
batch_size = 2
learning_rate = 1e-3
precision = "fp32"
discriminator_channels = 16
"""

STEP = Report(
    step=30,
    steps=600,
    losses={"loss": 0.123456, "l1": 0.1},
    learning_rate=1e-3,
    pictures_per_second=56.21,
    seconds_left=3723.0,
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny recipe.toml"
    path.write_text(RECIPE)
    return path


def test_one_process_speaks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for rank in (None, "0", "1"):
        if rank is not None:
            monkeypatch.setenv("RANK", rank)
        told.append(speaks())
    assert told == [True, True, False]


def test_a_run_is_told_line_by_line(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    art = compose_art(drawn_options(tmp_path), 16, 4)
    diary = Diary(Meter())
    for news in train_recipe(recipe, tmp_path / "run", art=art):
        diary.enter(news)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("data: ")
    assert lines[1] == "autoencoder: preparing"
    assert "weights learn; about " in lines[2] and " minutes" in lines[2]
    assert lines[3].startswith("autoencoder 1/3: ")
    assert lines[-1].startswith("autoencoder 3/3: ")
    for part in (" pictures/s, ", " left, loss ", "; validation ", "; samples in ", "sample-000003.png"):
        assert part in lines[-1]
    assert diary.model is None  # half a model is none


def test_a_step_is_told_with_speed_time_left_and_losses() -> None:
    assert progress_note(STEP) == "56.2 pictures/s, 1:02:03 left, loss 0.123, l1 0.1"


def test_in_a_log_a_line_a_minute_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    diary = Diary(Meter())
    for step in range(1, 50):
        diary.enter(StageReport("denoiser", replace(STEP, step=step)))
    assert len(capsys.readouterr().out.splitlines()) == 1
    diary.last_line -= 61
    diary.enter(StageReport("denoiser", replace(STEP, step=50)))
    diary.enter(StageReport("denoiser", replace(STEP, step=51, validation={"held_out": 0.5})))
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "denoiser 50/600",
        "denoiser 51/600",
    ]


def test_an_interrupt_says_what_is_kept_and_how_to_go_on() -> None:
    recipe, folder = Path("my recipe.toml"), Path("runs/a")
    diary = Diary(Meter())
    assert how_to_resume(diary, recipe, folder, "auto").startswith("stopped before anything was done.")
    diary.enter(StageReport("denoiser", message="preparing"))
    assert "before the first step of denoiser" in how_to_resume(diary, recipe, folder, "auto")
    diary.enter(StageReport("denoiser", replace(STEP, step=1, saved=True)))
    diary.enter(StageReport("denoiser", replace(STEP, step=2)))
    told = how_to_resume(diary, recipe, folder, "cpu")
    assert told.startswith(
        "stopped in step 3 of stage denoiser; kept: the state after step 1. Continue with: rein train "
    )
    command = shlex.split(told.split("Continue with: ")[1])
    assert command == ["rein", "train", str(recipe), "--output", str(folder), "--resume", "--device", "cpu"]


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (("steps = 3", "steps = 0"), (), "steps"),
        (("size = 32", "sise = 32"), (), "did you mean 'size'?"),
        (("", ""), ("--device", "tpu"), "unknown device 'tpu': did you mean 'cpu'?"),
        (("[data]", "[data"), (), "tiny recipe.toml"),
    ],
)
def test_a_wrong_recipe_or_option_is_refused(
    rein: Run, recipe: Path, change: tuple[str, str], options: tuple[str, ...], reason: str
) -> None:
    recipe.write_text(recipe.read_text().replace(*change, 1))
    done = rein("train", recipe, "--output", "run", *options)
    assert done.code == 2
    assert done.err.startswith("rein: error: ")
    assert reason in done.err
    assert done.err.count("\n") == 1
    assert not Path("run").exists()


def test_a_missing_recipe_is_refused(rein: Run) -> None:
    done = rein("train", "nothing.toml")
    assert (done.code, done.out) == (2, "")
    assert "nothing.toml" in done.err
    assert list(Path().iterdir()) == []


def test_a_run_that_is_there_is_not_started_over(rein: Run, recipe: Path) -> None:
    next(iter(train_recipe(recipe, Path("run"))))
    done = rein("train", recipe, "--output", "run")
    assert (done.code, done.out) == (2, "")
    assert done.err == "rein: error: run holds a run: add --resume to continue it, or give another --output\n"
