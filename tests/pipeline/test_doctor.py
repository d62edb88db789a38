"""A network that overflows in half precision is asked again in float32, and the picture says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rein.errors import NonFiniteError
from rein.nn.unet import UNet
from rein.pipeline.doctor import INPUT, LAST, Doctor, first_bad
from rein.pipeline.model import Model, load

SIGMAS = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.0])


class Chain(nn.Module):
    """Two layers with a sum after them; the second overflows in float16 for inputs above about 6.5."""

    def __init__(self, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, dtype=dtype), nn.Linear(4, 4, dtype=dtype)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(4))
            self.second.weight.copy_(torch.eye(4) * 1e4)
            self.first.bias.zero_()
            self.second.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x.to(self.first.weight.dtype)))
        return out


def asking(value: float) -> Callable[[Chain], Tensor]:
    return lambda network: network(torch.full((1, 4), value)).float()


def test_a_healthy_answer_is_handed_on_untouched() -> None:
    doctor, network = Doctor(), Chain()
    doctor.begin(SIGMAS)
    assert torch.equal(doctor.answer("it", network, SIGMAS[0], asking(2.0)), asking(2.0)(network))
    assert doctor.notes == ()


def test_an_overflow_is_found_and_answered_in_float32() -> None:
    doctor, network = Doctor(), Chain()
    doctor.begin(SIGMAS)
    for place in (1, 2, 3):
        answer = doctor.answer("it", network, SIGMAS[place], asking(20.0))
        assert torch.allclose(answer, torch.full((1, 4), 2e5))
    assert doctor.notes == ("it overflowed in float16 at second: steps 2 to 4 of 4 in float32",)
    assert network.first.weight.dtype == torch.float16, "the network itself is as it was"
    assert not network.second._forward_hooks
    doctor.begin(SIGMAS)
    assert len(doctor.notes) == 0


def test_levels_between_two_belong_to_the_noisier() -> None:
    doctor = Doctor()
    doctor.begin(SIGMAS)
    for sigma in (9.0, 3.0, 1.0, 0.5):
        doctor.answer("it", Chain(), torch.tensor(sigma), asking(20.0))
    assert doctor.notes == ("it overflowed in float16 at second: steps 1 to 2, 4 of 4 in float32",)


def test_what_float32_does_not_help_is_an_error_with_its_place() -> None:
    doctor = Doctor()
    doctor.begin(SIGMAS)
    broken = Chain()
    with torch.no_grad():
        broken.first.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"^it gave NaN or infinity in step 3 of 4, at first: its weights"):
        doctor.answer("it", broken, SIGMAS[2], asking(1.0))
    with pytest.raises(NonFiniteError, match=r"in step 1 of 4, at its input: the sampler's options"):
        doctor.answer("it", Chain(), SIGMAS[0], asking(float("nan")))
    exact = Chain(torch.float32)
    with torch.no_grad():
        exact.second.weight.fill_(3e38)
    with pytest.raises(NonFiniteError, match="at second"):
        doctor.answer("it", exact, SIGMAS[0], asking(20.0))


def test_where_the_trouble_begins() -> None:
    network = Chain()
    assert first_bad(network, lambda: asking(20.0)(network)) == "second"
    assert first_bad(network, lambda: asking(float("inf"))(network)) == INPUT
    assert first_bad(network, lambda: asking(1.0)(network)) == LAST


def overflowing(folder: Path, dtype: str, change: Callable[[Model], None]) -> Model:
    model = load(folder, "cpu", dtype)
    with torch.no_grad():
        change(model)
    return model


def _wide_unet(model: Model) -> None:
    """The sums of the first block pass 65,504; the norms after it bring them down again."""
    unet = model.parts.unet
    unet.get_parameter("down_blocks.0.resnets.0.conv2.weight").mul_(0)
    unet.get_parameter("down_blocks.0.resnets.0.conv2.bias").fill_(6e4)
    unet.get_parameter("conv_in.bias").fill_(3e4)


def _wide_tower(model: Model) -> None:
    """States beyond 65,504 within the first text tower; its last norm brings them down again."""
    for name, parameter in model.parts.towers[0].named_parameters():
        if name.endswith("fc2.bias"):
            parameter.fill_(4e4)


def differences(one: Model, other: Model) -> int:
    pictures = [model.generate("a red apple", seed=3, steps=3).images[0].tobytes() for model in (one, other)]
    return max(abs(first - second) for first, second in zip(pictures[0], pictures[1], strict=True))


def test_a_unet_that_overflows_draws_in_float32_and_the_picture_says_so(tiny_model_folder: Path) -> None:
    half = overflowing(tiny_model_folder, "float16", _wide_unet)
    result = half.generate("a red apple", seed=3, steps=3, count=2)
    note = "the U-Net overflowed in float16 at down_blocks.0."
    for seed in (3, 4):
        [told] = result.notes[seed]
        assert told.startswith(note) and told.endswith(": steps 1 to 3 of 3 in float32")
    assert result.manifest(1)["notes"] == list(result.notes[4])
    assert differences(half, overflowing(tiny_model_folder, "float32", _wide_unet)) <= 8


def test_words_that_overflow_are_read_in_float32(tiny_model_folder: Path) -> None:
    half = overflowing(tiny_model_folder, "float16", _wide_tower)
    result = half.generate("a red apple", seed=3, steps=3)
    [told] = result.notes[3]
    assert told.startswith("the words overflowed in float16 at ") and told.endswith(" and were read in float32")
    assert differences(half, overflowing(tiny_model_folder, "float32", _wide_tower)) <= 8


def _wide_word(model: Model) -> None:
    """The states of the word "blue" pass 65,504 in the first sum of the text tower."""
    embeddings = model.parts.towers[0].text_model.embeddings
    [token] = set(model.parts.tokenizers[0].encode("blue"))
    embeddings.token_embedding.weight[token] += 6e4
    embeddings.position_embedding.weight += 2e4


def test_what_is_said_of_a_pictures_words_is_not_said_of_the_next(tiny_model_folder: Path) -> None:
    half = overflowing(tiny_model_folder, "float16", _wide_word)
    result = half.generate("a {red|blue} apple", seed=3, steps=1, count=8)
    blue = [seed for seed in result.seeds if "blue" in result.single(result.seeds.index(seed)).prompt]
    assert 0 < len(blue) < 8 and set(result.seeds[blue[0] - 2 :]) - set(blue), "one of other words comes after one"
    assert sorted(result.notes) == blue
    assert all(len(notes) == 1 and "the words overflowed" in notes[0] for notes in result.notes.values())


def test_broken_weights_are_named_with_step_and_block(tiny_model_folder: Path) -> None:
    def broken(model: Model) -> None:
        unet: UNet = model.parts.unet
        unet.mid_block.resnets[0].conv1.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]

    for dtype in ("float16", "float32"):
        model = overflowing(tiny_model_folder, dtype, broken)
        with pytest.raises(
            NonFiniteError, match=r"^the U-Net gave NaN or infinity in step 1 of 3, at mid_block\.resnets\.0"
        ):
            model.generate("a red apple", seed=3, steps=3)
