"""Files that PyTorch and Lightning write, read without running them: equal to what PyTorch reads."""

import collections
import enum
import os
import pathlib
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from torch import nn

from rein.errors import DamagedFileError, InputError
from rein.formats.header import TYPES
from rein.formats.keys import key_map
from rein.formats.tensors import torch_type
from rein.formats.weights import Weights, open_weights
from rein.nn.specs import SD15, SDXL, ModelSpec

SAVES: dict[str, dict[str, Any]] = {
    "zip": {},
    "zip, protocol 3": {"pickle_protocol": 3},
    "zip, protocol 4": {"pickle_protocol": 4},
    "zip, protocol 5": {"pickle_protocol": 5},
    "zip, protocol 1": {"pickle_protocol": 1},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy, protocol 1": {"_use_new_zipfile_serialization": False, "pickle_protocol": 1},
    "legacy, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}

STORED = [name for name in TYPES if name != "F8_E8M0"]


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.arange(int(torch.tensor(shape).prod())).reshape(shape) % 7).to(dtype)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    raw = [value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (one, other)]
    return torch.equal(*raw)


def saved(path: Path, content: object, how: str = "zip") -> Weights:
    torch.save(content, path, **SAVES[how])
    return open_weights(path)


def check(weights: Weights, expected: dict[str, torch.Tensor]) -> None:
    """Views, copies and what is said without either agree with `expected`."""
    assert list(weights) == list(expected) and len(weights) == len(expected)
    for name, tensor in expected.items():
        assert same_bits(weights[name], tensor) and same_bits(weights.read(name), tensor), name
        assert weights.read(name).is_contiguous()
        info = weights.infos[name]
        assert info.shape == tuple(tensor.shape) and weights.dtype(name) == tensor.dtype
        assert info.bytes == tensor.nbytes and info.parameters == tensor.numel()


@pytest.mark.parametrize("how", SAVES)
def test_every_type_and_layout_reads_as_pytorch_reads_it(tmp_path: Path, how: str) -> None:
    base = torch.arange(60.0)
    content: dict[str, torch.Tensor] = {name: numbers(torch_type(name), 3, 5) for name in STORED}
    content |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "every second": base[::2],
        "a column": base.reshape(6, 10)[:, 3],
        "a window": base.reshape(6, 10)[1:4, 2:7],
        "end of a half": torch.arange(9).half()[5:],
        "one of one": torch.arange(4.0)[2:3].expand(1, 1),
        "parameter": nn.Parameter(torch.randn(3, 3)),
        "frozen": nn.Parameter(torch.randn(2), requires_grad=False),
        "névé.☃": torch.ones(2),
    }
    weights = saved(tmp_path / "a.ckpt", content, how)
    check(weights, content)
    if how == "zip":
        check(weights, torch.load(tmp_path / "a.ckpt", weights_only=True))
    assert weights.container == ("torch legacy" if how.startswith("legacy") else "torch zip")
    assert not weights.extras and not weights.inert and not weights.left_out and not weights.metadata


@pytest.mark.parametrize("how", SAVES)
def test_shared_storages_stay_shared(tmp_path: Path, how: str) -> None:
    base = torch.arange(12.0)
    weights = saved(tmp_path / "a", {"all": base, "rows": base.reshape(3, 4), "part": base[2:5], "again": base}, how)
    assert torch.equal(weights["part"], torch.tensor([2.0, 3.0, 4.0]))
    assert torch.equal(weights["rows"], base.reshape(3, 4)) and torch.equal(weights["again"], base)
    if how.startswith("legacy"):
        return  # storages begin anywhere there, and one at an odd place must be copied
    weights["all"][3] = 100
    assert weights["rows"][0, 3] == 100 and weights["part"][1] == 100
    assert open_weights(tmp_path / "a")["all"][3] == 3
    assert weights.read("all")[3] == 3


@pytest.mark.parametrize("how", SAVES)
def test_a_network_s_state_and_what_stands_around_it(tmp_path: Path, how: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    state = network.state_dict()
    check(saved(tmp_path / "a", state, how), dict(state))
    check(saved(tmp_path / "b", {"state_dict": state, "global_step": 7}, how), dict(state))
    nested = {"unet": state, "deep": {"er": [torch.ones(1), {"x": torch.zeros(2)}]}}
    expected = {f"unet.{name}": value for name, value in state.items()}
    check(saved(tmp_path / "c", nested, how), expected | {"deep.er.0": torch.ones(1), "deep.er.1.x": torch.zeros(2)})
    check(saved(tmp_path / "d", torch.ones(3), how), {"tensor": torch.ones(3)})
    check(saved(tmp_path / "e", [torch.ones(3)], how), {"0": torch.ones(3)})


class Callback:
    """A class that Rein knows nothing of."""

    def __init__(self) -> None:
        self.best = torch.tensor(0.5)
        self.path = pathlib.PurePosixPath("a/b")


class Settings(dict[str, Any]):
    """A table of a class of its own, as Lightning's AttributeDict."""


class Mode(enum.Enum):
    """A choice, which is pickled as a call of its class."""

    FAST = "fast"


def lightning() -> dict[str, Any]:
    """What PyTorch Lightning 1.x saves while it trains, with the odd things that are found in such files."""
    network = nn.Linear(4, 3)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 4)).sum().backward()
    optimiser.step()
    settings = Settings(rate=1e-4, names=["a", "b"], mode=Mode.FAST)
    settings.note = "x"  # type: ignore[attr-defined]
    return {
        "epoch": 3,
        "global_step": 840000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": collections.OrderedDict(
            (f"model.diffusion_model.{name}", value) for name, value in network.state_dict().items()
        ),
        "callbacks": {Callback: {"monitor": "loss", "best": numpy.float64(0.1), "object": Callback()}},
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [{"base_lrs": [1.0], "lr_lambdas": [None]}],
        "hyper_parameters": settings,
        "hparams_name": "kwargs",
        "counts": collections.Counter("aab"),
        "tables": collections.defaultdict(dict, {"a": 1}),
        "array": numpy.arange(3),
        "set": {1, 2},
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "bytes": b"\x00\xff",
    }


@pytest.mark.parametrize("how", SAVES)
def test_a_lightning_checkpoint_gives_its_state_and_makes_no_object(tmp_path: Path, how: str) -> None:
    content = lightning()
    weights = saved(tmp_path / "a.ckpt", content, how)
    check(weights, content["state_dict"])
    kept = {"epoch": 3, "global_step": 840000, "pytorch-lightning_version": "1.4.2", "counts": {"a": 2, "b": 1}}
    assert weights.extras.items() >= (kept | {"tables": {"a": 1}, "size": [1, 2], "device": "cpu"}).items()
    assert "callbacks" not in weights.extras and "bytes" not in weights.extras
    assert any(name.endswith("Callback") for name in weights.inert)
    assert "optimizer_states.0.state.0.exp_avg" in weights.left_out


@pytest.mark.parametrize("how", SAVES)
def test_an_embedding_and_a_whole_network(tmp_path: Path, how: str) -> None:
    vectors = nn.Parameter(torch.randn(2, 768))
    plain = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "cat", "step": 500}
    weights = saved(tmp_path / "a.pt", plain, how)
    check(weights, {"string_to_param.*": vectors})
    assert weights.extras == {"string_to_token": {"*": 265}, "name": "cat", "step": 500}
    check(
        saved(tmp_path / "b.pt", {"string_to_param": nn.ParameterDict({"*": vectors})}, how), dict([*weights.items()])
    )
    network = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)))
    check(saved(tmp_path / "c.pt", network, how), dict(network.state_dict()))


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    tensors = {"x": torch.ones(2)}
    safetensors.torch.save_file(tensors, tmp_path / "a.ckpt", {"kind": "test"})
    weights = open_weights(tmp_path / "a.ckpt")
    assert weights.container == "safetensors" and weights.metadata == {"kind": "test"}
    check(weights, tensors)
    check(saved(tmp_path / "a.safetensors", tensors), tensors)
    with pytest.raises(KeyError):
        weights["y"]


def test_views_take_no_memory_and_copies_are_apart(tmp_path: Path) -> None:
    weights = saved(tmp_path / "a", {"x": torch.arange(8.0)})
    view, again, copy = weights["x"], weights["x"], weights.read("x")
    assert view.data_ptr() == again.data_ptr() != copy.data_ptr()
    view.zero_()
    assert again.sum() == 0 and copy.sum() == 28


def test_a_file_that_changes_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    weights = saved(path, {"x": torch.ones(4)})
    torch.save({"x": torch.zeros(4)}, tmp_path / "b")
    os.replace(tmp_path / "b", path)
    assert torch.equal(weights["x"], torch.ones(4))  # the map is of the first file
    with pytest.raises(DamagedFileError, match="it changed while it was read"):
        weights.read("x")
    with pytest.raises(DamagedFileError, match="it changed while it was read"):
        weights.verify()


def test_damaged_numbers_are_found_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a"
    weights = saved(path, {"x": torch.arange(1000.0)})
    weights.verify()
    content = bytearray(path.read_bytes())
    content[weights.infos["x"].start + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="are damaged; download it again"):
        open_weights(path).verify()


def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        open_weights(tmp_path / "none.ckpt")
    with pytest.raises(InputError, match="is a folder"):
        open_weights(tmp_path)
    for content, message in ({"a": 1}, "holds no tensors"), (numpy.ones(3), "holds no tensors"):
        torch.save(content, tmp_path / "a")
        with pytest.raises(DamagedFileError, match=message):
            open_weights(tmp_path / "a")


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), "only plain dense tensors are read"),
        (torch.ones(1).expand(10**12), "whose elements overlap"),
        (torch.arange(9.0).as_strided((4, 4), (1, 1)), "whose elements overlap"),
        (torch.ones(2, dtype=torch.complex64).conj(), "a conjugate or a negative"),
        (torch.ones(2, dtype=torch.complex128), "only plain dense tensors are read"),
        (torch.empty(2, device="meta"), "only plain dense tensors are read"),
    ],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path: Path, tensor: torch.Tensor, reason: str) -> None:
    torch.save({"x": tensor}, tmp_path / "a")
    with pytest.raises(DamagedFileError, match=reason):
        open_weights(tmp_path / "a")


def test_data_shared_too_often_are_refused(tmp_path: Path) -> None:
    base = torch.zeros(2**20)
    torch.save({str(number): base for number in range(12)}, tmp_path / "a")
    with pytest.raises(DamagedFileError, match="share their data so often"):
        open_weights(tmp_path / "a")


@pytest.mark.parametrize(("spec", "trained"), [(SDXL, False), (SD15, True)], ids=["SDXL", "SD1 with its optimiser"])
def test_the_limits_leave_room_for_the_largest_checkpoints(tmp_path: Path, spec: ModelSpec, trained: bool) -> None:
    """As many tensors as they have, of one number each; averaged weights and the state of an optimiser among them."""
    names = [entry.original for entry in key_map(spec).entries]
    drawn = [name for name in names if name.startswith("model.")]
    averages = {f"model_ema.{name}": torch.ones(1) for name in drawn}
    steps = {index: {key: torch.ones(1) for key in ("step", "exp_avg", "exp_avg_sq")} for index in range(len(drawn))}
    state = collections.OrderedDict({name: torch.ones(1) for name in names} | averages)
    content = {"state_dict": state, "optimizer_states": [{"state": steps}] if trained else [], "epoch": 1}
    weights = saved(tmp_path / "a.ckpt", content)
    assert weights.keys() == state.keys() and weights.extras["epoch"] == 1
    assert len(weights.left_out) == (3 * len(drawn) if trained else 0)
