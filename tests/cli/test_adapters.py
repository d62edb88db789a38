"""Adapters and learned words on the command line: their options, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from rein.cli.adapters import lora_choice
from rein.errors import InputError
from rein.formats.adapters_names import targets_of
from rein.formats.adapters_save import save_adapter
from rein.formats.tensors import read_tensors, write_tensors
from tests.cli.conftest import Run
from tests.formats.random_adapters import KINDS, random_changes
from tests.pipeline.small import SPECS, WIDTH


def _lora(path: Path) -> Path:
    targets = targets_of(SPECS["pocket"])
    save_adapter(path, random_changes(targets, KINDS["lora"]), targets)
    return path


@pytest.mark.parametrize(
    ("text", "path", "weights"),
    [
        ("a.safetensors", "a.safetensors", {}),
        ("a.safetensors:0.8", "a.safetensors", {"weight": 0.8}),
        ("a.safetensors:-1:.5", "a.safetensors", {"weight": -1.0, "text_weight": 0.5}),
        ("C:\\loras\\a.pt:0.8", "C:\\loras\\a.pt", {"weight": 0.8}),
        ("C:\\loras\\a.pt", "C:\\loras\\a.pt", {}),
        ("1:2:3:4", "1:2", {"weight": 3.0, "text_weight": 4.0}),
        ("a.pt:x", "a.pt:x", {}),
        ("a.pt:nan", "a.pt:nan", {}),
    ],
)
def test_a_file_and_its_weights(text: str, path: str, weights: dict[str, float]) -> None:
    assert lora_choice(text) == {"path": path, **weights}


def test_a_file_with_colons_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("style:2").touch()
    assert lora_choice("style:2") == {"path": "style:2"}
    assert lora_choice("style:2:0.5") == {"path": "style:2", "weight": 0.5}
    assert lora_choice("style:2:0.5:1") == {"path": "style:2", "weight": 0.5, "text_weight": 1.0}
    with pytest.raises(InputError, match="its weight 'heavy' is no number"):
        lora_choice("style:2:heavy")
    for empty in ("", ":1", ":1:2"):
        with pytest.raises(InputError, match="give FILE, FILE:WEIGHT or FILE:WEIGHT:TEXT_WEIGHT"):
            lora_choice(empty)


def test_options_reach_the_picture_and_its_settings(rein: Run, tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    lora, named = _lora(tmp_path / "style.safetensors"), _lora(folder / "named.safetensors")
    word = tmp_path / "zorb.safetensors"
    write_tensors(word, {"emb_params": torch.ones(2, WIDTH)})
    common = ("--model", tiny, "--steps", 2, "--seed", 1, "--width", 32, "--height", 32)
    plain = rein("generate", "an apple, zorb", *common, "-o", "plain.png")
    more = ("--lora", f"{lora}:0.5:0.25", "--lora-folder", folder, "--embedding", word)
    done = rein("generate", "an apple, zorb <lora:named:-0.5>", *common, *more, "-o", "a.png", "--json")
    assert (plain.code, done.code) == (0, 0), done.err
    told = json.loads(done.out)["settings"]
    assert [(entry["name"], entry["weight"], entry["text_weight"]) for entry in told["loras"]] == [
        ("style", 0.5, 0.25),
        ("named", -0.5, -0.5),
    ]
    assert [entry["name"] for entry in told["embeddings"]] == ["zorb"]
    with Image.open("plain.png") as first, Image.open("a.png") as second:
        assert first.tobytes() != second.tobytes()
        assert "an apple, zorb <lora:named:-0.5> <lora:style:0.25:0.5>\n" in second.info["parameters"]
    assert named.exists()


def test_names_that_match_nothing_are_told(rein: Run, tiny: str, tmp_path: Path) -> None:
    path = _lora(tmp_path / "style.safetensors")
    write_tensors(path, read_tensors(path) | {"lora_unet_elsewhere.lora_up.weight": torch.ones(1, 1)})
    done = rein("generate", "an apple", "--model", tiny, "--steps", 1, "--lora", path, "--width", 32, "--height", 32)
    assert done.code == 0, done.err
    note = "note: adapter 'style': 1 names match nothing in this model: lora_unet_elsewhere.lora_up.weight"
    assert note in done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lora", "none.safetensors"), "there is no file none.safetensors"),
        (("--lora", "a.safetensors:11"), "loras is"),
        (("--embedding", "none.pt"), "there is no file none.pt"),
        (("--lora-folder", "nowhere"), "there is no folder nowhere"),
        (("--lora-folder", "."), "unknown lora 'x' in the folder of --lora-folder"),
        (("--steps", "2"), "no folder to find it in: give --lora-folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    rein: Run, tiny: str, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    prompt = "an apple" if arguments[0] in ("--lora", "--embedding") else "an apple <lora:x:1>"
    done = rein("generate", prompt, "--model", tiny, *arguments)
    assert done.code == 2 and message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.png"))
