import math

import numpy as np
import pytest
import torch

from rein.data.compose import ArtDataset
from rein.data.icons import IconArt
from rein.evaluation.reconstruction import BEST, psnr, reconstruction_psnr
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import AutoencoderConfig


def test_psnr_by_hand() -> None:
    real = torch.full((3, 3, 4, 4), 128 / 127.5 - 1)
    made = real.clone()
    made[1] += 2 / 255 * 3  # three levels everywhere
    made[2, :, 0, 0] = 5.0  # clipped to 1: from level 128 to 255
    values = psnr(made, real)
    assert values[0] == BEST
    assert values[1].item() == pytest.approx(20 * math.log10(255 / 3), abs=1e-4)
    assert values[2].item() == pytest.approx(10 * math.log10(255**2 / (127**2 / 16)), abs=1e-4)


def test_an_autoencoder_is_measured_picture_by_picture(art: IconArt) -> None:
    torch.manual_seed(0)
    config = AutoencoderConfig(
        latent_channels=2, channels=(8, 8), blocks_per_level=1, norm_groups=4, middle_attention=False
    )
    autoencoder = Autoencoder(config)
    dataset = ArtDataset(art.options, "validation", art)
    pictures = np.stack([dataset.picture(index).pixels for index in range(20)])
    *_, values = reconstruction_psnr(autoencoder, pictures)
    assert len(values) == 20
    with torch.no_grad():
        pixels = torch.from_numpy(pictures[17:18]).permute(0, 3, 1, 2).float() / 127.5 - 1
        made = autoencoder(pixels)[0].clamp(-1, 1)
    levels = ((made + 1) * 127.5).round().numpy()[0].transpose(1, 2, 0)
    error = np.mean((levels - pictures[17].astype(np.float64)) ** 2)
    assert values[17] == pytest.approx(10 * math.log10(255**2 / error), abs=1e-3)
