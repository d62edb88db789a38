"""Prompts made into what guides each step, against transformers' text models and formulas written anew here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rein.errors import InputError
from rein.nn.clip import TextTower
from rein.text.dialects import DIALECTS, Dialect, find_dialect
from rein.text.encode import Conditioning, encode_texts
from rein.text.inversion import Embedding
from rein.text.plan import EncodingOptions, PromptPlan, encode_prompts
from rein.text.windows import MAX_WINDOWS
from tests.text.test_encode import (
    BASE,
    LENGTH,
    OPENCLIP,
    TEXTS,
    TOKENIZER,
    reference,
    reference_model,
    relative_error,
    rows_of,
    sdxl,
    tower_like,
)

ROOM = LENGTH - 2
RED = "a red apple"


def tower() -> TextTower:
    return tower_like(reference_model(BASE, 1), BASE)


def plan_of(prompt: str, negative: str | None = "", steps: int = 4, **options: Any) -> PromptPlan:
    """The plan of a small SD1 tower; without a negative prompt, where that can be."""
    chosen = EncodingOptions(**options, leave_negative=negative is None)
    return encode_prompts(prompt, negative or "", steps, [tower()], [TOKENIZER], chosen)


def context_of(prompt: str, **options: Any) -> Tensor:
    [(words, weight)] = plan_of(prompt, "", 1, **options).steps[0].wanted
    assert weight == 1
    return words.context


def hidden(ids: list[int], mask: list[int] | None = None) -> Tensor:
    """transformers' last state (1, T, D) of a window of these tokens."""
    row = [TOKENIZER.start, *ids, TOKENIZER.end]
    row += [TOKENIZER.end] * (LENGTH - len(row))
    with torch.no_grad():
        model = reference_model(BASE, 1)
        keep = None if mask is None else torch.tensor([mask])
        out: Tensor = model(input_ids=torch.tensor([row]), attention_mask=keep).last_hidden_state
    return out


def weights_row(weights: list[float]) -> Tensor:
    return torch.tensor([1.0, *weights] + [1.0] * (LENGTH - 1 - len(weights)))[None, :, None]


def a1111(emphasis: str | None = None) -> Dialect:
    return find_dialect("a1111", emphasis)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_plain_prompt_is_the_same_in_all_dialects_and_as_before(dialect: Dialect) -> None:
    plan = plan_of(RED, TEXTS[1], dialect=dialect)
    before = encode_texts([TEXTS[1], RED], [tower()], [TOKENIZER])
    assert plan.constant and len(plan.steps) == 4
    rows = Conditioning.cat(plan.steps[0].rows)
    assert torch.equal(rows.context, before.context)
    assert rows.pooled is not None and before.pooled is not None and torch.equal(rows.pooled, before.pooled)
    assert relative_error(rows.context[1:], hidden(TOKENIZER.encode(RED))) < 1e-5


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_sd2_and_sdxl_too(dialect: Dialect) -> None:
    options = EncodingOptions(dialect)
    model = reference_model(OPENCLIP, 2)
    sd2 = tower_like(model, replace(OPENCLIP, layers=OPENCLIP.layers - 1, dropped_layers=1))
    norm = next(module for name, module in model.named_modules() if name.endswith("final_layer_norm"))
    state = norm(reference(model, rows_of([RED], 0)).hidden_states[-2]).detach()
    words = encode_prompts(RED, "", 1, [sd2], [TOKENIZER], options).steps[0].wanted[0][0]
    assert relative_error(words.context, state) < 1e-5
    models, towers = sdxl()
    words = encode_prompts(RED, "", 1, towers, [TOKENIZER] * 2, options).steps[0].wanted[0][0]
    outputs = [reference(model, rows_of([RED], pad)) for model, pad in zip(models, (TOKENIZER.end, 0), strict=True)]
    assert relative_error(words.context, torch.cat([output.hidden_states[-2] for output in outputs], dim=2)) < 1e-5
    assert words.pooled is not None and relative_error(words.pooled, outputs[1].text_embeds) < 1e-5


def test_rein_fills_long_prompts_as_before() -> None:
    plan = plan_of(TEXTS[2], TEXTS[0])
    before = encode_texts([TEXTS[0], TEXTS[2]], [tower()], [TOKENIZER])
    assert torch.equal(Conditioning.cat(plan.steps[0].rows).context, before.context)


PROMPT = "a (red:1.5) apple"
WEIGHTS = [1.0, 1.5, 1.0]


@pytest.mark.parametrize("weights", [[1.0, 1.5, 1.0], [1.0, 0.3, 1.0], [1.0, -0.5, 1.0], [1.0, 0.0, 1.0]])
def test_a1111s_arithmetic(weights: list[float]) -> None:
    prompt = f"a (red:{weights[1]}) apple"
    plain = hidden(TOKENIZER.encode(RED))
    scaled = plain * weights_row(weights)
    restored = scaled * (plain.mean() / scaled.mean())
    assert relative_error(context_of(prompt, dialect=a1111()), restored) < 1e-4
    assert relative_error(context_of(prompt, dialect=a1111("No norm")), scaled) < 1e-5
    assert relative_error(context_of(prompt, dialect=a1111("ignore")), plain) < 1e-5
    literal = hidden(TOKENIZER.encode(prompt)[:ROOM])
    assert relative_error(context_of(prompt, dialect=a1111("none"))[:, :LENGTH], literal) < 1e-5


@pytest.mark.parametrize("weights", [[1.0, 1.5, 1.0], [1.0, 0.3, 1.0], [1.0, 0.0, 1.0]])
def test_comfys_arithmetic(weights: list[float]) -> None:
    plain, empty = hidden(TOKENIZER.encode(RED)), hidden([])
    expected = empty + (plain - empty) * weights_row(weights)
    found = context_of(f"a ((red:{weights[1]})) apple", dialect=DIALECTS["comfy"])
    nested = hidden(TOKENIZER.encode(RED))
    assert relative_error(found, expected) < 1e-5
    assert weights[1] == 1 or not torch.allclose(found, nested)


def compel_by_hand(ids: list[list[int]], weights: list[float]) -> Tensor:
    """The mean, by tan((1 - w) pi / 2), of the weighted text and of the texts in which each lesser piece is hidden."""
    tokens = [token for piece in ids for token in piece]
    row = weights_row([weight for piece, weight in zip(ids, weights, strict=True) for _ in piece])
    empty = hidden([])

    def scaled(mask: list[int] | None) -> Tensor:
        return empty + (hidden(tokens, mask) - empty) * row

    total, share = scaled(None), 1.0
    first = 1
    for piece, weight in zip(ids, weights, strict=True):
        if weight < 1:
            mask = [int(not first <= place < first + len(piece)) for place in range(LENGTH)]
            tangent = math.tan((1 - max(weight, 1e-5)) * math.pi / 2)
            total, share = total + tangent * scaled(mask), share + tangent
        first += len(piece)
    return total / share


@pytest.mark.parametrize(
    ("prompt", "pieces", "weights"),
    [
        ("a red++ apple", ["a", "red", "apple"], [1.0, 1.21, 1.0]),
        ("a red- apple", ["a", "red", "apple"], [1.0, 0.9, 1.0]),
        ("a (red)0.5 apple--", ["a", "red", "apple"], [1.0, 0.5, 0.81]),
        ("(a red)0.2 (apple)1.5", ["a red", "apple"], [0.2, 1.5]),
        ("a (red)0 apple", ["a", "red", "apple"], [1.0, 0.0, 1.0]),
    ],
)
def test_compels_arithmetic(prompt: str, pieces: list[str], weights: list[float]) -> None:
    expected = compel_by_hand([TOKENIZER.encode(piece) for piece in pieces], weights)
    assert relative_error(context_of(prompt, dialect=DIALECTS["compel"]), expected) < 1e-4


def test_compels_blend_and_conjunction() -> None:
    compel = DIALECTS["compel"]
    one, other = hidden(TOKENIZER.encode("a red apple")), hidden(TOKENIZER.encode("two green frogs"))
    blend = context_of('("a red apple", "two green frogs").blend(1, 3)', dialect=compel)
    assert relative_error(blend, one / 4 + other * 3 / 4) < 1e-5
    total = context_of('("a red apple", "two green frogs").blend(1, 3, no_normalize)', dialect=compel)
    assert relative_error(total, one + other * 3) < 1e-5
    both = context_of('("a red apple", "two green frogs").and(1, 0.5)', dialect=compel)
    empty = hidden([])
    assert relative_error(both, torch.cat([one, empty + (other - empty) * 0.5], dim=1)) < 1e-5


def test_break_and_commas_begin_windows() -> None:
    broken = context_of("a red BREAK apple", dialect=a1111())
    parts = [hidden(TOKENIZER.encode(text)) for text in ("a red", "apple")]
    assert relative_error(broken, torch.cat(parts, dim=1)) < 1e-5
    words = ["red"] * 6 + [","] + ["green"] * 5  # twelve tokens: ten fit, and the comma is the seventh
    ids = [TOKENIZER.encode(word)[0] for word in words]
    assert TOKENIZER.encode(" ".join(words)) == ids
    for dialect, cut in [(a1111(), 7), (DIALECTS["rein"], 10)]:
        expected = torch.cat([hidden(ids[:cut]), hidden(ids[cut:])], dim=1)
        assert relative_error(context_of(" ".join(words), dialect=dialect), expected) < 1e-5


def test_comfy_keeps_words_together() -> None:
    """The last word of three tokens does not fit behind nine others, and is not divided."""
    assert len(TOKENIZER.encode("xyz")) == 3
    ids = TOKENIZER.encode("red " * 9 + "xyz")
    found = context_of("red " * 9 + "xyz", dialect=DIALECTS["comfy"])
    assert relative_error(found, torch.cat([hidden(ids[:9]), hidden(ids[9:])], dim=1)) < 1e-5


def test_parts_have_weights_and_one_length() -> None:
    plan = plan_of(f"{RED} :0.5 AND {TEXTS[2]} AND a", "no", dialect=a1111())
    [(first, half), (second, one), _] = plan.steps[0].wanted
    assert (half, one) == (0.5, 1.0)
    assert first.context.shape == second.context.shape == (1, 3 * LENGTH, 32)
    alone = context_of(RED, dialect=a1111())
    assert torch.equal(first.context[:, :LENGTH], alone)
    assert torch.equal(first.context[:, LENGTH:], alone[:, -1:].expand(-1, 2 * LENGTH, -1))
    unwanted = plan.steps[0].unwanted
    assert unwanted is not None and unwanted.context.shape[1] == LENGTH


def test_the_negative_prompt_is_left_out_only_where_it_is_not_asked_for() -> None:
    assert plan_of(RED, None).steps[0].unwanted is None
    several = plan_of("a AND b", None, dialect=a1111()).steps[0]
    assert several.unwanted is not None and torch.equal(several.unwanted.context, context_of(""))
    literal = plan_of("a", "b AND c", dialect=a1111()).steps[0]
    assert literal.unwanted is not None and torch.equal(literal.unwanted.context, context_of("b and c"))


def test_steps_with_the_same_words_share_them() -> None:
    plan = plan_of("[a|two] frogs", "[x:y:2]", 6, dialect=a1111())
    texts = [("a", "x"), ("a", "x"), ("two", "x"), ("a", "y"), ("two", "y"), ("a", "y")]
    for words, (wanted, unwanted) in zip(plan.steps, texts, strict=True):
        assert torch.equal(words.wanted[0][0].context, context_of(f"{wanted} frogs"))
        assert words.unwanted is not None and torch.equal(words.unwanted.context, context_of(unwanted))
    assert plan.steps[0] is plan.steps[1] and plan.steps[3] is plan.steps[5] and not plan.constant
    mapped = plan.map(lambda words, negative: replace(words, size_ids=torch.tensor([[float(negative)]])))
    assert mapped.steps[0] is mapped.steps[1] and mapped.steps[3] is mapped.steps[5]
    assert [part.size_ids.item() for part in mapped.steps[2].rows if part.size_ids is not None] == [1, 0]


def test_zeros_stand_for_an_empty_negative_prompt_where_the_model_wants_it() -> None:
    _, towers = sdxl()
    for dialect, negative, zero in [
        ("a1111", "", True),
        ("a1111", " ", True),
        ("a1111", "x", False),
        ("comfy", "", False),
    ]:
        options = EncodingOptions(DIALECTS[dialect], zero_empty_negative=True)
        words = encode_prompts(RED, negative, 1, towers, [TOKENIZER] * 2, options).steps[0]
        assert words.unwanted is not None and words.unwanted.pooled is not None
        assert bool((words.unwanted.context == 0).all()) == bool((words.unwanted.pooled == 0).all()) == zero
        assert bool((words.wanted[0][0].context != 0).any())


def test_clip_skip_counts_from_the_published_towers_last_state() -> None:
    model = reference_model(BASE, 1)
    states = reference(model, rows_of([RED], TOKENIZER.end)).hidden_states
    norm = next(module for name, module in model.named_modules() if name.endswith("final_layer_norm"))
    for skip in (2, 3, 4):
        assert relative_error(context_of(RED, clip_skip=skip), norm(states[-skip]).detach()) < 1e-5
    with pytest.raises(InputError, match="clip_skip is 5: this model's text tower has 4 layers"):
        context_of(RED, clip_skip=5)
    models, towers = sdxl()
    outputs = [reference(model, rows_of([RED], pad)) for model, pad in zip(models, (TOKENIZER.end, 0), strict=True)]
    for skip, read in [(1, 2), (2, 2), (3, 3)]:
        options = EncodingOptions(clip_skip=skip)
        words = encode_prompts(RED, "", 1, towers, [TOKENIZER] * 2, options).steps[0].wanted[0][0]
        assert relative_error(words.context, torch.cat([out.hidden_states[-read] for out in outputs], dim=2)) < 1e-5


def test_learned_words_take_the_places_of_their_names() -> None:
    """Two vectors that are those of known words give what the known words give."""
    one = tower()
    table = one.text_model.embeddings.token_embedding.weight.detach()
    ids = TOKENIZER.encode("red apple")
    learned = {"My-Fruit": Embedding("My-Fruit", (table[ids],))}
    options = EncodingOptions(a1111(), embeddings=learned)
    found = encode_prompts("a (my-fruit:1.2) on", "", 1, [one], [TOKENIZER], options).steps[0].wanted[0][0]
    plain = encode_prompts("a (red apple:1.2) on", "", 1, [one], [TOKENIZER], EncodingOptions(a1111())).steps[0]
    assert torch.equal(found.context, plain.wanted[0][0].context)
    comfy = EncodingOptions(DIALECTS["comfy"], embeddings=learned)
    found = encode_prompts("a embedding:my-fruit on", "", 1, [one], [TOKENIZER], comfy).steps[0].wanted[0][0]
    assert torch.equal(found.context, context_of("a red apple on"))
    wrong = EncodingOptions(embeddings={"fruit": Embedding("fruit", (torch.zeros(1, 7),))})
    with pytest.raises(InputError, match="'fruit' has vectors of 7 numbers: text tower 1 of this model takes 32"):
        encode_prompts("a fruit", "", 1, [one], [TOKENIZER], wrong)


@pytest.mark.parametrize("text", ["a " * (MAX_WINDOWS * ROOM + 1), "a" * 1_000_000, "a BREAK " * 40])
def test_what_is_too_long_is_refused(text: str) -> None:
    limit = MAX_WINDOWS * ROOM
    with pytest.raises(InputError, match=f"shorten it to {limit} tokens at most"):
        context_of(text, dialect=a1111())


@pytest.mark.parametrize(
    "prompt",
    [
        "a tall man picking apricots",
        "a tall man picking apricots++",
        "a tall man- picking (apricots from+ a tree)1.3",
        "(mountain)0.4 man, (snow)0.7",
        '("a red apple", "a green frog").blend(1, 0.6)',
        '("a red apple", "a green frog").and(1, 0.6)',
    ],
)
def test_it_equals_the_compel_library(prompt: str, transformers_tokenizer: Any) -> None:
    from compel import Compel

    from rein.text.tokenizer import clip_tokenizer

    tokenizer = clip_tokenizer()
    size = tokenizer.vocabulary_size
    config = replace(BASE, vocabulary_size=size, context_length=77, end_token=size - 1, pad_token=size - 1)
    model = reference_model(config, 5)
    transformers_tokenizer.model_max_length = 77
    peer = Compel(tokenizer=transformers_tokenizer, text_encoder=model, device="cpu")
    with torch.no_grad():
        expected = peer.build_conditioning_tensor(prompt)
    options = EncodingOptions(DIALECTS["compel"])
    found = encode_prompts(prompt, "", 1, [tower_like(model, config)], [tokenizer], options).steps[0].wanted[0][0]
    assert relative_error(found.context, expected) < 1e-4
