"""How far a picture is: a bar on a terminal, a line now and then in a pipe, nothing for what is done at once."""

from __future__ import annotations

import time

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from pygan import log

_EVERY_S = 10.0  # a plain line this often
_BAR_AFTER_S = 0.5


class Progress:
    """A context that is told of tiles that are done. tiles, pixels: of all passes together."""

    def __init__(self, what: str, tiles: int, pixels: int) -> None:
        self._what, self._tiles, self._pixels = what, tiles, pixels
        self._done = self._seen = 0
        self._plan = ""
        self._began = self._said = time.monotonic()
        self._out = log.console()
        self._bar: Bars | None = None

    def say(self, plan: str) -> None:
        """What is to be done, said with the first line."""
        self._plan = plan

    def add(self, pixels: int) -> None:
        """One more tile, of so many pixels, is done."""
        self._done, self._seen, now = self._done + 1, self._seen + pixels, time.monotonic()
        terminal = self._out.is_terminal
        if now - self._said < (_BAR_AFTER_S if terminal else _EVERY_S):
            return
        self._said = now
        rate = self._seen / (now - self._began)
        text = f"{self._done}/{self._tiles} tiles"
        left = f"{rate / 1e6:.2f} megapixels/s  {log.duration((self._pixels - self._seen) / rate)} left"
        plan, self._plan = self._plan and f" ({self._plan})", ""
        if not terminal:
            self._out.print(f"{self._what}: {text}{plan}  {left}", markup=False)
            return
        if self._bar is None:  # what is to be done is a line of its own: beside the bar a terminal has no room for it
            self._out.print(f"{self._what}{plan}", markup=False)
            self._bar = log.bar(self._out, BarColumn(), TextColumn("{task.fields[text]}"))
            self._task = self._bar.add_task("", total=self._tiles, text="")
            self._bar.start()
        self._bar.update(self._task, completed=self._done, text=f"{text}  {left}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
