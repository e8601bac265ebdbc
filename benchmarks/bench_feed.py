"""Pairs per second of every feed, and the time to draw a built-in house: pytest benchmarks/bench_feed.py.

Real shapes: 286 -> 256 pixels (paper) from 512x256 side-by-side JPEG files, and 72 -> 64 (demo) from memory. Every row
is checked against the definition of a feed (stream's draws on the source's pixels) on the very batches it then times.
The figures depend on the number of cores and on what else runs: both are in `extra_info`.
"""

from __future__ import annotations

import importlib.util
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pygan.data import paired_feed
from pygan.data.command import make
from pygan.data.facades import facade
from pygan.data.feeds import cores

N_PAIRS = 32
FIELDS = {
    "data": "", "data_images": N_PAIRS, "seed": 0, "flip": True, "direction": "auto", "input_transform": "none",
    "input_channels": 0, "output_channels": 0, "resample": "auto", "holdout": 0.1, "skip_bad": False,
}  # fmt: skip
HAS_DALI = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a CUDA build of torch")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_GPU])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("feed") / "facades"
    make("facades", root, n=N_PAIRS, ending="jpg")
    return str(root)


def checked(feed, levels: float):
    """The feed, whose mean difference from the definition is within `levels` of 0..255 (DALI: nearest-pixel edges)."""
    for images_seen in (0, 3 * feed.stream.batch):
        draw = feed.stream.draw(images_seen)
        crop = feed.stream.crop_size
        sides = ([], [])
        for item, top, left, flip in zip(draw.items, draw.top, draw.left, draw.flip, strict=True):
            for side, pixels in zip(sides, feed.source.pair(int(item)), strict=True):
                window = pixels[top : top + crop, left : left + crop]
                side.append(window[:, ::-1] if flip else window)
        expected = [np.stack(side).transpose(0, 3, 1, 2) / 127.5 - 1 for side in sides]
        for got, wanted in zip(feed.get(images_seen), expected[::-1] if feed.swap else expected, strict=True):
            assert np.abs(got.cpu().double().numpy() - wanted).mean() * 127.5 <= levels
    return feed


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("load_size", "crop_size"), [(286, 256), (72, 64)])
@pytest.mark.parametrize("kind", ["resident", "pillow", "dali"])
def test_feed(benchmark, folder, kind, load_size, crop_size, batch, device):
    if kind == "dali" and not HAS_DALI:
        pytest.skip("needs NVIDIA DALI: pip install '.[dali]'")
    fields = {"data": folder, "feed": kind, "batch": batch, "load_size": load_size, "crop_size": crop_size}
    recipe = SimpleNamespace(**(FIELDS | fields))
    with checked(paired_feed(recipe, "train", device), levels=4 if kind == "dali" else 1e-4) as feed:
        at = [0]

        def some_batches():
            for _ in range(16):
                batch_now = feed.get(at[0])
                at[0] += batch
            if device == "cuda":
                torch.cuda.synchronize()
            return batch_now

        benchmark.pedantic(some_batches, rounds=8, warmup_rounds=2)
    if benchmark.stats:
        benchmark.extra_info["pairs_per_s"] = round(16 * batch / benchmark.stats.stats.median, 1)
    benchmark.extra_info |= _circumstances(device)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_facade(benchmark, size):
    """One house, one core; checked to be the same house every time."""
    first = facade(0, 5, size)
    index = iter(range(10**9))
    benchmark.pedantic(lambda: facade(0, next(index), size), rounds=40, warmup_rounds=4)
    assert all(np.array_equal(a, b) for a, b in zip(first, facade(0, 5, size), strict=True))
    benchmark.extra_info |= _circumstances("cpu")


def _circumstances(device: str) -> dict[str, object]:
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {"device": name, "cores": cores(), "load": os.getloadavg()[0], "torch": torch.__version__}
