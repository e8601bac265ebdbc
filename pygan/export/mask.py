"""Dropout's masks in operators that every runtime has: the words of Philox without a product of more than 63 bits.

The same words as `ops.philox.words_ref` draws, bit for bit, so that an exported network drops what pygan's own drops
under the same {seed, offset}. ONNX defines no overflow of integers: each product of two 32-bit words is put together
from two of 32 by 16 bits, which fit 48, and nothing here is ever negative.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pygan.ops.philox import _KEY_STEPS, _MULTIPLIERS, _WORD

_HALF = 0xFFFF


def keep_mask(shape: tuple[int, int, int, int], p: float, rng: Tensor, stream: int) -> Tensor:
    """`ops.philox.keep_mask`: bool (n, c, h, w), true with probability 1 - p. rng: int64[2] {seed, offset}, >= 0.

    For less than 2^34 values. Nothing in it knows a device or a size, so that a recorded graph holds for any.
    """
    n, c, h, w = shape
    count = n * c * h * w
    one = torch.ones_like(rng[:1])
    quads = one.expand((count + 3) // 4).cumsum(0) - one  # 0, 1, 2, ...: as `arange`, on the device of rng
    seed, offset = rng[:1], rng[1:]
    nothing = torch.zeros_like(quads)  # the high word of the number of a block of four values
    counter = (quads, nothing, nothing + (offset & _WORD), nothing + (stream & _WORD))
    words = _philox(counter, (seed & _WORD, seed >> 32))
    kept = words.reshape(-1)[:count] >= math.ceil(p * 2**32)
    return kept.view(n, h, w, c).permute(0, 3, 1, 2)


def _philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> Tensor:
    """`ops.philox.philox` of non-negative int64: counters (m,) and a key of (1,) -> (m, 4) in [0, 2^32)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high_0, low_0 = _product(c0, _MULTIPLIERS[0])
        high_1, low_1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of a b, of which both are 32-bit words."""
    low = a * (b & _HALF)  # < 2^48
    high = a * (b >> 16) + (low >> 16)  # < 2^49; a b = high 2^16 + the low half of `low`
    return high >> 16, (high & _HALF) * (_HALF + 1) + (low & _HALF)
