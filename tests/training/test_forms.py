"""Forms of a model: they begin as the model itself, and learn to heed what their new channels show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rein.data.compose import ArtDataset
from rein.data.depth import DepthDataset
from rein.errors import InputError
from rein.nn.initial import widened
from rein.nn.specs import ModelSpec, with_extra_channels
from rein.pipeline.conditioning import blank_channels
from rein.training.forms import FormObjective, chosen_captions
from rein.training.lessons import Drawn
from rein.training.shown_data import depth_set, hole, inpainting_set, plain_set
from rein.training.tables_forms import FormTable
from tests.data.drawings import drawn_options
from tests.training.forms import loop_values, shown_set, small_model, trained, weights
from tests.training.tiny import pictures

FAMILIES = ["pocket", "sd1", "sd2-v", "sdxl"]


def table(**options: object) -> FormTable:
    return FormTable.model_validate({"objective": "form", "form": "depth", **loop_values(), **options})


def form_of(family: str, extra: int = 1, settings: FormTable | None = None) -> FormObjective:
    base = small_model(family)
    spec: ModelSpec = with_extra_channels(base.spec, f"{family}-form", extra)
    data = shown_set(spec.autoencoder.latent_channels, extra)
    return FormObjective(base, spec, settings or table(), data, data)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("extra", [1, 5])
def test_a_form_begins_as_its_base(family: str, extra: int) -> None:
    """Whatever the new channels show, the first answer is the base's to the last bit."""
    base = small_model(family)
    config = replace(base.spec.unet, in_channels=base.spec.unet.in_channels + extra)
    wider = widened(base.unet, config).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, base.spec.unet.in_channels, 8, 8, generator=generator)
    context = torch.randn(2, 12, config.context_width, generator=generator)
    pooled = torch.randn(2, config.pooled_width, generator=generator) if config.pooled_width else None
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2) if config.size_ids else None
    words = torch.tensor([500.0, 20.0]), context, pooled, sizes
    expected = base.unet(x, *words)
    for shown in (torch.zeros(2, extra, 8, 8), torch.randn(2, extra, 8, 8, generator=generator)):
        assert torch.allclose(wider(torch.cat([x, shown], dim=1), *words), expected, atol=1e-6)
    assert not wider.conv_in.weight[:, -extra:].any()
    assert wider.conv_in.weight.requires_grad and not base.unet.conv_in.weight.requires_grad


def test_only_more_channels_make_a_form() -> None:
    base = small_model("pocket")
    config = base.spec.unet
    for wrong in (replace(config, in_channels=config.in_channels - 1), replace(config, middle_depth=2)):
        with pytest.raises(InputError, match="not the base's shape with more of them"):
            widened(base.unet, wrong)


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_a_form_learns_and_its_base_stays(family: str, tmp_path: Path) -> None:
    objective = form_of(family)
    base = small_model(family)
    before = objective.validate()
    assert before["held_out_loss"] == pytest.approx(before["held_out_loss_blank"]), "nothing is heeded at first"
    loop = trained(tmp_path / "run", lambda: objective, table(steps=12, warm_up=2))
    after = objective.validate()
    assert after["held_out_loss"] < before["held_out_loss"]
    assert after["held_out_loss"] != pytest.approx(after["held_out_loss_blank"], rel=1e-6)
    assert weights(loop)["conv_in.weight"][:, -1].abs().max() > 1e-4
    for mine, theirs in zip(objective.parts.towers, base.towers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    loop.finish(tmp_path / "out")
    assert (tmp_path / "out" / "unet.safetensors").is_file()


def test_a_broken_off_form_goes_on_bit_by_bit(tmp_path: Path) -> None:
    settings = table()
    whole = trained(tmp_path / "whole", lambda: form_of("pocket"), settings)
    trained(tmp_path / "parts", lambda: form_of("pocket"), settings, stop=2)
    resumed = trained(tmp_path / "parts", lambda: form_of("pocket"), settings)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_a_sheet_shows_the_map_above_the_picture() -> None:
    objective = form_of("pocket")
    sheet = objective.sample()
    side = objective.parts.spec.native_size
    assert sheet.width >= 8 * side and sheet.height >= 2 * side


def test_depth_of_drawings_becomes_channels(tmp_path: Path) -> None:
    base = small_model("pocket")
    dataset = DepthDataset(ArtDataset(drawn_options(tmp_path, size=64), "train"))
    found = depth_set(dataset, 5, base, tmp_path / "run")
    unit = base.spec.autoencoder.downscale
    side = dataset.dataset.options.size // unit
    assert found.latents.shape == (5, base.spec.autoencoder.latent_channels, side, side)
    assert found.extra.shape == (5, 2, 1, side, side)
    rough = found.extra[:, 1]
    assert rough.amin((1, 2, 3)).eq(-1).all() and rough.amax((1, 2, 3)).eq(1).all(), "from far to near"
    [path] = (tmp_path / "run").iterdir()
    stamp = path.stat().st_mtime_ns
    again = depth_set(dataset, 5, base, tmp_path / "run")
    assert torch.equal(again.latents, found.latents) and again.captions == found.captions
    assert path.stat().st_mtime_ns == stamp, "it was read, not made"
    assert len(depth_set(dataset, 6, base, tmp_path / "run")) == 6


def test_masks_hide_what_is_to_be_painted(tmp_path: Path) -> None:
    base = small_model("sd1")
    found = inpainting_set(Drawn(list(pictures(4)), [("a disc",)] * 4), base, tmp_path)
    channels = base.spec.autoencoder.latent_channels
    assert found.extra.shape[2] == 1 + channels
    mask = found.extra[:, :, :1]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert all(0 < part.mean() < 1 for part in mask.flatten(0, 1))
    everything = blank_channels(replace(base, spec=with_extra_channels(base.spec, "form", 5)), *mask.shape[-2:])
    assert everything is not None and everything.shape[1] == 5
    assert not torch.equal(found.extra[:, 0, 1:], found.latents), "the masked picture is not the picture"
    for other in ((1, 0), (0, 1)):
        assert not np.array_equal(hole(8, 8, 0, 0), hole(8, 8, *other))


def test_captions_are_drawn_or_dropped_by_lot() -> None:
    shown = plain_set(torch.zeros(2, 4, 4, 4), [("a", "b"), ("c",)])
    lots = torch.tensor([[0.05, 0.5, 0.9], [0.0, 0.99, 0.4]])
    assert chosen_captions(shown, torch.tensor([0, 0, 1]), lots, 0.1) == ["", "b", "c"]


@pytest.mark.parametrize("wrong", [{"form": "height"}, {"blank": 1.0}, {"caption_dropout": -0.1}, {"steps": 0}])
def test_a_table_refuses_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        table(**wrong)
