"""How good are the outputs on items that training never saw?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Scores = dict[str, float]


def training_items(gan: ModuleType, recipe: Any, device: torch.device | str) -> Any:
    """The feed of the training items in the manner of held-out ones: whole, not mirrored, each once per epoch.

    Their order is that of the seed's first epoch, so the first n are a fair and fixed choice. Pictures are decoded when
    they are asked for. The caller closes it. Errors: UserError if the data is gone.
    """
    whole = {"load_size": recipe.crop_size, "flip": False, "feed": "pillow"}
    return gan.batches(replace(recipe, **whole), "train", device)


def batches(feed: Any, most: int) -> Iterator[Any]:
    """The first `most` items of a held-out feed, in order, each once."""
    count, size = min(most, feed.n_items), feed.batch_size
    for first in range(0, count, size):
        batch = feed.get(first)
        yield type(batch)(*(tensor[: count - first] for tensor in batch))


def means(measure: Callable[[Any], Mapping[str, Tensor]], feed: Any, most: int) -> Scores:
    """`means_over` the first `most` held-out items."""
    return means_over(measure, batches(feed, most))


@torch.no_grad()
def means_over(measure: Callable[[Any], Mapping[str, Tensor]], batches: Iterable[Any]) -> Scores:
    """Means over the items of some batches of what `measure(batch)` returns: 0-d tensors, means over a batch."""
    sums: Scores = {}
    count = 0
    for batch in batches:
        n = batch[0].shape[0]
        for name, value in measure(batch).items():
            sums[name] = sums.get(name, 0.0) + float(value) * n
        count += n
    return {name: total / count for name, total in sums.items()}
