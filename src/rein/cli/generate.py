"""`rein generate`: pictures from words. Here are its options; `rein.cli.drawing` does the work."""

from __future__ import annotations

from typing import Annotated

import typer

from rein.cli.adapters import EmbeddingFiles, EmbeddingFolder, LoraFiles, LoraFolder, lora_choice
from rein.cli.app import app
from rein.cli.drawing import Drawing, read_prompt
from rein.cli.language import ClipSkip, DialectName, Emphasis, Styles, StylesFile, Wildcards
from rein.cli.progress import meter
from rein.cli.values import number, settings, whole
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
_SAMPLERS = (
    "ddpm, ddim, euler, euler_ancestral, heun, dpmpp_2m, dpmpp_sde, dpmpp_2m_sde, dpmpp_2m_sde_heun, "
    "dpmpp_2s_ancestral, dpmpp_3m_sde, lms, dpm_2, dpm_2_ancestral, dpm_fast, dpm_adaptive, restart, ddim_cfgpp, "
    "plms, unipc, unipc_bh2, lcm, tcd, deis, ipndm, res_multistep"
)
_SPACINGS = (
    "leading, trailing, linspace, uniform, karras, exponential, polyexponential, sgm_uniform, kl_optimal, "
    "align_your_steps, align_your_steps_sdxl, simple, normal, ddim, beta, lcm"
)
"""Written out, so that the help needs no PyTorch; a test compares them with the tables."""

Prompt = Annotated[
    str | None, typer.Argument(help="What the pictures should show, in quotes; may be empty. '-' reads it from stdin.")
]
Negative = Annotated[str, typer.Option(metavar="T", help="What they should not show.", show_default=False)]
PromptFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Read the prompt from a file (UTF-8); '-' is stdin.")
]
ModelName = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|PATH", help="A model inside Rein, a file or a folder.")
]
Vae = Annotated[
    str | None, typer.Option(metavar="FILE", help="Take the autoencoder of this file: a VAE, a TAESD, another model.")
]
Prediction = Annotated[
    str | None, typer.Option(metavar="P", help="What the U-Net predicts: epsilon or v. [default: found out]")
]
Averaged = Annotated[bool, typer.Option("--ema", help="Use the averaged (EMA) weights that some files have besides.")]
Variant = Annotated[
    str | None, typer.Option(metavar="V", help="Which weights of a diffusers folder, such as fp16. [default: plain]")
]
Steps = Annotated[int, typer.Option(parser=whole, metavar="N", help="Sampling steps, 1 to 1000.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        parser=number, metavar="X", help=f"How closely to follow the prompt, 0 to 100; 1 is without guidance. {_OWN}"
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(metavar="S", help=f"Also by other programs' names, such as 'DPM++ 2M Karras'. {_SAMPLERS}. {_OWN}"),
]
Schedule = Annotated[
    str | None,
    typer.Option(metavar="S", help=f"Noise levels, or automatic: the sampler's. {_SPACINGS}. {_OWN}"),
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
Rare = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other field of a request: eta=0.5, s_churn=10, sigma_min=0.1 ..."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


@app.command("generate", epilog=_EXAMPLES)
def generate(
    prompt: Prompt = None,
    negative: Negative = "",
    prompt_file: PromptFile = None,
    model: ModelName = "pocket",
    vae: Vae = None,
    prediction: Prediction = None,
    ema: Averaged = False,
    variant: Variant = None,
    steps: Steps = 20,
    guidance: Guidance = None,
    sampler: Sampler = None,
    schedule: Schedule = None,
    seed: Seed = None,
    count: Count = 1,
    grid: Grid = False,
    width: Width = None,
    height: Height = None,
    lora: LoraFiles = None,
    lora_folder: LoraFolder = None,
    embedding: EmbeddingFiles = None,
    embedding_folder: EmbeddingFolder = None,
    style: Styles = None,
    styles: StylesFile = None,
    wildcards: Wildcards = None,
    dialect: DialectName = None,
    emphasis: Emphasis = None,
    clip_skip: ClipSkip = 1,
    output: Output = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    rare: Rare = None,
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
        "styles": list(style or ()),
        "styles_file": styles,
        "wildcards": wildcards,
        "dialect": dialect,
        "emphasis": emphasis,
        "clip_skip": clip_skip,
        "loras": [lora_choice(text) for text in lora or ()],
        "lora_folder": lora_folder,
        "embeddings": list(embedding or ()),
        "embedding_folder": embedding_folder,
    } | settings(rare or ())
    drawing = Drawing(quiet=as_json)
    try:
        with meter() as shown:
            drawing.prepare(shown, wanted, output)
            chosen = {"vae": vae, "prediction": prediction, "ema": ema, "variant": variant}
            drawing.load(shown, model, device, dtype, chosen)
            drawing.draw(shown, grid)
    except KeyboardInterrupt:
        raise InterruptedWork(drawing.how_far()) from None
    finally:
        drawing.report()
