"""A text tower that reads windows of tokens.

Shapes: T tokens of a window with start, end and pads; D width of the tower, P that of its pooled vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rein.errors import InputError
from rein.nn.clip import TextFeatures, TextTower
from rein.text.inversion import Embedding
from rein.text.tokenizer import Tokenizer
from rein.text.windows import Window

EMPTY: Window = ()
"""The window of an empty text."""

Learned = tuple[tuple[int, str, int], ...]
Key = tuple[tuple[int, ...], Learned, frozenset[int]]
"""A window as a tower sees it: its ids, learned words in it, and hidden places."""

Recall = Callable[[Key, Callable[[], TextFeatures]], TextFeatures]
"""`(key, make) -> features`: those that are known of a window, or made."""


@dataclass(eq=False)
class TowerReader:
    """What a tower says of windows, each of which it is asked once.

    Fields:
        clip_skip: which of the tower's states is read, counted from the last: 1 is the last. Never a later one than
            the model was trained with.
        embeddings: learned words by name.
        index: which of the model's towers it is, for the learned words' vectors.
        recall: what is known from elsewhere, of the same tower and the same learned words; None: nothing.
    """

    tower: TextTower
    tokenizer: Tokenizer
    clip_skip: int = 1
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    index: int = 0
    recall: Recall | None = None
    _known: dict[Key, TextFeatures] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """Tokens of a window without start and end."""
        return self.tower.config.context_length - 2

    def context(self, window: Window, hidden: frozenset[int] = frozenset()) -> Tensor:
        """The state (1, T, D) that conditions the U-Net.

        Args:
            hidden: places of the window, counted from its start mark as 0, that no token looks at.
        """
        return self.tower.context(self._features(window, hidden), self.clip_skip)

    def pooled(self, window: Window) -> Tensor:
        """The vector (1, P) for a window; learned words count, weights do not."""
        return self._features(window, frozenset()).pooled

    def weights(self, window: Window) -> Tensor:
        """The weight of every place (1, T, 1); start, end and pads have 1."""
        values = torch.ones(1, self.room + 2, 1)
        values[0, 1 : len(window) + 1, 0] = torch.tensor([token.weight for token in window])
        return values.to(next(self.tower.parameters()).device)

    def row(self, window: Window) -> tuple[int, ...]:
        """The ids (T) with start, end and pads."""
        row = (self.tokenizer.start, *(token.id for token in window), self.tokenizer.end)
        return row + (self.tower.config.pad_token,) * (self.room + 2 - len(row))

    def _features(self, window: Window, hidden: frozenset[int]) -> TextFeatures:
        row = self.row(window)
        learned = tuple((place + 1, *token.learned) for place, token in enumerate(window) if token.learned)
        key = (row, learned, hidden)

        def asked() -> TextFeatures:
            ids = torch.tensor([row], device=next(self.tower.parameters()).device)
            words = self._words(ids, learned) if learned else None
            features: TextFeatures = self.tower(ids, words, _visible(len(row), hidden, ids.device))
            return features

        if key not in self._known:
            self._known[key] = asked() if self.recall is None else self.recall(key, asked)
        return self._known[key]

    def _words(self, ids: Tensor, learned: Learned) -> Tensor:
        """The vectors of the tokens (1, T, D), with those of learned words in their places."""
        words: Tensor = self.tower.text_model.embeddings.token_embedding(ids).clone()
        for place, name, number in learned:
            vector = self.embeddings[name].vectors[self.index][number]
            if vector.shape[0] != words.shape[2]:
                raise InputError(
                    f"embedding {name!r} has vectors of {vector.shape[0]} numbers: text tower {self.index + 1} of this "
                    f"model takes {words.shape[2]}"
                )
            words[0, place] = vector.to(words)
        return words


def _visible(length: int, hidden: frozenset[int], device: torch.device) -> Tensor | None:
    if not hidden:
        return None
    visible = torch.ones(1, length, dtype=torch.bool)
    visible[0, sorted(hidden)] = False
    return visible.to(device)
