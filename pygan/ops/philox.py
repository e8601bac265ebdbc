"""Philox4x32-10: the random bits that the kernels draw (csrc/common/philox.h) in plain PyTorch, their specification.

The generator is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): word k of element
block e is a pure function of (seed, offset, stream, e). Nothing is stored and nothing depends on the order of drawing.
`words` draws numbers in one launch. Contract: csrc/ops/philox_words/philox_words.h; `words_ref` is the specification.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pygan.ops._impl import choose, compiled

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

#: (counter, key, output) of the generator's published known-answer test: all zeros, all ones, digits of pi.
KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((_WORD,) * 4, (_WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> Tensor:
    """Four uniform 32-bit words for each 128-bit counter under a 64-bit key.

    `counter` and `key` are int64 tensors that hold 32-bit words, broadcast against each other to a shape (...).
    Returns int64 (..., 4), each value in [0, 2^32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(10):
        # int64 products wrap modulo 2^64, which keeps all 64 bits; the mask undoes the sign of the shift
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _WORD) ^ c1 ^ k0, p1 & _WORD, ((p0 >> 32) & _WORD) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return torch.stack((c0, c1, c2, c3), dim=-1)


def words_ref(rng: Tensor, stream: int, count: int) -> Tensor:
    """`words` in plain PyTorch, some 170 small kernels: what the one kernel must equal, bit for bit. No checks."""
    quads = torch.arange((count + 3) // 4, device=rng.device)
    seed, offset = rng[0], rng[1]
    counter = (quads & _WORD, quads >> 32, offset & _WORD, torch.full_like(offset, stream & _WORD))
    return philox(counter, (seed & _WORD, (seed >> 32) & _WORD)).flatten()[:count]


def words(rng: Tensor, stream: int, count: int, *, impl: str = "auto") -> Tensor:
    """The first `count` words of a layer's stream.

    Element e takes word e % 4 of the counter (lo(e / 4), hi(e / 4), lo(offset), stream) under the key (lo(seed),
    hi(seed)). `rng` is read on the device when the kernel runs, and nothing waits: a CUDA graph that holds this op
    draws other words at each replay, once the offset has moved.

    Args:
        rng: int64 (2,), contiguous, {seed, offset}; the low 32 bits of the offset count.
        stream: tells layers apart; its low 32 bits count.
        count: number of words, at least 0.
        impl: "native" (the kernel), "ref" (plain PyTorch) or "auto" (the faster one).

    Returns:
        int64 (count,) on the device of `rng`, each value in [0, 2^32). It has no derivative.

    Raises:
        ValueError: an argument does not fit the description above.
    """
    if rng.shape != (2,) or rng.dtype != torch.int64 or not rng.is_contiguous():
        raise ValueError(
            f"philox_words: rng must be contiguous int64 of shape [2], {{seed, offset}}, "
            f"got {rng.dtype} {list(rng.shape)}"
        )
    if count < 0:
        raise ValueError(f"philox_words: count must be at least 0, got {count}")
    if choose("philox_words", rng, impl) == "ref":
        return words_ref(rng, stream, count)
    return torch.ops.pygan.philox_words(rng, stream & _WORD, count)


def new_rng(seed: int, device: torch.device | str) -> Tensor:
    """The state of random numbers that nobody has drawn yet: int64 [2], {seed, offset 0}; see `words`."""
    return torch.tensor([seed, 0], dtype=torch.int64, device=device)


def uniform(
    rng: Tensor,
    stream: int,
    shape: Sequence[int],
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Numbers evenly spread over [low, high), contiguous, of `shape` and `dtype`, on the device of `rng`; see `words`.

    Each is word * 2^-32, in float64 until it is rounded to `dtype` (which may round up to `high`).
    """
    drawn = words(rng, stream, math.prod(shape)).to(torch.float64).mul_((high - low) * 2.0**-32).add_(low)
    return drawn.to(dtype).view(*shape)


def normal(rng: Tensor, stream: int, shape: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers from N(0, 1), contiguous, of `shape` and `dtype`, on the device of `rng`; see `words`.

    Two words make two of them (Box & Muller 1958), in float64: sqrt(-2 ln u) cos(2 pi v) for the first half of the
    elements and with sin for the second, u = (word + 1) / 2^32 from the first half of the words, v from the second.
    At most 6.7 standard deviations.
    """
    count = math.prod(shape)
    half = (count + 1) // 2
    u, v = words(rng, stream, 2 * half).to(torch.float64).view(2, half).unbind(0)
    radius, angle = ((u + 1) * 2.0**-32).log().mul(-2).sqrt(), v * (2 * math.pi * 2.0**-32)
    both = torch.cat((radius * angle.cos(), radius * angle.sin()))
    return both[:count].to(dtype).view(*shape)


def keep_mask(shape: tuple[int, int, int, int], p: float, rng: Tensor, stream: int) -> Tensor:
    """Which elements of an (n, c, h, w) tensor dropout keeps: bool (n, c, h, w), true with probability 1 - p.

    Element e of the NHWC order is dropped where word e < p * 2^32.
    """
    n, c, h, w = shape
    kept = words_ref(rng, stream, n * c * h * w) >= math.ceil(p * 2**32)
    return kept.view(n, h, w, c).permute(0, 3, 1, 2)


if compiled("philox_words"):
    torch.library.register_fake("pygan::philox_words", lambda rng, stream, count: rng.new_empty(count))
