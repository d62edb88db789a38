"""At full size, on the meta device: the published parameter counts, names and shapes."""

from collections.abc import Callable
from functools import partial

import pytest
from diffusers import AutoencoderTiny
from torch import nn

from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import (
    POCKET,
    SD15,
    SD21,
    SD21_BASE,
    SDXL,
    SDXL_REFINER,
    TAESD,
    VARIANTS,
    TextTowerConfig,
)
from rein.nn.unet import UNet
from tests.nn.peers import (
    AUTOENCODER_SD,
    TOWER_G,
    TOWER_H,
    TOWER_L,
    UNET_POCKET,
    UNET_REFINER,
    UNET_SD2,
    UNET_SD15,
    UNET_SDXL,
    autoencoder_peer,
    native_state,
    on_meta,
    shapes,
    tower_peer,
    unet_peer,
)

TOWER_VIT_L, TOWER_VIT_H = SD15.towers[0], SD21_BASE.towers[0]
TOWER_BIG_G = SDXL.towers[1]

Build = Callable[[], nn.Module]

COUNTS: dict[str, tuple[Build, int]] = {
    "SD1.5 U-Net": (partial(UNet, SD15.unet), 859_520_964),
    "SD2 U-Net": (partial(UNet, SD21_BASE.unet), 865_910_724),
    "SDXL U-Net": (partial(UNet, SDXL.unet), 2_567_463_684),
    "SD1.5 inpainting U-Net": (partial(UNet, VARIANTS["sd15-inpainting"].unet), 859_535_364),
    "SD2 inpainting U-Net": (partial(UNet, VARIANTS["sd2-inpainting"].unet), 865_925_124),
    "SD2 depth U-Net": (partial(UNet, VARIANTS["sd2-depth"].unet), 865_913_604),
    "SDXL inpainting U-Net": (partial(UNet, VARIANTS["sdxl-inpainting"].unet), 2_567_478_084),
    "SD1.5 instruct-pix2pix U-Net": (partial(UNet, VARIANTS["sd15-instruct-pix2pix"].unet), 859_532_484),
    "SDXL instruct-pix2pix U-Net": (partial(UNet, VARIANTS["sdxl-instruct-pix2pix"].unet), 2_567_475_204),
    "SDXL refiner U-Net": (partial(UNet, SDXL_REFINER.unet), 2_259_526_660),
    "TAESD": (partial(Autoencoder, TAESD), 2_445_063),
    "SD autoencoder": (partial(Autoencoder, SD15.autoencoder), 83_653_863),
    "CLIP ViT-L text": (partial(TextTower, TOWER_VIT_L), 123_060_480),
    "OpenCLIP ViT-H text": (partial(TextTower, TOWER_VIT_H), 340_387_840),
    "OpenCLIP bigG text": (partial(TextTower, TOWER_BIG_G), 694_659_840),
}
"""Published counts; an extra channel in costs 3 x 3 x 320 = 2,880 weights of the first convolution."""

PEERS: dict[str, tuple[Build, Build]] = {
    "SD1.5 U-Net": (partial(UNet, SD15.unet), partial(unet_peer, UNET_SD15)),
    "SD2 U-Net": (partial(UNet, SD21.unet), partial(unet_peer, UNET_SD2)),
    "SDXL U-Net": (partial(UNet, SDXL.unet), partial(unet_peer, UNET_SDXL)),
    "SD1.5 inpainting U-Net": (
        partial(UNet, VARIANTS["sd15-inpainting"].unet),
        partial(unet_peer, {**UNET_SD15, "in_channels": 9}),
    ),
    "SD2 inpainting U-Net": (
        partial(UNet, VARIANTS["sd2-inpainting"].unet),
        partial(unet_peer, {**UNET_SD2, "in_channels": 9}),
    ),
    "SD2 depth U-Net": (
        partial(UNet, VARIANTS["sd2-depth"].unet),
        partial(unet_peer, {**UNET_SD2, "in_channels": 5}),
    ),
    "SDXL inpainting U-Net": (
        partial(UNet, VARIANTS["sdxl-inpainting"].unet),
        partial(unet_peer, {**UNET_SDXL, "in_channels": 9}),
    ),
    "SD1.5 instruct-pix2pix U-Net": (
        partial(UNet, VARIANTS["sd15-instruct-pix2pix"].unet),
        partial(unet_peer, {**UNET_SD15, "in_channels": 8}),
    ),
    "SDXL instruct-pix2pix U-Net": (
        partial(UNet, VARIANTS["sdxl-instruct-pix2pix"].unet),
        partial(unet_peer, {**UNET_SDXL, "in_channels": 8}),
    ),
    "SDXL refiner U-Net": (partial(UNet, SDXL_REFINER.unet), partial(unet_peer, UNET_REFINER)),
    "TAESD": (partial(Autoencoder, TAESD), AutoencoderTiny),
    "pocket U-Net": (partial(UNet, POCKET.unet), partial(unet_peer, UNET_POCKET)),
    "SD autoencoder": (partial(Autoencoder, SD15.autoencoder), partial(autoencoder_peer, AUTOENCODER_SD)),
    "CLIP ViT-L text": (partial(TextTower, TOWER_VIT_L), partial(tower_peer, TOWER_L)),
    "OpenCLIP ViT-H text": (partial(TextTower, TOWER_VIT_H), partial(tower_peer, TOWER_H)),
    "OpenCLIP bigG text": (partial(TextTower, TOWER_BIG_G), partial(tower_peer, TOWER_G)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_parameter_count_is_the_published_one(name: str) -> None:
    build, published = COUNTS[name]
    assert sum(parameter.numel() for parameter in on_meta(build).parameters()) == published


@pytest.mark.parametrize("name", PEERS)
def test_names_and_shapes_are_those_of_the_published_folders(name: str) -> None:
    ours, theirs = (on_meta(build) for build in PEERS[name])
    assert shapes(ours.state_dict()) == shapes(native_state(theirs))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_builds_without_memory(name: str) -> None:
    spec = VARIANTS[name]
    builders: list[Build] = [partial(UNet, spec.unet), partial(Autoencoder, spec.autoencoder)]
    builders += [partial(TextTower, tower) for tower in spec.towers]
    for build in builders:
        assert {parameter.device.type for parameter in on_meta(build).parameters()} == {"meta"}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_parts_of_a_variant_fit_together(name: str) -> None:
    """The towers' states side by side are the U-Net's context; the last pooled vector is what it is given."""
    spec = VARIANTS[name]
    assert sum(tower.width for tower in spec.towers) == spec.unet.context_width
    assert spec.unet.out_channels == spec.autoencoder.latent_channels
    assert spec.native_size % (spec.autoencoder.downscale * 2 ** (len(spec.unet.channels) - 1)) == 0
    last = spec.towers[-1]
    assert spec.unet.pooled_width in (0, last.projection_width or last.width)


def test_extra_channels_are_what_the_tasks_need() -> None:
    extra = {name: spec.conditioning_channels for name, spec in VARIANTS.items()}
    assert {name: count for name, count in extra.items() if count} == {
        "sd15-inpainting": 5,
        "sd15-instruct-pix2pix": 4,
        "sd2-inpainting": 5,
        "sd2-depth": 1,
        "sdxl-inpainting": 5,
        "sdxl-instruct-pix2pix": 4,
        "pocket-depth": 1,
    }


def test_the_end_token_of_the_published_towers_is_clips() -> None:
    for tower in (TOWER_VIT_L, TOWER_VIT_H, TOWER_BIG_G):
        assert isinstance(tower, TextTowerConfig) and tower.end_token == 49_407
    assert [tower.pad_token for tower in (TOWER_VIT_L, TOWER_VIT_H, TOWER_BIG_G)] == [49_407, 0, 0]
