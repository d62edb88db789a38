"""Heat maps and the tower's attention are the networks' own, computed once more by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rein.explain.heatmaps import MAP_SIDE, HeatMaps, LayerMaps, grid_of, smaller
from rein.explain.trace import Explanation, explain
from rein.explain.words import WORDS_SHOWN, Group
from rein.nn.attention import TransformerBlock
from rein.nn.clip import CausalAttention
from rein.pipeline.model import Model
from tests.explain.conftest import Loader

Outputs = dict[str, NDArray[np.float64]]


def listening(into: Outputs, name: str) -> Callable[..., None]:
    """A hook that keeps a layer's first output as float64."""

    def hook(module: nn.Module, arguments: object, output: Tensor) -> None:
        into.setdefault(name, output.detach().double().numpy())

    return hook


def weights_by_hand(
    query: NDArray[np.float64], key: NDArray[np.float64], heads: int, causal: bool = False
) -> NDArray[np.float64]:
    """softmax(q k^T / sqrt(d)), mean over heads, of one text's (Tq, width) and (Tk, width)."""
    maps = []
    for q, k in zip(np.split(query, heads, axis=1), np.split(key, heads, axis=1), strict=True):
        scores = q @ k.T / math.sqrt(q.shape[1])
        if causal:
            scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        maps.append(powers / powers.sum(axis=1, keepdims=True))
    mean: NDArray[np.float64] = np.mean(maps, axis=0)
    return mean


@pytest.mark.parametrize("family", ["pocket", "sd1", "sdxl"])
def test_maps_equal_attention_by_hand(small_model: Loader, family: str) -> None:
    model, seen, removers = small_model(family), Outputs(), []
    blocks = {n: m for n, m in model.parts.unet.named_modules() if isinstance(m, TransformerBlock)}
    for name, block in blocks.items():
        removers.append(block.attn2.to_q.register_forward_hook(listening(seen, f"{name}.q")))
        removers.append(block.attn2.to_k.register_forward_hook(listening(seen, f"{name}.k")))
    try:
        first = next(iter(explain("a red apple and a blue car", model, seed=3, steps=2, guidance_scale=1.0)))
    finally:
        for remover in removers:
            remover.remove()
    assert [entry.layer for entry in first.attention] == list(blocks)
    for entry in first.attention:
        query, key = seen[f"{entry.layer}.q"][-1], seen[f"{entry.layer}.k"][-1]
        expected = weights_by_hand(query, key, blocks[entry.layer].attn2.heads).T
        found = entry.maps.flatten(1).double().numpy()
        assert np.abs(found - expected).max() <= 1e-5 * expected.max()
        assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_with_guidance_the_maps_are_those_of_the_prompt(pocket: Model) -> None:
    options = {"seed": 3, "steps": 2}
    guided = next(iter(explain("a red apple", pocket, guidance_scale=4.0, negative_prompt="blue car", **options)))
    alone = next(iter(explain("a red apple", pocket, guidance_scale=1.0, **options)))
    for one, other in zip(guided.attention, alone.attention, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_the_towers_attention_equals_that_by_hand(small_model: Loader, family: str) -> None:
    model, seen, removers = small_model(family), Outputs(), []
    layers = [
        (number, layer, module)
        for number, tower in enumerate(model.parts.towers)
        for layer, module in enumerate(m for m in tower.modules() if isinstance(m, CausalAttention))
    ]
    for number, layer, module in layers:
        removers.append(module.q_proj.register_forward_hook(listening(seen, f"{number}.{layer}.q")))
        removers.append(module.k_proj.register_forward_hook(listening(seen, f"{number}.{layer}.k")))
    try:
        explanation = explain("a red apple", model, seed=3, steps=1, guidance_scale=1.0)
    finally:
        for remover in removers:
            remover.remove()
    for number, layer, module in layers:
        query, key = seen[f"{number}.{layer}.q"][0], seen[f"{number}.{layer}.k"][0]
        expected = weights_by_hand(query, key, module.heads, causal=True)
        found = explanation.words.towers[number].attention[0, layer].double().numpy()
        assert np.abs(found - expected).max() <= 1e-5
        assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_the_towers_states_are_what_it_gives(pocket: Model) -> None:
    explanation = explain("a red apple", pocket, seed=3, steps=1)
    tower, tokenizer = pocket.parts.towers[0], pocket.parts.tokenizers[0]
    with torch.no_grad():
        features = tower(tokenizer.batch(["a red apple"], tower.config.context_length))
    record = explanation.words.towers[0]
    assert record.hidden.shape == (1, len(features.hidden), tower.config.context_length, tower.config.width)
    torch.testing.assert_close(record.hidden[0], torch.cat(features.hidden))
    torch.testing.assert_close(record.pooled, features.pooled[0])


def test_means_sum_to_one_everywhere(apple: Explanation) -> None:
    maps = apple.heat_maps
    shown = [maps.mean(), *maps.by_step(), *(maps.layer(name) for name in maps.layers), *(m for _, m in maps.thirds())]
    assert len(list(maps.thirds())) == 3
    for entry in shown:
        total = entry.sum(dim=0)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)
        assert entry.shape[0] == len(maps.groups) and entry.min() >= 0


def test_the_mean_is_that_of_all_layers_and_steps(pocket: Model) -> None:
    explanation = explain("a red apple", pocket, seed=3, steps=3)
    records = list(explanation)
    name = records[0].attention[0].layer
    place = explanation.heat_maps.layers.index(name)
    tokens = torch.stack([record.attention[place].maps for record in records]).mean(dim=0)
    for group, found in zip(explanation.heat_maps.groups, explanation.heat_maps.layer(name), strict=True):
        torch.testing.assert_close(found, tokens[list(group.places)].sum(dim=0))


def test_grids_follow_the_halving_of_latents() -> None:
    assert grid_of(9 * 5, (9, 5)) == (9, 5)
    assert grid_of(15, (9, 5)) == (5, 3)
    assert grid_of(3 * 2, (9, 5)) == (3, 2)
    with pytest.raises(ValueError, match="no halving"):
        grid_of(7, (9, 5))


def test_fine_maps_are_averaged_and_keep_their_sums() -> None:
    maps = torch.softmax(torch.randn(5, 96, 64, generator=torch.Generator().manual_seed(0)), dim=0)
    found = smaller(maps)
    assert found.shape == (5, MAP_SIDE, round(64 / 3))
    torch.testing.assert_close(found.sum(dim=0), torch.ones(found.shape[1:]))
    assert smaller(found) is found


def test_texts_of_other_lengths() -> None:
    """A shorter one has no maps here; of a longer one what repeats is added up, and what fills it up counts as pads."""
    maps = HeatMaps((Group("start", "start", (0,)), Group("end", "end", (1, 2))), 1)
    maps.add(0, 1, [LayerMaps("a", torch.ones(2, 2, 2) / 2)])
    assert not maps.filled
    for tokens, expected in ((3, [1 / 3, 2 / 3]), (6, [1 / 3, 2 / 3]), (4, [1 / 4, 3 / 4])):
        maps = HeatMaps(maps.groups, 1, length=3)
        maps.add(0, 1, [LayerMaps("a", torch.ones(tokens, 2, 2) / tokens)])
        assert maps.mean()[:, 0, 0].tolist() == pytest.approx(expected)


def test_empty_windows_that_fill_a_context_up_count_as_padding(pocket: Model) -> None:
    """The negative prompt has more windows, so the prompt gets empty ones: nothing of these falls to its words."""
    long = "blue car house table red apple green style flat of on a"
    explanation = explain("a red apple", pocket, seed=7, steps=1, negative_prompt=long)
    [record] = list(explanation)
    places = len(explanation.words.tokens)
    for entry in record.attention:
        found = explanation.heat_maps.layer(entry.layer)
        assert len(entry.maps) == 2 * places
        torch.testing.assert_close(found[1:4], entry.maps[1:4])
        torch.testing.assert_close(found[-1], entry.maps[4:].sum(dim=0))


def test_words_beyond_the_limit_share_a_group(pocket: Model) -> None:
    prompt = " ".join(f"{'abcdefghij'[i % 10]}" for i in range(WORDS_SHOWN + 5))
    words = explain(prompt, pocket, seed=3, steps=1).words
    groups = words.groups()
    assert words.windows > 1 and len(words.words) == WORDS_SHOWN + 5
    assert [group.label for group in groups if group.kind == "rest"] == ["5 more words"]
    assert [len(group.places) for group in groups if group.kind == "rest"] == [5]


def test_tokens_are_the_tokenizers_and_words_are_whole(pocket: Model) -> None:
    prompt = "A red apple, xylophone"
    words = explain(prompt, pocket, seed=3, steps=1).words
    tokenizer = pocket.parts.tokenizers[0]
    assert [token.id for token in words.tokens if token.kind == "word"] == tokenizer.encode(prompt)
    assert words.words == ("a", "red", "apple", ",", "xylophone")
    pieces = [token.text for token in words.tokens if token.word == 4]
    assert len(pieces) > 1 and "".join(pieces) == "xylophone"
    assert words.tokens[0].kind == "start"
    assert [token.place for token in words.tokens] == list(range(len(words.tokens)))
