"""The patch discriminator that sharpens the autoencoder (Isola et al. 2017, section 3.2.2; Esser et al. 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from rein.nn.specs import DiscriminatorConfig


class PatchDiscriminator(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] -> realness scores (B, 1, h, w), one for each overlapping patch.

    Group norm stands where the papers have batch norm, so that the score of a picture does not depend on its batch.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        layers: list[nn.Module] = [nn.Conv2d(config.picture_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for index in range(1, config.layers + 1):
            wider = config.channels * min(2**index, 8)
            stride = 2 if index < config.layers else 1
            layers += [nn.Conv2d(width, wider, 4, stride, 1, bias=False), nn.GroupNorm(16, wider), nn.LeakyReLU(0.2)]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, 1, 1))
        self.main = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.main(pixels)
        return out
