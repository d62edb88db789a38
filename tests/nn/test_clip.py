"""The text tower beside transformers' CLIP text models with the same weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from rein.nn.clip import CausalAttention, TextTower
from rein.nn.specs import TextTowerConfig
from tests.nn.peers import native_state, relative_error, small_tower

LIMIT = 1e-5
END = 88
BASE = TextTowerConfig(
    vocabulary_size=90,
    context_length=16,
    width=32,
    layers=3,
    heads=4,
    feed_forward_width=64,
    end_token=END,
    pad_token=END,
)
TOWERS = {
    "CLIP": BASE,
    "OpenCLIP": replace(BASE, activation="gelu", pad_token=0),
    "with projection": replace(BASE, activation="gelu", projection_width=24, pad_token=0, context_layer="penultimate"),
    "pocket": replace(BASE, layers=2, activation="gelu", end_token=89, pad_token=89),
}


@cache
def pair(name: str) -> tuple[TextTower, Any]:
    """Our tower and transformers', with random weights large enough that every part matters."""
    peer = small_tower(TOWERS[name]).eval()
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    tower = TextTower(TOWERS[name]).eval()
    tower.load_state_dict(native_state(peer), strict=True)
    return tower, peer


def texts(config: TextTowerConfig) -> Tensor:
    """Ids with the end token once, several times, last, and first."""
    ids = torch.randint(1, 80, (4, config.context_length), generator=torch.Generator().manual_seed(2))
    ids[0, 5], ids[0, 6:] = config.end_token, config.pad_token
    ids[1, 3] = ids[1, 9] = ids[1, 12] = config.end_token
    ids[2, -1] = config.end_token
    ids[3, 0] = config.end_token
    return ids


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_every_state_equals_transformers(name: str) -> None:
    tower, peer = pair(name)
    ids = texts(tower.config)
    ours, theirs = tower(ids), peer(ids, output_hidden_states=True)
    assert len(ours.hidden) == len(theirs.hidden_states) == tower.config.layers + 1
    for state, reference in zip(ours.hidden, theirs.hidden_states, strict=True):
        assert relative_error(state, reference) <= LIMIT
    assert relative_error(ours.last, theirs.last_hidden_state) <= LIMIT
    pooled = theirs.text_embeds if tower.config.projection_width else theirs.pooler_output
    assert relative_error(ours.pooled, pooled) <= LIMIT


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_the_context_is_the_layer_of_the_family(name: str) -> None:
    tower, peer = pair(name)
    ids = texts(tower.config)
    theirs = peer(ids, output_hidden_states=True)
    penultimate = tower.config.context_layer == "penultimate"
    reference = theirs.hidden_states[-2] if penultimate else theirs.last_hidden_state
    assert relative_error(tower.context(tower(ids)), reference) <= LIMIT


@torch.no_grad()
def test_the_pooled_vector_stands_at_the_first_end_token() -> None:
    tower, _ = pair("CLIP")
    features = tower(texts(tower.config))
    for row, place in enumerate([5, 3, 15, 0]):
        assert torch.equal(features.pooled[row], features.last[row, place])


@torch.no_grad()
def test_a_token_does_not_see_those_after_it() -> None:
    tower, _ = pair("CLIP")
    ids = texts(tower.config)
    changed = ids.clone()
    changed[:, 10:] = 7
    before, after = tower(ids).last, tower(changed).last
    assert relative_error(after[:, :10], before[:, :10]) <= 1e-6
    assert relative_error(after[:, 10:], before[:, 10:]) > 0.01


@torch.no_grad()
def test_a_shorter_text_needs_no_filling() -> None:
    tower, peer = pair("OpenCLIP")
    ids = texts(tower.config)[:2, :11]
    assert relative_error(tower(ids).last, peer(ids).last_hidden_state) <= LIMIT


@torch.no_grad()
def test_the_two_activations_differ() -> None:
    quick, exact = TextTower(BASE), TextTower(replace(BASE, activation="gelu"))
    exact.load_state_dict(quick.state_dict())
    ids = texts(BASE)
    assert 1e-4 < relative_error(exact(ids).last, quick(ids).last) < 0.1


@torch.no_grad()
def test_the_probe_sees_every_layer_and_changes_nothing() -> None:
    tower, _ = pair("pocket")
    ids = texts(tower.config)
    expected = tower(ids)
    attentions = [module for module in tower.modules() if isinstance(module, CausalAttention)]
    assert [attention.probe for attention in attentions] == [None, None]
    seen: list[torch.Size] = []
    try:
        for attention in attentions:
            attention.probe = lambda query, key: seen.extend([query.shape, key.shape])
        again = tower(ids)
    finally:
        for attention in attentions:
            attention.probe = None
    assert torch.equal(again.last, expected.last) and torch.equal(again.pooled, expected.pooled)
    assert seen == [(4, 4, 16, 8)] * 4
