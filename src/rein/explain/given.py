"""What a picture was given besides words and noise, and what that changed: a start, a mask, channels, adapters.

Shapes: latents (C, h, w), one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.formats.adapters_names import parts_of
from rein.formats.checkpoint import LoadedModel
from rein.nn.adapters_merge import Use, acting_on, changed_weight
from rein.pipeline.job import Job

CHANNELS = {"inpainting": "mask and masked picture", "depth": "depth map", "editing": "picture to edit"}
"""What a U-Net sees beside the latents, by the form of its model."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where a picture begins.

    Fields:
        latents: of the picture to start from, (C, h, w); None where only words are given.
        under_noise: whether that picture is under the first noise, and not noise alone.
        mask: what is drawn, (h, w) from 0 to 1; None draws all, or leaves it to the network.
        extra: (E, h, w), what the U-Net sees in further channels; None of other families, and where nothing is given.
        extra_kind: what these channels are, a value of `CHANNELS`.
        left_out: noise levels of the whole way, descending, that are not visited.
        part_of_source: whether what is drawn is laid into a larger or partly kept picture in the end.
    """

    latents: Tensor | None = None
    under_noise: bool = False
    mask: Tensor | None = None
    extra: Tensor | None = None
    extra_kind: str = ""
    left_out: tuple[float, ...] = ()
    part_of_source: bool = False

    @property
    def plain(self) -> bool:
        """Whether there is nothing but words and noise."""
        return self.latents is None and self.extra is None


@dataclass(frozen=True)
class LayerChange:
    """What all adapters together change in one layer.

    Fields:
        part, layer: the network ("unet", "tower", "tower_2") and the path of the layer in it.
        size: length (Frobenius norm) of the change of its weight.
        share: the same, relative to the weight's own length.
    """

    part: str
    layer: str
    size: float
    share: float


def beginning_of(job: Job) -> Beginning:
    """Where the picture of a job begins."""
    inputs, levels = job.inputs, job.sigmas if job.all_sigmas is None else job.all_sigmas
    return Beginning(
        _one(inputs.latents),
        inputs.latents is not None and not inputs.fresh,
        None if inputs.mask is None else _one(inputs.mask[:, 0]),
        _one(inputs.extra),
        "" if inputs.extra is None else CHANNELS.get(job.parts.spec.form, "further channels"),
        tuple(levels[: len(levels) - len(job.sigmas)].tolist()),
        inputs.overlay is not None,
    )


def _one(tensor: Tensor | None) -> Tensor | None:
    """The only picture of a batch, on the CPU in float32."""
    return None if tensor is None else tensor[0].detach().to("cpu", torch.float32, copy=True)


def layer_changes(parts: LoadedModel, uses: Sequence[Use]) -> tuple[LayerChange, ...]:
    """How much adapters, at their strengths, change the weight of each layer, the most changed first.

    Layers of which only the bias changes are left out. The model is without adapters afterwards.

    Raises:
        InputError: weights do not stay finite.
    """
    networks, found = parts_of(parts.unet, parts.towers), []
    with torch.no_grad(), parts.merger.using(()):
        for (part, path), acting in acting_on(uses).items():
            weight = networks[part].get_submodule(path).weight
            assert isinstance(weight, Tensor)
            changed = changed_weight(weight, acting)
            if changed is not weight:
                size = float(torch.linalg.vector_norm(changed.float() - weight.float()))
                length = float(torch.linalg.vector_norm(weight.float()))
                found.append(LayerChange(part, path, size, size / max(length, 1e-30)))
    return tuple(sorted(found, key=lambda change: -change.share))
