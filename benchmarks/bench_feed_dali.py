"""Pairs per second of the DALI feed and of the Pillow feed it stands in for, on a set too large to keep decoded.

Side-by-side pictures of 512x256 as pix2pix sets come, resized to 286, cropped to 256, mirrored. Every row first
compares what it is about to time with the Pillow feed. Run with `pytest benchmarks/bench_feed_dali.py`.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import torch
from PIL import Image

from pygan.data.dali import DaliFeed
from pygan.data.feeds import PillowFeed
from pygan.data.index import examine
from pygan.data.layouts import Item
from pygan.data.sources import SideBySide
from pygan.data.stream import Stream

N_PAIRS = 64
LEVEL = 1 / 127.5  # one step of 0..255 in [-1, 1]
SAVED = {
    "jpeg-420": ("jpg", {"quality": 90, "subsampling": 2}),
    "jpeg-444": ("jpg", {"quality": 95, "subsampling": 0}),
    "png": ("png", {}),
}
STEPS_A_ROUND = 8
ON_GPU = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none")]


@pytest.fixture(scope="module", params=SAVED)
def source(request, tmp_path_factory) -> SideBySide:
    ending, how = SAVED[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    items = [Item(str(i), (folder / f"{i}.{ending}",)) for i in range(N_PAIRS)]
    for i, item in enumerate(items):
        _photo(seed=i).save(item.files[0], **how)
    return SideBySide(
        items,
        {path: examine(path) for item in items for path in item.files},
        load_size=286,
        channels=(3, 3),
        filters=("bicubic", "bicubic"),
        natural_direction="AtoB",
        description=request.param,
    )


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize(
    ("kind", "device"),
    [
        ("dali", "cpu"),
        ("pillow", "cpu"),
        pytest.param("dali", "cuda", marks=[*ON_GPU, pytest.mark.dali]),
        pytest.param("pillow", "cuda", marks=ON_GPU),
    ],
)
def test_feed(benchmark, source, kind, device, batch):
    if kind == "dali":
        pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install '.[dali]'")
    stream = Stream(N_PAIRS, seed=0, batch=batch, load_size=286, crop_size=256)
    with {"dali": DaliFeed, "pillow": PillowFeed}[kind](source, stream, device, False) as feed:
        _compare(feed, source, stream)
        addresses = itertools.count(N_PAIRS, step=batch)

        def steps() -> None:
            for _ in range(STEPS_A_ROUND):
                feed.get(next(addresses))
            if device == "cuda":
                torch.cuda.synchronize()

        benchmark.pedantic(steps, rounds=10, warmup_rounds=2)
        benchmark.extra_info.update(
            device=torch.cuda.get_device_name() if device == "cuda" else f"cpu, {os.cpu_count()} cores",
            torch=torch.__version__,
            feed=feed.describe(),
        )
        if benchmark.stats:  # none with --benchmark-disable
            benchmark.extra_info["pairs_per_s"] = round(STEPS_A_ROUND * batch / benchmark.stats.stats.median, 1)


def _compare(feed: DaliFeed | PillowFeed, source: SideBySide, stream: Stream) -> None:
    with PillowFeed(source, stream, "cpu", False) as pillow:
        for got, want in zip(feed.get(0), pillow.get(0), strict=True):
            levels = (got.cpu() - want).abs() / LEVEL
            assert levels.mean() < 0.05, f"mean difference of {levels.mean():.3f} levels"
            assert levels.max() < 8, f"largest difference of {levels.max():.0f} levels"


def _photo(seed: int) -> Image.Image:
    """Blobs of several sizes and a little noise: compresses like a photograph."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 3, (256, 512, 3))
    for cell, weight in ((64, 0.6), (16, 0.25), (4, 0.15)):
        coarse = rng.integers(0, 256, (256 // cell + 2, 512 // cell + 2, 3), dtype=np.uint8)
        mixed += weight * np.asarray(Image.fromarray(coarse).resize((512, 256), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
