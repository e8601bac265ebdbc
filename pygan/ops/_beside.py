"""Weight gradients beside the rest of a backward pass: which may go to the side stream, and what must hold then."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import Tensor

from pygan import streams

# Work of a weight gradient up to which it runs beside the rest: 10 us of a GPU that does 785 TFLOP/s in bf16. A larger
# one fills the GPU, and would only take turns.
MOST_FLOPS = 8e9

_uses: Counter[int] = Counter()  # forward passes of a weight since the last backward pass, where work overlaps
_beside: dict[int, int] = {}  # leaves whose gradient was computed beside the rest, and where that lies


def note_use(weight: Tensor) -> None:
    """A forward pass has used this weight."""
    if streams.overlaps(weight):
        _uses[weight.data_ptr()] += 1


def goes_beside(weight: Tensor, flops: float) -> bool:
    """Should the gradient of this weight, so much work, be computed on the side stream?

    Not that of a weight which was used twice: its two gradients are added on the main stream, which would not wait.
    """
    return streams.overlaps(weight) and _uses[weight.data_ptr()] == 1 and flops <= MOST_FLOPS


@contextlib.contextmanager
def side(leaves: Sequence[Tensor | None], *used: Tensor) -> Iterator[list[Tensor | None]]:
    """Compute gradients inside, on the side stream, and append them to the list in the order of `leaves`.

    leaves: a weight, and its bias where that has a gradient; used: what is read for them.
    """
    found: list[Tensor | None] = []
    with streams.beside(*used):
        yield found
    for leaf, gradient in zip(leaves, found, strict=True):
        if leaf is not None and gradient is not None:
            _beside[leaf.data_ptr()] = gradient.data_ptr()


def check_taken(leaf: Tensor) -> None:
    """A gradient that was computed on the side stream must have become `leaf.grad` as it is.

    Autograd copies a gradient that it cannot take (another memory order, another owner), and that copy would not wait
    for the side stream. Errors: RuntimeError; a wrong gradient is never used.
    """
    where = _beside.pop(leaf.data_ptr(), None)
    if where is not None and (leaf.grad is None or leaf.grad.data_ptr() != where):
        raise RuntimeError("a weight gradient from the side stream was copied before it was complete")


def forget_uses() -> None:
    """A backward pass is over."""
    _uses.clear()
    _beside.clear()
