"""Noise that depends on a picture's seed and on nothing else."""

from __future__ import annotations

import pytest
import torch

from rein.diffusion.noise import PictureNoise, picture_noise
from rein.diffusion.philox import PhiloxGenerator
from rein.errors import InputError

SHAPE = (4, 32, 32)


def test_a_picture_has_its_noise_alone_and_in_any_batch() -> None:
    alone = [PictureNoise([seed]) for seed in (5, 0, 9)]
    together, reversed_order = PictureNoise([5, 0, 9]), PictureNoise([9, 0, 5])
    for _ in range(3):
        drawn = together.draw(SHAPE)
        assert torch.equal(drawn, torch.cat([noise.draw(SHAPE) for noise in alone]))
        assert torch.equal(drawn.flip(0), reversed_order.draw(SHAPE))


def test_seed_zero_is_a_seed_like_any_other() -> None:
    drawn = [PictureNoise([seed]).draw(SHAPE) for seed in (0, 1, 2**31, 2**32 - 1)]
    assert torch.equal(drawn[0], PictureNoise([0]).draw(SHAPE))
    for i, one in enumerate(drawn):
        assert all(not torch.equal(one, other) for other in drawn[i + 1 :])


def test_draws_follow_one_another_and_are_normal() -> None:
    noise = PictureNoise([3])
    drawn = torch.cat([noise.draw(SHAPE) for _ in range(50)])
    assert not torch.equal(drawn[0], drawn[1])
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)
    assert float(drawn.std()) == pytest.approx(1, abs=0.01)
    assert float((drawn[:-1] * drawn[1:]).mean()) == pytest.approx(0, abs=0.01)


def test_pytorchs_own_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = PictureNoise([3]).draw(SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(PictureNoise([3]).draw(SHAPE), first)


def test_as_a_source_it_follows_the_latents_it_is_for() -> None:
    like = torch.empty(2, *SHAPE, dtype=torch.float64)
    drawn = PictureNoise([1, 2])(like)
    assert (drawn.shape, drawn.dtype) == (like.shape, like.dtype)
    assert torch.equal(drawn.float(), PictureNoise([1, 2]).draw(SHAPE))


def test_a_seed_must_be_a_whole_number_in_range() -> None:
    with pytest.raises(InputError, match="seed is -1"):
        PictureNoise([0, -1])


def test_as_many_pictures_as_seeds() -> None:
    with pytest.raises(AssertionError, match="3 pictures, 2 seeds"):
        PictureNoise([1, 2])(torch.empty(3, *SHAPE))


def test_each_source_has_its_own_numbers() -> None:
    cpu, philox = (picture_noise(source, [5, 6]) for source in ("cpu", "philox"))
    assert (cpu.source, philox.seeds) == ("cpu", (5, 6))
    assert torch.equal(cpu.draw(SHAPE), PictureNoise([5, 6]).draw(SHAPE))
    drawn = philox.draw(SHAPE)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[1], torch.from_numpy(PhiloxGenerator(6).normal(SHAPE)))
    assert not torch.equal(drawn, PictureNoise([5, 6]).draw(SHAPE))
    assert not torch.equal(philox.draw(SHAPE), drawn), "the generators move on"
