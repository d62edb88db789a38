"""Ctrl-C while pictures are drawn or written, and other programs that write into the same folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rein.image_files import read_image
from tests.cli.conftest import ENVIRONMENT, Run


def test_ctrl_c_keeps_what_is_finished(tiny: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rein",
        "generate",
        "owl",
        "-m",
        tiny,
        "--steps",
        "30",
        "--count",
        "1000",
        "-o",
        "out",
    ]
    running = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs deaf to Ctrl-C, and they hand that on; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert running.stdout is not None
    told = [running.stdout.readline(), running.stdout.readline()]
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=300)
    assert running.returncode == 130
    paths = [line.split(": ", 1)[1] for line in "".join([*told, rest]).splitlines()]
    assert 2 <= len(paths) < 1000
    assert errors.startswith(f"rein: interrupted: {len(paths)} of 1000 pictures are finished: {paths[0]}, {paths[1]}")
    assert errors.count("\n") == 1
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").iterdir()) == sorted(paths)
    assert all(read_image(tmp_path / path).size == (32, 32) for path in paths)


def test_a_picture_that_is_being_written_at_ctrl_c_is_finished_and_told(
    rein: Run, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, handler = os.fsync, signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        signal.raise_signal(signal.SIGINT)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", interrupted)
    try:
        done = rein("generate", "owl", "-m", tiny, "--steps", 1, "--count", 3, "--seed", 1, "-o", "out")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (done.code, done.out.splitlines()) == (130, ["seed 1: out/owl-1.png"])
    assert done.err.startswith("rein: interrupted: 1 of 3 pictures are finished: out/owl-1.png")
    assert [path.name for path in Path("out").iterdir()] == ["owl-1.png"]


def test_what_another_program_writes_meanwhile_stays(rein: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("theirs").mkdir()
    for name in ("owl-1-sheet.png", "s.png", "owl-1-x2.png"):
        (Path("theirs") / name).write_bytes(b"theirs")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # as if they came right after the look
    call = ("owl", "-m", tiny, "--steps", 1)
    assert rein("generate", *call, "--seed", 1, "--grid", "-o", "theirs/").last == Path("theirs/owl-1-sheet-1.png")
    assert rein("sheet", *call, "--x", "seed=1,2", "-o", "theirs/s.png").last == Path("theirs/s-1.png")
    assert rein("upscale", "theirs/owl-1.png", "-o", "theirs").last == Path("theirs/owl-1-x2-1.png")
    assert [Path("theirs", name).read_bytes() for name in ("owl-1-sheet.png", "s.png", "owl-1-x2.png")] == [
        b"theirs"
    ] * 3
