"""The built-in set of two domains: landscapes in summer (A) and in winter (B), drawn by rule from (seed, index).

A scene is its geometry, in units of the picture's height: ridges, a lake, a path, a house, trees. The season only
decides what it is made of: leaves or bare branches, grass or snow, water or ice. The two domains are drawn from
different scenes, so that nothing is paired; for yardsticks the same scene can be drawn in the other season.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pygan.data.canvas import Canvas, Colour, blend, clouds, grain, lit, sides, uniforms, wave
from pygan.data.facades import Draws

DOMAINS = ("A", "B")
"""A is summer, B is winter."""

FIRST_WINTER = 1 << 32
"""Scenes of B start here: below are the summers, so that no scene is in both domains."""

_SCENE, _SURFACE = 0x5EA5, 0x5EA6  # what the two streams of random numbers are for

_GREENS = ((112, 160, 62), (92, 148, 66), (134, 168, 70), (150, 170, 84), (84, 136, 60))
_LEAVES = ((58, 116, 44), (78, 132, 48), (46, 98, 46), (96, 138, 52), (112, 132, 48))
_NEEDLES = ((34, 78, 50), (42, 88, 54), (30, 66, 48))
_BLUES = ((72, 136, 212), (88, 150, 220), (104, 160, 214), (64, 126, 200))
_GREYS = ((150, 160, 178), (166, 172, 184), (142, 154, 170), (172, 180, 194))
_FLOWERS = ((240, 220, 70), (236, 90, 80), (246, 244, 236), (206, 110, 190))
_WALLS = ((232, 222, 200), (206, 92, 70), (226, 190, 120), (176, 128, 92), (240, 236, 230), (150, 170, 190))
_ROOFS = ((176, 84, 62), (120, 74, 60), (104, 100, 108), (150, 96, 70))
_BARK = ((96, 74, 56), (84, 66, 54), (110, 88, 68))
_PUFFS = ((-0.9, 0.16, 0.30), (-0.35, 0.0, 0.46), (0.25, -0.08, 0.52), (0.8, 0.12, 0.36), (1.2, 0.2, 0.2))  # a cloud
_SNOW, _SNOW_SHADE = (240, 243, 248), (188, 200, 222)


@dataclass(frozen=True)
class Tree:
    """A tree in units of the picture's height: where its trunk meets the ground, its height, its width and its kind."""

    kind: str  # "broad", "slim" or "conifer"
    x: float
    y: float
    height: float
    width: float
    lean: float  # -1..1
    form: tuple[float, ...]  # numbers in [0, 1) for its crown and branches


@dataclass(frozen=True)
class House:
    """A house: the lower left corner of its front, width of the front, height of the walls, of the roof, its length."""

    x: float
    y: float
    width: float
    wall: float
    roof: float
    length: float
    colour: Colour
    roof_colour: Colour


@dataclass(frozen=True)
class Scene:
    """What is where, whatever the season. Units of the picture's height, x from 0 to `aspect`."""

    aspect: float
    horizon: float
    sun: float  # -1: light from the left, 1: from the right
    mountains: tuple[tuple[float, float, int], ...]  # (height over the horizon, roughness, knots), far to near
    forest: float  # height of the wood along the nearest ridge, 0: none
    hills: tuple[tuple[float, float], ...]  # (y of the crest, swing)
    lake: tuple[float, float, float, float] | None  # x, y, half width, half height
    path: tuple[float, float, float, float] | None  # x at the bottom, x where it ends, bow, half width at the bottom
    fence: tuple[float, float, float] | None  # y at the left, y at the right, height
    house: House | None
    trees: tuple[Tree, ...]  # far to near
    clouds: tuple[tuple[float, float, float], ...]  # x, y, size
    dots: int  # flowers or tufts in the meadow
    warmth: float  # of the light, -1..1
    exposure: float


def season_picture(seed: int, index: int, size: int | tuple[int, int], domain: str) -> np.ndarray:
    """Scene `index` of the set `seed` in summer (domain "A") or winter ("B"): uint8 (h, w, 3) RGB.

    size: pixels, or (height, width). The geometry depends on (seed, index) alone: the other domain is the same place
    half a year later, which only yardsticks may look at. The same scene at every square size; wider pictures show
    more of it.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {DOMAINS}, got {domain!r}")
    height, width = sides(size)
    scene = plan(seed, index, width / height)
    return _Painter(scene, Draws(seed, index, use=_SURFACE), height, width, domain == "B").picture()


def season_name(index: int) -> str:
    """Name of the picture `index` of its own domain, in memory and on disk."""
    return f"winter_{index - FIRST_WINTER:05d}" if index >= FIRST_WINTER else f"summer_{index:05d}"


def plan(seed: int, index: int, aspect: float = 1.0) -> Scene:
    """The scene `index` of the set `seed` for a picture `aspect` times as wide as high."""
    d = Draws(seed, index, use=_SCENE)
    horizon = d.real(0.34, 0.56)
    sun = d.real(0.4, 1.0) * (1 if d.chance(0.5) else -1)
    mountains = []
    if d.chance(0.7):
        high = d.real(0.10, 0.30)
        for k in range(d.whole(1, 2)):
            mountains.append((high * (1 - 0.45 * k), d.real(0.3, 1.0), d.whole(4, 8)))
    forest = d.real(0.03, 0.075) if d.chance(0.55) else 0.0
    ground = 1 - horizon
    hills = tuple(
        (horizon + ground * (0.04 + 0.30 * k) + d.real(-0.02, 0.03), d.real(0.02, 0.075)) for k in range(d.whole(1, 3))
    )
    lake = path = fence = house = None
    if d.chance(0.4):
        half = d.real(0.16, 0.34)
        lake = (d.real(0.15, aspect - 0.15), horizon + ground * d.real(0.42, 0.62), half, half * d.real(0.2, 0.32))
    elif d.chance(0.6):
        path = (d.real(0.1, aspect - 0.1), d.real(0.2, aspect - 0.2), d.real(-0.35, 0.35), d.real(0.06, 0.13))
    if d.chance(0.3):
        y = horizon + ground * d.real(0.6, 0.85)
        fence = (y + d.real(-0.06, 0.06), y + d.real(-0.06, 0.06), d.real(0.07, 0.11))
    if d.chance(0.45):
        wide = d.real(0.09, 0.17)
        house = House(
            x=d.real(0.04, aspect - 2.3 * wide), y=horizon + ground * d.real(0.2, 0.45), width=wide,
            wall=wide * d.real(0.6, 0.95), roof=wide * d.real(0.5, 0.85), length=wide * d.real(1.0, 1.7),
            colour=d.tinted(d.one_of(_WALLS), 10), roof_colour=d.tinted(d.one_of(_ROOFS), 10),
        )  # fmt: skip
    kinds = d.one_of((("broad",), ("broad", "conifer"), ("conifer",), ("broad", "slim"), ("broad", "broad", "conifer")))
    trees = []
    for _ in range(d.whole(2, max(3, round(6 * aspect)))):
        far = d.real(0, 1)
        depth = far * far  # more of them far away than near
        tall = (0.12 + 0.40 * depth) * d.real(0.75, 1.2)
        kind = d.one_of(kinds)
        wide = tall * {"broad": d.real(0.55, 0.85), "slim": d.real(0.2, 0.3), "conifer": d.real(0.34, 0.48)}[kind]
        form = tuple(d.real(0, 1) for _ in range(24))
        trees.append(Tree(kind, d.real(0.02, aspect - 0.02), horizon + ground * (0.16 + 0.72 * depth), tall, wide,
                          d.real(-1, 1), form))  # fmt: skip
    trees.sort(key=lambda tree: tree.y)
    drifting = tuple(
        (d.real(-0.1, aspect + 0.1), d.real(0.04, max(0.06, horizon - 0.16)), d.real(0.06, 0.16))
        for _ in range(d.whole(0, 4))
    )
    dots = d.whole(30, 90) if d.chance(0.5) else 0
    return Scene(
        aspect, horizon, sun, tuple(mountains), forest, hills, lake, path, fence, house, tuple(trees), drifting, dots,
        d.real(-1, 1), d.real(0.92, 1.06),
    )  # fmt: skip


class _Painter:
    """Paints a scene back to front: sky, ridges, meadow, water, house, trees."""

    def __init__(self, scene: Scene, surface: Draws, height: int, width: int, winter: bool) -> None:
        self.scene, self.surface, self.winter = scene, surface, winter
        self.canvas = Canvas(height, width, unit=height)
        self.size = (height, width)
        self.x, self.y = self.canvas.grid((slice(0, height), slice(0, width)))  # (1, w), (h, 1)
        d = surface
        # The same number of draws in both seasons; each takes its own.
        summer_sky, winter_sky = d.tinted(d.one_of(_BLUES), 8), d.tinted(d.one_of(_GREYS), 8)
        grass, leaf, needle = d.tinted(d.one_of(_GREENS), 8), d.one_of(_LEAVES), d.tinted(d.one_of(_NEEDLES), 6)
        self.bark, self.flower = d.tinted(d.one_of(_BARK), 8), d.one_of(_FLOWERS)
        self.haze = blend(winter_sky, (226, 230, 238), 0.6) if winter else blend(summer_sky, (226, 236, 240), 0.72)
        self.sky = winter_sky if winter else summer_sky
        self.ground = _SNOW if winter else grass
        self.leaf, self.needle = leaf, needle
        self.rock = (118, 128, 148) if winter else (112, 132, 140)
        self.whole = (slice(0, height), slice(0, width))

    def picture(self) -> np.ndarray:
        height, width = self.size
        self._sky()
        self._mountains()
        self._meadow()
        self._path()
        self._lake()
        if self.scene.house:
            self._house(self.scene.house)
        fence_y = 2.0 if self.scene.fence is None else sum(self.scene.fence[:2]) / 2
        fenced = self.scene.fence is None
        for tree in self.scene.trees:
            if not fenced and tree.y > fence_y:
                self._fence()
                fenced = True
            self._tree(tree)
        if not fenced:
            self._fence()
        warm = 0.035 * self.scene.warmth + (-0.02 if self.winter else 0.02)
        gain = np.array([1 + warm, 1.0, 1 - warm], dtype=np.float32) * np.float32(self.scene.exposure)
        self.canvas.pixels *= gain
        return self.canvas.finish(grain(self.surface, height, width, 5.0))

    # -- sky and land --------------------------------------------------------------------------------------------------

    def _sky(self) -> None:
        scene, canvas = self.scene, self.canvas
        down = np.minimum(self.y / np.float32(scene.horizon), 1)[:, :, None]  # (h, 1, 1)
        top, low = np.array(self.sky, dtype=np.float32), np.array(self.haze, dtype=np.float32)
        canvas.pixels[:] = top + down * (low - top)
        if self.winter:  # an even layer of cloud
            veil = clouds(self.surface, 5, 4, *self.size)
            canvas.pixels += (veil * 9)[:, :, None]
        else:
            self.surface.raw(20)
        for x, y, size in scene.clouds:
            puffs = [(x + size * a, y + size * b, size * r) for a, b, r in _PUFFS]
            white = (214, 219, 228) if self.winter else (250, 250, 250)
            grey = (196, 203, 215) if self.winter else (222, 229, 238)
            soft = 0.05 if self.winter else 0.02
            under = canvas.discs([(px, py + 0.02, r) for px, py, r in puffs], grey, opacity=0.8, soft=soft)
            canvas.discs(
                [(px, py - 0.012, r * 0.86) for px, py, r in puffs], white, opacity=0.9, soft=soft, inside=under
            )

    def _below(self, crest: np.ndarray) -> tuple[slice, slice]:
        """The window from the highest point of the crest, (1, w) in units, down to the lower edge."""
        return self.canvas.window(0.0, float(crest.min()), self.scene.aspect, 1.0)

    def _ridge(self, crest: np.ndarray, window: tuple[slice, slice], colour: np.ndarray) -> None:
        """Paint everything under the crest. colour: float32 (h, w, 3) of the window."""
        self.canvas.paint(window, self.canvas.cover(crest - self.y[window[0]]), colour)

    def _mountains(self) -> None:
        scene, along = self.scene, self.x / np.float32(self.scene.aspect)
        crest = None
        for k, (high, rough, knots) in enumerate(scene.mountains):
            shape = wave(self.surface, knots, along) + 0.42 * rough * wave(self.surface, 3 * knots, along)
            shape = shape + 0.2 * rough * wave(self.surface, 8 * knots, along)
            crest = np.float32(scene.horizon + 0.02) - np.float32(high) * (0.55 + 0.45 * shape)
            far = 0.55 - 0.3 * k
            window = self._below(crest)
            rock = np.array(blend(self.rock, self.haze, far), dtype=np.float32)
            texture = clouds(self.surface, 9, 13, *self.size)[window]
            deep = (self.y[window[0]] - crest) * np.float32(1 / high)
            if self.winter:  # snow lies on the tops and in the hollows
                share, other = 1.1 - 1.3 * deep + 0.8 * texture, blend(_SNOW, self.haze, far * 0.4)
            else:  # woods climb up from the valley
                share, other = 0.2 + 0.9 * deep + 0.6 * texture, blend((86, 126, 84), self.haze, far)
            share = np.minimum(np.maximum(share, 0), 1)[:, :, None]
            facing = np.float32(0.10 * scene.sun) * wave(self.surface, 2 * knots, along)
            light = (1 + facing + np.float32(0.06) * texture)[:, :, None]
            self._ridge(crest, window, (rock + share * (np.array(other, dtype=np.float32) - rock)) * light)
        if scene.forest:
            line = np.float32(scene.horizon + 0.03) - np.float32(scene.forest) * (
                0.6 + 0.25 * wave(self.surface, 7, along) + 0.30 * wave(self.surface, round(34 * scene.aspect), along)
            )
            window = self._below(line)
            texture = clouds(self.surface, 12, round(30 * scene.aspect), *self.size)[window][:, :, None]
            wood = np.array(blend(self.needle, self.haze, 0.35), dtype=np.float32)
            if self.winter:
                white = np.maximum(texture, 0) * np.float32(0.75)
                self._ridge(line, window, wood + white * (np.array(_SNOW_SHADE, dtype=np.float32) - wood))
            else:
                self._ridge(line, window, wood * (1 + np.float32(0.22) * texture))

    def _meadow(self) -> None:
        scene, along = self.scene, self.x / np.float32(self.scene.aspect)
        fine = clouds(self.surface, 22, round(16 * scene.aspect), *self.size)
        broad = clouds(self.surface, 6, 4, *self.size)
        crests = [np.float32(scene.horizon + 0.015) + 0.012 * wave(self.surface, 5, along)]
        crests += [np.float32(y) + np.float32(swing) * wave(self.surface, 4, along) for y, swing in scene.hills]
        tones = uniforms(self.surface, len(crests))
        for k, crest in enumerate(crests):
            near = (k + 1) / len(crests)
            window = self._below(crest)
            below = np.minimum(np.maximum((self.y[window[0]] - crest) * np.float32(1 / 0.3), 0), 1)
            wide, thin, tone = broad[window], fine[window], float(tones[k])
            if self.winter:
                base = np.array(blend(self.ground, self.haze, 0.30 * (1 - near)), dtype=np.float32)
                mix = (0.16 + 0.16 * tone) + 0.42 * below + 0.22 * wide + 0.07 * thin
                mix = np.minimum(np.maximum(mix, 0), 1)[:, :, None]
                colour = base + mix * (np.array(_SNOW_SHADE, dtype=np.float32) - base)
            else:
                r, g, b = blend(self.ground, self.haze, 0.38 * (1 - near))
                mix = (1.06 + 0.07 * tone) - 0.20 * below + 0.10 * wide + (0.13 * near) * thin
                colour = np.array((r * (1 + 0.10 * tone), g, b), dtype=np.float32) * mix[:, :, None]
            self._ridge(crest, window, colour)
        self._dots()

    def _dots(self) -> None:
        scene = self.scene
        places = uniforms(self.surface, 3 * 90).reshape(90, 3)[: scene.dots]
        if not scene.dots:
            return
        depth = (places[:, 0] + 1) / 2
        y = np.float32(scene.horizon) + np.float32(1 - scene.horizon) * (0.30 + 0.70 * depth)
        x = (places[:, 1] + 1) / 2 * np.float32(scene.aspect)
        radius = (0.004 + 0.007 * depth) * (1 + 0.3 * places[:, 2])
        colour = (206, 214, 228) if self.winter else self.flower
        unit, (height, width) = self.canvas.unit, self.size
        # A dot is smaller than some pixels: it colours the four round it, by its area.
        px, py = x * unit - np.float32(0.5), y * unit - np.float32(0.5)
        if unit * 0.011 < 1.2:
            left, top = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
            area = np.minimum(np.float32(3.14) * (radius * unit) * (radius * unit), 1)
            cover = np.zeros((height + 2, width + 2), dtype=np.float32)
            fx, fy = px - left, py - top
            for dy, wy in ((0, 1 - fy), (1, fy)):
                for dx, wx in ((0, 1 - fx), (1, fx)):
                    rows = np.minimum(np.maximum(top + dy + 1, 0), height + 1)
                    columns = np.minimum(np.maximum(left + dx + 1, 0), width + 1)
                    np.maximum.at(cover, (rows, columns), area * wx * wy)
            self.canvas.paint(self.whole, cover[1:-1, 1:-1], colour)
        else:
            for cx, cy, r in zip(x.tolist(), y.tolist(), radius.tolist(), strict=True):
                self.canvas.ellipse(cx, cy, r, r * 0.8, colour)

    def _path(self) -> None:
        if self.scene.path is None:
            return
        start, end, bow, half = self.scene.path
        top = self.scene.horizon + 0.5 * (1 - self.scene.horizon) * 0.22
        t = np.minimum(np.maximum((1 - self.y) * np.float32(1 / (1 - top)), 0), 1)  # (h, 1): 0 near, 1 far
        middle = np.float32(start) + np.float32(end - start) * t + np.float32(bow) * t * (1 - t)
        reach = np.float32(half) * (1 - t) * (1 - t) + np.float32(0.006)
        cover = self.canvas.cover(np.abs(self.x - middle) - reach, 0.008) * (self.y > np.float32(top))
        light = clouds(self.surface, 14, 7, *self.size)[:, :, None]
        colour = np.array((196, 202, 214) if self.winter else (202, 178, 132), dtype=np.float32)
        self.canvas.paint(self.whole, cover * np.float32(0.9), colour * (1 + np.float32(0.08) * light))

    def _lake(self) -> None:
        if self.scene.lake is None:
            return
        x, y, rx, ry = self.scene.lake
        canvas = self.canvas
        shore = (214, 220, 230) if self.winter else (176, 164, 118)
        ripples = wave(self.surface, 24, self.y)
        canvas.ellipse(x, y, rx * 1.05, ry * 1.10, shore, opacity=0.8, soft=0.01)
        window, cover = canvas.ellipse(x, y, rx, ry)
        ripple = ripples[window[0]]
        across = (self.y[window[0]] - np.float32(y - ry)) * np.float32(1 / (2 * ry))
        top = np.array((206, 222, 234) if self.winter else blend(self.sky, (60, 110, 150), 0.25), dtype=np.float32)
        low = np.array((172, 196, 216) if self.winter else blend(self.sky, (30, 80, 120), 0.55), dtype=np.float32)
        strength = 0.03 if self.winter else 0.10
        colour = (top + across[:, :, None] * (low - top)) * (1 + np.float32(strength) * ripple[:, :, None])
        canvas.paint(window, cover, colour)

    # -- things -----------------------------------------------------------------------------------------------------

    def _house(self, house: House) -> None:
        canvas, x, y, w = self.canvas, house.x, house.y, house.width
        eaves, ridge = y - house.wall, y - house.wall - house.roof
        right = x + w + house.length
        lights = (1.0, 0.80) if self.scene.sun < 0 else (0.80, 1.0)
        wall = blend(house.colour, self.haze, 0.10)
        canvas.ellipse((x + right) / 2, y, (right - x) * 0.56, 0.018, light=0.86 if self.winter else 0.72, soft=0.02)
        canvas.box(x + w, eaves, right, y, lit(wall, lights[1]))
        canvas.polygons([((x, y), (x, eaves), (x + w / 2, ridge), (x + w, eaves), (x + w, y))], lit(wall, lights[0]))
        roof = blend(_SNOW, _SNOW_SHADE, 0.15 if self.scene.sun > 0 else 0.45) if self.winter else house.roof_colour
        over = 0.1 * w
        flue = right - 0.32 * house.length
        canvas.box(flue, ridge - 0.30 * w, flue + 0.14 * w, ridge + 0.1 * w, lit(house.roof_colour, 0.8))
        canvas.polygons(
            [((x + w / 2, ridge - 0.02 * w), (right - w / 2 + over, ridge - 0.02 * w), (right + over, eaves + 0.06 * w),
              (x + w, eaves + 0.06 * w))], roof,
        )  # fmt: skip
        edge = _SNOW if self.winter else lit(house.roof_colour, 0.8)
        canvas.strokes(
            ((x - over * 0.6, eaves + 0.07 * w, x + w / 2, ridge, 0.045 * w),
             (x + w / 2, ridge, x + w + over * 0.1, eaves + 0.05 * w, 0.045 * w)), edge,
        )  # fmt: skip
        pane = (250, 214, 120) if self.winter else (70, 86, 104)  # lamps are lit in winter
        door = (96, 66, 48)
        canvas.box(x + 0.38 * w, y - 0.55 * house.wall, x + 0.62 * w, y, door)
        for k in range(2):
            a = x + w + house.length * (0.18 + 0.42 * k)
            canvas.box(a, eaves + 0.32 * house.wall, a + 0.22 * house.length, eaves + 0.68 * house.wall, pane)

    def _fence(self) -> None:
        left, right, high = self.scene.fence
        aspect = self.scene.aspect
        posts = round(9 * aspect)
        wood = (120, 98, 80) if self.winter else (150, 120, 88)
        lines = []
        for k in range(posts + 1):
            t = k / posts
            y = left + (right - left) * t
            lines.append((aspect * t, y - high, aspect * t, y, 0.007))
        for level in (0.3, 0.75):
            lines.append((0.0, left - high * level, aspect, right - high * level, 0.0055))
        self.canvas.strokes(lines, wood)
        if self.winter:
            caps = [(x, y, x, y + 0.004, 0.010) for x, y, *_ in lines[: posts + 1]]
            self.canvas.strokes(caps, _SNOW)

    def _tree(self, tree: Tree) -> None:
        canvas = self.canvas
        away = -self.scene.sun
        canvas.ellipse(
            tree.x + away * 0.22 * tree.width, tree.y, 0.42 * tree.width, 0.035 * tree.height + 0.004,
            light=0.84 if self.winter else 0.68, soft=0.02,
        )  # fmt: skip
        if tree.kind == "conifer":
            self._conifer(tree)
        elif self.winter:
            self._bare(tree)
        else:
            self._leafy(tree)

    def _distance(self, tree: Tree) -> float:
        """How much of the haze lies before the tree, 0..1."""
        return 0.35 * max(0.0, 1 - (tree.y - self.scene.horizon) / (1 - self.scene.horizon) * 1.8)

    def _conifer(self, tree: Tree) -> None:
        canvas, x, y, tall = self.canvas, tree.x, tree.y, tree.height
        canvas.box(x - 0.03 * tall, y - 0.16 * tall, x + 0.03 * tall, y, lit(self.bark, 0.8))
        green = blend(lit(self.needle, 0.85 + 0.3 * tree.form[0]), self.haze, self._distance(tree))
        tiers, snow = [], []
        for k in range(3):
            low = y - tall * (0.10 + 0.27 * k)
            top = low - tall * (0.46 - 0.05 * k) if k < 2 else y - tall
            half = tree.width / 2 * (1 - 0.27 * k)
            tiers.append(((x - half, low), (x, top), (x + half, low)))
            reach, drop = 0.62 * half, top + 0.62 * (low - top)
            snow.append(((x - reach, drop), (x, top), (x + reach, drop), (x, drop - 0.16 * (low - top))))
        shape = canvas.polygons(tiers, green)
        left, right = (x - tree.width, x) if self.scene.sun > 0 else (x, x + tree.width)
        if self.winter:
            for k in (0, 1):  # both halves are convex
                side = [(a, b, d) if k == 0 else (d, b, c) for a, b, c, d in snow]
                canvas.polygons(side, blend(_SNOW, _SNOW_SHADE, 0.2), opacity=0.92, inside=shape)
        canvas.box(left, y - tall, right, y, light=0.78 if not self.winter else 0.86, inside=shape)

    def _limbs(self, tree: Tree) -> list[tuple[float, float, float, float, float]]:
        """Trunk and branches; the leaves of summer hang round their ends."""
        x, y, tall, form = tree.x, tree.y, tree.height, tree.form
        lean = 0.06 * tree.lean * tall
        fork = y - tall * (0.34 + 0.08 * form[0])
        lines = [(x, y, x + lean, fork, 0.034 * tall), (x + lean, fork, x + 1.6 * lean, y - 0.86 * tall, 0.018 * tall)]
        for k in range(6):
            side = -1 if k % 2 else 1
            t = 0.05 + 0.14 * k
            sx, sy = x + lean * (1 + 0.6 * t), fork - (fork - (y - 0.86 * tall)) * t
            reach = tree.width * (0.46 - 0.045 * k) * (0.75 + 0.35 * form[1 + k])
            ex, ey = sx + side * reach, sy - tall * (0.16 + 0.12 * form[7 + k])
            lines.append((sx, sy, ex, ey, 0.013 * tall))
            mx, my = (sx + ex) / 2, (sy + ey) / 2
            lines.append((mx, my, mx + side * 0.32 * reach, my - 0.15 * tall, 0.008 * tall))
            lines.append((mx, my, mx + side * 0.62 * reach, my + 0.01 * tall, 0.007 * tall))
        return lines

    def _bare(self, tree: Tree) -> None:
        limbs = self._limbs(tree)
        wood = blend(lit(self.bark, 0.85), self.haze, self._distance(tree))
        # Twigs that no pixel can show are a breath of brown round the branches.
        tips = [(ex, ey, 0.12 * tree.width) for *_, ex, ey, _ in limbs[2::3]]
        self.canvas.discs(tips, wood, opacity=0.11, soft=0.06 * tree.height)
        self.canvas.strokes(limbs, wood)
        up = 0.010 * tree.height
        snowy = [(x0, y0 - r * 0.9, x1, y1 - r * 0.9, up * 0.75) for x0, y0, x1, y1, r in limbs[2::3]]
        self.canvas.strokes(snowy, _SNOW, opacity=0.85)

    def _leafy(self, tree: Tree) -> None:
        canvas, form = self.canvas, tree.form
        limbs = self._limbs(tree)
        haze = self._distance(tree)
        canvas.strokes(limbs[:2], blend(lit(self.bark, 0.9), self.haze, haze))
        green = blend(lit(self.leaf, 0.85 + 0.35 * form[20]), self.haze, haze)
        size = (0.20 if tree.kind == "broad" else 0.34) * tree.width
        balls = [(ex, ey, size * (0.85 + 0.4 * form[12 + k % 8])) for k, (*_, ex, ey, _) in enumerate(limbs[2::3])]
        middle = limbs[1]
        balls.append(((middle[0] + middle[2]) / 2, (middle[1] + middle[3]) / 2, 1.5 * size))
        balls.append((middle[2], middle[3] + 0.4 * size, 1.1 * size))
        crown = canvas.discs(balls, lit(green, 0.70))
        shift = 0.30 * size * self.scene.sun
        sunny = lit(blend(green, (200, 210, 90), 0.18), 1.18)
        canvas.discs(
            [(x + shift, y - 0.28 * size, 0.80 * r) for x, y, r in balls], green, soft=0.2 * size, inside=crown
        )
        canvas.discs(
            [(x + 1.7 * shift, y - 0.5 * size, 0.40 * r) for x, y, r in balls], sunny, soft=0.25 * size, inside=crown
        )
