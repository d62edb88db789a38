"""Where the work runs, in which number format, and the generators that its noise comes from.

Nothing is probed when this module is imported; PyTorch is imported by the functions.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from rein.errors import InputError, nearest, quoted

if TYPE_CHECKING:
    import torch

DTYPES = {"float32": "float32", "fp32": "float32", "float16": "float16", "fp16": "float16"} | {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}
"""Accepted names of number formats, and PyTorch's name for each."""

MAX_SEED = 2**63 - 1
"""The largest seed: what fits a signed 64-bit integer, so that a seed survives JSON, PNG text and PyTorch alike."""


def choose_device(name: str | None = None) -> torch.device:
    """The device to work on. `None` or "auto" takes the first there is of: CUDA, Apple's MPS, the CPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        InputError: an unknown name, or a device that this machine does not have.
    """
    import torch

    wanted = "auto" if name is None else name.strip().lower()
    if wanted == "auto":
        return torch.device(_best_kind())
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in wanted and not (index.isascii() and index.isdigit())):
        raise InputError(f"unknown device {quoted(name)}: {nearest(kind, ('auto', 'cpu', 'cuda', 'cuda:1', 'mps'))}")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if count == 0:
        raise InputError(f"device {quoted(name)} is not there: PyTorch sees no {kind} device; use 'auto' or 'cpu'")
    if index and int(index[:9]) >= count:
        raise InputError(f"device {quoted(name)} is not there: {kind} devices are numbered 0 to {count - 1}")
    return torch.device(f"{kind}:{int(index)}" if index else kind)


def _best_kind() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number format for the networks' weights. `None` or "auto": bfloat16 on a CUDA device that has it (float16 on
    older ones), float32 elsewhere.

    Raises:
        InputError: an unknown name.
    """
    import torch

    wanted = "auto" if name is None else name.strip().lower()
    if wanted == "auto":
        if device.type != "cuda":
            return torch.float32
        # Eight bits of exponent keep SDXL's autoencoder from overflowing; emulated bfloat16 would be slow.
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if wanted not in DTYPES:
        raise InputError(f"unknown number format {quoted(name)}: {nearest(wanted, ('auto', *DTYPES))}")
    dtype = getattr(torch, DTYPES[wanted])
    assert isinstance(dtype, torch.dtype)
    return dtype


def fresh_seed() -> int:
    """A new seed from the system's randomness, 0 to 2**32 - 1: short enough to be read out and typed."""
    return secrets.randbelow(2**32)


def seeded_generator(seed: int) -> torch.Generator:
    """A generator on the CPU, whatever the device: its numbers are the same on every machine.

    Raises:
        InputError: `seed` is not a whole number from 0 to `MAX_SEED`.
    """
    import torch

    return torch.Generator("cpu").manual_seed(checked_seed(seed))


def checked_seed(seed: int) -> int:
    """`seed`, if it is one.

    Raises:
        InputError: it is not a whole number from 0 to `MAX_SEED`.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed is {quoted(seed)}: it must be a whole number from 0 to {MAX_SEED}")
    return seed
