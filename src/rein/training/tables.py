"""The tables of a recipe, one class each: data, model, and what every stage shares; those of stages stand beside them.

Every table is immutable and strict: unknown keys and values of other types are refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rein.data.caption_edits import CaptionEdits


class Table(BaseModel):
    """A table of the recipe: immutable, and strict about its keys and the types of its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataTable(Table):
    """Art to compose pictures of: see `rein.data.options.ArtOptions` and `Mixture` for the meaning of each."""

    cache_folder: Path = Field(default=Path("~/.cache/rein/art"), strict=False)
    concept_count: int = Field(default=330, ge=1)
    size: int = Field(default=128, ge=32, le=512)
    pictures: int = Field(default=60_000, ge=1)
    """How many different pictures are composed; training goes round them."""
    validation_pictures: int = Field(default=1_000, ge=1)
    seed: int = 0
    mixture: dict[str, float] = Field(default_factory=dict)
    mirrored: float = Field(default=0.0, ge=0.0, le=1.0)
    concepts: Path | None = Field(default=None, strict=False)
    """A list of concepts in place of the shipped one."""


class FolderTable(Table):
    """Pictures of one's own: a folder of pictures with captions (`rein.data.pictures`)."""

    folder: Path = Field(strict=False)
    size: int | None = Field(default=None, ge=16, le=4096)
    """Side in pixels, of the square or of one with as many pixels as each bucket; None: the model's own size."""
    prompt: str | None = Field(default=None, max_length=1_000)
    """The caption of every picture, in place of those in the folder."""
    buckets: bool | None = None
    """Whether pictures keep their shapes, each resized to the nearest of some sizes with about as many pixels; None: as
    the folder was prepared, square if it was not."""
    crop: Literal["centre", "smart"] = "centre"
    """What is kept of a picture whose shape does not fit."""
    alpha_masks: bool = False
    """Whether only the opaque part of a picture counts, where there is no mask file."""
    augmentations: str | None = None
    """Changes by which further versions of pictures are made: "light", "strong" or a file (`rein.data.augment`)."""
    versions: int = Field(default=1, ge=1, le=1_000)
    """How many versions of each picture are trained on, the picture itself among them."""
    validation: float = Field(default=0.0, ge=0.0, le=0.5)
    """About the share of the pictures that is never trained on."""
    trigger: str = Field(default="", max_length=200)
    """Words put in front of every caption that has them not."""
    shuffle_tags: bool = False
    """Whether the tags of a caption come in another order each time its picture is seen."""
    keep_tags: int = Field(default=0, ge=0, le=1_000)
    """So many tags at the beginning are neither moved nor left out."""
    tag_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Part of the tags that are left out, others each time."""
    tag_separator: str = Field(default=",", pattern=r"\S", max_length=10)
    cache_folder: Path | None = Field(default=None, strict=False)
    """Folder of latents and text features, which several runs may share; None: in the run's own folder."""
    cache_text: bool | None = None
    """Whether what the text towers make of captions is kept, too; None: where they do not learn, captions stay as they
    are, and there are not too many."""

    @property
    def edits(self) -> CaptionEdits:
        """What happens to captions each time a picture is seen."""
        return CaptionEdits(self.shuffle_tags, self.keep_tags, self.tag_dropout, self.tag_separator, self.trigger)


class ModelTable(Table):
    """Which row of the variant table is built, and changes to it by dotted name, such as `unet.channels`."""

    variant: str = "pocket"
    vocabulary: int = Field(default=2048, ge=514, le=65_536)
    overrides: dict[str, Any] = Field(default_factory=dict)
    start: str | None = None
    """A model to go on from, by name, folder or file: its shape and vocabulary replace the rest of this table."""


Decay = Annotated[float, Field(ge=0, lt=1)]

OptimiserName = Literal["adamw", "adamw8bit", "schedule-free", "prodigy"]


class LoopTable(Table):
    """What every stage shares: optimiser, learning-rate schedule, precision, and what is kept and shown on the way."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    optimiser: OptimiserName = "adamw"
    """`adamw8bit` is bitsandbytes' (GPU), `schedule-free` Meta's, `prodigy` finds its rate itself (learning_rate 1)."""
    rates: dict[str, float] = Field(default_factory=dict)
    """Factors of the learning rate by the beginning of a parameter's name ("unet.down_blocks"); 0 leaves it alone."""
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.99), strict=False)
    warm_up: int = Field(default=200, ge=0)
    """Steps over which the rate rises linearly from 0."""
    decay: Literal["none", "linear", "cosine"] = "linear"
    decay_from: float = Field(default=0.5, ge=0, le=1)
    """Part of the steps after which the rate falls towards 0."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradients of one player."""
    accumulation: int = Field(default=1, ge=1)
    """Gradients of this many batches are averaged for one step."""
    ema: Decay = 0.999
    """Decay of the average of the weights that is kept and saved; 0 switches it off."""
    ema_on_cpu: bool = False
    """Whether the average is kept in the computer's memory rather than on the GPU."""
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: bool = False
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    sample_minutes: float = Field(default=10.0, gt=0)
    seed: int = 0

    @property
    def text_learns(self) -> bool:
        """Whether what reads the captions learns itself."""
        return False


class AutoencoderTable(LoopTable):
    """The autoencoder: L1, gradient, KL, and a patch discriminator that joins late (Esser et al. 2021)."""

    objective: Literal["autoencoder"]
    learns: Literal["all", "decoder"] | None = None
    """`decoder`: the encoder stays, and with it the latents that a denoiser was taught with. `all` changes them, so
    that only a denoiser taught afterwards fits. None: the decoder where the recipe starts from a model, else all."""
    gradient_weight: float = Field(default=1.0, ge=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    adversarial_weight: float = Field(default=0.1, ge=0)
    adversarial_from: float = Field(default=0.8, ge=0, le=1)
    """Part of the steps after which the discriminator joins; 1 leaves it out."""
    discriminator_channels: int = Field(default=32, ge=16, multiple_of=16)


class NoiseTable(LoopTable):
    """How a denoiser is asked and its answers are counted: see `rein.training.noising`."""

    caption_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Part of the captions replaced by the empty one, for classifier-free guidance (Ho & Salimans 2022)."""
    time_mean: float = 0.0
    time_deviation: float = Field(default=1.0, gt=0)
    loss: Literal["mse", "huber", "l1"] = "mse"
    huber: float = Field(default=0.1, gt=0)
    """Error above which the Huber loss grows as L1 does."""
    min_snr: float = Field(default=0.0, ge=0)
    """Limit of the min-SNR weight; 0 leaves the loss unweighted."""
    debiased: bool = False
    """Weigh by the square root of the noise-to-signal ratio."""
    noise_offset: float = Field(default=0.0, ge=0, le=1)
    """Deviation of a shift of the noise, the same at all pixels of a channel."""
    pyramid: float = Field(default=0.0, ge=0, lt=1)
    """Share that each coarser layer of noise has of the one before; 0 for white noise."""
    zero_terminal_snr: bool = False
    """Train to a last level of pure noise, as a v model needs for pictures as dark or bright as they come."""
    mask_floor: float = Field(default=0.0, ge=0, le=1)
    """What the loss outside a picture's mask counts, where pictures have masks."""


class DenoiserTable(NoiseTable):
    """The denoiser and its text tower on cached latents."""

    objective: Literal["denoiser"]

    @property
    def text_learns(self) -> bool:
        return True
