"""The tables of stages that teach a whole model something: fine-tuning, LoRA and its relatives, learned words."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rein.training.tables import NoiseTable, Table

AdapterKind = Literal["lora", "locon", "dora", "loha", "lokr"]
Sample = Annotated[str, Field(min_length=1, max_length=1_000)]


class PriorTable(Table):
    """Prior preservation: what must stay as it is while something is learned beside it."""

    prompt: str = Field(min_length=1, max_length=1_000)
    """What a picture of the class is called: "a dog"."""
    others: tuple[Sample, ...] = Field(default=(), max_length=10_000, strict=False)
    """More prompts whose pictures should stay as they are, drawn in turn with the first."""
    pictures: int = Field(default=64, ge=1, le=10_000)
    keep: Literal["pictures", "answers"] = "pictures"
    """`pictures`: the class's pictures are learned beside the lesson (Ruiz et al. 2022, section 3.2). `answers`: the
    network's answers to noisy ones of them, with each prompt in turn, stay as they were (`rein.training.answers`)."""
    answers: int = Field(default=8, ge=1, le=1_000)
    """Noise levels at which the answers for each picture are kept."""
    weight: float = Field(default=1.0, gt=0)
    steps: int = Field(default=20, ge=1, le=1_000)
    """Sampling steps of the class's pictures."""


class TeachTable(NoiseTable):
    """What all ways to teach a model share."""

    ema: float = Field(default=0.0, ge=0, lt=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    warm_up: int = Field(default=10, ge=0)
    checkpointing: bool = False
    """Compute what blocks gave a second time in the backward pass: less memory, a third more time."""
    samples: tuple[Sample, ...] = Field(default=(), max_length=64, strict=False)
    """Prompts of the sheets; none: captions of the data."""
    sample_steps: int = Field(default=16, ge=1, le=1_000)
    prior: PriorTable | None = None
    crop_size: int | None = Field(default=None, ge=16, le=4096)
    """Side in pixels of a window of each picture's latents that is taught, another each time; None: all of it."""


class FinetuneTable(TeachTable):
    """All weights of the U-Net, and of the text towers where `text_rate` is above 0."""

    objective: Literal["finetune"]
    text_rate: float = Field(default=0.0, ge=0)
    """Learning rate of the text towers; 0 leaves them alone."""

    @property
    def text_learns(self) -> bool:
        return self.text_rate > 0


class LoraTable(TeachTable):
    """A small adapter beside the weights, which stay: LoRA (Hu et al. 2021) and its relatives, by PEFT."""

    objective: Literal["lora"]
    kind: AdapterKind = "lora"
    """`locon` is LoRA of convolutions too; `dora` learns lengths and directions apart; `loha`, `lokr`: LyCORIS."""
    rank: int = Field(default=8, ge=1, le=1_024)
    alpha: float | None = Field(default=None, gt=0)
    """The change counts alpha / rank; None is the rank."""
    convolutions: bool = False
    """Whether `loha`, `lokr` and `dora` change convolutions of more than one pixel too."""
    text_rate: float = Field(default=0.0, ge=0)
    """Learning rate of the text towers' adapters; 0 gives them none."""

    @property
    def text_learns(self) -> bool:
        return self.text_rate > 0


class InversionTable(TeachTable):
    """A learned word (textual inversion, Gal et al. 2022): its vectors change, and nothing else in the model."""

    objective: Literal["inversion"]
    word: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """How prompts call it; the file gets this name."""
    vectors: int = Field(default=1, ge=1, le=32)
    initial: str = Field(default="", max_length=200)
    """Words whose vectors it begins as; empty: the mean of all tokens."""
    captions: tuple[Sample, ...] = Field(default=(), strict=False)
    """Captions for all pictures in place of theirs, `{}` standing for the word: "a picture of {}"."""
    weight_decay: float = Field(default=0.0, ge=0)

    @property
    def text_learns(self) -> bool:
        return True
