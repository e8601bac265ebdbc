"""What the autograd formulas of several ops need to know of the running backward pass."""

from __future__ import annotations

import torch
from torch import Tensor


def may_overwrite(saved: Tensor) -> bool:
    """True when `saved`, which a forward made for the running backward pass alone, is not needed after it.

    It is needed where the graph may be walked again (retain_graph=True), and a compiler that traces the pass must not
    see it change. A torch that does not tell whether the graph is kept counts as "again"; False costs a copy.
    """
    if torch.compiler.is_compiling() or type(saved) is not Tensor:
        return False
    kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return kept is not None and not kept()
