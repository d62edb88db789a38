"""One picture explained: what every part of the machine did with the words.

`rein.explain(...)` is the function below. Importing a module of this package makes `rein.explain` the package, which
is therefore callable itself: both names do the same.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rein.explain.trace import Explanation
    from rein.pipeline.model import Model
    from rein.pipeline.request import Request


def explain(prompt: str | Request, model: Model | str | None = None, **options: object) -> Explanation:
    """Draw a picture and note everything on the way; see `rein.explain.trace.explain`."""
    from rein.explain import trace

    return trace.explain(prompt, model, **options)


class _Callable(ModuleType):
    """A package that can be called like the function it is named after."""

    __call__ = staticmethod(explain)


sys.modules[__name__].__class__ = _Callable
