"""Scalars for TensorBoard: read back from its own event files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rein.training.report import scalars
from tests.training.tiny import loop, table


def written(folder: Path) -> Any:
    """TensorBoard's reader of everything in `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def values(folder: Path, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in written(folder).Scalars(tag)}


def test_every_number_of_a_report_is_kept(tmp_path: Path) -> None:
    run = loop(tmp_path, table(steps=4, adversarial_from=0.5, sample_minutes=1e-9)).run()
    reports = list(scalars(run, tmp_path / "scalars"))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    tags = set(written(tmp_path / "scalars").Tags()["scalars"])
    names = ("loss", "l1", "gradient", "kl", "adversarial", "discriminator_loss")
    assert tags == {f"loss/{name}" for name in names} | {"rate", "pictures_per_second", "held_out/psnr"}
    for tag, expected in {
        "loss/l1": {report.step: report.losses["l1"] for report in reports},
        "loss/adversarial": {report.step: report.losses["adversarial"] for report in reports[2:]},
        "rate": {report.step: report.learning_rate for report in reports},
        "pictures_per_second": {report.step: report.pictures_per_second for report in reports},
        "held_out/psnr": {report.step: report.validation["psnr"] for report in reports},
    }.items():
        assert values(tmp_path / "scalars", tag) == pytest.approx(expected, rel=1e-6)


def test_reports_pass_one_by_one(tmp_path: Path) -> None:
    """The training does not run ahead of the one who reads."""
    made = loop(tmp_path, table(steps=5))
    passed = scalars(made.run(), tmp_path / "scalars")
    assert next(passed).step == 1 and made.step == 1
    assert next(passed).step == 2 and made.step == 2
    passed.close()
    assert set(values(tmp_path / "scalars", "rate")) == {1, 2}


def test_steps_done_again_replace_those_lost(tmp_path: Path) -> None:
    settings = table(steps=6)
    run = scalars(loop(tmp_path, settings).run(), tmp_path / "scalars")
    for _ in range(4):
        next(run)
    run.close()
    time.sleep(1.1)  # TensorBoard reads the files in the order of their names, which begin with the second
    again = loop(tmp_path, settings)
    assert again.resume() == 1
    reports = list(scalars(again.run(), tmp_path / "scalars"))
    rates = written(tmp_path / "scalars").Scalars("pictures_per_second")
    assert sorted(event.step for event in rates) == [1, 2, 3, 4, 5, 6]
    later = {event.step: event.value for event in rates if event.step > 1}
    assert later == pytest.approx({report.step: report.pictures_per_second for report in reports}, rel=1e-6)


def test_nothing_to_tell_writes_nothing(tmp_path: Path) -> None:
    assert list(scalars(iter(()), tmp_path / "scalars")) == []
    assert not (tmp_path / "scalars").exists()
