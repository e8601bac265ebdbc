"""A place beside a file or folder to write it at, so that it is whole or not there, whatever ends the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from pygan.errors import say

_TOKEN = 4  # bytes in the name that tell one process's place from another's


@contextlib.contextmanager
def aside(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """An empty file (folder: a folder) beside `path` under a hidden name, for this caller alone.

    Move it to `path` when it is whole: at the end it is gone. A process that is killed cannot see to that: what it left
    is removed by the next one that writes the same path, which knows by the kernel's lock (flock), as that goes with
    the process. Where a file system has no locks such a file stays. Errors: OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    new, lock = _made(path, folder)
    try:
        yield new
    finally:
        _remove(new)
        os.close(lock)


def _made(path: Path, folder: bool) -> tuple[Path, int]:
    """A new place, and the descriptor that holds its lock."""
    while True:
        new = path.with_name(f".{path.stem}.{secrets.token_hex(_TOKEN)}.new{path.suffix}")
        if folder:
            new.mkdir()
            lock = os.open(new, os.O_RDONLY)
        else:
            lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # no locks there: nobody takes the place for a dead one's either
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(new), os.fstat(lock)):
                return new, lock
        os.close(lock)  # taken for a dead one's between its making and its lock


def _clear(path: Path) -> None:
    """Remove what processes left that died while they wrote `path`."""
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{{2 * _TOKEN}}}\.new{re.escape(path.suffix)}")
    for left in [one for one in path.parent.iterdir() if name.fullmatch(one.name)]:
        try:
            lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        with contextlib.suppress(OSError):  # BlockingIOError: somebody is writing it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
            say(f"{left} was left by an export that was killed; it is removed")
        os.close(lock)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)
