"""NaN and infinity found where they arise, and the part that gave them asked once more in float32.

Half precision ends at 65,504 (float16); what grows larger on its way through a network becomes infinite, and then NaN.
Only a network whose answer is not finite is looked at more closely, so a healthy one costs one glance at each answer.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from rein.errors import NonFiniteError
from rein.nn.clip import TextTower
from rein.text.plan import PromptPlan

Part = TypeVar("Part", bound=nn.Module)

INPUT = "its input"
"""Where the trouble is when it is none of the network's own."""

LAST = "its last sums"
"""Where it is when every module's value was finite, and what was made of them was not."""


class Doctor:
    """Watches the networks of a job, and remembers what it did for the pictures in work.

    `begin` starts the record of the next pictures. What was said of the first words, which are read before, is said
    again of each picture of theirs; what was said of other words is said of their pictures only.
    """

    def __init__(self) -> None:
        self._levels: list[float] = []
        self._about_first: list[str] = []
        self._about_words = self._about_first
        self._steps: dict[str, list[int]] = {}
        self._copies: dict[nn.Module, nn.Module] = {}

    def begin(self, sigmas: Tensor, first_words: bool = True) -> None:
        """The next pictures are drawn over these noise levels, falling; of the first words, or of others."""
        self._about_words = self._about_first if first_words else []
        self._levels = [-level for level in sigmas[:-1].tolist()]
        self._steps = {}
        self._copies = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done otherwise than asked since `begin`, and with the words."""
        count = len(self._levels)
        steps = (f"{what}: {_listed(steps)} of {count} in float32" for what, steps in self._steps.items())
        return (*self._about_words, *steps)

    def answer(self, name: str, network: Part, sigma: Tensor, ask: Callable[[Part], Tensor]) -> Tensor:
        """`ask(network)`; where that is not finite, `ask` with a copy of the network in float32.

        Args:
            name: what the network is called in notes and errors.
            sigma: the noise level that it is asked at.
            ask: also called with hooks on the network, to see where the trouble begins.

        Raises:
            NonFiniteError: the answer is not finite in float32 either.
        """
        answer = ask(network)
        if _is_finite(answer):
            return answer
        step = max(1, bisect_right(self._levels, -float(sigma)))
        where = first_bad(network, lambda: ask(network))
        width = _dtype(network)
        if width != torch.float32 and where != INPUT:
            answer = ask(self._float32(network))
            if _is_finite(answer):
                told = f"{name} overflowed in {_named(width)} at {where}"
                self._steps.setdefault(told, []).append(step)
                return answer
        place = f"in step {step} of {max(step, len(self._levels))}"
        raise NonFiniteError(f"{name} gave NaN or infinity {place}, at {where}{_advice(where)}")

    def encode(self, towers: Sequence[TextTower], make: Callable[[Sequence[TextTower]], PromptPlan]) -> PromptPlan:
        """`make(towers)`; where a text's features are not finite, those of copies of the towers in float32.

        Raises:
            NonFiniteError: the features are not finite in float32 either, or too large for the towers' number format.
        """
        plan = make(towers)
        if all(map(_is_finite, _features(plan))):
            return plan
        where = _first_bad_tower(towers, make)
        width = _dtype(towers[0])
        if width != torch.float32:
            again = make([self._float32(tower) for tower in towers]).map(lambda words, _: words.to(dtype=width))
            if all(map(_is_finite, _features(again))):
                self._about_words.append(f"the words overflowed in {_named(width)} at {where} and were read in float32")
                return again
        raise NonFiniteError(f"the text features hold NaN or infinity, from {where} on{_advice(where)}")

    def _float32(self, network: Part) -> Part:
        """A copy in float32 as the network is now, adapters and all; kept for the pictures in work."""
        if network not in self._copies:
            self._copies[network] = copy.deepcopy(network).float()
        return cast(Part, self._copies[network])


def first_bad(network: nn.Module, ask: Callable[[], object]) -> str:
    """The name of the first module of `network` to give a value that is not finite while `ask()` runs.

    `INPUT` where what the first module is given is not finite already; `LAST` where no module gives such a value.
    """
    healthy: list[str] = []
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def seen(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if found:
                return
            if all(map(_is_finite, _tensors(output))):
                healthy.append(name)
            else:
                found.append(name if healthy or all(map(_is_finite, _tensors(inputs))) else INPUT)

        return seen

    handles = [module.register_forward_hook(look(name)) for name, module in network.named_modules() if name]
    try:
        ask()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else LAST


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _tensors(entry)


def _first_bad_tower(towers: Sequence[TextTower], make: Callable[[Sequence[TextTower]], PromptPlan]) -> str:
    for number, tower in enumerate(towers, start=1):
        where = first_bad(tower, lambda: make(towers))
        if where != LAST:
            return where if len(towers) == 1 else f"{where} of text tower {number}"
    return "their weights in the prompt"


def _features(plan: PromptPlan) -> Iterator[Tensor]:
    """Contexts and pooled texts, each once."""
    for words in {id(words): words for words in plan.steps}.values():
        for row in words.rows:
            yield row.context
            if row.pooled is not None:
                yield row.pooled


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _advice(where: str) -> str:
    if where == INPUT:
        return ": the sampler's options drive the latents out of range; lower guidance, s_churn or s_noise"
    return ": its weights, or an adapter's, are damaged or too large"


def _listed(steps: Sequence[int]) -> str:
    """[1, 2, 3, 7] as "steps 1 to 3, 7"."""
    numbers = sorted(set(steps))
    runs = [
        [number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda entry: entry[1] - entry[0])
    ]
    shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
    return f"step {shown}" if len(numbers) == 1 else f"steps {shown}"
