"""A history of refined pictures, half of what the discriminator is shown (Shrivastava et al. 2017, 2.3).

Unlike CycleGAN's pool it gives and takes half a batch at once. It lives on the device and never waits, so that a CUDA
graph can hold it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pygan.ops.philox import words


@torch.no_grad()
def exchange_(images: Tensor, count: Tensor, fresh: Tensor, *, rng: Tensor, stream: int) -> Tensor:
    """Get as many pictures of the history as `fresh` (n, c, h, w) has; then `fresh` is stored. In place.

    The pictures given back are n different ones, drawn evenly; before anything is stored, they are `fresh` itself. The
    new ones go behind the others until the history is full, then into n different slots, drawn evenly.

    images: (size, c, h, w), size a multiple of n; count: int64 0-d, how many of them are there. rng: int64[2] {seed,
    offset} on the device, stream: number in its random stream; slot i takes word i for coming back, word size + i for
    being written over. Returns (n, c, h, w).
    """
    size, n = images.shape[0], fresh.shape[0]
    if fresh.shape[1:] != images.shape[1:] or n == 0 or size % n:
        expected = ", ".join(map(str, images.shape[1:]))
        raise ValueError(
            f"exchange_: fresh must have shape (n, {expected}), n a divisor of {size}, got {list(fresh.shape)}"
        )
    back, over = words(rng, stream, 2 * size).view(2, size).unbind(0)
    slots = torch.arange(size, device=images.device)
    chosen = torch.where(slots < count, back, -1).topk(n).indices  # the n largest words are any n slots
    older = torch.where(count > 0, images.index_select(0, chosen), fresh)
    slot = torch.where(count < size, count + slots[:n], over.topk(n).indices)
    images.index_copy_(0, slot, fresh)
    torch.clamp(count + n, max=size, out=count)
    return older
