"""A whole recipe on sixteen drawings of our own: from nothing to a model folder, broken off and continued."""

from pathlib import Path

import pytest
import torch

from rein.errors import InputError
from rein.formats.tensors import read_tensors
from rein.training.prepare import Art, compose_art
from rein.training.run import StageReport, train_recipe
from tests.data.drawings import drawn_options

RECIPE = """
name = "tiny"

[data]
size = 32
pictures = 48
validation_pictures = 8

[model]
vocabulary = 520

[model.overrides]
native_size = 32
"unet.channels" = [16, 32]
"unet.transformer_depth" = [0, 1]
"unet.heads" = [1, 2]
"unet.context_width" = 32
"unet.pooled_width" = 32
"unet.norm_groups" = 8
"unet.in_channels" = 4
"unet.out_channels" = 4
"autoencoder.latent_channels" = 4
"autoencoder.channels" = [16, 16]

[[stage]]
objective = "autoencoder"
steps = 6
batch_size = 4
learning_rate = 1e-3
precision = "fp32"
discriminator_channels = 16

[[stage]]
objective = "denoiser"
steps = 6
batch_size = 4
learning_rate = 1e-3
precision = "fp32"
"""
TOWERS = """
[[model.overrides.towers]]
width = 32
layers = 1
heads = 2
feed_forward_width = 64
context_length = 16
"""


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Art:
    return compose_art(drawn_options(tmp_path_factory.mktemp("art")), 48, 8)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE.replace("\n[[stage]]", TOWERS + "\n[[stage]]", 1))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.name}/{k}": v for path in folder.glob("*.safetensors") for k, v in read_tensors(path).items()}


def test_a_run_that_is_broken_off_and_continued_gives_the_same_model(art: Art, recipe: Path, tmp_path: Path) -> None:
    whole = list(train_recipe(recipe, tmp_path / "whole", art=art))
    assert whole[-1].model == tmp_path / "whole" / "model"

    run = train_recipe(recipe, tmp_path / "parts", art=art)
    seen: list[StageReport] = []
    while not (seen and seen[-1].stage == "denoiser" and seen[-1].report is not None):
        seen.append(next(run))
    run.close()
    continued = list(train_recipe(recipe, tmp_path / "parts", resume=True, art=art))
    assert any(report.message == "finished before" for report in continued)
    one, other = weights(tmp_path / "whole" / "model"), weights(tmp_path / "parts" / "model")
    assert one.keys() == other.keys() and one
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_that_holds_a_run_is_not_overwritten(art: Art, recipe: Path, tmp_path: Path) -> None:
    next(train_recipe(recipe, tmp_path / "run", art=art))
    with pytest.raises(InputError, match="--resume"):
        next(train_recipe(recipe, tmp_path / "run", art=art))
    recipe.write_text(recipe.read_text().replace("steps = 6", "steps = 7"))
    with pytest.raises(InputError, match="another recipe"):
        next(train_recipe(recipe, tmp_path / "run", resume=True, art=art))


def test_a_run_goes_on_from_a_model(art: Art, recipe: Path, tmp_path: Path) -> None:
    first = list(train_recipe(recipe, tmp_path / "first", art=art))[-1].model
    assert first is not None
    more = tmp_path / "more.toml"
    stage = RECIPE[RECIPE.rindex("[[stage]]") :]
    more.write_text(f'[data]\nsize = 32\n[model]\nstart = "{first}"\n{stage}')
    second = list(train_recipe(more, tmp_path / "second", art=art))[-1].model
    assert second is not None
    before, after = weights(first), weights(second)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert all(name in same for name in before if name.startswith("autoencoder"))
    assert not all(name in same for name in before if name.startswith("unet"))
    distance = max(float((before[name] - after[name]).abs().max()) for name in before)
    assert distance < 0.05, "six steps move the weights a little: they were not begun anew"
