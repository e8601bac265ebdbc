"""Concatenation along the channels that costs nothing when both parts already lie side by side."""

from __future__ import annotations

import torch
from torch import Tensor


def _is_slice(part: Tensor, buffer: Tensor, first_channel: int) -> bool:
    """Is `part` the channels from `first_channel` of `buffer`, in the same memory?"""
    n, c, h, w = part.shape
    if buffer.shape[0] != n or buffer.shape[2:] != (h, w):
        return False
    if buffer.dtype != part.dtype or buffer.device != part.device:
        return False
    view = buffer.detach()[:, first_channel : first_channel + c]
    strides_agree = all(a == b for size, a, b in zip(part.shape, part.stride(), view.stride(), strict=True) if size > 1)
    return strides_agree and view.data_ptr() == part.data_ptr()


class _Joined(torch.autograd.Function):
    """Two channel slices -> the buffer that they fill. Linear: a derivative of any order is a slice."""

    @staticmethod
    def forward(ctx, head: Tensor, tail: Tensor, buffer: Tensor) -> Tensor:
        ctx.split = head.shape[1]
        return buffer.detach()  # the same memory, with a history of its own

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        head = grad[:, : ctx.split] if ctx.needs_input_grad[0] else None
        tail = grad[:, ctx.split :] if ctx.needs_input_grad[1] else None
        return head, tail, None


def joined(head: Tensor, tail: Tensor, buffer: Tensor | None = None) -> Tensor:
    """`head` and `tail` beside each other along the channels.

    Args:
        head: (n, c1, h, w).
        tail: (n, c2, h, w), the dtype and device of `head`.
        buffer: (n, c1 + c2, h, w). If head and tail are its first c1 and last c2 channels (`norm_act` wrote them there
            through `out` and `skip_out`), nothing is copied and the result is the buffer's memory.

    Returns:
        (n, c1 + c2, h, w). Its gradient reaches head and tail as two channel slices. Without a buffer, or with parts
        that lie elsewhere, this is `torch.cat((head, tail), 1)`.

    Raises:
        ValueError: the shapes of head and tail do not fit.
    """
    if head.dim() != 4 or tail.dim() != 4 or head.shape[0] != tail.shape[0] or head.shape[2:] != tail.shape[2:]:
        raise ValueError(
            "joined: head and tail must be (n, c1, h, w) and (n, c2, h, w), "
            f"got {tuple(head.shape)} and {tuple(tail.shape)}"
        )
    fills = buffer is not None and buffer.dim() == 4 and buffer.shape[1] == head.shape[1] + tail.shape[1]
    if fills and _is_slice(head, buffer, 0) and _is_slice(tail, buffer, head.shape[1]):
        return _Joined.apply(head, tail, buffer)
    return torch.cat((head, tail), 1)
