"""Recipes: the shipped ones, and every way in which one can be wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from rein.errors import InputError
from rein.training.recipe import check_recipe, read_recipe
from rein.training.tables import AutoencoderTable, DataTable, DenoiserTable

SHIPPED = sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.toml"))
GOOD: dict[str, Any] = {
    "name": "tiny",
    "data": {"size": 64, "cache_folder": "somewhere"},
    "model": {"variant": "pocket", "overrides": {"unet.channels": [32, 64]}},
    "stage": [
        {"objective": "autoencoder", "steps": 10, "batch_size": 2, "betas": [0.5, 0.9]},
        {"objective": "denoiser", "steps": 20, "batch_size": 4, "learning_rate": 1},
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good recipe with one value put in; None takes it out."""
    values = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place: Any = values
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    key: Any = int(last) if last.isdigit() else last
    if value is None:
        del place[key]
    else:
        place[key] = value
    return values


def test_a_good_recipe_is_read() -> None:
    recipe = check_recipe(GOOD, "tiny.toml")
    first, second = recipe.stage
    assert isinstance(first, AutoencoderTable) and isinstance(second, DenoiserTable)
    assert first.betas == (0.5, 0.9) and first.steps == 10
    assert second.learning_rate == 1.0 and second.caption_dropout == 0.1
    assert isinstance(recipe.data, DataTable)
    assert recipe.data.size == 64 and recipe.data.cache_folder == Path("somewhere")
    assert recipe.model.overrides == {"unet.channels": [32, 64]}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_recipes_are_good(path: Path) -> None:
    recipe = read_recipe(path)
    made = [stage.objective for stage in recipe.stage]
    assert made == ["autoencoder", "denoiser"] if recipe.model.start is None else "autoencoder" not in made


def test_recipes_are_shipped() -> None:
    assert {path.name for path in SHIPPED} >= {"pocket-cpu.toml"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("dataa", {}, "dataa is unknown: did you mean 'data'"),
        ("data.sizze", 1, "data.sizze is unknown: did you mean 'size'"),
        ("model.varient", "x", "model.varient is unknown: did you mean 'variant'"),
        ("stage.0.learning_rat", 1, "stage 1: learning_rat is unknown: did you mean 'learning_rate'"),
        ("stage.0.caption_dropout", 0.1, "stage 1: caption_dropout is unknown"),
        ("stage.1.kl_weight", 0.1, "stage 2: kl_weight is unknown"),
        ("stage", None, "stage is missing"),
        ("stage", [], "stage is [], but should have at least 1 item"),
        ("stage", {"objective": "autoencoder"}, "but should be a list"),
        ("stage.0", 3, "stage 1 is 3, but should be a table"),
        ("stage.1.objective", None, "stage 2 has no objective; known: autoencoder, denoiser, "),
        ("stage.1.objective", "denoizer", "stage 2 has the unknown objective 'denoizer': did you mean 'denoiser'"),
        ("stage.1.objective", 7, "stage 2 has the unknown objective 7: known: autoencoder, denoiser, "),
        ("stage.0.steps", None, "stage 1: steps is missing"),
        ("stage.0.steps", 0, "stage 1: steps is 0, but should be greater than or equal to 1"),
        ("stage.0.steps", 2.0, "stage 1: steps is 2.0, but should be a valid integer"),
        ("stage.0.steps", "2", "stage 1: steps is '2', but should be a valid integer"),
        ("stage.0.batch_size", True, "stage 1: batch_size is True, but should be a valid integer"),
        ("stage.0.learning_rate", "fast", "stage 1: learning_rate is 'fast', but should be a valid number"),
        ("stage.0.learning_rate", 0, "stage 1: learning_rate is 0, but should be greater than 0"),
        ("stage.0.learning_rate", float("nan"), "stage 1: learning_rate is nan, but should be a finite number"),
        ("stage.0.clip", float("inf"), "stage 1: clip is inf, but should be a finite number"),
        ("stage.1.time_mean", float("nan"), "stage 2: time_mean is nan, but should be a finite number"),
        ("stage.0.compile", 1, "stage 1: compile is 1, but should be a valid boolean"),
        ("stage.0.precision", "fp16", "stage 1: precision is 'fp16', but should be 'fp32' or 'bf16'"),
        ("stage.0.betas", 0.9, "stage 1: betas is 0.9, but should be a list"),
        ("stage.0.betas", [0.9, 1.0], "stage 1: betas.1 is 1.0, but should be less than 1"),
        ("stage.0.betas", [0.9], "stage 1: betas.1 is missing"),
        ("stage.0.ema", 1.0, "stage 1: ema is 1.0, but should be less than 1"),
        ("stage.0.discriminator_channels", 24, "stage 1: discriminator_channels is 24, but should be a multiple of 16"),
        ("stage.1.caption_dropout", 1.0, "stage 2: caption_dropout is 1.0, but should be less than 1"),
        ("data", 3, "data is 3, but should be a table"),
        ("data.size", 16, "data.size is 16, but should be greater than or equal to 32"),
        ("data.mixture", {"pair": "much"}, "data.mixture.pair is 'much', but should be a valid number"),
        ("data.cache_folder", 4, "data.cache_folder is 4, but should be text"),
        ("model.overrides", [1], "model.overrides is [1], but should be a table"),
        ("model.vocabulary", 10, "model.vocabulary is 10, but should be greater than or equal to 514"),
        ("name", "Big Name", "name is 'Big Name', but should match pattern"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_recipe(changed(path, value), "tiny.toml")
    said = str(caught.value)
    assert said.startswith("tiny.toml: ") and message in said
    assert "\n" not in said and "pydantic" not in said.lower()


def test_a_recipe_cannot_be_changed() -> None:
    recipe = check_recipe(GOOD, "tiny.toml")
    with pytest.raises(ValueError, match="frozen"):
        recipe.stage[0].steps = 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe .*none\.toml is not there"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"[data\nsize=", b"\xff\xfe", b"a = 1\na = 2"], ids=["cut", "bytes", "twice"])
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe\.toml cannot be read"):
        read_recipe(path)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[[stage]]\nobjective = 'autoencoder'\nstepps = 3\n")
    with pytest.raises(InputError, match=r"recipe\.toml: stage 1: (steps|batch_size) is missing|stepps is unknown"):
        read_recipe(path)


def test_a_misspelt_key_is_named_before_the_one_it_should_have_been() -> None:
    with pytest.raises(InputError, match="stage 1: step is unknown: did you mean 'steps'"):
        check_recipe({"stage": [{"objective": "denoiser", "step": 3, "batch_size": 2}]}, "a.toml")
