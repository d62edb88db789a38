"""The program itself: help, version, speed of starting, and errors as one line and an exit code."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from rein import errors
from rein.cli import app as program
from rein.version import __version__
from tests.cli.conftest import processor_seconds

SOURCE = Path(__file__).parents[2] / "src"


def rein(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "rein", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_help_and_version() -> None:
    for arguments in ((), ("--help",), ("-h",)):
        done = rein(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: rein [OPTIONS] COMMAND")
        assert "..." not in done.stdout.partition("Commands:")[2], "each command is told in one line, whole"
        assert done.stderr == ""
    assert rein("--version").stdout == f"rein {__version__}\n"


def test_help_answers_at_once() -> None:
    """Under 0.2 s is promised where Python itself starts within 15 ms; a slower machine has as much more time.

    The best of ten, since a busy machine says nothing about the program.
    """
    bare = [sys.executable, "-c", "pass"]
    alone = min(processor_seconds(lambda: subprocess.run(bare, check=True)) for _ in range(10))
    assert min(processor_seconds(lambda: rein("--help")) for _ in range(10)) < max(0.2, 0.2 / 0.015 * alone)


def test_starting_imports_nothing_heavy() -> None:
    code = "import sys, rein.cli.app; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "PIL", "pydantic", "tokenizers"} & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [("nothing",), ("--nothing",), ("--traceback",)])
def test_a_wrong_call_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = rein(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("rein: error: ")
    assert done.stderr.endswith("(see rein --help)\n")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def trial() -> Callable[..., int]:
    """The program with one more command, `trial`, which ends in a given error; returns the exit code."""

    def run(error: BaseException, *options: str) -> int:
        @program.app.command("trial")
        def trial() -> None:
            raise error

        try:
            return program.run([*options, "trial"])
        finally:
            program.app.registered_commands.pop()

    return run


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.png")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.InputError("steps is 0: from 1 to 1000"), 2, "rein: error: steps is 0: from 1 to 1000"),
        (errors.MissingExtraError("train", "accelerate"), 2, "rein: error: this needs the package accelerate, which"),
        (errors.DamagedFileError("cannot read a"), 1, "rein: error: cannot read a"),
        (errors.ReinError("two\nlines"), 1, "rein: error: two lines"),
        (errors.InterruptedWork("stopped: 2 of 4 pictures are in out"), 130, "rein: stopped: 2 of 4 pictures"),
        (KeyboardInterrupt(), 130, "rein: interrupted: what was finished before is kept"),
        (FULL, 1, "rein: error: the disk is full; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "rein: error: Permission denied: /x"),
        (MemoryError(), 1, "rein: error: out of memory"),
        (typer.BadParameter("bad"), 2, "rein: error: Invalid value: bad"),
        (KeyError("key"), 1, "rein: error: KeyError: 'key' (a defect in Rein"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    trial: Callable[..., int], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert trial(error) == code
    written = capsys.readouterr()
    assert written.err.startswith(line)
    assert written.err.count("\n") == 1
    assert written.out == ""


def test_the_traceback_is_shown_on_request(trial: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert trial(errors.ReinError("why"), "--traceback") == 1
    written = capsys.readouterr().err
    assert "Traceback (most recent call last)" in written
    assert written.splitlines()[-1] == "rein: error: why"


def test_a_reader_that_went_away_is_no_error() -> None:
    """As in `rein --help | head -0`: the pipe is closed before a byte is written."""
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "rein", "--help"]
    done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 1


def test_many_options_come_in_sections() -> None:
    shown = rein("generate", "--help").stdout
    titles = [line for line in shown.splitlines() if line and not line.startswith((" ", "Usage:"))]
    assert titles == [
        "Arguments:",
        "Options:",
        "Adapters and learned words:",
        "How the prompt is read:",
        "Begin with a picture:",
        "Paint a part of it:",
        "Larger and other pictures:",
        "The model and where it computes:",
    ]
    assert shown.index("--count") < shown.index("Adapters and learned words:") < shown.index("--lora")
