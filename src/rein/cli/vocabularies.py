"""What a model reads its words with, found without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rein.errors import InputError

if TYPE_CHECKING:
    from rein.nn.specs import ModelSpec
    from rein.text.explain import Vocabulary

SHORT_NAMES = {"sd2": "sd21", "sd1": "sd15", "sd1.5": "sd15", "sd2.1": "sd21"}


def vocabulary_of(model: str) -> tuple[ModelSpec, Vocabulary]:
    """What a model is, and the vocabulary of its first text tower.

    Args:
        model: the name of a family (sd15, sdxl, ...), of an embedded model, or the place of one.

    Raises:
        InputError: there is no such model.
        DamagedFileError: it cannot be read.
    """
    from rein.formats.embedded import EMBEDDED
    from rein.nn.specs import VARIANTS
    from rein.pipeline.model import model_folder
    from rein.text.explain import Vocabulary
    from rein.text.tokenizer import Tokenizer, clip_tokenizer

    name = SHORT_NAMES.get(model, model)
    if name in VARIANTS and name not in EMBEDDED:
        spec, place = VARIANTS[name], None
    else:
        place = model_folder(model)
        spec = _spec_of(place)
    own = place is not None and spec.vocabulary == "own"
    tokenizer = Tokenizer.from_files(_home_of(place)) if own and place is not None else clip_tokenizer()
    return spec, Vocabulary(tokenizer, spec.towers[0].context_length - 2)


def _home_of(place: Path) -> Path:
    from rein.formats.folder import tokenizer_home

    return tokenizer_home(place) or place


def _spec_of(place: Path) -> ModelSpec:
    from rein.formats.checkpoint import read_spec
    from rein.formats.folder import SPEC_FILE
    from rein.formats.inspect_model import inspect_diffusers, inspect_single

    if (place / SPEC_FILE).is_file():
        return read_spec(place)
    report = inspect_single(place, hashed=False) if place.is_file() else inspect_diffusers(place, hashed=False)
    if report.spec is None:
        raise InputError(f"{place} is no model (but {report.kind}): give the file or folder of a whole one")
    return report.spec
