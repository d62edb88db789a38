"""An explanation of a small model; models and the program as in the tests of their own rooms."""

from __future__ import annotations

import pytest

from rein.explain.trace import Explanation, explain
from rein.pipeline.model import Model
from tests.cli.conftest import Run, rein, tiny
from tests.pipeline.conftest import Loader, pocket, small_model

__all__ = ["Loader", "Run", "apple", "pocket", "rein", "small_model", "tiny"]


@pytest.fixture(scope="session")
def apple(pocket: Model) -> Explanation:
    """A finished explanation of four steps."""
    return explain("a red apple, flat style", pocket, seed=7, steps=4).finish()
