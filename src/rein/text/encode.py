"""Texts made into what guides a U-Net.

Shapes: B texts, T tokens of context, D width of context, P width of pooled text.

A tower reads a window of `context_length` tokens, start and end among them. A longer text is cut into windows that are
encoded one by one, and their contexts are joined along T (the way of the AUTOMATIC1111 web UI).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.errors import InputError
from rein.nn.clip import TextFeatures, TextTower
from rein.text.tokenizer import Tokenizer
from rein.text.windows import MAX_WINDOWS


@dataclass(frozen=True)
class Conditioning:
    """What guides a U-Net besides the noisy picture, for B pictures.

    Fields:
        context: states of the text's tokens (B, T, D).
        pooled: one vector for the whole text (B, P), or None.
        size_ids: sizes and crops in pixels (B, S), for families that take them (SDXL), or None.
        extra: what families with more channels than the latents see in them (B, E, h, w), or None.
    """

    context: Tensor
    pooled: Tensor | None = None
    size_ids: Tensor | None = None
    extra: Tensor | None = None

    def __len__(self) -> int:
        return self.context.shape[0]

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """One batch of several, in order. All must have the same T and the same fields, else ValueError."""
        lengths = {part.context.shape[1] for part in parts}
        if len(lengths) != 1:
            raise ValueError(f"contexts of one length are needed, got {sorted(lengths)}: encode them in one call")
        return cls(
            torch.cat([part.context for part in parts]),
            _cat_optional([part.pooled for part in parts]),
            _cat_optional([part.size_ids for part in parts]),
            _cat_optional([part.extra for part in parts]),
        )

    def select(self, rows: int | slice | Sequence[int]) -> Conditioning:
        """Some of the B rows, in the order given; a single row keeps its batch dimension."""
        chosen = [rows] if isinstance(rows, int) else rows
        return Conditioning(
            self.context[chosen],
            None if self.pooled is None else self.pooled[chosen],
            None if self.size_ids is None else self.size_ids[chosen],
            None if self.extra is None else self.extra[chosen],
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """The same on another device, in another precision. Size ids keep theirs: bfloat16 has no 1023."""
        return Conditioning(
            self.context.to(device, dtype),
            None if self.pooled is None else self.pooled.to(device, dtype),
            None if self.size_ids is None else self.size_ids.to(device),
            None if self.extra is None else self.extra.to(device, dtype),
        )


def _cat_optional(values: Sequence[Tensor | None]) -> Tensor | None:
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        raise ValueError("either all or none of the parts must have pooled text, size ids, and extra channels")
    return torch.cat(present) if present else None


@torch.no_grad()
def encode_texts(
    texts: Sequence[str], towers: Sequence[TextTower], tokenizers: Sequence[Tokenizer], windows: int = 1
) -> Conditioning:
    """Encode texts, each by itself, so that a text gives the same bits alone and among others on the same device.

    All texts get as many windows as the longest needs, filled up with empty ones: encode a prompt and its negative
    prompt in one call, and prompts of pictures that must not depend on each other in calls of their own.

    Args:
        texts: B texts; empty ones are allowed.
        towers: their contexts are joined along D; the last gives the pooled text, from the first window.
        tokenizers: one for each tower. A row is filled with the tower's `pad_token`, not with the tokenizer's.
        windows: the least number of windows for each text.

    Returns:
        Context (B, windows * context_length, sum of widths) and pooled (B, P), of the towers' device and precision.

    Raises:
        InputError: no texts, a text of over `MAX_WINDOWS` windows, or tower and tokenizer do not belong together.
    """
    if not texts or isinstance(texts, str):
        raise InputError("texts must be a list of at least one string")
    for tower, tokenizer in zip(towers, tokenizers, strict=True):
        check_pair(tower, tokenizer)
    count = max(windows, *(windows_needed(text, towers, tokenizers) for text in texts))
    contexts, pooled = [], None
    for tower, tokenizer in zip(towers, tokenizers, strict=True):
        context, pooled = _encode(texts, tower, tokenizer, count)
        contexts.append(context)
    return Conditioning(torch.cat(contexts, dim=2), pooled)


def windows_needed(text: str, towers: Sequence[TextTower], tokenizers: Sequence[Tokenizer]) -> int:
    """How many windows of the towers the text fills; an empty text fills one.

    Raises:
        InputError: more than `MAX_WINDOWS`.
    """
    count = 1
    for tower, tokenizer in zip(towers, tokenizers, strict=True):
        tokens, room = len(tokenizer.encode(text)), tower.config.context_length - 2
        if tokens > room * MAX_WINDOWS:
            raise InputError(f"a prompt of {tokens:,} tokens is too long: shorten it to {room * MAX_WINDOWS:,} at most")
        count = max(count, -(-tokens // room))
    return count


def window_ids(ids: Sequence[int], tower: TextTower, tokenizer: Tokenizer, count: int) -> list[tuple[int, ...]]:
    """Token ids cut into `count` windows of the tower, each with start, end and pads."""
    length = tower.config.context_length
    rows = []
    for place in range(count):
        row = (tokenizer.start, *ids[place * (length - 2) : (place + 1) * (length - 2)], tokenizer.end)
        rows.append(row + (tower.config.pad_token,) * (length - len(row)))
    return rows


def one_window(text: str, towers: Sequence[TextTower], tokenizers: Sequence[Tokenizer]) -> tuple[tuple[int, ...], ...]:
    """The ids of a text's first window, for each tower: what does not fit into it is cut off, as trainings do."""
    pairs = zip(towers, tokenizers, strict=True)
    return tuple(window_ids(tokenizer.encode(text), tower, tokenizer, 1)[0] for tower, tokenizer in pairs)


@torch.no_grad()
def encode_windows(windows: Sequence[tuple[tuple[int, ...], ...]], towers: Sequence[TextTower]) -> Conditioning:
    """Texts cut to `one_window` each, together: context (B, T, D) and pooled (B, P) of the last tower."""
    contexts, pooled = [], None
    for number, tower in enumerate(towers):
        features = tower(torch.tensor([ids[number] for ids in windows], device=next(tower.parameters()).device))
        contexts.append(tower.context(features))
        pooled = features.pooled
    return Conditioning(torch.cat(contexts, dim=2), pooled)


def _encode(texts: Sequence[str], tower: TextTower, tokenizer: Tokenizer, count: int) -> tuple[Tensor, Tensor]:
    device = next(tower.parameters()).device
    known: dict[tuple[int, ...], TextFeatures] = {}  # the same window, often the empty one, is encoded once a call

    def features(row: tuple[int, ...]) -> TextFeatures:
        if row not in known:
            known[row] = tower(torch.tensor([row], device=device))
        return known[row]

    contexts, pooled = [], []
    for text in texts:
        rows = window_ids(tokenizer.encode(text), tower, tokenizer, count)
        contexts.append(torch.cat([tower.context(features(row)) for row in rows], dim=1))
        pooled.append(features(rows[0]).pooled)
    return torch.cat(contexts), torch.cat(pooled)


def check_pair(tower: TextTower, tokenizer: Tokenizer) -> None:
    """Raises `InputError` if the tokenizer is not the one that the tower was trained with."""
    config = tower.config
    if tokenizer.vocabulary_size > config.vocabulary_size or tokenizer.end != config.end_token:
        raise InputError(
            f"the tokenizer ({tokenizer.vocabulary_size} tokens, end {tokenizer.end}) does not belong to the text "
            f"tower ({config.vocabulary_size} tokens, end {config.end_token}): use the one that it was trained with"
        )
