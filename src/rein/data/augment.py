"""Pictures changed a little and at random, so that a small collection teaches more than its exact pixels.

The changes are those of the kornia library, listed in a TOML file and drawn by a seed:

    seed = 1

    [[augmentation]]
    kind = "flip"
    probability = 0.5

    [[augmentation]]
    kind = "crop"
    smallest = 0.8
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rein.errors import InputError, nearest, quoted, require

Pixels = NDArray[np.uint8]
MAX_FILE = 2**20


class _Change(BaseModel):
    """One kind of change; `probability` is how often it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    probability: float = Field(default=1.0, ge=0, le=1)


class Flip(_Change):
    """Left and right exchanged: not for letters, clocks, and faces that should stay themselves."""

    kind: Literal["flip"]
    probability: float = Field(default=0.5, ge=0, le=1)


class Crop(_Change):
    """A part of the same shape, somewhere in the picture, scaled up to its size; `smallest` is of its area."""

    kind: Literal["crop"]
    smallest: float = Field(default=0.8, gt=0, le=1)


class Rotation(_Change):
    """A turn by up to so many degrees either way; the corners are filled with the picture mirrored at its edges."""

    kind: Literal["rotation"]
    degrees: float = Field(default=5.0, gt=0, le=180)


class Colour(_Change):
    """Brightness, contrast and saturation times 1 plus or minus up to so much; hue moved by so much of a circle."""

    kind: Literal["colour"]
    brightness: float = Field(default=0.1, ge=0, lt=1)
    contrast: float = Field(default=0.1, ge=0, lt=1)
    saturation: float = Field(default=0.1, ge=0, lt=1)
    hue: float = Field(default=0.02, ge=0, le=0.5)


class Blur(_Change):
    """A Gaussian blur of up to so many pixels."""

    kind: Literal["blur"]
    probability: float = Field(default=0.3, ge=0, le=1)
    largest: float = Field(default=1.0, gt=0.1, le=10)


class Noise(_Change):
    """Gaussian noise on every pixel, its deviation a part of the range from black to white."""

    kind: Literal["noise"]
    probability: float = Field(default=0.3, ge=0, le=1)
    deviation: float = Field(default=0.02, gt=0, le=1)


Change = Annotated[Flip | Crop | Rotation | Colour | Blur | Noise, Field(discriminator="kind")]


class Augmentations(BaseModel):
    """Changes, made in this order, and the seed that they are drawn by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0, lt=2**63)
    augmentation: tuple[Change, ...] = Field(min_length=1)

    def seeded(self, seed: int) -> Augmentations:
        """The same changes drawn by another seed. Raises `InputError`."""
        if not 0 <= seed < 2**63:
            raise InputError(f"seed is {seed}: it must be from 0 to {2**63 - 1}")
        return self.model_copy(update={"seed": seed})


LIGHT = Augmentations(
    augmentation=(
        Flip(kind="flip"),
        Crop(kind="crop", smallest=0.85),
        Colour(kind="colour", brightness=0.05, contrast=0.05, saturation=0.05, hue=0.0),
    )
)
STRONG = Augmentations(
    augmentation=(
        Flip(kind="flip"),
        Rotation(kind="rotation", degrees=10, probability=0.7),
        Crop(kind="crop", smallest=0.6),
        Colour(kind="colour", brightness=0.2, contrast=0.2, saturation=0.2, hue=0.03),
        Blur(kind="blur"),
        Noise(kind="noise"),
    )
)
BUILT_IN: Mapping[str, Augmentations] = {"light": LIGHT, "strong": STRONG}
"""Lists by name. Neither turns a picture upside down or changes what it shows."""


def read_augmentations(source: str) -> Augmentations:
    """A list of `BUILT_IN` by its name, or one from a TOML file.

    Raises:
        InputError: no such name or file, not TOML, an unknown kind or key, a number out of range.
    """
    if source in BUILT_IN:
        return BUILT_IN[source]
    path = Path(source)
    if not path.is_file():
        raise InputError(f"augmentations {quoted(source)}: give a TOML file, or a name; {nearest(source, BUILT_IN)}")
    try:
        with path.open("rb") as handle:
            return Augmentations.model_validate(tomllib.loads(handle.read(MAX_FILE).decode()))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}; got {quoted(first['input'])}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise InputError(f"{path} is not a TOML file: {str(error)[:200]}") from error


class Augmenter:
    """Makes the changes. One drawing depends on the list, the picture's key and its number alone.

    Raises:
        MissingExtraError: kornia is not installed.
    """

    def __init__(self, augmentations: Augmentations) -> None:
        self.augmentations = augmentations
        self._library = require("kornia.augmentation", "data")
        self._made: dict[tuple[int, int], Any] = {}

    def draw(self, pixels: Pixels, mask: Pixels | None, key: str, number: int) -> tuple[Pixels, Pixels | None]:
        """Another version of a picture (H, W, 3) and, moved alike, its mask (H, W) or None.

        Args:
            key: of the picture, such as the hash of its content.
            number: of the version, or of the pass; each gives another one.
        """
        import torch

        digest = hashlib.blake2b(f"{self.augmentations.seed}/{number}/{key}".encode(), digest_size=8).digest()
        picture = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
        layer = torch.ones_like(picture[:, :1]) if mask is None else torch.from_numpy(np.array(mask))[None, None] / 255
        chain = self._chain(pixels.shape[0], pixels.shape[1])
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(int.from_bytes(digest) >> 1)
            changed, moved = chain(picture, layer.float())
        drawn = _bytes(changed[0].permute(1, 2, 0).numpy())
        return drawn, None if mask is None else _bytes(moved[0, 0].numpy())

    def _chain(self, height: int, width: int) -> Any:
        if (height, width) not in self._made:
            parts = [_part(self._library, change, height, width) for change in self.augmentations.augmentation]
            self._made[height, width] = self._library.AugmentationSequential(*parts, data_keys=["input", "mask"])
        return self._made[height, width]


def _part(library: Any, change: Change, height: int, width: int) -> Any:
    """The library's own object for a change."""
    often = change.probability
    match change:
        case Flip():
            return library.RandomHorizontalFlip(p=often)
        case Crop():
            shape = (width / height, width / height)
            return library.RandomResizedCrop((height, width), (change.smallest, 1.0), shape, p=often)
        case Rotation():
            return library.RandomAffine(change.degrees, padding_mode="reflection", p=often)
        case Colour():
            amounts = (change.brightness, change.contrast, change.saturation, change.hue)
            return library.ColorJiggle(*amounts, p=often)
        case Blur():
            reach = 2 * round(2 * change.largest) + 3
            return library.RandomGaussianBlur((reach, reach), (0.1, change.largest), p=often)
        case Noise():
            return library.RandomGaussianNoise(0.0, change.deviation, p=often)


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return cast(Pixels, np.clip(np.rint(values * 255), 0, 255).astype(np.uint8))


def names_of(augmentations: Augmentations) -> Sequence[str]:
    """The kinds of changes in a list, in their order, for reports."""
    return [change.kind for change in augmentations.augmentation]
