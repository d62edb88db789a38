"""Models and files of weights written in another form, tensor by tensor: memory holds the largest of them and no more.

Three forms: a single safetensors file, a diffusers folder, one of Rein's folders. PyTorch files are read, never
written. A file that holds no model (an adapter, an embedding) is written as safetensors under the names it has.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rein.errors import InputError, OutputError, quoted
from rein.files import hidden_beside, write_failure
from rein.formats.folder import weight_files, write_description
from rein.formats.keys import Place, key_map, part_names
from rein.formats.saving import FORMAT_TEXT, checked_cast, file_metadata, single_entries, streamed, write_diffusers
from rein.formats.scaled import SCALE_TEXT
from rein.formats.single import LoadOptions
from rein.formats.sources import OpenModel, open_model
from rein.formats.tensors import Entry, write_streaming
from rein.formats.weights import Weights, open_weights

Form = Literal["file", "diffusers", "rein"]

STORED_TYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
    "fp8-e5m2": torch.float8_e5m2,
}
"""Types that weights can be stored in, by the names that people use."""


@dataclass(frozen=True)
class Conversion:
    """What to make of a model.

    Fields:
        form: None goes by the name of the target: a single file where it ends with .safetensors, else diffusers.
        dtype: the type to store; None keeps that of each tensor.
        prune: of a single file, keep what draws and leave out the rest (averages, schedules, an optimiser's state).
        options: choices that the source leaves open; an autoencoder among them replaces the model's own.
    """

    form: Form | None = None
    dtype: torch.dtype | None = None
    prune: bool = False
    options: LoadOptions = field(default_factory=LoadOptions)


@dataclass(frozen=True)
class Converted:
    """What was written: where, in which form, of which family ("" where the file is none that Rein draws with)."""

    path: Path
    form: Form
    family: str = ""
    notes: tuple[str, ...] = ()


def convert(source: Path, target: Path, wanted: Conversion | None = None) -> Converted:
    """Write a model in another form. The target appears when all of it is written, or not at all.

    A file that becomes a file keeps its names and all its tensors, unless it is pruned or a part is replaced.

    Raises:
        InputError: the source is no model, the target's name does not fit, or a weight does not fit into the type.
        DamagedFileError: the source cannot be read, or one of its checksums is wrong.
        OutputError: the target cannot be written, or is a folder that is not empty.
    """
    wanted = wanted or Conversion()
    form = _form(target, wanted.form)
    whole = not (wanted.prune or wanted.options.ema or wanted.options.autoencoder)
    if source.is_file() and form == "file" and whole:
        return _repack(source, target, wanted)
    model = open_model(source, wanted.options)
    model.verify()
    write_model(target, form, model, wanted.dtype)
    return Converted(target, form, model.spec.name, model.notes)


def _form(target: Path, form: Form | None) -> Form:
    if target.suffix.lower() in (".ckpt", ".pt", ".pth", ".bin"):
        raise InputError(f"{target} would be a PyTorch file, which can hold code: give a name with .safetensors")
    named = target.suffix.lower() == ".safetensors"
    if form is not None and (form == "file") != named:
        needs = "a name that ends with .safetensors" if form == "file" else "the name of a folder"
        raise InputError(f"form {form!r} needs {needs}, not {quoted(str(target))}")
    return form or ("file" if named else "diffusers")


def _repack(source: Path, target: Path, wanted: Conversion) -> Converted:
    """The same tensors under the same names in a safetensors file."""
    weights = open_weights(source)
    weights.verify()
    texts = {name: str(value) for name, value in weights.extras.items() if isinstance(value, str | int | float)}
    told = {key: text for key, text in weights.metadata.items() if not (weights.scales and key == SCALE_TEXT)}
    texts |= {**FORMAT_TEXT, **told}
    if wanted.options.prediction is not None:
        texts["modelspec.prediction_type"] = wanted.options.prediction
    write_streaming(target, [_kept(weights, name, wanted.dtype) for name in weights], texts)
    left = weights.left_out
    notes = [f"left out: {len(left)} tensors beside the model, such as {quoted(left[0])}"] if left else []
    notes += [f"multiplied in: the scales of {len(weights.scales)} 8-bit weights"] if weights.scales else []
    return Converted(target, "file", notes=tuple(notes))


def _kept(weights: Weights, name: str, dtype: torch.dtype | None) -> Entry:
    stored = weights.dtype(name)
    kind = stored if dtype is None or not stored.is_floating_point else dtype

    def made() -> Tensor:
        return checked_cast(name, weights.read(name), kind)

    return name, kind, weights.infos[name].shape, made


def write_model(
    target: Path, form: Form, model: OpenModel, dtype: torch.dtype | None = None, texts: Mapping[str, str] | None = None
) -> None:
    """Write an open model in a form, all of it or nothing.

    Args:
        texts: further texts for the header of a single file or of the files of Rein's folder.

    Raises:
        InputError: the model has no such form; a weight is not finite in `dtype`.
        OutputError: the target cannot be written, or is a folder that is not empty.
    """
    if form == "file":
        entries = single_entries(model.spec, model.source, dtype)
        write_streaming(target, entries, file_metadata(model.spec) | dict(texts or {}))
        return
    with new_folder(target) as folder:
        if form == "diffusers":
            write_diffusers(folder, model.spec, model.source, dtype)
        else:
            _write_own(folder, model, dtype, FORMAT_TEXT | dict(texts or {}))


def _write_own(folder: Path, model: OpenModel, dtype: torch.dtype | None, texts: Mapping[str, str]) -> None:
    for part, name in zip(part_names(model.spec), weight_files(model.spec), strict=True):
        keys = key_map(model.spec, {part: Place("", "native")})
        write_streaming(folder / name, [streamed(entry, model.source, dtype) for entry in keys.entries], texts)
    if model.spec.vocabulary == "own":
        assert model.tokenizer is not None, "a model with words of its own comes from a folder that has them"
        model.tokenizer.save(folder)
    write_description(folder, model.spec)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears at `target` when the block ends without an error; until then it has another name.

    Raises:
        OutputError: there is something at `target` already, or the folder cannot be made.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise OutputError(f"cannot write {target}: it is there already; give the name of a new or an empty folder")
    work = hidden_beside(target.resolve())
    try:
        work.mkdir()
        yield work
        if target.is_dir():
            target.rmdir()
        work.rename(target)
    except OSError as error:
        raise write_failure(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
