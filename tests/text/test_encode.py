"""Texts to conditioning, against transformers' CLIP text models with the same small random weights."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from rein.errors import InputError
from rein.nn.clip import TextTower
from rein.nn.specs import TextTowerConfig
from rein.text.encode import Conditioning, encode_texts, windows_needed
from rein.text.tokenizer import clip_tokenizer, train_vocabulary
from rein.text.windows import MAX_WINDOWS

LENGTH = 12
TOKENIZER = train_vocabulary(["a red apple", "a blue fire engine", "two green frogs, flat style"] * 4, 560)
TEXTS = ["a red apple", "", "two green frogs and a blue fire engine, flat style, a red apple, a red apple"]
BASE = TextTowerConfig(
    vocabulary_size=TOKENIZER.vocabulary_size,
    context_length=LENGTH,
    width=32,
    layers=4,
    heads=4,
    feed_forward_width=48,
    end_token=TOKENIZER.end,
    pad_token=TOKENIZER.end,
)
OPENCLIP = replace(BASE, width=40, activation="gelu", pad_token=0)


@cache
def reference_model(config: TextTowerConfig, seed: int) -> Any:
    """transformers' model of the same shape, random weights large enough that every part matters."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModelWithProjection if config.projection_width else CLIPTextModel
    model = kind(
        CLIPTextConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.width,
            intermediate_size=config.feed_forward_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.context_length,
            hidden_act=config.activation,
            projection_dim=config.projection_width or 512,
            bos_token_id=TOKENIZER.start,
            eos_token_id=config.end_token,
            pad_token_id=config.pad_token,
            attn_implementation="eager",
        )
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def tower_like(model: Any, config: TextTowerConfig) -> TextTower:
    """Our tower with the reference's weights; `config` may have fewer layers."""
    tower = TextTower(config)
    weights = {
        name if name.startswith("text_") else f"text_model.{name}": value for name, value in model.state_dict().items()
    }
    wanted = tower.state_dict()
    tower.load_state_dict({name: weights[name] for name in wanted})
    return tower


def rows_of(texts: Sequence[str], pad: int, window: int = 0) -> Tensor:
    """Window `window` of each text, by hand."""
    rows = []
    for text in texts:
        ids = TOKENIZER.encode(text)[window * (LENGTH - 2) : (window + 1) * (LENGTH - 2)]
        rows.append([TOKENIZER.start, *ids, TOKENIZER.end] + [pad] * (LENGTH - 2 - len(ids)))
    return torch.tensor(rows)


def reference(model: Any, rows: Tensor) -> Any:
    with torch.no_grad():
        return model(input_ids=rows, output_hidden_states=True)


def relative_error(value: Tensor, expected: Tensor) -> float:
    assert value.shape == expected.shape
    return float((value - expected).norm() / expected.norm())


def test_sd1_takes_the_last_state_after_the_norm() -> None:
    model = reference_model(BASE, 1)
    conditioning = encode_texts(TEXTS[:2], [tower_like(model, BASE)], [TOKENIZER])
    expected = reference(model, rows_of(TEXTS[:2], TOKENIZER.end))
    assert relative_error(conditioning.context, expected.last_hidden_state) < 1e-5
    assert conditioning.pooled is not None
    assert conditioning.size_ids is None
    assert relative_error(conditioning.pooled, expected.pooler_output) < 1e-5


def test_sd2_takes_the_last_but_one_layer_with_the_norm() -> None:
    """OpenCLIP's tower has one layer more than ours, which stops where SD2 reads it; rows are padded with 0."""
    model = reference_model(OPENCLIP, 2)
    tower = tower_like(model, replace(OPENCLIP, layers=OPENCLIP.layers - 1))
    conditioning = encode_texts(TEXTS[:2], [tower], [TOKENIZER])
    hidden = reference(model, rows_of(TEXTS[:2], pad=0)).hidden_states[-2]
    norm = next(module for name, module in model.named_modules() if name.endswith("final_layer_norm"))
    assert relative_error(conditioning.context, norm(hidden).detach()) < 1e-5


def sdxl() -> tuple[list[Any], list[TextTower]]:
    configs = [
        replace(BASE, context_layer="penultimate"),
        replace(OPENCLIP, context_layer="penultimate", projection_width=24),
    ]
    models = [reference_model(config, seed) for seed, config in enumerate(configs, start=3)]
    return models, [tower_like(model, config) for model, config in zip(models, configs, strict=True)]


def test_sdxl_joins_the_last_but_one_states_and_pools_the_second_tower() -> None:
    models, towers = sdxl()
    conditioning = encode_texts(TEXTS[:2], towers, [TOKENIZER, TOKENIZER])
    outputs = [reference(model, rows_of(TEXTS[:2], pad)) for model, pad in zip(models, (TOKENIZER.end, 0), strict=True)]
    context = torch.cat([output.hidden_states[-2] for output in outputs], dim=2)
    assert conditioning.context.shape == (2, LENGTH, 72)
    assert relative_error(conditioning.context, context) < 1e-5
    assert conditioning.pooled is not None
    assert relative_error(conditioning.pooled, outputs[1].text_embeds) < 1e-5


def test_a_long_text_is_encoded_window_by_window() -> None:
    models, towers = sdxl()
    count = windows_needed(TEXTS[2], towers, [TOKENIZER, TOKENIZER])
    assert count == 3
    conditioning = encode_texts(TEXTS, towers, [TOKENIZER, TOKENIZER])
    assert conditioning.context.shape == (3, count * LENGTH, 72)
    first_pooled: list[Tensor] = []
    for window in range(count):
        parts = [reference(m, rows_of(TEXTS, pad, window)) for m, pad in zip(models, (TOKENIZER.end, 0), strict=True)]
        expected = torch.cat([part.hidden_states[-2] for part in parts], dim=2)
        found = conditioning.context[:, window * LENGTH : (window + 1) * LENGTH]
        assert relative_error(found, expected) < 1e-5
        first_pooled.append(parts[1].text_embeds)
    assert conditioning.pooled is not None
    assert relative_error(conditioning.pooled, first_pooled[0]) < 1e-5


def tower() -> TextTower:
    return tower_like(reference_model(BASE, 1), BASE)


def test_window_edges() -> None:
    one, tokenizers = [tower()], [TOKENIZER]
    room = LENGTH - 2
    for tokens, windows in [(0, 1), (1, 1), (room, 1), (room + 1, 2), (2 * room, 2), (2 * room + 1, 3)]:
        text = " ".join(["a"] * tokens)
        assert len(TOKENIZER.encode(text)) == tokens
        assert windows_needed(text, one, tokenizers) == windows
        assert encode_texts([text], one, tokenizers).context.shape[1] == windows * LENGTH


def test_alone_and_in_a_batch_are_the_same_bits() -> None:
    one, tokenizers = [tower()], [TOKENIZER]
    texts = [*TEXTS, "a", *TEXTS]
    together = encode_texts(texts, one, tokenizers)
    for place, text in enumerate(texts):
        alone = encode_texts([text], one, tokenizers, windows=3)
        assert_same_bits(alone, together.select(place))
    assert not together.context[0].equal(together.context[1])


def test_nothing_is_kept_between_calls_and_no_gradient() -> None:
    one = [tower()]
    before = encode_texts(TEXTS, one, [TOKENIZER])
    with torch.no_grad():
        for parameter in one[0].parameters():
            parameter.mul_(0.5)
    after = encode_texts(TEXTS, one, [TOKENIZER])
    assert not before.context.equal(after.context)
    assert not after.context.requires_grad


def test_precision_is_the_towers() -> None:
    conditioning = encode_texts(["a red apple"], [tower().to(torch.bfloat16)], [TOKENIZER])
    assert conditioning.context.dtype == torch.bfloat16


def test_a_megabyte_is_refused_and_one_window_less_is_not() -> None:
    one, tokenizers = [tower()], [TOKENIZER]
    limit = MAX_WINDOWS * (LENGTH - 2)
    assert windows_needed("a " * limit, one, tokenizers) == MAX_WINDOWS
    with pytest.raises(InputError, match=f"a prompt of {limit + 1} tokens is too long: shorten it to {limit} at most"):
        encode_texts(["", "a " * (limit + 1)], one, tokenizers)
    with pytest.raises(InputError, match="a prompt of 500,000 tokens is too long"):
        encode_texts(["a " * 500_000], one, tokenizers)


def test_wrong_calls_say_what_is_allowed() -> None:
    one = [tower()]
    with pytest.raises(InputError, match="list of at least one string"):
        encode_texts([], one, [TOKENIZER])
    with pytest.raises(InputError, match="list of at least one string"):
        encode_texts("a red apple", one, [TOKENIZER])
    message = f"the text tower .{TOKENIZER.vocabulary_size} tokens, end {TOKENIZER.end}.: use the one"
    for other in (train_vocabulary([], 514), clip_tokenizer()):
        with pytest.raises(InputError, match=message):
            encode_texts(["a"], one, [other])


def sample(seed: int, rows: int, tokens: int = 4, size_ids: bool = False) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.full((rows, 6), 1023.0) if size_ids else None
    context = torch.randn(rows, tokens, 8, generator=generator)
    return Conditioning(context, torch.randn(rows, 5, generator=generator), sizes)


def assert_same_bits(found: Conditioning, expected: Conditioning) -> None:
    for name in ("context", "pooled", "size_ids"):
        value, wanted = getattr(found, name), getattr(expected, name)
        assert (value is None) == (wanted is None)
        assert value is None or value.equal(wanted)


def test_cat_and_select_are_inverse() -> None:
    parts = [sample(0, 1, size_ids=True), sample(1, 2, size_ids=True)]
    both = Conditioning.cat(parts)
    assert len(both) == 3
    assert_same_bits(both.select(0), parts[0])
    assert_same_bits(both.select(slice(1, 3)), parts[1])
    assert_same_bits(both.select([1, 2]), parts[1])
    assert_same_bits(both.select([2, 0]), Conditioning.cat([both.select(2), parts[0]]))
    assert both.select(-1).context.equal(both.context[2:])


def test_cat_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"contexts of one length are needed, got \[4, 8\]"):
        Conditioning.cat([sample(0, 1), sample(0, 1, tokens=8)])
    with pytest.raises(ValueError, match="either all or none"):
        Conditioning.cat([sample(0, 1), sample(0, 1, size_ids=True)])
    with pytest.raises(ValueError, match="contexts of one length"):
        Conditioning.cat([])


def test_to_changes_precision_but_not_sizes() -> None:
    small = sample(0, 2, size_ids=True).to(dtype=torch.bfloat16)
    assert [value.dtype for value in (small.context, small.pooled) if value is not None] == [torch.bfloat16] * 2
    assert small.size_ids is not None
    assert small.size_ids.equal(torch.full((2, 6), 1023.0))


def test_to_moves_every_part() -> None:
    moved = sample(0, 2, size_ids=True).to("meta")
    assert [value.is_meta for value in (moved.context, moved.pooled, moved.size_ids) if value is not None] == [True] * 3
    assert sample(0, 2).to("meta").size_ids is None
