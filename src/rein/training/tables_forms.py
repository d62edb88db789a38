"""The tables of stages that make another U-Net out of a model's: one with more input channels, one with fewer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from rein.training.tables import LoopTable, NoiseTable
from rein.training.tables_teach import AdapterKind


class FormTable(NoiseTable):
    """A form of the model under `model.start`: its U-Net goes on with more input channels, which start at zero.

    The text towers and the autoencoder stay as they are.
    """

    objective: Literal["form"]
    form: Literal["depth", "inpainting"]
    """What the new channels show: how near things are, or a mask and the picture around it."""
    depth_model: Path | None = Field(default=None, strict=False)
    """For pictures of one's own: a folder with a depth model of the transformers library, which says what is near."""
    blank: float = Field(default=0.1, ge=0, lt=1)
    """Part of the pictures that are taught with nothing in the new channels, so that words alone go on to do."""


class DistilTable(LoopTable):
    """A student that draws in few steps what the model under `model.start`, or of the stage before, draws in many."""

    objective: Literal["distil"]
    method: Literal["progressive", "consistency"]
    """Progressive: one step of the student is `substeps` of the teacher (Salimans & Ho 2022). Consistency: from every
    level the student says what it says after one more step of the teacher (Song et al. 2023; Luo et al. 2023)."""
    steps_of_student: int = Field(default=4, ge=1, le=64)
    """Steps that the student is to draw in."""
    substeps: int = Field(default=2, ge=1, le=16)
    """Teacher's steps for each of those; for consistency the teacher's grid has as many more levels."""
    guidance: float | None = Field(default=None, ge=0, le=30)
    """The teacher's guidance scale, which the student has inside afterwards; None is the model's own, 1 is none."""
    caption_dropout: float = Field(default=0.0, ge=0, lt=1)
    rank: int = Field(default=0, ge=0, le=1_024)
    """Above 0: the student is an adapter of this rank beside the teacher's weights, in a file of its own (LCM-LoRA)."""
    kind: AdapterKind = "lora"
    alpha: float | None = Field(default=None, gt=0)
    convolutions: bool = False
    """These three: as in `LoraTable`."""
    huber: float = Field(default=0.0, ge=0)
    """Above 0: errors larger than this count as their distance, not as its square."""
