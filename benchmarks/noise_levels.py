"""At which noise levels is it undecided what a picture shows? There, and only there, a text-to-image model needs words.

    python -m benchmarks.noise_levels [--concepts 330] [--pictures 24000]

The art's plain pictures are encoded with the embedded autoencoder. Each of some pictures is mixed with noise,
(1 - t) x0 + t noise, and the exact posterior over all others (a mixture of Gaussians round their latents) says how well
an ideal observer could still tell the thing. Training times and sampling times belong where that falls from certain to
nothing: the `shift` of the embedded model's schedule is chosen by this table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from rein.data.compose import ArtDataset
from rein.data.features import encode_pictures
from rein.data.options import ArtOptions, Mixture
from rein.pipeline.model import load

TIMES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98)
ONLY_PLAIN = Mixture(plain=1, colour=0, background=0, position=0, count=0, pair=0, triple=0)


def named(shown: Tensor, known: Tensor, concepts: Tensor, time: float) -> Tensor:
    """The most likely concept (Q,) of noisy latents `shown` (Q, D), given clean `known` (N, D) of `concepts`."""
    distance = torch.cdist(shown, (1 - time) * known).square()
    likely = (-distance / (2 * time**2)).softmax(dim=1)
    votes = torch.zeros(len(shown), int(concepts.max()) + 1).index_add_(1, concepts, likely)
    return votes.argmax(dim=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--concepts", type=int, default=330)
    parser.add_argument("--pictures", type=int, default=8000, help="of which 400 are asked about")
    parser.add_argument("--cache", type=Path, default=ArtOptions().cache_folder)
    options = parser.parse_args()
    art = ArtOptions(cache_folder=options.cache, concept_count=options.concepts, mixture=ONLY_PLAIN)
    dataset, model = ArtDataset(art), load(device="cpu")
    samples = [dataset.picture(index) for index in range(options.pictures)]
    pixels = torch.stack([torch.from_numpy(sample.pixels) for sample in samples])
    parts = [encode_pictures(model.parts.autoencoder, model.spec, part) for part in pixels.split(64)]
    latents = torch.cat(parts).float().flatten(1)
    concepts = torch.tensor([sample.label.concepts[0] for sample in samples])
    noise = torch.randn(400, latents.shape[1], generator=torch.Generator().manual_seed(0))
    print("share of noise t | things told right")
    for time in TIMES:
        shown = (1 - time) * latents[:400] + time * noise
        right = named(shown, latents[400:], concepts[400:], time) == concepts[:400]
        print(f"{time:16.2f} | {right.float().mean():.1%}")


if __name__ == "__main__":
    main()
