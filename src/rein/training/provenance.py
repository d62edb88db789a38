"""What a saved file tells of its making: recipe, data, base and versions, as the texts of a safetensors header."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from rein.training.recipe import Recipe
from rein.version import __version__

_PACKAGES = ("torch", "accelerate", "peft", "numpy")


def provenance(recipe: Recipe, data: str, base: str) -> dict[str, str]:
    """For a recipe, the fingerprint of its data and the hash of the model that it started from.

    No time and no place is in it: the same training gives the same file.
    """
    return {
        "rein.recipe": recipe.model_dump_json(),
        "rein.data": data,
        "rein.base": base,
        "rein.versions": json.dumps(versions(), sort_keys=True),
    }


def versions() -> Mapping[str, str]:
    """Of Rein, of Python and of the libraries that a training's numbers depend on."""
    found = {"rein": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
