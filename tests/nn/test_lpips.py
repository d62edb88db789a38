"""LPIPS against the implementation in torchmetrics, with the learned weights that it ships."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from rein.nn.lpips import ALEXNET, BACKBONES, VGG16, Backbone, Lpips

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.functional.image import lpips as peer

LEARNED = Path(peer.__file__).parent / "lpips_models"
NAMES: dict[str, Literal["alex", "vgg"]] = {"alexnet": "alex", "vgg16": "vgg"}


def backbone(name: str, seed: int = 0) -> nn.Sequential:
    """torchvision's `features` of a network, with seeded weights."""
    torch.manual_seed(seed)
    if name == "alexnet":
        wide = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()]
        wide += [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1)]
        return nn.Sequential(*wide, nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
    layers: list[nn.Module] = []
    current = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(current, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
        current = width or current
    return nn.Sequential(*layers)


def filled(row: Backbone, body: nn.Sequential, learned: dict[str, torch.Tensor]) -> Lpips:
    """Our network with the weights of both."""
    network = Lpips(row)
    state = {f"features.{name}": value for name, value in body.state_dict().items()}
    state |= {name.replace(".model.1", ""): value[:, :, 0, 0] for name, value in learned.items()}
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)
def test_it_equals_the_peer_with_the_published_weights(row: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    body = backbone(row.name)
    # The peer takes its backbones from torchvision, which is not installed: it is given the same layers.
    monkeypatch.setattr(peer, "_get_tv_model_features", lambda net, pretrained=False: body)
    monkeypatch.setattr(torch, "load", functools.partial(torch.load, map_location="cpu"))
    theirs = peer._LPIPS(pretrained=True, net=NAMES[row.name], pnet_rand=True)
    learned = torch.load(LEARNED / f"{NAMES[row.name]}.pth", weights_only=True)
    ours = filled(row, body, learned)
    first, second = (torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (1, 2))
    found = ours(first, second)
    assert found.shape == (2,) and float(found.min()) > 0
    torch.testing.assert_close(found, theirs(first, second).flatten(), rtol=1e-3, atol=1e-6)
    assert torch.equal(ours(first, first), torch.zeros(2))


def test_the_states_that_are_compared_are_the_published_ones() -> None:
    for row, widths in ((ALEXNET, [64, 192, 384, 256, 256]), (VGG16, [64, 128, 256, 512, 512])):
        with torch.device("meta"):
            network = Lpips(row)
        heads = [network.get_submodule(f"lin{place}").get_parameter("weight").shape[1] for place in range(5)]
        assert heads == widths
        assert all(isinstance(network.features[place], nn.ReLU) for place in row.taps)
        assert max(row.taps) == len(network.features) - 1
