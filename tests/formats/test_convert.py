"""Models in another form: every tensor as it was, memory for one at a time, all of the target or nothing of it."""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from rein.errors import DamagedFileError, InputError, OutputError
from rein.formats.convert import STORED_TYPES, Conversion, convert
from rein.formats.detect import SPEC_KEY
from rein.formats.single import LoadOptions
from rein.formats.tensors import write_tensors
from rein.formats.weights import open_weights
from rein.nn.specs import to_dict
from tests.formats.families import FAMILIES, single_file, state
from tests.formats.test_weights import same_bits
from tests.pipeline.small import save_small


def check(path: Path, expected: dict[str, torch.Tensor]) -> None:
    weights = open_weights(path)
    assert weights.keys() == expected.keys()
    assert all(same_bits(weights[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_leads_back_to_the_same_tensors(tmp_path: Path, family: str) -> None:
    spec = FAMILIES[family]
    expected = state(spec)
    original = single_file(tmp_path / "a.safetensors", spec)
    steps = [("one", "diffusers"), ("two", "rein"), ("b.safetensors", "file"), ("three", "rein"), ("four", "diffusers")]
    source = original
    for name, form in steps:
        done = convert(source, tmp_path / name, Conversion(form))  # type: ignore[arg-type]
        assert done.form == form and done.notes == ()
        source = tmp_path / name
    check(tmp_path / "b.safetensors", expected)
    check(convert(tmp_path / "four", tmp_path / "c.safetensors").path, expected)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_loads_what_is_written(tmp_path: Path, family: str) -> None:
    spec = FAMILIES[family]
    convert(single_file(tmp_path / "a.safetensors", spec), tmp_path / "folder")
    unet = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path / "folder", subfolder="unet", torch_dtype=torch.float16
    )
    theirs = unet.state_dict()
    ours = open_weights(tmp_path / "folder/unet/diffusion_pytorch_model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(same_bits(theirs[name], ours[name]) for name in ours)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_a_checkpoint_becomes_a_file_that_holds_no_code(tmp_path: Path, old: bool) -> None:
    spec = FAMILIES["sd1"]
    expected = state(spec)
    drawn = [name for name in expected if name.startswith("model.")]
    averages = {f"model_ema.{name.removeprefix('model.').replace('.', '')}": expected[name] + 1 for name in drawn}
    content = {
        "state_dict": OrderedDict(expected | averages),
        "global_step": 5,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
    }
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not old)
    done = convert(tmp_path / "a.ckpt", tmp_path / "all.safetensors")
    check(done.path, expected | averages)
    assert open_weights(done.path).metadata == {"format": "pt", "global_step": "5"}
    assert done.notes == ("left out: 1 tensors beside the model, such as 'optimizer_states.0.state.0.exp_avg'",)
    options = LoadOptions(rows=(spec,), prediction="epsilon")
    pruned = convert(tmp_path / "a.ckpt", tmp_path / "b.safetensors", Conversion(prune=True, options=options))
    check(pruned.path, expected)
    assert json.loads(open_weights(pruned.path).metadata[SPEC_KEY]) == json.loads(json.dumps(to_dict(spec)))
    averaged = convert(tmp_path / "a.ckpt", tmp_path / "c.safetensors", Conversion(options=replace(options, ema=True)))
    inner = {name: value + 1 if name.startswith("model.") else value for name, value in expected.items()}
    check(averaged.path, inner)


@pytest.mark.parametrize("name", STORED_TYPES)
@pytest.mark.parametrize("form", ["file", "rein"])
def test_types_are_cast_as_pytorch_casts_them(tmp_path: Path, name: str, form: str) -> None:
    spec, dtype = FAMILIES["sd1"], STORED_TYPES[name]
    source = single_file(tmp_path / "a.safetensors", spec, dtype=torch.float32)
    middle = tmp_path / ("b.safetensors" if form == "file" else "b")
    convert(source, middle, Conversion(form, dtype))  # type: ignore[arg-type]
    convert(middle, tmp_path / "c.safetensors")
    check(tmp_path / "c.safetensors", {key: value.to(dtype) for key, value in state(spec, 0, torch.float32).items()})


def test_other_files_keep_names_numbers_and_texts(tmp_path: Path) -> None:
    vectors = torch.randn(2, 8)
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": "cat",
        "count": torch.tensor(3),
    }
    torch.save(content, tmp_path / "cat.pt")
    done = convert(tmp_path / "cat.pt", tmp_path / "cat.safetensors", Conversion(dtype=torch.float16))
    check(done.path, {"string_to_param.*": vectors.half(), "count": torch.tensor(3)})
    assert open_weights(done.path).metadata == {"format": "pt", "name": "cat"}


def test_an_autoencoder_can_be_replaced(tmp_path: Path) -> None:
    spec = FAMILIES["sd1"]
    source, other = single_file(tmp_path / "a.safetensors", spec), single_file(tmp_path / "b.safetensors", spec, seed=1)
    wanted = Conversion(options=LoadOptions(autoencoder=other))
    convert(source, tmp_path / "c.safetensors", wanted)
    first, second = state(spec), state(spec, 1)
    check(
        tmp_path / "c.safetensors",
        {name: (second if name.startswith("first_stage_model.") else first)[name] for name in first},
    )


def test_a_model_with_words_of_its_own_keeps_them(tmp_path: Path) -> None:
    source = save_small(tmp_path / "a", "pocket")
    convert(source, tmp_path / "b", Conversion("rein", torch.float32))
    assert (tmp_path / "b/tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="has no form as a single file: its vocabulary is its own"):
        convert(source, tmp_path / "c.safetensors")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    spec = FAMILIES["sd1"]
    source = single_file(tmp_path / "a.safetensors", spec)
    torch.save({"x": torch.tensor([1e6])}, tmp_path / "large.ckpt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    before = sorted(path for path in tmp_path.rglob("*"))
    for target, wanted, error, message in [
        ("x.ckpt", Conversion(), InputError, "would be a PyTorch file, which can hold code"),
        ("x", Conversion("file"), InputError, "needs a name that ends with .safetensors"),
        ("x.safetensors", Conversion("rein"), InputError, "needs the name of a folder"),
        ("full", Conversion(), OutputError, "it is there already"),
        ("none/x.safetensors", Conversion(), OutputError, "its folder does not exist"),
        ("none/x", Conversion(), OutputError, "its folder does not exist"),
    ]:
        with pytest.raises(error, match=message):
            convert(source, tmp_path / target, wanted)
    with pytest.raises(InputError, match="weight 'x' is not finite in torch.float16"):
        convert(tmp_path / "large.ckpt", tmp_path / "x.safetensors", Conversion(dtype=torch.float16))
    with pytest.raises(InputError, match="no model to draw with"):
        convert(tmp_path / "large.ckpt", tmp_path / "x")
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_damaged_numbers_are_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"x": torch.arange(100.0)}, path)
    content = bytearray(path.read_bytes())
    content[open_weights(path).infos["x"].start + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="are damaged"):
        convert(path, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


MEASURE = """
import sys, torch
from pathlib import Path
from rein.formats.convert import Conversion, convert
from rein.formats.weights import open_weights

def peak():  # of this program alone: `getrusage` would count the one that started it, too
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

def from_safetensors(folder):
    for target, form in (("b.safetensors", "file"), ("c", "rein")):
        convert(folder / "a.safetensors", folder / target, Conversion(form, torch.float32))

def from_pytorch(folder):
    convert(folder / "a.ckpt", folder / "d.safetensors", Conversion(dtype=torch.float32))

folder, peaks = Path(sys.argv[1]), []
from_safetensors(folder / "small")
from_pytorch(folder / "small")
for work in (from_safetensors, from_pytorch):
    peaks.append(peak())
    work(folder / "large")
peaks.append(peak())
weights = open_weights(folder / "large/a.safetensors")
everything = [weights.read(name).float() for name in weights]
peaks.append(peak())
print(*(later - earlier for earlier, later in zip(peaks, peaks[1:])))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system does not tell a program's own peak")
def test_memory_is_for_the_largest_tensor_and_not_for_the_file(tmp_path: Path) -> None:
    spec = FAMILIES["sd1"]
    wide = replace(spec, unet=replace(spec.unet, channels=(128,) * 4, heads=(2,) * 4))
    tensors = state(wide)
    for name, model in (("small", spec), ("large", wide)):
        (tmp_path / name).mkdir()
        single_file(tmp_path / name / "a.safetensors", model)
        torch.save(state(model), tmp_path / name / "a.ckpt")
    total = sum(4 * tensor.numel() for tensor in tensors.values())
    largest = max(4 * tensor.numel() for tensor in tensors.values())
    assert total > 40 * largest  # else there is nothing to show
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    from_safetensors, from_pytorch, loaded = map(int, done.stdout.split())
    # A tensor as it is read, cast, checked and written, and what Python needs for the names of a larger model.
    assert from_safetensors < 5 * largest + 4_000_000
    # Looking at each entry of an archive, Linux maps 16 pages around it; it takes them back when memory is short.
    assert from_pytorch < 5 * largest + 65536 * len(tensors)
    assert loaded > total / 2  # the measure sees what is in memory


def test_a_description_that_would_take_for_ever_to_build_counts_for_nothing(tmp_path: Path) -> None:
    told = to_dict(FAMILIES["sd1"])
    told["unet"]["blocks_per_level"] = 10**9
    write_tensors(tmp_path / "a.safetensors", state(FAMILIES["sd1"]), {SPEC_KEY: json.dumps(told)})
    with pytest.raises(InputError, match="a U-Net that no family has"):
        convert(tmp_path / "a.safetensors", tmp_path / "b")
