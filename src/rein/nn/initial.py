"""First weights for training from scratch. Files loaded later replace them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from rein.errors import InputError
from rein.nn.attention import SpatialTransformer
from rein.nn.clip import TextLayer, TextTower
from rein.nn.layers import ResidualBlock
from rein.nn.specs import UNetConfig
from rein.nn.unet import UNet


def initialise_unet(unet: UNet) -> UNet:
    """Residual branches and the output start at zero, so that the network starts simple.

    Source: Dhariwal & Nichol 2021, appendix.
    """
    for module in unet.modules():
        if isinstance(module, ResidualBlock):
            _zero(module.conv2)
        elif isinstance(module, SpatialTransformer):
            _zero(module.proj_out)
    _zero(unet.conv_out)
    return unet


def initialise_tower(tower: TextTower) -> TextTower:
    """CLIP's initialisation (Radford et al. 2021, section 2.5): small embeddings, residual branches scaled by depth."""
    width, layers = tower.config.width, tower.config.layers
    nn.init.normal_(tower.text_model.embeddings.token_embedding.weight, std=0.02)
    nn.init.normal_(tower.text_model.embeddings.position_embedding.weight, std=0.01)
    for layer in cast(Iterable[TextLayer], tower.text_model.encoder.layers):
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)
        nn.init.normal_(layer.self_attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(layer.mlp.fc1.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(layer.mlp.fc2.weight, std=width**-0.5 * (2 * layers) ** -0.5)
    return tower


def widened(unet: UNet, config: UNetConfig) -> UNet:
    """A copy of `unet` that takes more input channels, as `config` says; what they show has no effect yet.

    Raises:
        InputError: `config` differs from the network's in more than the number of input channels, or has fewer.
    """
    more = config.in_channels - unet.config.in_channels
    if more < 0 or replace(config, in_channels=unet.config.in_channels) != unet.config:
        raise InputError(f"in_channels is {config.in_channels}: this is not the base's shape with more of them")
    state = {name: tensor.detach().clone() for name, tensor in unet.state_dict().items()}
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([first, first.new_zeros(first.shape[0], more, *first.shape[2:])], dim=1)
    wider = UNet(config)
    wider.load_state_dict(state)
    return wider


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
