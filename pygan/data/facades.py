"""The built-in facade set: plans of house fronts in the twelve CMP classes, drawn by rule from (seed, index).

A plan is a list of shapes in units of the picture's height, so that a house is the same house at every size; the
pixels are made by `facade_pixels`. Nothing here depends on NumPy's distributions: random numbers are raw Philox words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pygan.data import facade_pixels
from pygan.data.facade_pixels import Kind, Shape

CLASSES = (
    "background", "facade", "window", "door", "cornice", "sill",
    "balcony", "blind", "deco", "molding", "pillar", "shop",
)  # fmt: skip
BACKGROUND, FACADE, WINDOW, DOOR, CORNICE, SILL, BALCONY, BLIND, DECO, MOLDING, PILLAR, SHOP = range(1, 13)

PALETTE = np.array(
    [
        (0, 0, 0), (0, 0, 170), (0, 0, 255), (0, 85, 255), (0, 170, 255), (0, 255, 255), (85, 255, 170),
        (170, 255, 85), (255, 255, 0), (255, 170, 0), (255, 85, 0), (255, 0, 0), (170, 0, 0),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""uint8 (13, 3): the RGB colour of each CMP class index 1..12; row 0 is unlabelled."""
PALETTE.flags.writeable = False

Colour = tuple[float, float, float]  # RGB, each 0..255

_WALLS = (
    (228, 210, 176), (216, 174, 112), (152, 80, 62), (122, 70, 58), (214, 164, 148), (170, 166, 160), (178, 186, 154),
    (150, 166, 182), (232, 228, 218), (198, 178, 146), (142, 114, 92), (232, 204, 132), (110, 106, 102),
)  # fmt: skip
_STONE, _DARK_STONE = (234, 228, 214), (126, 116, 106)
_WOODS = ((104, 64, 38), (82, 52, 34), (120, 78, 46), (72, 44, 30), (94, 46, 34), (58, 62, 46))
_FRAMES = ((214, 210, 200), (196, 186, 168), (94, 66, 48), (62, 58, 56), (70, 86, 78), (104, 78, 56))
_SHUTTERS = ((66, 96, 74), (104, 76, 54), (112, 116, 112), (84, 112, 104), (76, 92, 114))
_SIGNS = ((112, 40, 38), (40, 66, 56), (44, 54, 86), (64, 56, 50), (116, 88, 48), (78, 72, 70))
_ROOFS = ((124, 128, 136), (166, 108, 86), (140, 116, 104), (112, 112, 116))
_SKIES = ((138, 176, 216), (160, 190, 220), (184, 200, 216), (196, 202, 206))


class Draws:
    """Uniform numbers in the order asked for, from (seed, index) alone."""

    _BLOCK = 2048

    def __init__(self, seed: int, index: int, use: int) -> None:
        self._words = np.random.Philox(key=seed % (1 << 63), counter=[0, 0, index, use])
        self._left: list[float] = []

    def real(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        if not self._left:
            self._left = ((self._words.random_raw(self._BLOCK) >> np.uint64(11)) * 2.0**-53).tolist()
        return low + (high - low) * self._left.pop()

    def raw(self, count: int) -> np.ndarray:
        """`count` random 64-bit words, apart from the numbers above: uint64, in the byte order of the machine."""
        return self._words.random_raw(count)

    def whole(self, low: int, high: int) -> int:
        """Uniform in low..high inclusive."""
        return low + int(self.real(0, 1) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.real(0, 1) < probability

    def one_of(self, values: tuple) -> tuple:
        return values[self.whole(0, len(values) - 1)]

    def tinted(self, colour: Colour, spread: float) -> Colour:
        """The colour with each channel moved by up to `spread` levels."""
        return tuple(c + self.real(-spread, spread) for c in colour)


def _blend(a: Colour, b: Colour, t: float) -> Colour:
    return tuple(x + (y - x) * t for x, y in zip(a, b, strict=True))


def _luminance(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _lit(colour: Colour, gain: float) -> Colour:
    return tuple(c * gain for c in colour)


@dataclass
class Materials:
    """What a shape can be made of. Parallel lists, one entry per material; a material belongs to one class."""

    labels: list[int] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)
    roughness: list[float] = field(default_factory=list)  # weight of the weather and grain textures
    gloss: list[float] = field(default_factory=list)  # weight of the reflected sky
    masonry: list[float] = field(default_factory=list)  # weight of the brick or stone courses

    def add(
        self, label: int, colour: Colour, *, roughness: float = 0.5, gloss: float = 0.0, masonry: float = 0.0
    ) -> int:
        """Returns the new material's index."""
        self.labels.append(label)
        self.colours.append(colour)
        self.roughness.append(roughness)
        self.gloss.append(gloss)
        self.masonry.append(masonry)
        return len(self.labels) - 1


@dataclass
class Plan:
    """One house front in units of the picture's height: y down from 0 to 1, x from 0 to `width`."""

    width: float
    materials: Materials
    shapes: list[Shape]
    sky: Colour
    sun: float  # -1: light from the left, 1: from the right; how far shadows lean per unit of depth
    exposure: float
    tint: Colour  # white balance: a gain per channel
    course: tuple[float, float]  # height and length of a brick or stone block


def facade(seed: int, index: int, size: int | tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """House front `index` of the set `seed`: (photo, label_ids).

    size: pixels, or (height, width). photo: uint8 (h, w, 3) RGB. label_ids: uint8 (h, w), CMP class index 1..12;
    `PALETTE[label_ids]` is the label picture. Edges in the photo lie on edges of the labels. The same (seed, index)
    gives the same house at every square size; wider pictures get more bays.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 2 or width < 2:
        raise ValueError(f"size must be at least 2 pixels each way, got {height}x{width}")
    return facade_pixels.render(plan(seed, index, width / height), height, width, Draws(seed, index, use=0xFACA))


def plan(seed: int, index: int, aspect: float = 1.0) -> Plan:
    """The house `index` of the set `seed` for a picture `aspect` times as wide as high."""
    return _Builder(Draws(seed, index, use=0xFACB), aspect).build()


class _Builder:
    """Decides a house from the ground plan to the last glazing bar, painting back to front."""

    def __init__(self, draws: Draws, aspect: float) -> None:
        self.d = draws
        self.aspect = aspect
        self.m = Materials()
        self.shapes: list[Shape] = []
        self._choose_light()
        self._choose_colours()
        self._choose_style()

    def build(self) -> Plan:
        self._paint_surroundings()
        self._paint_wall()
        floors = self._floors()
        for storey, (top, bottom) in enumerate(floors[:-1]):
            self._paint_storey(storey, top, bottom)
        self._paint_ground_floor(*floors[-1])
        self._paint_pillars(floors)
        self._paint_courses(floors)
        for storey, (top, bottom) in enumerate(floors[:-1]):
            if storey in self.balcony_storeys:
                self._paint_balconies(storey, top, bottom)
        self._paint_top_cornice()
        return Plan(self.aspect, self.m, self.shapes, self.sky, self.sun, self.exposure, self.tint, self.course)

    # -- decisions ---------------------------------------------------------------------------------------------

    def _choose_light(self) -> None:
        d = self.d
        self.sun = d.real(0.3, 1.0) * (1 if d.chance(0.5) else -1)
        self.shadow = d.real(0.50, 0.74)  # light left in a cast shadow: low in hard sun
        self.exposure = d.real(0.89, 1.10)
        warm = d.real(-0.07, 0.08)
        self.tint = (1 + warm, 1.0, 1 - warm)
        self.sky = d.tinted(d.one_of(_SKIES), 10)

    def _choose_colours(self) -> None:
        d, add = self.d, self.m.add
        wall = _blend(d.one_of(_WALLS), d.one_of(_WALLS), d.real(0.0, 0.4))
        wall = _lit(d.tinted(wall, 10), d.real(0.86, 1.10))
        # Plaster is painted to be light: dark bricks stay darker than cream, but less so than the bare colours say.
        wall = _lit(wall, 1 + 0.12 * (172 / _luminance(wall) - 1))
        self.bricks = d.chance(0.35)
        masonry = d.real(0.4, 0.8) if self.bricks else d.real(0.0, 0.2)
        self.course = (0.016, 0.045) if d.chance(0.65) else (0.034, 0.075)
        trim = d.tinted(_blend(wall, _STONE, d.real(0.6, 0.95)), 6)
        self.wall = add(FACADE, wall, roughness=1.0, masonry=masonry)
        base = _blend(wall, trim, d.real(0.1, 0.5)) if d.chance(0.4) else _lit(wall, d.real(0.84, 0.97))
        self.base_wall = add(FACADE, base, roughness=1.0, masonry=max(masonry, 0.3))
        self.groove = add(FACADE, _lit(base, 0.80), roughness=0.6)
        self.plinth = add(MOLDING, _lit(_blend(base, _DARK_STONE, 0.5), 0.9), roughness=1.0)
        self.cornice = add(CORNICE, _lit(trim, 1.03), roughness=0.5)
        self.dentil = add(CORNICE, _lit(trim, 0.72), roughness=0.4)
        self.sill = add(SILL, _lit(trim, 1.05), roughness=0.4)
        self.molding = add(MOLDING, trim, roughness=0.5)
        self.deco = add(DECO, _lit(trim, 1.02), roughness=0.5)
        self.relief = add(DECO, _lit(trim, 0.80), roughness=0.5)
        self.pillar = add(PILLAR, _lit(trim, 0.98), roughness=0.6)
        self.flute = add(PILLAR, _lit(trim, 0.84), roughness=0.6)
        frame = d.tinted(d.one_of(_FRAMES), 8)
        self.frame = add(WINDOW, frame, roughness=0.2)
        self.panes = [
            add(WINDOW, d.tinted((42, 50, 60), 10), roughness=0.1, gloss=d.real(0.05, 0.26)) for _ in range(6)
        ]
        self.curtain = add(WINDOW, d.tinted((158, 152, 140), 14), roughness=0.9, gloss=0.1)
        shutter = d.tinted(d.one_of(_SHUTTERS), 10)
        self.shutter, self.slat = add(BLIND, shutter, roughness=0.4), add(BLIND, _lit(shutter, 0.78), roughness=0.4)
        roller = d.tinted((208, 200, 184), 14)
        self.roller, self.roller_slat = add(BLIND, roller, roughness=0.3), add(BLIND, _lit(roller, 0.88))
        wood = d.tinted(d.one_of(_WOODS), 8)
        self.wood = add(DOOR, wood, roughness=0.7)
        self.wood_panel, self.wood_edge = add(DOOR, _lit(wood, 0.76), roughness=0.7), add(DOOR, _lit(wood, 1.25))
        self.door_glass = add(DOOR, (50, 56, 62), roughness=0.1, gloss=0.3)
        self.step = add(DOOR, (150, 146, 138), roughness=0.8)
        iron = d.tinted((46, 46, 48), 8)
        self.rail, self.rail_gap = add(BALCONY, iron, roughness=0.2), add(BALCONY, (92, 88, 84), roughness=0.4)
        self.slab = add(BALCONY, _lit(trim, 0.96), roughness=0.6)
        self.baluster, self.baluster_gap = add(BALCONY, trim, roughness=0.4), add(BALCONY, _lit(trim, 0.58))
        sign = d.tinted(d.one_of(_SIGNS), 12)
        self.sign, self.sign_text = add(SHOP, sign, roughness=0.2), add(SHOP, _blend(sign, (240, 236, 222), 0.7))
        self.shop_frame = add(SHOP, _lit(sign, 0.7), roughness=0.3)
        self.shop_glass = add(SHOP, d.tinted((56, 58, 60), 10), roughness=0.2, gloss=d.real(0.05, 0.2))
        self.goods = [add(SHOP, d.tinted((104, 92, 80), 30), roughness=0.9, gloss=0.1) for _ in range(4)]
        awning = d.tinted(d.one_of(_SIGNS), 14)
        self.awning = [add(SHOP, awning, roughness=0.2), add(SHOP, _blend(awning, (226, 220, 206), 0.55))]
        self.sky_paint = add(BACKGROUND, self.sky, roughness=0.0, gloss=0.2)
        roof = d.tinted(d.one_of(_ROOFS), 8)
        self.roof, self.ridge = add(BACKGROUND, roof, roughness=0.9, masonry=0.8), add(BACKGROUND, _lit(roof, 0.7))
        self.pavement = add(BACKGROUND, d.tinted((164, 160, 154), 8), roughness=0.8)
        self.kerb, self.road = add(BACKGROUND, (184, 180, 172)), add(BACKGROUND, d.tinted((126, 126, 126), 6))
        neighbour = _blend(d.one_of(_WALLS), (176, 178, 180), 0.65)
        self.neighbour = add(BACKGROUND, neighbour, roughness=0.8)
        self.neighbour_window = add(BACKGROUND, (110, 116, 122), roughness=0.2, gloss=0.1)
        self.pipe = add(BACKGROUND, (112, 110, 108), roughness=0.2)

    def _choose_style(self) -> None:
        d = self.d
        self.sky_height = d.real(0.02, 0.13) if d.chance(0.8) else 0.0
        self.roof_height = d.real(0.04, 0.11) if d.chance(0.35) else 0.0
        self.ground_height = d.real(0.02, 0.07) if d.chance(0.85) else 0.0
        self.left = d.real(0.015, 0.085) if d.chance(0.45) else 0.0
        self.right = self.aspect - (d.real(0.015, 0.085) if d.chance(0.45) else 0.0)
        self.top, self.bottom = self.sky_height + self.roof_height, 1 - self.ground_height
        self.cornice_height = d.real(0.016, 0.038)
        self.n_storeys = d.whole(2, 5)  # the ground floor included
        pitch = (self.bottom - self.top) / self.n_storeys * d.real(0.62, 0.95)  # of the bays
        self.n_bays = max(1, round((self.right - self.left) / max(pitch, 0.11)))
        self.edge = d.real(0.02, 0.045) if d.chance(0.55) else 0.008
        self.window_width, self.window_height = d.real(0.40, 0.60), d.real(0.54, 0.70)  # of the bay, of the storey
        self.surround = d.real(0.007, 0.013) if d.chance(0.6) else 0.0
        self.hood = d.one_of(("none", "none", "lintel", "pediment", "bow"))
        self.arched_storey = d.whole(0, self.n_storeys - 1) if d.chance(0.35) else -1
        self.bars = (1 if d.chance(0.75) else 2, d.whole(0, 1))  # glazing bars up and across
        self.sills = d.chance(0.8)
        self.has_shutters = d.chance(0.22) and self.window_width < 0.52
        self.rollers = d.real(0.2, 0.7) if not self.has_shutters and d.chance(0.4) else 0.0  # share of the windows
        self.panels = d.chance(0.3)  # ornament under the windows
        self.medallions = d.chance(0.25)
        self.pilasters = d.chance(0.28)
        self.quoins = d.chance(0.4) and self.edge > 0.01
        upper = range(self.n_storeys - 1)
        self.balcony_storeys = {s for s in upper if d.chance(0.3)}
        self.balcony_bays = d.one_of(("all", "middle", "every other", "outer"))
        self.stone_balcony = d.chance(0.35)
        self.string_course = d.one_of(("none", "cornice", "molding", "molding"))
        self.rustication = d.chance(0.5)
        self.shop_front = d.chance(0.5)
        self.door_bay = d.whole(0, self.n_bays - 1)

    def _floors(self) -> list[tuple[float, float]]:
        """(top, bottom) of every storey from the highest to the ground floor."""
        d = self.d
        top, bottom = self.top + self.cornice_height, self.bottom
        weights = [d.real(0.92, 1.04) for _ in range(self.n_storeys - 1)] + [d.real(1.05, 1.3)]
        edges = [top]
        for weight in weights:
            edges.append(edges[-1] + weight / sum(weights) * (bottom - top))
        return list(pairwise(edges))

    def _bay(self, bay: int) -> tuple[float, float]:
        left, right = self.left + self.edge, self.right - self.edge
        pitch = (right - left) / self.n_bays
        return left + bay * pitch, left + (bay + 1) * pitch

    # -- brushes -----------------------------------------------------------------------------------------------

    def rect(self, x0: float, y0: float, x1: float, y1: float, material: int) -> None:
        self.shapes.append(Shape(Kind.RECT, x0, y0, x1, y1, material))

    def shape(self, kind: Kind, x0: float, y0: float, x1: float, y1: float, material: int, step: float = 0.0) -> None:
        self.shapes.append(Shape(kind, x0, y0, x1, y1, material, step=step))

    def dim(self, x0: float, y0: float, x1: float, y1: float, light: float) -> None:
        """At most `light` of the sun reaches this rectangle."""
        self.shapes.append(Shape(Kind.DIM, x0, y0, x1, y1, 0, light))

    def glow(self, x0: float, y0: float, x1: float, y1: float, light: float) -> None:
        """Exactly `light` of the sun reaches this rectangle."""
        self.shapes.append(Shape(Kind.GLOW, x0, y0, x1, y1, 0, light))

    def cast(self, x0: float, y0: float, x1: float, y1: float, depth: float) -> None:
        """The shadow on the wall of something that stands out by `depth`."""
        lean = -self.sun * depth * 0.6
        self.dim(x0 + lean, y0 + depth * 0.4, x1 + lean, y1 + depth, self.shadow)

    def proud(self, x0: float, y0: float, x1: float, y1: float, material: int, depth: float) -> None:
        """A band that stands out: shadow on the wall, bright upper edge, dark lower edge."""
        self.cast(x0, y0, x1, y1, depth)
        self.rect(x0, y0, x1, y1, material)
        third = (y1 - y0) / 3
        self.glow(x0, y0, x1, y1, 0.97)
        self.glow(x0, y0, x1, y0 + third, 1.1)
        self.glow(x0, y1 - third, x1, y1, 0.8)

    # -- the picture, back to front ------------------------------------------------------------------------------

    def _paint_surroundings(self) -> None:
        d, width = self.d, self.aspect
        self.rect(0, 0, width, 1, self.sky_paint)
        for x0, x1 in ((0.0, self.left), (self.right, width)):
            if x1 - x0 > 0 and d.chance(0.75):  # the house next door
                eaves = d.real(0.0, 0.3)
                self.rect(x0, eaves, x1, 1, self.neighbour)
                row = d.real(0.12, 0.2)
                for k in range(int((0.9 - eaves) / row)):
                    y = eaves + (k + 0.3) * row
                    self.rect(x0 + 0.3 * (x1 - x0), y, x0 + 0.75 * (x1 - x0), y + 0.5 * row, self.neighbour_window)
                edge = x1 if x0 == 0.0 else x0
                self.rect(edge - 0.006, eaves, edge, 1, self.pipe)
        if self.roof_height:
            self.rect(self.left, self.sky_height, self.right, self.top, self.roof)
            self.rect(self.left, self.sky_height, self.right, self.sky_height + 0.006, self.ridge)
            for _ in range(d.whole(0, 2)):
                x = d.real(self.left, self.right - 0.06)
                high = self.sky_height - d.real(0.015, 0.05)
                self.rect(x, high, x + d.real(0.03, 0.06), self.sky_height + 0.012, self.ridge)
            if self.roof_height > 0.07 and d.chance(0.6):
                self._paint_dormers()
        if self.ground_height:
            y = self.bottom
            self.rect(0, y, width, 1, self.pavement)
            if self.ground_height > 0.04:
                self.rect(0, y + 0.026, width, 1, self.road)
                self.rect(0, y + 0.022, width, y + 0.028, self.kerb)
            self.dim(0, y, width, y + 0.010, 0.75)

    def _paint_dormers(self) -> None:
        for bay in range(self.n_bays):
            x0, x1 = self._bay(bay)
            middle, half = (x0 + x1) / 2, (x1 - x0) * 0.2
            y0, y1 = self.sky_height + 0.3 * self.roof_height, self.top - 0.12 * self.roof_height
            self.cast(middle - half, y0, middle + half, y1, 0.012)
            self._paint_window(middle - half, y0, middle + half, y1, arched=False)

    def _paint_wall(self) -> None:
        self.rect(self.left, self.top, self.right, self.bottom, self.wall)

    def _paint_storey(self, storey: int, top: float, bottom: float) -> None:
        height = bottom - top
        balconied = storey in self.balcony_storeys
        for bay in range(self.n_bays):
            x0, x1 = self._bay(bay)
            half = (x1 - x0) * self.window_width / 2
            middle = (x0 + x1) / 2
            y0 = top + height * (1 - self.window_height) * 0.62
            french = balconied and self._has_balcony(bay)  # a window down to the balcony's floor
            y1 = bottom - 0.04 * height if french else y0 + height * self.window_height
            self._paint_dressing(middle - half, y0, middle + half, y1, bay, french, storey == self.arched_storey)
            self._paint_window(middle - half, y0, middle + half, y1, arched=storey == self.arched_storey)
            if self.d.chance(self.rollers):
                self._paint_roller(middle - half, y0, middle + half, y1)
            if self.has_shutters:
                self._paint_shutters(middle - half, y0, middle + half, y1, x0, x1)
            if self.panels and not french:
                space = bottom - y1
                self._paint_panel(middle - half, y1 + 0.4 * space, middle + half, y1 + 0.78 * space)
            if self.medallions and bay:
                size = min(0.3 * (x0 + half - middle + x1 - x0 - half), 0.02)
                self.shape(Kind.DISC, x0 - size, y0, x0 + size, y0 + 2 * size, self.deco)
                self.shape(Kind.DISC, x0 - size / 2, y0 + size / 2, x0 + size / 2, y0 + 1.5 * size, self.relief)

    def _paint_dressing(self, x0: float, y0: float, x1: float, y1: float, bay: int, french: bool, arched: bool) -> None:
        """Everything round the opening: molding, hood, sill."""
        t = self.surround
        if t:
            self.cast(x0 - t, y0 - t, x1 + t, y1, 0.008)
            self.shape(Kind.ARCH if arched else Kind.RECT, x0 - t, y0 - t, x1 + t, y1, self.molding)
            self.glow(x0 - t, y0 if not arched else y0 + t + (x1 - x0) / 2, x1 + t, y1, 1.03)
        if self.hood != "none" and not arched:
            reach, high = t + 0.008, (y1 - y0) * 0.13
            base = y0 - t
            kind = {"lintel": Kind.RECT, "pediment": Kind.TRIANGLE, "bow": Kind.ARCH}[self.hood]
            if self.hood == "lintel":
                self.proud(x0 - reach, base - high * 0.6, x1 + reach, base, self.deco, 0.012)
            elif self.hood == "bow" or bay % 2 == 0 or self.n_bays < 4:
                self.cast(x0 - reach, base - high * 0.3, x1 + reach, base, 0.014)
                self.shape(kind, x0 - reach, base - high * 1.2, x1 + reach, base, self.deco)
                inset = (x1 - x0) * 0.22
                self.shape(kind, x0 + inset, base - high * 0.7, x1 - inset, base - high * 0.2, self.relief)
            else:
                self.proud(x0 - reach, base - high * 0.5, x1 + reach, base, self.deco, 0.012)
        if self.sills and not french:
            self.proud(x0 - t - 0.006, y1, x1 + t + 0.006, y1 + 0.012, self.sill, 0.014)

    def _paint_window(self, x0: float, y0: float, x1: float, y1: float, *, arched: bool) -> None:
        d, width, height = self.d, x1 - x0, y1 - y0
        pane = self.panes[d.whole(0, len(self.panes) - 1)]
        t = 0.0075
        body = Kind.ARCH if arched else Kind.RECT
        self.shape(body, x0, y0, x1, y1, self.frame)
        self.shape(body, x0 + t, y0 + t, x1 - t, y1 - t, pane)
        drawn = d.real(-0.30, 0.30)
        if drawn > 0.12:  # curtains
            top = y0 + t + (0.45 * width if arched else 0)
            self.rect(x0 + t, top, x0 + t + drawn * width, y1 - t, self.curtain)
            self.rect(x1 - t - drawn * width, top, x1 - t, y1 - t, self.curtain)
        upright, across = self.bars
        for k in range(1, upright + 1):
            x = x0 + width * k / (upright + 1)
            self.rect(x - 0.003, y0 + t, x + 0.003, y1 - t, self.frame)
        for k in range(across):
            y = y0 + height * (0.34 + 0.34 * k)
            self.rect(x0 + t, y - 0.003, x1 - t, y + 0.003, self.frame)
        # The opening lies behind the wall: its head and the side towards the sun are in shadow.
        deep = 0.014
        self.dim(x0, y0, x1, y0 + deep, self.shadow * 0.8)
        if self.sun < 0:
            self.dim(x0, y0, x0 + deep * 0.6, y1, self.shadow)
        else:
            self.dim(x1 - deep * 0.6, y0, x1, y1, self.shadow)

    def _paint_roller(self, x0: float, y0: float, x1: float, y1: float) -> None:
        drop = y0 + (y1 - y0) * self.d.real(0.2, 0.75)
        self.rect(x0, y0, x1, drop, self.roller)
        self.shape(Kind.ROWS, x0, y0, x1, drop, self.roller_slat, step=0.012)

    def _paint_shutters(self, x0: float, y0: float, x1: float, y1: float, bay0: float, bay1: float) -> None:
        wide = min((x1 - x0) / 2, x0 - bay0, bay1 - x1) * 0.92
        for a, b in ((x0 - wide, x0), (x1, x1 + wide)):
            self.cast(a, y0, b, y1, 0.008)
            self.rect(a, y0, b, y1, self.shutter)
            self.glow(a, y0, b, y1, 1.0)
            self.shape(Kind.ROWS, a + 0.2 * wide, y0 + 0.012, b - 0.2 * wide, y1 - 0.012, self.slat, step=0.014)

    def _paint_panel(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.cast(x0, y0, x1, y1, 0.007)
        self.rect(x0, y0, x1, y1, self.deco)
        self.glow(x0, y0, x1, y1, 1.0)
        for k in range(3):
            a, b = x0 + (x1 - x0) * (0.08 + 0.3 * k), x0 + (x1 - x0) * (0.32 + 0.3 * k)
            self.shape(Kind.DISC, a, y0 + 0.2 * (y1 - y0), b, y1 - 0.2 * (y1 - y0), self.relief)

    def _has_balcony(self, bay: int) -> bool:
        last = self.n_bays - 1
        return {
            "all": True,
            "middle": abs(bay - last / 2) < 0.8,
            "every other": bay % 2 == 0,
            "outer": bay in (0, last),
        }[self.balcony_bays]

    def _paint_balconies(self, storey: int, top: float, bottom: float) -> None:
        height = bottom - top
        runs: list[list[int]] = []
        for bay in (b for b in range(self.n_bays) if self._has_balcony(b)):
            if runs and runs[-1][-1] == bay - 1 and self.balcony_bays == "all" and storey % 2:
                runs[-1].append(bay)  # one balcony along the whole front
            else:
                runs.append([bay])
        for run in runs:
            x0, x1 = self._bay(run[0])[0], self._bay(run[-1])[1]
            inset = (self._bay(0)[1] - self._bay(0)[0]) * (1 - self.window_width) / 2 * 0.55
            x0, x1 = x0 + inset, x1 - inset
            floor, rail = bottom - 0.02 * height, bottom - 0.34 * height
            self.cast(x0, floor, x1, floor + 0.018, 0.045)
            if self.stone_balcony:
                self.rect(x0, rail, x1, floor, self.baluster_gap)
                self.glow(x0, rail, x1, floor, 0.95)
                self.shape(Kind.COLUMNS, x0, rail, x1, floor, self.baluster, step=0.022)
                self.rect(x0, rail, x1, rail + 0.009, self.slab)
            else:
                self.rect(x0, rail, x1, floor, self.rail_gap)
                self.glow(x0, rail, x1, floor, 0.9)
                self.shape(Kind.COLUMNS, x0, rail, x1, floor, self.rail, step=0.014)
                self.rect(x0, rail, x1, rail + 0.006, self.rail)
                self.rect(x0, floor - 0.006, x1, floor, self.rail)
            self.rect(x0 - 0.004, floor, x1 + 0.004, floor + 0.016, self.slab)
            self.glow(x0 - 0.004, floor, x1 + 0.004, floor + 0.007, 1.08)
            self.glow(x0 - 0.004, floor + 0.009, x1 + 0.004, floor + 0.016, 0.72)

    def _paint_ground_floor(self, top: float, bottom: float) -> None:
        d, height = self.d, bottom - top
        self.rect(self.left, top, self.right, bottom, self.base_wall)
        if self.rustication:
            self.shape(Kind.ROWS, self.left, top, self.right, bottom, self.groove, step=max(height / 6, 0.026))
        plinth = bottom - d.real(0.012, 0.03)
        self.rect(self.left, plinth, self.right, bottom, self.plinth)
        for bay in range(self.n_bays):
            x0, x1 = self._bay(bay)
            half = (x1 - x0) * self.window_width / 2
            middle = (x0 + x1) / 2
            if bay == self.door_bay:
                half = min(max(half * 1.1, 0.035), (x1 - x0) * 0.45)
                self._paint_door(middle - half, top + 0.2 * height, middle + half, bottom)
            elif not self.shop_front:
                y0, y1 = top + 0.24 * height, top + 0.76 * height
                arched = self.arched_storey == self.n_storeys - 1
                self._paint_dressing(middle - half, y0, middle + half, y1, bay, False, arched)
                self._paint_window(middle - half, y0, middle + half, y1, arched=arched)
        if self.shop_front:
            for first, last in ((0, self.door_bay - 1), (self.door_bay + 1, self.n_bays - 1)):
                if first <= last:
                    self._paint_shop(self._bay(first)[0], top + 0.08 * height, self._bay(last)[1], bottom, last - first)

    def _paint_door(self, x0: float, y0: float, x1: float, y1: float) -> None:
        d, width, height = self.d, x1 - x0, y1 - y0
        arched = d.chance(0.4)
        t = max(self.surround, 0.009)
        self.cast(x0 - t, y0 - t, x1 + t, y1, 0.010)
        kind = Kind.ARCH if arched else Kind.RECT
        self.shape(kind, x0 - t, y0 - t, x1 + t, y1, self.molding)
        self.shape(kind, x0, y0, x1, y1, self.wood)
        light = y0 + height * (0.26 if arched else 0.18)  # the window over the door
        self.shape(kind, x0 + 0.008, y0 + 0.008, x1 - 0.008, light, self.door_glass)
        leaves = 2 if width > 0.06 else 1
        for leaf in range(leaves):
            a, b = x0 + width * leaf / leaves, x0 + width * (leaf + 1) / leaves
            inset = (b - a) * 0.2
            for top, low in ((0.10, 0.50), (0.58, 0.92)):
                p0, p1 = light + (y1 - light) * top, light + (y1 - light) * low
                self.rect(a + inset, p0, b - inset, p1, self.wood_panel)
                self.rect(a + inset, p1, b - inset, p1 + 0.005, self.wood_edge)
        if leaves == 2:
            self.rect((x0 + x1) / 2 - 0.003, light, (x0 + x1) / 2 + 0.003, y1, self.wood_panel)
        self.rect(x0 - 0.5 * t, y1 - 0.012, x1 + 0.5 * t, y1, self.step)
        self.dim(x0, y0, x1, y0 + 0.02, self.shadow * 0.85)
        if self.sun < 0:
            self.dim(x0, y0, x0 + 0.012, y1, self.shadow)
        else:
            self.dim(x1 - 0.012, y0, x1, y1, self.shadow)

    def _paint_shop(self, x0: float, y0: float, x1: float, y1: float, divisions: int) -> None:
        d, height = self.d, y1 - y0
        x0, x1 = x0 + 0.012, x1 - 0.012
        sign = y0 + 0.17 * height
        stall = y1 - d.real(0.1, 0.2) * height
        self.rect(x0, y0, x1, y1, self.shop_frame)
        self.glow(x0, y0, x1, y1, 1.0)
        panes = (divisions + 1) * 2
        for k in range(panes):
            a = x0 + (x1 - x0) * k / panes + 0.005
            b = x0 + (x1 - x0) * (k + 1) / panes - 0.005
            self.rect(a, sign + 0.012, b, stall, self.shop_glass)
            for _ in range(3):  # what is on show
                g0 = d.real(a, b - 0.3 * (b - a))
                tall = d.real(0.15, 0.5) * (stall - sign)
                self.rect(g0, stall - tall, g0 + d.real(0.15, 0.3) * (b - a), stall, self.goods[d.whole(0, 3)])
        self.proud(x0, y0, x1, sign, self.sign, 0.02)
        letters = d.whole(4, 9)
        start, pitch = x0 + 0.25 * (x1 - x0), 0.5 * (x1 - x0) / letters
        for k in range(letters):
            tall = d.real(0.35, 0.5) * (sign - y0)
            a = start + k * pitch
            self.rect(a, sign - 0.28 * (sign - y0) - tall, a + 0.6 * pitch, sign - 0.28 * (sign - y0), self.sign_text)
        if d.chance(0.4):
            low = sign + 0.16 * height
            stripes = max(4, round((x1 - x0) / 0.025))
            self.dim(x0, low, x1, low + 0.07, self.shadow)
            for k in range(stripes):
                a, b = (x0 + (x1 - x0) * (k + j) / stripes for j in (0, 1))
                self.rect(a, sign, b, low, self.awning[k % 2])
            self.glow(x0, sign, x1, low, 1.05)
            self.glow(x0, low - 0.008, x1, low, 0.85)
        else:
            self.dim(x0, sign, x1, sign + 0.028, self.shadow)

    def _paint_pillars(self, floors: list[tuple[float, float]]) -> None:
        top, bottom = floors[0][0], floors[-1][0]
        if self.pilasters:
            gap = (self._bay(0)[1] - self._bay(0)[0]) * (1 - self.window_width)
            if self.has_shutters or gap < 0.03:
                return
            half = min(0.2 * gap, 0.018)
            for bay in range(self.n_bays + 1):
                x = self._bay(bay)[0]
                self.cast(x - half, top, x + half, bottom, 0.010)
                self.rect(x - half, top, x + half, bottom, self.pillar)
                self.glow(x - half, top, x + half, bottom, 1.0)
                self.rect(x - 0.35 * half, top + 0.03, x + 0.35 * half, bottom - 0.02, self.flute)
                shade_side = (x + 0.5 * half, x + half) if self.sun < 0 else (x - half, x - 0.5 * half)
                self.glow(shade_side[0], top, shade_side[1], bottom, 0.8)
                self.proud(x - 1.5 * half, top, x + 1.5 * half, top + 0.018, self.pillar, 0.008)
        elif self.quoins:
            block = 0.04
            for k in range(int((self.bottom - top) / block)):
                y = top + k * block
                long = self.edge * (1.0 if k % 2 else 0.65)
                for x0, x1 in ((self.left, self.left + long), (self.right - long, self.right)):
                    self.rect(x0, y, x1, y + block * 0.9, self.pillar)
                    self.glow(x0, y, x1, y + block * 0.9, 1.0)

    def _paint_courses(self, floors: list[tuple[float, float]]) -> None:
        """A band over the ground floor always, between the storeys if the style has it."""
        material = self.cornice if self.string_course == "cornice" else self.molding
        for storey, (top, _) in enumerate(floors[1:], start=1):
            if storey == len(floors) - 1:
                self.proud(self.left, top - 0.012, self.right, top + 0.012, self.cornice, 0.022)
            elif self.string_course != "none":
                self.proud(self.left, top - 0.008, self.right, top + 0.006, material, 0.012)

    def _paint_top_cornice(self) -> None:
        y0, y1 = self.top, self.top + self.cornice_height
        self.proud(self.left, y0, self.right, y1, self.cornice, 0.045)
        middle = y0 + 0.55 * self.cornice_height
        self.shape(Kind.COLUMNS, self.left, middle, self.right, y1, self.dentil, step=0.018)
