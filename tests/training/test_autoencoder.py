"""The autoencoder's losses beside sums written out, and the whitening of its latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rein.errors import InputError
from rein.formats.tensors import read_tensors
from rein.nn.autoencoder import Autoencoder
from rein.training.autoencoder import FILE_NAME, AutoencoderObjective, gradient_difference
from rein.training.loop import Loop
from rein.training.objective import Batch
from tests.training.tiny import CONFIG, RECIPE, loop, objective, pictures, table

ROWS = [3, 17, 4, 20]


def batch(step: int = 0) -> Batch:
    return Batch(step, torch.tensor(ROWS), torch.Generator().manual_seed(9))


def pixels() -> Tensor:
    chosen = pictures(24)[ROWS].astype(np.float64)
    return torch.from_numpy(np.transpose(chosen / 255 * 2 - 1, (0, 3, 1, 2))).float()


def rebuilt(made: AutoencoderObjective) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction, mean and log variance with the noise of `batch`."""
    moments = made.autoencoder.quant_conv(made.autoencoder.encoder(pixels()))
    mean, log_variance = moments[:, :3], moments[:, 3:]
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(9))
    return made.autoencoder.decode(mean + (log_variance / 2).exp() * noise), mean, log_variance


def reconstruction(made: AutoencoderObjective) -> tuple[Tensor, Tensor]:
    """The loss without the discriminator, and the pictures it is of."""
    picture, mean, log_variance = rebuilt(made)
    real = pixels()
    error = (picture - real).abs().mean()
    across = ((picture[..., 1:] - picture[..., :-1]) - (real[..., 1:] - real[..., :-1])).abs().mean()
    down = ((picture[:, :, 1:] - picture[:, :, :-1]) - (real[:, :, 1:] - real[:, :, :-1])).abs().mean()
    divergence = (0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)).mean()
    return error + 0.7 * (across + down) + 0.01 * divergence, picture


def test_the_loss_is_the_sum_of_its_terms() -> None:
    made = objective(table(gradient_weight=0.7, kl_weight=0.01))
    player = made.players()[0]
    losses = player.loss(player.module, batch())
    expected, _ = reconstruction(made)
    assert torch.allclose(losses["loss"], expected, rtol=1e-5)
    total = losses["l1"] + 0.7 * losses["gradient"] + 0.01 * losses["kl"]
    assert torch.allclose(losses["loss"], total, rtol=1e-6)


def test_the_adversarial_weight_balances_the_gradients_of_the_last_layer() -> None:
    """Esser et al. 2021, eq. 7: |gradient of the reconstruction| / (|gradient of the adversary| + delta)."""
    made = objective(table(adversarial_from=0.5, adversarial_weight=0.3, gradient_weight=0.7, kl_weight=0.01))
    player = made.players()[0]
    last = made.autoencoder.decoder.conv_out.weight
    first, picture = reconstruction(made)
    adversarial = -made.discriminator(picture).mean()
    wanted = torch.autograd.grad(first, last, retain_graph=True)[0].norm()
    adverse = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    balance = (wanted / (adverse + 1e-4)).detach()
    expected = first + 0.3 * balance * adversarial

    losses = player.loss(player.module, batch(step=6))
    assert torch.allclose(losses["loss"], expected, rtol=1e-5)
    assert torch.allclose(losses["adversarial"], adversarial, rtol=1e-5)
    assert abs(float(balance) - 1) > 0.1 and abs(float(expected.detach() - first.detach())) > 1e-4
    ours = torch.autograd.grad(losses["loss"], last)[0]
    theirs = torch.autograd.grad(expected, last)[0]
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-7)  # the balance itself has no gradient
    assert "adversarial" not in player.loss(player.module, batch(step=5))


def test_the_balance_is_limited() -> None:
    made = objective(table(adversarial_from=0.0, adversarial_weight=1.0))
    with torch.no_grad():
        for parameter in made.discriminator.parameters():
            parameter.zero_()
    player = made.players()[0]
    assert torch.isfinite(player.loss(player.module, batch())["loss"])


def test_the_discriminator_learns_by_the_hinge() -> None:
    made = objective(table(adversarial_from=0.0))
    _, judge = made.players()
    losses = judge.loss(judge.module, batch())
    real, fake = made.discriminator(pixels()), made.discriminator(rebuilt(made)[0].detach())
    expected = 0.5 * (torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean())
    assert torch.allclose(losses["loss"], expected, rtol=1e-5)
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in made.autoencoder.parameters())
    assert all(parameter.grad is not None for parameter in made.discriminator.parameters())


@pytest.mark.parametrize("options", [{"adversarial_from": 1.0}, {"adversarial_from": 0.0, "adversarial_weight": 0.0}])
def test_without_an_adversary_there_is_one_player(options: dict[str, float]) -> None:
    made = objective(table(**options))
    assert [player.name for player in made.players()] == ["autoencoder"]
    assert "adversarial" not in made.players()[0].loss(made.autoencoder, batch(step=11))


def test_first_weights_are_the_seeds() -> None:
    first, again, other = (objective(table(seed=seed)).autoencoder.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["quant_conv.weight"], other["quant_conv.weight"])


def test_the_gradient_term_is_zero_for_a_shift_of_brightness() -> None:
    real = pixels()
    assert float(gradient_difference(real + 0.3, real)) == pytest.approx(0, abs=1e-6)
    assert float(gradient_difference(real.flip(-1), real)) > 0.05


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderObjective:
    """An autoencoder after fifteen steps, whose latents have means and deviations of their own."""
    folder = tmp_path_factory.mktemp("trained")
    settings = table(steps=15, learning_rate=4e-3)
    made = loop(folder, settings)
    list(made.run())
    assert isinstance(made.objective, AutoencoderObjective)
    with torch.no_grad():
        made.objective.autoencoder.quant_conv.weight[:3] *= torch.tensor([0.1, 1.0, 9.0])[:, None, None, None]
        made.objective.autoencoder.post_quant_conv.weight /= torch.tensor([0.1, 1.0, 9.0])[None, :, None, None]
    return made.objective


def every_picture() -> Tensor:
    return torch.from_numpy(pictures(24)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def test_whitened_latents_have_no_mean_and_unit_variance(trained: AutoencoderObjective) -> None:
    before = trained.autoencoder.encode(every_picture()).mean
    assert (before.std((0, 2, 3)) - 1).abs().max() > 0.5 and before.mean((0, 2, 3)).abs().max() > 0.05
    after = trained.whitened().encode(every_picture()).mean
    assert after.mean((0, 2, 3)).abs().max() < 1e-5
    assert (after.std((0, 2, 3)) - 1).abs().max() < 1e-5


@torch.no_grad()
def test_whitening_leaves_the_pictures_as_they_were(trained: AutoencoderObjective) -> None:
    whitened, given = trained.whitened(), torch.from_numpy(pictures(6, seed=1)).permute(0, 3, 1, 2) / 127.5 - 1
    noise = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for drawn in (None, noise):
        expected, _ = trained.autoencoder(given, drawn)
        rebuilt, _ = whitened(given, drawn)
        assert (rebuilt - expected).abs().max() <= 1e-4
    assert expected.std() > 0.02


@torch.no_grad()
def test_whitening_does_not_touch_the_autoencoder_itself(trained: AutoencoderObjective) -> None:
    before = {name: value.clone() for name, value in trained.autoencoder.state_dict().items()}
    trained.whitened()
    assert all(torch.equal(value, before[name]) for name, value in trained.autoencoder.state_dict().items())


@torch.no_grad()
def test_whitening_survives_an_empty_channel(trained: AutoencoderObjective) -> None:
    whole = trained.autoencoder.state_dict()
    kept = {name: value.clone() for name, value in whole.items()}
    try:
        trained.autoencoder.quant_conv.weight[1] = 0
        whitened = trained.whitened()
        expected, rebuilt = trained.autoencoder(every_picture())[0], whitened(every_picture())[0]
        assert torch.isfinite(rebuilt).all() and (rebuilt - expected).abs().max() <= 1e-4
    finally:
        trained.autoencoder.load_state_dict(kept)


@torch.no_grad()
def test_the_saved_file_is_the_whitened_autoencoder(trained: AutoencoderObjective, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    loaded = Autoencoder(CONFIG)
    loaded.load_state_dict(read_tensors(tmp_path / "model" / FILE_NAME))
    assert torch.equal(loaded.encode(every_picture()).mean, trained.whitened().encode(every_picture()).mean)


@torch.no_grad()
def test_validation_is_the_mean_psnr_of_the_held_out(trained: AutoencoderObjective) -> None:
    given = torch.from_numpy(pictures(6, seed=1)).permute(0, 3, 1, 2) / 127.5 - 1
    made = trained.autoencoder(given)[0].clamp(-1, 1)
    squared = functional.mse_loss(made, given, reduction="none").mean((1, 2, 3))
    expected = (10 * torch.log10(4 / squared)).mean()
    assert trained.validate()["psnr"] == pytest.approx(float(expected), abs=1e-3)


@torch.no_grad()
def test_a_sample_shows_pictures_above_their_reconstructions(trained: AutoencoderObjective) -> None:
    sheet = trained.sample()
    assert sheet.width >= 6 * 32 and 2 * 32 <= sheet.height < 3 * 32
    assert trained.sample().tobytes() == sheet.tobytes()


ENCODER = ("encoder.", "quant_conv.")


def taught(folder: Path, **options: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of an autoencoder before it was taught further, and those that were saved afterwards."""
    torch.manual_seed(3)
    start = Autoencoder(CONFIG)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    settings = table(steps=3, adversarial_from=0.5, **options)
    made = AutoencoderObjective(CONFIG, settings, pictures(24), pictures(6, seed=1), start)
    run = Loop(made, settings, folder, RECIPE)
    list(run.run())
    run.finish(folder)
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    return before, read_tensors(folder / FILE_NAME)


def test_one_that_goes_on_keeps_its_latents_to_the_last_bit(tmp_path: Path) -> None:
    before, after = taught(tmp_path)
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert same == {name for name in before if name.startswith(ENCODER)}


def test_all_of_one_that_goes_on_learns_if_asked_for(tmp_path: Path) -> None:
    """Its latents keep about their scale: they are not whitened."""
    before, after = taught(tmp_path, learns="all", ema=0.0)
    assert not any(torch.equal(value, after[name]) for name, value in before.items() if "weight" in name)
    assert all(torch.allclose(value, after[name], atol=0.05) for name, value in before.items())


def test_a_decoder_alone_needs_an_encoder_to_go_on_from() -> None:
    with pytest.raises(InputError, match="name a model to go on from, model.start"):
        objective(table(learns="decoder"))
