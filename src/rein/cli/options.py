"""Options that several commands share: each declared once, with its default and the field of a request that it sets.

A command says which of them it takes, and finds their values in `given`:

    @app.command("explain")
    @takes(*REQUEST, *MODEL, *DEVICE)                # or `without(REQUEST, "mask")`, or single names
    def explain(*, given: Given, trace: TraceTo = None) -> None:
        request = Request.model_validate(request_fields(given))   # prompt, styles, adapters, --set: all of it
        model = load_model(given)

The options stand in the command's help where `given` stands among its own parameters. A parameter of the command's own
may have an option's name only if the option is not taken.

What belongs to a theme is declared beside what reads it: `rein.cli.starting` (pictures, masks, larger ones),
`rein.cli.language` (how prompts are read), `rein.cli.adapters`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli import language
from rein.cli import starting as start
from rein.cli.adapters import EmbeddingFiles, EmbeddingFolder, LoraFiles, LoraFolder, lora_choice
from rein.cli.values import number, read_prompt, settings, whole

if TYPE_CHECKING:
    from rein.pipeline.model import Model

_OWN = "[default: the model's]"
_PANEL = "The model and where it computes"
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
    str,
    typer.Option(
        "--model", "-m", metavar="NAME|PATH", rich_help_panel=_PANEL, help="A model inside Rein, a file or a folder."
    ),
]
Vae = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", rich_help_panel=_PANEL, help="Take the autoencoder of this file: a VAE, a TAESD, another model."
    ),
]
Prediction = Annotated[
    str | None,
    typer.Option(
        metavar="P", rich_help_panel=_PANEL, help="What the U-Net predicts: epsilon or v. [default: found out]"
    ),
]
Averaged = Annotated[
    bool,
    typer.Option("--ema", rich_help_panel=_PANEL, help="Use the averaged (EMA) weights that some files have besides."),
]
Variant = Annotated[
    str | None,
    typer.Option(
        metavar="V", rich_help_panel=_PANEL, help="Which weights of a diffusers folder, such as fp16. [default: plain]"
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(parser=whole, metavar="N", help="Sampling steps, 1 to 1000. [default: 20; of few-step models 4]"),
]
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
Width = Annotated[
    int | None,
    typer.Option("--width", "-W", parser=whole, metavar="W", help=f"Pixels, 16 to 4096, a multiple of 8. {_OWN}"),
]
Height = Annotated[
    int | None, typer.Option("--height", "-H", parser=whole, metavar="H", help=f"Pixels, likewise. {_OWN}")
]
Device = Annotated[str, typer.Option(metavar="D", rich_help_panel=_PANEL, help="auto, cpu, cuda, cuda:1, ... or mps.")]
Dtype = Annotated[
    str, typer.Option(metavar="T", rich_help_panel=_PANEL, help="Number format: auto, float32, bfloat16 or float16.")
]
Rare = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other field of a request: eta=0.5, s_churn=10, sigma_min=0.1 ..."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]

Given = Mapping[str, Any]
"""Values of the options that a command takes, by name."""


@dataclass(frozen=True)
class Option:
    """An option: its type as Typer reads it, its default, and the field of a request that its value is, as it is."""

    kind: Any
    default: object = None
    field: str | None = None


_WORDS = {
    "prompt": Option(Prompt),
    "negative": Option(Negative, "", "negative_prompt"),
    "prompt_file": Option(PromptFile),
}
_SAMPLING = {
    "steps": Option(Steps, None, "steps"),
    "guidance": Option(Guidance, None, "guidance_scale"),
    "sampler": Option(Sampler, None, "sampler"),
    "schedule": Option(Schedule, None, "spacing"),
    "seed": Option(Seed, None, "seed"),
    "width": Option(Width, None, "width"),
    "height": Option(Height, None, "height"),
}
_ADAPTERS = {
    "lora": Option(LoraFiles),
    "lora_folder": Option(LoraFolder, None, "lora_folder"),
    "embedding": Option(EmbeddingFiles),
    "embedding_folder": Option(EmbeddingFolder, None, "embedding_folder"),
}
_LANGUAGE = {
    "style": Option(language.Styles),
    "styles": Option(language.StylesFile, None, "styles_file"),
    "wildcards": Option(language.Wildcards, None, "wildcards"),
    "dialect": Option(language.DialectName, None, "dialect"),
    "emphasis": Option(language.Emphasis, None, "emphasis"),
    "clip_skip": Option(language.ClipSkip, 1, "clip_skip"),
}
_PICTURE = {
    "init": Option(start.Init, None, "init_image"),
    "strength": Option(start.Strength, None, "strength"),
    "resize": Option(start.Resize, "crop", "resize"),
    "loops": Option(start.Loops, 1, "loops"),
    "loop_strength": Option(start.LoopStrength, 1.0, "loop_strength"),
    "outpaint": Option(start.Outpaint),
    "depth": Option(start.Depth, None, "depth_image"),
    "depth_model": Option(start.DepthModel, None, "depth_model"),
    "image_guidance": Option(start.ImageGuidance, None, "image_guidance_scale"),
}
_MASK = {
    "mask": Option(start.Mask, None, "mask"),
    "mask_invert": Option(start.MaskInvert, False, "mask_invert"),
    "mask_blur": Option(start.MaskBlur, 4.0, "mask_blur"),
    "fill": Option(start.Fill, "original", "masked_content"),
    "only_masked": Option(start.OnlyMasked, False, "only_masked"),
    "mask_padding": Option(start.MaskPadding, 32, "mask_padding"),
    "soft_mask": Option(start.SoftMask, False, "soft_mask"),
}
_LARGER = {
    "hires": Option(start.Hires, None, "hires_scale"),
    "upscaler": Option(start.Upscaler, "lanczos", "hires_upscaler"),
    "hires_steps": Option(start.HiresSteps, None, "hires_steps"),
    "hires_strength": Option(start.HiresStrength, 0.6, "hires_strength"),
    "seamless": Option(start.Seamless, "none", "seamless"),
    "tile": Option(start.Tile, None, "tile"),
    "refiner": Option(start.Refiner, None, "refiner"),
    "refiner_switch": Option(start.RefinerSwitch, 0.8, "refiner_switch"),
}
_MODEL = {
    "model": Option(ModelName, "pocket"),
    "vae": Option(Vae),
    "prediction": Option(Prediction),
    "ema": Option(Averaged, False),
    "variant": Option(Variant),
}
_DEVICE = {"device": Option(Device, "auto"), "dtype": Option(Dtype, "auto")}
_RARE = {"rare": Option(Rare)}

OPTIONS: Mapping[str, Option] = (
    _WORDS | _MODEL | _SAMPLING | _ADAPTERS | _LANGUAGE | _PICTURE | _MASK | _LARGER | _RARE | _DEVICE
)
"""All of them, by the name of the parameter."""

WORDS, SAMPLING, ADAPTERS, LANGUAGE = tuple(_WORDS), tuple(_SAMPLING), tuple(_ADAPTERS), tuple(_LANGUAGE)
PICTURE, MASK, LARGER = tuple(_PICTURE), tuple(_MASK), tuple(_LARGER)
MODEL, DEVICE = tuple(_MODEL), tuple(_DEVICE)
WEIGHTS = tuple(name for name in MODEL if name != "model")
REQUEST = (*WORDS, *SAMPLING, *ADAPTERS, *LANGUAGE, *PICTURE, *MASK, *LARGER, "rare")
"""Everything that a request can be told but how many pictures."""

_Command = Callable[..., None]


def takes(*names: str) -> Callable[[_Command], _Command]:
    """Gives a command the options of these names, whose values it gets as `given`."""

    def decorated(command: _Command) -> _Command:
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name == "given":
                parameters += [_parameter(name) for name in names]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        def called(**values: Any) -> None:
            given = {name: values.pop(name) for name in names}
            command(**values, given=given)

        called.__name__, called.__doc__, called.__module__ = command.__name__, command.__doc__, command.__module__
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {}
        return called

    return decorated


def _parameter(name: str) -> inspect.Parameter:
    option = OPTIONS[name]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.kind)


def without(names: Sequence[str], *left_out: str) -> tuple[str, ...]:
    """`names` but some."""
    return tuple(name for name in names if name not in left_out)


def request_fields(given: Given) -> dict[str, Any]:
    """What the options say, as the fields of a request; those of `--set` go before.

    Raises:
        InputError: a prompt that is not there, given twice or unreadable; an adapter, margins or a setting that cannot
            be read. Ranges are checked by the request.
    """
    wanted = {option.field: given[name] for name, option in OPTIONS.items() if option.field and name in given}
    if "prompt" in given:
        wanted["prompt"] = read_prompt(given["prompt"], given.get("prompt_file"))
    if "style" in given:
        wanted["styles"] = list(given["style"] or ())
    if "lora" in given:
        wanted["loras"] = [lora_choice(text) for text in given["lora"] or ()]
    if "embedding" in given:
        wanted["embeddings"] = list(given["embedding"] or ())
    if "outpaint" in given:
        wanted["outpaint"] = start.margins(given["outpaint"], given["init"])
    return wanted | settings(given.get("rare") or ())


def load_model(given: Given) -> Model:
    """The model of `--model` and what goes with it. Raises as `rein.load`."""
    from rein.pipeline.model import load

    weights = {name: given[name] for name in WEIGHTS if name in given}
    return load(given["model"], given["device"], given["dtype"], **weights)
