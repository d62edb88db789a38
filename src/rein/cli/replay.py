"""`rein replay`: make a picture again from the settings inside it, and say whether it is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.app import app
from rein.cli.options import DEVICE, WEIGHTS, AsJson, Given, load_model, takes
from rein.cli.progress import meter
from rein.errors import InputError

if TYPE_CHECKING:
    from rein.pipeline.recorded import Recorded
    from rein.pipeline.replay import Comparison

_EXAMPLES = """
\b
Examples:
  rein replay pictures/a-red-apple-7.png
  rein replay from-another-program.png --model v1-5.safetensors --output again.png
  rein replay apple.png --json

Exit code 0: identical, or within tolerance; 1: different. Pictures of AUTOMATIC1111, Forge, ComfyUI and InvokeAI are
read as far as it goes; what could not be read is named. A JPEG or WebP file is compared with the new picture after the
same loss.
"""


@app.command("replay", epilog=_EXAMPLES)
@takes(*WEIGHTS, *DEVICE)
def replay(
    *,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG, JPEG or WebP file that carries its settings.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME|PATH", help="[default: the one that is named in it]")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="Save the new picture.")] = None,
    given: Given,
    as_json: AsJson = False,
) -> None:
    """Make a picture again from its own settings, and compare."""
    with meter() as shown:
        shown.show("reading")
        from rein.image_files import read_format, read_image
        from rein.pipeline.recorded import read_recorded
        from rein.pipeline.replay import LOSSY_TOLERANCE, TOLERANCE, compared

        recorded, before = read_recorded(image), read_image(image)
        shown.show("loading")
        loaded = load_model(dict(given) | {"model": _model(recorded, model)})
        for step in loaded.steps(recorded.request):
            shown.show("drawing", step.index + 1, step.steps)
            if step.last:
                result = step.result
        saved = result.save(output)[0] if output is not None else None
        exact = bool(recorded.manifest) or read_format(image) == "png"
        tolerance = TOLERANCE if exact else LOSSY_TOLERANCE
        comparison = compared(before, result.images[0], recorded.manifest, result.manifest(0), tolerance)
    _tell(recorded, comparison, saved, as_json)
    raise typer.Exit(1 if comparison.verdict == "different" else 0)


def _model(recorded: Recorded, wanted: str | None) -> str:
    """The model to load: the one that is given, an embedded one that the picture names, else none is known.

    A picture tells a model's name, not where it lies.
    """
    from rein.formats.embedded import EMBEDDED

    if wanted is not None:
        return wanted
    if recorded.model in EMBEDDED:
        return recorded.model
    named = f"{recorded.model!r}" if recorded.model else "no model"
    raise InputError(f"the picture names {named}: say where its model is, with --model")


def _tell(recorded: Recorded, comparison: Comparison, saved: Path | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_object(recorded, comparison, saved), indent=1))
        return
    for entry in recorded.unread:
        print(f"not read: {entry}")
    for name, (before, after) in comparison.changed.items():
        print(f"changed: {name}: {before} -> {after}")
    close = "" if comparison.verdict == "identical" else f" ({comparison.psnr:.1f} dB PSNR)"
    print(f"{comparison.verdict}{close}")
    if saved is not None:
        print(saved)


def _object(recorded: Recorded, comparison: Comparison, saved: Path | None) -> dict[str, Any]:
    return {
        "verdict": comparison.verdict,
        "psnr": round(comparison.psnr, 2),
        "changed": {name: list(values) for name, values in comparison.changed.items()},
        "source": recorded.source,
        "unread": list(recorded.unread),
        "request": recorded.request.model_dump(mode="json"),
        "path": None if saved is None else str(saved),
    }
