"""The loop beside a training written out by hand: every piece of a step, in order."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rein.training.loop import Loop, hash_seed
from rein.training.tables import LoopTable
from tests.training.tiny import LineObjective, line_table, loop, state, table

SCALES = [1.0, 40.0, 0.02, 3.0, 0.5, 100.0, 0.1, 1.0]
"""So different that the gradient is clipped in some steps and not in others."""


def trained(folder: Path, settings: LoopTable, scales: list[float] = SCALES) -> tuple[LineObjective, Loop]:
    objective = LineObjective(scales)
    made = Loop(objective, settings, folder, "line")
    list(made.run())
    return objective, made


class ByHand:
    """AdamW with clipped gradients and an average of the weights, each formula written out, in float64."""

    def __init__(self, settings: LoopTable) -> None:
        objective = LineObjective(SCALES)
        self.inputs, self.targets = objective.inputs.double(), objective.targets.double()
        self.values = [parameter.detach().double() for parameter in (objective.layer.weight, objective.layer.bias)]
        self.averages = [value.clone() for value in self.values]
        self.moments = [(torch.zeros_like(value), torch.zeros_like(value)) for value in self.values]
        self.settings, self.clipped = settings, 0

    def gradients(self, rows: list[int], scale: float) -> list[Tensor]:
        """Of scale * mean((x W^T + b - y)^2), from its derivative."""
        weight, bias = self.values
        error = self.inputs[rows] @ weight.T + bias - self.targets[rows]
        slope = scale * 2 * error / error.numel()
        return [slope.T @ self.inputs[rows], slope.sum(dim=0)]

    def step(self, number: int, gradients: list[Tensor], rate: float) -> None:
        """Step `number`, 1 first."""
        settings = self.settings
        length = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        self.clipped += length > settings.clip
        shrink = min(1.0, settings.clip / (length + 1e-6))
        first, second = settings.betas
        decay = min(settings.ema, (1 + number) / (10 + number))
        for place, gradient in enumerate(gradient * shrink for gradient in gradients):
            mean, square = self.moments[place]
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient**2 - square)
            direction = mean / (1 - first**number) / ((square / (1 - second**number)).sqrt() + 1e-8)
            value, shrunk = self.values[place], settings.weight_decay if place == 0 else 0.0
            self.values[place] = value * (1 - rate * shrunk) - rate * direction
            self.averages[place] = decay * self.averages[place] + (1 - decay) * self.values[place]


def test_every_step_equals_the_formulas(tmp_path: Path) -> None:
    settings = line_table(weight_decay=0.3, clip=2.0, ema=0.5, decay="linear", decay_from=0.5, betas=(0.8, 0.9))
    objective, made = trained(tmp_path, settings)
    rates = [0.05 * factor for factor in (0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25)]
    reference = ByHand(settings)
    for number, rate in enumerate(rates, start=1):
        rows = batch_of(objective, number)
        reference.step(number, reference.gradients(rows, SCALES[number - 1]), rate)
    assert 2 <= reference.clipped <= 6
    average = made.trained["line"].average
    assert average is not None
    ours = [objective.layer.weight, objective.layer.bias, average.state()["weight"], average.state()["bias"]]
    for value, expected in zip(ours, reference.values + reference.averages, strict=True):
        assert torch.allclose(value.detach().double(), expected, rtol=1e-5, atol=1e-6)


def batch_of(objective: LineObjective, number: int) -> list[int]:
    """The rows of step `number`: the losses are asked once more for the states that are saved after 1 and the last."""
    return objective.batches[number - 1 + (number > 1)]


def test_every_picture_is_seen_once_in_each_round(tmp_path: Path) -> None:
    objective, _ = trained(tmp_path, line_table(steps=10, batch_size=4))
    order = [row for number in range(1, 11) for row in batch_of(objective, number)]
    rounds = [order[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(one) == list(range(10)) for one in rounds)
    assert len({tuple(one) for one in rounds}) == 4


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "8", line_table(batch_size=8))
    parts, _ = trained(tmp_path / "2x4", line_table(batch_size=4, accumulation=2))
    other, _ = trained(tmp_path / "4", line_table(batch_size=4))
    assert torch.allclose(whole.layer.weight, parts.layer.weight, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(whole.layer.weight, other.layer.weight, rtol=1e-2)


def test_the_reported_loss_is_the_mean_of_its_batches(tmp_path: Path) -> None:
    whole = next(Loop(LineObjective(SCALES), line_table(batch_size=8), tmp_path / "8", "line").run())
    parts = next(Loop(LineObjective(SCALES), line_table(accumulation=2), tmp_path / "2x4", "line").run())
    assert parts.losses["loss"] == pytest.approx(whole.losses["loss"], rel=1e-5)


def test_a_small_clip_slows_only_what_is_clipped(tmp_path: Path) -> None:
    """Adam forgives a constant factor, so scales that vary show it."""
    free, _ = trained(tmp_path / "free", line_table(clip=1e9))
    tight, _ = trained(tmp_path / "tight", line_table(clip=0.1))
    assert not torch.allclose(free.layer.weight, tight.layer.weight, rtol=1e-2)


def test_the_loss_falls_and_pictures_come_back(tmp_path: Path) -> None:
    settings = table(steps=80, batch_size=8, learning_rate=4e-3, warm_up=5, gradient_weight=0.0)
    made = loop(tmp_path, settings)
    reports = list(made.run())
    first, last = (sum(report.losses["l1"] for report in part) / 5 for part in (reports[:5], reports[-5:]))
    assert last < 0.6 * first
    assert reports[-1].validation["psnr"] > 13
    assert reports[-1].sample == tmp_path / "sample-000080.png" and reports[-1].sample.exists()


def test_reports_count_and_time(tmp_path: Path) -> None:
    reports = list(loop(tmp_path, table(steps=5, learning_rate=0.01, warm_up=2, decay="none")).run())
    assert [report.step for report in reports] == [1, 2, 3, 4, 5] and {report.steps for report in reports} == {5}
    assert [report.learning_rate for report in reports] == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.01])
    assert all(report.pictures_per_second > 0 for report in reports)
    assert reports[0].seconds_left > 0 == reports[-1].seconds_left
    assert [report.saved for report in reports] == [True, False, False, False, True]
    assert set(reports[0].losses) == {"loss", "l1", "gradient", "kl"}


def test_the_discriminator_joins_at_its_step(tmp_path: Path) -> None:
    made = loop(tmp_path, table(steps=8, adversarial_from=0.5))
    start = {name: value.clone() for name, value in made.trained["discriminator"].module.state_dict().items()}
    for report in made.run():
        joined = report.step > 4
        assert ("discriminator_loss" in report.losses) == ("adversarial" in report.losses) == joined
        now = made.trained["discriminator"].module.state_dict()
        assert all(torch.equal(now[name], value) for name, value in start.items()) != joined
    assert made.trained["discriminator"].average is None


def test_averaged_weights_are_lent(tmp_path: Path) -> None:
    made = loop(tmp_path, table(steps=3))
    list(made.run())
    module = made.trained["autoencoder"].module
    saved = state(tmp_path)

    def holds(kind: str) -> bool:
        return all(torch.equal(p, saved[f"autoencoder/{kind}/{name}"]) for name, p in module.named_parameters())

    assert holds("weights") and not holds("average")
    with made.averaged():
        assert holds("average")
    assert holds("weights")
    made.finish(tmp_path / "model")
    assert holds("weights")
    assert (tmp_path / "model" / "autoencoder.safetensors").exists()


def test_two_precisions_follow_one_another(tmp_path: Path) -> None:
    """The stages of a recipe may differ in precision, within one process."""
    losses: dict[str, float] = {}
    for precision in ("fp32", "bf16", "fp32"):
        report = next(loop(tmp_path / precision, table(precision=precision)).run())
        losses.setdefault(precision, report.losses["l1"])
        assert losses[precision] == report.losses["l1"]
    assert losses["bf16"] != losses["fp32"] == pytest.approx(losses["bf16"], rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler about torch itself
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # and while it looks at what it compiles
def test_a_compiled_run_in_half_precision_follows_the_plain_one(tmp_path: Path) -> None:
    settings = table(adversarial_from=0.5, steps=8)
    plain = list(loop(tmp_path / "plain", settings).run())
    quick = settings.model_copy(update={"compile": True, "precision": "bf16"})
    compiled = list(loop(tmp_path / "compiled", quick).run())
    for one, other in zip(plain, compiled, strict=True):
        assert one.losses.keys() == other.losses.keys()
        assert other.losses["l1"] == pytest.approx(one.losses["l1"], rel=0.03)
    assert compiled[-1].validation["psnr"] == pytest.approx(plain[-1].validation["psnr"], abs=0.3)
    assert state(tmp_path / "compiled").keys() == state(tmp_path / "plain").keys()


def test_the_kernels_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    """Between two reports PyTorch's choice of attention is what it was before."""
    before = torch.backends.cuda.flash_sdp_enabled()
    run = loop(tmp_path, table()).run()
    next(run)
    assert torch.backends.cuda.flash_sdp_enabled() == before is True
    run.close()


def test_near_seeds_are_unrelated() -> None:
    seeds = {hash_seed(*numbers) for numbers in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (0,), (1,)]}
    assert len(seeds) == 7 and all(0 <= seed < 2**63 for seed in seeds)
    ones = [bin(hash_seed(1, step) ^ hash_seed(1, step + 1)).count("1") for step in range(200)]
    assert 29 < sum(ones) / len(ones) < 34  # half of 63 bits
