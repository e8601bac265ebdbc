"""How far a mean can be trusted: percentile bootstrap (Efron & Tibshirani 1993, 13.3)."""

from __future__ import annotations

import functools
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


def of_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
) -> Interval:
    """The bootstrap interval of mean(a) - mean(b), two samples that are resampled each by itself (8.3 there).

    a, b: (n,) and (m,); or (s, n) and (s, m), where row k of both was measured by the k-th of s trained networks: then
    networks are resampled too, the same for both sides. With few networks an interval is narrower than it should be.
    Errors: ValueError without a value, if one is not finite, or if the numbers of rows differ.
    """
    a, b = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (a, b))
    for values in (a, b):
        if values.ndim != 2 or not values.size or not np.isfinite(values).all():
            raise ValueError(f"finite numbers are expected, at least one, got {values!r}")
    if len(a) != len(b):
        raise ValueError(f"a and b must be of the same networks, got {len(a)} and {len(b)} rows")
    at_once = max(1, _AT_ONCE // max(a.shape[1], b.shape[1]))
    found: list[float] = []
    while len(found) < draws:
        rows = min(draws - len(found), at_once)
        networks, *items = _resamples(len(a), a.shape[1], b.shape[1], rows, len(found))
        means = [((networks @ values) * drawn).sum(axis=1) for values, drawn in zip((a, b), items, strict=True)]
        found.extend(means[0] - means[1])
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(float(a.mean() - b.mean()), float(low), float(high), float(np.std(found)))


@functools.lru_cache(maxsize=4)  # a report asks for the same ones again and again
def _resamples(s: int, n: int, m: int, rows: int, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, s), (rows, n) and (rows, m): what share of a resample each of so many has; rows from number `first` on."""
    random = np.random.Generator(np.random.Philox(key=n + (m << 32), counter=[0, 0, first, s]))
    return tuple(random.multinomial(count, np.full(count, 1 / count), size=rows) / count for count in (s, n, m))


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
