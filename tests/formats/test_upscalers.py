"""Upscalers in every layout that people have: the same network from each, and a clear line for what is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, InputError
from rein.formats.detect import detect
from rein.formats.inspect_model import inspect_single
from rein.formats.tensors import write_tensors
from rein.formats.upscalers import load_upscaler
from rein.formats.weights import open_weights
from rein.nn.upscaler import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNet

State = dict[str, Tensor]

CONFIGS = {
    "x4": RRDBConfig(width=8, growth=4, blocks=2),
    "x2 folded": RRDBConfig(width=8, growth=4, blocks=1, unshuffle=2),
    "x1 folded": RRDBConfig(width=8, growth=4, blocks=1, unshuffle=4),
    "x2": RRDBConfig(width=8, growth=4, blocks=1, doublings=1),
    "x8": RRDBConfig(width=8, growth=4, blocks=1, doublings=3),
    "x1": RRDBConfig(width=8, growth=4, blocks=1, doublings=0),
}


def network(config: RRDBConfig | SRVGGConfig) -> RRDBNet | SRVGGNet:
    torch.manual_seed(4)
    made: RRDBNet | SRVGGNet
    made = RRDBNet(config) if isinstance(config, RRDBConfig) else SRVGGNet(config)
    made.eval().requires_grad_(False)
    return made


def answer(network: nn.Module) -> Tensor:
    pixels = torch.rand(1, 3, 9, 10, generator=torch.Generator().manual_seed(1))
    made: Tensor = network(pixels)
    return made


def later(state: Mapping[str, Tensor]) -> State:
    """The names of ESRGAN's later files, BSRGAN and RealSR."""
    found = {}
    for name, tensor in state.items():
        name = re.sub(r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", name)
        name = name.replace("conv_body", "trunk_conv").replace("conv_up", "upconv").replace("conv_hr", "HRconv")
        found[name] = tensor
    return found


def first(state: Mapping[str, Tensor]) -> State:
    """The names of ESRGAN's first files: a row of layers, of which those without weights are counted too."""
    blocks = len({name.split(".")[1] for name in state if name.startswith("body.")})
    doublings = sum(bool(re.match(r"conv_up\d\.weight", name)) for name in state)
    row = {"conv_first": "0", "conv_body": f"1.sub.{blocks}"}
    row |= {f"conv_up{number + 1}": str(2 + 3 * number + 1) for number in range(doublings)}
    row |= {"conv_hr": str(2 + 3 * doublings), "conv_last": str(4 + 3 * doublings)}
    found = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        inside = re.match(r"body\.(\d+)\.rdb(\d)\.conv(\d)$", layer)
        place = f"1.sub.{inside[1]}.RDB{inside[2]}.conv{inside[3]}.0" if inside else row[layer]
        found[f"model.{place}.{kind}"] = tensor
    return found


LAYOUTS: dict[str, Callable[[Mapping[str, Tensor]], State]] = {"first": first, "later": later, "Real-ESRGAN": dict}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_layout_gives_the_same_network(name: str, layout: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    theirs = network(config)
    write_tensors(tmp_path / "a.safetensors", LAYOUTS[layout](theirs.state_dict()))
    ours = load_upscaler(tmp_path / "a.safetensors")
    assert (ours.network.config, ours.scale, ours.name) == (config, int(name[1]), "a")
    assert ours.unit == config.unshuffle and ours.device.type == "cpu"
    assert torch.allclose(answer(ours.network), answer(theirs), atol=1e-6)
    assert not any(parameter.requires_grad for parameter in ours.network.parameters())


@pytest.mark.parametrize("outer", ["", "params", "params_ema", "module"])
def test_pytorch_files_and_their_outer_tables(outer: str, tmp_path: Path) -> None:
    theirs = network(CONFIGS["x4"])
    state = {key: tensor.half() for key, tensor in theirs.state_dict().items()}
    if outer.startswith("params"):
        content: dict[str, Any] = {outer: state}
    else:
        content = {f"{outer}.{key}".lstrip("."): tensor for key, tensor in state.items()}
    torch.save(content, tmp_path / "a.pth")
    ours = load_upscaler(tmp_path / "a.pth")
    assert next(ours.network.parameters()).dtype == torch.float32
    assert torch.allclose(answer(ours.network), answer(theirs), atol=2e-3)


def test_averaged_weights_go_before_the_others(tmp_path: Path) -> None:
    theirs = network(CONFIGS["x2"])
    other = {key: torch.zeros_like(tensor) for key, tensor in theirs.state_dict().items()}
    torch.save({"params": other, "params_ema": dict(theirs.state_dict())}, tmp_path / "a.pth")
    assert torch.allclose(answer(load_upscaler(tmp_path / "a.pth").network), answer(theirs), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_compact_network(scale: int, tmp_path: Path) -> None:
    theirs = network(SRVGGConfig(width=6, layers=3, scale=scale))
    torch.save({"params": dict(theirs.state_dict())}, tmp_path / "a.pth")
    ours = load_upscaler(tmp_path / "a.pth")
    assert ours.network.config == SRVGGConfig(width=6, layers=3, scale=scale)
    assert (ours.scale, ours.unit) == (scale, 1)
    assert torch.allclose(answer(ours.network), answer(theirs), atol=1e-6)


def test_what_it_is_is_told(tmp_path: Path) -> None:
    notes = []
    configs: list[RRDBConfig | SRVGGConfig] = [
        CONFIGS["x4"],
        CONFIGS["x1 folded"],
        SRVGGConfig(width=6, layers=3, scale=2),
    ]
    for number, config in enumerate(configs):
        path = tmp_path / f"{number}.safetensors"
        write_tensors(path, network(config).state_dict())
        report = inspect_single(path, hashed=False)
        assert (report.kind, report.problems) == ("upscaler", ())
        notes.append(report.note)
    assert notes == [
        "an ESRGAN upscaler, x4, of 2 blocks",
        "an ESRGAN upscaler, x1, of 1 block",
        "a compact Real-ESRGAN upscaler, x2, of 3 layers",
    ]


def changed(change: str) -> State:
    state = dict(network(CONFIGS["x4"]).state_dict())
    if change == "missing":
        del state["body.1.rdb2.conv4.bias"]
    elif change == "extra":
        state["conv_new.weight"] = torch.zeros(3)
    elif change == "shape":
        state["conv_body.weight"] = torch.zeros(8, 9, 3, 3)
    elif change == "whole numbers":
        state["conv_hr.bias"] = torch.zeros(8, dtype=torch.int32)
    elif change == "far block":
        state["body.900000000.rdb1.conv1.weight"] = torch.zeros(4, 8, 3, 3)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "it lacks 1 tensor: 'body.1.rdb2.conv4.bias'"),
        ("extra", "it does not need 1 tensor: 'conv_new.weight'"),
        ("shape", "of another shape are 1 tensor: 'conv_body.weight (8, 9, 3, 3), not (8, 8, 3, 3)'"),
        ("whole numbers", "tensor 'conv_hr.bias' holds torch.int32, not weights"),
        ("far block", "it lacks 30 tensors"),
    ],
)
def test_damaged_files_are_refused_with_names(change: str, message: str, tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", changed(change))
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        load_upscaler(tmp_path / "a.safetensors")


def test_a_damaged_byte_in_a_pytorch_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(dict(network(CONFIGS["x4"]).state_dict()), path)
    weights = open_weights(path)
    place = next(iter(weights.infos.values())).start
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="are damaged; download it again"):
        load_upscaler(path)


def test_other_files_are_named(tmp_path: Path) -> None:
    cases: dict[str, tuple[State, str]] = {
        "swin": (
            {"layers.0.residual_group.blocks.0.attn.qkv.weight": torch.zeros(4, 4)},
            r"it is an upscaler of finished pictures \(SwinIR, HAT or DAT\), which Rein does not run",
        ),
        "short": ({"model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(4, 8, 3, 3)}, "with parts missing or of another"),
        "folds": (
            {**network(CONFIGS["x4"]).state_dict(), "conv_first.weight": torch.zeros(8, 7, 3, 3)},
            "with parts missing or of another form",
        ),
        "lora": (
            {"a.lora_down.weight": torch.zeros(4, 8), "a.lora_up.weight": torch.zeros(8, 4)},
            r"is no upscaler \(adapter\)",
        ),
        "grey": (dict(network(RRDBConfig(1, 8, 4, 1)).state_dict()), "for 1 channels, and pictures have 3"),
        "compact": (
            {"body.0.weight": torch.zeros(6, 3, 3, 3), "body.1.weight": torch.zeros(6)},
            "a compact Real-ESRGAN upscaler, with parts missing",
        ),
    }
    for name, (state, message) in cases.items():
        write_tensors(tmp_path / f"{name}.safetensors", state)
        with pytest.raises(InputError, match=message):
            load_upscaler(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        load_upscaler(tmp_path / "nothing.pth")
    weights = open_weights(tmp_path / "swin.safetensors")
    assert detect(weights.infos, weights.metadata).kind == "upscaler"
