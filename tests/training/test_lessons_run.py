"""`rein train` on a folder of pictures: shipped recipes by name, from a small model to a file that draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from rein.training.pupil import Tokens
from rein.training.recipe import read_recipe, shipped_recipes
from rein.training.run import PROVENANCE_FILE, StageReport, train_recipe
from rein.training.teach import TeachObjective
from tests.pipeline.small import save_small
from tests.training.tiny import pictures

SMALL = ("stage.steps=2", "stage.batch_size=2", 'stage.precision="fp32"', "data.size=32")
FEW = ("stage.sample_steps=1",)
ADAPTER = (*FEW, "stage.prior.pictures=1", "stage.prior.steps=1", "stage.prior.answers=1")
"""The same of the recipe `lora`."""


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
    changes = ("stage.rank=2", "stage.warm_up=0", "stage.learning_rate=0.05", "name=mine", *ADAPTER)
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
    assert torch.equal(first.autoencoder.quant_conv.weight, second.autoencoder.quant_conv.weight), "latents stay"
    decoders = (entry.autoencoder.decoder.conv_out.weight for entry in (first, second))
    assert not torch.equal(*decoders)


def test_other_pictures_are_another_run(folder: Path, tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", "sd1")
    changes = ("stage.steps=4", *ADAPTER)
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
        (["stage.prior.keep=words"], "stage 1: prior.keep is 'words', but should be 'pictures' or 'answers'"),
        (["stage.kind=lorra"], "stage 1: kind is 'lorra', but should be 'lora', 'locon', 'dora', 'loha' or 'lokr'"),
    ],
)
def test_wrong_changes_are_told_in_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(Path("lora"), changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_prior_without_a_prompt_is_told() -> None:
    with pytest.raises(InputError, match="stage 1: prior.prompt is missing"):
        read_recipe(Path("finetune"), ["stage.prior.pictures=2"])


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
    keys = {varied.key(index) for index in range(6)}
    assert len(keys) == 6 and varied.key(3) == varied._pictures.key(1), "a version has a key of its own"


def test_what_is_made_once_serves_another_run(folder: Path, tmp_path: Path) -> None:
    """Latents and text features lie in a cache that runs may share; those of the former are the same to the bit."""
    model, cache = save_small(tmp_path / "model", "sdxl"), tmp_path / "cache"
    losses, written = [], []
    frozen = ("data.trigger=sks", "stage.text_rate=0.0", *FEW)
    for name in ("first", "second"):
        changes = (f"data.cache_folder={cache}", *frozen)
        news = run("finetune", folder, model, tmp_path / name, *changes, "stage.ema=0")
        losses.append([report.report.losses["loss"] for report in news if report.report is not None])
        written.append({path.name: path.stat().st_mtime_ns for path in cache.iterdir()})
    assert losses[0] == losses[1] and written[0] == written[1]
    assert {name.partition("-")[0] for name in written[0]} == {"latents", "texts"}
    alone = run("finetune", folder, model, tmp_path / "alone", "data.cache_text=false", *frozen)
    assert [report.report.losses["loss"] for report in alone if report.report is not None] == pytest.approx(
        losses[0], rel=1e-4
    )
    assert {path.name.partition("-")[0] for path in (tmp_path / "alone" / "cache").iterdir()} == {"latents"}


def test_tags_come_in_another_order_each_time(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "1.txt").write_text("apple, red, flat style, blue")
    model = save_small(tmp_path / "model", "sd1")
    seen: set[str] = set()
    own = TeachObjective.tokens

    def heard(objective: TeachObjective, texts: Sequence[str]) -> Tokens:
        seen.update(texts)
        return own(objective, texts)

    monkeypatch.setattr(TeachObjective, "tokens", heard)
    changes = ("data.trigger=sks", "data.shuffle_tags=true", "data.keep_tags=1", "data.tag_dropout=0.2")
    run("finetune", folder, model, tmp_path / "run", *changes, "stage.steps=12", "stage.caption_dropout=0", *FEW)
    tagged = {text for text in seen if "apple, " in f"{text}, " and "sks" in text}
    assert len(tagged) > 4 and all(text.startswith("sks, apple") for text in tagged - {"sks, a red apple"})


def test_a_student_learns_from_a_folder(folder: Path, tmp_path: Path) -> None:
    model, recipe = save_small(tmp_path / "model", "pocket"), tmp_path / "student.toml"
    recipe.write_text(
        f'[data]\nfolder = "{folder}"\ntrigger = "sks"\n[model]\nstart = "{model}"\n[[stage]]\nobjective = "distil"\n'
        'method = "progressive"\nsteps = 2\nbatch_size = 2\nwarm_up = 0\nprecision = "fp32"\n'
    )
    news = list(train_recipe(recipe, tmp_path / "run"))
    assert news[-1].model == tmp_path / "run" / "model"
    assert {path.name.partition("-")[0] for path in (tmp_path / "run" / "cache").iterdir()} == {"latents", "texts"}


def test_sets_with_other_captions() -> None:
    drawn = Drawn(list(pictures(3)), [("an apple",)] * 3)
    said = Said(drawn, ("a pear",))
    assert len(said) == 3 and said.captions(1) == ("a pear",) and said.fingerprint != drawn.fingerprint
    assert Said(drawn, trigger="sks").captions(2) == ("sks, an apple",) and said.key(1) == drawn.key(1) != drawn.key(0)
    assert stacked(said).shape == (3, 32, 32, 3) and said.mask(0) is None and said.name(2) == "picture 2"
    with pytest.raises(InputError, match="one size"):
        stacked(Drawn([*pictures(1), np.zeros((16, 32, 3), np.uint8)], [("a",)] * 2))
