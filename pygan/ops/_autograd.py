"""What the autograd formulas of several ops need to know of the running backward pass."""

from __future__ import annotations

import torch
from torch import Tensor


def may_overwrite(saved: Tensor) -> bool:
    """True when `saved`, which a forward kept for the running backward pass, belongs to that pass alone.

    It does not where the graph may be walked again (retain_graph=True), nor while a compiler traces the pass. A torch
    that does not tell whether the graph is kept counts as "again"; False costs a copy.
    """
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return kept is not None and not kept() and type(saved) is Tensor
