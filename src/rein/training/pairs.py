"""Options of a recipe that are good alone and cannot be together, found before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rein.training.tables import AutoencoderTable, DataTable, DenoiserTable, FolderTable, LoopTable
from rein.training.tables_teach import InversionTable, TeachTable


class Tables(Protocol):
    """What is looked at of a recipe."""

    @property
    def data(self) -> DataTable | FolderTable: ...

    @property
    def stage(self) -> Sequence[LoopTable]: ...


def impossible_pair(recipe: Tables) -> str:
    """The first pair that is found and what to do about it, as one line; "" where there is none."""
    table = recipe.data
    if not isinstance(table, FolderTable):
        return ""
    if (table.augmentations is None) != (table.versions == 1):
        return "data.augmentations and data.versions belong together: give both, and versions above 1"
    if table.keep_tags and not table.edits.changing:
        return "data.keep_tags says which tags stay: give data.shuffle_tags or data.tag_dropout with it"
    if table.cache_text and table.edits.changing:
        return "data.cache_text keeps what is made of captions, which data.shuffle_tags and data.tag_dropout change"
    problems = (_of_stage(table, stage) for stage in recipe.stage)
    return next((f"stage {number}: {told}" for number, told in enumerate(problems, start=1) if told), "")


def _of_stage(table: FolderTable, stage: LoopTable) -> str:
    if table.cache_text and stage.text_learns:
        return "data.cache_text keeps what the text towers make of captions, and they learn: leave it out"
    if table.edits.changing and isinstance(stage, DenoiserTable | AutoencoderTable):
        return "it reads captions once or never: leave data.shuffle_tags and data.tag_dropout out"
    if isinstance(stage, InversionTable) and stage.captions and (table.trigger or table.edits.changing):
        return (
            "its captions take the place of the pictures' own: leave data.trigger and tags alone, or set captions = []"
        )
    if isinstance(stage, TeachTable) and stage.crop_size and table.size and stage.crop_size > table.size:
        return f"crop_size is {stage.crop_size}, more than data.size, {table.size}: windows are cut out of the pictures"
    return ""
