"""Several processes that train together: who writes, and who waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rein.errors import require


class Processes:
    """The processes of this run, as Accelerate's or PyTorch's launcher started them; usually one."""

    def __init__(self) -> None:
        # What comes first fixes the device; this is how Accelerate reads its own variable.
        on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")
        self._state = require("accelerate", "train").PartialState(cpu=on_cpu)

    @property
    def first(self) -> bool:
        """Whether this one writes what all share."""
        return bool(self._state.is_main_process)

    def wait(self) -> None:
        """Until all have come as far."""
        self._state.wait_for_everyone()

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """The first process does the block before the others, which find what it has stored."""
        with self._state.main_process_first():
            yield
