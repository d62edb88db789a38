"""A tiny model, and two ways to run the program: within this process, and as a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rein.cli.app import run
from tests.pipeline.small import save_small

SOURCE = Path(__file__).parents[2] / "src"

ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Finished:
    """What a run of the program left."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> Path:
        """The last line of its output."""
        return Path(self.out.splitlines()[-1])


Run = Callable[..., Finished]


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of the processes that `work` starts and waits for.

    Of a program that neither waits nor uses threads it is the time that it takes, as long as no other one is running;
    and it stays about the same when others are.
    """

    def so_far() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = so_far()
    work()
    return so_far() - before


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny model."""
    return str(save_small(tmp_path_factory.mktemp("tiny"), "pocket"))


@pytest.fixture
def rein(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the program within this process, in an empty folder: `rein("generate", "an owl", "--steps", 2)`."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> Finished:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Finished(code, written.out, written.err)

    return called


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Runs the program as a process of its own in an empty folder."""

    def called(*arguments: object, **options: object) -> Finished:
        command = [sys.executable, "-m", "rein", *(str(argument) for argument in arguments)]
        done = subprocess.run(  # type: ignore[call-overload]
            command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300, **options
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return called
