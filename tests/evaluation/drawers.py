"""Drawers that know the real drawings: one that does what it is told, and some that do not."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rein.data.colours import COLOURS
from rein.data.icons import IconArt
from rein.data.prompts import EVALUATION_KINDS, EvaluationPrompt, held_out_prompts, trained_prompts
from rein.evaluation.real import real_pictures

Change = Callable[[EvaluationPrompt], EvaluationPrompt]


class Drawer:
    """Draws the real picture of what `change` makes of a prompt, and counts how many it has drawn."""

    def __init__(self, art: IconArt, change: Change = lambda prompt: prompt) -> None:
        self.art, self.change, self.drawn = art, change, 0
        listed = [
            prompt
            for kind in EVALUATION_KINDS
            for get in (trained_prompts, held_out_prompts)
            for prompt in get(art, kind)
        ]
        self.prompts = {prompt.text: prompt for prompt in listed}

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        self.drawn += len(texts)
        return real_pictures(self.art, [self.change(self.prompts[text]) for text in texts], seeds)


def another_thing(prompt: EvaluationPrompt) -> EvaluationPrompt:
    """Things four or five places on in the list of sixteen: none of them is one that was asked for."""
    if len(prompt.concepts) == 2:
        rest = [place for place in range(16) if place not in prompt.concepts]
        return replace(prompt, concepts=(rest[3], rest[9]))
    return replace(prompt, concepts=((prompt.concepts[0] + 4) % 16,))


def another_colour(prompt: EvaluationPrompt) -> EvaluationPrompt:
    """Blue where green was asked for, green where anything else was."""
    if prompt.colour is None:
        return prompt
    names = [colour.name for colour in COLOURS]
    wrong = "blue" if names[prompt.colour] == "green" else "green"
    return replace(prompt, colour=names.index(wrong))


def another_style(prompt: EvaluationPrompt) -> EvaluationPrompt:
    return replace(prompt, style=1 - prompt.style)
