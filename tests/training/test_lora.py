"""Adapters that PEFT trains: saved by us in both dialects, read back by us and by diffusers, they draw the same."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rein.formats.adapters import read_adapter
from rein.formats.adapters_save import Dialect
from rein.formats.checkpoint import LoadedModel
from rein.nn.adapters_merge import Merger
from rein.nn.autoencoder import Autoencoder
from rein.training.adapter import KOHYA_FILE, PEFT_FILE
from rein.training.lora import LoraObjective
from rein.training.optim import learning
from rein.training.tables_teach import LoraTable
from rein.training.teach import Lessons
from tests.formats.adapter_models import Model
from tests.formats.adapter_models import model as peer_model
from tests.formats.test_adapters_diffusers import loaded_by_diffusers
from tests.nn.peers import relative_error
from tests.pipeline.small import SPECS, own_tokenizer
from tests.training.lessons import COMMON, latents

KINDS = ("lora", "locon", "dora", "loha", "lokr")
FILES: dict[Dialect, str] = {"kohya": KOHYA_FILE, "peft": PEFT_FILE}


def trained(built: Model, kind: str) -> LoraObjective:
    """An adapter for copies of a small model's networks, with random weights as training might leave them."""
    unet, towers = copy.deepcopy(built.unet), copy.deepcopy(built.towers)
    # Only the shape of the rest counts here.
    autoencoder = Autoencoder(SPECS["sd1"].autoencoder)
    spec = replace(built.spec, autoencoder=SPECS["sd1"].autoencoder)
    tokenizers = (own_tokenizer(),) * len(towers)
    model = LoadedModel(spec, unet, autoencoder, towers, tokenizers, Path("small"), {}, "a hash")
    options: dict[str, Any] = {"kind": kind, "rank": 3, "alpha": 2, "convolutions": True, "text_rate": 1e-4}
    table = LoraTable(objective="lora", **options, **COMMON)
    made = LoraObjective(model, table, Lessons(latents(1, "a")))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in learning(made.pupil).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
            parameter.copy_(parameter.half())  # as the file has it
    return made


@pytest.mark.parametrize("dialect", FILES)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_peft_has_learned_is_what_we_read_and_merge(kind: str, dialect: Dialect, tmp_path: Path) -> None:
    built = peer_model("sd1")
    made = trained(built, kind)
    made.save(tmp_path)
    adapter = read_adapter(tmp_path / FILES[dialect], built.targets)
    assert adapter.unmatched == () and adapter.changes.keys() == made.changes().keys()
    parts = {"unet": copy.deepcopy(built.unet), "tower": copy.deepcopy(built.towers[0])}
    plain = built.run()
    merger = Merger(parts)
    with merger.using([adapter.use(1.0)]):
        merged = replace(built, unet=parts["unet"], towers=(parts["tower"],))  # type: ignore[arg-type]
        got = merged.run(), merged.run_tower(0)
    injected = replace(built, unet=made.model.unet, towers=made.model.towers)
    assert relative_error(got[0], injected.run()) < 2e-3  # the scale is folded into halves
    assert relative_error(got[1], injected.run_tower(0)) < 2e-3
    assert relative_error(plain, injected.run()) > 2e-2


@pytest.mark.parametrize(
    ("kind", "dialect"), [("lora", "kohya"), ("locon", "kohya"), ("lora", "peft"), ("dora", "peft")]
)
@torch.no_grad()
def test_diffusers_reads_what_we_save(kind: str, dialect: Dialect, tmp_path: Path) -> None:
    built = peer_model("sd1")
    made = trained(built, kind)
    made.save(tmp_path)
    unet, towers = loaded_by_diffusers(built, tmp_path / FILES[dialect])
    injected = replace(built, unet=made.model.unet, towers=made.model.towers)
    assert relative_error(injected.run(), built.run_peer(unet)) < 2e-3
    assert relative_error(injected.run_tower(0), built.run_peer_tower(towers[0])) < 2e-3


@pytest.mark.parametrize(("kind", "least"), [("lora", 16), ("locon", 25)])
def test_an_adapter_begins_as_no_change_and_says_where_it_acts(kind: str, least: int) -> None:
    built = peer_model("sd1")
    model: Any = built
    before = model.run()
    spec = replace(built.spec, autoencoder=SPECS["sd1"].autoencoder)
    parts = LoadedModel(
        spec,
        copy.deepcopy(built.unet),
        Autoencoder(spec.autoencoder),
        copy.deepcopy(built.towers),
        (own_tokenizer(),),
        Path("small"),
        {},
        "a hash",
    )
    table = LoraTable(objective="lora", **{"kind": kind, "rank": 2, **COMMON})
    made = LoraObjective(parts, table, Lessons(latents(1, "a")))
    assert relative_error(replace(built, unet=made.model.unet).run(), before) < 1e-6
    places = made.changes().keys()
    assert {part for part, _ in places} == {"unet"} and len(places) >= least
    assert any("resnets" in path for _, path in places) == (kind == "locon")
    assert not any(path in ("conv_in", "conv_out") for _, path in places)
