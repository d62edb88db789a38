"""Small models of every family with a few random latents to learn: the least that teaching can be tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rein.formats.adapters_names import parts_of
from rein.formats.checkpoint import LoadedModel
from rein.training.inversion import InversionObjective
from rein.training.lessons import Lesson
from rein.training.loop import Loop
from rein.training.lora import LoraObjective
from rein.training.tables_teach import FinetuneTable, InversionTable, LoraTable
from rein.training.teach import FinetuneObjective, Lessons
from tests.pipeline.small import SPECS, networks, own_tokenizer
from tests.training.tiny import NEVER, RECIPE

COMMON: dict[str, Any] = {
    "steps": 6,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "warm_up": 0,
    "precision": "fp32",
    "checkpoint_minutes": NEVER,
    "sample_minutes": NEVER,
    "sample_steps": 1,
    "samples": ("an apple",),
    "seed": 3,
}
Teaching = FinetuneObjective | LoraObjective | InversionObjective
OBJECTIVES = ("finetune", "lora", "inversion", "prior", "answers")


def model(family: str) -> LoadedModel:
    """A small model in memory, with its own vocabulary."""
    spec = SPECS[family]
    unet, autoencoder, towers = networks(spec)
    for network in parts_of(unet, towers).values():
        network.eval().requires_grad_(False)
    tokenizers = (own_tokenizer(),) * len(towers)
    return LoadedModel(spec, unet, autoencoder.eval(), tuple(towers), tokenizers, Path("small"), {}, "a hash")


def latents(count: int, caption: str, seed: int = 0, sizes: tuple[tuple[int, int], ...] = ((8, 8),)) -> list[Lesson]:
    """Random lessons, their sizes in turn."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn((4, *sizes[number % len(sizes)]), generator=generator) for number in range(count)]
    return [Lesson(tensor, None, (caption,), f"picture {number}.png") for number, tensor in enumerate(made)]


def objective(name: str, family: str = "sd1", **options: Any) -> Teaching:
    """One of `OBJECTIVES`: "prior" is LoRA of towers too, with pictures of a class, "answers" with those kept."""
    values = COMMON | options
    if name == "finetune":
        whole = FinetuneTable(objective="finetune", text_rate=5e-4, **values)
        return FinetuneObjective(model(family), whole, Lessons(latents(4, "a red apple"), latents(2, "an apple", 1)))
    if name == "inversion":
        words = InversionTable(objective="inversion", word="zwx", **{"vectors": 2, **values})
        return InversionObjective(model(family), words, Lessons(latents(4, "a zwx apple")))
    if name == "lora":
        return LoraObjective(
            model(family), LoraTable(objective="lora", **{"rank": 2, **values}), Lessons(latents(4, "a"))
        )
    prior = {"prompt": "an apple", "others": ("a pear",), "pictures": 3}
    if name == "answers":
        prior |= {"keep": "answers", "answers": 2}
    adapter = LoraTable(objective="lora", rank=2, text_rate=5e-4, prior=prior, **values)  # type: ignore[arg-type]
    lessons = Lessons(latents(4, "a red apple"), (), latents(3, "an apple", 2), {"rein.base": "a hash"})
    return LoraObjective(model(family), adapter, lessons)


def loop(folder: Path, made: Teaching) -> Loop:
    return Loop(made, made.table, folder, RECIPE)
