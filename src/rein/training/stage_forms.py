"""What builds the objectives of `form` and `distil` stages, and what the model is afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rein.data.depth import DepthDataset
from rein.data.features import picture_latents
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.nn.specs import ModelSpec, with_extra_channels
from rein.training.distil import DistilObjective, student_spec
from rein.training.forms import FormObjective
from rein.training.lessons import Pictures, same_size
from rein.training.objective import Objective
from rein.training.prepare import ArtPictures
from rein.training.shared import Run
from rein.training.shown_data import ShownSet, depth_set, estimated_set, inpainting_set, plain_set
from rein.training.tables_forms import DistilTable, FormTable


def build_form(run: Run, stage: FormTable, folder: Path) -> Objective:
    """A form of the model that the run starts from. Raises `InputError`."""
    if run.recipe.stage[-1] is not stage:
        raise InputError("a form is the end of a recipe: what comes after it goes into one that starts from its model")
    base = run.base()
    held_out = run.held_out if len(run.held_out) else run.train
    train, watched = (_shown(pictures, stage, base, run.cache) for pictures in (run.train, held_out))
    return FormObjective(base, form_spec(base.spec, stage), stage, said(run, base, train), watched)


def said(run: Run, model: LoadedModel, shown: ShownSet) -> ShownSet:
    """Pictures with what happens to their captions, and what the model's towers make of these where that is kept."""
    return replace(shown, edits=run.edits, words=run.words(model, shown.captions))


def _shown(pictures: Pictures, stage: FormTable, base: LoadedModel, folder: Path) -> ShownSet:
    if stage.form == "inpainting":
        return inpainting_set(pictures, base, folder)
    if stage.depth_model is not None:
        return estimated_set(pictures, base, folder, stage.depth_model)
    if isinstance(pictures, ArtPictures):
        return depth_set(DepthDataset(pictures.dataset), len(pictures), base, folder)
    raise InputError(
        "form 'depth': how near things are in one's own pictures is not known: give depth_model, a folder with a depth "
        "model, or composed art under [data]"
    )


def form_spec(spec: ModelSpec, stage: FormTable) -> ModelSpec:
    """What a form of a model is.

    Raises:
        InputError: the model is a form already.
    """
    if spec.conditioning_channels:
        raise InputError(f"model {spec.name!r} sees more than latents already: start from the model it was made from")
    extra = 1 if stage.form == "depth" else 1 + spec.autoencoder.latent_channels
    return with_extra_channels(spec, f"{spec.name}-{stage.form}", extra)


def build_distil(run: Run, stage: DistilTable, folder: Path) -> Objective:
    """A student of the model that the run starts from, or of the stage before. Raises `InputError`."""
    teacher = run.base()
    held_out = run.held_out if len(run.held_out) else run.train
    train, watched = (_plain(pictures, teacher, run.cache) for pictures in (run.train, held_out))
    return DistilObjective(teacher, stage, said(run, teacher, train), watched, run.provenance(teacher))


def _plain(pictures: Pictures, model: LoadedModel, folder: Path) -> ShownSet:
    latents = same_size(picture_latents(pictures, model.autoencoder, model.spec, folder))
    return plain_set(latents, [pictures.captions(index) or ("",) for index in range(len(pictures))])


def distil_spec(spec: ModelSpec, stage: DistilTable) -> ModelSpec:
    """What a student is."""
    return replace(student_spec(spec, stage), name=f"{spec.name.removesuffix('-fast')}-fast")
