"""philox_words against its reference, integer arithmetic of PyTorch: a few draws of a step, and a large one.

The image pool of CycleGAN draws 2 words for each picture, a gradient penalty 1. Every row first compares, bit for bit,
at the offsets that it then draws at: the offset moves with each repetition. On a GPU a row is 20 repetitions in one
CUDA graph, each with the kernel that moves the offset.

    pytest benchmarks/bench_philox_words.py --benchmark-json=out.json
"""

import pytest
import torch

from benchmarks.timing import DEVICE, record
from pygan.ops import _native
from pygan.ops.philox import words, words_ref


@pytest.mark.parametrize("impl", ["native", "ref"])
@pytest.mark.parametrize("count", [2, 16, 1 << 16] if DEVICE == "cpu" else [2, 16, 1 << 24])
def test_words(benchmark, count, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    rng = torch.tensor([2**40 + 1, 2**31], device=DEVICE)
    move = torch.tensor([0, 1], device=DEVICE)

    def step():
        rng.add_(move)
        return words(rng, 3, count, impl=impl)

    for _ in range(3):
        assert torch.equal(step(), words_ref(rng, 3, count))
    moved = 8 * count  # the contract: out once
    record(benchmark, f"philox_words {count}", step, moved=moved)
