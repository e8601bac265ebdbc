"""What the autograd formulas of several ops need to know of the running backward pass."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

# By thread. What is on a CPU is walked back by the thread that asks; what is on a GPU by one of the engine's own.
_wanted: dict[int, frozenset[int]] = {}


@contextlib.contextmanager
def gradients_for(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Say whose gradients this thread's backward passes inside are for, as `loss.backward(inputs=tensors)` does.

    PyTorch's own layers know it; a custom function is only told what could have a gradient, and would compute those of
    all weights of a discriminator that merely judges.
    """
    thread = threading.get_ident()
    before, _wanted[thread] = _wanted.get(thread), frozenset(t.data_ptr() for t in tensors)
    try:
        yield
    finally:
        if before is None:
            del _wanted[thread]
        else:
            _wanted[thread] = before


def wants(leaf: Tensor) -> bool:
    """Is the gradient of this leaf (a weight) asked for in the running backward pass?

    On a GPU, where the asking thread is not known: by any thread inside `gradients_for`, if there is one.
    """
    if not _wanted:  # as far as torch.compile can follow, which knows no threads
        return True
    asked = _wanted.get(threading.get_ident())
    if asked is not None or not leaf.is_cuda:
        return asked is None or leaf.data_ptr() in asked
    others = list(_wanted.values())  # a copy in one go: other threads come and leave
    return not others or any(leaf.data_ptr() in one for one in others)


def may_overwrite(saved: Tensor) -> bool:
    """True when `saved`, which a forward made for the running backward pass alone, is not needed after it.

    It is needed where the graph may be walked again (retain_graph=True), and a compiler that traces the pass must not
    see it change. A torch that does not tell whether the graph is kept counts as "again"; False costs a copy.
    """
    if torch.compiler.is_compiling() or type(saved) is not Tensor:
        return False
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return kept is not None and not kept()
