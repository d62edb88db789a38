"""Small models of every family as the files that people have, with the same random weights on every run."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from rein.formats.keys import key_map, part_names
from rein.formats.saving import ModuleSource, file_metadata, single_entries
from rein.formats.tensors import write_streaming
from rein.nn.specs import ModelSpec
from tests.pipeline.small import SPECS, networks


def _published(spec: ModelSpec, name: str) -> ModelSpec:
    """As families are published: CLIP's words, and a middle block as deep as the last level, if that has attention."""
    unet = replace(spec.unet, middle_depth=spec.unet.transformer_depth[-1] or spec.unet.middle_depth)
    return replace(spec, name=name, unet=unet, vocabulary="clip")


FAMILIES = {name: _published(SPECS[name], name) for name in ("sd1", "sd2-v", "sdxl")}


@cache
def state(spec: ModelSpec, seed: int = 0, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """The tensors of a model under their published names. Not to be changed."""
    modules = dict(zip(part_names(spec), _flat(spec, seed), strict=True))
    states = {
        part: {name: value.to(dtype) for name, value in module.state_dict().items()} for part, module in modules.items()
    }
    return {e.original: e.to_original([states[e.part][name] for name in e.natives]) for e in key_map(spec).entries}


@cache
def _flat(spec: ModelSpec, seed: int) -> list[torch.nn.Module]:
    unet, autoencoder, towers = networks(spec, seed)
    return [unet, autoencoder, *towers]


def single_file(path: Path, spec: ModelSpec, seed: int = 0, dtype: torch.dtype = torch.float16) -> Path:
    """A single safetensors file that tells what it is, for rows of `VARIANTS` do not know small models."""
    source = ModuleSource(dict(zip(part_names(spec), _flat(spec, seed), strict=True)))
    write_streaming(path, single_entries(spec, source, dtype), file_metadata(spec))
    return path
