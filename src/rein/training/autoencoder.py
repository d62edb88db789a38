"""Training the autoencoder: reconstruction, a little KL, and a patch discriminator in the last part.

Source of the recipe: Esser et al. 2021 (adaptive adversarial weight, eq. 7), Rombach et al. 2022, appendix G.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from rein.errors import InputError
from rein.formats.tensors import write_tensors
from rein.images import grid, psnr, tensor_to_pil
from rein.nn.autoencoder import Autoencoder
from rein.nn.discriminator import PatchDiscriminator
from rein.nn.specs import AutoencoderConfig, DiscriminatorConfig
from rein.training.objective import Batch, Losses, Player
from rein.training.tables import AutoencoderTable

Pictures = NDArray[np.uint8]
FILE_NAME = "autoencoder.safetensors"
_DECODER = ("decoder.", "post_quant_conv.")
"""How the names of the parameters between latents and pixels begin."""


class AutoencoderObjective:
    """Teaches an autoencoder to reproduce `pictures` (N, H, W, 3) uint8; `held_out` are for validation and samples.

    With `start` a copy of that one goes on: its decoder alone, unless the table says otherwise, so that its latents
    stay what the denoiser beside it knows.

    Raises:
        InputError: the decoder alone is to learn, and there is no encoder to go on from.
    """

    name = "autoencoder"

    def __init__(
        self,
        config: AutoencoderConfig,
        table: AutoencoderTable,
        pictures: Pictures,
        held_out: Pictures,
        start: Autoencoder | None = None,
    ) -> None:
        self.table, self.pictures, self.held_out = table, pictures, held_out
        self.begun = start is not None
        learns = table.learns or ("decoder" if self.begun else "all")
        if learns == "decoder" and not self.begun:
            raise InputError('learns = "decoder" leaves the encoder as it is: name a model to go on from, model.start')
        with torch.random.fork_rng(devices=[]):  # the first weights are the seed's; the caller's random numbers stay
            torch.manual_seed(table.seed)
            self.autoencoder = Autoencoder(config)
            self.discriminator = PatchDiscriminator(DiscriminatorConfig(channels=table.discriminator_channels))
        if start is not None:
            self.autoencoder.load_state_dict(start.state_dict())
        if learns == "decoder":
            self.autoencoder.requires_grad_(False)
            for name, parameter in self.autoencoder.named_parameters():
                parameter.requires_grad_(name.startswith(_DECODER))
        self._placed: Tensor | None = None
        self.adversarial_step = round(table.adversarial_from * table.steps)
        self._adversarial = table.adversarial_weight > 0 and self.adversarial_step < table.steps

    def place(self, device: torch.device) -> None:
        """On a GPU the pictures are kept there as bytes; on the CPU they stay mapped from their file."""
        if device.type != "cpu":
            self._placed = torch.from_numpy(np.ascontiguousarray(self.pictures)).to(device)

    def players(self) -> list[Player]:
        """The autoencoder, and from its step on the discriminator."""
        players = [Player("autoencoder", self.autoencoder, self._loss)]
        if self._adversarial:
            judge = Player("discriminator", self.discriminator, self._judge, self.adversarial_step, averaged=False)
            players.append(judge)
        return players

    def size(self) -> int:
        return len(self.pictures)

    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        pixels = self._pixels(self.pictures, batch.indices)
        judged = self._adversarial and batch.step >= self.adversarial_step
        # The balance goes back through both networks twice, which their compiled forms refuse.
        rebuilt, distribution = (module.forward if judged else module)(pixels, self._noise(batch))
        rebuilt = rebuilt.float()
        error, edges = (rebuilt - pixels).abs().mean(), gradient_difference(rebuilt, pixels)
        kl = distribution.kl().float().mean() / distribution.mean[0].numel()
        loss = error + self.table.gradient_weight * edges + self.table.kl_weight * kl
        losses = {"l1": error, "gradient": edges, "kl": kl}
        if judged:
            adversarial = -self.discriminator.forward(rebuilt).float().mean()
            loss = loss + self.table.adversarial_weight * self._balance(loss, adversarial) * adversarial
            losses["adversarial"] = adversarial
        return {"loss": loss, **losses}

    def _judge(self, module: nn.Module, batch: Batch) -> Losses:
        """Hinge loss of the discriminator between real pictures and reconstructions."""
        pixels = self._pixels(self.pictures, batch.indices)
        with torch.no_grad():
            rebuilt, _ = self.autoencoder.forward(pixels, self._noise(batch))
        real, made = module(pixels).float(), module(rebuilt.float()).float()
        return {"loss": 0.5 * (functional.relu(1.0 - real).mean() + functional.relu(1.0 + made).mean())}

    def _balance(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """Ratio of the two gradients at the last layer: it keeps the adversary from drowning the reconstruction."""
        last = self.autoencoder.decoder.conv_out.weight
        wanted = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].float().norm()
        adverse = torch.autograd.grad(adversarial, last, retain_graph=True)[0].float().norm()
        balance: Tensor = (wanted / (adverse + 1e-4)).clamp(max=1e4)
        return balance.detach()

    def _noise(self, batch: Batch) -> Tensor:
        config = self.autoencoder.config
        height, width = (side // config.downscale for side in self.pictures.shape[1:3])
        shape = (len(batch.indices), config.latent_channels, height, width)
        return torch.randn(shape, generator=batch.generator, device=batch.generator.device)

    def _pixels(self, pictures: Pictures, indices: Tensor) -> Tensor:
        if self._placed is not None and pictures is self.pictures:
            chosen = self._placed[indices.to(self._placed.device)]
        else:
            chosen = torch.from_numpy(pictures[indices.numpy()]).to(self._device)
        scaled = chosen.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return scaled.contiguous(memory_format=torch.channels_last)

    @property
    def _device(self) -> torch.device:
        return self.autoencoder.quant_conv.weight.device

    def _rebuilt(self, count: int) -> tuple[Tensor, Tensor]:
        """Held-out pictures and their reconstructions, past a compiled form, which would be compiled again."""
        pixels = self._pixels(self.held_out, torch.arange(min(count, len(self.held_out))))
        return pixels, torch.cat([self.autoencoder.forward(part)[0].float() for part in pixels.split(32)])

    def validate(self) -> dict[str, float]:
        """Mean PSNR in dB over 256 held-out pictures, in fp32."""
        pixels, rebuilt = self._rebuilt(256)
        return {"psnr": float(psnr(rebuilt, pixels).mean())}

    def sample(self) -> Image.Image:
        """Held-out pictures above their reconstructions."""
        pixels, rebuilt = self._rebuilt(8)
        return grid([tensor_to_pil(entry) for entry in torch.cat([pixels, rebuilt])], columns=len(pixels))

    def save(self, folder: Path) -> None:
        """Write the autoencoder. One that began with nothing gets latents of mean 0 and variance 1 over the pictures in
        every channel; another keeps the scale of those that it began with.
        """
        made = self.autoencoder if self.begun else self.whitened()
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in made.state_dict().items()}
        write_tensors(folder / FILE_NAME, tensors, {"format": "pt"})

    @torch.no_grad()
    def whitened(self, count: int = 2048) -> Autoencoder:
        """A copy on the CPU whose 1x1 convolutions around the latents carry the scaling.

        No number is needed beside it. The statistics are those of `count` pictures, evenly spread.
        """
        indices = torch.linspace(0, len(self.pictures) - 1, min(count, len(self.pictures))).long()
        parts = [self.autoencoder.encode(self._pixels(self.pictures, part)).mean for part in indices.split(32)]
        latents = torch.cat(parts).float().cpu()
        mean = latents.mean((0, 2, 3))
        deviation = latents.std((0, 2, 3)).clamp(min=1e-4)  # a channel that the KL term has emptied stays small
        whitened = copy.deepcopy(self.autoencoder).cpu()
        outer, inner = whitened.quant_conv, whitened.post_quant_conv
        channels = len(mean)
        outer.weight[:channels] /= deviation[:, None, None, None]
        assert outer.bias is not None and inner.bias is not None
        outer.bias[:channels] = (outer.bias[:channels] - mean) / deviation
        outer.bias[channels:] -= 2 * deviation.log()
        inner.bias += inner.weight[:, :, 0, 0] @ mean
        inner.weight *= deviation[None, :, None, None]
        return whitened


def gradient_difference(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical pixel differences: it rewards edges in their place."""
    across = (made.diff(dim=-1) - real.diff(dim=-1)).abs().mean()
    down = (made.diff(dim=-2) - real.diff(dim=-2)).abs().mean()
    return across + down
