"""What a score costs beside the network that sees the pictures: pytest benchmarks/bench_evaluate.py.

Features as Inception gives them, 2048 numbers each. Each row checks what it times against the plain formula in
float64, and `memory` that a process that takes in 10,000 of them, and one that takes in 40,000, peak alike.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pygan import distributions
from pygan.distributions import Moments, Reservoir

DIM, PICTURES, BATCH = 2048, 2000, 16
MOST_MIB = 64  # by which four times as many pictures may raise the peak

_STREAM = f"""
import sys, torch
from pygan.distributions import Moments, Reservoir
pictures, sides = int(sys.argv[1]), [(Moments({DIM}), Reservoir({DIM}, most=5000)) for _ in range(2)]
for _ in range(pictures // 100):
    for seen in (one for side in sides for one in side):
        seen.add(torch.randn(100, {DIM}))
sides[0][0].mean
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) / 1024)
"""


def features(seed, n=PICTURES):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, DIM, generator=random) + 0.1 * seed


def timed(benchmark, group, step, *, rounds):
    benchmark.group = group
    benchmark.extra_info.update(torch=torch.__version__, threads=torch.get_num_threads(), dim=DIM)
    return benchmark.pedantic(step, rounds=rounds)


def test_moments(benchmark):
    """2,000 pictures in batches of 16, mean and covariance."""
    seen, whole = [], features(0)

    def step():
        seen.append(Moments(DIM))
        for batch in whole.split(BATCH):
            seen[-1].add(batch)
        return seen[-1].covariance

    covariance = timed(benchmark, "moments", step, rounds=3)
    assert torch.allclose(covariance, torch.cov(whole.double().T), atol=1e-9)


def test_reservoir(benchmark):
    """2,000 pictures of which 500 are kept."""

    def step():
        kept = Reservoir(DIM, most=500)
        for batch in whole.split(BATCH):
            kept.add(batch)
        return kept.features

    whole = features(0)
    assert len(timed(benchmark, "reservoir", step, rounds=3).unique(dim=0)) == 500


def test_frechet(benchmark):
    """Two covariances of 2048x2048; the trace of the root against that of the root of their product's eigenvalues."""
    n = 2 * DIM  # of full rank, for the plain formula has no other
    a, b = Moments(DIM), Moments(DIM)
    a.add(features(0, n))
    b.add(1.3 * features(1, n))
    value = timed(benchmark, "frechet", lambda: distributions.frechet(a, b), rounds=1)
    root = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    plain = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root
    assert value == pytest.approx(float(plain), rel=1e-8)


def test_kid(benchmark):
    """One subset of 1,000 of either side; 100 are usual."""
    one, other = features(0, 1000), features(1, 1000)
    value = timed(benchmark, "kid subset", lambda: distributions.mmd(one, other), rounds=3)
    x, y = one.double(), other.double()
    xx, yy, xy = (((p @ q.T) / DIM + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    off = ~torch.eye(1000, dtype=torch.bool)
    assert value == pytest.approx(float(xx[off].mean() + yy[off].mean() - 2 * xy.mean()), rel=1e-9)


def test_memory(benchmark):
    """Peak MiB of a process that takes in 10,000 pictures of either side, and of 40,000."""

    def peak(pictures):
        done = subprocess.run(
            [sys.executable, "-c", _STREAM, str(pictures)], capture_output=True, check=True, text=True
        )
        return float(done.stdout)

    few = timed(benchmark, "memory of 10,000", lambda: peak(10_000), rounds=1)
    many = peak(40_000)
    benchmark.extra_info.update(mib_of_10_000=round(few), mib_of_40_000=round(many))
    assert many < few + MOST_MIB
