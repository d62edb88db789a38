"""Learned words in every form of file, and files that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rein.errors import DamagedFileError, InputError, ReinError
from rein.formats.embeddings import looks_like_embedding, read_embedding
from rein.formats.tensors import write_tensors
from rein.formats.weights import open_weights
from rein.nn.specs import SD15, SD21_BASE, SDXL

ONE = SD15.towers
VECTORS = torch.randn(3, 768, generator=torch.Generator().manual_seed(1))
LEFT, RIGHT = VECTORS[:2], torch.randn(2, 1280, generator=torch.Generator().manual_seed(2))

A1111: dict[str, Any] = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": VECTORS},
    "name": "cat",
    "step": 1000,
    "sd_checkpoint": "4bdfc29c",
    "sd_checkpoint_name": None,
}


def _write(folder: Path, content: dict[str, Any], name: str = "my cat.safetensors") -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        write_tensors(path, content)
    else:
        torch.save(content, path)
    return path


SINGLE: dict[str, tuple[str, dict[str, Any]]] = {
    "AUTOMATIC1111": ("my cat.pt", A1111),
    "AUTOMATIC1111, a parameter": ("my cat.pt", {**A1111, "string_to_param": {"*": torch.nn.Parameter(VECTORS)}}),
    "safetensors": ("my cat.safetensors", {"emb_params": VECTORS}),
    "safetensors in half precision": ("my cat.safetensors", {"emb_params": VECTORS.half()}),
    "diffusers": ("my cat.safetensors", {"<cat>": VECTORS}),
    "diffusers, a PyTorch file": ("my cat.bin", {"<cat>": VECTORS}),
}


@pytest.mark.parametrize("form", SINGLE)
def test_every_form_for_one_tower(form: str, tmp_path: Path) -> None:
    name, content = SINGLE[form]
    loaded = read_embedding(_write(tmp_path, content, name), ONE)
    [vectors] = loaded.embedding.vectors
    exact = VECTORS.half().float() if "half" in form else VECTORS
    assert loaded.embedding.name == "my cat" and len(loaded.embedding) == 3
    assert torch.equal(vectors, exact) and vectors.dtype == torch.float32


def test_a_single_vector_may_stand_without_its_row(tmp_path: Path) -> None:
    loaded = read_embedding(_write(tmp_path, {"<cat>": VECTORS[0]}), ONE)
    assert torch.equal(loaded.embedding.vectors[0], VECTORS[:1])


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_pairs_for_two_towers(names: tuple[str, str], ending: str, tmp_path: Path) -> None:
    path = _write(tmp_path, dict(zip(names, (LEFT, RIGHT), strict=True)), f"cat.{ending}")
    left, right = read_embedding(path, SDXL.towers).embedding.vectors
    assert torch.equal(left, LEFT) and torch.equal(right, RIGHT)


PAIR = {"clip_l": LEFT, "clip_g": RIGHT}
REFUSED: dict[str, tuple[dict[str, Tensor], Any, str]] = {
    "SD1 for SD2": ({"emb_params": VECTORS}, SD21_BASE.towers, r"width 768 \(as Stable Diffusion 1 has\).* 1024"),
    "SD2 for SD1": ({"emb_params": torch.ones(1, 1024)}, ONE, r"width 1024 \(as Stable Diffusion 2 has\).* 768"),
    "another width": ({"emb_params": torch.ones(1, 5)}, ONE, r"width 5 \(as no model that Rein knows has\)"),
    "SD1 for SDXL": ({"emb_params": VECTORS}, SDXL.towers, "for Stable Diffusion 1 alone, and this model has 2 text"),
    "SDXL for SD1": (PAIR, ONE, "for the two text towers of SDXL, and this model has one"),
    "halves the other way round": ({"clip_l": RIGHT, "clip_g": LEFT}, SDXL.towers, "text tower 1 768"),
    "too many": ({"emb_params": torch.ones(76, 768)}, ONE, "76 vectors, where 1 to 75 fit"),
    "none": ({"emb_params": torch.ones(0, 768)}, ONE, "0 vectors"),
    "a checkpoint": ({f"a.{place}": torch.ones(2, 2) for place in range(9)}, ONE, "no embedding: 9 tensors"),
    "a kernel": ({"emb_params": torch.ones(1, 768, 1)}, ONE, "no embedding"),
    "NaN": ({"emb_params": torch.full((1, 768), float("nan"))}, ONE, "NaN or infinity"),
    "whole numbers": ({"emb_params": torch.ones(1, 768, dtype=torch.int64)}, ONE, "holds torch.int64"),
    "other numbers of vectors": ({"clip_l": LEFT, "clip_g": RIGHT[:1]}, SDXL.towers, "another number of vectors"),
    "one half": ({"clip_g": RIGHT}, SDXL.towers, "alone, and this model has 2"),
    "nothing": ({}, ONE, "no embedding"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    content, towers, message = REFUSED[what]
    with pytest.raises(ReinError, match=message) as caught:
        read_embedding(_write(tmp_path, content), towers)
    assert "\n" not in str(caught.value) and "my cat" in str(caught.value)
    assert isinstance(caught.value, InputError | DamagedFileError)


def test_a_small_tower_takes_few_vectors(tmp_path: Path) -> None:
    towers = (replace(ONE[0], context_length=4),)
    path = _write(tmp_path, {"emb_params": VECTORS})
    with pytest.raises(InputError, match="3 vectors, where 1 to 2 fit"):
        read_embedding(path, towers)


def test_embeddings_are_told_from_other_files(tmp_path: Path) -> None:
    for name, content in SINGLE.values():
        assert looks_like_embedding(open_weights(_write(tmp_path, content, name)).infos)
    weights = {"conv_in.weight": torch.ones(4, 4), "conv_in.bias": torch.ones(4)}
    assert not looks_like_embedding(open_weights(_write(tmp_path, weights)).infos)
