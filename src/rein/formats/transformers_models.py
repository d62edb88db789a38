"""Models of the transformers library, which some work borrows: read from this disk, without a word of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def silent(transformers: ModuleType) -> Iterator[None]:
    """The library's progress bars are off in this block; afterwards they are as they were."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
