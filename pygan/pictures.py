"""From tensors to pictures that people look at."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

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


def grid(
    columns: Mapping[str, Tensor],
    zoom_to: int = 96,
    *,
    under: Mapping[str, Sequence[str | tuple[str, str]]] = MappingProxyType({}),
) -> Image.Image:
    """One row per item, one captioned column per name: nobody has to ask which ones are real. One column: a square.

    columns: {"input": (n, c, h, w), ...} in [-1, 1], c of 1 or 3; where all names are blank there is no line for them.
    Small pictures are enlarged by a whole factor until they are at least `zoom_to` pixels high. under: for some columns
    a line below each picture: a text, or a pair of a text and the name of a file, of which `line_of` keeps what fits.
    """
    pixels = {name: to_uint8(images) for name, images in columns.items()}
    if len(pixels) == 1 and not under:
        ((name, images),) = pixels.items()
        side = max(1, math.ceil(math.sqrt(len(images))))
        empty = np.full((-len(images) % side, *images.shape[1:]), 255, dtype=np.uint8)
        images = np.concatenate([images, empty])
        pixels = {name if k == 0 else " " * k: images[k::side] for k in range(side)}
    rows, height, width = next(iter(pixels.values())).shape[:3]
    zoom = max(1, zoom_to // height)
    top = _CAPTION if any(name.strip() for name in pixels) else 0
    cell_w, cell_h = width * zoom + _GAP, height * zoom + _GAP + (_CAPTION if under else 0)
    sheet = Image.new("RGB", (cell_w * len(pixels) + _GAP, cell_h * rows + _GAP + top), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    end = 0.0  # of the last name
    for column, (name, images) in enumerate(pixels.items()):
        left = _GAP + column * cell_w
        # A name that would leave the sheet moves to the left, as far as the one before it lets it.
        at = min(left + 2, max(end + 6, sheet.width - 2 - font.getlength(name)))
        draw.text((at, 3), name, fill="black", font=font)
        end = at + font.getlength(name) if name.strip() else end
        for row, image in enumerate(images):
            picture = to_image(image).convert("RGB").resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, top + _GAP + row * cell_h))
        for row, text in enumerate(under.get(name, ())):
            line = line_of(text, lambda line: font.getlength(line) <= width * zoom)
            draw.text((left + 2, top + _GAP + row * cell_h + height * zoom + 1), line, fill="black", font=font)
    return sheet


def line_of(text: str | tuple[str, str], fits: Callable[[str], bool]) -> str:
    """What fits of a text: its beginning. Of a pair the text whole, and of a file's name behind it the end, where it
    differs from others, without the ending that all have. Dots stand for what was cut.
    """
    if isinstance(text, str):
        if fits(text):
            return text
        while text and not fits(f"{text}…"):
            text = text[:-1]
        return f"{text}…"
    lead, name = text
    if fits(lead + name):
        return lead + name
    end = name.removesuffix(PurePosixPath(name).suffix)
    if fits(lead + end):
        return lead + end
    while end and not fits(f"{lead}…{end}"):
        end = end[1:]
    return f"{lead}…{end}"


def to_gif(frames: Iterable[Image.Image], few: Sequence[Image.Image], *, fps: float, dither: bool) -> bytes:
    """The frames as a GIF that repeats for ever, all with one palette: 256 colours that suit `few` of them.

    dither: spread the error of a colour over its neighbours, which hides bands and flickers a little. A frame is shown
    for a whole number of hundredths of a second, at least two. Frames are taken one by one and kept at a byte a pixel.
    """
    sheet = Image.new("RGB", (max(x.width for x in few), sum(x.height for x in few)), "white")
    for k, frame in enumerate(few):
        sheet.paste(frame, (0, sum(x.height for x in few[:k])))
    palette = sheet.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
    how = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    drawn = (frame.quantize(palette=palette, dither=how) for frame in frames)
    return _animated(drawn, "GIF", duration=10 * max(2, round(100 / fps)), optimize=False, disposal=1)


def to_webp(frames: Iterable[Image.Image], *, fps: float, quality: int | None) -> bytes:
    """The frames as an animated WebP that repeats for ever; quality: 1 to 100, None: without loss."""
    kind = {"lossless": True} if quality is None else {"quality": quality}
    return _animated(iter(frames), "WEBP", duration=max(1, round(1000 / fps)), method=4, **kind)


def _animated(frames: Iterator[Image.Image], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    next(frames).save(buffer, kind, save_all=True, append_images=frames, loop=0, **options)
    return buffer.getvalue()


def to_png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
