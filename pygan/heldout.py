"""How good are the outputs on pairs that training never saw, and how good is no network at all?

The baselines need no learning: the mean training image, the input itself, and, where the input is a label map, the
median training colour of each label. A network that does not beat them has not learned anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pygan import metrics
from pygan.pictures import to_uint8

Scores = dict[str, float]
_MOST_LABELS = 64  # an input of more colours than this is not a label map
_MOST_TRAINING = 2000  # training pairs that the baselines are taken from


def batches(feed: Any, most: int) -> Iterator[Any]:
    """The first `most` items of a held-out feed, in order, each once."""
    count, size = min(most, feed.n_items), feed.stream.batch
    for first in range(0, count, size):
        batch = feed.get(first)
        yield type(batch)(*(tensor[: count - first] for tensor in batch))


def score(predict: Callable[[Any], Tensor], feed: Any, most: int) -> Scores:
    """Means over the first `most` held-out items of `predict(batch)` against `batch.B`.

    Returns l1 (grey levels of 255), psnr (dB), ssim, gradient_correlation.
    """
    sums: dict[str, float] = {}
    count = 0
    for batch in batches(feed, most):
        output, target = predict(batch).float(), batch.B.float()
        values = {
            "l1": metrics.l1(output, target) * 127.5,
            "psnr": metrics.psnr(output, target),
            "ssim": metrics.ssim(output, target),
            "gradient_correlation": metrics.gradient_correlation(output, target),
        }
        n = target.shape[0]
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value) * n
        count += n
    return {name: total / count for name, total in sums.items()}


def baselines(train_feed: Any, held_out: Any, most: int) -> dict[str, Scores]:
    """Scores of what needs no network. `train_feed`: read in order, without flips or random crops."""
    total, count, labels = None, 0, LabelColours()
    for batch in batches(train_feed, _MOST_TRAINING):
        part = batch.B.double().sum(0)
        total = part if total is None else total + part
        count += batch.B.shape[0]
        labels.add(batch.A, batch.B)
    mean = (total / count).float()
    table = {"mean image": score(lambda batch: mean.expand_as(batch.B), held_out, most)}
    first = held_out.get(0)
    if first.A.shape == first.B.shape:
        table["copy of the input"] = score(lambda batch: batch.A, held_out, most)
    if labels.usable:
        table["median colour of each label"] = score(lambda batch: labels.predict(batch.A, batch.B), held_out, most)
    return table


class LabelColours:
    """The median target colour of every input colour; usable while the inputs have few enough of them."""

    def __init__(self) -> None:
        self.usable = True
        self._counts: dict[int, np.ndarray] = {}  # packed input colour -> histogram (channels, 256)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Count a batch: both (n, c, h, w) in [-1, 1]."""
        if not self.usable:
            return
        packed, colours = _pack(inputs), to_uint8(targets)
        for label in np.unique(packed):
            if label not in self._counts and len(self._counts) == _MOST_LABELS:
                self.usable = False
                return
            here = colours[packed == label]  # (pixels, c)
            counts = self._counts.setdefault(int(label), np.zeros((here.shape[1], 256), dtype=np.int64))
            for channel in range(here.shape[1]):
                counts[channel] += np.bincount(here[:, channel], minlength=256)

    def predict(self, inputs: Tensor, like: Tensor) -> Tensor:
        """The median colours for a batch of inputs, shaped as `like`; an unseen label becomes mid-grey."""
        packed = _pack(inputs)
        output = np.zeros((*packed.shape, like.shape[1]), dtype=np.float32)
        for label, counts in self._counts.items():
            half = counts.sum(1, keepdims=True) / 2
            median = (counts.cumsum(1) < half).sum(1)  # the first level at which half of the pixels are counted
            output[packed == label] = median / 127.5 - 1
        return torch.from_numpy(output).permute(0, 3, 1, 2).to(like.device)


def _pack(images: Tensor) -> np.ndarray:
    """(n, c, h, w) in [-1, 1] -> int64 (n, h, w): one number per colour."""
    pixels = to_uint8(images).astype(np.int64)
    return (pixels << (8 * np.arange(pixels.shape[3]))).sum(-1)
