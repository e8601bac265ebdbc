"""How good are the outputs on items that training never saw?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Scores = dict[str, float]


def batches(feed: Any, most: int) -> Iterator[Any]:
    """The first `most` items of a held-out feed, in order, each once."""
    count, size = min(most, feed.n_items), feed.batch_size
    for first in range(0, count, size):
        batch = feed.get(first)
        yield type(batch)(*(tensor[: count - first] for tensor in batch))


@torch.no_grad()
def means(measure: Callable[[Any], Mapping[str, Tensor]], feed: Any, most: int) -> Scores:
    """Means over the first `most` held-out items of what `measure(batch)` returns: 0-d tensors, means over a batch."""
    sums: Scores = {}
    count = 0
    for batch in batches(feed, most):
        n = batch[0].shape[0]
        for name, value in measure(batch).items():
            sums[name] = sums.get(name, 0.0) + float(value) * n
        count += n
    return {name: total / count for name, total in sums.items()}
