"""What an evaluation measures: something that draws, and the autoencoder behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from PIL import Image

from rein.nn.autoencoder import Autoencoder
from rein.pipeline.model import Model
from rein.pipeline.request import Request


@dataclass(frozen=True)
class Subject:
    """What is measured.

    `draw(prompts, seeds)` gives for each prompt a Pillow picture, a (3, H, W) tensor in [-1, 1] or a uint8 array;
    `key` stands for its weights and settings, so that stored pictures of another model are never taken for its own;
    `settings` are told in the report.
    """

    draw: Callable[[list[str], list[int]], Iterable[object]]
    autoencoder: Autoencoder | None
    name: str
    key: str
    settings: dict[str, str] = field(default_factory=dict)


def model_subject(model: Model, **options: object) -> Subject:
    """A model, drawing with `options` (fields of `Request`) and else with its own defaults.

    Raises:
        InputError: an option that is unknown or out of its range.
    """
    settings = Request.model_validate({"prompt": "", "seed": 0, **options}).resolved(model.spec)

    def draw(prompts: list[str], seeds: list[int]) -> Iterator[Image.Image]:
        for prompt, seed in zip(prompts, seeds, strict=True):
            yield model.generate(settings.replace(prompt=prompt, seed=seed, count=1)).images[0]

    told = {
        "steps": str(settings.steps),
        "guidance": f"{settings.guidance_scale:g}",
        "sampler": str(settings.sampler),
        "spacing": str(settings.spacing),
    }
    key = f"{model.weights_hash} {settings.to_json()}"
    return Subject(draw, model.parts.autoencoder, model.name, key, told)
