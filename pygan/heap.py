"""Memory that was freed, and that glibc's heap goes on holding.

A step takes and frees the same tensors again and again, each on a border of 64 bytes. glibc (seen with 2.36) finds what
it has freed like this often no more when the next of the same size is asked for: a training on a CPU grew by up to
8 MiB in each step, from 0.4 to 2.3 GiB in 400 (docs/log.md). Giving back costs time, because pages that are given back
must be filled anew; so it is done only when a process has grown.
"""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from pathlib import Path

SLACK = 64 << 20  # bytes that a process may grow by before it gives back


class Heap:
    """Keeps the main memory of a process that works in rounds from growing. Lives as long as the rounds."""

    def __init__(self, trim: Callable[[], None] | None = None, size: Callable[[], int] | None = None) -> None:
        """trim: gives back what is free; size: bytes that the process has; None: glibc's, and this process's."""
        self._trim = _trim() if trim is None else trim
        self._size = resident if size is None else size
        self._most: int | None = None  # bytes; None: the first round, which takes what all of them need

    def end_of_round(self) -> bool:
        """Give back what is free, if the process has grown by SLACK since a first round. Returns whether."""
        now = self._size()
        if self._most is None:
            self._most = now + SLACK
        elif now > self._most:
            self._trim()
            self._most = None
            return True
        return False


def resident() -> int:
    """Bytes of main memory that this process has; 0 where /proc does not say."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _trim() -> Callable[[], None]:
    """glibc's `malloc_trim`; nothing where the C library has none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    return lambda: trim(0)
