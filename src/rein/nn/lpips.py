"""LPIPS: how different two pictures look, by what a network that knows things sees in them (Zhang et al. 2018).

The states of AlexNet or VGG-16 after five of their ReLUs are scaled to length 1 at each place, their squared
differences weighted by channel with learned weights, and averaged over the picture. Parameters carry the names of the
published files: `features.0.weight` of torchvision's backbone, `lin0` for the weights of the first state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the pictures that the backbones were trained on, for levels from -1 to 1."""

_TINY = 1e-10


@dataclass(frozen=True)
class Backbone:
    """A convolutional network up to its last state that is looked at.

    Fields:
        layers: channels, kernel, stride and padding of each convolution, a ReLU after it; or None, a pooling.
        pool: kernel and stride of the poolings.
        taps: the places in the sequence, ReLUs counted, whose states are compared.
    """

    name: str
    layers: tuple[tuple[int, int, int, int] | None, ...]
    pool: tuple[int, int]
    taps: tuple[int, ...]


def _vgg(*groups: tuple[int, int]) -> tuple[tuple[int, int, int, int] | None, ...]:
    layers: list[tuple[int, int, int, int] | None] = []
    for width, count in groups:
        layers += [*([(width, 3, 1, 1)] * count), None]
    return tuple(layers[:-1])


ALEXNET = Backbone(
    "alexnet",
    ((64, 11, 4, 2), None, (192, 5, 1, 2), None, (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
    (3, 2),
    (1, 4, 7, 9, 11),
)
VGG16 = Backbone("vgg16", _vgg((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), (2, 2), (3, 8, 15, 22, 29))
BACKBONES = (ALEXNET, VGG16)


class Lpips(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] and others like them to their distances (B,)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        modules: list[nn.Module] = []
        current, widths = 3, []
        for layer in backbone.layers:
            if layer is None:
                modules.append(nn.MaxPool2d(*backbone.pool))
                continue
            modules += [nn.Conv2d(current, *layer), nn.ReLU()]
            current = layer[0]
            if len(modules) - 1 in backbone.taps:
                widths.append(current)
        self.features = nn.Sequential(*modules)
        for place, width in enumerate(widths):
            self.add_module(f"lin{place}", nn.Linear(width, 1, bias=False))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        total = first.new_zeros(len(first))
        for place, (one, other) in enumerate(zip(self._states(first), self._states(second), strict=True)):
            weights = self.get_submodule(f"lin{place}").get_parameter("weight")
            total = total + functional.conv2d((one - other).square(), weights[:, :, None, None]).mean(dim=(1, 2, 3))
        return total

    def _states(self, pixels: Tensor) -> list[Tensor]:
        """The states that are compared, each of length 1 at every place."""
        shift, scale = (torch.tensor(v, device=pixels.device)[None, :, None, None] for v in (_SHIFT, _SCALE))
        x, found = (pixels - shift) / scale, []
        for place, module in enumerate(self.features):
            x = module(x)
            if place in self.backbone.taps:
                found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + _TINY))
        return found
