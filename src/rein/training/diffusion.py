"""Training the denoiser with its text tower, on latents that are computed once and kept.

Sources: Ho et al. 2020 (algorithm 1), Liu et al. 2023 and Esser et al. 2024 (flow, logit-normal times), Ho & Salimans
2022 (caption dropout).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from rein.diffusion.guidance import guided
from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import NetworkDenoiser, find_prediction
from rein.diffusion.samplers import find_sampler
from rein.diffusion.schedule import NoiseSchedule
from rein.diffusion.spacing import spaced_sigmas
from rein.diffusion.step import SamplerOptions
from rein.formats.tensors import write_tensors
from rein.images import grid, tensor_to_pil
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.initial import initialise_tower, initialise_unet
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.training.noising import NoiseLoss
from rein.training.objective import Batch, Losses, Player, Uncompiled
from rein.training.tables import DenoiserTable

UNET_FILE, TOWER_FILE = "unet.safetensors", "text_tower.safetensors"
_SAMPLE_STEPS = 16


@dataclass(frozen=True)
class LatentSet:
    """Pictures as the denoiser sees them: scaled latents (N, C, h, w) and several tokenised captions each (N, V, T)."""

    latents: Tensor
    captions: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device) -> LatentSet:
        """The same set on a device."""
        return LatentSet(self.latents.to(device), self.captions.to(device))


class TextDenoiser(nn.Module):
    """Text tower and U-Net as one module, so that one optimiser and one average hold both."""

    def __init__(self, unet: UNet, tower: TextTower) -> None:
        super().__init__()
        self.unet, self.tower = unet, tower

    def forward(self, x: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        """Network input (B, C, h, w), timesteps (B,) and token ids (B, T) -> the network's prediction."""
        features = self.tower(ids)
        out: Tensor = self.unet(x, timestep, self.tower.context(features), features.pooled)
        return out


@dataclass(frozen=True)
class SamplePrompts:
    """What the sheets show: tokenised prompts (n, T) and their texts."""

    ids: Tensor
    texts: Sequence[str]


class DenoiserObjective:
    """Teaches a U-Net and its text tower to predict what `spec.prediction` says, at noise levels of the schedule.

    `empty` (T,) are the token ids of the empty caption; `autoencoder` only decodes samples.
    """

    name = "denoiser"

    def __init__(
        self,
        spec: ModelSpec,
        table: DenoiserTable,
        train: LatentSet,
        held_out: LatentSet,
        schedule: NoiseSchedule,
        prompts: SamplePrompts,
        empty: Tensor,
        autoencoder: Autoencoder,
    ) -> None:
        torch.manual_seed(table.seed)
        unet, tower = initialise_unet(UNet(spec.unet)), initialise_tower(TextTower(spec.towers[0]))
        self.model = TextDenoiser(unet, tower)
        self.spec, self.table, self.train, self.held_out = spec, table, train, held_out
        self.schedule, self.prompts, self.empty, self.autoencoder = schedule, prompts, empty, autoencoder
        self.prediction = find_prediction(spec.prediction)
        self.loss = NoiseLoss(table, self.prediction, schedule)

    def place(self, device: torch.device) -> None:
        """Keep the latents and captions where the network is, so that no step waits for a transfer."""
        self.train, self.held_out = self.train.to(device), self.held_out.to(device)
        self.empty = self.empty.to(device)

    def players(self) -> list[Player]:
        """U-Net and text tower, trained together."""
        return [Player("denoiser", self.model, self._loss)]

    def size(self) -> int:
        return len(self.train)

    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        generator = batch.generator
        indices = batch.indices.to(generator.device)
        captions, count = self.train.captions[indices], len(indices)
        variant = torch.randint(captions.shape[1], (count,), generator=generator, device=generator.device)
        chosen = captions[torch.arange(count, device=generator.device), variant]
        dropped = torch.rand(count, generator=generator, device=generator.device) < self.table.caption_dropout
        ids = torch.where(dropped[:, None], self.empty, chosen)
        return {"loss": self._error(module, self.train.latents[indices], ids, generator)}

    def _error(self, module: nn.Module, latents: Tensor, ids: Tensor, generator: torch.Generator) -> Tensor:
        """The mean error of the predictions, one noise level for each picture."""
        return self.loss(lambda x, timestep: module(x, timestep, ids), latents.float(), generator).mean()

    def validate(self) -> dict[str, float]:
        """The loss on held-out pictures at fixed noise: comparable from step to step and run to run."""
        generator = torch.Generator(self.empty.device).manual_seed(1)
        forward = Uncompiled(self.model)
        latents, ids = self.held_out.latents[:512], self.held_out.captions[:512, 0]
        pairs = zip(latents.split(64), ids.split(64), strict=True)
        total = sum(float(self._error(forward, x, t, generator)) * len(x) for x, t in pairs)
        return {"held_out_loss": total / len(latents)}

    def sample(self) -> Image.Image:
        """A labelled sheet of the prompts: Euler, 16 steps, the default guidance, seeds 0, 1, 2 ..."""
        device = self.empty.device
        wanted, unwanted = self.prompts.ids.to(device), self.empty.expand(len(self.prompts.ids), -1)

        def network(ids: Tensor, x: Tensor, timestep: Tensor) -> Tensor:
            out: Tensor = self.model.forward(x, timestep.expand(len(x)), ids)
            return out

        def denoiser(ids: Tensor) -> NetworkDenoiser:
            return NetworkDenoiser(partial(network, ids), self.schedule, self.prediction)

        def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            first, second = denoiser(torch.cat([wanted, unwanted]))(torch.cat([x, x]), sigma).chunk(2)
            return first, second

        noise = PictureNoise(range(len(wanted)))
        sigmas = spaced_sigmas(self.spec.default_spacing, _SAMPLE_STEPS, self.schedule)
        start = self.prediction.start(noise.draw(self.train.latents.shape[1:]), sigmas[0]).to(device)
        denoise = guided(pair, denoiser(wanted), self.spec.default_guidance)
        options = SamplerOptions(coordinates=self.schedule.coordinates)
        latents = start
        for step in find_sampler("euler").function(denoise, start, sigmas, noise, options):
            latents = step.x
        self.autoencoder.to(device)
        pixels = self.autoencoder.decode(latents / self.spec.latent_scale + self.spec.latent_shift).float()
        return grid([tensor_to_pil(entry) for entry in pixels], columns=8, labels=list(self.prompts.texts))

    def save(self, folder: Path) -> None:
        """Write U-Net and text tower into the model folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for module, file in ((self.model.unet, UNET_FILE), (self.model.tower, TOWER_FILE)):
            tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
            write_tensors(folder / file, tensors, {"format": "pt"})
