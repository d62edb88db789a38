"""Small models of several families, and the program run within this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from rein.cli.app import run
from rein.explain.trace import Explanation, explain
from rein.pipeline.model import Model, load
from tests.pipeline.small import save_small

Loader = Callable[[str], Model]


@dataclass(frozen=True)
class Finished:
    """What a run of the program left."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Gives the small model of a family, in float32 on the CPU."""

    @cache
    def loaded(family: str) -> Model:
        return load(save_small(tmp_path_factory.mktemp(family), family), "cpu", "float32")

    return loaded


@pytest.fixture(scope="session")
def pocket(small_model: Loader) -> Model:
    """The small flow model."""
    return small_model("pocket")


@pytest.fixture(scope="session")
def apple(pocket: Model) -> Explanation:
    """A finished explanation of four steps."""
    return explain("a red apple, flat style", pocket, seed=7, steps=4).finish()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small model."""
    return str(save_small(tmp_path_factory.mktemp("tiny"), "pocket"))


@pytest.fixture
def rein(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the program in an empty folder: `rein("explain", "an owl", "--steps", 2)`."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> Finished:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Finished(code, written.out, written.err)

    return called
