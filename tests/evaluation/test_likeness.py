"""How alike two pictures are, against torchmetrics."""

from __future__ import annotations

import warnings

import pytest
import torch

from rein.errors import InputError
from rein.evaluation.likeness import ssim
from rein.images import psnr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def test_it_equals_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 3, 40, 52, generator=generator) * 2 - 1
    second = (first + 0.3 * torch.randn(first.shape, generator=generator)).clamp(-1, 1)
    one, other = (((pixels + 1) * 127.5).round() for pixels in (first, second))
    wanted = structural_similarity_index_measure(one, other, data_range=255.0, reduction="none")
    assert isinstance(wanted, torch.Tensor)
    torch.testing.assert_close(ssim(first, second), wanted, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ssim(first, first), torch.ones(3))


def test_the_signal_to_noise_ratio_equals_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(1)
    first = torch.rand(3, 3, 12, 20, generator=generator) * 2 - 1
    second = first + torch.tensor([0.02, 0.2, 1.0])[:, None, None, None] * torch.randn(first.shape, generator=generator)
    one, other = (((pixels.clamp(-1, 1) + 1) * 127.5).round() for pixels in (first, second))
    wanted = peak_signal_noise_ratio(one, other, data_range=255.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(first, second), wanted, rtol=1e-3, atol=0)


def test_a_smaller_picture_than_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="a picture is 40 x 10: structural similarity needs 11 pixels a side"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
