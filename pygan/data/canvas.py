"""A canvas for the drawn sets: shapes with smooth edges in units of the picture, at every size the same picture.

A shape is a signed distance: negative inside, in units. A pixel is covered by half a unit step of its own width, so
that an edge is as sharp as the picture allows and no sharper. Only + - * / sqrt and comparisons touch the pixels: no
libm function and no BLAS, whose last bits differ between machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pygan.data.facades import Draws

Colour = tuple[float, float, float]
"""RGB, each 0..255."""

Rows = Sequence[Sequence[float]]


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of a size given as one number or as both. ValueError for less than 2 either way."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 2 or width < 2:
        raise ValueError(f"size must be at least 2 pixels each way, got {height}x{width}")
    return height, width


def blend(a: Colour, b: Colour, t: float) -> Colour:
    """From a (t = 0) to b (t = 1)."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def lit(colour: Colour, gain: float) -> Colour:
    """The colour under `gain` times the light."""
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


def rotation(turn: float) -> tuple[float, float]:
    """(cosine, sine) of the angle whose half has the tangent `turn`: clockwise on the picture for turn > 0."""
    square = turn * turn
    return (1 - square) / (1 + square), 2 * turn / (1 + square)


class Canvas:
    """Pixels, and where they are: x right and y down in units, `unit` pixels long, from the pixel (left, top).

    pixels: float32 (h, w, 3), about 0..255, shared by the canvases that `placed` makes.
    """

    def __init__(self, height: int, width: int, *, unit: float, left: float = 0.0, top: float = 0.0) -> None:
        self.pixels = np.zeros((height, width, 3), dtype=np.float32)
        self.height, self.width = height, width
        self.unit = unit
        self._left, self._top, self._cosine, self._sine = left, top, 1.0, 0.0

    def placed(self, x: float, y: float, scale: float, turn: float = 0.0) -> Canvas:
        """The same pixels seen from (x, y): one unit there is `scale` units here, turned as `rotation` says."""
        other = object.__new__(Canvas)
        other.pixels, other.height, other.width = self.pixels, self.height, self.width
        other.unit = self.unit * scale
        c, s = rotation(turn)
        other._left = self._left + self.unit * (self._cosine * x - self._sine * y)
        other._top = self._top + self.unit * (self._sine * x + self._cosine * y)
        other._cosine, other._sine = self._cosine * c - self._sine * s, self._sine * c + self._cosine * s
        return other

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where the point (x, y) lies on the picture: pixels from the left, from the top."""
        c, s = self._cosine, self._sine
        return self._left + self.unit * (c * x - s * y), self._top + self.unit * (s * x + c * y)

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """(rows, columns) of the pixels that the rectangle touches; empty slices when it lies outside."""
        if self._sine == 0.0:
            corners = (self.at(x0, y0), self.at(x1, y1))
        else:
            corners = (self.at(x0, y0), self.at(x1, y0), self.at(x0, y1), self.at(x1, y1))
        xs, ys = [p[0] for p in corners], [p[1] for p in corners]
        left, right = _clamp(min(xs) - 1, self.width), _clamp(max(xs) + 2, self.width)
        top, bottom = _clamp(min(ys) - 1, self.height), _clamp(max(ys) + 2, self.height)
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def grid(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) of the pixel centres in the window, in units: float32, of shapes that broadcast to (h, w)."""
        rows, columns = window
        px = (_centres(self.width)[columns] - np.float32(self._left))[None, :]
        py = (_centres(self.height)[rows] - np.float32(self._top))[:, None]
        c, s = np.float32(self._cosine / self.unit), np.float32(self._sine / self.unit)
        if self._sine == 0.0:
            return px * c, py * c
        return px * c + py * s, py * c - px * s

    def cover(self, distance: np.ndarray, soft: float = 0.0) -> np.ndarray:
        """How much of each pixel a shape covers, 0..1, from its signed distance; `soft`: width of the edge in units."""
        gain = np.float32(self.unit / (1 + soft * self.unit))
        return np.minimum(np.maximum(np.float32(0.5) - distance * gain, 0), 1)

    def paint(self, window: tuple[slice, slice], cover: np.ndarray, colour: Colour | np.ndarray) -> None:
        """Lay a colour over the window. cover: float32 (h, w) of 0..1. colour: one, or float32 (h, w, 3)."""
        view = self.pixels[window]
        view += cover[:, :, None] * (np.asarray(colour, dtype=np.float32) - view)

    def shade(self, window: tuple[slice, slice], cover: np.ndarray, light: float) -> None:
        """Multiply what lies there by `light`, as far as it is covered."""
        view = self.pixels[window]
        view *= (1 + cover * np.float32(light - 1))[:, :, None]

    # -- shapes that are painted at once: each returns (window, cover), for whatever is to lie inside -----------------

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour | None = None, *, opacity: float = 1.0,
        soft: float = 0.0, light: float | None = None, inside: Inside | None = None,
    ) -> Inside:  # fmt: skip
        """An ellipse about (x, y). colour None: nothing is painted. light: shade instead. inside: only within that."""
        window = self.window(x - rx - soft, y - ry - soft, x + rx + soft, y + ry + soft)
        X, Y = self.grid(window)
        return self._lay(window, ellipse(X - np.float32(x), Y - np.float32(y), rx, ry), colour, opacity, soft, light,
                         inside)  # fmt: skip

    def ellipses(
        self, rows: Rows, colour: Colour | None = None, *, opacity: float = 1.0, soft: float = 0.0,
        light: float | None = None, inside: Inside | None = None,
    ) -> Inside:  # fmt: skip
        """Ellipses, all in one layer: rows of (x, y, rx, ry); else as `ellipse`."""
        x0, y0 = min(r[0] - r[2] for r in rows) - soft, min(r[1] - r[3] for r in rows) - soft
        x1, y1 = max(r[0] + r[2] for r in rows) + soft, max(r[1] + r[3] for r in rows) + soft
        window = self.window(x0, y0, x1, y1)
        X, Y = self.grid(window)
        distance = None
        for x, y, rx, ry in rows:
            one = ellipse(X - np.float32(x), Y - np.float32(y), rx, ry)
            distance = one if distance is None else np.minimum(distance, one)
        return self._lay(window, distance, colour, opacity, soft, light, inside)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour | None = None, *, opacity: float = 1.0,
        round_: float = 0.0, soft: float = 0.0, light: float | None = None, inside: Inside | None = None,
    ) -> Inside:  # fmt: skip
        """A rectangle, its corners rounded by `round_`; else as `ellipse`."""
        window = self.window(x0 - soft, y0 - soft, x1 + soft, y1 + soft)
        X, Y = self.grid(window)
        distance = box(X - np.float32((x0 + x1) / 2), Y - np.float32((y0 + y1) / 2), (x1 - x0) / 2, (y1 - y0) / 2,
                       round_)  # fmt: skip
        return self._lay(window, distance, colour, opacity, soft, light, inside)

    def polygons(
        self, shapes: Sequence[Rows], colour: Colour | None = None, *, opacity: float = 1.0, soft: float = 0.0,
        light: float | None = None, inside: Inside | None = None,
    ) -> Inside:  # fmt: skip
        """Convex polygons of (x, y) corners clockwise, equally many each, in one layer; else as `ellipse`."""
        xs, ys = [p[0] for points in shapes for p in points], [p[1] for points in shapes for p in points]
        window = self.window(min(xs) - soft, min(ys) - soft, max(xs) + soft, max(ys) + soft)
        return self._lay(window, convex(*self.grid(window), shapes), colour, opacity, soft, light, inside)

    def strokes(
        self, segments: Rows, colour: Colour | None = None, *, opacity: float = 1.0, soft: float = 0.0,
        light: float | None = None, inside: Inside | None = None,
    ) -> Inside:  # fmt: skip
        """Lines with round ends, all in one layer: rows of (x0, y0, x1, y1, radius); else as `ellipse`."""
        lines = np.array(segments, dtype=np.float32)
        reach = lines[:, 4]
        low, high = np.minimum(lines[:, :2], lines[:, 2:4]), np.maximum(lines[:, :2], lines[:, 2:4])
        x0, y0 = ((low - reach[:, None]).min(axis=0) - np.float32(soft)).tolist()
        x1, y1 = ((high + reach[:, None]).max(axis=0) + np.float32(soft)).tolist()
        window = self.window(x0, y0, x1, y1)
        return self._lay(window, strokes(*self.grid(window), lines), colour, opacity, soft, light, inside)

    def discs(
        self, rows: Rows, colour: Colour | None = None, *, opacity: float = 1.0, soft: float = 0.0,
        light: float | None = None, inside: Inside | None = None,
    ) -> Inside:  # fmt: skip
        """Circles, all in one layer: rows of (x, y, radius); else as `ellipse`."""
        balls = np.array(rows, dtype=np.float32)
        reach = balls[:, 2:3]
        x0, y0 = ((balls[:, :2] - reach).min(axis=0) - np.float32(soft)).tolist()
        x1, y1 = ((balls[:, :2] + reach).max(axis=0) + np.float32(soft)).tolist()
        window = self.window(x0, y0, x1, y1)
        return self._lay(window, discs(*self.grid(window), balls), colour, opacity, soft, light, inside)

    def _lay(
        self, window: tuple[slice, slice], distance: np.ndarray, colour: Colour | None, opacity: float, soft: float,
        light: float | None, inside: Inside | None,
    ) -> Inside:  # fmt: skip
        cover = self.cover(distance, soft)
        if inside is not None:
            cover *= _of(inside, window)
        if colour is not None:
            self.paint(window, cover if opacity == 1.0 else cover * np.float32(opacity), colour)
        elif light is not None:
            self.shade(window, cover if opacity == 1.0 else cover * np.float32(opacity), light)
        return window, cover

    def finish(self, grain: np.ndarray | None = None) -> np.ndarray:
        """The picture as uint8 (h, w, 3), rounded and clipped. grain: float32 (h, w), added to all channels."""
        if grain is not None:
            self.pixels += grain[:, :, None]
        return (np.minimum(np.maximum(self.pixels, 0), 255) + np.float32(0.5)).astype(np.uint8)


Inside = tuple[tuple[slice, slice], np.ndarray]
"""A window and how far its pixels are covered: what painting a shape gives back."""


def _of(inside: Inside, window: tuple[slice, slice]) -> np.ndarray:
    """The cover that `inside` has in another window: 0 outside its own."""
    (rows, columns), cover = inside
    out = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), dtype=np.float32)
    top, bottom = max(rows.start, window[0].start), min(rows.stop, window[0].stop)
    left, right = max(columns.start, window[1].start), min(columns.stop, window[1].stop)
    if top < bottom and left < right:
        out[top - window[0].start : bottom - window[0].start, left - window[1].start : right - window[1].start] = cover[
            top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
        ]
    return out


# -- signed distances: negative inside, float32, in the units of x and y ---------------------------------------------


def ellipse(x: np.ndarray, y: np.ndarray, rx: float, ry: float) -> np.ndarray:
    """About the origin; exact for a circle, else to first order near the edge: k (k - 1) / |grad k^2| * 2."""
    if rx == ry:
        return np.sqrt(x * x + y * y) - np.float32(rx)
    a, b = x * np.float32(1 / rx), y * np.float32(1 / ry)
    a, b = a * a, b * b
    k = np.sqrt(a + b) + np.float32(1e-6)  # not 0 in the middle
    slope = np.sqrt(a * np.float32(1 / (rx * rx)) + b * np.float32(1 / (ry * ry))) + np.float32(1e-6 / min(rx, ry))
    return k * (k - 1) / slope


def box(x: np.ndarray, y: np.ndarray, half_x: float, half_y: float, round_: float = 0.0) -> np.ndarray:
    """About the origin, its corners rounded."""
    dx = np.abs(x) - np.float32(half_x - round_)
    dy = np.abs(y) - np.float32(half_y - round_)
    inside = np.minimum(np.maximum(dx, dy), 0)
    dx, dy = np.maximum(dx, 0), np.maximum(dy, 0)
    return np.sqrt(dx * dx + dy * dy) + inside - np.float32(round_)


def polygon(x: np.ndarray, y: np.ndarray, points: Rows) -> np.ndarray:
    """Distance to the nearest edge, negative where an odd number of edges lies to the right."""
    corners = np.array(points, dtype=np.float32)
    ends = np.concatenate([corners[1:], corners[:1]])
    ax, ay = corners.T[:, :, None, None]
    bx, by = ends.T[:, :, None, None]
    ex, ey = bx - ax, by - ay
    wx, wy = x - ax, y - ay  # (k, h, w) after broadcasting
    along = np.minimum(np.maximum((wx * ex + wy * ey) / (ex * ex + ey * ey), 0), 1)
    dx, dy = wx - ex * along, wy - ey * along
    crossed = ((y >= ay) != (y >= by)) & ((ex * wy > wx * ey) == (by > ay))
    outside = 1 - 2 * np.logical_xor.reduce(crossed, axis=0).astype(np.float32)
    return np.sqrt((dx * dx + dy * dy).min(axis=0)) * outside


def convex(x: np.ndarray, y: np.ndarray, shapes: Sequence[Rows]) -> np.ndarray:
    """The nearest of m convex polygons of k corners each, clockwise on the picture; their corners stay sharp."""
    corners = np.array(shapes, dtype=np.float32)  # (m, k, 2)
    edges = np.concatenate([corners[:, 1:], corners[:, :1]], axis=1) - corners
    ex, ey = edges[:, :, 0], edges[:, :, 1]
    length = np.sqrt(ex * ex + ey * ey)
    nx, ny = ey / length, -ex / length  # outward normals
    offset = nx * corners[:, :, 0] + ny * corners[:, :, 1]
    planes = x * nx[:, :, None, None] + (y * ny[:, :, None, None] - offset[:, :, None, None])  # (m, k, h, w)
    inside = planes.max(axis=1)
    return inside[0] if len(inside) == 1 else inside.min(axis=0)


def strokes(x: np.ndarray, y: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """The nearest of the capsules (k, 5): x0, y0, x1, y1, radius."""
    ax, ay, bx, by, radius = lines.T[:, :, None, None]
    ex, ey = bx - ax, by - ay
    wx, wy = x - ax, y - ay  # (k, h, w) after broadcasting
    along = np.minimum(np.maximum((wx * ex + wy * ey) / np.maximum(ex * ex + ey * ey, np.float32(1e-12)), 0), 1)
    dx, dy = wx - ex * along, wy - ey * along
    return (np.sqrt(dx * dx + dy * dy) - radius).min(axis=0)


def discs(x: np.ndarray, y: np.ndarray, balls: np.ndarray) -> np.ndarray:
    """The nearest of the circles (k, 3): x, y, radius."""
    cx, cy, radius = balls.T[:, :, None, None]
    dx, dy = x - cx, y - cy
    return (np.sqrt(dx * dx + dy * dy) - radius).min(axis=0)


# -- textures ---------------------------------------------------------------------------------------------------------


def uniforms(draws: Draws, count: int) -> np.ndarray:
    """`count` uniform numbers in [-1, 1), many at a time: float32."""
    return ((draws.raw(count) >> np.uint64(11)) * 2.0**-52 - 1).astype(np.float32)


def clouds(draws: Draws, rows: int, columns: int, height: int, width: int) -> np.ndarray:
    """Smooth noise in [-1, 1]: a lattice of (rows, columns) uniform numbers, interpolated. float32 (height, width).

    The same noise at every size, for as long as a knot is wider than a pixel.
    """
    lattice = uniforms(draws, rows * columns).reshape(rows, columns)
    y0, fy = _places(rows, height)
    x0, fx = _places(columns, width)
    lines = lattice[y0] + (lattice[y0 + 1] - lattice[y0]) * fy[:, None]  # (height, columns)
    first = lines[:, x0]
    return first + (lines[:, x0 + 1] - first) * fx[None, :]


def wave(draws: Draws, knots: int, x: np.ndarray) -> np.ndarray:
    """Smooth noise of one coordinate in [-1, 1]: `knots` uniform numbers over x in 0..1. float32, of x's shape."""
    lattice = uniforms(draws, knots)
    at = np.minimum(np.maximum(x, 0), 1) * np.float32(knots - 1)
    before = np.minimum(at.astype(np.int64), knots - 2)
    far = at - before.astype(np.float32)
    first = lattice[before]
    return first + (lattice[before + 1] - first) * (far * far * (3 - 2 * far))


def grain(draws: Draws, height: int, width: int, spread: float) -> np.ndarray:
    """Noise of one pixel, the sum of two uniform numbers, at most `spread` levels. float32 (h, w)."""
    count = height * width
    bytes_ = draws.raw((count + 3) // 4).view(np.uint8)[: 2 * count].reshape(2, height, width)
    return (bytes_.astype(np.uint16).sum(axis=0, dtype=np.uint16).astype(np.float32) - 255) * np.float32(spread / 255)


@lru_cache(maxsize=256)
def _places(knots: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the knot before it and how far (0..1, eased) it is towards the next."""
    at = _centres(pixels) / np.float32(pixels) * np.float32(knots - 1)
    before = np.minimum(at.astype(np.int64), knots - 2)
    far = at - before.astype(np.float32)
    return before, far * far * (3 - 2 * far)


@lru_cache(maxsize=256)
def _centres(pixels: int) -> np.ndarray:
    return np.arange(pixels, dtype=np.float32) + np.float32(0.5)


def _clamp(value: float, most: int) -> int:
    return int(min(max(value, 0), most))
