"""How near previews come to what is decoded, and what they cost.

    python -m benchmarks.preview_colours --threads 2 --pictures 400
    python -m benchmarks.preview_colours --write src/rein/assets/pocket

Colours are found on training pictures of the art and compared on validation pictures, beside those that are found on
pictures made up without any art, which is what models of other art get. `--write FOLDER` stores the former in the
folder of a model. Times are for one picture; "decoded" is what `GenerationStep.preview` takes.

Expected for `pocket`: about 21 dB with its own colours, 19 dB with made-up pictures, where 16 x 16 pixels can come to
24 dB at most; a preview takes about a hundredth of the time of decoding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.common import in_turn, print_table, summary
from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions
from rein.formats.previews import write_preview_colours
from rein.images import psnr
from rein.nn.autoencoder import Autoencoder
from rein.pipeline.decode import decode_latents
from rein.pipeline.model import load
from rein.pipeline.preview import Colours, colours_by_trial, fit_colours, preview_of


@torch.inference_mode()
def coded(autoencoder: Autoencoder, dataset: ArtDataset, count: int) -> tuple[Tensor, Tensor]:
    """Latents of pictures of the art, and the pictures that are decoded from them."""
    latents, decoded = [], []
    for index in range(count):
        levels = torch.from_numpy(np.array(dataset.picture(index).pixels)).permute(2, 0, 1)[None]
        latents.append(autoencoder.encode(levels.float() / 127.5 - 1).mode())
        decoded.append(autoencoder.decode(latents[-1]).clamp(-1, 1))
    return torch.cat(latents), torch.cat(decoded)


def level(colours: Colours, latents: Tensor, decoded: Tensor) -> list[str]:
    """PSNR in dB of previews beside the decoded pictures: at their own size, and made as large as those."""
    pixels = colours.pixels(latents)
    small = functional.interpolate(decoded, pixels.shape[-2:], mode="area")
    large = functional.interpolate(pixels, decoded.shape[-2:], mode="bicubic")
    return [f"{float(psnr(made, real).mean()):.1f}" for made, real in ((pixels, small), (large, decoded))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="name or folder")
    parser.add_argument("--art", type=Path, default=ArtOptions.cache_folder, help="where the art is kept")
    parser.add_argument("--pictures", type=int, default=200, help="of each split")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--write", type=Path, help="store the colours in this model folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load(options.model, "cpu")
    art = ArtOptions(options.art, size=model.spec.native_size)
    autoencoder = model.parts.autoencoder
    colours = fit_colours(*coded(autoencoder, ArtDataset(art, "train"), options.pictures))
    if options.write is not None:
        print(write_preview_colours(options.write, colours.weights.tolist()))
    latents, decoded = coded(autoencoder, ArtDataset(art, "validation"), options.pictures)
    made_up = colours_by_trial(autoencoder)
    rows = [["found on the art", *level(colours, latents, decoded)]]
    rows += [["found on made-up pictures", *level(made_up, latents, decoded)]]
    print_table(["PSNR in dB", "at own size", "at full size"], rows)
    preview, scaled = preview_of(model.parts), (latents[0] - model.spec.latent_shift) * model.spec.latent_scale
    seconds = in_turn(
        {
            "linear colours": lambda: preview(scaled),
            "decoded": lambda: decode_latents(model.parts, scaled[None]),
            "finding colours": lambda: colours_by_trial(autoencoder),
        },
        options.runs,
    )
    print_table(["ms", "median", "fastest", "slowest"], [[name, *precise(times)] for name, times in seconds.items()])


def precise(seconds: list[float]) -> list[str]:
    """As `summary`, in milliseconds."""
    return summary([1000 * value for value in seconds])


if __name__ == "__main__":
    main()
