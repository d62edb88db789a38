"""Finished pictures with their settings, and their way into files."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image, PngImagePlugin

from rein.errors import InputError, quoted
from rein.files import write_failure
from rein.formats.checkpoint import LoadedModel
from rein.images import write_png
from rein.pipeline.adapters import Chosen
from rein.pipeline.decode import Decoded
from rein.pipeline.infotext import Provenance, infotext, manifest
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn, told

_OTHER_FORMATS = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


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
        parts: LoadedModel,
        request: Request,
        pictures: Sequence[Decoded],
        seeds: Sequence[int],
        words: Sequence[Drawn],
        chosen: Chosen,
        seconds: float,
    ) -> Self:
        """The result of one batch."""
        provenance = Provenance(
            model=parts.spec.name,
            model_hash=parts.weights_hash,
            device=_device_name(parts.device),
            dtype=str(parts.dtype).removeprefix("torch."),
            torch=torch.__version__,
        )
        told_of = ((seed, chosen.notes + picture.notes) for seed, picture in zip(seeds, pictures, strict=True))
        notes = {seed: entries for seed, entries in told_of if entries}
        images = [picture.image for picture in pictures]
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
        alone = self.request.replace(seed=self.seeds[index], count=1)
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

    def texts(self, index: int = 0) -> dict[str, str]:
        """What is written into the file of picture `index`: "parameters" is the infotext, "rein" the manifest."""
        return {"parameters": self.infotext(index), "rein": json.dumps(self.manifest(index), ensure_ascii=False)}

    def save(self, target: str | os.PathLike[str] = ".", overwrite: bool = False) -> list[Path]:
        """Write every picture as PNG with its settings inside, and return where they are.

        Args:
            target: a folder, made if it is missing, for names such as `00000-7.png`: a number that counts up, and the
                seed, as AUTOMATIC1111's web UI names them. Or a name that ends in `.png`; `{seed}` in it stands for
                the picture's seed.
            overwrite: replace a file of that name. Otherwise `-1`, `-2` ... is added to a name that is taken.

        Raises:
            InputError: another picture format.
            OutputError: a picture cannot be written; those before it are kept.
        """
        target = Path(target)
        if target.suffix.lower() in _OTHER_FORMATS:
            raise InputError(f"cannot save as {quoted(target.suffix)}: pictures are saved as .png, with their settings")
        paths: list[Path] = []
        for index, seed in enumerate(self.seeds):
            with _free_name(target, seed, paths if overwrite else None) as path:
                write_png(self.images[index], path, self.texts(index))
            paths.append(path)
        return paths


@contextlib.contextmanager
def _free_name(target: Path, seed: int, replaceable: list[Path] | None) -> Iterator[Path]:
    """A path for one picture. It is taken by an empty file, which goes again if the block fails.

    With a list, a named file is replaced unless it is in that list.
    """
    is_name = target.suffix.lower() == ".png" and not target.is_dir()
    named = Path(str(target.parent), target.name.replace("{seed}", str(seed)))
    if is_name and replaceable is not None and named not in replaceable:
        yield named
        return
    try:
        if is_name:
            numbered = (named.with_name(f"{named.stem}-{number}{named.suffix}") for number in itertools.count(1))
            path = _taken(itertools.chain([named], numbered))
        else:
            target.mkdir(parents=True, exist_ok=True)
            path = _taken(target / f"{number:05}-{seed}.png" for number in itertools.count(_next_number(target)))
    except OSError as error:
        raise write_failure(target, error) from error
    try:
        yield path
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _taken(candidates: Iterator[Path]) -> Path:
    """The first free one, made an empty file, so that two programs never choose the same."""
    for path in candidates:
        with contextlib.suppress(FileExistsError):
            path.open("xb").close()
            return path
    raise AssertionError("candidates do not end")


def _next_number(folder: Path) -> int:
    numbers = (re.match(r"(\d{5,9})-", entry.name) for entry in os.scandir(folder))
    return max((int(found[1]) + 1 for found in numbers if found), default=0)


def _png_info(texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return info


def _device_name(device: torch.device) -> str:
    """The device, and which one of its kind where PyTorch knows."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
