"""Finished pictures with their settings, and their way into files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image, PngImagePlugin

from rein.errors import NonFiniteError
from rein.files import PICTURE_SUFFIXES
from rein.formats.checkpoint import LoadedModel
from rein.image_files import QUALITY, saving_options, write_image
from rein.pipeline.adapters import Chosen
from rein.pipeline.decode import Decoded
from rein.pipeline.infotext import Provenance, infotext, manifest
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn, told
from rein.places import Place


@dataclass(frozen=True, eq=False)
class Result:
    """Pictures and what they were made with.

    Fields:
        images: RGB pictures.
        seeds: the seed of each.
        request: with nothing left open; its count and seed are those of the whole request.
        seconds: time of the drawing and decoding, without loading the model.
        notes: by seed, what had to be done otherwise than asked; empty if nothing.
        words: by seed, the words that the picture was made of; empty if they are those of the request.
        chosen: by seed, the adapters and learned words that the picture was made with; empty if there are none.
    """

    images: list[Image.Image]
    seeds: list[int]
    request: Request
    seconds: float
    provenance: Provenance
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    words: Mapping[int, Drawn] = field(default_factory=dict)
    chosen: Mapping[int, Chosen] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        provenance: Provenance,
        request: Request,
        pictures: Sequence[Decoded],
        seeds: Sequence[int],
        words: Sequence[Drawn],
        chosen: Chosen,
        seconds: float,
    ) -> Self:
        """The result of one batch.

        Raises:
            NonFiniteError: a picture made from words alone is black all over.
        """
        told_of = ((seed, chosen.notes + picture.notes) for seed, picture in zip(seeds, pictures, strict=True))
        notes = {seed: entries for seed, entries in told_of if entries}
        images = [picture.image for picture in pictures]
        for image, seed in zip(images, seeds, strict=True):
            _check_not_black(image, seed, request)
        drawn = {seed: entry for seed, entry in zip(seeds, words, strict=True) if told(request, entry) is not request}
        used = dict.fromkeys(seeds, chosen) if chosen.loras or chosen.words else {}
        result = cls(images, list(seeds), request, seconds, provenance, notes, drawn, used)
        for index, image in enumerate(images):
            # Pillow's way to set what is saved with an image: `image.save("apple.png")` keeps the settings too.
            image.encoderinfo = {"pnginfo": _png_info(result.texts(index))}
        return result

    @classmethod
    def join(cls, results: Sequence[Self]) -> Self:
        """The results of the batches of one request as one."""
        return cls(
            [image for result in results for image in result.images],
            [seed for result in results for seed in result.seeds],
            results[0].request,
            sum(result.seconds for result in results),
            results[0].provenance,
            {seed: notes for result in results for seed, notes in result.notes.items()},
            {seed: words for result in results for seed, words in result.words.items()},
            {seed: chosen for result in results for seed, chosen in result.chosen.items()},
        )

    def single(self, index: int) -> Request:
        """The request that makes picture `index` alone, with the words that were drawn for it."""
        seed, request = self.seeds[index], self.request
        varied = request.variation_seed
        if varied is not None and request.seed is not None:
            varied += seed - request.seed
        alone = request.replace(seed=seed, variation_seed=varied, count=1)
        drawn = self.words.get(self.seeds[index])
        return alone if drawn is None else told(alone, drawn)

    def infotext(self, index: int = 0) -> str:
        """Settings of picture `index` in AUTOMATIC1111's format."""
        return infotext(self.single(index), self.provenance, self._asked(index), self.records(index))

    def manifest(self, index: int = 0) -> dict[str, Any]:
        """Settings of picture `index` as JSON values, complete."""
        content = manifest(self.single(index), self.provenance, self.notes.get(self.seeds[index], ()))
        asked = self._asked(index)
        return content | self.records(index) | ({} if asked is None else {"asked": asked})

    def records(self, index: int = 0) -> dict[str, Any]:
        """What was added to the model for picture `index`; empty where nothing was."""
        chosen = self.chosen.get(self.seeds[index])
        return {} if chosen is None else chosen.records()

    def _asked(self, index: int) -> dict[str, Any] | None:
        """What the words of picture `index` were drawn from; None where they are the request's own."""
        if self.seeds[index] not in self.words:
            return None
        names = ("prompt", "negative_prompt", "styles", "styles_file", "wildcards")
        return self.request.model_dump(mode="json", include=set(names))

    def texts(self, index: int = 0, file: Mapping[str, Any] | None = None) -> dict[str, str]:
        """What is written into the file of picture `index`: "parameters" is the infotext, "rein" the manifest.

        `file` tells how the pixels are written, where that loses some of them; the manifest then has it as "file".
        """
        record = self.manifest(index) | ({} if file is None else {"file": dict(file)})
        return {"parameters": self.infotext(index), "rein": json.dumps(record, ensure_ascii=False)}

    def save(
        self,
        target: str | os.PathLike[str] | Place = ".",
        overwrite: bool = False,
        file_format: str | None = None,
        quality: int | None = None,
    ) -> list[Path]:
        """Write every picture with its settings inside, and return where they are.

        Args:
            target: a folder, made if it is missing, for names of prompt and seed such as `a-red-apple-7.png`. Or a name
                that ends in .png, .jpg, .jpeg or .webp: `{seed}` in it stands for the picture's seed, and without that
                several pictures get -1, -2 ... at its end. These are the names that the command line gives.
            overwrite: replace a file of that name. Otherwise `-1`, `-2` ... is added to a name that is taken.
            file_format: "png", "jpeg" or "webp"; None is what the name tells, and PNG in a folder.
            quality: of JPEG and WebP, 1 to 100; None is 90. 100 is without loss for WebP.

        A JPEG has room for 65,533 bytes of settings. Longer ones are left out, the manifest before the infotext.

        Raises:
            InputError: another picture format, or one that the name does not tell; a quality that is out of range.
            OutputError: a picture cannot be written; those before it are kept.
        """
        place = target
        if not isinstance(place, Place):
            place = Place.of(os.fspath(place), self.request.prompt, len(self.images), file_format)
        chosen = PICTURE_SUFFIXES[place.suffix.lower()]
        saving_options(chosen, quality)
        loses = None if chosen == "png" else {"format": chosen, "quality": QUALITY if quality is None else quality}

        def write(index: int, path: Path) -> None:
            write_image(self.images[index], path, self.texts(index, loses), quality, replace=overwrite)

        return [place.written(seed, overwrite, partial(write, index)) for index, seed in enumerate(self.seeds)]


def provenance_of(parts: LoadedModel, pictures: Mapping[str, str]) -> Provenance:
    """What a model's pictures are made with; `pictures` are the hashes of those that they begin with."""
    return Provenance(
        model=parts.spec.name,
        model_hash=parts.weights_hash,
        device=_device_name(parts.device),
        dtype=str(parts.dtype).removeprefix("torch."),
        torch=torch.__version__,
        pictures=pictures,
    )


def _check_not_black(image: Image.Image, seed: int, request: Request) -> None:
    """No words give pixels that are all zero; numbers out of range do, once they are clipped."""
    if request.init_image is None and image.getbbox() is None:
        raise NonFiniteError(
            f"the picture with seed {seed} came out black all over: weights are damaged, or a number format is too "
            "narrow; load the model in float32, or try another --vae"
        )


def _png_info(texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return info


def _device_name(device: torch.device) -> str:
    """The device, and which one of its kind where PyTorch knows."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
