"""`rein models`: which models there are, and what is in one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.app import app
from rein.cli.tables import megabytes, table
from rein.errors import DamagedFileError, ReinError

if TYPE_CHECKING:
    from rein.formats.inspect import Inspection, WeightFile
    from rein.formats.inspect_model import FileReport

_INSPECT_EXAMPLES = """
\b
Examples:
  rein models inspect pocket
  rein models inspect runs/pocket/model
  rein models inspect v1-5-pruned-emaonly.safetensors
  rein models inspect stable-diffusion-xl-base-1.0 --json --no-hash
"""

_WIDTH, _WIDEST = 9, 28
"""Letters of the names of facts, and the most of those of a file's own texts that still line up."""

models = typer.Typer(help="List, look into, convert or merge models.", no_args_is_help=False)
app.add_typer(models, name="models")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, and nothing else, on stdout.")]


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that Rein knows, and where their weights are."""
    from rein.formats.embedded import EMBEDDED
    from rein.nn.specs import VARIANTS
    from rein.pipeline.model import model_folder

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
    return "not part of Rein: give --model the file or the folder of one"


@models.command("inspect", epilog=_INSPECT_EXAMPLES)
def inspect(
    source: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A model inside Rein, a model's folder, or any file of weights.")
    ],
    as_json: AsJson = False,
    hashed: Annotated[bool, typer.Option("--hash/--no-hash", help="Read all of the files for their SHA-256.")] = True,
) -> None:
    """Say what a model or a file of weights is, and whether it is complete. Exit code 1 if it would not load.

    What it is, names and shapes tell, not the file's name. Of Rein's own folders the SHA-256 of each file is compared
    with what was recorded when it was saved.
    """
    from rein.formats.diffusers_folder import is_diffusers_folder, lone_weights
    from rein.formats.folder import SPEC_FILE
    from rein.formats.inspect import inspect_folder
    from rein.formats.inspect_model import inspect_diffusers, inspect_single
    from rein.pipeline.model import model_folder

    path = model_folder(source)
    if path.is_dir() and not is_diffusers_folder(path) and (path / "config.json").is_file():
        path = lone_weights(path)
    if path.is_file() or (is_diffusers_folder(path) and not (path / SPEC_FILE).is_file()):
        report = inspect_single(path, hashed) if path.is_file() else inspect_diffusers(path, hashed)
        print(json.dumps(report.plain(), indent=1) if as_json else _report_lines(report), flush=True)
        if report.problems:
            raise DamagedFileError(f"{path} would not load: {'; '.join(report.problems)}")
        return
    found = inspect_folder(path, hashed)
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


def _report_lines(report: FileReport) -> str:
    from rein.formats.detect import SPEC_KEY
    from rein.formats.fill import listed

    spec = report.spec
    facts = [("file", str(report.path)), ("holds", report.kind + (f": {report.note}" if report.note else ""))]
    facts += _adapter_facts(report)
    if spec is not None:
        guess = "" if report.settled else ", or v: the network is asked when it is loaded, or give --prediction"
        facts += [
            ("family", report.family + _averages(report)),
            ("parts", ", ".join(report.parts)),
            ("pictures", f"{spec.native_size} x {spec.native_size} pixels"),
            ("predicts", spec.prediction + guess),
        ]
    numbers = f"{report.parameters:,} in {report.tensors:,} tensors of {'+'.join(report.types) or 'none'}"
    facts.append(("numbers", numbers + (f", {report.scaled:,} of them with a scale" if report.scaled else "")))
    facts.append(("size", f"{megabytes(report.bytes)}, {report.container}"))
    if report.sha256:
        facts += [("hash", report.sha256[:10]), ("sha256", report.sha256)]
    if report.fit.extra:
        facts.append(("not used", listed(report.fit.extra)))
    texts = [(key, " ".join(value.split())[:100]) for key, value in report.metadata.items() if key != SPEC_KEY]
    lines = "\n".join([*_aligned(facts, _WIDTH), *_aligned(texts, _WIDEST)])
    whole = "\ncomplete: nothing is missing" if report.kind == "model" else ""
    return lines + ("".join(f"\nproblem: {problem}" for problem in report.problems) or whole)


def _aligned(facts: Sequence[tuple[str, str]], most: int) -> list[str]:
    """A line for each fact, values below one another unless a name has more than `most` letters."""
    wide = max([_WIDTH, *(len(name) for name, _ in facts if len(name) <= most)])
    return [f"{name:<{wide}} {value}" for name, value in facts]


def _adapter_facts(report: FileReport) -> list[tuple[str, str]]:
    """What an adapter or a learned word is for, and what it does."""
    from rein.formats.fill import listed
    from rein.formats.single import PART_TITLES

    family = [("family", report.family)] if report.made_for is not None else []
    if report.vectors:
        widths = " and ".join(str(width) for width in report.widths)
        return [*family, ("vectors", f"{report.vectors} of width {widths}")]
    found = report.adapter
    if found is None:
        return []
    facts = [*family, ("kind", _counted(found.kinds, "layer"))]
    if found.networks:
        facts.append(("changes", _counted({PART_TITLES[part]: n for part, n in found.networks.items()}, "layer")))
    if found.ranks:
        ranks = sorted(found.ranks)
        facts.append(("rank", str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"))
    return facts + ([("not used", listed(found.unmatched))] if found.unmatched else [])


def _counted(counts: Mapping[str, int], what: str) -> str:
    """As "LoRA (12 layers), LoCon (1 layer)"."""
    return ", ".join(f"{name} ({count:,} {what}{'s' if count > 1 else ''})" for name, count in counts.items())


def _averages(report: FileReport) -> str:
    if report.ema_only:
        return ", with averaged (EMA) weights alone, which are used"
    return ", with averaged (EMA) weights beside the plain ones: --ema uses them" if report.ema else ""


def _row(file: WeightFile) -> tuple[str, str, str, str]:
    return file.name, f"{file.parameters:,}", "+".join(file.types), megabytes(file.bytes)
