"""Real pictures of a prompt, put together from the drawings as the trained ones are: the best a model could draw."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from rein.data.compose import draw
from rein.data.icons import IconArt
from rein.data.prompts import EvaluationPrompt
from rein.data.scenes import Scene, Thing
from rein.evaluation.views import LAYOUTS

JITTER = 0.02
SINGLE_SIDES = (0.80, 0.95)
PAIR_SIDES = (0.43, 0.48)


def real_pictures(art: IconArt, prompts: Sequence[EvaluationPrompt], seeds: Sequence[int]) -> NDArray[np.uint8]:
    """A picture of each prompt, (N, size, size, 3) uint8; a seed decides place, size and side."""
    scenes = (real_scene(art, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))
    return np.stack([draw(scene, art) for scene in scenes])


def real_scene(art: IconArt, prompt: EvaluationPrompt, seed: int) -> Scene:
    """One thing large in the middle, or two beside or above each other, on white."""
    random = Random(f"{seed}/real/{prompt.text}")
    relation = random.choice(tuple(LAYOUTS)) if len(prompt.concepts) == 2 else None
    centres = LAYOUTS[relation] if relation else ((0.5, 0.5),)
    sides = PAIR_SIDES if relation else SINGLE_SIDES
    things = tuple(
        Thing(
            concept,
            prompt.colour,
            (centre[0] + random.uniform(-JITTER, JITTER), centre[1] + random.uniform(-JITTER, JITTER)),
            random.uniform(*sides),
            mirrored=random.random() < art.options.mirrored and not art.concepts[concept].fixed,
        )
        for concept, centre in zip(prompt.concepts, centres, strict=True)
    )
    return Scene(prompt.kind, prompt.style, things, relation=relation)
