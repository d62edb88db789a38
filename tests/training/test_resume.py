"""A run that dies and is continued ends exactly as one that lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rein.errors import DamagedFileError, InputError
from rein.formats.tensors import read_header, read_tensors, write_tensors
from rein.interrupt import HeldInterrupt
from rein.training.loop import Loop
from rein.training.objective import Batch, Losses
from rein.training.state import FILE_NAME
from tests.training.tiny import NEVER, RECIPE, loop, objective, same, state, table

ROOT = Path(__file__).parent.parent.parent


def crashed(folder: Path, adversarial_from: float) -> list[str]:
    """What a training in a process of its own says until it is killed."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.tiny", str(folder), str(adversarial_from)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("adversarial_from", [1.0, 0.25], ids=["alone", "with discriminator"])
def test_a_killed_run_is_continued_bit_for_bit(tmp_path: Path, adversarial_from: float) -> None:
    said = crashed(tmp_path / "killed", adversarial_from)
    assert said[6:] == ["step 7 saved True", "step 8 saved False", "step 9 saved False"]
    settings = table(adversarial_from=adversarial_from)

    unbroken = loop(tmp_path / "unbroken", settings)
    assert [report.step for report in unbroken.run()] == list(range(1, 13))

    resumed = loop(tmp_path / "killed", settings)
    assert resumed.resume() == 7
    assert [report.step for report in resumed.run()] == [8, 9, 10, 11, 12]

    whole, continued = state(tmp_path / "unbroken"), state(tmp_path / "killed")
    kinds = {"/".join(name.split("/")[:2]) for name in whole}
    expected = {"autoencoder/weights", "autoencoder/average", "autoencoder/optimiser"}
    if adversarial_from < 1:
        expected |= {"discriminator/weights", "discriminator/optimiser"}
    assert kinds == expected
    assert same(whole, continued)


@pytest.mark.parametrize("adversarial_from", [1.0, 0.25], ids=["alone", "with discriminator"])
def test_a_state_after_any_step_serves(tmp_path: Path, adversarial_from: float) -> None:
    """Broken off after the first step, before the discriminator has joined, and after the fifth, when it has."""
    settings = table(adversarial_from=adversarial_from)
    list(loop(tmp_path / "unbroken", settings).run())
    often = settings.model_copy(update={"checkpoint_minutes": 1e-9})
    for steps, kept in ((1, settings), (5, often)):
        folder = tmp_path / f"broken-{steps}"
        run = loop(folder, kept).run()
        for _ in range(steps):
            assert next(run).saved
        run.close()
        again = loop(folder, settings)
        assert again.resume() == steps
        list(again.run())
        assert same(state(tmp_path / "unbroken"), state(folder))


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    """Otherwise the equalities above would say little."""
    for seed in (5, 6):
        list(loop(tmp_path / str(seed), table(seed=seed, steps=2)).run())
    assert not same(state(tmp_path / "5"), state(tmp_path / "6"))


def test_samples_on_the_way_change_nothing(tmp_path: Path) -> None:
    list(loop(tmp_path / "quiet", table(steps=4)).run())
    reports = list(loop(tmp_path / "shown", table(steps=4, sample_minutes=1e-9, checkpoint_minutes=1e-9)).run())
    assert all(report.sample is not None and report.sample.exists() and report.saved for report in reports)
    assert same(state(tmp_path / "quiet"), state(tmp_path / "shown"))


def test_the_random_numbers_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    list(loop(tmp_path, table(steps=2)).run())
    assert torch.equal(torch.rand(4), expected)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    settings = table(steps=2)
    list(loop(tmp_path, settings).run())
    again = loop(tmp_path, settings)
    assert again.resume() == 2
    assert list(again.run()) == []


def test_without_a_state_a_run_starts_at_the_beginning(tmp_path: Path) -> None:
    assert loop(tmp_path, table()).resume() == 0


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A state after two steps."""
    list(loop(tmp_path, table(steps=2)).run())
    return tmp_path / FILE_NAME


def test_the_state_of_another_recipe_is_refused(saved: Path) -> None:
    other = Loop(objective(table()), table(), saved.parent, "another hash")
    with pytest.raises(InputError, match="another recipe"):
        other.resume()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9999])
def test_a_truncated_state_is_refused(saved: Path, part: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(DamagedFileError, match=FILE_NAME):
        loop(saved.parent, table()).resume()


@pytest.mark.parametrize(
    "lost", ["autoencoder/weights/quant_conv.bias", "autoencoder/average/quant_conv.bias", "autoencoder/weights/"]
)
def test_a_state_with_parts_missing_is_refused(saved: Path, lost: str) -> None:
    header, tensors = read_header(saved), read_tensors(saved)
    kept = {name: value.clone() for name, value in tensors.items() if not name.startswith(lost)}
    assert len(kept) < len(tensors)
    write_tensors(saved, kept, header.metadata)
    with pytest.raises(DamagedFileError, match="not a complete training state") as caught:
        loop(saved.parent, table()).resume()
    assert "\n" not in str(caught.value)


def test_the_seconds_add_up(tmp_path: Path) -> None:
    settings = table(steps=3)
    run = loop(tmp_path, settings).run()
    next(run)
    run.close()
    first = float(read_header(tmp_path / FILE_NAME).metadata["seconds"])
    again = loop(tmp_path, settings)
    again.resume()
    list(again.run())
    metadata = read_header(tmp_path / FILE_NAME).metadata
    assert float(metadata["seconds"]) > first > 0
    assert metadata["step"] == "3" and metadata["recipe"] == RECIPE
    assert settings.checkpoint_minutes == NEVER


def test_ctrl_c_finishes_and_keeps_the_step_in_work(tmp_path: Path) -> None:
    settings = table()
    stopped = loop(tmp_path / "stopped", settings)
    [player] = stopped.players

    def interrupted(module: nn.Module, batch: Batch) -> Losses:
        if batch.step == 4:
            signal.raise_signal(signal.SIGINT)
        return player.loss(module, batch)

    stopped.players = [replace(player, loss=interrupted)]
    reports = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for report in stopped.run():
            reports.append(report)
    except KeyboardInterrupt:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    assert reports[-1].saved

    resumed = loop(tmp_path / "stopped", settings)
    assert resumed.resume() == 5
    assert [report.step for report in resumed.run()] == [6, 7, 8, 9, 10, 11, 12]
    unbroken = loop(tmp_path / "unbroken", settings)
    assert len(list(unbroken.run())) == 12
    assert same(state(tmp_path / "stopped"), state(tmp_path / "unbroken"))


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with HeldInterrupt() as held:
            signal.raise_signal(signal.SIGINT)
            assert held.asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with HeldInterrupt() as deaf:
            signal.raise_signal(signal.SIGINT)
        assert not deaf.asked
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
