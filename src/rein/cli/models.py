"""`rein models`: which models there are, and what is in one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.app import app
from rein.cli.tables import megabytes, table
from rein.errors import DamagedFileError, ReinError

if TYPE_CHECKING:
    from rein.formats.inspect import Inspection, WeightFile

_INSPECT_EXAMPLES = """
\b
Examples:
  rein models inspect pocket
  rein models inspect runs/pocket/model
  rein models inspect runs/pocket/model/unet.safetensors --json
"""

models = typer.Typer(help="List models, or look into one.", no_args_is_help=False)
app.add_typer(models, name="models")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, and nothing else, on stdout.")]


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that Rein knows, and where their weights are."""
    from rein.nn.specs import VARIANTS
    from rein.pipeline.model import EMBEDDED, model_folder

    rows = []
    for name in sorted(VARIANTS, key=lambda name: (name not in EMBEDDED, list(VARIANTS).index(name))):
        spec = VARIANTS[name]
        try:
            folder = model_folder(name) if name in EMBEDDED else None
        except ReinError:
            folder = None
        rows.append(
            {
                "name": name,
                "embedded": name in EMBEDDED,
                "size": spec.native_size,
                "prediction": spec.prediction,
                "folder": None if folder is None else str(folder),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    shown = [(str(row["name"]), f"{row['size']} x {row['size']}", str(row["prediction"]), _where(row)) for row in rows]
    print(table([("NAME", "PIXELS", "PREDICTS", "WEIGHTS"), *shown]))


def _where(row: dict[str, Any]) -> str:
    if row["embedded"]:
        return f"inside Rein: {row['folder']}" if row["folder"] else "missing from this copy of Rein: install it again"
    return "not part of Rein: give --model the folder of one"


@models.command("inspect", epilog=_INSPECT_EXAMPLES)
def inspect(
    source: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A model inside Rein, a model folder, or a .safetensors file.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say what a model is, and whether it is complete. Only headers are read. Exit code 1 if it would not load."""
    from rein.formats.inspect import inspect_file, inspect_folder
    from rein.pipeline.model import model_folder

    if os.path.isfile(source):
        file, texts = inspect_file(source)
        print(json.dumps({**asdict(file), "metadata": texts}, indent=1) if as_json else _file_lines(file, texts))
        return
    found = inspect_folder(model_folder(source))
    print(json.dumps(_object(found), indent=1) if as_json else _lines(found), flush=True)
    if found.problems:
        raise DamagedFileError(f"{found.folder} would not load: {'; '.join(found.problems)}")


def _object(found: Inspection) -> dict[str, Any]:
    from rein.nn.specs import to_dict

    return {
        "name": found.spec.name,
        "folder": str(found.folder),
        "changes": found.changes,
        "weights_hash": found.weights_hash,
        "parameters": found.parameters,
        "files": [asdict(entry) for entry in found.files],
        "problems": found.problems,
        "spec": to_dict(found.spec),
    }


def _lines(found: Inspection) -> str:
    spec = found.spec
    unit, latents = spec.autoencoder.downscale, spec.autoencoder.latent_channels
    side = spec.native_size // unit
    tokens = ", ".join(f"{tower.vocabulary_size:,}" for tower in spec.towers)
    facts = [
        ("folder", str(found.folder)),
        ("variant", _variant(found)),
        ("pictures", f"{spec.native_size} x {spec.native_size} pixels; latents {latents} x {side} x {side}"),
        ("predicts", f"{spec.prediction}, on a {spec.schedule.kind} schedule"),
        ("defaults", f"{spec.default_sampler}, {spec.default_spacing}, guidance {spec.default_guidance:g}"),
        ("words", f"{spec.vocabulary} vocabulary of {tokens} tokens, {spec.towers[0].context_length} at a time"),
        ("hash", found.weights_hash or "not recorded"),
    ]
    rows = [("FILE", "PARAMETERS", "TYPE", "SIZE"), *(_row(entry) for entry in found.files)]
    total = sum(entry.bytes for entry in found.files)
    rows.append(("together", f"{found.parameters:,}", "", megabytes(total)))
    problems = "".join(f"\nproblem: {problem}" for problem in found.problems) or "\ncomplete: nothing is missing"
    head = "\n".join(f"{name:<9} {value}" for name, value in facts)
    return f"{spec.name}\n{head}\n\n{table(rows)}{problems}"


def _variant(found: Inspection) -> str:
    if found.changes is None:
        return "none that Rein knows by this name"
    return found.spec.name + (f", changed in {', '.join(found.changes)}" if found.changes else "")


def _file_lines(file: WeightFile, texts: dict[str, str]) -> str:
    rows = [("FILE", "PARAMETERS", "TYPE", "SIZE"), _row(file)]
    more = "".join(f"\n{key}: {' '.join(value.split())[:100]}" for key, value in texts.items())
    return f"{table(rows)}\n{file.tensors} tensors{more}"


def _row(file: WeightFile) -> tuple[str, str, str, str]:
    return file.name, f"{file.parameters:,}", "+".join(file.types), megabytes(file.bytes)
