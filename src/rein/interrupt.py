"""Ctrl-C held until a piece of work is whole: a step of training, a picture that is written and told of."""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType


class HeldInterrupt(AbstractContextManager["HeldInterrupt"]):
    """Inside this block the first Ctrl-C is only noted, in `asked`; a second one interrupts at once.

    Nothing is held if not `wanted`, where Ctrl-C is ignored, or outside the main thread, which alone receives it.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.asked = False
        self._wanted = wanted
        self._held = False

    def __enter__(self) -> HeldInterrupt:
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._wanted and usual and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._note)
            self._held = True
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._release()

    def _release(self) -> None:
        if self._held:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._held = False

    def __exit__(self, *_: object) -> None:
        self._release()
