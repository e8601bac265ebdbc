"""How far long work is: a bar on a terminal, a line now and then in a pipe, nothing for what is done at once."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TextColumn

from pygan import log

_EVERY_S = 5.0


class Counter:
    """Counts images, or another unit, of `total` (0: `of` says it), to which `what` is done; `close` ends it."""

    def __init__(self, what: str, total: int = 0, unit: str = "images") -> None:
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._began = self._said = time.monotonic()
        self._out = log.console()
        self._bar: Progress | None = None

    def to(self, done: int) -> None:
        """`done` of them are done."""
        self._done, now = done, time.monotonic()
        if now - self._said < (0.5 if self._bar is not None else _EVERY_S):
            return
        self._said = now
        rate = done / (now - self._began)
        left = log.duration((self._total - done) / rate) if rate else "?"
        text = f"{rate:.1f} {self._unit}/s  {left} left"
        if not self._out.is_terminal:
            self._out.print(f"{self._what}: {done}/{self._total} {self._unit}  {text}", markup=False)
            return
        if self._bar is None:
            columns = (TextColumn(self._what), BarColumn(), TextColumn("{task.fields[text]}"))
            self._bar = log.bar(self._out, *columns)
            self._task = self._bar.add_task(self._what, total=self._total, text="")
            self._bar.start()
        self._bar.update(self._task, completed=done, text=text)

    def of(self, done: int, total: int) -> None:
        """`done` of `total` are done."""
        self._total = total
        self.to(done)

    def add(self, count: int) -> None:
        """`count` more are done."""
        self.to(self._done + count)

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End; may be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
