"""A memory of generated pictures: a discriminator is also shown what its generator painted some time ago.

Learning from Simulated and Unsupervised Images through Adversarial Training (Shrivastava et al., CVPR 2017), 2.3, in
the form of CycleGAN: picture by picture. It lives on the device and never waits, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pygan.ops.philox import words


def empty(
    size: int,
    shape: tuple[int, int, int],
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    prefix: str = "",
) -> dict[str, Tensor]:
    """An empty pool of `size` pictures (c, h, w): {"images": (size, c, h, w) channels_last, "count": int64 0-d}.

    prefix: of these names, so that they can be buffers of a state beside others.
    """
    if size < 1:
        raise ValueError(f"empty: size must be at least 1, got {size}")
    images = torch.zeros((size, *shape), dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)
    return {f"{prefix}images": images, f"{prefix}count": torch.zeros((), dtype=torch.int64, device=device)}


@torch.no_grad()
def exchange_(images: Tensor, count: Tensor, fresh: Tensor, *, rng: Tensor, stream: int) -> Tensor:
    """Hand in `fresh` (n, c, h, w), get n pictures back, some of them older. The pool changes in place.

    One picture after the other: while the pool is not full, it is stored and comes back. Then half of them (p > 1/2)
    change places with the picture of a slot drawn uniformly, which comes back instead; the others come back unstored.
    images, count: of `empty`. rng: int64[2] {seed, offset} on the device, stream: number in its random stream; picture
    i takes word 2i for p and word 2i + 1 for the slot. Returns (n, c, h, w), channels_last, new memory.
    """
    _check(images, count, fresh)
    size, n = images.shape[0], fresh.shape[0]
    chance, place = words(rng, stream, 2 * n).view(n, 2).unbind(1)
    index = torch.arange(2 * n, device=fresh.device)
    turn, own = index[:n], index[n:]  # picture i of `fresh`: its turn i, and n + i, where it stands in `table`
    filled = count + index  # how full the pool is at each turn, if it is not full yet

    filling = filled[:n] < size  # those at the front, so that their slots are consecutive
    slot = torch.where(filling, filled[:n], place * size >> 32)
    high = chance > 1 << 31
    swaps, stored = high > filling, high | filling  # of booleans, > is "and not"

    # What slot[i] holds when picture i arrives, and at the end, as places in `table`: the last picture stored there
    # before, n + j, which is greater than all others; where there is none, what it held at first, i.
    holds = torch.where(stored & (slot == slot[:, None]), own, turn[:, None])  # (n, n): after picture j alone
    before, finally_ = holds.tril(-1).amax(dim=1), holds.amax(dim=1)

    rows = images.permute(0, 2, 3, 1).view(size, -1)  # one picture in a row, the memory of `images`
    table = torch.cat((rows.index_select(0, slot), fresh.permute(0, 2, 3, 1).reshape(n, -1)))
    returned = table.index_select(0, torch.where(swaps, before, own))
    rows.index_copy_(0, slot, table.index_select(0, finally_))  # slots that come twice are given the same value twice
    torch.clamp(filled[n], max=size, out=count)
    _, c, h, w = images.shape
    return returned.view(n, h, w, c).permute(0, 3, 1, 2)


def _check(images: Tensor, count: Tensor, fresh: Tensor) -> None:
    if fresh.dim() != 4 or fresh.shape[1:] != images.shape[1:] or fresh.shape[0] == 0:
        expected = ", ".join(map(str, images.shape[1:]))
        raise ValueError(f"exchange_: fresh must have shape (n, {expected}) with n > 0, got {list(fresh.shape)}")
    if fresh.dtype != images.dtype or fresh.device != images.device:
        expected, got = (f"{t.dtype} on {t.device}" for t in (images, fresh))
        raise ValueError(f"exchange_: fresh must be {expected} like images, got {got}")
    if count.shape != () or count.dtype != torch.int64:
        raise ValueError(f"exchange_: count must be an int64 of shape [], got {count.dtype} {list(count.shape)}")
    if not images.is_contiguous(memory_format=torch.channels_last):
        raise ValueError("exchange_: images must be channels_last")
