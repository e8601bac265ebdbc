"""What needs no learning to turn A into B, and how good it is: who does not beat it has not learned anything.

The mean training image, the input itself, and, where the input is a label map, the median training colour of each
label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pygan.pictures import to_uint8

_MOST_LABELS = 64  # an input of more colours than this is not a label map
_MOST_TRAINING = 2000  # training pairs that the baselines are taken from

Predict = Callable[[Any], Tensor]


def paired(batches: Iterator[Any]) -> dict[str, Predict]:
    """Baselines of a set of pairs, by name: functions from a batch (A, B) to images in the place of B.

    batches: of training pairs, each (A, B) with (n, c, h, w) in [-1, 1]; at most 2000 pairs are looked at.
    """
    total, count, labels = None, 0, LabelColours()
    for batch in batches:
        part = batch.B.double().sum(0)
        total = part if total is None else total + part
        count += batch.B.shape[0]
        labels.add(batch.A, batch.B)
        same = batch.A.shape == batch.B.shape
        if count >= _MOST_TRAINING:
            break
    mean = (total / count).float()
    table: dict[str, Predict] = {"mean image": lambda batch: mean.expand_as(batch.B)}
    if same:
        table["copy of the input"] = lambda batch: batch.A
    if labels.usable:
        table["median colour of each label"] = lambda batch: labels.predict(batch.A, batch.B)
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
