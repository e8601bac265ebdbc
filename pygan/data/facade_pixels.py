"""From the plan of a house front to its two pictures: the labels, and a photo with sun, weather, glass and grain.

One map of material numbers is painted; labels and photo are both looked up in it, so their edges coincide. Only
+ - * / and comparisons touch the pixels: no libm function and no BLAS, whose last bits differ between machines.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pygan.data.facades import Draws, Plan


class Kind(Enum):
    """What a shape does to the rectangle that holds it."""

    RECT = "fill it"
    ARCH = "fill it but for the corners over a half ellipse at the top"
    TRIANGLE = "fill the triangle on its base"
    DISC = "fill the ellipse in it"
    ROWS = "fill one line in every `step`"
    COLUMNS = "fill one column in every `step`, half as wide as the gap"
    DIM = "let at most `light` of the sun in"
    GLOW = "let exactly `light` of the sun in"


class Shape(NamedTuple):
    """Coordinates in units of the picture's height."""

    kind: Kind
    x0: float
    y0: float
    x1: float
    y1: float
    material: int
    light: float = 1.0
    step: float = 0.0


def render(plan: Plan, height: int, width: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """(photo uint8 (height, width, 3), label ids uint8 (height, width)) of the plan; `draws` feeds the textures."""
    ids = np.zeros((height, width), dtype=np.uint8)
    sun = np.ones((height, width), dtype=np.float32)
    for shape in plan.shapes:
        _paint(shape, ids, sun, height, width)
    labels = np.array(plan.materials.labels, dtype=np.uint8)[ids]
    return _photo(plan, ids, sun, draws), labels


def _paint(shape: Shape, ids: np.ndarray, sun: np.ndarray, height: int, width: int) -> None:
    kind, x0, y0, x1, y1, material, light, step = shape
    left, top = min(max(int(x0 * height + 0.5), 0), width), min(max(int(y0 * height + 0.5), 0), height)
    right, bottom = min(max(int(x1 * height + 0.5), 0), width), min(max(int(y1 * height + 0.5), 0), height)
    if kind is Kind.DIM:
        view = sun[top:bottom, left:right]
        np.minimum(view, light, out=view)
        return
    if kind is Kind.GLOW:
        sun[top:bottom, left:right] = light
        return
    # Whatever is in the plan is at least one pixel thick, so that no sill or bar is lost in a small picture.
    view = ids[top : max(bottom, top + 1), left : max(right, left + 1)]
    if kind is Kind.RECT:
        view[:] = material
    elif kind is Kind.ROWS:
        view[:: max(2, int(step * height + 0.5))] = material
    elif kind is Kind.COLUMNS:
        pitch = max(2, int(step * height + 0.5))
        for k in range(max(1, pitch // 3)):
            view[:, k::pitch] = material
    elif view.size:
        np.copyto(view, np.uint8(material), where=_mask(kind, *view.shape))


@lru_cache(maxsize=512)
def _mask(kind: Kind, height: int, width: int) -> np.ndarray:
    """Which pixels of a (height, width) box the shape fills."""
    y = (np.arange(height) + 0.5)[:, None]
    x = np.abs((np.arange(width) + 0.5) / width * 2 - 1)[None, :]  # 0 in the middle, 1 at both sides
    if kind is Kind.TRIANGLE:
        return x <= y / height
    rise = min(width / 2, height) if kind is Kind.ARCH else height / 2
    up = np.maximum((rise - y) / rise, 0) if kind is Kind.ARCH else np.abs(y / rise - 1)
    return x * x + up * up <= 1


def _photo(plan: Plan, ids: np.ndarray, sun: np.ndarray, draws: Draws) -> np.ndarray:
    height, width = ids.shape
    materials = plan.materials
    blotches = _clouds(draws, 5, 5, height, width) + 0.5 * _clouds(draws, 17, 17, height, width)
    streaks = _clouds(draws, 4, 49, height, width)  # rain runs down
    grain = _grain(draws, height, width)
    rough = np.array(materials.roughness, dtype=np.float32)[ids]
    light = 1 + rough * (0.05 * blotches + 0.05 * streaks + 0.035 * grain)
    brick = np.array(materials.masonry, dtype=np.float32)
    if brick.max() > 0:
        light *= 1 + brick[ids] * _masonry(plan, draws, height, width)
    light *= sun
    # Sky light falls off down the street, sun across the front.
    fall = 1.04 - 0.10 * (np.arange(height, dtype=np.float32) / height)
    side = 1 + np.float32(0.06 * plan.sun) * (np.arange(width, dtype=np.float32) * 2 / width - 1)
    light *= fall[:, None]
    light *= side[None, :]
    # Glass shows the sky over the roofs opposite; the sky itself pales towards the horizon and has clouds.
    mirror = 0.75 + 0.5 * _clouds(draws, 7, 9, height, width) + 0.25 * blotches
    mirror *= np.array(materials.gloss, dtype=np.float32)[ids]
    shot = np.array(plan.tint, dtype=np.float32) * np.float32(plan.exposure)
    colours = np.array(materials.colours, dtype=np.float32) * shot
    sky = np.array(plan.sky, dtype=np.float32) * shot
    picture = np.empty((3, height, width), dtype=np.float32)
    shadow_blue = np.maximum(1 - sun, 0) * 10.0  # what the sun does not light, the sky does
    noise = 1.8 * _grain(draws, height, width)
    for channel in range(3):
        plane = picture[channel]
        np.take(colours[:, channel], ids, out=plane)
        plane *= light
        plane += mirror * sky[channel]
        plane += shadow_blue * np.float32((-0.3, 0.0, 0.6)[channel])
        plane += noise
    return _expose(_lens(picture))


def _clouds(draws: Draws, rows: int, columns: int, height: int, width: int) -> np.ndarray:
    """Smooth noise in about [-1, 1]: a (rows, columns) lattice of uniform numbers, interpolated. float32 (h, w)."""
    lattice = np.array([draws.real(-1, 1) for _ in range(rows * columns)], dtype=np.float32).reshape(rows, columns)
    y0, fy = _places(rows, height)
    x0, fx = _places(columns, width)
    lines = lattice[y0] + (lattice[y0 + 1] - lattice[y0]) * fy[:, None]  # (height, columns)
    return lines[:, x0] + (lines[:, x0 + 1] - lines[:, x0]) * fx[None, :]


@lru_cache(maxsize=64)
def _places(knots: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the knot before it and how far (0..1, eased) it is towards the next."""
    at = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels * (knots - 1)
    before = np.minimum(at.astype(np.int64), knots - 2)
    far = at - before.astype(np.float32)
    return before, far * far * (3 - 2 * far)


def _grain(draws: Draws, height: int, width: int) -> np.ndarray:
    """Noise of one pixel, near normal, standard deviation 1: the sum of four random bytes. float32 (h, w)."""
    count = height * width
    bytes_ = draws.raw((count + 1) // 2).view(np.uint8)[: 4 * count].reshape(4, height, width)
    total = bytes_.astype(np.uint16).sum(axis=0, dtype=np.uint16)
    return (total.astype(np.float32) - 510) * np.float32(1 / 147.8)


def _masonry(plan: Plan, draws: Draws, height: int, width: int) -> np.ndarray:
    """Courses of bricks or blocks: joints darker, every block its own shade. float32 (h, w), about -0.3..0.15."""
    high, long = plan.course[0] * height, plan.course[1] * height
    tones = np.array([draws.real(-0.13, 0.13) for _ in range(509)], dtype=np.float32)
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    course = (y / high).astype(np.int64)
    shifted = np.stack([x, x + long / 2])  # every other course by half a block
    block = (shifted / long).astype(np.int64)  # (2, width)
    tone = tones[(course[:, None] * 131 + block[course % 2]) % 509]
    if high < 2.5:  # joints would be finer than a pixel
        return tone
    joint = np.float32(min(0.30, 0.05 * high))
    tone[y % high < 1] -= joint
    upright = (shifted % long < 1).astype(np.float32) * joint
    tone -= upright[course % 2]
    return tone


def _lens(picture: np.ndarray) -> np.ndarray:
    """A little softness, as every lens has: (1, 6, 1) / 8 in both directions. float32 (3, h, w) in and out."""
    soft = picture * np.float32(0.75)
    soft[:, 1:] += np.float32(0.125) * picture[:, :-1]
    soft[:, :-1] += np.float32(0.125) * picture[:, 1:]
    soft[:, 0] += np.float32(0.125) * picture[:, 0]
    soft[:, -1] += np.float32(0.125) * picture[:, -1]
    out = soft * np.float32(0.75)
    out[:, :, 1:] += np.float32(0.125) * soft[:, :, :-1]
    out[:, :, :-1] += np.float32(0.125) * soft[:, :, 1:]
    out[:, :, 0] += np.float32(0.125) * soft[:, :, 0]
    out[:, :, -1] += np.float32(0.125) * soft[:, :, -1]
    return out


def _expose(picture: np.ndarray) -> np.ndarray:
    """float32 (3, h, w) of about 0..255 -> uint8 (h, w, 3): highlights roll off instead of clipping."""
    np.maximum(picture, 0, out=picture)
    over = np.maximum(picture - 200, 0)
    picture -= over
    picture += 55 * over / (over + 55)
    return np.ascontiguousarray((picture + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))
