"""From tensors to pictures that people look at."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pygan.data import transforms

_GAP, _CAPTION = 4, 18  # pixels between pictures, height of the line of captions


def to_uint8(images: Tensor) -> np.ndarray:
    """(n, c, h, w) in [-1, 1] -> uint8 (n, h, w, c); values outside are clipped."""
    levels = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return levels.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)


def to_image(pixels: np.ndarray) -> Image.Image:
    """uint8 (h, w, c) with 1 or 3 channels -> a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def as_rgb(images: Tensor, beside: Tensor | None = None) -> Tensor:
    """Any network's images as (n, 1 or 3, h, w) in [-1, 1] for people.

    Two channels are a and b of Lab, whose lightness is `beside`, the one-channel input; more than three are label
    planes, shown by their index.
    """
    channels = images.shape[1]
    if channels == 2 and beside is not None:
        return transforms.lab_to_rgb(beside.to(images.device), images)
    if channels > 3:
        return images.argmax(1, keepdim=True).float().div(channels - 1).mul(2).sub(1)
    return images


def columns(images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The columns that a GAN's `sample` returns, on the CPU and as people can see them.

    a and b of Lab get their lightness from the first column of one channel.
    """
    images = {name: column.detach().float().cpu() for name, column in images.items()}
    lightness = next((column for column in images.values() if column.shape[1] == 1), None)
    return {name: as_rgb(column, lightness) for name, column in images.items()}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The columns of several batches, one below the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def grid(columns: Mapping[str, Tensor], zoom_to: int = 96) -> Image.Image:
    """One row per item, one captioned column per name: nobody has to ask which ones are real. One column: a square.

    columns: {"input": (n, c, h, w), ...} in [-1, 1], c of 1 or 3. Small pictures are enlarged by a whole factor until
    they are at least `zoom_to` pixels high.
    """
    pixels = {name: to_uint8(images) for name, images in columns.items()}
    if len(pixels) == 1:
        ((name, images),) = pixels.items()
        side = max(1, math.ceil(math.sqrt(len(images))))
        empty = np.full((-len(images) % side, *images.shape[1:]), 255, dtype=np.uint8)
        images = np.concatenate([images, empty])
        pixels = {name if k == 0 else " " * k: images[k::side] for k in range(side)}
    rows, height, width = next(iter(pixels.values())).shape[:3]
    zoom = max(1, zoom_to // height)
    cell_w, cell_h = width * zoom + _GAP, height * zoom + _GAP
    sheet = Image.new("RGB", (cell_w * len(pixels) + _GAP, cell_h * rows + _GAP + _CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for column, (name, images) in enumerate(pixels.items()):
        left = _GAP + column * cell_w
        draw.text((left + 2, 3), name, fill="black", font=font)
        for row, image in enumerate(images):
            picture = to_image(image).convert("RGB").resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, _CAPTION + _GAP + row * cell_h))
    return sheet


def to_png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
