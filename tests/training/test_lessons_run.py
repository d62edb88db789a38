"""`rein train` on a folder of pictures: shipped recipes by name, from a small model to a file that draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rein.data.augment import read_augmentations
from rein.errors import InputError
from rein.formats.checkpoint import load_model
from rein.formats.tensors import read_header, read_tensors
from rein.pipeline.model import load
from rein.training.lessons import Drawn, Said, Varied, stacked
from rein.training.recipe import read_recipe, shipped_recipes
from rein.training.run import PROVENANCE_FILE, StageReport, train_recipe
from tests.pipeline.small import save_small
from tests.training.tiny import pictures

SMALL = ("stage.steps=2", "stage.batch_size=2", 'stage.precision="fp32"', "data.size=32")
FEW = ("stage.sample_steps=1",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four captioned pictures, one of which nothing is said of."""
    place = tmp_path / "pictures"
    place.mkdir()
    for number, picture in enumerate(pictures(4)):
        Image.fromarray(picture).save(place / f"{number}.png")
        if number:
            (place / f"{number}.txt").write_text("a red apple")
    (place / "broken.png").write_bytes(b"no picture")
    return place


def run(recipe: str, folder: Path, model: Path, output: Path, *changes: str, **more: Any) -> list[StageReport]:
    values = (f"data.folder={folder}", f"model.start={model}", *SMALL, *changes)
    return list(train_recipe(Path(recipe), output, changes=values, **more))


def test_shipped_recipes_are_good() -> None:
    names = shipped_recipes()
    assert {"autoencoder", "dreambooth", "dreambooth-lora", "finetune", "inversion", "lora"} <= set(names)
    for name in names:
        assert read_recipe(Path(name)).stage


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_a_lora_from_a_folder_draws(family: str, folder: Path, tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", family)
    changes = ("stage.rank=2", "stage.warm_up=0", "stage.learning_rate=0.05", "name=mine", *FEW)
    news = run("lora", folder, model, tmp_path / "run", *changes)
    told = " | ".join(report.message for report in news)
    assert "left out: broken.png" in told and "weights learn" in told
    made = news[-1].model
    assert made == tmp_path / "run" / "mine.safetensors" and (tmp_path / "run" / "mine-peft.safetensors").is_file()
    metadata = read_header(made).metadata
    assert metadata["rein.base"] == load_model(model).weights_hash and len(metadata["rein.data"]) > 60
    assert json.loads(metadata["rein.recipe"])["stage"][0]["rank"] == 2
    assert "torch" in json.loads(metadata["rein.versions"])
    options: dict[str, Any] = {"prompt": "a red apple", "seed": 1, "steps": 2}
    drawer = load(model)
    plain = np.asarray(drawer.generate(**options).images[0])
    other = np.asarray(drawer.generate(**options, loras=({"path": str(made)},)).images[0])
    assert (plain != other).any()


def test_a_word_from_a_folder_draws(folder: Path, tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", "sd1")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    changes = ("stage.word=zwx", "stage.vectors=1", "stage.initial=apple", *FEW)
    news = run("inversion", folder, model, tmp_path / "run", *changes)
    made = news[-1].model
    assert made == tmp_path / "run" / "zwx.safetensors" and read_tensors(made)["zwx"].shape == (1, 16)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    drawer = load(model)
    options: dict[str, Any] = {"prompt": "a zwx apple", "seed": 1, "steps": 2}
    plain = np.asarray(drawer.generate(**options).images[0])
    assert (plain != np.asarray(drawer.generate(**options, embeddings=(str(made),)).images[0])).any()


def test_dreambooth_draws_its_class_once_and_makes_a_model(folder: Path, tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", "sd1")
    changes = (
        'data.prompt="a zwx apple"',
        'stage.prior.prompt="an apple"',
        'stage.prior.others=["a pear"]',
        "stage.prior.pictures=2",
        "stage.prior.steps=1",
        *FEW,
    )
    output = tmp_path / "run"
    news = run("dreambooth", folder, model, output, *changes)
    made = news[-1].model
    assert made == output / "model"
    assert len(list((output / "1-finetune" / "class").glob("*.png"))) == 2
    reports = [report.report for report in news if report.report is not None]
    assert set(reports[-1].losses) == {"loss", "own", "class"} and reports[-1].validation["class_drift"] > 0
    assert json.loads((made / PROVENANCE_FILE).read_text())["rein.base"] == load_model(model).weights_hash
    first, second = load_model(model), load_model(made)
    assert not torch.equal(first.unet.conv_in.weight, second.unet.conv_in.weight)
    assert torch.equal(first.autoencoder.quant_conv.weight, second.autoencoder.quant_conv.weight)


def test_the_autoencoder_alone(folder: Path, tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", "sd1")
    made = run("autoencoder", folder, model, tmp_path / "run", "stage.discriminator_channels=16")[-1].model
    assert made is not None
    first, second = load_model(model), load_model(made)
    assert torch.equal(first.unet.conv_in.weight, second.unet.conv_in.weight)
    assert not torch.equal(first.autoencoder.quant_conv.weight, second.autoencoder.quant_conv.weight)


def test_other_pictures_are_another_run(folder: Path, tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", "sd1")
    changes = ("stage.steps=4", *FEW)
    values = (f"data.folder={folder}", f"model.start={model}", *SMALL, *changes)
    going = train_recipe(Path("lora"), tmp_path / "run", changes=values)
    while next(going).report is None:
        pass
    going.close()
    (folder / "1.txt").write_text("a green apple")
    with pytest.raises(InputError, match="made by another recipe"):
        run("lora", folder, model, tmp_path / "run", *changes, resume=True)
    with pytest.raises(InputError, match="holds a run of another recipe"):
        run("lora", folder, model, tmp_path / "run", *changes, "stage.rank=3", resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["stage.stps=2"], "stage 1: stps is unknown: did you mean 'steps'"),
        (["data.foldr=x"], "data.foldr is unknown: did you mean 'folder'"),
        (["stage.rank"], "write it as key=value"),
        (["stage.3.rank=2"], "the recipe has 1 stages, counted from 1"),
        (["name.x=2"], "name is no table"),
        (["stage.prior.pictures=2"], "stage 1: prior.prompt is missing"),
        (["stage.kind=lorra"], "stage 1: kind is 'lorra', but should be 'lora', 'locon', 'dora', 'loha' or 'lokr'"),
    ],
)
def test_wrong_changes_are_told_in_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(Path("lora"), changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_values_are_read_as_in_toml_and_else_as_text() -> None:
    recipe = read_recipe(Path("lora"), ["stage.1.rank=4", "data.folder=/some/place", "stage.learning_rate=2e-3"])
    assert recipe.stage[0].learning_rate == 2e-3 and str(recipe.data.folder) == "/some/place"  # type: ignore[union-attr]


def test_no_recipe_names_those_that_there_are() -> None:
    with pytest.raises(InputError, match="shipped ones: autoencoder, dreambooth"):
        read_recipe(Path("lorra"))


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        run("lora", tmp_path / "empty", save_small(tmp_path / "model", "sd1"), tmp_path / "run")


def test_versions_of_pictures(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("kornia")
    varied = Varied(Drawn(list(pictures(2)), [("an apple",)] * 2), read_augmentations("strong"), 3)
    assert len(varied) == 6 and varied.name(4) == "picture 1, version 1" and varied.captions(5) == ("an apple",)
    assert (varied.pixels(0) == pictures(2)[0]).all() and (varied.pixels(1) != varied.pixels(2)).any()
    assert (varied.pixels(1) == varied.pixels(1)).all() and varied.fingerprint != varied._pictures.fingerprint
    model = save_small(tmp_path / "model", "sd1")
    with pytest.raises(InputError, match="belong together"):
        run("lora", folder, model, tmp_path / "run", "data.versions=2")


def test_sets_with_other_captions() -> None:
    drawn = Drawn(list(pictures(3)), [("an apple",)] * 3)
    said = Said(drawn, ("a pear",))
    assert len(said) == 3 and said.captions(1) == ("a pear",) and said.fingerprint != drawn.fingerprint
    assert stacked(said).shape == (3, 32, 32, 3) and said.mask(0) is None and said.name(2) == "picture 2"
    with pytest.raises(InputError, match="one size"):
        stacked(Drawn([*pictures(1), np.zeros((16, 32, 3), np.uint8)], [("a",)] * 2))
