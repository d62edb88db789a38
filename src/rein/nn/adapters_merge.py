"""Adapters merged into the weights of networks, changed from one set to another, and taken out without a trace.

Weights are written in place: whatever a layer keeps of its parameter (order in memory, weights sorted by
`rein.engines.cpu`) stays valid or notices the change. Of each touched weight the original is kept beside it, and
nothing of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rein.errors import InputError
from rein.nn.adapters import Change, Place, bias_change, weight_change


@dataclass(frozen=True, eq=False)
class Use:
    """An adapter with its strengths.

    Fields:
        name: what messages call it.
        changes: what it does to each layer.
        strengths: of each part; a part that is not there is left as it is.
    """

    name: str
    changes: Mapping[Place, Change]
    strengths: Mapping[str, float]

    def like(self, other: Use) -> bool:
        """Whether both do the same."""
        return self.changes is other.changes and self.strengths == other.strengths


Acting = list[tuple[Use, Change, float]]
"""What acts on one layer: whose change it is, the change, its strength."""


def changed_weight(weight: Tensor, acting: Acting) -> Tensor:
    """A weight with changes merged in, rounded once to its own precision; the very same tensor where nothing acts.

    Raises:
        InputError: the result is not finite.
    """
    deltas = [(weight_change(change, weight), strength) for _, change, strength in acting]
    return _sum(weight, deltas, acting)


def changed_bias(bias: Tensor, acting: Acting) -> Tensor:
    """The same for a bias."""
    return _sum(bias, [(bias_change(change, bias), strength) for _, change, strength in acting], acting)


def _sum(original: Tensor, deltas: Sequence[tuple[Tensor | None, float]], acting: Acting) -> Tensor:
    total: Tensor | None = None
    for delta, strength in deltas:
        if delta is not None:
            total = delta * strength if total is None else total + delta * strength
    if total is None:
        return original
    merged = (original.float() + total).to(original.dtype)
    if not bool(torch.isfinite(merged).all()):
        names = ", ".join(sorted({use.name for use, _, _ in acting}))
        raise InputError(f"adapter {names}: weights do not stay finite in {original.dtype}: use a smaller weight")
    return merged


def acting_on(uses: Sequence[Use]) -> dict[Place, Acting]:
    """What each layer is changed by; layers and adapters of strength 0 are left out."""
    table: dict[Place, Acting] = {}
    for use in uses:
        for place, change in use.changes.items():
            strength = use.strengths.get(place[0], 0.0)
            if strength:
                table.setdefault(place, []).append((use, change, strength))
    return table


class Merger:
    """The weights of some networks, with the adapters that are wanted merged into them.

    Several threads may use it. Those that want the same adapters go on together, others wait for their turn.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self._parts = parts
        self._current: tuple[Use, ...] = ()
        self._originals: dict[tuple[Place, str], Tensor] = {}
        self._turn = threading.Condition()
        self._busy = 0

    @property
    def kept_bytes(self) -> int:
        """Memory that the originals of touched weights take."""
        return sum(tensor.nbytes for tensor in self._originals.values())

    @contextmanager
    def using(self, uses: Sequence[Use]) -> Iterator[None]:
        """Within the block the networks have exactly these adapters. They stay until others are wanted.

        It costs nothing where they are the current ones. Do not ask for others within the block.

        Raises:
            InputError: weights do not stay finite; the networks are then as they were without adapters.
        """
        with self._turn:
            self._turn.wait_for(lambda: not self._busy or self._is_current(uses))
            if not self._is_current(uses):
                self._switch(tuple(uses))
            self._busy += 1
        try:
            yield
        finally:
            with self._turn:
                self._busy -= 1
                self._turn.notify_all()

    def restore(self) -> None:
        """Take all adapters out: every weight is as it was, bit for bit, and nothing is kept twice."""
        with self.using(()):
            pass

    def _is_current(self, uses: Sequence[Use]) -> bool:
        return len(uses) == len(self._current) and all(map(Use.like, uses, self._current))

    def _switch(self, uses: tuple[Use, ...]) -> None:
        wanted = acting_on(uses)
        try:
            for place, name in list(self._originals):
                if place not in wanted:
                    self._put_back(place, name)
            for place, acting in wanted.items():
                self._merge(place, acting)
            self._current = uses
        except BaseException:
            for place, name in list(self._originals):
                self._put_back(place, name)
            self._current = ()
            raise

    def _merge(self, place: Place, acting: Acting) -> None:
        for name, changed in (("weight", changed_weight), ("bias", changed_bias)):
            original = self._original(place, name)
            if original is None:
                continue
            merged = changed(original, acting)
            if merged is not original:
                # A copy is kept before the first write; what was kept serves as long as any adapter touches the layer.
                if (place, name) not in self._originals:
                    self._originals[place, name] = original.detach().clone()
                self._write(place, name, merged)
            elif (place, name) in self._originals:
                self._put_back(place, name)

    def _original(self, place: Place, name: str) -> Tensor | None:
        kept = self._originals.get((place, name))
        return kept if kept is not None else getattr(self._layer(place), name, None)

    def _layer(self, place: Place) -> nn.Module:
        return self._parts[place[0]].get_submodule(place[1])

    def _put_back(self, place: Place, name: str) -> None:
        self._write(place, name, self._originals[place, name])
        del self._originals[place, name]

    def _write(self, place: Place, name: str, value: Tensor) -> None:
        layer = self._layer(place)
        parameter: Tensor = getattr(layer, name)
        # Outside inference mode PyTorch counts the change, which tells layers with sorted weights to sort again.
        with torch.inference_mode(False), torch.no_grad():
            if parameter.is_inference():  # has no counter and may not be written here
                setattr(layer, name, nn.Parameter(parameter.clone(), requires_grad=False))
                parameter = getattr(layer, name)
            parameter.copy_(value)
