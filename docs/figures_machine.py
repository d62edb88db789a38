"""Figures that the embedded model draws of its own parts at work: see figures.py."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import rein
from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions
from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import find_prediction
from rein.explain.pictures import heat
from rein.image_sheets import SheetCell, SheetLabels, draw_sheet
from rein.images import grid, pil_to_tensor, tensor_to_pil
from rein.nn.discriminator import PatchDiscriminator
from rein.nn.specs import DiscriminatorConfig

PROMPT = "a red apple, flat style"
TWO_THINGS = "a fox and a mushroom, cartoon style"
SHOWN_STEPS = (0, 2, 4, 7, 11, 19)
TIMES = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95)
CHANNEL_SIDE = 61
"""Of a latent channel in pixels: two of them and a gap are as wide as a picture."""


@cache
def model() -> rein.Model:
    """The embedded model."""
    return rein.load(device="cpu")


def made(prompt: str, **options: object) -> Image.Image:
    """One picture."""
    return model().generate(prompt, **{"seed": 7, **options}).images[0]


@cache
def _trained_pictures(count: int) -> Tensor:
    """The first `count` training pictures, (count, 3, 128, 128) in [-1, 1]."""
    dataset = ArtDataset(ArtOptions())
    return torch.stack([pil_to_tensor(Image.fromarray(dataset.picture(index).pixels)) for index in range(count)])


@torch.inference_mode()
def _encoded(pixels: Tensor) -> Tensor:
    """Latents (B, 12, 16, 16) of pictures (B, 3, 128, 128)."""
    return model().parts.autoencoder.encode(pixels).mean


@torch.inference_mode()
def _decoded(latents: Tensor) -> list[Image.Image]:
    return [tensor_to_pil(pixels) for pixels in model().parts.autoencoder.decode(latents)]


def steps() -> Image.Image:
    """Six of twenty steps: what the network is given, and what it believes is under the noise."""
    given, believed, labels = [], [], []
    prediction = find_prediction(model().spec.prediction)
    for step in rein.explain(TWO_THINGS, model(), seed=7, steps=20):
        if step.index in SHOWN_STEPS:
            seen = prediction.network_input(step.before[None], torch.tensor(step.sigma))
            given += _decoded(seen)
            believed += _decoded(step.denoised[None])
            labels.append(f"step {step.index + 1}: {step.sigma / (1 + step.sigma):.0%} noise")
    return _rows(labels, {"what the network is given": given, "what it says is under the noise": believed})


def _rows(columns: Sequence[str], rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Rows of pictures with labels at the left and on top."""
    cells = {
        (column, row, 0): SheetCell(picture)
        for row, pictures in enumerate(rows.values())
        for column, picture in enumerate(pictures)
    }
    return draw_sheet(cells, SheetLabels(columns, list(rows)))


def forward() -> Image.Image:
    """The forward process on pixels, as it is imagined, and on latents, as it is done."""
    picture = pil_to_tensor(made(PROMPT))
    latents, noise = _encoded(picture[None]), PictureNoise([7])
    grains, latent_noise = noise.draw(picture.shape)[0], noise.draw(latents.shape[1:])
    on_pixels = [tensor_to_pil((1 - time) * picture + time * grains) for time in TIMES]
    on_latents = [_decoded((1 - time) * latents + time * latent_noise)[0] for time in TIMES]
    labels = [f"noise {time:.0%}" for time in TIMES]
    return _rows(labels, {"noise on pixels": on_pixels, "noise on latents, decoded": on_latents})


def latents() -> Image.Image:
    """A training picture, its twelve latent channels, what the decoder makes of them, and what was lost."""
    picture = _trained_pictures(24)[_widest()]
    inside = _encoded(picture[None])
    [rebuilt] = _decoded(inside)
    scale = float(inside.abs().max())
    levels = ((inside[0] / scale + 1) * 127.5).round().to(torch.uint8).numpy()
    side = (CHANNEL_SIDE, CHANNEL_SIDE)
    channels = [Image.fromarray(level).resize(side, Image.Resampling.NEAREST) for level in levels]
    lost = (pil_to_tensor(rebuilt) - picture).abs().mean(dim=0).clamp(max=0.5) * 2
    shown = [tensor_to_pil(picture), grid(channels, columns=4), rebuilt, _grey(lost)]
    labels = [
        "a picture: 128 x 128 x 3 = 49,152 numbers",
        "its latents: 16 x 16 x 12 = 3,072 numbers",
        "decoded again",
        "the difference, four times as strong",
    ]
    return grid([_fitted(entry, 262) for entry in shown], columns=4, labels=labels)


def _widest() -> int:
    """The training picture, of the first 24, with most edges: the hardest one to fold."""
    pictures = _trained_pictures(24)
    return int((pictures.diff(dim=-1).abs().mean((1, 2, 3)) + pictures.diff(dim=-2).abs().mean((1, 2, 3))).argmax())


def _fitted(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, round(image.height * side / image.width)), Image.Resampling.NEAREST)


def _grey(values: Tensor) -> Image.Image:
    """(h, w) from 0, white, to 1, black."""
    return Image.fromarray(((1 - values.clamp(0, 1)) * 255).round().to(torch.uint8).numpy())


def discriminator(rounds: int = 300, pictures: int = 192) -> Image.Image:
    """What a patch discriminator learns in a minute: where the autoencoder's copies give themselves away."""
    real = _trained_pictures(pictures)
    rebuilt = torch.cat([_rebuilt(part) for part in real.split(32)])
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorConfig(channels=16)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        chosen = torch.randint(8, pictures, (8,), generator=order)
        true, false = network(real[chosen]), network(rebuilt[chosen])
        loss = (functional.relu(1 - true) + functional.relu(1 + false)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        lower = (network(real[:6]) - network(rebuilt[:6])).clamp(min=0)
    maps = [_grey(values[0] / lower.max()).resize((128, 128), Image.Resampling.BICUBIC) for values in lower]
    first, second = ([tensor_to_pil(entry) for entry in shown[:6]] for shown in (real, rebuilt))
    rows = {"training pictures": first, "the autoen- coder's copies": second, "where the copy scores lower": maps}
    return _rows([""] * 6, rows)


@torch.inference_mode()
def _rebuilt(pixels: Tensor) -> Tensor:
    parts = model().parts.autoencoder
    # A copy outside inference mode, so that it may be trained on.
    return parts.decode(parts.encode(pixels).mean).clamp(-1, 1).clone()


def attention() -> Image.Image:
    """Where the words of a prompt of two things acted: heat maps over the picture."""
    explanation = rein.explain(TWO_THINGS, model(), seed=7)
    explanation.finish()
    picture = explanation.result.images[0]
    shown, labels = [picture], ["the picture"]
    for group, values in zip(explanation.heat_maps.groups, explanation.heat_maps.mean(), strict=True):
        if group.kind == "word" and len(group.label) > 1:
            shown.append(_warmed(picture, values))
            labels.append(group.label)
    return grid(shown, columns=6, labels=labels)


def _warmed(picture: Image.Image, values: Tensor) -> Image.Image:
    """A picture with a map laid over it, from its lowest to its highest value."""
    low, high = float(values.min()), float(values.max())
    shares = ((values - low) / max(high - low, 1e-9)).double()
    colours = Image.open(io.BytesIO(heat(shares, 1.0))).convert("RGB")
    return Image.blend(picture.convert("L").convert("RGB"), colours.resize(picture.size, Image.Resampling.BICUBIC), 0.6)


def guidance() -> Image.Image:
    """The same seeds at five guidance scales."""
    scales = (1.0, 2.0, 4.0, 8.0, 16.0)
    rows = {words: [made(words, guidance_scale=scale) for scale in scales] for words in (PROMPT, TWO_THINGS)}
    return _rows([f"guidance {scale:g}" for scale in scales], rows)


def negative() -> Image.Image:
    """What a negative prompt does to a bird: the same seeds without one, and away from a colour."""
    away = {"without": "", "negative prompt: blue": "blue", "negative prompt: red": "red"}
    rows = {
        label: [made("a bird, cartoon style", seed=seed, negative_prompt=words) for seed in range(5)]
        for label, words in away.items()
    }
    return _rows([f"seed {seed}" for seed in range(5)], rows)


def samplers() -> Image.Image:
    """The same seed by four samplers in more and more steps."""
    counts = (1, 2, 4, 8, 20, 50)
    names = {"Euler": "euler", "Heun": "heun", "DPM++ 2M": "dpmpp_2m", "Euler a": "euler_ancestral"}
    rows = {label: [made(TWO_THINGS, sampler=name, steps=count) for count in counts] for label, name in names.items()}
    return _rows([f"{count} step{'s' if count > 1 else ''}" for count in counts], rows)


def seeds() -> Image.Image:
    """What the words leave open: one prompt, six seeds."""
    return grid([made("a cat, cartoon style", seed=seed) for seed in range(6)], columns=6)


FIGURES: dict[str, Callable[[], Image.Image]] = {
    function.__name__: function
    for function in (steps, forward, latents, discriminator, attention, guidance, negative, samplers, seeds)
}
