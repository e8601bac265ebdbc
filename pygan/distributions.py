"""How far apart two sets of pictures are as sets, from the features of each: FID, KID; and the Inception score.

Everything is streaming, in float64, and its memory does not grow with the number of pictures. Features are (n, d)
tensors of any float type on any device; errors are ValueError, one line.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

KEPT = 10_000  # features that `Reservoir` keeps at most: 2048 numbers each are 82 MB
SUBSETS, SUBSET_SIZE = 100, 1000  # of the KID
SPLITS = 10  # of the Inception score
_AT_ONCE = 512  # features that are merged at once


class Score(NamedTuple):
    """A mean over subsets or splits, their population standard deviation, and how many of them there were."""

    mean: float
    std: float
    parts: int


class Moments:
    """Number, mean (d,) and covariance (d, d) of features, in float64 on the CPU.

    Squares are summed about each batch's own mean and merged (Chan, Golub & LeVeque 1979): no cancellation however far
    from 0 the features lie, and the order of batches does not matter but for rounding.
    """

    def __init__(self, dim: int) -> None:
        self.dim, self.count = dim, 0  # features taken in
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)
        self._merged = 0  # features that are in these two; the others wait, for a merge costs as much as d of them
        self._waiting: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        """Take in (n, d) features. Errors: ValueError for another d, or a number that is not finite."""
        self._waiting.append(_checked(features, self.dim))
        self.count += len(features)
        if self.count - self._merged >= _AT_ONCE:
            self._settle()

    def merge(self, other: Moments) -> None:
        """Take in what another has seen. Errors: ValueError for another d."""
        if other.dim != self.dim:
            raise ValueError(f"features of {self.dim} and of {other.dim} numbers cannot be merged")
        self._settle()
        other._settle()
        self._merge(other.count, other._mean, other._scatter)
        self.count = self._merged

    @property
    def mean(self) -> Tensor:
        """(d,), 0 where nothing was seen."""
        self._settle()
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """(d, d), divided by n - 1. Errors: ValueError below two features."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 pictures, got {self.count}")
        self._settle()
        return self._scatter / (self.count - 1)

    def _settle(self) -> None:
        if self._waiting:
            features, self._waiting = torch.cat(self._waiting), []
            mean = features.mean(dim=0) if len(features) else self._mean
            centred = features - mean
            self._merge(len(features), mean, centred.T @ centred)

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if count:
            total = self._merged + count
            apart = mean - self._mean
            self._scatter += scatter
            self._scatter.addr_(apart, apart, alpha=self._merged * count / total)
            self._mean += apart * (count / total)
            self._merged = total


def frechet(a: Moments, b: Moments) -> float:
    """The Fréchet distance of two sets of features as if both were Gaussian: FID (Heusel et al. 2017, equation 6).

    Errors: ValueError below two pictures in a set.
    """
    return frechet_of(a.mean, a.covariance, b.mean, b.covariance)


def frechet_of(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + Tr(A + B - 2 (A B)^(1/2)), of means (d,) and covariances (d, d).

    With A = X X' and B = Y Y' the trace of the root is the sum of the singular values of X' Y. That form is exact to
    rounding for covariances of any rank (fewer pictures than features), never complex and always finite: the small
    multiple of the identity, and the imaginary part dropped, of programs that take the root of A B are not needed.
    """
    if mean_a.shape != mean_b.shape:
        raise ValueError(f"features of {len(mean_a)} and of {len(mean_b)} numbers cannot be compared")
    a, b = covariance_a.double(), covariance_b.double()
    root = torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum()
    between = (mean_a.double() - mean_b.double()).square().sum()
    return max(0.0, float(between + a.trace() + b.trace() - 2 * root))


def _factor(covariance: Tensor) -> Tensor:
    """X (d, r) with X X' = covariance (d, d), where r leaves out what is 0 but for rounding."""
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    kept = values > values[-1].clamp_min(0) * len(values) * torch.finfo(torch.float64).eps
    return vectors[:, kept] * values[kept].sqrt()


class Reservoir:
    """A fair choice of at most `most` of the features seen, float32 (k, d) (Vitter 1985, algorithm R).

    The choice depends on the seed and the order of the features, not on how they are cut into batches. Up to `most`
    all are kept, in order.
    """

    def __init__(self, dim: int, *, most: int = KEPT, seed: int = 0) -> None:
        self.count = 0  # features seen
        self._rows = torch.empty(most, dim)  # memory that is not written to is not taken
        self._random = np.random.Generator(np.random.Philox(key=seed))

    def add(self, features: Tensor) -> None:
        """Take in (n, d) features. Errors: ValueError for another d, or a number that is not finite."""
        features = _checked(features, self._rows.shape[1]).float()
        most = len(self._rows)
        early = features[: max(0, most - self.count)]
        self._rows[self.count : self.count + len(early)] = early
        late = features[len(early) :]
        numbers = self.count + len(early) + np.arange(1, len(late) + 1)
        places = (self._random.random(len(late)) * numbers).astype(np.int64)
        for row, place in zip(late, places.tolist(), strict=True):
            if place < most:
                self._rows[place] = row
        self.count += len(features)

    @property
    def features(self) -> Tensor:
        """What is kept, (k, d)."""
        return self._rows[: self.count]


def kid(a: Tensor, b: Tensor, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = 0) -> Score:
    """The kernel distance of features (n, d) and (m, d): KID (Binkowski et al. 2018), mean and std over subsets.

    Each subset draws `subset_size` of either side without replacement, or as many as the smaller side has; the unbiased
    estimate of each may be negative. Where a subset is all there is, one is enough. Errors: ValueError below two.
    """
    for side in (a, b):
        _checked(side[:1], a.shape[-1])
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise ValueError(f"the KID needs at least 2 pictures of both kinds, got {len(a)} and {len(b)}")
    random = np.random.Generator(np.random.Philox(key=seed))
    values = []
    for _ in range(1 if size == len(a) == len(b) else subsets):
        x, y = (side[torch.from_numpy(random.permutation(len(side))[:size])] for side in (a, b))
        values.append(mmd(x, y))
    return Score(float(np.mean(values)), float(np.std(values)), len(values))


def mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of (n, d) and (m, d) for the kernel (x.y / d + 1)^3, in float64."""
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    xx, yy, xy = (_kernel(*pair) for pair in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)


class InceptionScore:
    """exp(mean of KL(p(y | x) || p(y))) in each of some splits (Salimans et al. 2016), from a classifier's logits.

    pictures: how many there will be; they are dealt to `splits` contiguous parts of one shuffle drawn from `seed`, so
    that nothing has to be kept. Errors: ValueError without a picture.
    """

    def __init__(self, pictures: int, *, splits: int = SPLITS, seed: int = 0) -> None:
        if pictures < 1:
            raise ValueError("the Inception score needs at least one picture")
        self.splits, self.pictures, self.count = min(splits, pictures), pictures, 0
        shuffled = np.random.Generator(np.random.Philox(key=seed)).permutation(pictures)
        ends = np.arange(1, self.splits + 1) * pictures // self.splits
        self._split = torch.from_numpy(np.searchsorted(ends, shuffled, side="right"))  # (pictures,)
        self._sizes = torch.bincount(self._split, minlength=self.splits).double()
        self._entropy = torch.zeros(self.splits, dtype=torch.float64)
        self._sums: Tensor | None = None  # (splits, classes)

    def add(self, logits: Tensor) -> None:
        """Take in (n, classes). Errors: ValueError for other classes, more pictures than said, NaN."""
        logits = _checked(logits, logits.shape[-1] if self._sums is None else self._sums.shape[1])
        if self.count + len(logits) > self.pictures:
            raise ValueError(f"{self.pictures} pictures were announced, and there are more")
        if self._sums is None:
            self._sums = torch.zeros(self.splits, logits.shape[1], dtype=torch.float64)
        p = logits.softmax(dim=1)
        split = self._split[self.count : self.count + len(logits)]
        self._entropy.index_add_(0, split, torch.special.entr(p).sum(dim=1))
        self._sums.index_add_(0, split, p)
        self.count += len(logits)

    def score(self) -> Score:
        """Mean and population standard deviation over the splits. Errors: ValueError if pictures are missing."""
        if self.count != self.pictures or self._sums is None:
            raise ValueError(f"{self.pictures} pictures were announced, and there were {self.count}")
        marginal = torch.special.entr(self._sums / self._sizes[:, None]).sum(dim=1)
        values = (marginal - self._entropy / self._sizes).exp()
        return Score(float(values.mean()), float(values.std(correction=0)), self.splits)


def _checked(features: Tensor, dim: int) -> Tensor:
    """The features in float64 on the CPU. Errors: ValueError."""
    if features.dim() != 2 or features.shape[1] != dim:
        raise ValueError(f"features of shape (n, {dim}) are expected, got {list(features.shape)}")
    features = features.detach().to("cpu", torch.float64)
    if not math.isfinite(float(features.sum())) and not bool(features.isfinite().all()):
        raise ValueError("the network's features are not all finite numbers; is this the network that was meant?")
    return features
