"""The results file: one JSON object per line, on the disk before the next question is asked.

Rows differ by "what": "session" (who is asked about what, and the random word of the questions), "shown" (a pair was
seen, and cannot be seen again), "answer" (of real or fake), "rank" (of human rank).
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from pygan.errors import UserError, say

KINDS = ("session", "shown", "answer", "rank")
_START = b'{"what": "'
_SYSTEM = {"run": str, "images_seen": int, "way": str}
_TYPES: dict[str, dict[str, type]] = {
    "session": {"session": str, "draw": str, "test": str, "exposure_s": float}
    | dict.fromkeys(("items", "practice", "trials", "seed"), int),
    "shown": {"session": str, "trial": int},
    "answer": {"session": str, "trial": int, "practice": bool, "exposure_s": float, **_SYSTEM},
    "rank": {"session": str, "trial": int, "ranks": list},
}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows, oldest first. A last line that was cut short is left out: the answer that a crash interrupted.

    Errors: UserError if there is no such file, or which line is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there are no results yet; `pygan quiz RUN` collects them") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name the results with --results") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line)
        if row is None and number == len(lines) and _torn(line):
            break
        if row is None:
            raise UserError(f"{path}, line {number} is no result of a quiz; mend or delete it, or name another file")
        rows.append(row)
    return rows


class Results:
    """A results file that this process alone appends to, from `open` to `close`. rows: all so far, oldest first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._file: int | None = None
        self._new = False

    def open(self) -> Results:
        """Read what is there, and take the kernel's lock, which goes with the process. Errors: UserError."""
        self._new = not self.path.exists()
        if not self._new and not self.path.is_file():
            raise UserError(f"{self.path} is no file that answers could be kept in; name another with --results")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            why = error.strerror
            raise UserError(f"cannot write into {self.path} ({why}); name another place with --results") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.rows = read(self.path)
            self._mend_tail()
        except OSError as error:
            self.close()
            busy = isinstance(error, BlockingIOError)
            why = "is in use by another quiz; end it" if busy else f"cannot be locked ({error.strerror}); leave it"
            raise UserError(f"{self.path} {why}, or name other --results") from error
        except UserError:
            self.close()
            raise
        if self._new:  # the entry in the folder is to survive a crash, too
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        return self

    def close(self) -> None:
        """Give the lock back; may be called twice. A new file in which nothing was written goes again."""
        if self._file is not None:
            if self._new and not os.fstat(self._file).st_size:
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def append(self, row: dict[str, Any]) -> None:
        """Write a row to the disk. row["what"] is first. Errors: OSError; the file and `rows` are as before then."""
        data = (json.dumps(row) + "\n").encode()
        before = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)
            raise
        self.rows.append(row)

    def _mend_tail(self) -> None:
        """End the last line: what was cut short is dropped, what only lacks its end gets it."""
        data = self.path.read_bytes()
        tail = data.rpartition(b"\n")[2]
        if not tail:
            return
        if _row(tail) is None:
            say(f"{self.path}: its last line was cut short by a crash and is dropped")
            os.ftruncate(self._file, len(data) - len(tail))
        else:
            os.write(self._file, b"\n")


def _row(line: bytes) -> dict[str, Any] | None:
    """The row of a line, None if it is none."""
    try:
        row = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    types = _TYPES.get(row.get("what")) if isinstance(row, dict) and isinstance(row.get("what"), str) else None
    if types is None or not all(type(row.get(name)) is kind for name, kind in types.items()):
        return None
    if row["what"] == "answer" and type(row.get("correct", 0)) not in (bool, type(None)):
        return None
    if row["what"] == "session" and not (
        _are_systems(row.get("systems"), _SYSTEM)
        and row["practice"] >= 0
        and row["trials"] >= 1
        and row["practice"] + row["trials"] <= row["items"]
    ):
        return None
    if row["what"] == "rank" and not _are_systems(row["ranks"], _SYSTEM | {"rank": int}):
        return None
    return row


def _no_number(name: str) -> None:
    """NaN and infinity are not JSON, and no row has one."""
    raise ValueError(f"{name} is not JSON")


def _are_systems(value: Any, types: dict[str, type]) -> bool:
    """Is it a list of objects with fields of these types?"""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(one, dict) and all(type(one.get(k)) is t for k, t in types.items()) for one in value)


def _torn(line: bytes) -> bool:
    """Can it be the beginning of a row?"""
    return line.startswith(_START) or _START.startswith(line)
