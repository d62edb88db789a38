"""Teaching a model that can draw: what learns and what stays, for every family, broken off and continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rein.errors import InputError, NonFiniteError
from rein.formats.adapters_names import parts_of
from rein.formats.embeddings import read_embedding
from rein.formats.tensors import read_header, read_tensors
from rein.training.lessons import Lesson
from rein.training.optim import learning
from rein.training.pupil import check_teachable, tokenise
from rein.training.teach import TeachObjective
from tests.pipeline.small import SPECS
from tests.training.lessons import OBJECTIVES, latents, loop, model, objective
from tests.training.tiny import same, state


def weights(made: TeachObjective) -> dict[str, Tensor]:
    parts: dict[str, nn.Module] = {**parts_of(made.model.unet, made.model.towers), "vae": made.model.autoencoder}
    return {f"{part}.{k}": v.detach().clone() for part, m in parts.items() for k, v in m.state_dict().items()}


@pytest.mark.parametrize("family", SPECS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_family_learns_and_nothing_else_changes(name: str, family: str, tmp_path: Path) -> None:
    made = objective(name, family)
    before = weights(made)
    reports = list(loop(tmp_path, made).run())
    after = weights(made)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not any(key.startswith("vae") for key in changed)
    learned = {key for key in changed if "lora_" not in key}
    if name == "finetune":
        assert any(key.startswith("unet") for key in learned) and any(key.startswith("tower") for key in learned)
    else:
        assert not learned, "weights of the model itself stay, bit for bit"
        assert bool(changed) == (name != "inversion")
    assert reports[-1].sample == tmp_path / "sample-000006.png"
    assert ("class_drift" in reports[-1].validation) == (name in ("prior", "answers"))
    assert (tmp_path / "samples.html").read_text().count("<img") == 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_is_broken_off_is_continued_bit_for_bit(name: str, tmp_path: Path) -> None:
    run = loop(tmp_path / "broken", objective(name, checkpoint_minutes=1e-9)).run()
    for _ in range(3):
        assert next(run).saved
    run.close()
    resumed = loop(tmp_path / "broken", objective(name))
    assert resumed.resume() == 3
    list(resumed.run())
    list(loop(tmp_path / "whole", objective(name)).run())
    assert same(state(tmp_path / "whole"), state(tmp_path / "broken"))


def test_a_state_holds_what_learns_and_not_the_model(tmp_path: Path) -> None:
    made = objective("inversion")
    list(loop(tmp_path, made).run())
    kept = [name for name in state(tmp_path) if "/weights/" in name]
    assert kept == ["inversion/weights/words.0"]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_learned_word_is_written_and_read_again(family: str, tmp_path: Path) -> None:
    made = objective("inversion", family)
    first = [vectors.detach().clone() for vectors in made.pupil.words]
    run = loop(tmp_path, made)
    list(run.run())
    run.finish(tmp_path / "out")
    read = read_embedding(tmp_path / "out" / "zwx.safetensors", made.model.spec.towers).embedding
    for now, then, vectors in zip(made.pupil.words, first, read.vectors, strict=True):
        assert torch.equal(now.detach(), vectors) and not torch.equal(now.detach(), then)


def test_a_word_takes_its_vectors_places() -> None:
    made = objective("inversion")
    [row] = made.tokens(["a zwx apple"]).slots[0].tolist()
    assert row[:5] == [-1, -1, 0, 1, -1] and set(row[5:]) == {-1}
    plain = tokenise(["a zwx apple"], made.model)
    assert set(plain.slots[0, 0].tolist()) == {-1}


def test_pictures_of_several_sizes_learn_together(tmp_path: Path) -> None:
    made = objective("lora", batch_size=4)
    made.lessons = type(made.lessons)(latents(4, "an apple", sizes=((8, 8), (6, 10))))
    assert list(loop(tmp_path, made).run())[-1].step == 6


def test_recomputed_blocks_give_the_same_and_keep_less(tmp_path: Path) -> None:
    plans, losses = [], []
    for checkpointing in (False, True):
        made = loop(tmp_path / str(checkpointing), objective("finetune", "pocket", checkpointing=checkpointing))
        plans.append(made.preflight())
        losses.append([report.losses["loss"] for report in made.run()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert plans[1].bytes - 16 * plans[1].learning < 0.8 * (plans[0].bytes - 16 * plans[0].learning)
    assert plans[0].learning == plans[1].learning == sum(p.numel() for p in learning(made.players[0].module).values())


def test_preflight_changes_nothing_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    plain, looked = loop(tmp_path / "plain", objective("lora")), loop(tmp_path / "looked", objective("lora"))
    plan = looked.preflight()
    assert 0 < plan.learning < plan.all_parameters and (plan.seconds or 0.0) > 0
    assert "weights learn" in plan.told() and "minutes" in plan.told()
    for made in (plain, looked):
        list(made.run())
    assert same(state(tmp_path / "plain"), state(tmp_path / "looked"))
    huge = loop(tmp_path / "huge", objective("lora", batch_size=10**9))
    huge._batch = looked._batch  # type: ignore[method-assign]
    with pytest.raises(InputError, match="lower batch_size"):
        huge.preflight()


def test_a_picture_that_is_no_number_is_named(tmp_path: Path) -> None:
    made = objective("lora", batch_size=4)
    good = list(made.lessons.train)
    good[2] = Lesson(torch.full((4, 8, 8), float("nan")), None, ("a",), "ruined.png")
    made.lessons = type(made.lessons)(good)
    with pytest.raises(NonFiniteError, match=r"first in layer unet\.conv_in, picture ruined\.png;"):
        list(loop(tmp_path, made).run())


def test_what_a_layer_ruins_is_named(tmp_path: Path) -> None:
    made = objective("finetune")
    with torch.no_grad():
        made.model.unet.get_parameter("mid_block.resnets.0.conv2.weight")[0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"layer unet\.mid_block\.resnets\.0\.conv2"):
        list(loop(tmp_path, made).run())


def test_masks_say_what_counts(tmp_path: Path) -> None:
    """What is wrong outside the mask costs nothing, and with a floor of 1 as much as ever."""
    losses = {}
    for floor in (0.0, 1.0):
        made = objective("lora", mask_floor=floor)
        mask = torch.zeros(1, 8, 8)
        made.lessons = type(made.lessons)([Lesson(x.latents, mask, x.captions, x.name) for x in made.lessons.train])
        losses[floor] = [report.losses["loss"] for report in loop(tmp_path / str(floor), made).run()]
    assert set(losses[0.0]) == {0.0} and min(losses[1.0]) > 0


def test_models_with_more_channels_are_refused() -> None:
    wide = model("sd1")
    spec = replace(wide.spec, unet=replace(wide.spec.unet, in_channels=9))
    with pytest.raises(InputError, match="5 channels besides"):
        check_teachable(replace(wide, spec=spec))


def test_the_file_tells_of_its_making(tmp_path: Path) -> None:
    run = loop(tmp_path, objective("prior"))
    list(run.run())
    run.finish(tmp_path / "out")
    for name in ("adapter.safetensors", "adapter-peft.safetensors"):
        metadata = read_header(tmp_path / "out" / name).metadata
        assert metadata["rein.base"] == "a hash" and metadata["ss_network_dim"] == "2"
        assert read_tensors(tmp_path / "out" / name)
