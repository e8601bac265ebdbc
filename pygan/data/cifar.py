"""CIFAR-10 as distributed: records of a label and 32x32 colour planes, in the binary or the Python version."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pygan.data.images import why
from pygan.data.pickles import load_pickle
from pygan.errors import UserError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SIDE = 32
_PIXELS = 3 * _SIDE**2  # bytes of a picture: 1024 red, 1024 green, 1024 blue, each row by row
_FOLDERS = (".", "cifar-10-batches-bin", "cifar-10-batches-py")
_TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
_TEST = "test_batch"
N_BATCHES = len(_TRAIN)


def find(root: Path) -> dict[str, list[Path]] | None:
    """The files of "train" and of "test" (perhaps none), or None if `root` holds no CIFAR-10."""
    for folder in _FOLDERS:
        for ending in (".bin", ""):
            train = [path for name in _TRAIN if (path := root / folder / f"{name}{ending}").is_file()]
            if train:
                test = root / folder / f"{_TEST}{ending}"
                return {"train": train, "test": [test] if test.is_file() else []}
    return None


def read(paths: list[Path]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(pictures uint8 (n, 32, 32, 3), labels int64 (n,), names). UserError, one line, for a file that is damaged."""
    pictures, labels, names = [], [], []
    for path in paths:
        planes, kinds = _binary(path) if path.suffix == ".bin" else _pickled(path)
        if kinds.size and not 0 <= kinds.min() <= kinds.max() < len(CLASSES):
            raise UserError(f"{path} has labels {kinds.min()}..{kinds.max()}, CIFAR-10 has 0..9: fetch it again")
        pictures.append(planes.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        labels.append(kinds)
        names += [f"{path.stem}/{i:05d}" for i in range(len(kinds))]
    return np.ascontiguousarray(np.concatenate(pictures)), np.concatenate(labels), names


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from error
    if not content.size or content.size % (_PIXELS + 1):
        raise UserError(f"{path} has {content.size} bytes, no whole number of records of {_PIXELS + 1}: fetch it again")
    records = content.reshape(-1, _PIXELS + 1)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _pickled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    batch = load_pickle(path)
    named = {k.decode("latin-1") if isinstance(k, bytes) else k: v for k, v in batch.items()} if _is_dict(batch) else {}
    planes, kinds = named.get("data"), named.get("labels")
    good = isinstance(planes, np.ndarray) and planes.dtype == np.uint8 and planes.shape[1:] == (_PIXELS,)
    if not good or not isinstance(kinds, list) or len(kinds) != len(planes) or not kinds or not _whole(kinds):
        raise UserError(f"{path} is no batch of CIFAR-10: expected data, uint8 n x {_PIXELS}, and n labels")
    return planes, np.array(kinds, dtype=np.int64)


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _whole(values: list) -> bool:
    return all(isinstance(v, (int, np.integer)) and 0 <= v < 256 for v in values)
