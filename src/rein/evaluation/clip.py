"""CLIP read from a file: how well a picture and its prompt agree (Radford et al. 2021; Hessel et al. 2021).

Read are the layouts of transformers (a folder with `model.safetensors` and `config.json`, or the file alone) and of
OpenCLIP. Shapes tell all but two things: heads and the form of GELU. They follow from the published models of the same
width; a `config.json` beside the file is asked first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rein.errors import DamagedFileError, InputError
from rein.formats.diffusers_folder import read_json
from rein.formats.fill import compare, fill
from rein.formats.folder import file_digest
from rein.formats.key_names import openclip_modules
from rein.formats.keys import Entry, KeyMap, Place, part_entries
from rein.formats.placed import PlacedTensor
from rein.formats.weights import Weights, open_weights
from rein.nn.clip import TextTower
from rein.nn.clip_vision import VisionTower, VisionTowerConfig
from rein.nn.specs import TextTowerConfig
from rein.text.tokenizer import clip_tokenizer

FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
"""Names of the weights in a folder, the first that is there."""

_NATIVE, _OPENCLIP = "vision_model.embeddings.class_embedding", "visual.class_embedding"
_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_VISION_HEADS = {768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
_TEXT_HEADS = {512: 8, 768: 12, 1024: 16, 1280: 20}
_WIDEST_QUICK = 1024
"""OpenAI's models, with the quick form of GELU, are at most so wide."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Both towers, in evaluation mode and float32.

    Fields:
        name: width, patches, and the form of GELU.
        sha256: of the file of weights.
    """

    vision: VisionTower
    text: TextTower
    name: str
    sha256: str

    @property
    def device(self) -> torch.device:
        """Where the towers compute."""
        return self.vision.visual_projection.weight.device

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.vision.config.transformer.projection_width

    def prepared(self, image: Image.Image) -> Tensor:
        """An RGB picture as the tower takes it, (3, side, side): the shorter side fitted, the middle cut out."""
        side = self.vision.config.side
        scale = side / min(image.size)
        width, height = (max(side, int(length * scale + 1e-9)) for length in image.size)
        sized = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        levels = np.asarray(sized.crop((left, top, left + side, top + side)), dtype=np.float32) / 255
        normal = (levels - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
        return torch.from_numpy(normal).permute(2, 0, 1).contiguous()

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image]) -> Tensor:
        """Vectors (N, width) of pictures, of length 1."""
        batch = torch.stack([self.prepared(image) for image in images]).to(self.device)
        found: Tensor = self.vision(batch)
        return torch.nn.functional.normalize(found, dim=1).cpu()

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Vectors (N, width) of texts, of length 1; of a long text the first 75 tokens count."""
        ids = clip_tokenizer().batch(prompts, self.text.config.context_length).to(self.device)
        return torch.nn.functional.normalize(self.text(ids).pooled, dim=1).cpu()

    def scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """The CLIP score of each picture with its prompt, (N,): 100 times the cosine, and not below 0."""
        return 100 * (self.pictures(images) * self.texts(prompts)).sum(dim=1).clamp(min=0)


def is_clip(infos: Mapping[str, PlacedTensor]) -> bool:
    """Whether a file holds a picture tower of CLIP."""
    return _NATIVE in infos or _OPENCLIP in infos


def load_clip(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Clip:
    """Load CLIP from a file or a folder.

    Raises:
        InputError: there is nothing, or no CLIP, or one of a size that is not known.
        DamagedFileError: it cannot be read, or would leave a tower unfilled.
    """
    place = Path(path)
    if place.is_dir():
        known = [place / name for name in FILES if (place / name).is_file()]
        if not known:
            raise InputError(f"there is no CLIP model in {place}: it has none of {', '.join(FILES)}")
        place = known[0]
    weights = open_weights(place)
    if not is_clip(weights.infos):
        raise InputError(
            f"{place} holds no CLIP with both towers: Stable Diffusion's files have its text tower only; give the "
            "CLIP model itself, as transformers or OpenCLIP saves it"
        )
    weights.verify()
    described = _config(place.with_name("config.json"))
    plan = _native(weights, described) if _NATIVE in weights else _openclip(weights)
    with torch.device("meta"):
        vision, text = VisionTower(plan.vision), TextTower(plan.text)
    for network, entries in ((vision, plan.vision_entries(vision)), (text, plan.text_entries(text))):
        compare(KeyMap(tuple(entries)), weights.infos).check(place)
        fill(network, entries, weights, device, torch.float32)
    config = plan.vision
    form = "quick GELU" if config.transformer.activation == "quick_gelu" else "GELU"
    name = f"CLIP {config.transformer.width} wide, patches of {config.patch} px, {form}"
    return Clip(vision, text, name, file_digest(place))


@dataclass(frozen=True)
class _Plan:
    """The towers of a file and how it names them."""

    vision: VisionTowerConfig
    text: TextTowerConfig
    openclip: bool

    def text_entries(self, tower: TextTower) -> list[Entry]:
        modules = openclip_modules(self.text) if self.openclip else None
        return part_entries("text", _shapes(tower), Place("", "openclip" if self.openclip else "native"), modules)

    def vision_entries(self, tower: VisionTower) -> list[Entry]:
        if not self.openclip:
            return part_entries("vision", _shapes(tower), Place("", "native"), None)
        entries = part_entries("vision", _shapes(tower), Place("", "openclip"), _visual_modules(self.vision))
        return [replace(entry, change="transpose") if entry.original == "visual.proj" else entry for entry in entries]


def _shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _visual_modules(config: VisionTowerConfig) -> dict[str, str]:
    """Native module or parameter -> OpenCLIP's; the layers are named as those of its text tower."""
    layers = {
        native.replace("text_model.", "vision_model."): f"visual.{original}"
        for native, original in openclip_modules(config.transformer).items()
        if ".layers." in native
    }
    return layers | {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding": "visual.conv1",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "visual_projection.weight": "visual.proj",
    }


def _native(weights: Weights, described: Mapping[str, Any]) -> _Plan:
    """Towers in transformers' names."""
    vision = _tower(weights, "vision_model.encoder.layers.{}.mlp.fc1.weight", _VISION_HEADS)
    text = _tower(weights, "text_model.encoder.layers.{}.mlp.fc1.weight", _TEXT_HEADS)
    quick = vision.width <= _WIDEST_QUICK
    return _plan(
        weights,
        (_told(vision, described, "vision_config", quick), _told(text, described, "text_config", quick)),
        ("vision_model.embeddings.patch_embedding.weight", "vision_model.embeddings.position_embedding.weight"),
        ("text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight"),
    )


def _openclip(weights: Weights) -> _Plan:
    """Towers in OpenCLIP's names, which trains with the plain GELU."""
    vision = _tower(weights, "visual.transformer.resblocks.{}.mlp.c_fc.weight", _VISION_HEADS)
    text = _tower(weights, "transformer.resblocks.{}.mlp.c_fc.weight", _TEXT_HEADS)
    return _plan(
        weights,
        (replace(vision, activation="gelu"), replace(text, activation="gelu")),
        ("visual.conv1.weight", "visual.positional_embedding"),
        ("token_embedding.weight", "positional_embedding"),
    )


def _plan(
    weights: Weights,
    towers: tuple[TextTowerConfig, TextTowerConfig],
    vision_names: tuple[str, str],
    text_names: tuple[str, str],
) -> _Plan:
    """The plan of towers by the shapes of patches and positions, and of tokens and positions."""
    vision, text = towers
    openclip = "visual.proj" in weights
    patches, places = (_shape(weights, name) for name in vision_names)
    tokens, positions = (_shape(weights, name) for name in text_names)
    projection = _shape(weights, "visual.proj")[1] if openclip else _shape(weights, "visual_projection.weight")[0]
    across = round((places[0] - 1) ** 0.5)
    if across * across + 1 != places[0]:
        raise DamagedFileError(f"cannot use {weights.path}: {places[0]} positions are no square of patches and one")
    vision = replace(vision, projection_width=projection)
    text = replace(text, projection_width=projection, vocabulary_size=tokens[0], context_length=positions[0])
    if tokens[0] != clip_tokenizer().vocabulary_size:
        raise InputError(
            f"{weights.path} has {tokens[0]} tokens: CLIP's {clip_tokenizer().vocabulary_size} are read only"
        )
    return _Plan(VisionTowerConfig(vision, across * patches[-1], patches[-1]), text, openclip)


def _tower(weights: Weights, pattern: str, known_heads: Mapping[int, int]) -> TextTowerConfig:
    """Width, layers and heads of a transformer, by its feed-forward weights."""
    layers = 0
    while pattern.format(layers) in weights:
        layers += 1
    if not layers:
        raise DamagedFileError(f"cannot use {weights.path}: it lacks {pattern.format(0)!r}")
    hidden, width = _shape(weights, pattern.format(0))
    heads = known_heads.get(width, max(1, width // 64))
    return TextTowerConfig(width=width, layers=layers, heads=heads, feed_forward_width=hidden)


def _told(tower: TextTowerConfig, described: Mapping[str, Any], part: str, quick: bool) -> TextTowerConfig:
    """A tower with what its description says of heads and GELU, where there is one."""
    said = described.get(part)
    said = said if isinstance(said, dict) else {}
    form = said.get("hidden_act", ("quick_gelu" if quick else "gelu") if not described else "quick_gelu")
    heads = said.get("num_attention_heads", tower.heads)
    if form not in ("quick_gelu", "gelu") or type(heads) is not int or heads < 1 or tower.width % heads:
        raise InputError(f"config.json says hidden_act {form!r} and {heads!r} heads of {part}: neither fits CLIP")
    return replace(tower, heads=heads, activation="quick_gelu" if form == "quick_gelu" else "gelu")


def _shape(weights: Weights, name: str) -> tuple[int, ...]:
    if name not in weights:
        raise DamagedFileError(f"cannot use {weights.path}: it lacks {name!r}")
    return tuple(weights.infos[name].shape)


def _config(path: Path) -> dict[str, Any]:
    """What a `config.json` beside the weights says, nothing where there is none. Raises `DamagedFileError`."""
    found = read_json(path) if path.is_file() else {}
    return found if "vision_config" in found else {}
