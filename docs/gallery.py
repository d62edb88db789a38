"""The pictures of the gallery, each task once with the embedded model: `make figures`.

python docs/gallery.py [--only NAME ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

import rein
from rein.images import grid

IMAGES = Path(__file__).parent / "images" / "gallery"
APPLE = "a red apple, flat style"


@cache
def model() -> rein.Model:
    """The embedded model."""
    return rein.load()


@cache
def picture(prompt: str = APPLE, seed: int = 7) -> Image.Image:
    """A picture to start from."""
    return made(prompt, seed=seed)


def made(prompt: str, **options: Any) -> Image.Image:
    """One picture."""
    return model().generate(prompt, **{"seed": 7, **options}).images[0]


def sheet(pictures: Mapping[str, Image.Image], columns: int = 4) -> Image.Image:
    """Pictures with their names below."""
    return grid(list(pictures.values()), columns=columns, labels=list(pictures))


def disc(box: tuple[int, int, int, int], size: tuple[int, int] = (128, 128)) -> Image.Image:
    """A mask with a white ellipse."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


def strength() -> Image.Image:
    """Image to image: another colour over the same apple."""
    shown = {"the start": picture()}
    for value in (0.3, 0.6, 0.8, 0.9, 1.0):
        shown[f"a blue car, --strength {value:g}"] = made(
            "a blue car, flat style", init_image=picture(), strength=value
        )
    return sheet(shown, 6)


def sketch() -> Image.Image:
    """A few strokes made into a picture."""
    paper = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(paper)
    draw.ellipse((24, 40, 104, 118), fill=(220, 40, 30))
    draw.line((64, 44, 72, 18), fill=(110, 70, 20), width=6)
    shown = {"a sketch": paper}
    for value in (0.5, 0.7, 0.85):
        shown[f"a red apple, --strength {value:g}"] = made(APPLE, init_image=paper, strength=value)
    return sheet(shown)


def inpainting() -> Image.Image:
    """One of two things painted anew, with each masked content."""
    start = picture("a red apple and a yellow star, flat style", 3)
    mask = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(mask).rectangle((66, 24, 127, 104), fill=255)
    shown = {"the start": start, "the mask": mask.convert("RGB")}
    for content in ("original", "fill", "noise", "nothing"):
        shown[f"a blue fish, --fill {content}"] = made(
            "a red apple and a blue fish, flat style", init_image=start, mask=mask, strength=1.0, masked_content=content
        )
    return sheet(shown, 6)


def only_masked() -> Image.Image:
    """A small part of a large picture, drawn at full size."""
    start = picture("a house, flat style", 5).resize((256, 256), Image.Resampling.LANCZOS)
    mask = disc((150, 30, 246, 126), (256, 256))
    done = made("a sun, flat style", init_image=start, mask=mask, only_masked=True, strength=1.0, mask_padding=8)
    return sheet({"the start": start, "the mask": mask.convert("RGB"), "a sun, --only-masked": done}, 3)


def soft_mask() -> Image.Image:
    """A mask that grows from left to right."""
    ramp = Image.linear_gradient("L").rotate(90).resize((128, 128))
    options = {"init_image": picture(), "mask": ramp, "strength": 1.0, "mask_blur": 0.0}
    prompt = "a green apple, flat style"
    shown = {"the start": picture(), "the mask": ramp.convert("RGB")}
    return sheet(shown | {"--soft-mask": made(prompt, soft_mask=True, **options), "without": made(prompt, **options)})


def outpainting() -> Image.Image:
    """The picture grown: with other things beside it, and with more of its background alone."""
    start = picture("a cat, flat style")
    sides = made("a tree, flat style", init_image=start, outpaint=(64, 0, 64, 0))
    plain = made("", init_image=start, outpaint=(64, 0, 64, 0), strength=0.3, guidance_scale=1.0)
    nothing = made("", init_image=start, outpaint=(64, 0, 64, 0))
    shown = {"the start": start, "a tree, --outpaint left=64,right=64": sides}
    shown |= {"no words, --strength 0.3 --guidance 1": plain, "no words, all anew": nothing}
    return sheet(shown, 4)


def loops() -> Image.Image:
    """Each result the next start."""
    shown = {"the start": picture()}
    for count in (1, 2, 4):
        shown[f"an orange, --loops {count}"] = made(
            "an orange, flat style", init_image=picture(), strength=0.6, loops=count
        )
    return sheet(shown)


def hires() -> Image.Image:
    """Drawn, made larger, drawn over."""
    shown = {"128 x 128": picture()}
    for way in ("lanczos", "latent"):
        shown[f"--hires 1.5 --upscaler {way}"] = made(APPLE, hires_scale=1.5, hires_upscaler=way, hires_strength=0.5)
    return sheet(shown, 3)


def seamless() -> Image.Image:
    """Tiles that meet, two by two."""
    shown = {}
    for axes in ("none", "both"):
        tile = made("leaves on a green background, flat style", seamless=axes)
        four = Image.new("RGB", (256, 256))
        for place in ((0, 0), (128, 0), (0, 128), (128, 128)):
            four.paste(tile, place)
        shown[f"--seamless {axes}, laid out two by two"] = four
    return sheet(shown, 2)


def depth() -> Image.Image:
    """What stands where: a near thing on either side, and two at different depth, by the depth form."""
    form = rein.load("pocket-depth")
    left, right = disc((6, 40, 62, 120)), disc((66, 8, 122, 88))
    pair = Image.blend(right, Image.new("L", right.size, 0), 0.5)
    pair.paste(255, mask=left)
    shown = {}
    for words, near in (("a cactus", left), ("a cactus", right), ("an apple", right), ("a lemon and a rocket", pair)):
        name = f"{words}, flat style"
        shown[f"map {len(shown) // 2 + 1}"] = near.convert("RGB")
        shown[f"{len(shown) // 2 + 1}: {name}"] = form.generate(name, seed=7, depth_image=near).images[0]
    return sheet(shown, 8)


def variations() -> Image.Image:
    """The same seed, turned towards another."""
    shown = {}
    for value in (0.0, 0.1, 0.2, 0.4, 0.7, 1.0):
        shown[f"variation_strength {value:g}"] = made(
            APPLE, variation_seed=None if value == 0 else 99, variation_strength=value
        )
    return sheet(shown, 6)


SHEETS: dict[str, Callable[[], Image.Image]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        strength,
        sketch,
        inpainting,
        only_masked,
        soft_mask,
        outpainting,
        depth,
        loops,
        hires,
        seamless,
        variations,
    )
}


def main() -> None:
    """Draw the sheets that are asked for, all unless told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SHEETS), default=list(SHEETS))
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().only:
        drawn = SHEETS[name]()
        drawn.quantize(192).save(IMAGES / f"{name}.png", optimize=True)
        print(f"{name}: {drawn.width} x {drawn.height}")


if __name__ == "__main__":
    main()
