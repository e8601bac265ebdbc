"""Pictures as a caller has them (PIL, paths, numpy, torch), and results back as the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pygan import pixels
from pygan.data import images
from pygan.errors import UserError, say_once
from pygan.pixels import Picture

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SLACK = 1e-3  # by which floats may leave their range: what a resize overshoots is cut off


class Given(NamedTuple):
    """What a caller gave."""

    pictures: list[Picture]
    names: list[str]  # of each, for errors
    back: Callable[[list[Picture]], Any]  # the results as the kind that was given


def read(x: Any, takes: Sequence[int], *, most_pixels: int = images.MAX_PIXELS) -> Given:
    """What x holds. takes: channels that the network can be given; most_pixels: of a picture.

    Errors: UserError, one line.
    """
    if not isinstance(x, list | tuple):
        return _one(x, takes, most_pixels, "the picture")
    if not x:
        raise UserError("the list is empty; give at least one picture")
    each = []
    for k, item in enumerate(x):
        if isinstance(item, list | tuple) or getattr(item, "ndim", 0) == 4:
            raise UserError(f"item {k} of the list is itself a batch; give a flat list of pictures, or one batch")
        each.append(_one(item, takes, most_pixels, f"item {k} of the list"))
    return Given(
        [one.pictures[0] for one in each],
        [one.names[0] for one in each],
        lambda made: [one.back([picture]) for one, picture in zip(each, made, strict=True)],
    )


def _one(x: Any, takes: Sequence[int], most_pixels: int, name: str) -> Given:
    if isinstance(x, Image.Image):
        _check_size(name, 1, x.size[::-1], most_pixels)
        return Given([pixels.of_image(x, name)], [name], lambda made: to_image(made[0]))
    if isinstance(x, bytes):
        return Given([pixels.read(x, name=name, most_pixels=most_pixels)], [name], lambda made: to_image(made[0]))
    if isinstance(x, str | os.PathLike):
        path = Path(os.fsdecode(x))
        return Given([pixels.read(path, most_pixels=most_pixels)], [str(path)], lambda made: to_image(made[0]))
    if isinstance(x, np.ndarray):
        return _array(x, takes, name, most_pixels)
    if isinstance(x, Tensor):
        return _tensor(x, takes, name, most_pixels)
    what = type(x).__name__
    raise UserError(f"{name} is {what}; give a PIL image, a path, bytes, a numpy array, a torch tensor, or a list")


def _array(x: np.ndarray, takes: Sequence[int], name: str, most_pixels: int) -> Given:
    """numpy (h, w), (h, w, c) or (n, h, w, c)."""
    if x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        depth: Any = np.float32
    elif x.dtype.kind == "u" and x.dtype.itemsize <= 2:
        depth = np.uint8 if x.dtype.itemsize == 1 else np.uint16
    else:
        raise UserError(f"{name} is an array of {x.dtype}; give uint8, uint16, or floats from 0 to 1")
    if x.ndim not in (2, 3, 4):
        raise UserError(f"{name} has shape {x.shape}; give (h, w), (h, w, c) or a batch (n, h, w, c)")
    whole = x[None, :, :, None] if x.ndim == 2 else x[None] if x.ndim == 3 else x
    if x.ndim > 2 and whole.shape[3] not in takes and whole.shape[1] in takes:
        axes = "1, 2, 0" if x.ndim == 3 else "0, 2, 3, 1"
        raise UserError(
            f"{name} has shape {x.shape}, channels first; numpy pictures are (h, w, c): give x.transpose({axes}), "
            f"or a torch tensor"
        )
    _check_size(name, whole.shape[0], whole.shape[1:3], most_pixels)
    if x.ndim > 2:
        _check_channels(name, whole.shape[3], takes, "x[..., :3]")
    if depth is np.float32:
        _check_range(name, float(x.min()), float(x.max()), 0.0, "floats of an array go from 0 to 1; uint8 to 255")
    plain = np.ascontiguousarray(whole, dtype=depth)

    def back(made: list[Picture]) -> np.ndarray:
        arrays = np.stack([picture.pixels for picture in made]).astype(x.dtype)
        if x.ndim == 4:
            return arrays
        return arrays[0, :, :, 0] if x.ndim == 2 and arrays.shape[3] == 1 else arrays[0]

    return Given([Picture(one) for one in plain], _names(name, len(plain), x.ndim == 4), back)


def _tensor(x: Tensor, takes: Sequence[int], name: str, most_pixels: int) -> Given:
    """torch (c, h, w) or (n, c, h, w)."""
    if x.dtype not in (*_FLOATS, torch.uint8, torch.uint16):
        raise UserError(f"{name} is a tensor of {x.dtype}; give floats from -1 to 1, torch.uint8 or torch.uint16")
    if x.layout != torch.strided or x.is_meta:
        raise UserError(f"{name} is a {'meta' if x.is_meta else 'sparse'} tensor; give a dense one, as x.to_dense()")
    if x.dim() not in (3, 4):
        raise UserError(f"{name} has shape {tuple(x.shape)}; give (c, h, w) or a batch (n, c, h, w)")
    whole = x if x.dim() == 4 else x[None]
    if whole.shape[1] not in takes and whole.shape[3] in takes:
        axes = "2, 0, 1" if x.dim() == 3 else "0, 3, 1, 2"
        raise UserError(
            f"{name} has shape {tuple(x.shape)}, channels last; torch pictures are (c, h, w): give x.permute({axes}), "
            f"or a numpy array"
        )
    _check_size(name, whole.shape[0], whole.shape[2:], most_pixels)
    _check_channels(name, whole.shape[1], takes, f"x[{':, ' if x.dim() == 4 else ''}:3]")
    plain = whole.detach().cpu().permute(0, 2, 3, 1)
    signed = x.dtype in _FLOATS
    if signed:
        plain = plain.float()
        least, most = float(plain.min()), float(plain.max())
        _check_range(name, least, most, -1.0, "floats of a tensor go from -1 to 1; uint8 to 255")
        if least >= 0:
            say_once(
                f"{name} has no value below 0: float tensors are read as -1 (black) to 1 (white); for one from 0 to 1 "
                f"give x * 2 - 1"
            )
        plain = (plain + 1) / 2
    arrays = np.ascontiguousarray(plain.numpy())

    def back(made: list[Picture]) -> Tensor:
        results = torch.from_numpy(np.stack([picture.pixels for picture in made])).permute(0, 3, 1, 2)
        results = results * 2 - 1 if signed else results
        results = results.contiguous().to(device=x.device, dtype=x.dtype)
        return results if x.dim() == 4 else results[0]

    return Given([Picture(one) for one in arrays], _names(name, len(arrays), x.dim() == 4), back)


def _names(name: str, n: int, batch: bool) -> list[str]:
    return [f"picture {k} of the batch" for k in range(n)] if batch else [name]


def _check_size(name: str, n: int, size: Sequence[int], most_pixels: int) -> None:
    if not n:
        raise UserError(f"{name} is a batch of no pictures; give at least one")
    try:
        images.check_size(size[1], size[0], most_pixels=most_pixels)
    except UserError as error:
        raise UserError(f"cannot use {name}: {error}") from None


def _check_channels(name: str, channels: int, takes: Sequence[int], cut: str) -> None:
    if channels in takes:
        return
    more = f"; {cut} leaves transparency out, a PIL image keeps it" if channels == 4 and 3 in takes else ""
    raise UserError(f"{name} has {channels} channels, the network takes {' or '.join(map(str, takes))}{more}")


def _check_range(name: str, least: float, most: float, black: float, what: str) -> None:
    if not (black - _SLACK <= least and most <= 1 + _SLACK):  # NaN is in no range
        raise UserError(f"{name} has values from {least:g} to {most:g}: {what}")


def to_image(picture: Picture) -> Image.Image:
    """A Pillow image of a picture: L, RGB, LA or RGBA; of 16 bits I;16, of floats F, where it is grey.

    Pillow has no colours of more than 8 bits: they are rounded to 8, said once. Errors: UserError for channels of
    other numbers than 1 and 3.
    """
    values, alpha, channels = picture.pixels, picture.alpha, picture.pixels.shape[2]
    if channels not in (1, 3):
        raise UserError(f"a PIL image cannot hold {channels} channels; give the network numpy arrays, it returns such")
    if values.dtype != np.uint8 and (channels == 3 or alpha is not None):
        say_once("a PIL image has 8 bits per colour: results of 16 bits and floats are rounded; numpy arrays keep them")
        values = pixels.to_depth(values, np.uint8)
        alpha = None if alpha is None else pixels.to_depth(alpha, np.uint8)
    if alpha is not None:
        return Image.fromarray(np.concatenate([values, alpha[:, :, None]], axis=2))
    return Image.fromarray(values[:, :, 0] if channels == 1 else values)
