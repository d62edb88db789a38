"""Students: targets that follow the teacher's own path, on every kind of prediction and schedule."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rein.diffusion.prediction import NetworkDenoiser, find_prediction
from rein.diffusion.samplers import find_sampler
from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import spaced_sigmas
from rein.diffusion.step import SamplerOptions
from rein.errors import InputError
from rein.formats.adapters import read_adapter
from rein.training.adapter import KOHYA_FILE, PEFT_FILE
from rein.training.distil import DistilObjective
from rein.training.tables_forms import DistilTable
from tests.training.forms import loop_values, shown_set, small_model, trained, weights

FAMILIES = ["pocket", "sd1", "sd2-v", "sdxl"]


def table(**options: object) -> DistilTable:
    chosen = {"objective": "distil", "method": "progressive", "steps_of_student": 2, **loop_values(), **options}
    return DistilTable.model_validate(chosen)


def student_of(family: str, settings: DistilTable) -> DistilObjective:
    teacher = small_model(family)
    data = shown_set(teacher.spec.autoencoder.latent_channels, 0)
    return DistilObjective(teacher, settings, data, data)


def texts(count: int) -> list[str]:
    return [["a red apple", "a blue car", "a house"][index % 3] for index in range(count)]


@pytest.mark.parametrize(("family", "guidance"), [("pocket", 1.0), *((name, 1.5) for name in FAMILIES)])
def test_one_step_to_the_target_lands_where_the_teacher_does(family: str, guidance: float) -> None:
    """The teacher's path is walked by Rein's own Euler sampler, with guidance written out here."""
    settings = table(substeps=3, guidance=guidance)
    objective = student_of(family, settings)
    teacher = small_model(family)
    schedule = make_schedule(**asdict(teacher.spec.schedule))
    x0, noise = shown_set(4, 0, 2).latents, torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    words = objective.words([*texts(2), "", ""])

    def network(rows: slice) -> NetworkDenoiser:
        chosen = words.select(rows)

        def ask(x: Tensor, timestep: Tensor) -> Tensor:
            out: Tensor = teacher.unet(x, timestep.expand(len(x)), chosen.context, chosen.pooled, chosen.size_ids)
            return out

        return NetworkDenoiser(ask, schedule, find_prediction(teacher.spec.prediction))

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        wanted, unwanted = network(slice(0, 2))(x, sigma), network(slice(2, 4))(x, sigma)
        return unwanted + guidance * (wanted - unwanted)

    extra = replace(words, extra=torch.zeros(4, 0, 4, 4))
    for row in range(2):
        lots = torch.full((2,), (row + 0.5) / 2)
        x, sigma, target = objective._progressive(objective.unet, (x0, noise), extra, lots)
        levels = objective.levels[row]
        assert torch.equal(sigma, levels[0].expand(2)) and torch.allclose(x, x0 + levels[0] * noise)
        walked = x
        with torch.no_grad():
            for step in find_sampler("euler").function(denoise, x, levels, None, SamplerOptions()):  # type: ignore[arg-type]
                walked = step.x
        ratio = levels[-1] / levels[0]
        landed = ratio * x + (1 - ratio) * target
        assert torch.allclose(landed, walked, rtol=2e-4, atol=2e-4 * float(walked.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_grid_of_a_student_is_that_of_its_sampler(family: str) -> None:
    objective = student_of(family, table(steps_of_student=4, substeps=3))
    spec, levels = objective.parts.spec, objective.levels
    expected = spaced_sigmas(spec.default_spacing, 4, make_schedule(**asdict(spec.schedule)))
    assert levels.shape == (4, 4)
    assert torch.equal(torch.cat([levels[:, 0], levels[-1:, -1]]), expected)
    assert torch.equal(levels[1:, 0], levels[:-1, -1]) and bool((levels.diff(dim=1) < 0).all())


@pytest.mark.parametrize("family", ["pocket", "sd2-v"])
def test_consistency_asks_the_student_one_step_later(family: str) -> None:
    objective = student_of(family, table(method="consistency", substeps=2, guidance=1.0))
    x0, noise = shown_set(4, 0, 2).latents, torch.ones(2, 4, 4, 4)
    words = replace(objective.words([*texts(2), "", ""]), extra=torch.zeros(4, 0, 4, 4))
    pairs = torch.stack([objective.levels[:, :-1].flatten(), objective.levels[:, 1:].flatten()], dim=1)
    for place, (now, after) in enumerate(pairs):
        lots = torch.full((2,), (place + 0.5) / len(pairs))
        x, sigma, target = objective._consistency(objective.unet, (x0, noise), words, lots)
        assert torch.equal(sigma, now.expand(2)) and not target.requires_grad
        answer = objective._guided(x, sigma, words)
        later = after / now * x + (1 - after / now) * answer
        if after == 0:
            assert torch.allclose(target, later, atol=1e-5), "at the end of the path the picture is known"
        else:
            with torch.no_grad():
                said = objective._x0(objective.unet, later, after.expand(2), words.select(slice(2)))
            assert torch.allclose(target, said, atol=1e-4 * float(said.abs().max()))


@pytest.mark.parametrize(("family", "method"), [("pocket", "progressive"), ("sd2-v", "consistency")])
def test_a_student_comes_nearer_and_its_teacher_stays(family: str, method: str, tmp_path: Path) -> None:
    settings = table(method=method, steps=10, warm_up=2, learning_rate=1e-3)
    objective = student_of(family, settings)
    kept = {name: value.clone() for name, value in objective.teacher.unet.state_dict().items()}
    before = objective.validate()["held_out_error"]
    loop = trained(tmp_path / "run", lambda: objective, settings)
    with loop.averaged(), torch.no_grad():
        assert objective.validate()["held_out_error"] < before
    assert all(torch.equal(value, objective.teacher.unet.state_dict()[name]) for name, value in kept.items())
    assert not torch.equal(weights(loop)["conv_in.weight"], kept["conv_in.weight"])


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_a_broken_off_student_goes_on_bit_by_bit(method: str, tmp_path: Path) -> None:
    settings = table(method=method)
    whole = trained(tmp_path / "whole", lambda: student_of("pocket", settings), settings)
    trained(tmp_path / "parts", lambda: student_of("pocket", settings), settings, stop=2)
    resumed = trained(tmp_path / "parts", lambda: student_of("pocket", settings), settings)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_a_student_may_be_an_adapter(tmp_path: Path) -> None:
    """LCM-LoRA: the teacher with the saved file answers as the student did, and nothing but the adapter has learned."""
    settings = table(method="consistency", rank=2, steps=6, learning_rate=2e-2)
    objective = student_of("sd1", settings)
    teacher = small_model("sd1")
    loop = trained(tmp_path / "run", lambda: objective, settings)
    loop.finish(tmp_path / "out")
    words = objective.words(texts(2))
    x, sigma = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([3.0, 0.5])
    with loop.averaged(), torch.no_grad():
        said = objective._asked(objective.unet, x, sigma, words)
    plain = objective._asked(teacher.unet, x, sigma, words)
    for file in (KOHYA_FILE, PEFT_FILE):
        adapter = read_adapter(tmp_path / "out" / file, teacher.targets)
        assert not adapter.unmatched and {part for part, _ in adapter.changes} == {"unet"}
        with teacher.merger.using([adapter.use(1.0)]), torch.no_grad():
            merged = objective._asked(teacher.unet, x, sigma, words)
        assert (merged - said).abs().max() < 0.05 * (said - plain).abs().max()


def test_a_student_is_drawn_without_guidance_by_its_sampler() -> None:
    objective = student_of("pocket", table())
    assert objective.parts.spec.default_guidance == 1.0 and objective.parts.spec.default_sampler == "euler"
    lcm = student_of("pocket", table(method="consistency"))
    assert lcm.parts.spec.default_sampler == "lcm"
    assert lcm.sample().width >= 8 * lcm.parts.spec.native_size


def test_huber_counts_large_errors_less() -> None:
    plain = student_of("pocket", table())
    huber = student_of("pocket", table(huber=0.01))
    assert huber.validate()["held_out_error"] < plain.validate()["held_out_error"]


def test_a_student_without_held_out_pictures_is_refused() -> None:
    teacher, data = small_model("pocket"), shown_set(4, 0)
    with pytest.raises(InputError, match="there are none"):
        DistilObjective(teacher, table(), data, shown_set(4, 0, 0))


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"substeps": 0}, {"steps_of_student": 0}, {"guidance": -1.0}])
def test_a_table_refuses_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        table(**wrong)
