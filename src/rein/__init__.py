"""Rein: pictures from words, by latent diffusion.

    import rein

    model = rein.load()
    result = model.generate("a red apple, flat style", seed=7)
    result.images[0].save("apple.png")

The public names are listed in `__all__` and imported from their modules when first used, so that `import rein` costs
nothing: no PyTorch, no file, no environment variable, no look at a GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rein.version import __version__

if TYPE_CHECKING:
    from rein.diffusion.samplers import SAMPLERS, Step
    from rein.errors import (
        DamagedFileError,
        InputError,
        InterruptedWork,
        MissingExtraError,
        NonFiniteError,
        OutputError,
        ReinError,
    )
    from rein.explain import explain
    from rein.nn.specs import VARIANTS, ModelSpec
    from rein.pipeline.model import Model, Result, load
    from rein.pipeline.request import Request

__all__ = [
    "DamagedFileError",
    "InputError",
    "InterruptedWork",
    "MissingExtraError",
    "Model",
    "ModelSpec",
    "NonFiniteError",
    "OutputError",
    "ReinError",
    "Request",
    "Result",
    "SAMPLERS",
    "Step",
    "VARIANTS",
    "__version__",
    "explain",
    "load",
]

_HOMES = {
    "rein.diffusion.samplers": ("SAMPLERS", "Step"),
    "rein.errors": (
        "DamagedFileError",
        "InputError",
        "InterruptedWork",
        "MissingExtraError",
        "NonFiniteError",
        "OutputError",
        "ReinError",
    ),
    "rein.explain": ("explain",),
    "rein.nn.specs": ("ModelSpec", "VARIANTS"),
    "rein.pipeline.model": ("Model", "Result", "load"),
    "rein.pipeline.request": ("Request",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rein' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
