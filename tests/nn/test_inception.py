"""FID's Inception against a forward written from the published port's description, with functions only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rein.nn.inception import CLASSES, WIDTH, Inception, inception_input

State = dict[str, Tensor]

PUBLISHED = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_2a_3x3.bn.running_mean": (32,),
    "Conv2d_3b_1x1.conv.weight": (80, 64, 1, 1),
    "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
    "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
    "Mixed_5c.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
    "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
    "Mixed_6e.branch7x7dbl_2.conv.weight": (192, 192, 7, 1),
    "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
    "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "Mixed_7c.branch_pool.bn.weight": (192,),
    "fc.weight": (1008, 2048),
    "fc.bias": (1008,),
}
"""Some names and shapes of the published file."""


def seeded_state(seed: int = 0) -> State:
    """Random weights in the published layout, of a scale that neither dies nor explodes on the way."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Inception().state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            state[name] = 1 + 0.3 * noise.abs()
        elif name.endswith("bn.weight"):
            state[name] = 1 + 0.1 * noise
        elif len(shape) > 1:
            state[name] = noise * (2 / noise[0].numel()) ** 0.5
        else:
            state[name] = 0.1 * noise
    return state


class Reference:
    """The network as a walk through its description: every layer is one call with its own stride and padding."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, x: Tensor, name: str, stride: int = 1, pad: int | tuple[int, int] = 0) -> Tensor:
        s = self.state
        x = functional.conv2d(x, s[f"{name}.conv.weight"], None, stride, pad)
        mean, variance = (s[f"{name}.bn.{part}"][None, :, None, None] for part in ("running_mean", "running_var"))
        gain, shift = (s[f"{name}.bn.{part}"][None, :, None, None] for part in ("weight", "bias"))
        return ((x - mean) / (variance + 0.001).sqrt() * gain + shift).clamp(min=0)

    def a(self, x: Tensor, n: str) -> Tensor:
        five = self.conv(self.conv(x, f"{n}.branch5x5_1"), f"{n}.branch5x5_2", pad=2)
        three = self.conv(self.conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", pad=1)
        three = self.conv(three, f"{n}.branch3x3dbl_3", pad=1)
        return torch.cat([self.conv(x, f"{n}.branch1x1"), five, three, self.mean(x, n)], 1)

    def mean(self, x: Tensor, n: str) -> Tensor:
        ones = torch.ones_like(x[:1, :1])
        sums = functional.avg_pool2d(x, 3, 1, 1, divisor_override=1)
        counts = functional.avg_pool2d(ones, 3, 1, 1, divisor_override=1)
        return self.conv(sums / counts, f"{n}.branch_pool")

    def b(self, x: Tensor, n: str) -> Tensor:
        three = self.conv(self.conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", pad=1)
        three = self.conv(three, f"{n}.branch3x3dbl_3", 2)
        return torch.cat([self.conv(x, f"{n}.branch3x3", 2), three, functional.max_pool2d(x, 3, 2)], 1)

    def c(self, x: Tensor, n: str) -> Tensor:
        seven = self.conv(self.conv(x, f"{n}.branch7x7_1"), f"{n}.branch7x7_2", pad=(0, 3))
        seven = self.conv(seven, f"{n}.branch7x7_3", pad=(3, 0))
        double = self.conv(self.conv(x, f"{n}.branch7x7dbl_1"), f"{n}.branch7x7dbl_2", pad=(3, 0))
        double = self.conv(double, f"{n}.branch7x7dbl_3", pad=(0, 3))
        double = self.conv(double, f"{n}.branch7x7dbl_4", pad=(3, 0))
        double = self.conv(double, f"{n}.branch7x7dbl_5", pad=(0, 3))
        return torch.cat([self.conv(x, f"{n}.branch1x1"), seven, double, self.mean(x, n)], 1)

    def d(self, x: Tensor, n: str) -> Tensor:
        three = self.conv(self.conv(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2", 2)
        seven = self.conv(self.conv(x, f"{n}.branch7x7x3_1"), f"{n}.branch7x7x3_2", pad=(0, 3))
        seven = self.conv(seven, f"{n}.branch7x7x3_3", pad=(3, 0))
        seven = self.conv(seven, f"{n}.branch7x7x3_4", 2)
        return torch.cat([three, seven, functional.max_pool2d(x, 3, 2)], 1)

    def e(self, x: Tensor, n: str, pooled: Tensor) -> Tensor:
        def split(y: Tensor, name: str) -> Tensor:
            return torch.cat([self.conv(y, f"{name}a", pad=(0, 1)), self.conv(y, f"{name}b", pad=(1, 0))], 1)

        three = split(self.conv(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2")
        double = self.conv(self.conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", pad=1)
        double = split(double, f"{n}.branch3x3dbl_3")
        return torch.cat([self.conv(x, f"{n}.branch1x1"), three, double, pooled], 1)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(self.conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3")
        x = functional.max_pool2d(self.conv(x, "Conv2d_2b_3x3", pad=1), 3, 2)
        x = functional.max_pool2d(self.conv(self.conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(x, name)
        x = self.b(x, "Mixed_6a")
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.c(x, name)
        x = self.d(x, "Mixed_7a")
        x = self.e(x, "Mixed_7b", self.mean(x, "Mixed_7b"))
        x = self.e(x, "Mixed_7c", self.conv(functional.max_pool2d(x, 3, 1, 1), "Mixed_7c.branch_pool"))
        features = x.flatten(2).mean(dim=2)
        return features, features @ self.state["fc.weight"].T


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        state = Inception().state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    convolutions = [name for name in state if name.endswith("conv.weight")]
    assert len(convolutions) == 94
    assert len(state) == 94 * 5 + 2
    # torchvision's Inception v3 has 27,161,264 parameters, 3,326,696 of them in the side branch that is not here.
    parameters = sum(value.numel() for name, value in state.items() if "running" not in name)
    assert parameters == 27_161_264 - 3_326_696 + 8 * (WIDTH + 1)


@torch.no_grad()
def test_it_computes_what_the_description_says() -> None:
    state = seeded_state()
    with torch.device("meta"):
        network = Inception()
    network.load_state_dict(state, assign=True)
    pixels = torch.rand(1, 3, 299, 299, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features, logits = network.eval()(pixels)
    wanted, scores = Reference(state)(pixels)
    assert features.shape == (1, WIDTH) and logits.shape == (1, CLASSES)
    assert float(wanted.std()) > 0.05
    torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, scores, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (299, 299), (400, 300)])
def test_its_input_is_resized_without_smoothing(size: tuple[int, int]) -> None:
    pixels = torch.rand(1, 3, *size)
    out = inception_input(pixels)
    assert out.shape == (1, 3, 299, 299)
    if size == (299, 299):
        assert torch.equal(out, pixels)
    else:  # the pixel in the middle is that of the original's middle, whatever lies round it
        y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
        near = pixels[0, :, int(y) : int(y) + 2, int(x) : int(x) + 2].mean(dim=(1, 2))
        torch.testing.assert_close(out[0, :, 149, 149], near, rtol=1e-4, atol=1e-4)
