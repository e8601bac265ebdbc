"""The training pictures that are nearest to given ones: did a network learn, or learn by heart?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.features import Features

_NUMBERS = 1 << 24  # of pixels in float64 that pictures for `usual` may take: 128 MiB
_FEW = 20  # training pictures, below which nothing is usual


class Neighbours(NamedTuple):
    """For each of n pictures the k training pictures nearest to it, the nearest first."""

    index: Tensor  # int64 (n, k): place in the feed
    distance: Tensor  # float64 (n, k)
    images: Tensor  # uint8 (n, k, c, h, w), as the network sees them


class Found(NamedTuple):
    """What `search` finds in one space."""

    neighbours: Neighbours
    usual: Tensor  # float64 (m,): of the first m training pictures the distance to their nearest other one


def nearest(images: Tensor, feed: Any, k: int, *, features: Features | None = None) -> Neighbours:
    """The k items of a feed that are nearest to each of `images`, (n, c, h, w) in [-1, 1]: exact, in one pass.

    feed: as `heldout.training_items` gives it; of an item its first picture counts. features: compare these by their
    Euclidean distance; None: pixels, by the root mean square of their differences in grey levels of 255, both rounded
    to 8 bits. Of pictures of two sizes the larger ones are made as small as the others by averaging areas; a grey
    picture beside one in colour has three equal channels. Of equal distances the earlier item is nearer. A feed of less
    than k items gives all of them. Errors: ValueError.
    """
    return search(images, feed, k, (features,))[0].neighbours


def _first(batch: Any) -> Tensor:
    return batch[0]


def search(
    images: Tensor,
    feed: Any,
    k: int,
    spaces: Sequence[Features | None],
    *,
    pick: Callable[[Any], Tensor] = _first,
    items: int = 0,
    usual: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Found]:
    """`nearest` in several spaces (features, or None for pixels) by one pass over the first `items` of a feed (0: all).

    pick: the pictures of a batch that count; usual: of how many training pictures, as far as memory goes, the distance
    to the nearest other one is found too; progress: is told (items done, of all). Memory: a batch, and what is kept of
    `images` and of `usual` pictures; no more for a larger set. Errors: ValueError.
    """
    if images.dim() != 4 or not len(images) or k < 1:
        raise ValueError(f"pictures (n, c, h, w) and k of at least 1 are expected, got {list(images.shape)} and {k}")
    items = min(items or feed.n_items, feed.n_items)
    (c, height, width), (c_given, h_given, w_given) = pick(feed.get(0))[0].shape, images[0].shape
    shape = (max(c, c_given), min(height, h_given), min(width, w_given))
    usual = min(usual, items, _NUMBERS // (shape[0] * shape[1] * shape[2]))
    known = [pictures for _, pictures in _chunks(feed, pick, usual)]
    searches = [_Search(images, known, k, shape, space) for space in spaces]
    for first, pictures in _chunks(feed, pick, items):
        for one in searches:
            one.see_(first, pictures)
        if progress is not None:
            progress(first + len(pictures), items)
    return [one.found() for one in searches]


def hint(found: Found, space: str, unit: str = "") -> str:
    """One line: are pictures nearer to training pictures than these are to each other? A hint, and no proof.

    space, unit: names of the space and of its distances. The bar is the first percentile of `found.usual`.
    """
    nearest_ones, usual = found.neighbours.distance[:, 0], found.usual.sort().values
    n, m = len(nearest_ones), len(usual)
    if m < _FEW:
        return f"{space}: {m} training pictures are too few to say what distance is usual between them"
    place = (m - 1) // 100
    bar, expected = float(usual[place]), n * (place + 1) / m
    near = int((nearest_ones <= bar).sum())
    what = f"at most {bar:.4g}{unit} from a training picture, as {place + 1} of {m} training pictures are from another"
    if bar == 0:
        what += " (the set holds pictures twice)"
    if near <= 2 * expected + 1:
        return f"{space}: {near} of {n} are {what}: no sign of pictures learned by heart"
    return (
        f"{space}: {near} of {n} are {what}: look at them beside their neighbours, some may be learned by heart, "
        "or so blurred that they are near to many"
    )


def _chunks(feed: Any, pick: Callable[[Any], Tensor], most: int) -> Iterator[tuple[int, Tensor]]:
    """(number of the first, pictures) of the batches of a feed, up to `most` items."""
    for first in range(0, most, feed.batch_size):
        yield first, pick(feed.get(first))[: most - first]


def _levels(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8."""
    return images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def _fitted(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, c', h', w') as (n, *shape), which is no larger, and has as many channels or makes three of one."""
    if tuple(images.shape[2:]) != shape[1:]:
        images = F.interpolate(images.float(), size=shape[1:], mode="area")
    if images.shape[1] not in (1, shape[0]):
        raise ValueError(f"pictures of {images.shape[1]} channels cannot be compared with such of {shape[0]}")
    return images.expand(-1, shape[0], -1, -1)


class _Search:
    """The search in one space: what is nearest so far."""

    def __init__(
        self, images: Tensor, known: Sequence[Tensor], k: int, shape: tuple[int, ...], space: Features | None
    ) -> None:
        self._k, self._shape, self._space = k, shape, space
        self._n = n = len(images)
        self._points = torch.cat([self._of(part) for part in (images, *known)])  # (n + m, d) float64
        self._squares = self._points.square().sum(dim=1)
        self._usual = torch.full((len(self._points) - n,), torch.inf, dtype=torch.float64)
        self._index = torch.empty((n, 0), dtype=torch.int64)
        self._distance = torch.empty((n, 0), dtype=torch.float64)
        self._images: list[list[Tensor]] = [[] for _ in range(n)]

    def see_(self, first: int, pictures: Tensor) -> None:
        """The next training pictures (b, c, h, w), of which the first has that number."""
        distance = self._distances(self._of(pictures))  # (n + m, b)
        rows = torch.arange(first, max(first, min(first + len(pictures), len(self._usual))))
        others = distance[self._n :].clone()
        others[rows, rows - first] = torch.inf  # a picture is no neighbour of itself
        self._usual = torch.minimum(self._usual, others.amin(dim=1))

        old = self._distance.shape[1]
        both = torch.cat((self._distance, distance[: self._n]), dim=1)
        order = both.sort(dim=1, stable=True).indices[:, : self._k]  # stable: an earlier item stays before a later one
        numbers = torch.arange(first, first + len(pictures)).expand(self._n, -1)
        self._index = torch.cat((self._index, numbers), dim=1).gather(1, order)
        self._distance = both.gather(1, order)
        seen = _levels(pictures).cpu()
        for row, picks in enumerate(order.tolist()):
            if max(picks) >= old:
                kept = self._images[row]
                self._images[row] = [kept[i] if i < old else seen[i - old].clone() for i in picks]

    def found(self) -> Found:
        images = torch.stack([torch.stack(row) for row in self._images])
        return Found(Neighbours(self._index, self._distance, images), self._usual)

    def _of(self, images: Tensor) -> Tensor:
        """Pictures as points (n, d) of the space, float64 on the CPU."""
        if self._space is not None:
            return self._space(images).double()
        return _levels(_fitted(images.detach(), self._shape)).flatten(1).double().cpu()

    def _distances(self, points: Tensor) -> Tensor:
        """(n + m, b)."""
        if self._space is not None:
            return torch.cdist(self._points, points, compute_mode="donot_use_mm_for_euclid_dist")
        # Whole numbers below 2^53: every sum and product is exact, and so is the difference of the two.
        squares = self._squares[:, None] + points.square().sum(dim=1) - 2 * self._points @ points.T
        return (squares / points.shape[1]).sqrt()
