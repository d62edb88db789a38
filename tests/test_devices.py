"""Devices, number formats and seeds."""

import pytest
import torch

from rein.devices import MAX_SEED, choose_device, choose_dtype, fresh_seed, seeded_generator
from rein.errors import InputError


def test_a_device_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(" CPU ") == torch.device("cpu")
    assert choose_device("cpu:0") == torch.device("cpu:0")


def test_the_best_device_is_taken_by_default() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device() == choose_device("auto") == torch.device(best)


@pytest.mark.parametrize(
    "name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cpu:1", "cuda:99999999999999999999"]
)
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device") as caught:
        choose_device(name)
    assert repr(name) in str(caught.value)


def test_a_number_format_by_name() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype(None, cpu) == choose_dtype("auto", cpu) == choose_dtype("fp32", cpu) == torch.float32
    assert choose_dtype("bf16", cpu) == choose_dtype("bfloat16", cpu) == torch.bfloat16
    assert choose_dtype("FP16", cpu) == torch.float16
    with pytest.raises(InputError, match=r"unknown number format 'float61': did you mean 'float16'\?"):
        choose_dtype("float61", cpu)


def test_a_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    def draw(seed: int) -> torch.Tensor:
        return torch.randn(8, generator=seeded_generator(seed))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert not torch.equal(draw(MAX_SEED), draw(MAX_SEED - 1))


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.0, True, "1", None, float("nan")])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(InputError, match=r"seed is .*whole number from 0 to"):
        seeded_generator(seed)  # type: ignore[arg-type]


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    torch.randn(3, generator=seeded_generator(5))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fresh_seeds_are_short_and_differ() -> None:
    seeds = [fresh_seed() for _ in range(50)]
    assert len(set(seeds)) > 45
    assert all(0 <= seed < 2**32 for seed in seeds)
