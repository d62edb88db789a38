"""`rein models convert` and `rein models merge`: models in another form, and several mixed into one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.adapters import lora_choice
from rein.cli.app import app  # noqa: F401 - the program comes before its commands
from rein.cli.models import AsJson, models
from rein.cli.values import number
from rein.errors import InputError, nearest, quoted

if TYPE_CHECKING:
    import torch

    from rein.formats.convert import Converted
    from rein.formats.sources import OpenModel

_CONVERT_EXAMPLES = """
\b
Examples:
  rein models convert old-model.ckpt model.safetensors --dtype fp16
  rein models convert model.safetensors model-folder --to diffusers
  rein models convert model-folder model.safetensors --vae better-vae.safetensors
"""

_MERGE_EXAMPLES = """
\b
Examples:
  rein models merge a.safetensors b.safetensors --weight 0.3 --output mixed.safetensors
  rein models merge a.safetensors b.safetensors base.safetensors --weight 1 --output sum.safetensors
  rein models merge a.safetensors --lora style.safetensors:0.8 --vae vae.safetensors --output baked.safetensors
"""

StoredType = Annotated[
    str | None,
    typer.Option("--dtype", metavar="TYPE", help="Store as fp32, fp16, bf16, fp8 or fp8-e5m2. As it is, if left out."),
]
OtherVae = Annotated[str | None, typer.Option("--vae", metavar="PATH", help="Put the autoencoder of PATH in.")]


@models.command("convert", epilog=_CONVERT_EXAMPLES)
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A file of weights, a diffusers or a Rein folder.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="A .safetensors file, or a new folder.")],
    to: Annotated[
        str | None, typer.Option(metavar="FORM", help="file, diffusers or rein; goes by OUT, if left out.")
    ] = None,
    dtype: StoredType = None,
    vae: OtherVae = None,
    prediction: Annotated[
        str | None, typer.Option(metavar="KIND", help="What the U-Net predicts, where the file does not tell.")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged U-Net of a file that has two.")] = False,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which files of a diffusers folder, such as fp16.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Leave out what does not draw, such as averages.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model in another form. Nothing in a file is run; OUT appears whole or not at all."""
    from rein.formats.convert import Conversion
    from rein.formats.convert import convert as work
    from rein.formats.single import LoadOptions

    told: Any = prediction
    options = LoadOptions(_autoencoder(vae), _one_of("--prediction", told, ("epsilon", "v")), ema, variant)
    form: Any = _one_of("--to", to, ("file", "diffusers", "rein"))
    _report(work(Path(source), Path(target), Conversion(form, _stored(dtype), prune, options)), as_json)


@models.command("merge", epilog=_MERGE_EXAMPLES)
def merge(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="A [B [C]]", help="Two give A(1-w) + Bw, three A + w(B-C), one is for baking in."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="A .safetensors file, or a new folder.")],
    weight: Annotated[
        float, typer.Option(metavar="W", parser=number, help="w: of B, or of the difference; -10 to 10.")
    ] = 0.5,
    blocks: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Weights of blocks: IN00=0.2,MID=1 or 25 numbers (19 for SDXL), BASE first."),
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option("--lora", metavar="FILE:W[:T]", help="An adapter to bake in. May be repeated.")
    ] = None,
    vae: OtherVae = None,
    dtype: StoredType = None,
    as_json: AsJson = False,
) -> None:
    """Mix models of one family. The result names its parents in its header."""
    from rein.formats.merge import Recipe, parse_blocks
    from rein.formats.merge import merge as work
    from rein.formats.sources import open_model

    opened = [open_model(Path(source)) for source in sources]
    chosen = {} if blocks is None else parse_blocks(blocks, opened[0].spec)
    recipe = Recipe(weight, chosen, _autoencoder(vae), _adapters(lora or [], opened[0]), _stored(dtype))
    target = Path(output)
    form: Any = "file" if target.suffix.lower() == ".safetensors" else "rein"
    _report(work(target, opened, recipe, form), as_json)


def _adapters(choices: list[str], model: OpenModel) -> tuple[Any, ...]:
    from rein.formats.adapters import read_adapter
    from rein.formats.adapters_names import targets_of
    from rein.formats.merge import Baked

    targets = targets_of(model.spec) if choices else None
    baked = []
    for text in choices:
        choice: dict[str, Any] = lora_choice(text)
        assert targets is not None
        baked.append(Baked(read_adapter(choice["path"], targets), choice.get("weight", 1.0), choice.get("text_weight")))
    return tuple(baked)


def _stored(dtype: str | None) -> torch.dtype | None:
    from rein.formats.convert import STORED_TYPES

    return None if dtype is None else STORED_TYPES[str(_one_of("--dtype", dtype, tuple(STORED_TYPES)))]


def _autoencoder(text: str | None) -> Path | None:
    from rein.pipeline.loading import autoencoder_file

    return None if text is None else autoencoder_file(text)


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> Any:
    if value is not None and value not in known:
        raise InputError(f"{option} is {quoted(value)}: {nearest(value, known)}")
    return value


def _report(done: Converted, as_json: bool) -> None:
    if as_json:
        told = {"path": str(done.path), "form": done.form, "family": done.family, "notes": done.notes}
        print(json.dumps(told, indent=1))
        return
    for note in done.notes:
        print(note)
    print(done.path)
