"""What a picture begins with: variations and sizes, against AUTOMATIC1111's arithmetic written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rein.diffusion.noise import PictureNoise, picture_noise
from rein.pipeline.model import Model
from rein.pipeline.noise import first_noise, laid_over
from rein.pipeline.request import Request

SHAPE = (4, 6, 5)


def request_of(**options: object) -> Request:
    """A resolved request of 40 x 48 pixels, 8 to a latent one."""
    return Request.model_validate({"prompt": "", "width": 40, "height": 48, "seed": 5, **options})


def turned(low: np.ndarray, high: np.ndarray, share: float) -> np.ndarray:
    """Column by column along the arc, in float64."""
    result = np.empty_like(low)
    channels, _, columns = low.shape
    for channel in range(channels):
        for column in range(columns):
            one, other = low[channel, :, column], high[channel, :, column]
            angle = math.acos(float(one @ other) / math.sqrt(float(one @ one) * float(other @ other)))
            weights = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
            result[channel, :, column] = weights[0] * one + weights[1] * other
    return result


def test_without_options_it_is_the_seeds_first_draw() -> None:
    noise = picture_noise("cpu", [5, 6])
    assert torch.equal(first_noise(request_of(count=2), noise, SHAPE), PictureNoise([5, 6]).draw(SHAPE))


@pytest.mark.parametrize("source", ["cpu", "philox"])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_variation_turns_each_column_towards_the_other_seeds(source: str, share: float) -> None:
    request = request_of(variation_seed=90, variation_strength=share, count=2, noise_source=source)
    made = first_noise(request, picture_noise(source, [5, 6]), SHAPE).double().numpy()
    own = picture_noise(source, [5, 6]).draw(SHAPE).double().numpy()
    others = picture_noise(source, [90, 91]).draw(SHAPE).double().numpy()
    for place in range(2):
        assert np.abs(made[place] - turned(own[place], others[place], share)).max() < 1e-4


def test_a_picture_varies_alike_alone_and_among_others() -> None:
    many = first_noise(request_of(variation_seed=90, variation_strength=0.3, count=3), PictureNoise([5, 6, 7]), SHAPE)
    last = first_noise(request_of(variation_seed=90, variation_strength=0.3, count=3), PictureNoise([7]), SHAPE)
    alone = first_noise(request_of(seed=7, variation_seed=92, variation_strength=0.3), PictureNoise([7]), SHAPE)
    assert torch.equal(many[2:], last)
    assert torch.equal(last, alone)


def test_the_noise_of_a_smaller_picture_lies_in_the_middle() -> None:
    made = first_noise(request_of(seed_resize_from=(24, 32)), PictureNoise([5]), SHAPE)[0]
    small, whole = PictureNoise([5]).draw((4, 4, 3))[0], PictureNoise([5]).draw(SHAPE)[0]
    assert torch.equal(made[:, 1:5, 1:4], small)
    border = torch.ones(SHAPE, dtype=torch.bool)
    border[:, 1:5, 1:4] = False
    assert torch.equal(made[border], whole[border])


def test_the_noise_of_a_larger_picture_is_cut_on_both_sides_alike() -> None:
    made = first_noise(request_of(seed_resize_from=(64, 80)), PictureNoise([5]), SHAPE)[0]
    large, whole = PictureNoise([5]).draw((4, 10, 8))[0], PictureNoise([5]).draw(SHAPE)[0]
    # 10 rows over 6: two go on each side. 8 columns over 5: two on each side too, so the last column keeps its own.
    assert torch.equal(made[:, :, :4], large[:, 2:8, 2:6])
    assert torch.equal(made[:, :, 4], whole[:, :, 4])


def test_the_size_of_the_picture_itself_changes_nothing() -> None:
    same = first_noise(request_of(seed_resize_from=(40, 48)), PictureNoise([5]), SHAPE)
    assert torch.equal(same, PictureNoise([5]).draw(SHAPE))


def test_a_resized_variation_turns_before_it_is_laid() -> None:
    options = {"seed_resize_from": (24, 32), "variation_seed": 9, "variation_strength": 0.4}
    made = first_noise(request_of(**options), PictureNoise([5]), SHAPE)[0]
    own, other = (PictureNoise([seed]).draw((4, 4, 3))[0].double().numpy() for seed in (5, 9))
    assert np.abs(made[:, 1:5, 1:4].double().numpy() - turned(own, other, 0.4)).max() < 1e-4


@pytest.mark.parametrize(
    "options", [{}, {"variation_seed": 1, "variation_strength": 0.5}, {"seed_resize_from": (64, 32)}]
)
def test_the_noise_after_it_is_the_seeds_own(options: dict[str, object]) -> None:
    noise, plain = PictureNoise([5]), PictureNoise([5])
    first_noise(request_of(**options), noise, SHAPE)
    plain.draw(SHAPE)
    assert torch.equal(noise.draw(SHAPE), plain.draw(SHAPE))


@pytest.mark.parametrize(("whole", "part", "places"), [(5, 3, (1, 0, 3)), (5, 8, (0, 2, 4)), (6, 5, (0, 0, 5))])
def test_places_along_one_axis(whole: int, part: int, places: tuple[int, int, int]) -> None:
    to, of, length = places
    laid = laid_over(torch.zeros(1, whole), torch.arange(1.0, part + 1).reshape(1, -1))
    expected = torch.zeros(1, whole)
    expected[0, to : to + length] = torch.arange(1.0, part + 1)[of : of + length]
    assert torch.equal(laid, expected)


def test_pictures_differ_as_the_options_say(pocket: Model) -> None:
    def drawn(**options: object) -> bytes:
        return pocket.generate("a red apple", steps=2, **{"seed": 5, **options}).images[0].tobytes()

    plain, gpu = drawn(), drawn(noise_source="philox")
    slight = drawn(variation_seed=9, variation_strength=0.05)
    other = drawn(variation_seed=9, variation_strength=1.0)
    assert len({plain, gpu, slight, other, drawn(seed_resize_from=(64, 64))}) == 5
    assert other == drawn(seed=9)  # all the way over, and nothing is drawn after the first noise


def test_settings_of_a_variation_make_it_again(pocket: Model) -> None:
    options = {"seed": 5, "variation_seed": 90, "variation_strength": 0.3, "count": 2, "noise_source": "philox"}
    result = pocket.generate("a red apple", steps=2, **options)
    single = result.single(1)
    assert (single.seed, single.variation_seed, single.count) == (6, 91, 1)
    assert pocket.generate(single).images[0].tobytes() == result.images[1].tobytes()
    assert result.manifest(1)["noise"].startswith("Philox 4x32-10")
