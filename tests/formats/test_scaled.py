"""8-bit weights with scales beside them are read as the weights that they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rein.errors import DamagedFileError
from rein.formats.checkpoint import load_model
from rein.formats.convert import Conversion, convert
from rein.formats.inspect_model import inspect_single
from rein.formats.saving import file_metadata
from rein.formats.tensors import read_tensors, write_tensors
from rein.formats.weights import open_weights
from tests.formats.small_files import original_state, small

UNET = "model.diffusion_model."


def scaled_state(scale_name: str, rows: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a small model with its attention in scaled 8 bits, and what those stand for."""
    state, meant = original_state("sd15"), {}
    for name in [name for name in state if name.startswith(UNET) and "attn" in name and name.endswith(".weight")]:
        weight = state[name]
        scale = (weight.abs().amax(1, keepdim=True) if rows else weight.abs().max()) / 448
        state[name] = (weight / scale).to(torch.float8_e4m3fn)
        state[name.removesuffix("weight") + scale_name] = scale.reshape(-1) if rows else scale
        meant[name] = state[name].float() * scale
    return state, meant


@pytest.mark.parametrize(("scale_name", "rows"), [("scale_weight", False), ("weight_scale", True)])
def test_a_scaled_file_is_the_model_that_it_stands_for(scale_name: str, rows: bool, tmp_path: Path) -> None:
    state, meant = scaled_state(scale_name, rows)
    marks = {f"{UNET}scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    marks[next(iter(meant)).removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
    path, plain = tmp_path / "scaled.safetensors", tmp_path / "plain.safetensors"
    texts = file_metadata(small("sd15")[0])
    write_tensors(path, {**state, **marks}, texts)
    write_tensors(plain, {**original_state("sd15"), **meant}, texts)
    model, expected = load_model(path), load_model(plain)
    assert model.notes == ()
    ours, theirs = model.unet.state_dict(), expected.unet.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    report = inspect_single(path, hashed=False)
    assert (report.scaled, report.fit.extra, report.problems) == (len(meant), (), ())
    assert "F8_E4M3" in report.types and report.parameters == inspect_single(plain, hashed=False).parameters
    done = convert(path, tmp_path / "out.safetensors", Conversion(dtype=torch.float32))
    assert done.notes == (f"multiplied in: the scales of {len(meant)} 8-bit weights",)
    written = read_tensors(tmp_path / "out.safetensors")
    assert written.keys() == original_state("sd15").keys()
    assert all(torch.equal(written[name], value) for name, value in meant.items())


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (torch.ones(2, 3), "is (2, 3) beside a weight (4, 6): read are one number, or one for each row"),
        (torch.ones((), dtype=torch.uint8), "is () beside a weight (4, 6)"),
        (torch.tensor(float("inf")), "is not finite"),
    ],
)
def test_a_scale_of_another_form_is_refused(scale: Tensor, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x.weight": torch.ones(4, 6).to(torch.float8_e5m2), "x.weight_scale": scale})
    weights = open_weights(path)
    for read in (weights.read, weights.__getitem__):
        with pytest.raises(DamagedFileError) as caught:
            read("x.weight")
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_scales_of_other_numbers_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = {"x.weight": torch.ones(4, 6), "x.weight_scale": torch.tensor(2.0), "y.scale_weight": torch.tensor(3.0)}
    write_tensors(path, state)
    weights = open_weights(path)
    assert set(weights) == set(state) and not weights.scales
    assert torch.equal(weights["x.weight"], torch.ones(4, 6))
