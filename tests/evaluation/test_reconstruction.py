import math

import numpy as np
import pytest
import torch

from rein.data.compose import ArtDataset
from rein.data.icons import IconArt
from rein.evaluation.reconstruction import reconstruction_psnr
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import AutoencoderConfig


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
