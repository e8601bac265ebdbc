"""Activations that are computed again in the backward pass instead of being kept: less memory, more time, same numbers.

Chen, Xu, Zhang, Guestrin 2016 ("Training deep nets with sublinear memory cost"). A net that can do it has an attribute
`recompute`, and calls its blocks through `run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pygan.nn import Mode


def run(
    again: bool,
    block: Callable[..., Any],
    *inputs: Tensor | None,
    mode: Mode,
    places: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Any:
    """`block(*inputs, mode, **places, **options)`; with `again`, of its tensors only the inputs and outputs are kept.

    places: memory that the block is to write its outputs into. The second time it writes them elsewhere: others have
    filled the rest of that memory by then. The second time running statistics stay as they are, too. Dropout's masks
    are a function of `mode.rng` and come out the same, and so does everything else, bit for bit. Nothing waits for the
    GPU, so a CUDA graph can hold both passes.
    """
    if not again or not torch.is_grad_enabled():
        return block(*inputs, mode, **(places or {}), **options)
    still = dataclasses.replace(mode, statistics="batch") if mode.statistics == "update" else mode
    first = [(mode, places or {})]

    def act(*inputs: Tensor | None) -> Any:
        now, where = first.pop() if first else (still, {})
        return block(*inputs, now, **where, **options)

    return checkpoint(act, *inputs, use_reentrant=False, preserve_rng_state=False)


def recompute_(net: nn.Module) -> int:
    """Let every part of `net` that can do so compute its activations again. Returns how many there are."""
    able = [module for module in net.modules() if hasattr(module, "recompute")]
    for module in able:
        module.recompute = True
    return len(able)
