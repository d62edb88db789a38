"""What weights do to a context: one row of arithmetic for each dialect and emphasis mode.

z is a tower's context of a window, w the weight of a token (1 for start, end and pads), e the context of the window of
an empty text; everything token by token. m is the mean over a whole window.

| name     | context                                                                                         |
|----------|-------------------------------------------------------------------------------------------------|
| original | w z, times m(z) / m(w z)                                        AUTOMATIC1111's default           |
| no_norm  | w z                                                                                              |
| ignore   | z                                                                                                |
| comfy    | e + w (z - e)                                                                                    |
| compel   | c(z) = e + w (z - e); with z_i the same text without piece i, and t_i = tan((1 - w_i) pi / 2)    |
|          | for every piece with w_i < 1: (c(z) + sum of t_i c(z_i)) / (1 + sum of t_i)                      |

`z_i` hides the tokens of piece i from attention. Where all weights are 1, every row gives z itself, the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rein.text.reading import EMPTY, TowerReader
from rein.text.windows import Window

Weighting = Callable[[TowerReader, Sequence[Window]], list[Tensor]]
"""`(reader, windows of one text) -> context (1, T, D) of each window`."""

_SMALLEST = 1e-5
"""compel's smallest weight below 1: at 0 the tangent has no end."""


def original(reader: TowerReader, windows: Sequence[Window]) -> list[Tensor]:
    """Weights that keep the mean of a window."""

    def weighted(window: Window) -> Tensor:
        plain = reader.context(window)
        scaled = plain * reader.weights(window).to(plain)
        return scaled * (plain.mean() / scaled.mean())

    return _where_weighted(reader, windows, weighted)


def no_norm(reader: TowerReader, windows: Sequence[Window]) -> list[Tensor]:
    """Weights as they are."""

    def weighted(window: Window) -> Tensor:
        plain = reader.context(window)
        return plain * reader.weights(window).to(plain)

    return _where_weighted(reader, windows, weighted)


def ignore(reader: TowerReader, windows: Sequence[Window]) -> list[Tensor]:
    """No weights."""
    return [reader.context(window) for window in windows]


def comfy(reader: TowerReader, windows: Sequence[Window]) -> list[Tensor]:
    """From the empty text's context towards the text's, and past it."""
    return _where_weighted(reader, windows, lambda window: _from_empty(reader, window))


def compel(reader: TowerReader, windows: Sequence[Window]) -> list[Tensor]:
    """As `comfy`, and a piece of less than 1 is mixed with the text without it."""
    lesser = {token.piece: token.weight for window in windows for token in window if token.weight < 1}
    shares = {piece: math.tan((1 - max(weight, _SMALLEST)) * math.pi / 2) for piece, weight in sorted(lesser.items())}
    total = 1 + sum(shares.values())
    contexts = []
    for window in windows:
        base = _from_empty(reader, window) if _has_weights(window) else reader.context(window)
        mixed = base
        if shares:
            mixed = base / total
            for piece, share in shares.items():
                hidden = frozenset(place for place, token in enumerate(window, start=1) if token.piece == piece)
                mixed = mixed + _from_empty(reader, window, hidden) * (share / total)
        contexts.append(mixed)
    return contexts


def _has_weights(window: Window) -> bool:
    return any(token.weight != 1 for token in window)


def _where_weighted(
    reader: TowerReader, windows: Sequence[Window], weighted: Callable[[Window], Tensor]
) -> list[Tensor]:
    return [weighted(window) if _has_weights(window) else reader.context(window) for window in windows]


def _from_empty(reader: TowerReader, window: Window, hidden: frozenset[int] = frozenset()) -> Tensor:
    context, empty = reader.context(window, hidden), reader.context(EMPTY)
    weights = reader.weights(window).to(context)
    # Rounding would change what has the weight 1.
    return torch.where(weights == 1, context, empty + (context - empty) * weights)


WEIGHTINGS: dict[str, Weighting] = {
    "original": original,
    "no_norm": no_norm,
    "ignore": ignore,
    "comfy": comfy,
    "compel": compel,
}
"""Every arithmetic by name."""
