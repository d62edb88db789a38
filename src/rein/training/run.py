"""A recipe from nothing to a model folder: `rein train RECIPE.toml`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

from rein.diffusion.schedule import make_schedule
from rein.errors import InputError
from rein.files import atomic_file
from rein.formats.checkpoint import save_model
from rein.formats.tensors import read_tensors
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.text.tokenizer import Tokenizer
from rein.training.autoencoder import FILE_NAME as AUTOENCODER_FILE
from rein.training.autoencoder import AutoencoderObjective
from rein.training.diffusion import TOWER_FILE, UNET_FILE, DenoiserObjective
from rein.training.loop import Loop, Report
from rein.training.objective import Objective
from rein.training.prepare import Art, latent_set, make_spec, make_vocabulary, open_art, sample_prompts
from rein.training.recipe import AutoencoderTable, DenoiserTable, Recipe, Stage, read_recipe

_RECIPE_COPY = "recipe.json"


@dataclass(frozen=True)
class StageReport:
    """News of a run: a stage's name and a finished step of it; or, at the very end, the folder of the model."""

    stage: str
    report: Report | None = None
    model: Path | None = None
    message: str = ""


def train_recipe(
    path: Path, output: Path, resume: bool = False, art: Art | None = None
) -> Generator[StageReport, None, None]:
    """Run every stage of a recipe in `output`, and put the model together in `output/model`.

    A stage that was finished before is not run again. The last report carries the model folder. `art` replaces the
    pictures that the recipe's `[data]` table describes.

    Raises:
        InputError: the recipe is wrong, or `output` holds a run and `resume` is not set, or holds another recipe's.
        NonFiniteError: a loss was not finite.
    """
    recipe = read_recipe(path)
    _claim(recipe, output, resume)
    yield StageReport("data", message="fetching, rendering and composing pictures")
    art = open_art(recipe.data) if art is None else art
    captions = art.captions("train")
    tokenizer = make_vocabulary(captions, recipe.model.vocabulary)
    spec = make_spec(recipe.model, tokenizer)
    for number, stage in enumerate(recipe.stage, start=1):
        folder = output / f"{number}-{stage.objective}"
        if _finished(folder, stage):
            yield StageReport(stage.objective, message="finished before")
            continue
        yield StageReport(stage.objective, message="preparing")
        objective = _objective(stage, spec, art, tokenizer, folder, output, recipe)
        loop = Loop(objective, stage, folder, _identity(recipe, number))
        loop.resume()
        for report in loop.run():
            yield StageReport(stage.objective, report)
        loop.finish(folder)
    yield StageReport("model", model=_assemble(recipe, spec, tokenizer, output))


def _claim(recipe: Recipe, output: Path, resume: bool) -> None:
    """Mark `output` as this recipe's, or refuse it."""
    copy, text = output / _RECIPE_COPY, recipe.model_dump_json(indent=1)
    if copy.exists():
        if not resume:
            raise InputError(f"{output} holds a run: add --resume to continue it, or give another --output")
        if json.loads(copy.read_text(encoding="utf-8")) != json.loads(text):
            raise InputError(f"{output} holds a run of another recipe; give another --output")
        return
    output.mkdir(parents=True, exist_ok=True)
    with atomic_file(copy) as handle:
        handle.write(text.encode())


def _identity(recipe: Recipe, number: int) -> str:
    """A hash of what decides a stage: data, model, and the stages up to it."""
    described = recipe.model_dump(mode="json", include={"data", "model"})
    stages = [stage.model_dump(mode="json") for stage in recipe.stage[:number]]
    return hashlib.sha256(json.dumps([described, stages], sort_keys=True).encode()).hexdigest()[:16]


def _files(stage: Stage) -> tuple[str, ...]:
    return (AUTOENCODER_FILE,) if isinstance(stage, AutoencoderTable) else (UNET_FILE, TOWER_FILE)


def _finished(folder: Path, stage: Stage) -> bool:
    return all((folder / name).exists() for name in _files(stage))


def _objective(
    stage: Stage, spec: ModelSpec, art: Art, tokenizer: Tokenizer, folder: Path, output: Path, recipe: Recipe
) -> Objective:
    if isinstance(stage, AutoencoderTable):
        return AutoencoderObjective(spec.autoencoder, stage, art.pictures, art.held_out)
    assert isinstance(stage, DenoiserTable)
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder = _load_autoencoder(recipe, spec, output)
    length = spec.towers[0].context_length
    return DenoiserObjective(
        spec,
        stage,
        latent_set(art, "train", autoencoder, spec, tokenizer, folder),
        latent_set(art, "validation", autoencoder, spec, tokenizer, folder),
        make_schedule(**asdict(spec.schedule)),
        sample_prompts(art, tokenizer, length),
        tokenizer.batch([""], length)[0],
        autoencoder,
    )


def _stage_file(recipe: Recipe, output: Path, name: str) -> Path:
    for number, stage in enumerate(recipe.stage, start=1):
        path = output / f"{number}-{stage.objective}" / name
        if path.exists():
            return path
    raise InputError(f"recipe: no stage makes {name}; a denoiser needs an autoencoder stage before it")


def _load_autoencoder(recipe: Recipe, spec: ModelSpec, output: Path) -> Autoencoder:
    autoencoder = Autoencoder(spec.autoencoder)
    autoencoder.load_state_dict(read_tensors(_stage_file(recipe, output, AUTOENCODER_FILE)))
    return autoencoder.eval()


def _assemble(recipe: Recipe, spec: ModelSpec, tokenizer: Tokenizer, output: Path) -> Path | None:
    """The model folder in half precision, if the recipe trained all of a model."""
    if {stage.objective for stage in recipe.stage} != {"autoencoder", "denoiser"}:
        return None
    unet, tower = UNet(spec.unet), TextTower(spec.towers[0])
    unet.load_state_dict(read_tensors(_stage_file(recipe, output, UNET_FILE)))
    tower.load_state_dict(read_tensors(_stage_file(recipe, output, TOWER_FILE)))
    folder = output / "model"
    autoencoder = _load_autoencoder(recipe, spec, output)
    save_model(folder, spec, unet, autoencoder, [tower], tokenizer)
    return folder
