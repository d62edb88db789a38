"""A training whose loss stops being a number: it stops, says so, and what was good is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rein.errors import NonFiniteError
from rein.training.loop import Loop, Report
from rein.training.state import FILE_NAME
from tests.training.tiny import RECIPE, LineObjective, line_table, loop, objective, same, state, table


def finite(folder: Path) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in state(folder).values())


def poison(made: Loop, player: str) -> None:
    """One weight that is not a number, as bad memory or an overflow leaves it."""
    with torch.no_grad():
        next(made.trained[player].module.parameters())[0, 0, 0, 0] = float("nan")


def failure(made: Loop, after: Callable[[Report], None]) -> str:
    """Run until the loss is no number, calling `after` after each step; returns the message."""
    with pytest.raises(NonFiniteError) as caught:  # noqa: PT012 - the loop is the statement
        for report in made.run():
            after(report)
    return str(caught.value)


@pytest.mark.parametrize("player", ["autoencoder", "discriminator"])
def test_a_bad_weight_between_checkpoints_leaves_the_last_one(tmp_path: Path, player: str) -> None:
    settings = table(adversarial_from=0.0)
    made = loop(tmp_path, settings)
    steps = []

    def after(report: Report) -> None:
        steps.append(report.step)
        if report.step == 5:
            poison(made, player)

    message = failure(made, after)
    assert steps == [1, 2, 3, 4, 5]
    assert "nan at step 6" in message and "the state of step 1 is kept" in message and FILE_NAME in message
    assert finite(tmp_path)

    again = loop(tmp_path, settings)
    assert again.resume() == 1
    list(again.run())
    list(loop(tmp_path / "healthy", settings).run())
    assert same(state(tmp_path), state(tmp_path / "healthy"))


def test_a_checkpoint_that_is_due_does_not_write_a_ruined_state(tmp_path: Path) -> None:
    """A learning rate so large that one step ruins the weights: they are finite, and what comes out of them is not."""
    good = table(checkpoint_minutes=1e-9)
    run = loop(tmp_path, good).run()
    for _ in range(3):
        next(run)
    run.close()
    before = (tmp_path / FILE_NAME).read_bytes()

    wild = good.model_copy(update={"learning_rate": 1e30})
    made = Loop(objective(wild), wild, tmp_path, RECIPE)
    assert made.resume() == 3
    with pytest.raises(
        NonFiniteError, match=r"at step 5: first in layer \S+, picture number .*; the state of step 3 is kept"
    ):
        list(made.run())
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert loop(tmp_path, good).resume() == 3


def test_a_run_that_never_was_good_says_so(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="no state was saved yet; start again with a lower learning_rate"):
        list(loop(tmp_path, table(learning_rate=1e30, warm_up=0)).run())
    assert list(tmp_path.iterdir()) == []


def test_the_last_step_is_looked_at_too(tmp_path: Path) -> None:
    """A run that ends in ruins is not saved as finished."""
    with pytest.raises(NonFiniteError, match="the state of step 1 is kept"):
        list(Loop(LineObjective([1.0] * 8 + [float("inf")]), line_table(), tmp_path, "line").run())


def test_an_infinite_gradient_of_a_finite_loss_is_seen(tmp_path: Path) -> None:
    line = LineObjective([1.0, 1.0, 1e38])
    with torch.no_grad():
        line.inputs *= 1e3
        line.targets[:] = line.layer(line.inputs) + 1e-2
    made = Loop(line, line_table(learning_rate=1e-12), tmp_path, "line")
    weights = []
    message = failure(made, lambda report: weights.append(line.layer.weight.detach().clone()))
    assert "gradient norm is inf at step 3" in message
    assert len(weights) == 2 and torch.equal(line.layer.weight, weights[-1])
