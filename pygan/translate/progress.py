"""How far a long translation is: a bar on a terminal, plain lines every few seconds in a pipe."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TextColumn

from pygan import log

_PLAIN_EVERY_S = 5.0


class Bar:
    """Pictures of a total, from `with` on: those done, and those that were left alone or could not be used.

    plain: lines on a terminal too.
    """

    def __init__(self, total: int, *, plain: bool = False) -> None:
        self.done = self.kept = self.bad = 0
        self._total, self._began = total, time.monotonic()
        self._said = self._began
        self._out = log.console()
        self._plain = plain or not self._out.is_terminal
        self._bar: Progress | None = None

    def __enter__(self) -> Bar:
        if not self._plain:
            columns = (BarColumn(), TextColumn("{task.completed}/{task.total}  {task.fields[text]}"))
            self._bar = log.bar(self._out, *columns)
            self._task = self._bar.add_task("", total=self._total, text="")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def rate(self) -> str:
        """Images per second since the beginning, with its unit."""
        rate = self._rate()
        return f"{rate:.1f} images/s" if rate >= 0.1 or not rate else f"{rate:.2g} images/s"

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._began, 1e-9)

    def show(self) -> None:
        """Show where it is, if it is time to."""
        over = self.done + self.kept + self.bad
        left = log.duration((self._total - over) / self._rate()) if self.done else "?"
        text = f"{self.rate}  {left} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=over, text=text)
        elif time.monotonic() - self._said > _PLAIN_EVERY_S:
            self._said = time.monotonic()
            self.say(f"{over}/{self._total} pictures  {text}")

    def say(self, line: str) -> None:
        """A line for the user."""
        self._out.print(line, markup=False)
