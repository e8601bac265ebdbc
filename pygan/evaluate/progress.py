"""How far a long measurement is: a bar on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TextColumn

from pygan import log

_EVERY_S = 10.0  # a plain line this often


class Bar:
    """A context that is told of pictures that are done. total: of all of them."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._start = self._said = time.monotonic()
        self._out = log.console()
        self._bar: Progress | None = None

    def __enter__(self) -> Bar:
        if self._out.is_terminal:
            columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TextColumn("{task.fields[text]}"))
            self._bar = log.bar(self._out, *columns)
            self._task = self._bar.add_task("evaluate", total=self._total, text="")
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, pictures: int, what: str = "") -> None:
        """So many more are done. what: of what."""
        self._done += pictures
        now = time.monotonic()
        rate = self._done / max(now - self._start, 1e-9)
        text = f"{what}  {rate:.1f} images/s  {log.duration((self._total - self._done) / rate)} left".strip()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, text=text)
        elif now - self._said >= _EVERY_S:
            self._said = now
            self._out.print(f"{self._done:>8}/{self._total} images  {text}", markup=False)
