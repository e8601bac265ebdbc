"""From what was measured, item by item, to means, gaps and differences, each with the interval that it lies in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pygan import bootstrap
from pygan.bootstrap import Interval
from pygan.study.plan import Plan
from pygan.study.variants import Variant

SETS = {"train": "training", "held_out": "held out", "other": "another domain"}
METRICS = {  # name: (heading, digits, less is better)
    "l1": ("L1", 2, True),
    "ssim": ("SSIM", 3, False),
    "lpips": ("LPIPS", 3, True),
    "edges": ("edges", 3, False),
    "input_edges": ("edges of the input", 3, False),
}


@dataclass(frozen=True)
class Cell:
    """A variant and what was measured of all its networks, one row per seed."""

    variant: Variant
    rows: tuple[Mapping[str, Any], ...]

    @property
    def kept(self) -> list[int]:
        """The skips that its networks have."""
        return self.rows[0]["kept"]

    def values(self, where: str, metric: str) -> np.ndarray:
        """float64 (seeds, items); where: "train", "held_out" or "other". Errors: KeyError if it was not measured."""
        return np.array([row[where][metric] for row in self.rows], dtype=np.float64)

    def has(self, where: str, metric: str) -> bool:
        """Was it measured of all networks?"""
        return all(metric in row.get(where, {}) for row in self.rows)

    def mean(self, where: str, metric: str) -> Interval:
        """Of a measure over items, and over networks where there are several."""
        return interval(self.values(where, metric))

    def gap(self, metric: str, test: str = "held_out") -> Interval:
        """What a measure is worse on pictures that were not trained on: more error, less likeness."""
        sign = 1 if METRICS[metric][2] else -1
        return bootstrap.of_difference(sign * self.values(test, metric), sign * self.values("train", metric))

    def carried(self, skip: int, what: str, where: str = "held_out") -> np.ndarray:
        """float64 (seeds, items): "output", the change of the output when a skip is zeroed, or "error", the growth of
        the error. Grey levels.
        """
        return np.array([row["skips"][str(skip)][where][what] for row in self.rows], dtype=np.float64)

    def near(self, what: str) -> np.ndarray:
        """float64 (seeds, items): distances in grey levels; `measure.nearest` says which there are."""
        return np.array([row["nearest"][what] for row in self.rows], dtype=np.float64)

    def memory(self) -> tuple[float, float]:
        """(by how many grey levels outputs are nearer to training pictures than to as many others, the chance of that),
        see `measure.memory`; of several networks the mean, and the greatest chance.
        """
        nearer = self.near("unseen") - self.near("seen")
        return (float(nearer.mean()) if nearer.size else 0.0), max(row["nearest"]["chance"] for row in self.rows)

    def copies(self) -> float:
        """The part of outputs that are nearer to a training picture than to their own target."""
        return float((self.near("output") < self.near("own")).mean())


def cells(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """The variants with their networks, in the order of the plan; networks that diverged are left out.

    A variant comes with the seeds that all variants have, so that all are compared on the same; before one whole seed
    is done, those that are done come with what they have.
    """
    by_variant: dict[str, dict[int, Mapping[str, Any]]] = {}
    for unit in plan.units:
        row = results.get(unit.name)
        if row is not None and "diverged" not in row:
            by_variant.setdefault(unit.variant.name, {})[unit.seed] = row
    common = set.intersection(*(set(found) for found in by_variant.values())) if by_variant else set()
    return [
        Cell(variant, tuple(row for seed, row in found.items() if seed in common or not common))
        for variant in plan.variants
        if (found := by_variant.get(variant.name))
    ]


def interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Of the mean of (seeds, items)."""
    nothing = np.zeros((len(values), 1))  # a second sample that is always 0
    return bootstrap.of_difference(values, nothing, confidence=confidence)


def difference(a: Cell, b: Cell, where: str, metric: str, confidence: float = 0.95) -> Interval:
    """a's mean minus b's on the same items: the differences are resampled, item by item."""
    return interval(_paired(a, b, where, metric), confidence)


def difference_of_gaps(a: Cell, b: Cell, metric: str, test: str = "held_out", confidence: float = 0.95) -> Interval:
    """By how much a's gap is larger than b's: of differences item by item, on unseen and on training items."""
    sign = 1 if METRICS[metric][2] else -1
    unseen, seen = (sign * _paired(a, b, where, metric) for where in (test, "train"))
    return bootstrap.of_difference(unseen, seen, confidence=confidence)


def _paired(a: Cell, b: Cell, where: str, metric: str) -> np.ndarray:
    """a - b of the networks of the same seeds, (seeds, items)."""
    first, second = a.values(where, metric), b.values(where, metric)
    count = min(len(first), len(second))
    return first[:count] - second[:count]


def groups(cells: Sequence[Cell], axis: str) -> list[tuple[dict[str, str], list[Cell]]]:
    """The cells that differ in `axis` alone, with what they share of the other axes that vary, which is left out of
    their titles.
    """
    varied = {
        name
        for name in dict.fromkeys(name for cell in cells for name in cell.variant.axes)
        if name != axis and len({cell.variant.axes.get(name) for cell in cells}) > 1
    }
    found: dict[tuple, tuple[dict[str, str], list[Cell]]] = {}
    for cell in cells:
        shared = {name: place for name, place in cell.variant.axes.items() if name in varied}
        short = replace(cell.variant, title=cell.variant.title.partition(", ")[0]) if varied else cell.variant
        found.setdefault(tuple(shared.items()), (shared, []))[1].append(replace(cell, variant=short))
    return list(found.values())
