"""A recipe carried out (`rein train`): from nothing to a model folder, or from a model to what it learned."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rein.data.augment import read_augmentations
from rein.data.pictures import PictureOptions, PictureSet, open_pictures
from rein.data.set_file import SET_FILE
from rein.errors import InputError
from rein.files import atomic_file
from rein.formats.checkpoint import LoadedModel, load_model, save_model
from rein.formats.folder import UNET_FILE, tower_file
from rein.nn.clip import TextTower
from rein.nn.unet import UNet
from rein.pipeline.model import model_folder
from rein.training.lessons import Pictures, Said, Varied
from rein.training.loop import Loop, Report
from rein.training.prepare import Art, ArtPictures, make_spec, make_vocabulary, open_art
from rein.training.processes import Processes
from rein.training.recipe import Recipe, read_recipe
from rein.training.report import scalars
from rein.training.shared import Run
from rein.training.stages import STAGES, finished, spec_made
from rein.training.tables import DataTable, FolderTable

_RECIPE_COPY = "recipe.json"
PROVENANCE_FILE = "training.json"
"""Beside a model: what `rein.training.provenance` tells of its making."""


@dataclass(frozen=True)
class StageReport:
    """News of a run: a stage's name and a finished step of it; or, at the very end, what was made: `model`.

    That is the folder of the model, or the file of an adapter or a learned word.
    """

    stage: str
    report: Report | None = None
    model: Path | None = None
    message: str = ""


def train_recipe(
    path: Path, output: Path, resume: bool = False, art: Art | None = None, changes: Sequence[str] = ()
) -> Generator[StageReport, None, None]:
    """Run every stage of a recipe in `output`, and put what it is for together there.

    A stage that was finished before is not run again. The last report carries the model folder or the file. `art`
    replaces the pictures that the recipe's `[data]` table describes; `changes` are those of `rein train --set`.

    Raises:
        InputError: the recipe is wrong, or `output` holds a run and `resume` is not set, or holds another recipe's.
        NonFiniteError: a loss was not finite.
    """
    recipe = read_recipe(path, changes)
    start = None if recipe.model.start is None else load_model(model_folder(recipe.model.start))
    processes = Processes()
    if processes.first:
        _claim(recipe, output, resume)
    processes.wait()
    opening = "fetching, rendering and composing pictures" if isinstance(recipe.data, DataTable) else "reading pictures"
    yield StageReport("data", message=opening)
    with processes.one_by_one():
        run = _begin(recipe, output, art, start)
    for told in run.left_out:
        yield StageReport("data", message=f"left out: {told}")
    for number, stage in enumerate(recipe.stage, start=1):
        folder = output / f"{number}-{stage.objective}"
        if finished(run, stage, stage.objective, folder):
            yield StageReport(stage.objective, message="finished before")
            continue
        yield StageReport(stage.objective, message="preparing")
        folder.mkdir(parents=True, exist_ok=True)
        with processes.one_by_one():
            objective = STAGES[stage.objective].build(run, stage, folder)
        loop = Loop(objective, stage, folder, _identity(run, number))
        loop.resume()
        yield StageReport(stage.objective, message=loop.preflight().told())
        reports = loop.run()
        for report in scalars(reports, folder) if processes.first else reports:
            yield StageReport(stage.objective, report)
        loop.finish(folder)
        processes.wait()
    yield StageReport("model", model=_product(run) if processes.first else None)


def _begin(recipe: Recipe, output: Path, art: Art | None, start: LoadedModel | None) -> Run:
    """Pictures, vocabulary and specification of a run: those of the model it starts from, or made for it."""
    table = recipe.data
    left_out: tuple[str, ...] = ()
    if isinstance(table, FolderTable) and art is None:
        pictures = _open(table, start)
        left_out = tuple(f"{refused.name}: {refused.reason}" for refused in pictures.skipped)
        train, held_out = _parts(table, pictures)
    else:
        if art is None:
            assert isinstance(table, DataTable)
            art = open_art(table)
        train, held_out = ArtPictures(art.train, art.pictures), ArtPictures(art.validation, art.held_out)
    if start is not None:
        return Run(recipe, output, train, held_out, start.tokenizers[0], start.spec, start, art, left_out)
    captions = [train.captions(index) for index in range(len(train))]
    tokenizer = make_vocabulary(captions, recipe.model.vocabulary)
    return Run(recipe, output, train, held_out, tokenizer, make_spec(recipe.model, tokenizer), None, art, left_out)


def _open(table: FolderTable, start: LoadedModel | None) -> PictureSet:
    size = table.size
    if size is None and start is not None:
        size = start.spec.native_size
    usual = table.buckets is None and table.crop == "centre" and not table.alpha_masks
    options = None
    if not (usual and (table.folder.expanduser() / SET_FILE).is_file()):
        options = PictureOptions(buckets=bool(table.buckets), crop=table.crop, alpha_masks=table.alpha_masks)
    return open_pictures(table.folder, size, options)


def _parts(table: FolderTable, pictures: PictureSet) -> tuple[Pictures, Pictures]:
    """The pictures to train on, and those that are held out; all of the first where so few leave none."""
    train, held_out = pictures.split(table.validation) if table.validation else (pictures, pictures.subset([]))
    if not len(train):
        train, held_out = pictures, pictures.subset([])
    return _said(table, _varied(table, train)), _said(table, held_out)


def _said(table: FolderTable, pictures: Pictures) -> Pictures:
    """Pictures with the table's caption for all, where it has one, and its trigger."""
    if table.prompt is None and not table.trigger:
        return pictures
    return Said(pictures, () if table.prompt is None else (table.prompt,), table.trigger)


def _varied(table: FolderTable, pictures: Pictures) -> Pictures:
    """Pictures in as many versions as the table says. Raises `InputError`."""
    if table.augmentations is None:
        return pictures
    return Varied(pictures, read_augmentations(table.augmentations), table.versions)


def _product(run: Run) -> Path | None:
    """What the run is for: the file of its last stage, else the model folder; None where it makes part of a model."""
    last = run.recipe.stage[-1]
    product = STAGES[last.objective].product
    if product is not None and (made := product(run, last)):
        folder = run.output / f"{len(run.recipe.stage)}-{last.objective}"
        copies = [_copied(folder / source, run.output / name) for name, source in made.items()]
        return copies[0]
    if run.start is None and {stage.objective for stage in run.recipe.stage} != {"autoencoder", "denoiser"}:
        return None
    start = run.start
    spec = spec_made(run)
    unet = UNet(spec.unet)
    unet.load_state_dict(run.trained(UNET_FILE, None if start is None else start.unet.state_dict()))
    towers = [TextTower(config) for config in spec.towers]
    for number, tower in enumerate(towers):
        known = None if start is None else start.towers[number].state_dict()
        tower.load_state_dict(run.trained(tower_file(number), known))
    tokenizer = run.tokenizer if spec.vocabulary == "own" else None
    folder = save_model(run.output / "model", spec, unet, run.autoencoder(), towers, tokenizer)
    with atomic_file(folder / PROVENANCE_FILE) as handle:
        handle.write(json.dumps(run.provenance(start), indent=1).encode())
    return folder


def _copied(source: Path, target: Path) -> Path:
    with atomic_file(target) as handle, source.open("rb") as read:
        shutil.copyfileobj(read, handle)
    return target


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


def _identity(run: Run, number: int) -> str:
    """A hash of what decides a stage: pictures, model, and the stages up to it."""
    described = run.recipe.model_dump(mode="json", include={"data", "model"})
    stages = [stage.model_dump(mode="json") for stage in run.recipe.stage[:number]]
    start = "" if run.start is None else run.start.weights_hash
    told = json.dumps([described, stages, run.fingerprint, start], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
