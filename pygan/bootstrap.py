"""How far a mean can be trusted: percentile bootstrap (Efron & Tibshirani 1993, 13.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_AT_ONCE = 1 << 22  # numbers drawn at once


@dataclass(frozen=True)
class Interval:
    """A mean, the interval that it lies in with the confidence asked for, and its standard deviation."""

    mean: float
    low: float
    high: float
    std: float


def of_mean(values: Sequence[float] | np.ndarray, *, confidence: float = 0.95, draws: int = 10_000) -> Interval:
    """The bootstrap interval of the mean of `values` (n,): `draws` resamples of n with replacement, always the same.

    Errors: ValueError without a value, or if one is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"a list of finite numbers is expected, at least one, got {values!r}")
    random, means = np.random.Generator(np.random.Philox(key=len(values))), []
    while len(means) < draws:
        rows = max(1, min(draws - len(means), _AT_ONCE // len(values)))
        means.extend(values[random.integers(len(values), size=(rows, len(values)))].mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high), float(np.std(means)))
