"""CUDA's noise: the generator against its authors' known answers, the numbers against those that others published."""

from __future__ import annotations

import numpy as np
import pytest

from rein.diffusion.philox import PhiloxGenerator, philox
from rein.errors import InputError

# Random123 1.14, file tests/kat_vectors, lines "philox4x32 10": counter, key, answer.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

# torch.randn(3, 4, device="cuda") after torch.manual_seed(0), as AUTOMATIC1111's documentation of its copy prints it.
PUBLISHED = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_known_answers_of_its_authors(counter: str, key: str, answer: str) -> None:
    first, second, third, fourth = (np.array([word] * 3, dtype=np.uint64) for word in words(counter))
    low, high = words(key)
    given = philox((first, second, third, fourth), (low, high))
    assert [word.tolist() for word in given] == [[word] * 3 for word in words(answer)]


def test_counters_do_not_touch_one_another() -> None:
    columns = [np.array(column, dtype=np.uint64) for column in zip(*(words(entry[0]) for entry in KNOWN), strict=True)]
    together = philox((columns[0], columns[1], columns[2], columns[3]), (5, 6))
    for place in range(len(KNOWN)):
        one, two, three, four = (column[place : place + 1] for column in columns)
        assert [word[0] for word in philox((one, two, three, four), (5, 6))] == [word[place] for word in together]


def test_the_published_numbers_of_a_gpu() -> None:
    drawn = PhiloxGenerator(0).normal((3, 4))
    assert drawn.dtype == np.float32
    # They were printed for an exact circle; that of float32, which CUDA has, is longer by 3e-8 of its length.
    assert np.abs(drawn - np.array(PUBLISHED)).max() < 4e-7


def test_a_number_depends_on_its_place_and_not_on_the_shape() -> None:
    whole = PhiloxGenerator(7).normal((4, 6, 5)).ravel()
    assert np.array_equal(PhiloxGenerator(7).normal((30,)), whole[:30])
    assert np.array_equal(PhiloxGenerator(7).normal((2, 60)).ravel(), whole)


def test_draws_and_seeds_differ_and_all_of_a_seed_counts() -> None:
    seeds = [0, 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1]
    generators = [PhiloxGenerator(seed) for seed in seeds]
    drawn = [generator.normal((100,)) for _ in range(3) for generator in generators]
    for i, one in enumerate(drawn):
        assert all(not np.array_equal(one, other) for other in drawn[i + 1 :])
    again = PhiloxGenerator(2**63 - 1)
    assert [again.normal((100,)).tolist() for _ in range(3)] == [numbers.tolist() for numbers in drawn[5::6]]


def test_the_numbers_are_normal() -> None:
    generator = PhiloxGenerator(3)
    drawn = np.stack([generator.normal((4, 64, 64)) for _ in range(20)]).astype(np.float64)
    count = drawn.size
    assert abs(drawn.mean()) < 4 / count**0.5
    assert abs((drawn**2).mean() - 1) < 4 * (2 / count) ** 0.5
    assert abs((drawn**4).mean() - 3) < 4 * (96 / count) ** 0.5
    assert abs((drawn[:-1] * drawn[1:]).mean()) < 4 / count**0.5
    assert abs((drawn[..., :-1] * drawn[..., 1:]).mean()) < 4 / count**0.5
    assert abs((drawn > 1.6448536).mean() - 0.05) < 4 * (0.05 * 0.95 / count) ** 0.5


@pytest.mark.parametrize("seed", [-1, 2**63, True])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="seed is"):
        PhiloxGenerator(seed)
