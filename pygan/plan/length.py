"""How long a training takes and what it leaves on the disk: steps, rows, grids, evaluations, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pygan import gans
from pygan.data.feeds import cores
from pygan.loop import LOG_EVERY_S
from pygan.plan.data import Found
from pygan.plan.measure import Phase
from pygan.plan.walk import Walk

ROW_BYTES = 26  # of metrics.jsonl for a value with its name
EVENT_BYTES = 70  # of a TensorBoard file for a value
GRID_BYTES = 40_000  # of a picture of a grid, where none was painted here
MOST_CONCLUDED = 500  # held-out items of the final table (`loop._conclude`)


@dataclass(frozen=True)
class Length:
    """A phase in numbers. images, steps, epochs: of all of it; step_s: one step, None: not measured; step_from: where
    that number comes from, in words; seconds: by what is done ("steps", ...); checkpoints: written in all; kept: that
    are there at most, each of `checkpoint_bytes`; disk: bytes at the end, by part.
    """

    images: int
    steps: int
    epochs: float
    items: int
    per_step: int
    step_s: float | None
    step_from: str
    seconds: dict[str, float]
    checkpoints: int
    kept: int
    checkpoint_bytes: int
    disk: dict[str, int]
    limit_s: float  # --max-minutes; 0: none

    @property
    def total_s(self) -> float | None:
        """Seconds from the command to its end, if nothing stops it."""
        return None if self.step_s is None else sum(self.seconds.values())

    @property
    def epoch_s(self) -> float | None:
        """Seconds of the steps of an epoch."""
        return None if self.step_s is None else self.step_s * self.items / self.per_step


def of(
    gan: ModuleType, recipe: Any, walk: Walk, found: Found, phase: Phase | None, step_s: float | None, step_from: str
) -> Length:
    """Length of a phase, from what was measured of it (None: nothing)."""
    phase = phase or Phase()
    per_step = gans.images_per_step(gan, recipe)
    epochs = recipe.epochs + recipe.decay_epochs
    images = recipe.steps * per_step if recipe.steps else epochs * found.items
    steps = -(-images // per_step)
    of_steps = (step_s or 0.0) * steps
    rows = images // recipe.log_every_images if recipe.log_every_images else int(of_steps / LOG_EVERY_S)
    rows = min(steps, max(1, rows))
    checkpoints = images // recipe.checkpoint_every_images + 1
    evaluations = images // (recipe.eval_every_images or recipe.checkpoint_every_images) + 1
    grids = images // recipe.sample_every_images + 1
    judged = min(recipe.eval_images, found.held_out) + min(recipe.eval_images, found.items)
    painted = min(recipe.sample_images, found.held_out)
    threads = max(2, min(16, cores()))
    decoded = found.items + found.held_out if found.kind == "resident" else 0
    seconds = {
        "start": phase.build + phase.decode * decoded / min(threads, cores()),
        "steps": of_steps,
        "rows": rows * phase.row,
        "sample grids": grids * painted * phase.sample,
        "evaluations": (evaluations * judged + min(MOST_CONCLUDED, found.held_out)) * phase.evaluate,
        "checkpoints": checkpoints * phase.save,
    }
    kept = min(3, checkpoints) + (images // recipe.keep_every_images if recipe.keep_every_images else 0)
    values = phase.values or 20
    events = (rows * values * EVENT_BYTES + grids * painted * int(phase.png or GRID_BYTES)) * recipe.tensorboard
    disk = {
        "checkpoints": kept * walk.files,
        "samples": grids * painted * int(phase.png or GRID_BYTES),
        "metrics": rows * values * ROW_BYTES,
        "events": events,
    }
    return Length(
        images, steps, images / found.items, found.items, per_step, step_s, step_from, seconds, checkpoints, kept,
        walk.files, disk, 60 * recipe.max_minutes,
    )  # fmt: skip
