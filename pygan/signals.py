"""Signals that a block handles in its own way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; `kill`, `timeout`, a shutdown


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    """Inside, `handler` answers these signals; in another than the main thread nothing does, as Python has it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def sigterm_is_ctrl_c() -> contextlib.AbstractContextManager[None]:
    """Inside, SIGTERM raises KeyboardInterrupt too, so that what is half written is brought to its end, or removed."""
    return handled(signal.default_int_handler, signal.SIGTERM)
