"""Networks filled from files, tensor by tensor: what fits is shared with the mapped file, what must change is copied.

A network is built without memory first. A tensor that already has the wanted type stays a view of the mapped file; any
other is read, converted and let go before the next one, so that memory stays at the size of the finished weights and
one tensor more. Convolutions run channels last on every device. Those that are converted are read into that order;
those in the file are put into it when they are first called, and their place in the file is let go then.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, quoted
from rein.formats.keys import SHOWN, Entry, KeyMap
from rein.formats.placed import PlacedTensor
from rein.formats.weights import Weights
from rein.nn.order import order_when_called

_NOT_NEEDED = re.compile(
    r"^model_ema\."
    r"|position_ids$|logit_scale$|\.attn_mask$|(^|\.)(text_projection|visual_projection)(\.weight)?$"
    r"|^first_stage_model\.loss\.|(^|\.)vision_model\.|^depth_model\.|^denoiser\.|^embedding_manager\."
    r"|\.resblocks\.\d+\."
    r"|^(v_pred|ztsnr|edm_mean|edm_std|global_step|logvar|lvlb_weights|scale_factor|state_dict)$"
    r"|^(betas|alphas_cumprod(_prev)?|sqrt_.*|log_one_minus_.*|posterior_.*)$"
)
"""What published files have beside the weights that draw: averages, constants of the schedule, layers past the one that
is read (SD2's towers), the other half of CLIP."""


class WeightTable(Protocol):
    """A file of weights, or several read as one."""

    @property
    def infos(self) -> Mapping[str, PlacedTensor]:
        """Type and shape of each tensor."""

    def __getitem__(self, name: str) -> Tensor:
        """A view of the mapped file."""

    def read(self, name: str) -> Tensor:
        """A copy."""

    def release(self, name: str) -> None:
        """Let go of the pages of a tensor that nobody reads any more."""

    def dtype(self, name: str) -> torch.dtype:
        """The type of a tensor."""


class Shards:
    """Several files read as one, as a sharded folder has them. No name may be in two of them."""

    def __init__(self, files: Sequence[Weights]) -> None:
        self.paths = [weights.path for weights in files]
        self._of = {name: weights for weights in files for name in weights}
        self.infos: Mapping[str, PlacedTensor] = ChainMap(*(dict(weights.infos) for weights in files))
        self.metadata: Mapping[str, str] = ChainMap(*(dict(weights.metadata) for weights in files))

    def __getitem__(self, name: str) -> Tensor:
        return self._of[name][name]

    def read(self, name: str) -> Tensor:
        """A copy of tensor `name`."""
        return self._of[name].read(name)

    def release(self, name: str) -> None:
        """Let go of the pages of tensor `name`, which nobody reads any more."""
        self._of[name].release(name)

    def dtype(self, name: str) -> torch.dtype:
        """The type of tensor `name`."""
        return self._of[name].dtype(name)


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit networks.

    Fields:
        missing: names, in the file's terms, that a network needs and the file lacks.
        mismatched: names of another shape than the network's, with both shapes.
        not_needed: names that published files are known to have beside the weights.
        extra: names that Rein knows nothing of.
    """

    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    not_needed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def check(self, path: Path) -> None:
        """Refuse a file that would leave a network unfilled: `DamagedFileError` with counts and names."""
        if self.missing:
            raise DamagedFileError(f"cannot use {path}: it lacks {listed(self.missing)}")
        if self.mismatched:
            raise DamagedFileError(f"cannot use {path}: of another shape are {listed(self.mismatched)}")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person may want to know of a file that can be used."""
        return (f"not used: {listed(self.extra)}",) if self.extra else ()


def listed(names: Sequence[str]) -> str:
    """A count of tensors and the first names: "2 tensors: 'a', 'b'"."""
    shown = ", ".join(quoted(name, 100) for name in names[:SHOWN])
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}: {shown}{more}"


def compare(keys: KeyMap, infos: Mapping[str, PlacedTensor]) -> Fit:
    """How the tensors of a file fit the networks of `keys`."""
    wanted = keys.by_original
    beside = [name for name in infos if name not in wanted]
    return Fit(
        tuple(name for name in wanted if name not in infos),
        tuple(
            f"{name} {tuple(infos[name].shape)}, not {entry.original_shape}"
            for name, entry in wanted.items()
            if name in infos and not entry.fits(infos[name].shape)
        ),
        tuple(name for name in beside if _NOT_NEEDED.search(name)),
        tuple(name for name in beside if not _NOT_NEEDED.search(name)),
    )


def fill(
    network: nn.Module,
    entries: Iterable[Entry],
    weights: WeightTable,
    device: torch.device | str,
    dtype: torch.dtype,
) -> nn.Module:
    """Give `network` the tensors of `entries`, in evaluation mode and without gradients; returns it.

    Raises:
        DamagedFileError: a tensor is not of a number format for weights.
    """
    state: dict[str, Tensor] = {}
    in_file: dict[str, str] = {}
    on_cpu = torch.device(device).type == "cpu"
    for entry in entries:
        name = entry.original
        stored = weights.dtype(name)
        if not stored.is_floating_point:
            raise DamagedFileError(f"tensor {quoted(name)} holds {stored}, not weights")
        views = entry.to_native(weights[name])
        if on_cpu and stored == dtype:
            state |= views
            if _is_convolution(entry.shape):
                in_file |= dict.fromkeys(views, name)
            continue
        state |= {native: _converted(view, device, dtype) for native, view in views.items()}
        weights.release(name)
    network.load_state_dict(state, assign=True)
    for native, name in in_file.items():
        order_when_called(network.get_submodule(native.rpartition(".")[0]), partial(weights.release, name))
    return network.eval().requires_grad_(False)


def _is_convolution(shape: Sequence[int]) -> bool:
    """Whether a weight of `shape` is that of a convolution wider than one pixel."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


def _converted(value: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """A copy in the wanted type, on the device; convolutions channels last."""
    order = torch.channels_last if _is_convolution(value.shape) else torch.preserve_format
    return value.to(device, dtype, memory_format=order, copy=True)
