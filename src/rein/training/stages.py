"""What builds the objective of each kind of stage, and what it leaves behind: a row of `STAGES` each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rein.diffusion.schedule import make_schedule
from rein.formats.checkpoint import LoadedModel
from rein.formats.folder import UNET_FILE as MODEL_UNET
from rein.formats.folder import tower_file
from rein.nn.specs import ModelSpec
from rein.text.encode import Conditioning
from rein.training.adapter import KOHYA_FILE, PEFT_FILE
from rein.training.autoencoder import FILE_NAME as AUTOENCODER_FILE
from rein.training.autoencoder import AutoencoderObjective
from rein.training.diffusion import TOWER_FILE, UNET_FILE, DenoiserObjective
from rein.training.inversion import InversionObjective, file_of, with_word
from rein.training.lessons import Lesson, encoded
from rein.training.lora import LoraObjective
from rein.training.objective import Objective
from rein.training.prepare import latent_set, sample_prompts
from rein.training.prior import class_pictures
from rein.training.shared import Run
from rein.training.stage_forms import build_distil, build_form, distil_spec, form_spec
from rein.training.tables import AutoencoderTable, DenoiserTable, LoopTable
from rein.training.tables_teach import FinetuneTable, InversionTable, LoraTable, TeachTable
from rein.training.teach import FinetuneObjective, Lessons


@dataclass(frozen=True)
class StageKind:
    """A kind of stage.

    Fields:
        build: its objective, ready for the loop; the folder is the stage's own.
        files: what it leaves in its folder.
        product: which of them is what the run is for, and the name that it gets beside the run's folder; none for
            parts of a model, which are put together in the end.
        spec: what a model is after the stage.
    """

    build: Callable[[Run, Any, Path], Objective]
    files: Callable[[Run, Any], tuple[str, ...]]
    product: Callable[[Run, Any], Mapping[str, str]] | None = None
    spec: Callable[[ModelSpec, Any], ModelSpec] = lambda spec, stage: spec


def _autoencoder(run: Run, stage: AutoencoderTable, folder: Path) -> Objective:
    pictures, held_out = run.arrays()
    start = None if run.start is None else run.start.autoencoder
    return AutoencoderObjective(run.spec.autoencoder, stage, pictures, held_out, start)


def _denoiser(run: Run, stage: DenoiserTable, folder: Path) -> Objective:
    spec, tokenizer, length = run.spec, run.tokenizer, run.spec.towers[0].context_length
    autoencoder = run.autoencoder()
    held_out = run.held_out if len(run.held_out) else run.train
    objective = DenoiserObjective(
        spec,
        stage,
        latent_set(run.train, autoencoder, spec, tokenizer, run.cache),
        latent_set(held_out, autoencoder, spec, tokenizer, run.cache),
        make_schedule(**asdict(spec.schedule)),
        sample_prompts(run.train, held_out, tokenizer, length),
        tokenizer.batch([""], length)[0],
        autoencoder,
    )
    if run.start is not None:
        objective.model.unet.load_state_dict(run.start.unet.state_dict())
        objective.model.tower.load_state_dict(run.start.towers[0].state_dict())
    return objective


def _lessons(run: Run, stage: TeachTable, folder: Path, base: LoadedModel) -> Lessons:
    """Pictures encoded by the model that is taught, those of the class first drawn by it."""
    prior: list[Lesson] = []
    if stage.prior is not None:
        drawn = class_pictures(base, stage.prior, folder / "class")
        prior = encoded(drawn, base, run.cache)
    train, held_out = encoded(run.train, base, run.cache, run.edits), encoded(run.held_out, base, run.cache)
    words: Mapping[str, Conditioning] = {}
    if not stage.text_learns:
        words = run.words(base, [lesson.captions for lesson in (*train, *held_out, *prior)])
    return Lessons(train, held_out, prior, run.provenance(base), words)


def _finetune(run: Run, stage: FinetuneTable, folder: Path) -> Objective:
    base = run.base()
    return FinetuneObjective(base, stage, _lessons(run, stage, folder, base))


def _lora(run: Run, stage: LoraTable, folder: Path) -> Objective:
    base = run.base()
    return LoraObjective(base, stage, _lessons(run, stage, folder, base))


def _inversion(run: Run, stage: InversionTable, folder: Path) -> Objective:
    base = run.base()
    lessons = _lessons(run, stage, folder, base)
    train, held_out = (
        [replace(entry, captions=with_word(entry.captions, stage)) for entry in part]
        for part in (lessons.train, lessons.held_out)
    )
    return InversionObjective(base, stage, replace(lessons, train=train, held_out=held_out))


def _adapter_files(run: Run, stage: LoopTable) -> dict[str, str]:
    return {f"{run.recipe.name}.safetensors": KOHYA_FILE, f"{run.recipe.name}-peft.safetensors": PEFT_FILE}


STAGES: dict[str, StageKind] = {
    "autoencoder": StageKind(_autoencoder, lambda run, stage: (AUTOENCODER_FILE,)),
    "denoiser": StageKind(_denoiser, lambda run, stage: (UNET_FILE, TOWER_FILE)),
    "finetune": StageKind(
        _finetune, lambda run, stage: (MODEL_UNET, *(tower_file(n) for n in range(len(run.spec.towers))))
    ),
    "lora": StageKind(_lora, lambda run, stage: (KOHYA_FILE, PEFT_FILE), _adapter_files),
    "inversion": StageKind(
        _inversion, lambda run, stage: (file_of(stage),), lambda run, stage: {file_of(stage): file_of(stage)}
    ),
    "form": StageKind(build_form, lambda run, stage: (MODEL_UNET,), spec=form_spec),
    "distil": StageKind(
        build_distil,
        lambda run, stage: (KOHYA_FILE, PEFT_FILE) if stage.rank else (MODEL_UNET,),
        lambda run, stage: _adapter_files(run, stage) if stage.rank else {},
        distil_spec,
    ),
}
"""By the name of the objective."""


def spec_made(run: Run) -> ModelSpec:
    """What the model is after all stages."""
    spec = run.spec
    for stage in run.recipe.stage:
        spec = STAGES[stage.objective].spec(spec, stage)
    return spec


def finished(run: Run, stage: LoopTable, name: str, folder: Path) -> bool:
    """Whether a stage has left all of its files."""
    return all((folder / file).exists() for file in STAGES[name].files(run, stage))
