"""Weight gradients beside the rest of a backward pass: which may go to the side stream, and what must hold then."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import Tensor

from pygan import streams

# Work of a weight gradient up to which it runs beside the rest: 13 us of a GPU that does 785 TFLOP/s in bf16. A larger
# one fills the GPU, and would only take turns.
MOST_FLOPS = 1e10

_uses: Counter[int] = Counter()  # forward passes of a weight whose backward pass is to come, where work overlaps
_spent: Counter[int] = Counter()  # those that the running backward pass has come through
_beside: dict[int, int] = {}  # leaves whose gradient was computed beside the rest, and where that lies


def note_use(weight: Tensor) -> None:
    """A forward pass has used this weight."""
    if streams.overlaps(weight):
        _uses[weight.data_ptr()] += 1


def note_backward(weight: Tensor) -> None:
    """The backward pass of one of these uses is running (not one that will itself be differentiated)."""
    if streams.overlaps(weight):
        _spent[weight.data_ptr()] += 1


def goes_beside(weight: Tensor, flops: float) -> bool:
    """Should the gradient of this weight, so much work, be computed on the side stream?

    Not that of a weight which was used twice: its two gradients are added on the main stream, which would not wait. Nor
    that of a weight which is itself computed from another: the gradient goes on from there on the main stream.
    """
    return weight.is_leaf and streams.overlaps(weight) and _uses[weight.data_ptr()] == 1 and flops <= MOST_FLOPS


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
    """A backward pass is over: forget the uses that it came through. Others wait, as G's do while D learns."""
    _uses.subtract(_spent)
    for key in [key for key, count in _uses.items() if count <= 0]:
        del _uses[key]
    _spent.clear()
    _beside.clear()


def forget_all_uses() -> None:
    """A step is over, or has failed."""
    _uses.clear()
    _spent.clear()
    _beside.clear()
