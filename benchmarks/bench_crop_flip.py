"""crop_flip against its reference, the indexing and arithmetic of PyTorch: the batch of a resident paired set.

Pictures of 286 x 286 (of 144 x 144 on a CPU, the demo's), A and B of three channels, cut to 256 x 256 (128 x 128).
Every repetition draws other windows of a set that is larger than a GPU's cache. Every row first compares, bit for bit,
on the inputs that it then times. On a GPU a row is 20 repetitions in one CUDA graph.

    pytest benchmarks/bench_crop_flip.py --benchmark-json=out.json
"""

import itertools

import pytest
import torch

from benchmarks.timing import DEVICE, DTYPES, record
from pygan.ops import _native
from pygan.ops.crop_flip import crop_flip, crop_flip_ref

ITEMS, LOAD, CROP = (400, 286, 256) if DEVICE == "cuda" else (40, 144, 128)


@pytest.mark.parametrize("impl", ["native", "ref"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 16, 64] if DEVICE == "cuda" else [1, 4])
def test_pairs(benchmark, n, dtype, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    sets = [torch.randint(0, 256, (ITEMS, LOAD, LOAD, 3), dtype=torch.uint8, device=DEVICE) for _ in range(2)]
    most = torch.tensor([ITEMS, LOAD - CROP + 1, LOAD - CROP + 1, 2])
    tables = [(torch.rand(n, 4) * most).int().to(DEVICE) for _ in range(20)]
    draws = itertools.cycle(tables)

    def step():
        draw = next(draws)
        return crop_flip(sets, [draw, draw], CROP, dtype=DTYPES[dtype], impl=impl)

    for draw in tables:
        expected = crop_flip_ref(sets, [draw, draw], CROP, dtype=DTYPES[dtype])
        assert all(torch.equal(a, b) for a, b in zip(step(), expected, strict=True))
    values = 2 * n * 3 * CROP * CROP
    moved = values * (1 + DTYPES[dtype].itemsize)  # the contract: a byte in, a value out
    record(benchmark, f"crop_flip {dtype} 2x{n}x3x{CROP}x{CROP}", step, moved=moved)
