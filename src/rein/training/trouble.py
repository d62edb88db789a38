"""Where a training went wrong: the first layer whose answer is not finite, and the picture that it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rein.errors import ReinError
from rein.training.objective import Batch, Named, Objective, Player, Uncompiled


def find_trouble(objective: Objective, player: Player, batch: Batch) -> str:
    """What is to blame for a loss or gradient that is not finite, as ": layer X for picture Y"; "" if nothing shows.

    The batch is gone through again, with the same noise, and every layer is looked at.
    """
    found: list[tuple[str, Tensor | None]] = []
    handles = [
        layer.register_forward_hook(_watch(name, found))
        for name, layer in player.module.named_modules()
        if not next(layer.children(), None)
    ]
    try:
        player.loss(Uncompiled(player.module), batch)
    except (ReinError, RuntimeError):
        pass
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        broken = [
            name
            for name, value in player.module.named_parameters()
            if value.grad is not None and not bool(torch.isfinite(value.grad).all())
        ]
        return f": the gradient of {broken[0]} and {len(broken) - 1} others" if broken else ""
    layer, rows = found[0]
    return f": first in layer {layer}{_pictures(objective, batch, rows)}"


def _watch(name: str, found: list[tuple[str, Tensor | None]]) -> Callable[[nn.Module, Any, Any], None]:
    def look(layer: nn.Module, inputs: Any, output: Any) -> None:
        if found or not isinstance(output, Tensor) or not output.is_floating_point():
            return
        finite = torch.isfinite(output)
        if not bool(finite.all()):
            found.append((name, None if output.ndim < 2 else ~finite.flatten(1).all(1)))

    return look


def _pictures(objective: Objective, batch: Batch, rows: Tensor | None) -> str:
    """The pictures of some rows; those of the batch where rows are not its pictures, one by one."""
    numbers = batch.indices.tolist()
    known = rows is not None and len(rows) == len(numbers)
    blamed = (
        [n for n, bad in zip(numbers, rows.tolist(), strict=True) if bad] if known and rows is not None else numbers
    )
    names = [objective.picture(number) if isinstance(objective, Named) else f"number {number}" for number in blamed[:4]]
    more = f" and {len(blamed) - 4} more" if len(blamed) > 4 else ""
    return f", {'picture' if known else 'in a batch with'} {', '.join(names)}{more}"
