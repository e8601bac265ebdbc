"""What the data tests share: a recipe's fields, and pictures on disk."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

FIELDS = {
    "data": "", "data_images": 8, "seed": 0, "batch": 2, "load_size": 36, "crop_size": 32, "flip": True,
    "direction": "auto", "input_transform": "none", "input_channels": 0, "output_channels": 0, "resample": "auto",
    "holdout": 0.25, "skip_bad": False, "feed": "auto", "channels": 0, "pre_crop": "none", "attrs": "",
    "text_encoder": "auto", "where": "",
}  # fmt: skip


@pytest.fixture
def recipe():
    """A function from some fields to all the fields that data reads, small."""

    def make(**fields):
        assert fields.keys() <= FIELDS.keys()
        return SimpleNamespace(**{**FIELDS, **{k: str(v) if k == "data" else v for k, v in fields.items()}})

    return make


@pytest.fixture
def picture():
    """A function that writes a smooth random picture and returns its pixels, uint8 RGB."""

    def make(path, width=64, height=32, seed=0, mode="RGB", **save):
        small = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (4, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert(mode).save(path, **save)
        return np.asarray(image)

    return make
