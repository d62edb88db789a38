"""`rein models list` and `rein models inspect`."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from rein.cli.tables import megabytes, table
from rein.formats.saving import ModuleSource, file_metadata, write_diffusers
from rein.formats.tensors import write_tensors
from rein.nn.specs import VARIANTS
from rein.pipeline.model import load
from tests.cli.conftest import Run
from tests.formats.small_files import original_state, single_file, small
from tests.pipeline.small import SPECS


def test_list_names_every_variant_and_where_it_is(rein: Run) -> None:
    done = rein("models", "list")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["NAME", "PIXELS", "PREDICTS", "WEIGHTS"]
    assert {line.split()[0] for line in lines[1:]} == set(VARIANTS)
    assert lines[1].split()[:5] == ["pocket", "128", "x", "128", "flow"]
    told = json.loads(rein("models", "list", "--json").out)
    assert [row["name"] for row in told] == [line.split()[0] for line in lines[1:]]
    assert [row["name"] for row in told if row["embedded"]] == ["pocket", "pocket-depth", "pocket-fast"]
    assert {row["name"]: row["size"] for row in told} == {name: spec.native_size for name, spec in VARIANTS.items()}


def test_inspect_says_what_a_model_is(rein: Run, tiny: str) -> None:
    done = rein("models", "inspect", tiny)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("small-pocket\n")
    for part in (
        "32 x 32 pixels",
        "flow, on a flow schedule",
        "unet.safetensors",
        "F16",
        "complete: nothing is missing",
    ):
        assert part in done.out
    told = json.loads(rein("models", "inspect", tiny, "--json").out)
    model = load(tiny)
    assert told["weights_hash"] == model.weights_hash
    assert told["problems"] == []
    modules = (model.parts.unet, model.parts.autoencoder, model.parts.towers[0])
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in modules]
    assert [entry["parameters"] for entry in told["files"]] == counts
    assert told["parameters"] == sum(counts)
    assert [entry["bytes"] for entry in told["files"]] == [
        (Path(tiny) / entry["name"]).stat().st_size for entry in told["files"]
    ]
    assert told["spec"] == json.loads(json.dumps(asdict(SPECS["pocket"])))


def test_inspect_finds_what_keeps_a_model_from_loading(rein: Run, tiny: str) -> None:
    shutil.copytree(tiny, "model")
    for name in ("text_tower.safetensors", "tokenizer.json"):
        (Path("model") / name).unlink()
    content = Path("model/unet.safetensors").read_bytes()
    Path("model/unet.safetensors").write_bytes(content[:-10])
    write_tensors("model/autoencoder.safetensors", {"strange": torch.zeros(3)})
    done = rein("models", "inspect", "model", "--json")
    assert done.code == 1
    assert done.err.startswith("rein: error: model would not load: text_tower.safetensors is missing; ")
    assert done.err.count("\n") == 1
    first, second, *others = json.loads(done.out)["problems"]
    assert (first, second) == ("text_tower.safetensors is missing", "tokenizer.json is missing")
    text = "; ".join(others)
    assert "unet.safetensors: it is cut short" in text
    assert "autoencoder.safetensors: 1 unknown to this network" in text
    assert "of this network's tensors missing" in text
    shown = rein("models", "inspect", "model")
    assert shown.code == 1
    assert shown.out.count("\nproblem: ") == len(others) + 2
    assert "complete" not in shown.out


def test_inspect_looks_into_a_single_file(rein: Run) -> None:
    write_tensors("a.safetensors", {"x": torch.zeros(2, 3), "y": torch.zeros(4, dtype=torch.float16)}, {"made": "now"})
    done = rein("models", "inspect", "a.safetensors")
    assert (done.code, done.err) == (0, "")
    assert "holds     unknown: its tensors belong to no kind of network that Rein knows" in done.out
    assert "10 in 2 tensors of" in done.out
    assert "made      now" in done.out
    told = json.loads(rein("models", "inspect", "a.safetensors", "--json").out)
    assert (told["kind"], told["container"], told["family"]) == ("unknown", "safetensors", None)
    assert (told["parameters"], told["tensors"], sorted(told["types"])) == (10, 2, ["F16", "F32"])
    assert told["metadata"] == {"made": "now"}
    digest = hashlib.sha256(Path("a.safetensors").read_bytes()).hexdigest()
    assert (told["sha256"], told["short_hash"]) == (digest, digest[:10])
    assert json.loads(rein("models", "inspect", "a.safetensors", "--json", "--no-hash").out)["sha256"] is None


def test_inspect_recognises_a_model_in_a_single_file(rein: Run, tmp_path: Path) -> None:
    path = single_file(tmp_path, "sd21")
    done = rein("models", "inspect", path)
    assert (done.code, done.err) == (0, "")
    for part in (
        "family    sd21",
        "parts     U-Net, autoencoder, text tower",
        "predicts  v\n",
        "complete: nothing is mis",
    ):
        assert part in done.out
    assert "rein.model" not in done.out
    told = json.loads(rein("models", "inspect", path, "--json").out)
    assert (told["kind"], told["family"], told["prediction"], told["prediction_settled"]) == (
        "model",
        "sd21",
        "v",
        True,
    )
    assert told["size"] == 64 and told["ema"] is False
    assert told["parameters"] == sum(p.numel() for module in small("sd21")[1].values() for p in module.parameters())
    assert told["types"] == ["F32"] and told["bytes"] == path.stat().st_size
    assert told["missing"] == told["extra"] == {"count": 0, "names": []}
    assert told["problems"] == []


def test_inspect_tells_what_keeps_a_file_from_loading(rein: Run, tmp_path: Path) -> None:
    spec = small("sd15")[0]
    state = {name: value for name, value in original_state("sd15").items() if not name.startswith("first_stage_model.")}
    del state["model.diffusion_model.out.2.bias"]
    write_tensors("a", {**state, "strange": torch.zeros(1)}, file_metadata(spec))
    done = rein("models", "inspect", "a", "--json", "--no-hash")
    assert done.code == 1
    assert done.err.startswith(
        "rein: error: a would not load: it lacks the autoencoder; it lacks 1 tensor: 'model.diff"
    )
    told = json.loads(done.out)
    assert told["missing"] == {"count": 1, "names": ["model.diffusion_model.out.2.bias"]}
    assert told["extra"] == {"count": 1, "names": ["strange"]}


def test_inspect_looks_into_a_diffusers_folder(rein: Run, tmp_path: Path) -> None:
    spec, networks = small("sd15")
    write_diffusers(tmp_path / "model", spec, ModuleSource(networks))
    told = json.loads(rein("models", "inspect", "model", "--json").out)
    assert (told["container"], told["kind"], told["prediction"]) == ("diffusers folder", "model", "epsilon")
    assert told["parts"] == ["U-Net", "autoencoder", "text tower"] and len(told["sha256"]) == 64
    assert "complete: nothing is missing" in rein("models", "inspect", "model", "--no-hash").out
    (tmp_path / "model/vae/diffusion_pytorch_model.safetensors").unlink()
    done = rein("models", "inspect", "model")
    assert done.code == 1 and "vae has no weights" in done.err


@pytest.mark.parametrize("family", ["sd15-inpainting", "sd2-depth", "sd15-instruct-pix2pix", "sdxl", "sdxl-refiner"])
def test_generate_draws_with_a_single_file(rein: Run, tmp_path: Path, family: str) -> None:
    path = single_file(tmp_path, family)
    done = rein("generate", "an owl", "--model", path, "--steps", 1, "--seed", 1, "--device", "cpu", "-o", "owl.png")
    assert (done.code, done.err) == (0, "")
    with Image.open("owl.png") as picture:
        assert picture.size == (64, 64)


def test_generate_tells_what_it_leaves_out_of_a_file(rein: Run) -> None:
    state = original_state("sd15") | {"strange": torch.zeros(1), "betas": torch.zeros(3)}
    write_tensors("a", state, file_metadata(small("sd15")[0]))
    done = rein("generate", "an owl", "--model", "a", "--steps", 1, "--seed", 1, "--device", "cpu", "-o", "owl.png")
    assert done.code == 0 and "a: not used: 1 tensor: 'strange'\n" in done.out + done.err


def test_generate_passes_the_choices_in_loading_on(rein: Run, tmp_path: Path) -> None:
    path = single_file(tmp_path)
    words = ("generate", "an owl", "--model", path, "--steps", 1, "--seed", 1, "--device", "cpu", "-o", "owl.png")
    assert rein(*words, "--vae", path, "--prediction", "v").code == 0
    for more, message in (
        (("--prediction", "w"), "unknown prediction 'w'"),
        (("--vae", "none"), "there is no file none"),
        (("--ema",), "has no averaged (EMA) weights"),
    ):
        done = rein(*words, *more)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_an_autoencoder_may_come_in_a_folder(rein: Run, tmp_path: Path) -> None:
    spec, networks = small("sd15")
    write_diffusers(tmp_path / "model", spec, ModuleSource(networks))
    words = ("generate", "an owl", "--model", "model", "--steps", 1, "--seed", 1, "--device", "cpu", "-o", "owl.png")
    for folder in ("model/vae", "model"):
        assert rein(*words, "--vae", folder).code == 0
    done = rein(*words, "--vae", "model/scheduler")
    assert done.code == 2 and "scheduler has no weights" in done.err and done.err.count("\n") == 1
    told = json.loads(rein("models", "inspect", "model/vae", "--json", "--no-hash").out)
    assert (told["kind"], Path(told["path"]).name) == ("autoencoder", "diffusion_pytorch_model.safetensors")
    assert rein("models", "convert", "model", "out.safetensors", "--vae", "model/vae").code == 0


@pytest.mark.parametrize(
    "command", [("generate", "x", "--model", "model"), ("models", "convert", "model", "x.safetensors")]
)
def test_a_folder_has_no_averages_to_choose(rein: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    spec, networks = small("sd15")
    write_diffusers(tmp_path / "model", spec, ModuleSource(networks))
    done = rein(*command, "--ema")
    assert done.code == 2 and "no averaged (EMA) one" in done.err and done.err.count("\n") == 1


def test_inspect_shows_what_an_adapter_does(rein: Run) -> None:
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    halves = {f"{name}.lora_up.weight": torch.ones(640, 4), f"{name}.lora_down.weight": torch.ones(4, 768)}
    write_tensors("a", halves | {"lora_unet_other.alpha": torch.ones(())})
    done = rein("models", "inspect", "a", "--no-hash")
    assert (done.code, done.err) == (0, "")
    for line in (
        "family    sd15",
        "kind      LoRA (1 layer)",
        "changes   U-Net (1 layer)",
        "rank      4",
        "not used  1 tensor",
    ):
        assert line in done.out
    write_tensors("a", {**halves, f"{name}.lora_up.weight": torch.full((640, 4), torch.nan)})
    done = rein("models", "inspect", "a", "--json")
    assert done.code == 1 and "has NaN or infinity" in done.err and json.loads(done.out)["adapter"]["ranks"] == {"4": 1}


@pytest.mark.parametrize(
    ("name", "content", "code", "reason"),
    [
        ("nothing", None, 2, "unknown model 'nothing': known: pocket"),
        ("pockets", None, 2, "unknown model 'pockets': did you mean 'pocket'?"),
        ("file.ckpt", b"PK\x03\x04" + bytes(100), 1, "cannot read file.ckpt: it is cut short, or bytes follow"),
        ("empty", b"", 1, "cannot read empty: it is empty"),
    ],
)
def test_what_is_no_model_is_refused(rein: Run, name: str, content: bytes | None, code: int, reason: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    done = rein("models", "inspect", name)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(f"rein: error: {reason}")
    assert done.err.count("\n") == 1


def test_a_table_has_columns_as_wide_as_needed() -> None:
    rows = [("NAME", "SIZE", "NOTE"), ("a", "1,000", "is"), ("longer", "7", "")]
    assert table(rows) == "NAME     SIZE  NOTE\na       1,000  is\nlonger      7"


def test_sizes_are_told_in_fitting_units() -> None:
    assert [megabytes(size) for size in (0, 950, 99_999, 100_000, 37_400_000)] == [
        "0.0 kB",
        "0.9 kB",
        "100.0 kB",
        "0.1 MB",
        "37.4 MB",
    ]
