"""The progress bar: on a terminal it is there, elsewhere it is not; and what it says."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rein.cli.progress import Pace, clock, meter, speed_note
from tests.cli.conftest import ENVIRONMENT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (0.01, "0:01"), (59, "0:59"), (59.5, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_a_clock_rounds_up(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("done", "seconds", "text"),
    [
        (1, 0.04, "25.0 it/s, 0:01 left"),
        (10, 10, "1.0 it/s, 0:10 left"),
        (5, 12.5, "2.5 s/it, 0:38 left"),
        (20, 3, "6.7 it/s, 0:00 left"),
        (1, 0.0, "1000000000.0 it/s, 0:01 left"),
    ],
)
def test_speed_and_time_left(done: int, seconds: float, text: str) -> None:
    assert speed_note(done, 20, seconds) == text


def test_a_slow_speed_is_told_the_other_way_round() -> None:
    assert speed_note(1, 3, 4.0, "pictures/s") == "4.0 s/picture, 0:08 left"


def test_pace_counts_from_its_beginning() -> None:
    pace = Pace()
    time.sleep(0.1)
    assert 1 < float(pace.note(5, 10).split()[0]) <= 50


def test_where_nobody_watches_only_what_is_said_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with meter() as shown:
        shown.show("working", 1, 2, "quickly")
        shown.say("a [line]")
    assert not shown.visible
    written = capfd.readouterr()
    assert (written.out, written.err) == ("a [line]\n", "")


def on_a_terminal(code: str, folder: Path, **variables: str) -> tuple[str, str]:
    """What Python code writes to stdout, which is piped, and to stderr, which is a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = ENVIRONMENT | {"COLUMNS": "100", "TERM": "xterm"} | variables
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as running:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        assert running.stdout is not None
        out = running.stdout.read()
    os.close(ours)
    return out, seen.decode()


WORK = """
from rein.cli.progress import meter
with meter() as shown:
    for step in range(1, 5):
        shown.show("a [red] picture", step, 4, "3.0 it/s, 0:01 left")
        shown._progress.refresh()
    shown.show("waiting")
    shown.say("seed 7: a.png")
"""


def test_on_a_terminal_there_is_a_bar_that_goes_away(tmp_path: Path) -> None:
    out, seen = on_a_terminal(WORK, tmp_path)
    assert out == "seed 7: a.png\n"  # to the pipe, not to the terminal
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"a \[red\] picture .* 1/4 3.0 it/s, 0:01 left", shown)
    assert re.search(r"a \[red\] picture .* 4/4 3.0 it/s, 0:01 left", shown)
    assert "waiting" in shown
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # the cursor is hidden, and comes back
    assert seen.rstrip("\r\n").endswith("\x1b[2K")  # the last thing done is to clear the line


def test_a_terminal_that_cannot_draw_gets_no_bar(tmp_path: Path) -> None:
    out, seen = on_a_terminal(WORK.replace("        shown._progress.refresh()\n", ""), tmp_path, TERM="dumb")
    assert (out, seen) == ("seed 7: a.png\n", "")


def test_generate_shows_its_steps(tiny: str, tmp_path: Path) -> None:
    code = (
        "from rein.cli.app import run; import rein.cli; "
        f"raise SystemExit(run(['generate', 'an owl', '-m', {tiny!r}, '--steps', '40', '--count', '2', '-o', '.']))"
    )
    out, seen = on_a_terminal(code, tmp_path)
    assert re.search(r"picture 1 of 2 .*\d+/80 \d+\.\d it/s, 0:\d\d left", seen)
    assert "loading" in seen
    assert len(out.splitlines()) == 4
