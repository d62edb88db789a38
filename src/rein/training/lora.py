"""LoRA and its relatives as an objective: an adapter learns from captioned pictures, and the model stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rein.formats.adapters_names import parts_of
from rein.formats.checkpoint import LoadedModel
from rein.nn.adapters import Change, Place
from rein.training.adapter import LearningAdapter
from rein.training.tables_teach import LoraTable
from rein.training.teach import Lessons, TeachObjective


class LoraObjective(TeachObjective):
    """An adapter of the U-Net learns, and one of the text towers where the table gives it a rate."""

    name = "lora"

    def __init__(self, model: LoadedModel, table: LoraTable, lessons: Lessons) -> None:
        super().__init__(model, table, lessons)
        self.settings = table
        self.adapter = LearningAdapter(parts_of(model.unet, model.towers if table.text_rate else ()), model.spec, table)

    def rates(self) -> Mapping[str, float]:
        return {"towers": self.settings.text_rate / self.settings.learning_rate} if self.settings.text_rate else {}

    def changes(self) -> dict[Place, Change]:
        """What the adapter does to each layer, in Rein's own form."""
        return self.adapter.changes()

    def save(self, folder: Path) -> None:
        """Write the adapter in kohya's dialect and in PEFT's, in half precision."""
        self.adapter.save(folder, self.lessons.provenance)
