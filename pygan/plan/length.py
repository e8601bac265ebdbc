"""How long a training takes and what it leaves on the disk: steps, rows, grids, evaluations, checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pygan import gans
from pygan.data.feeds import cores
from pygan.loop import LOG_EVERY_S
from pygan.plan.data import Found
from pygan.plan.measure import Phase
from pygan.plan.walk import Walk

# Where nothing was measured: rows of so many values, and a picture of a grid.
VALUES, VALUE_BYTES, GRID_BYTES = 20, 45, 40_000
EVENT_BYTES = 70  # of a TensorBoard file for a value
MOST_CONCLUDED = 500  # held-out items of the final table (`loop._conclude`)
MOST_BASELINES = 2000  # training items that it takes baselines from (`baselines.paired`)


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


def images_of(gan: ModuleType, recipe: Any, found: Found) -> int:
    """Images of a phase."""
    if recipe.steps:
        return recipe.steps * gans.images_per_step(gan, recipe)
    return (recipe.epochs + recipe.decay_epochs) * found.items


def steps_of(gan: ModuleType, recipe: Any, found: Found) -> int:
    """Steps of a phase, of which the last may go beyond its end."""
    return -(-images_of(gan, recipe, found) // gans.images_per_step(gan, recipe))


def of(
    gan: ModuleType, recipe: Any, walk: Walk, found: Found, phase: Phase | None, step_s: float | None, step_from: str
) -> Length:
    """Length of a phase, from what was measured of it (None: nothing)."""
    phase = phase or Phase()
    per_step = gans.images_per_step(gan, recipe)
    images = images_of(gan, recipe, found)
    steps = steps_of(gan, recipe, found)
    of_steps = (step_s or 0.0) * steps
    # As often as they are due, and at the end, which may be such a moment. A new best is saved at once: at most all.
    evaluations = -(-images // (recipe.eval_every_images or recipe.checkpoint_every_images))
    checkpoints = max(evaluations, -(-images // recipe.checkpoint_every_images))
    grids = -(-images // recipe.sample_every_images)
    rows = images // recipe.log_every_images if recipe.log_every_images else int(of_steps / LOG_EVERY_S)
    rows = min(steps, rows + evaluations)
    judged = min(recipe.eval_images, found.held_out) + min(recipe.eval_images, found.items)
    painted = min(recipe.sample_images, found.held_out)
    threads = max(2, min(16, cores()))
    decoded = found.items * (found.kind == "resident") + found.held_out * bool(found.resident)
    opened = 0.0 if found.drawn else phase.feed
    seconds = {
        "start": phase.build + opened + phase.decode * decoded / min(threads, cores()),
        "steps": of_steps,
        "rows": rows * phase.row,
        "sample grids": grids * painted * phase.sample,
        "evaluations": (evaluations * judged + min(MOST_CONCLUDED, found.held_out)) * phase.evaluate
        + min(MOST_BASELINES, found.items) * phase.baseline,
        "checkpoints": checkpoints * phase.save,
    }
    # `last`, `previous` and `best`, which is one of these two where no more were written; some for good.
    kept = min(3, checkpoints)
    if recipe.keep_every_images:  # of the checkpoints that are written anyway
        kept += images // math.lcm(recipe.keep_every_images, recipe.checkpoint_every_images)
    values, row_bytes = phase.values or VALUES, phase.row_bytes or VALUES * VALUE_BYTES
    events = (rows * values * EVENT_BYTES + grids * painted * int(phase.png or GRID_BYTES)) * recipe.tensorboard
    disk = {
        "checkpoints": kept * walk.files,
        "samples": grids * painted * int(phase.png or GRID_BYTES),
        "metrics": rows * row_bytes,
        "events": events,
    }
    return Length(
        images, steps, images / found.items, found.items, per_step, step_s, step_from, seconds, checkpoints, kept,
        walk.files, disk, 60 * recipe.max_minutes,
    )  # fmt: skip
