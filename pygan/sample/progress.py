"""How far a long sample is: a bar on a terminal, a line now and then in a pipe, nothing for what is done at once."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TextColumn

from pygan import log

_EVERY_S = 5.0


class Counter:
    """Counts images of `total`, with `what` is done to them; `close` takes the bar away."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._said = time.monotonic()
        self._out = log.console()
        self._bar: Progress | None = None

    def to(self, done: int) -> None:
        """`done` images are done."""
        self._done, now = done, time.monotonic()
        if now - self._said < (0.5 if self._bar is not None else _EVERY_S):
            return
        self._said = now
        rate = done / (now - self._began)
        left = log.duration((self._total - done) / rate) if rate else "?"
        text = f"{rate:.1f} images/s  {left} left"
        if not self._out.is_terminal:
            self._out.print(f"{self._what}: {done}/{self._total} images  {text}", markup=False)
            return
        if self._bar is None:
            columns = (TextColumn(self._what), BarColumn(), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=self._out, transient=True)
            self._task = self._bar.add_task(self._what, total=self._total, text="")
            self._bar.start()
        self._bar.update(self._task, completed=done, text=text)

    def add(self, count: int) -> None:
        """`count` more images are done."""
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
