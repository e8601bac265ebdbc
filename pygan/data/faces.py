"""The built-in labelled set: cartoon faces with attributes in the manner of CelebA, drawn by rule from (seed, index).

A person (build, skin, pose, clothes, background) and what the attributes say of that person are drawn apart, so that
the same person can be drawn with any attributes: what only changes with an attribute is what the attribute means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pygan.data.canvas import Canvas, Colour, Inside, blend, box, clouds, ellipse, grain, lit, sides
from pygan.data.facades import Draws

ATTRIBUTES = (
    "Black_Hair", "Blond_Hair", "Brown_Hair", "Eyeglasses", "Male", "Mustache", "Smiling", "Wearing_Hat", "Young",
)  # fmt: skip
"""The columns of a label, named as CelebA names them. The three hair colours exclude each other."""

HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair")
HAIR_COLOURS: dict[str, Colour] = {
    "Black_Hair": (34, 30, 34),
    "Blond_Hair": (226, 190, 108),
    "Brown_Hair": (112, 68, 40),
}
"""The colour in the middle of each kind of hair, RGB; a person's own is within 12 levels of it, before the light."""

_PALE = (206, 196, 184)
_HAT_BASE = -0.60  # where a hat ends, from the middle of the face
_PERSON, _SURFACE, _LABEL = 0xFACE, 0xFACF, 0xFAD0  # what the three streams of random numbers are for

_SKINS = ((250, 220, 196), (241, 200, 168), (228, 178, 142), (206, 150, 112), (174, 118, 84), (132, 86, 62))
_EYES = ((70, 110, 160), (88, 126, 84), (96, 62, 36), (70, 46, 30), (112, 122, 130))
_CLOTHES = (
    (196, 58, 52), (52, 92, 160), (60, 128, 92), (234, 232, 226), (58, 58, 66), (222, 170, 60), (130, 84, 150),
    (226, 130, 110), (90, 150, 170),
)  # fmt: skip
_GROUNDS = (
    (140, 180, 200), (206, 196, 180), (120, 150, 120), (178, 150, 170), (96, 110, 130), (220, 206, 160),
    (150, 120, 100), (190, 210, 214),
)  # fmt: skip
_HATS = ((190, 50, 50), (40, 70, 130), (50, 110, 80), (70, 66, 70), (214, 180, 80), (150, 90, 60), (120, 70, 140))
_FRAMES = ((30, 28, 32), (30, 28, 32), (110, 60, 36), (150, 40, 44), (60, 70, 110))


@dataclass(frozen=True)
class Person:
    """Whom the picture shows, whatever the attributes. Lengths in units of half the height of the face."""

    x: float  # where the middle of the face lies, in units of the picture's shorter side
    y: float
    scale: float  # half the height of the face, in units of the picture's shorter side
    turn: float  # of the head, tangent of half the angle
    yaw: float  # where the nose points, -1..1
    sun: float  # -1: light from the left, 1: from the right
    skin: Colour
    eye: Colour
    cloth: Colour
    ground: tuple[Colour, Colour]
    hat: Colour
    frame: Colour
    hair_shift: Colour  # added to the colour that the attribute names
    broad: float  # half the width of the face
    jaw: float  # width of the jaw in halves of the face's
    gap: float  # from the middle of the face to the middle of an eye
    eye_size: float
    brow: float  # height over the eye
    nose: float
    mouth: float  # half its width
    length: float  # of long hair, below the chin
    parting: float  # -1..1
    fringe: float  # how far hair comes down the forehead, 0..1
    volume: float
    collar: float  # 0..1
    hat_kind: str  # "cap", "beanie" or "brim"
    glasses_kind: str  # "round", "square" or "wide"
    spots: tuple[tuple[float, float, float], ...]  # blurred things behind: x, y, radius in units of the shorter side


def face_picture(
    seed: int, index: int, size: int | tuple[int, int], attributes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Face `index` of the set `seed`: (pixels uint8 (h, w, 3) RGB, label uint8 (9,) of 0 and 1, see ATTRIBUTES).

    size: pixels, or (height, width): the square in the middle is the square picture. attributes: 9 numbers 0 or 1 that
    the same person is to have instead of those of (seed, index). ValueError unless exactly one hair colour is set.
    """
    height, width = sides(size)
    label = draw_attributes(seed, index) if attributes is None else np.array(attributes, dtype=np.uint8)
    if label.shape != (len(ATTRIBUTES),) or label.max() > 1:
        raise ValueError(f"attributes must be {len(ATTRIBUTES)} numbers 0 or 1, got {attributes}")
    has = dict(zip(ATTRIBUTES, label.astype(bool).tolist(), strict=True))
    if sum(has[name] for name in HAIR) != 1:
        raise ValueError(f"exactly one of {', '.join(HAIR)} must be 1, got {label.tolist()}")
    return _Painter(person(seed, index), has, Draws(seed, index, use=_SURFACE), height, width).picture(), label


def face_name(index: int) -> str:
    """Name of the face `index` in memory: as CelebA numbers its files, from 1."""
    return f"{index + 1:06d}"


def draw_attributes(seed: int, index: int) -> np.ndarray:
    """The label of face `index`: uint8 (9,). Men alone have moustaches; all else is independent."""
    d = Draws(seed, index, use=_LABEL)
    has = dict.fromkeys(ATTRIBUTES, False)
    has[d.one_of(HAIR)] = True
    has["Eyeglasses"] = d.chance(0.35)
    has["Male"] = d.chance(0.5)
    has["Mustache"] = d.chance(0.5) and has["Male"]
    has["Smiling"] = d.chance(0.5)
    has["Wearing_Hat"] = d.chance(0.3)
    has["Young"] = d.chance(0.6)
    return np.array([has[name] for name in ATTRIBUTES], dtype=np.uint8)


def person(seed: int, index: int) -> Person:
    """Whom face `index` of the set `seed` shows."""
    d = Draws(seed, index, use=_PERSON)
    ground = d.tinted(d.one_of(_GROUNDS), 16)
    return Person(
        x=0.5 + d.real(-0.04, 0.04), y=0.53 + d.real(-0.03, 0.03), scale=d.real(0.265, 0.315), turn=d.real(-0.06, 0.06),
        yaw=d.real(-1, 1), sun=d.real(0.5, 1.0) * (1 if d.chance(0.5) else -1),
        skin=d.tinted(blend(d.one_of(_SKINS), d.one_of(_SKINS), d.real(0, 0.3)), 5), eye=d.one_of(_EYES),
        cloth=d.tinted(d.one_of(_CLOTHES), 14),
        ground=(lit(ground, d.real(0.95, 1.12)), lit(ground, d.real(0.66, 0.9))),
        hat=d.tinted(d.one_of(_HATS), 14), frame=d.one_of(_FRAMES), hair_shift=d.tinted((0, 0, 0), 12),
        broad=d.real(0.72, 0.82), jaw=d.real(0.80, 0.92), gap=d.real(0.32, 0.37), eye_size=d.real(0.92, 1.1),
        brow=d.real(0.20, 0.25), nose=d.real(0.85, 1.2), mouth=d.real(0.24, 0.31), length=d.real(0.0, 0.7),
        parting=d.real(-1, 1), fringe=d.real(0, 1), volume=d.real(0, 1), collar=d.real(0, 1),
        hat_kind=d.one_of(("cap", "beanie", "brim")), glasses_kind=d.one_of(("round", "square", "wide")),
        spots=tuple((d.real(0, 1), d.real(0, 1), d.real(0.08, 0.25)) for _ in range(d.whole(0, 4))),
    )  # fmt: skip


class _Painter:
    """Paints a person from the background to the hat."""

    def __init__(self, who: Person, has: dict[str, bool], surface: Draws, height: int, width: int) -> None:
        self.who, self.has, self.surface = who, has, surface
        unit = min(height, width)
        self.size = (height, width)
        self.ground = Canvas(height, width, unit=unit, left=(width - unit) / 2, top=(height - unit) / 2)
        self.canvas = self.ground.placed(who.x, who.y, who.scale, who.turn)
        self.body = self.ground.placed(who.x, who.y, who.scale)  # shoulders do not lean with the head
        named = HAIR_COLOURS[next(name for name in HAIR if has[name])]
        self.hair = (named[0] + who.hair_shift[0], named[1] + who.hair_shift[1], named[2] + who.hair_shift[2])
        self.brow_colour = lit(self.hair, 0.72)
        self.skin = who.skin if has["Young"] else blend(who.skin, _PALE, 0.22)  # it pales with the years
        self.long = not has["Male"]
        self.turned = 0.10 * who.yaw  # how far what is in front of the face moves
        self.broad = who.broad * (1.05 if has["Male"] else 0.98)

    def picture(self) -> np.ndarray:
        height, width = self.size
        self._behind()
        strands = clouds(self.surface, 4, 31, height, width) * 0.6 + 0.4 * clouds(self.surface, 7, 13, height, width)
        self.strands = strands
        if self.long:
            self._long_hair()
        self._shoulders()
        head = self._head()
        self._eyes()
        self._nose()
        if not self.has["Young"]:
            self._lines(head)
        self._mouth()
        if self.has["Mustache"]:
            self._mustache()
        self._front_hair()
        if self.has["Eyeglasses"]:
            self._glasses()
        if self.has["Wearing_Hat"]:
            self._hat()
        return self.ground.finish(grain(self.surface, height, width, 4.0))

    # -- behind the face ----------------------------------------------------------------------------------------------

    def _behind(self) -> None:
        ground, (height, width) = self.ground, self.size
        _, y = ground.grid((slice(0, height), slice(0, width)))
        low, high = np.array(self.who.ground[1], dtype=np.float32), np.array(self.who.ground[0], dtype=np.float32)
        ground.pixels[:] = high + np.minimum(np.maximum(y, 0), 1)[:, :, None] * (low - high)
        ground.pixels *= (1 + np.float32(0.05) * clouds(self.surface, 4, 4, height, width))[:, :, None]
        for k, (x, y0, radius) in enumerate(self.who.spots):
            colour = lit(self.who.ground[k % 2], 1.15 if k % 2 else 0.85)
            ground.ellipse(x, y0, radius, radius, colour, opacity=0.6, soft=0.04)

    def _strand(self, window: tuple[slice, slice], cover: np.ndarray, colour: Colour, depth: float = 0.16) -> None:
        """Paint hair: every strand its own shade."""
        light = 1 + np.float32(depth) * self.strands[window]
        self.canvas.paint(window, cover, np.array(colour, dtype=np.float32) * light[:, :, None])

    def _long_hair(self) -> None:
        who, canvas = self.who, self.canvas
        wide, low = self.broad + 0.20 + 0.14 * who.volume, 0.85 + who.length
        window = canvas.window(-wide, -1.25, wide, low)
        X, Y = canvas.grid(window)
        round_top = ellipse(X, Y + np.float32(0.22), wide, 1.02)
        fall = box(X, Y - np.float32((low - 0.2) / 2), wide, (low + 0.2) / 2, 0.28)
        self._strand(window, canvas.cover(self._under_hat(np.minimum(round_top, fall), Y)), lit(self.hair, 0.82))

    def _under_hat(self, distance: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Hair that a hat leaves to be seen."""
        return np.maximum(distance, np.float32(_HAT_BASE) - Y) if self.has["Wearing_Hat"] else distance

    def _shoulders(self) -> None:
        who, body, skin = self.who, self.body, self.skin
        male = self.has["Male"]
        wide = 1.62 if male else 1.38
        shirt = body.ellipse(0, 2.30, wide, 0.98, who.cloth)
        side = -0.5 * wide if who.sun > 0 else 0.5 * wide
        body.ellipse(side, 2.3, 0.7 * wide, 1.1, light=0.84, soft=0.4, inside=shirt)
        neck = 0.36 if male else 0.29
        body.box(-neck, 0.5, neck, 1.40, lit(skin, 0.82), round_=0.1)
        body.ellipse(0, 1.40, neck + 0.05, 0.16 + 0.22 * who.collar, lit(skin, 0.92 if male else 0.96))
        body.ellipse(0, 0.92, neck, 0.22, light=0.82, soft=0.14)
        if male:
            right = ((neck, 1.16), (neck + 0.22, 1.38), (0.08, 1.78))
            left = tuple((-x, y) for x, y in reversed(right))
            body.polygons([left, right], blend(who.cloth, (250, 250, 250), 0.35))

    def _head(self) -> Inside:
        who, canvas, skin = self.who, self.canvas, self.skin
        broad = self.broad
        if not self.long:  # long hair covers the ears
            ears = [s * (broad + 0.01) - 0.06 * who.yaw for s in (-1, 1)]
            canvas.ellipses([(x, 0.06, 0.13, 0.21) for x in ears], lit(skin, 0.90))
            canvas.ellipses([(x, 0.06, 0.06, 0.12) for x in ears], light=0.86, soft=0.04)
        jaw = broad * who.jaw * (1.0 if self.has["Male"] else 0.88)
        window = canvas.window(-broad, -1.05, broad, 1.05)
        X, Y = canvas.grid(window)
        skull = ellipse(X, Y + np.float32(0.16), broad, 0.86)
        chin = (
            box(X, Y - np.float32(0.32), jaw, 0.66, 0.42)
            if self.has["Male"]
            else ellipse(X, Y - np.float32(0.20), jaw, 0.79)
        )
        cover = canvas.cover(np.minimum(skull, chin))
        canvas.paint(window, cover, skin)
        head = (window, cover)
        dark = -1 if who.sun > 0 else 1
        canvas.ellipse(dark * 1.0, 0.1, 0.62, 1.3, light=0.86, soft=0.45, inside=head)
        canvas.ellipse(-dark * 0.35, -0.3, 0.35, 0.4, lit(skin, 1.08), opacity=0.5, soft=0.4, inside=head)
        rosy = (0.30 if self.has["Male"] else 0.42) * (1.0 if self.has["Young"] else 0.2)
        blush = blend(skin, (226, 96, 90), rosy)
        cheeks = [(s * 0.46 + self.turned, 0.28, 0.16, 0.12) for s in (-1, 1)]
        canvas.ellipses(cheeks, blush, opacity=0.6, soft=0.16, inside=head)
        return head

    # -- the face -----------------------------------------------------------------------------------------------------

    def _eyes(self) -> None:
        who, canvas = self.who, self.canvas
        male, smiling = self.has["Male"], self.has["Smiling"]
        wide, high = 0.165 * who.eye_size, 0.112 * who.eye_size * (0.82 if smiling else 1.0)
        look, y = 0.03 * who.yaw, -0.06
        middles = [s * who.gap + self.turned for s in (-1, 1)]
        canvas.ellipses([(x, y - 0.03, wide * 1.25, high * 1.5) for x in middles], light=0.92, soft=0.06)
        whites = canvas.ellipses([(x, y, wide, high) for x in middles], (248, 246, 244))
        canvas.discs([(x + look, y, 0.094) for x in middles], who.eye, inside=whites)
        canvas.discs([(x + look, y, 0.048) for x in middles], (22, 18, 20), inside=whites)
        canvas.discs([(x + look + 0.03, y - 0.035, 0.026) for x in middles], (255, 255, 255))
        lids, brows = [], []
        lift = who.brow + (0.02 if smiling else 0.0)
        for s, x in zip((-1, 1), middles, strict=True):
            thick = 0.020 if male else 0.030
            top = y - 0.86 * high
            lids += [(x - wide, y, x - 0.5 * wide, top, thick), (x - 0.5 * wide, top, x + 0.5 * wide, top, thick),
                     (x + 0.5 * wide, top, x + wide, y, thick)]  # fmt: skip
            if not male:
                lids.append((x + s * 0.8 * wide, y - 0.5 * high, x + s * 1.35 * wide, y - 1.15 * high, 0.022))
            bend, arch = x + s * 0.05, y - lift - (0.02 if male else 0.05)
            thick = 0.052 if male else 0.030
            brows.append((x - s * 0.15, y - lift + 0.01, bend, arch, thick))
            brows.append((bend, arch, x + s * 0.20, y - lift + 0.03, thick * 0.75))
        canvas.strokes(lids, (56, 38, 34))
        canvas.strokes(brows, self.brow_colour)

    def _nose(self) -> None:
        who, canvas = self.who, self.canvas
        x, size = 1.5 * self.turned, who.nose * (1.1 if self.has["Male"] else 0.92)
        dark = -1 if who.sun > 0 else 1
        canvas.ellipse(x, 0.20, 0.13 * size, 0.085 * size, lit(self.skin, 0.93), soft=0.04)
        canvas.strokes(((x + dark * 0.05, -0.05, x + dark * 0.09 * size, 0.16, 0.022),), light=0.84, soft=0.04)
        canvas.strokes(
            ((x - 0.10 * size, 0.235, x - 0.03, 0.27, 0.020), (x + 0.03, 0.27, x + 0.10 * size, 0.235, 0.020)),
            light=0.66, soft=0.02,
        )  # fmt: skip
        canvas.ellipse(x - dark * 0.03, 0.15, 0.035, 0.05, lit(self.skin, 1.14), opacity=0.7, soft=0.05)

    def _lines(self, head: Inside) -> None:
        """What years leave: furrows on the forehead, folds beside the mouth, bags and crow's feet at the eyes."""
        who, canvas, t = self.who, self.canvas, self.turned
        furrows = [(-0.30 + t, y, 0.30 + t, y + 0.01, 0.018) for y in (-0.44, -0.54)]
        folds, bags = [], []
        for s in (-1, 1):
            folds.append((s * 0.17 + t, 0.24, s * 0.36 + t, 0.46, 0.026))
            folds.append((s * 0.36 + t, 0.46, s * 0.36 + t, 0.60, 0.024))
            x = s * who.gap + t
            bags.append((x - 0.13, 0.10, x, 0.135, 0.024))
            bags.append((x, 0.135, x + 0.13, 0.10, 0.024))
            for k in (-1, 0, 1):
                edge = x + s * 0.215
                bags.append((edge, -0.06 + 0.02 * k, edge + s * 0.10, -0.06 + 0.075 * k, 0.014))
        canvas.strokes(furrows + folds + bags, light=0.62, soft=0.016, inside=head)
        canvas.ellipse(t, 0.76, 0.20, 0.03, light=0.86, soft=0.05, inside=head)

    def _mouth(self) -> None:
        who, canvas = self.who, self.canvas
        male, x, y, wide = self.has["Male"], 1.2 * self.turned, 0.52, who.mouth
        lip = blend(lit(self.skin, 0.78), (170, 60, 60), 0.35) if male else blend(self.skin, (196, 30, 54), 0.75)
        if self.has["Smiling"]:
            wide *= 1.22
            corner = y - 0.06
            window = canvas.window(x - wide - 0.05, corner - 0.08, x + wide + 0.05, corner + 0.34)
            X, Y = canvas.grid(window)
            dx, dy = X - np.float32(x), Y - np.float32(corner)
            upper = np.float32(0.10) * (1 - dx * dx * np.float32(1 / (wide * wide)))  # the lips' middle hangs a little
            bowl = ellipse(dx, dy, wide, 0.26)
            opening = np.maximum(bowl, upper - dy)
            canvas.paint(window, canvas.cover(opening - np.float32(0.035)), lip)
            canvas.paint(window, canvas.cover(opening + np.float32(0.012)), (106, 26, 34))
            teeth = np.maximum(opening + np.float32(0.012), dy - upper - np.float32(0.085))
            canvas.paint(window, canvas.cover(teeth), (250, 248, 242))
            dimples = [
                (x + s * (wide + 0.02), corner - 0.05, x + s * (wide + 0.06), corner + 0.06, 0.014) for s in (-1, 1)
            ]
            canvas.strokes(dimples, light=0.74, soft=0.02)
            return
        thick = 0.030 if male else 0.046
        canvas.strokes(
            ((x - wide * 0.72, y + 0.035, x, y + 0.055, thick), (x, y + 0.055, x + wide * 0.72, y + 0.035, thick),
             (x - wide * 0.6, y - 0.01, x - 0.06, y - 0.03, thick * 0.8), (x + 0.06, y - 0.03, x + wide * 0.6, y - 0.01,
             thick * 0.8)), lip,
        )  # fmt: skip
        canvas.strokes(((x - wide, y + 0.02, x, y + 0.008, 0.014), (x, y + 0.008, x + wide, y + 0.02, 0.014)),
                       lit(lip, 0.55))  # fmt: skip
        canvas.ellipse(x, y + 0.17, 0.14, 0.03, light=0.90, soft=0.05)

    def _mustache(self) -> None:
        canvas, x = self.canvas, 1.3 * self.turned
        lines = []
        for s in (-1, 1):
            lines.append((x + s * 0.045, 0.365, x + s * 0.18, 0.385, 0.062))
            lines.append((x + s * 0.18, 0.385, x + s * 0.33, 0.455, 0.040))
        window, cover = canvas.strokes(lines)
        self._strand(window, cover, lit(self.hair, 0.78), 0.2)

    # -- hair, glasses, hat -------------------------------------------------------------------------------------------

    def _front_hair(self) -> None:
        who, canvas = self.who, self.canvas
        puff = 0.10 + 0.12 * who.volume
        wide, top = self.broad + puff * (0.75 if not self.long else 1.0), 1.06 + puff
        end = 0.85 + who.length if self.long else 0.0
        window = canvas.window(-wide - 0.1, -top - 0.1, wide + 0.1, max(end, 0.1))
        X, Y = canvas.grid(window)
        cap = ellipse(X, Y + np.float32(0.10), wide, top)
        # The opening shows the face: its top is the hairline, its middle the parting.
        line = -0.70 + 0.22 * who.fringe if self.long else -0.76 + 0.16 * who.fringe
        middle = (0.20 if self.long else 0.30) * who.parting
        opening = ellipse(X - np.float32(middle), Y - np.float32(line + 1.25), self.broad * 0.98, 1.25)
        if self.long:
            inner = box(X, Y - np.float32(0.62), self.broad - 0.07, 0.95, 0.5)
            opening = np.minimum(np.maximum(opening, Y - np.float32(0.2)), np.maximum(inner, np.float32(-0.15) - Y))
            side = np.maximum(np.abs(X) - np.float32(wide), Y - np.float32(end))
            locks = np.maximum(side, np.float32(-0.2) - Y)
            distance = np.maximum(np.minimum(cap, locks), -opening)
        else:
            low = np.float32(0.02 + 0.10 * who.volume)  # sideburns
            inner = np.abs(X) - np.float32(self.broad - 0.06)
            opening = np.minimum(opening, np.maximum(inner, np.float32(-0.30) - Y))
            distance = np.maximum(np.maximum(cap, -opening), Y - low)
        cover = canvas.cover(self._under_hat(distance, Y))
        self._strand(window, cover, self.hair)
        hair = (window, cover)
        dark = -1 if who.sun > 0 else 1
        canvas.ellipse(-dark * 0.38, -0.92, 0.34, 0.16, lit(self.hair, 1.35), opacity=0.45, soft=0.22, inside=hair)
        canvas.ellipse(dark * 0.95, -0.3, 0.45, 1.0, light=0.80, soft=0.35, inside=hair)

    def _glasses(self) -> None:
        who, canvas, t = self.who, self.canvas, self.turned
        kind, y, thick = who.glasses_kind, -0.03, 0.034
        half_x, half_y = {"round": (0.25, 0.25), "square": (0.27, 0.21), "wide": (0.29, 0.18)}[kind]
        out = who.gap + 0.015
        window = canvas.window(t - out - half_x - 0.1, y - half_y - 0.1, t + out + half_x + 0.1, y + half_y + 0.1)
        X, Y = canvas.grid(window)
        dx, dy = np.abs(X - np.float32(t)) - np.float32(out), Y - np.float32(y)  # both glasses at once
        rim = ellipse(dx, dy, half_x, half_y) if kind == "round" else box(dx, dy, half_x, half_y, 0.08)
        glass = canvas.cover(rim)
        canvas.paint(window, glass * np.float32(0.16), (214, 232, 246))
        canvas.paint(window, canvas.cover(np.abs(rim) - np.float32(thick)), who.frame)
        glints = [(x - 0.13, y - 0.06, x - 0.05, y - 0.14, 0.016) for x in (t - out, t + out)]
        canvas.strokes(glints, (255, 255, 255), opacity=0.6, soft=0.01, inside=(window, glass))
        inner = out - half_x
        reach = out + half_x
        canvas.strokes(
            ((t - inner, y - 0.03, t + inner, y - 0.03, 0.026), (t - reach, y - 0.05, -self.broad, y - 0.02, 0.022),
             (t + reach, y - 0.05, self.broad, y - 0.02, 0.022)), who.frame,
        )  # fmt: skip

    def _hat(self) -> None:
        who, canvas = self.who, self.canvas
        wide = self.broad + 0.16 + 0.12 * who.volume
        kind, base = who.hat_kind, _HAT_BASE
        top = 1.0 if kind != "brim" else 0.95
        window = canvas.window(-wide, base - top, wide, base + 0.1)
        X, Y = canvas.grid(window)
        if kind == "brim":
            crown = np.maximum(box(X, Y - np.float32(base - 0.30), wide * 0.80, 0.52, 0.24), Y - np.float32(base))
        else:
            crown = np.maximum(ellipse(X, Y - np.float32(base), wide, 0.68 if kind == "cap" else 0.78),
                               Y - np.float32(base))  # fmt: skip
        cover = canvas.cover(crown)
        canvas.paint(window, cover, who.hat)
        hat = (window, cover)
        dark = -1 if who.sun > 0 else 1
        canvas.ellipse(dark * 0.8, base - 0.3, 0.6, 0.9, light=0.80, soft=0.4, inside=hat)
        canvas.ellipse(-dark * 0.35, base - 0.42, 0.25, 0.18, lit(who.hat, 1.25), opacity=0.5, soft=0.2, inside=hat)
        if kind == "cap":
            peak = 0.30 * who.yaw + (0.12 if who.yaw > 0 else -0.12)
            canvas.ellipse(peak, base + 0.10, wide * 0.95, 0.10, light=0.78, soft=0.06)
            canvas.ellipse(peak, base + 0.02, wide * 0.98, 0.13, lit(who.hat, 0.80))
            canvas.ellipse(0, base - 0.67, 0.06, 0.045, lit(who.hat, 0.7))
        elif kind == "beanie":
            band = canvas.box(-wide - 0.03, base - 0.12, wide + 0.03, base + 0.12, lit(who.hat, 1.16), round_=0.11)
            ribs = [(x * 0.16, base - 0.12, x * 0.16, base + 0.12, 0.014) for x in range(-7, 8)]
            canvas.strokes(ribs, light=0.85, soft=0.02, inside=band)
            canvas.ellipse(0, base - 0.82, 0.16, 0.14, blend(who.hat, (255, 255, 255), 0.6), soft=0.03)
        else:
            canvas.ellipse(0, base + 0.13, wide * 1.1, 0.10, light=0.80, soft=0.06)
            canvas.box(-wide * 0.80, base - 0.17, wide * 0.80, base, lit(who.hat, 0.5))
            canvas.ellipse(0, base + 0.02, wide * 1.36, 0.12, who.hat)
