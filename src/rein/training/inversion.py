"""Textual inversion: a word is learned, and nothing else in the model changes.

Source: Gal et al. 2022, section 3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rein.errors import InputError, quoted
from rein.formats.checkpoint import LoadedModel
from rein.formats.embeddings import save_embedding
from rein.nn.clip import TextTower
from rein.text.inversion import Embedding
from rein.text.tokenizer import Tokenizer
from rein.training.tables_teach import InversionTable
from rein.training.teach import Lessons, TeachObjective


class InversionObjective(TeachObjective):
    """The vectors of `table.word` learn. Captions that do not have the word get it in front."""

    name = "inversion"

    def __init__(self, model: LoadedModel, table: InversionTable, lessons: Lessons) -> None:
        pairs = zip(model.towers, model.tokenizers, strict=True)
        word = Embedding(table.word, tuple(_first(tower, tokenizer, table) for tower, tokenizer in pairs))
        super().__init__(model, table, lessons, word)
        self.settings = table

    def save(self, folder: Path) -> None:
        """Write the word's vectors."""
        folder.mkdir(parents=True, exist_ok=True)
        assert self.word is not None
        save_embedding(folder / file_of(self.settings), self.learned(self.word), self.lessons.provenance)


def file_of(table: InversionTable) -> str:
    """The name of a word's file, which is how prompts call the word."""
    return f"{table.word}.safetensors"


def with_word(captions: tuple[str, ...], table: InversionTable) -> tuple[str, ...]:
    """A picture's captions with the word in them; those of the table take their place.

    Raises:
        InputError: a caption of the table lacks `{}`.
    """
    for caption in table.captions:
        if "{}" not in caption:
            raise InputError(f"captions: {quoted(caption)} has no {{}} where the word stands")
    if table.captions:
        return tuple(caption.replace("{}", table.word) for caption in table.captions)
    plain = captions or ("",)
    return tuple(text if table.word in text else f"{table.word}, {text}" if text else table.word for text in plain)


def _first(tower: TextTower, tokenizer: Tokenizer, table: InversionTable) -> Tensor:
    """Vectors (n, D) that the word begins as: those of some words in turn, or the mean of all."""
    known = tower.text_model.embeddings.token_embedding.weight.detach().float().cpu()
    if table.vectors > tower.config.context_length - 2:
        raise InputError(f"vectors is {table.vectors}: a prompt has room for {tower.config.context_length - 2}")
    if not table.initial:
        generator = torch.Generator().manual_seed(table.seed)
        spread = 0.1 * known.std() * torch.randn((table.vectors, known.shape[1]), generator=generator)
        return known.mean(0) + spread  # vectors that begin equal would learn the same
    ids = tokenizer.encode(table.initial)
    if not ids:
        raise InputError(f"initial is {quoted(table.initial)}: it has no word that the model can read")
    return known[[ids[number % len(ids)] for number in range(table.vectors)]].clone()
