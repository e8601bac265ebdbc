"""What a run tells: a progress bar (plain lines where there is no terminal), metrics.jsonl, TensorBoard events."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table

from pygan.errors import say
from pygan.rundir import RunDir

_PLAIN_EVERY_S = 10.0  # a line this often where there is no terminal


def console() -> Console:
    """Where pygan talks: stdout. Colours and bars only on a terminal; a pipe gets full-width plain lines."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def bar(out: Console, *columns: ProgressColumn, transient: bool = True) -> Progress:
    """A progress bar on a terminal. What goes to stderr comes above it only where that is a terminal too."""
    shared = sys.stderr is not None and sys.stderr.isatty()
    return Progress(*columns, console=out, transient=transient, redirect_stderr=shared)


def duration(seconds: float) -> str:
    """3725 -> "1 h 02 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Log:
    """Shows and records the rows of a run, from `start` to `close`.

    total_images: where training ends; images_seen: where this session begins (later rows of an earlier session, from
    after the checkpoint that it goes on from, are dropped: they are about to be written again).
    """

    def __init__(self, run: RunDir, *, total_images: int, images_seen: int, tensorboard: bool) -> None:
        self.out = console()
        self._run, self._total = run, total_images
        self._first_images, self._start = images_seen, time.monotonic()
        self._last_line = 0.0
        run.rewind_metrics(images_seen)
        self._events = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._events = SummaryWriter(str(run.path), purge_step=images_seen + 1)
        self._bar: Progress | None = None
        if self.out.is_terminal:
            columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TextColumn("{task.fields[text]}"))
            self._bar = bar(self.out, *columns, transient=False)
            self._task = self._bar.add_task("train", total=total_images, completed=images_seen, text="")
            self._bar.start()

    def row(self, images: int, steps: int, values: dict[str, float], facts: dict[str, Any]) -> dict[str, Any]:
        """One row, as it is recorded: values are losses and logits by log key, facts are epoch and learning rate.

        Errors: OSError.
        """
        elapsed = time.monotonic() - self._start
        rate = (images - self._first_images) / elapsed if elapsed > 0 else 0.0
        row = {"images": images, "steps": steps, **facts, **values, "images_per_s": round(rate, 3)}
        self._run.append_metrics(row)
        for key, value in (values | {"lr": facts["lr"], "speed/images_per_s": rate}).items():
            self._event("add_scalar", key, value, images)
        left = duration((self._total - images) / rate) if rate > 0 else "?"
        shown = {key.removeprefix("loss/"): value for key, value in values.items() if key.startswith("loss/")}
        losses = "  ".join(f"{key} {value:.3f}" for key, value in shown.items() if not key.endswith(("_real", "_fake")))
        text = f"epoch {facts['epoch']}  {losses}  {rate:.1f} images/s  {left} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=images, text=text)
        elif time.monotonic() - self._last_line >= _PLAIN_EVERY_S or images >= self._total:
            self._last_line = time.monotonic()
            self.out.print(f"{images:>8}/{self._total} images  {text}")
        return row

    def picture(self, name: str, pixels: np.ndarray, images: int) -> None:
        """A picture for TensorBoard: uint8 (h, w, 3)."""
        self._event("add_image", name, pixels, images, dataformats="HWC")

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.out.print(line, markup=False)

    def flush(self) -> None:
        """Bring the events to the disk."""
        self._event("flush")

    def close(self) -> None:
        """End the bar and the events file; may be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._event("close")
        self._events = None

    def _event(self, act: str, *args: Any, **options: Any) -> None:
        """Call the TensorBoard writer, if there is one. Its events are a convenience: failing to write them is said
        once, and training goes on without.
        """
        if self._events is None:
            return
        try:
            getattr(self._events, act)(*args, **options)
        except OSError as error:
            self._events = None
            say(f"TensorBoard events cannot be written any more ({error.strerror}); metrics.jsonl goes on")


_HEADS = {
    "l1": "L1 (grey levels, lower is better)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "gradient_correlation": "edges (correlation)",
}


def scores_table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    """Held-out scores, one system per row; the columns are those of the first, "-" where another was not measured."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    columns = list(next(iter(rows.values())))
    for name in columns:
        table.add_column(_HEADS.get(name, name.replace("_", " ")), justify="right")
    for name, scores in rows.items():
        table.add_row(name, *(f"{scores[key]:.3f}" if key in scores else "-" for key in columns))
    return table
