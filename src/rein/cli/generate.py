"""`rein generate`: pictures from words. Here are its options; `rein.cli.drawing` does the work."""

from __future__ import annotations

from typing import Annotated

import typer

from rein.cli.app import app
from rein.cli.drawing import Drawing, read_prompt
from rein.cli.progress import meter
from rein.cli.values import number, whole
from rein.errors import InterruptedWork

_EXAMPLES = """
\b
Examples:
  rein generate "a red apple, flat style"
  rein generate "two owls" --seed 7 --count 4 --grid --output owls/
  rein generate "a blue car" --steps 30 --guidance 6 --sampler heun -o car.png
  rein generate --prompt-file words.txt --json

The last line of the output is the path of the picture; of several, that of their sheet or folder. Ctrl-C keeps the
pictures that are finished.
"""

_OWN = "[default: the model's]"

Prompt = Annotated[
    str | None, typer.Argument(help="What the pictures should show, in quotes; may be empty. '-' reads it from stdin.")
]
Negative = Annotated[str, typer.Option(metavar="T", help="What they should not show.", show_default=False)]
PromptFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Read the prompt from a file (UTF-8); '-' is stdin.")
]
ModelName = Annotated[str, typer.Option("--model", "-m", metavar="NAME|PATH", help="A model inside Rein, or a folder.")]
Steps = Annotated[int, typer.Option(parser=whole, metavar="N", help="Sampling steps, 1 to 1000.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        parser=number, metavar="X", help=f"How closely to follow the prompt, 0 to 100; 1 is without guidance. {_OWN}"
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(metavar="S", help=f"ddpm, ddim, euler, euler_ancestral, heun, dpmpp_2m, dpmpp_2m_sde or lcm. {_OWN}"),
]
Schedule = Annotated[
    str | None,
    typer.Option(metavar="S", help=f"Noise levels: leading, trailing, linspace, karras or exponential. {_OWN}"),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", "-s", parser=whole, metavar="N", help="0 to 2^63 - 1. [default: a fresh one]"),
]
Count = Annotated[
    int,
    typer.Option("--count", "-n", parser=whole, metavar="N", help="Pictures, 1 to 1000, with seeds N, N + 1, ..."),
]
Grid = Annotated[bool, typer.Option("--grid", help="Also make a sheet of all pictures, with prompt and seeds.")]
Width = Annotated[
    int | None,
    typer.Option("--width", "-W", parser=whole, metavar="W", help=f"Pixels, 16 to 4096, a multiple of 8. {_OWN}"),
]
Height = Annotated[
    int | None, typer.Option("--height", "-H", parser=whole, metavar="H", help=f"Pixels, likewise. {_OWN}")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="A .png file or a folder; a name that is taken gets a number, nothing is replaced. [default: pictures]",
    ),
]
Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, ... or mps.")]
Dtype = Annotated[str, typer.Option(metavar="T", help="Number format: auto, float32, bfloat16 or float16.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


@app.command("generate", epilog=_EXAMPLES)
def generate(
    prompt: Prompt = None,
    negative: Negative = "",
    prompt_file: PromptFile = None,
    model: ModelName = "pocket",
    steps: Steps = 20,
    guidance: Guidance = None,
    sampler: Sampler = None,
    schedule: Schedule = None,
    seed: Seed = None,
    count: Count = 1,
    grid: Grid = False,
    width: Width = None,
    height: Height = None,
    output: Output = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Make pictures from words."""
    wanted = {
        "prompt": read_prompt(prompt, prompt_file),
        "negative_prompt": negative,
        "steps": steps,
        "guidance_scale": guidance,
        "sampler": sampler,
        "spacing": schedule,
        "seed": seed,
        "count": count,
        "width": width,
        "height": height,
    }
    drawing = Drawing(quiet=as_json)
    try:
        with meter() as shown:
            drawing.prepare(shown, wanted, output)
            drawing.load(shown, model, device, dtype)
            drawing.draw(shown, grid)
    except KeyboardInterrupt:
        raise InterruptedWork(drawing.how_far()) from None
    finally:
        drawing.report()
