"""`rein generate`: pictures from words. Here are its options; `rein.cli.drawing` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rein.cli import starting as start
from rein.cli.adapters import EmbeddingFiles, EmbeddingFolder, LoraFiles, LoraFolder, lora_choice
from rein.cli.app import app
from rein.cli.drawing import Drawing, read_prompt
from rein.cli.language import ClipSkip, DialectName, Emphasis, Styles, StylesFile, Wildcards
from rein.cli.preview import PreviewEvery, Previews, PreviewTarget, PreviewVae
from rein.cli.progress import meter
from rein.cli.values import number, settings, whole
from rein.errors import InterruptedWork

_EXAMPLES = """
\b
Examples:
  rein generate "a red apple, flat style"
  rein generate "two owls" --seed 7 --count 4 --grid --output owls/
  rein generate "a blue car" --steps 30 --guidance 6 --sampler heun -o car.png
  rein generate "a golden apple" --init apple.png --strength 0.6
  rein generate "a worm" --init apple.png --mask hole.png --only-masked
  rein generate "an orchard" --init apple.png --outpaint left=64,right=64
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
        help="A .png, .jpg or .webp file or a folder; a name that is taken gets a number, nothing is replaced. "
        "[default: pictures]",
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="F", help="png, jpeg or webp. [default: what --output tells, or png]")
]
Quality = Annotated[
    int | None,
    typer.Option(
        parser=whole, metavar="Q", help="Of jpeg and webp, 1 to 100; 100 loses nothing in webp. [default: 90]"
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
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Only say what memory and time it will take, and what to change where it is too much."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


_SAME = (
    *("steps", "sampler", "seed", "count", "width", "height", "wildcards", "dialect", "emphasis", "clip_skip"),
    *("lora_folder", "embedding_folder", "strength", "resize", "loops", "loop_strength", "depth_model", "mask"),
    *("mask_invert", "mask_blur", "only_masked", "mask_padding", "soft_mask", "hires_steps", "hires_strength"),
    *("seamless", "tile", "refiner", "refiner_switch"),
)
_FIELDS = {name: name for name in _SAME} | {
    "negative": "negative_prompt",
    "guidance": "guidance_scale",
    "schedule": "spacing",
    "styles": "styles_file",
    "init": "init_image",
    "depth": "depth_image",
    "image_guidance": "image_guidance_scale",
    "fill": "masked_content",
    "hires": "hires_scale",
    "upscaler": "hires_upscaler",
}
"""Parameters whose value is that of a request's field as it is."""


@app.command("generate", epilog=_EXAMPLES)
def generate(
    context: typer.Context,
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
    init: start.Init = None,
    strength: start.Strength = None,
    resize: start.Resize = "crop",
    loops: start.Loops = 1,
    loop_strength: start.LoopStrength = 1.0,
    outpaint: start.Outpaint = None,
    depth: start.Depth = None,
    depth_model: start.DepthModel = None,
    image_guidance: start.ImageGuidance = None,
    mask: start.Mask = None,
    mask_invert: start.MaskInvert = False,
    mask_blur: start.MaskBlur = 4.0,
    fill: start.Fill = "original",
    only_masked: start.OnlyMasked = False,
    mask_padding: start.MaskPadding = 32,
    soft_mask: start.SoftMask = False,
    hires: start.Hires = None,
    upscaler: start.Upscaler = "lanczos",
    hires_steps: start.HiresSteps = None,
    hires_strength: start.HiresStrength = 0.6,
    seamless: start.Seamless = "none",
    tile: start.Tile = None,
    refiner: start.Refiner = None,
    refiner_switch: start.RefinerSwitch = 0.8,
    output: Output = None,
    file_format: Format = None,
    quality: Quality = None,
    preview: PreviewTarget = None,
    preview_every: PreviewEvery = None,
    preview_vae: PreviewVae = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    rare: Rare = None,
    plan: PlanOnly = False,
    as_json: AsJson = False,
) -> None:
    """Make pictures from words."""
    _draw(context.params)


def _draw(given: Mapping[str, Any]) -> None:
    """The work of the command, from its parameters by name."""
    wanted = {field: given[name] for name, field in _FIELDS.items()} | {
        "prompt": read_prompt(given["prompt"], given["prompt_file"]),
        "styles": list(given["style"] or ()),
        "loras": [lora_choice(text) for text in given["lora"] or ()],
        "embeddings": list(given["embedding"] or ()),
        "outpaint": start.margins(given["outpaint"], given["init"]),
    }
    previews = Previews.of(given["preview"], given["preview_every"], given["preview_vae"])
    drawing = Drawing(quiet=given["as_json"], previews=previews)
    try:
        with meter() as shown:
            wanted |= settings(given["rare"] or ())
            drawing.prepare(shown, wanted, given["output"], given["file_format"], given["quality"])
            chosen = {name: given[name] for name in ("vae", "prediction", "ema", "variant")}
            drawing.load(shown, given["model"], given["device"], given["dtype"], chosen)
            if given["plan"]:
                drawing.plan(shown)
                return
            drawing.draw(shown, given["grid"])
    except KeyboardInterrupt:
        raise InterruptedWork(drawing.how_far()) from None
    finally:
        drawing.report()
