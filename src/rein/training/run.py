"""A recipe from nothing to a model folder: `rein train RECIPE.toml`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from rein.diffusion.schedule import make_schedule
from rein.errors import InputError
from rein.files import atomic_file
from rein.formats.checkpoint import LoadedModel, load_model, save_model
from rein.formats.tensors import read_tensors
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.pipeline.model import model_folder
from rein.text.tokenizer import Tokenizer
from rein.training.autoencoder import FILE_NAME as AUTOENCODER_FILE
from rein.training.autoencoder import AutoencoderObjective
from rein.training.diffusion import TOWER_FILE, UNET_FILE, DenoiserObjective
from rein.training.loop import Loop, Report
from rein.training.objective import Objective
from rein.training.prepare import Art, latent_set, make_spec, make_vocabulary, open_art, sample_prompts
from rein.training.recipe import AutoencoderTable, DenoiserTable, Recipe, Stage, read_recipe
from rein.training.report import scalars

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
    start = None if recipe.model.start is None else load_model(model_folder(recipe.model.start))
    _claim(recipe, output, resume)
    yield StageReport("data", message="fetching, rendering and composing pictures")
    run = _begin(recipe, output, open_art(recipe.data) if art is None else art, start)
    for number, stage in enumerate(recipe.stage, start=1):
        folder = output / f"{number}-{stage.objective}"
        if _finished(folder, stage):
            yield StageReport(stage.objective, message="finished before")
            continue
        yield StageReport(stage.objective, message="preparing")
        loop = Loop(run.objective(stage, folder), stage, folder, _identity(recipe, number))
        loop.resume()
        for report in scalars(loop.run(), folder):
            yield StageReport(stage.objective, report)
        loop.finish(folder)
    yield StageReport("model", model=run.assemble())


def _begin(recipe: Recipe, output: Path, art: Art, start: LoadedModel | None) -> _Run:
    """Vocabulary and specification of a run: of the model it starts from, or made from the captions and the recipe."""
    if start is not None:
        return _Run(recipe, output, art, start.tokenizers[0], start.spec, start)
    tokenizer = make_vocabulary(art.captions("train"), recipe.model.vocabulary)
    return _Run(recipe, output, art, tokenizer, make_spec(recipe.model, tokenizer))


@dataclass(frozen=True)
class _Run:
    """What all stages of a run share; `start` is the model that it goes on from, if it does not begin with nothing."""

    recipe: Recipe
    output: Path
    art: Art
    tokenizer: Tokenizer
    spec: ModelSpec
    start: LoadedModel | None = None

    def objective(self, stage: Stage, folder: Path) -> Objective:
        """The objective of a stage, ready for the loop."""
        if isinstance(stage, AutoencoderTable):
            objective = AutoencoderObjective(self.spec.autoencoder, stage, self.art.pictures, self.art.held_out)
            if self.start is not None:
                objective.autoencoder.load_state_dict(self.start.autoencoder.state_dict())
            return objective
        folder.mkdir(parents=True, exist_ok=True)
        return self._denoiser(stage, folder)

    def _denoiser(self, stage: DenoiserTable, folder: Path) -> DenoiserObjective:
        spec, length = self.spec, self.spec.towers[0].context_length
        autoencoder = self.autoencoder()
        objective = DenoiserObjective(
            spec,
            stage,
            latent_set(self.art, "train", autoencoder, spec, self.tokenizer, folder),
            latent_set(self.art, "validation", autoencoder, spec, self.tokenizer, folder),
            make_schedule(**asdict(spec.schedule)),
            sample_prompts(self.art, self.tokenizer, length),
            self.tokenizer.batch([""], length)[0],
            autoencoder,
        )
        if self.start is not None:
            objective.model.unet.load_state_dict(self.start.unet.state_dict())
            objective.model.tower.load_state_dict(self.start.towers[0].state_dict())
        return objective

    def autoencoder(self) -> Autoencoder:
        """The autoencoder that a stage has made, or that of the model the run starts from."""
        autoencoder = Autoencoder(self.spec.autoencoder)
        autoencoder.load_state_dict(self._trained(AUTOENCODER_FILE))
        return autoencoder.eval()

    def _trained(self, name: str) -> dict[str, Tensor]:
        for number, stage in enumerate(self.recipe.stage, start=1):
            path = self.output / f"{number}-{stage.objective}" / name
            if path.exists():
                return read_tensors(path)
        if self.start is None:
            raise InputError(f"recipe: no stage makes {name}: add that stage, or name a model under model.start")
        networks = {
            AUTOENCODER_FILE: self.start.autoencoder,
            UNET_FILE: self.start.unet,
            TOWER_FILE: self.start.towers[0],
        }
        return networks[name].state_dict()

    def assemble(self) -> Path | None:
        """The model folder in half precision; None where the recipe makes only a part of a model."""
        if self.start is None and {stage.objective for stage in self.recipe.stage} != {"autoencoder", "denoiser"}:
            return None
        unet, tower = UNet(self.spec.unet), TextTower(self.spec.towers[0])
        unet.load_state_dict(self._trained(UNET_FILE))
        tower.load_state_dict(self._trained(TOWER_FILE))
        return save_model(self.output / "model", self.spec, unet, self.autoencoder(), [tower], self.tokenizer)


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
