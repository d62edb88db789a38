"""Words that a text tower knows and hardly uses: names to give to something new (Ruiz et al. 2023, DreamBooth, 3.2).

A word of one token has a place of its own in the tower. If nearly no caption used it, little is lost by giving it a
meaning. Two signs of that are combined, each as a rank among the candidates: the token was made late when the
vocabulary was learnt, which is the order of frequency; and its vector lies near the middle of all vectors, where they
begin and from where training moves those that it meets (cf. Land & Bartolo 2024, on under-trained tokens).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rein.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class RareToken:
    """A word of one token.

    Fields:
        text: the word.
        id: of its token.
        rarity: 0 to 1, the rarest at 1, among all candidates.
        movement: how far its vector is from the middle of all, with the median of the candidates as 1; None without
            weights.
    """

    text: str
    id: int
    rarity: float
    movement: float | None


def rare_tokens(
    tokenizer: Tokenizer,
    vectors: NDArray[np.float32] | None = None,
    lengths: tuple[int, int] = (3, 4),
) -> list[RareToken]:
    """The words of one token, the rarest first.

    Args:
        vectors: (N, D), the tower's token embedding; None goes by the vocabulary alone.
        lengths: the fewest and the most letters, of the plain letters a to z.
    """
    words = dict(_words(tokenizer, lengths))
    if not words:
        return []
    ids = np.array(sorted(words), dtype=np.int64)
    ranks = [_ranked(ids.astype(np.float64))]
    movement: NDArray[np.float64] | None = None
    if vectors is not None:
        apart = np.linalg.norm(vectors - vectors.mean(axis=0, keepdims=True), axis=1)[ids].astype(np.float64)
        movement = apart / max(float(np.median(apart)), 1e-12)
        ranks.append(_ranked(-apart))
    rarity = np.mean(ranks, axis=0)
    order = np.argsort(-rarity, kind="stable")
    return [
        RareToken(words[int(ids[i])], int(ids[i]), float(rarity[i]), None if movement is None else float(movement[i]))
        for i in order
    ]


def _words(tokenizer: Tokenizer, lengths: tuple[int, int]) -> list[tuple[int, str]]:
    found = []
    for number in range(tokenizer.vocabulary_size):
        if number in (tokenizer.start, tokenizer.end):
            continue
        text = tokenizer.decode([number])
        plain = text.isascii() and text.isalpha() and lengths[0] <= len(text) <= lengths[1]
        if plain and tokenizer.encode(text) == [number]:  # a word of its own, not the beginning of one
            found.append((number, text))
    return found


def _ranked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place of each value among all, 0 for the smallest, 1 for the largest."""
    places = np.empty(len(values))
    places[np.argsort(values, kind="stable")] = np.linspace(0, 1, len(values)) if len(values) > 1 else 1.0
    return places
