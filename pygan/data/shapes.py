"""The built-in captioned set: coloured shapes and ten sentences that say so, drawn by rule from (seed, index).

What a sentence says can be read back (`parse`) and looked for in a picture (`agreement`), so that it can be measured
whether a picture drawn from a text shows what the text says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pygan.data.canvas import Canvas, Colour, box, clouds, convex, discs, ellipse, grain, polygon, rotation
from pygan.data.facades import Draws

KINDS = ("circle", "square", "triangle", "star", "cross", "heart")

COLOURS: dict[str, Colour] = {
    "red": (212, 40, 40),
    "orange": (242, 140, 28),
    "yellow": (244, 222, 52),
    "green": (52, 164, 72),
    "blue": (44, 88, 212),
    "purple": (128, 48, 160),
    "pink": (246, 136, 184),
    "turquoise": (56, 196, 200),
}
"""RGB of each name; a shape's own colour is within 12 levels of it, before the light."""

BACKGROUNDS: dict[str, Colour] = {
    "white": (238, 238, 236),
    "grey": (132, 132, 134),
    "black": (34, 34, 38),
    "brown": (112, 82, 58),
}

SIZES = ("small", "large")
LARGE = 0.145
"""A shape is large when half its extent is more than this part of the picture's side."""

CAPTIONS = 10
KEYPOINTS = 15
"""Five of each of up to three shapes: its middle, its highest, rightmost, lowest and leftmost point."""

_SCENE, _SURFACE, _WORDS = 0x5A9E, 0x5A9F, 0x5AA0  # what the three streams of random numbers are for

_PLACES = {
    "centre": (0.5, 0.5), "left": (0.2, 0.5), "right": (0.8, 0.5), "top": (0.5, 0.2), "bottom": (0.5, 0.8),
    "top left": (0.2, 0.2), "top right": (0.8, 0.2), "bottom left": (0.2, 0.8), "bottom right": (0.8, 0.8),
}  # fmt: skip
_RELATIONS = ("above", "below", "left of", "right of")
_INVERSE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}

# Outlines in units of half the extent. STAR: corners of a pentagram, the inner ones at 0.42 of the radius.
_STAR = (
    (0.0, -1.0), (0.24687, -0.33979), (0.95106, -0.30902), (0.39944, 0.12979), (0.58779, 0.80902), (0.0, 0.42),
    (-0.58779, 0.80902), (-0.39944, 0.12979), (-0.95106, -0.30902), (-0.24687, -0.33979),
)  # fmt: skip
_TRIANGLE = ((0.0, -0.98), (0.98, 0.78), (-0.98, 0.78))
_HEART_DISCS = ((-0.46, -0.36, 0.54), (0.46, -0.36, 0.54))
_HEART_TIP = ((-0.905, -0.055), (0.0, -0.40), (0.905, -0.055), (0.0, 0.94))
_ARM = 0.33  # half the width of the cross's arms
_HALF, _ROUND = 0.88, 0.06  # of the square

# What reaches farthest out: discs (x, y, radius) whose hull is the hull of the shape.
_HULL = {
    "circle": ((0.0, 0.0, 1.0),),
    "square": tuple((sx * (_HALF - _ROUND), sy * (_HALF - _ROUND), _ROUND) for sx in (-1, 1) for sy in (-1, 1)),
    "triangle": tuple((x, y, 0.0) for x, y in _TRIANGLE),
    "star": tuple((x, y, 0.0) for x, y in _STAR[::2]),
    "cross": tuple((sx * a, sy * b, 0.0) for sx in (-1, 1) for sy in (-1, 1) for a, b in ((_ARM, 1.0), (1.0, _ARM))),
    "heart": (*_HEART_DISCS, (0.0, 0.94, 0.0)),
}


@dataclass(frozen=True)
class Item:
    """One shape. x, y, radius: its middle and half its extent in units of the picture's side."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    turn: float  # clockwise, tangent of half the angle
    rgb: Colour


@dataclass(frozen=True)
class Scene:
    """What a picture shows. The first item is the main one.

    relations: (i, relation, j): item i is above, below, left of or right of item j. place: where a single item is,
    "" when there are more.
    """

    items: tuple[Item, ...]
    relations: tuple[tuple[int, str, int], ...]
    place: str
    background: str
    ground: Colour
    sun: float  # -1: light from the left, 1: from the right


@dataclass(frozen=True)
class Facts:
    """What a sentence says, or all that could be said of a scene; "" is what is not said.

    shapes: (kind, colour, size). relations: (kind, "above" or "left of", kind). Kinds are unique within a scene.
    """

    shapes: frozenset[tuple[str, str, str]]
    relations: frozenset[tuple[str, str, str]]
    place: str
    background: str

    def true_of(self, whole: Facts) -> bool:
        """Whether everything that is said here holds for the scene whose facts are `whole`."""
        return (
            all(any(kind == k and colour == c and size in ("", z) for k, c, z in whole.shapes)
                for kind, colour, size in self.shapes)
            and self.relations <= whole.relations
            and self.place in ("", whole.place)
            and self.background in ("", whole.background)
        )  # fmt: skip


def shapes_picture(seed: int, index: int, size: int) -> tuple[np.ndarray, Scene]:
    """Picture `index` of the set `seed`: (uint8 (size, size, 3) RGB, what it shows). The same scene at every size."""
    if size < 2:
        raise ValueError(f"size must be at least 2 pixels, got {size}")
    scene = plan(seed, index)
    return paint(scene, Draws(seed, index, use=_SURFACE), size), scene


def shapes_name(index: int) -> str:
    """Name of the picture `index`, in memory."""
    return f"shapes_{index:05d}"


def plan(seed: int, index: int) -> Scene:
    """The scene `index` of the set `seed`."""
    d = Draws(seed, index, use=_SCENE)
    count = d.one_of((1, 1, 2, 2, 2, 3))
    kinds, colours = list(KINDS), list(COLOURS)
    relations: list[tuple[int, str, int]] = []
    place = ""
    if count == 1:
        place = d.one_of(tuple(_PLACES))
        spots = [_PLACES[place]]
    else:
        relation = d.one_of(_RELATIONS)
        relations.append((0, relation, 1))
        upright = relation in ("above", "below")
        first = 0.27 if relation in ("above", "left of") else 0.73
        across = (d.real(0.4, 0.6), d.real(0.4, 0.6)) if count == 2 else (d.one_of((0.27, 0.73)),) * 2
        spots = [(across[0], first), (across[1], 1 - first)]
        if not upright:
            spots = [(y, x) for x, y in spots]
        if count == 3:  # beside the main shape, in the direction that is still free
            x, y = spots[0]
            spots.append((1 - x, y) if upright else (x, 1 - y))
            beside = ("left of" if x > 0.5 else "right of") if upright else ("above" if y > 0.5 else "below")
            relations.append((2, beside, 0))
    items = []
    for x, y in spots:
        kind, colour = kinds.pop(d.whole(0, len(kinds) - 1)), colours.pop(d.whole(0, len(colours) - 1))
        size = d.one_of(SIZES)
        radius = d.real(0.175, 0.205) if size == "large" else d.real(0.10, 0.12)
        slack = 0.02 if count > 1 else 0.04
        edge = radius + 0.02
        x = min(max(x + d.real(-slack, slack), edge), 1 - edge)
        y = min(max(y + d.real(-slack, slack), edge), 1 - edge)
        items.append(Item(kind, colour, size, x, y, radius, d.real(-0.09, 0.09), d.tinted(COLOURS[colour], 12)))
    background = d.one_of(tuple(BACKGROUNDS))
    return Scene(
        tuple(items), tuple(relations), place, background, d.tinted(BACKGROUNDS[background], 10),
        d.real(0.4, 1.0) * (1 if d.chance(0.5) else -1),
    )  # fmt: skip


def paint(scene: Scene, draws: Draws, size: int) -> np.ndarray:
    """The picture of a scene: uint8 (size, size, 3). draws: feeds the textures."""
    canvas = Canvas(size, size, unit=size)
    whole = (slice(0, size), slice(0, size))
    x, y = canvas.grid(whole)
    light = 1.03 - 0.07 * y + np.float32(0.04 * scene.sun) * (2 * x - 1)
    light = light + np.float32(0.035) * clouds(draws, 6, 6, size, size)
    canvas.pixels[:] = np.array(scene.ground, dtype=np.float32) * light[:, :, None]
    for item in scene.items:
        _paint_item(canvas, item, scene.sun)
    return canvas.finish(grain(draws, size, size, 4.0))


def _paint_item(canvas: Canvas, item: Item, sun: float) -> None:
    lean = -0.12 * sun * item.radius
    shadow = canvas.placed(item.x + lean, item.y + 0.12 * item.radius, item.radius, item.turn)
    window = shadow.window(-1.3, -1.3, 1.3, 1.3)
    shadow.shade(window, shadow.cover(distance(item.kind, *shadow.grid(window)), 0.16), 0.80)
    own = canvas.placed(item.x, item.y, item.radius, item.turn)
    window = own.window(-1.1, -1.1, 1.1, 1.1)
    X, Y = own.grid(window)
    away = distance(item.kind, X, Y)
    light = 1.02 - np.float32(0.10) * Y + np.float32(0.05 * sun) * X  # lit from above
    rim = 1 - np.float32(0.16) * own.cover(-away - np.float32(0.10), 0.08)  # darker towards the edge
    colour = np.array(item.rgb, dtype=np.float32) * (light * rim)[:, :, None]
    own.paint(window, own.cover(away), colour)


def distance(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a shape about the origin whose half extent is 1: negative inside, float32."""
    if kind == "circle":
        return ellipse(x, y, 1.0, 1.0)
    if kind == "square":
        return box(x, y, _HALF, _HALF, _ROUND)
    if kind == "triangle":
        return convex(x, y, [_TRIANGLE])
    if kind == "star":
        return polygon(x, y, _STAR)
    if kind == "cross":
        return np.minimum(box(x, y, _ARM, 1.0), box(x, y, 1.0, _ARM))
    if kind == "heart":
        lobes = discs(x, y, np.array(_HEART_DISCS, dtype=np.float32))
        return np.minimum(lobes, convex(x, y, [_HEART_TIP]))
    raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")


# -- where things are -------------------------------------------------------------------------------------------------


def extremes(item: Item) -> tuple[tuple[float, float], ...]:
    """(x, y) of the highest, rightmost, lowest and leftmost point of a shape, in units of the picture's side."""
    c, s = rotation(item.turn)
    hull = [(c * x - s * y, s * x + c * y, r) for x, y, r in _HULL[item.kind]]
    points = []
    for dx, dy in ((0, -1), (1, 0), (0, 1), (-1, 0)):
        x, y, r = max(hull, key=lambda disc: disc[0] * dx + disc[1] * dy + disc[2])
        points.append((item.x + item.radius * (x + r * dx), item.y + item.radius * (y + r * dy)))
    return tuple(points)


def bounds(item: Item) -> tuple[float, float, float, float]:
    """(x, y, width, height) of the upright rectangle round a shape, in units of the picture's side."""
    top, right, bottom, left = extremes(item)
    return left[0], top[1], right[0] - left[0], bottom[1] - top[1]


def keypoints(scene: Scene) -> list[tuple[float, float, int]]:
    """15 times (x, y, visible): see KEYPOINTS. What is not there is (0, 0, 0)."""
    points = [(x, y, 1) for item in scene.items for x, y in ((item.x, item.y), *extremes(item))]
    return points + [(0.0, 0.0, 0)] * (KEYPOINTS - len(points))


# -- words ------------------------------------------------------------------------------------------------------------

_KIND_WORDS = {
    "circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",),
    "cross": ("cross", "plus"), "heart": ("heart",),
}  # fmt: skip
_COLOUR_WORDS = {
    "red": ("red",), "orange": ("orange",), "yellow": ("yellow",), "green": ("green",), "blue": ("blue",),
    "purple": ("purple", "violet"), "pink": ("pink",), "turquoise": ("turquoise", "teal"),
}  # fmt: skip
_SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
_BACKGROUND_WORDS = {"white": ("white",), "grey": ("grey", "gray"), "black": ("black",), "brown": ("brown",)}
_RELATION_WORDS = {
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
}
_PLACE_WORDS = {
    "centre": ("in the middle", "in the centre", "in the center"),
    "left": ("on the left", "at the left side"), "right": ("on the right", "at the right side"),
    "top": ("at the top",), "bottom": ("at the bottom",),
    "top left": ("in the top left corner", "at the upper left"),
    "top right": ("in the top right corner", "at the upper right"),
    "bottom left": ("in the bottom left corner", "at the lower left"),
    "bottom right": ("in the bottom right corner", "at the lower right"),
}  # fmt: skip


def _meaning(words: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """From each word to what it stands for, longer phrases first."""
    pairs = [(word, name) for name, synonyms in words.items() for word in synonyms]
    return dict(sorted(pairs, key=lambda pair: -len(pair[0])))


_KIND_OF, _COLOUR_OF, _SIZE_OF = _meaning(_KIND_WORDS), _meaning(_COLOUR_WORDS), _meaning(_SIZE_WORDS)
_BACKGROUND_OF, _RELATION_OF, _PLACE_OF = (
    _meaning(_BACKGROUND_WORDS), _meaning(_RELATION_WORDS), _meaning(_PLACE_WORDS)
)  # fmt: skip
_SHAPE = re.compile(
    rf"\b(?:({'|'.join(_SIZE_OF)}) )?({'|'.join(_COLOUR_OF)}) ({'|'.join(_KIND_OF)})\b|\bthe ({'|'.join(_KIND_OF)})\b"
)
_RELATION = re.compile(rf"\b({'|'.join(_RELATION_OF)})\b")
_PLACE = re.compile(rf"\b({'|'.join(_PLACE_OF)})\b")
_BACKGROUND = re.compile(rf"\b({'|'.join(_BACKGROUND_OF)})\b")


def facts(scene: Scene) -> Facts:
    """All that a sentence could truly say of the scene."""
    items = scene.items
    return Facts(
        frozenset((item.kind, item.colour, item.size) for item in items),
        frozenset(_ordered(items[i].kind, relation, items[j].kind) for i, relation, j in scene.relations),
        scene.place,
        scene.background,
    )


def _ordered(a: str, relation: str, b: str) -> tuple[str, str, str]:
    """The same relation as "above" or "left of"."""
    return (a, relation, b) if relation in ("above", "left of") else (b, _INVERSE[relation], a)


def captions(scene: Scene, seed: int, index: int) -> list[str]:
    """Ten different sentences about the scene, in words and order of their own; the first says everything."""
    d = Draws(seed, index, use=_WORDS)
    said: list[str] = []
    while len(said) < CAPTIONS:
        sentence = _sentence(scene, d, everything=not said)
        if sentence not in said:
            said.append(sentence)
    return said


def _sentence(scene: Scene, d: Draws, *, everything: bool) -> str:
    def noun(item: Item) -> str:
        colour, kind = d.one_of(_COLOUR_WORDS[item.colour]), d.one_of(_KIND_WORDS[item.kind])
        size = d.one_of(_SIZE_WORDS[item.size])
        words = f"{size} {colour} {kind}" if everything or d.chance(0.8) else f"{colour} {kind}"
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    items = scene.items
    main = noun(items[0])
    if scene.place:
        where = d.one_of(_PLACE_WORDS[scene.place])
        text = d.one_of((f"{main} {where}", f"{main} is {where}", f"there is {main} {where}", f"{where} is {main}"))
    else:
        other, relation = noun(items[1]), scene.relations[0][1]
        ahead, back = d.one_of(_RELATION_WORDS[relation]), d.one_of(_RELATION_WORDS[_INVERSE[relation]])
        text = d.one_of(
            (f"{main} {ahead} {other}", f"{main} is {ahead} {other}", f"there is {main} {ahead} {other}",
             f"{other} {back} {main}", f"{other} is {back} {main}", f"{ahead} {other} is {main}")
        )  # fmt: skip
    if len(items) == 3:
        beside = d.one_of(_RELATION_WORDS[scene.relations[1][1]])
        text += f", and {noun(items[2])} {beside} the {items[0].kind}"
    if everything or d.chance(0.5):
        ground = d.one_of(_BACKGROUND_WORDS[scene.background])
        text += d.one_of((f" on a {ground} background", f" on {ground}", f", the background is {ground}"))
    return text


def parse(caption: str) -> Facts:
    """What a sentence of `captions` says, or as much of another sentence as is said in the same words."""
    text = " ".join(caption.lower().split())
    shapes, relations = [], []
    for clause in text.split(", and "):
        named = []
        for match in _SHAPE.finditer(clause):
            size, colour, kind, again = match.groups()
            named.append(_KIND_OF[kind or again])
            if colour:
                shapes.append((_KIND_OF[kind], _COLOUR_OF[colour], _SIZE_OF.get(size or "", "")))
        relation = _RELATION.search(clause)
        if relation and len(named) == 2:
            first = _SHAPE.search(clause)
            a, b = named if first.start() < relation.start() else reversed(named)
            relations.append(_ordered(a, _RELATION_OF[relation[1]], b))
    place, ground = _PLACE.search(text), _BACKGROUND.search(text)
    return Facts(
        frozenset(shapes),
        frozenset(relations),
        _PLACE_OF[place[1]] if place and not relations else "",
        _BACKGROUND_OF[ground[1]] if ground else "",
    )


# -- looking ----------------------------------------------------------------------------------------------------------

_NAMES = (*COLOURS, *BACKGROUNDS)
_RGB = np.array([*COLOURS.values(), *BACKGROUNDS.values()], dtype=np.float32)
_CELLS = 24  # pixels each way at which outlines are compared
_LEAST = 0.004  # part of the picture that must have a colour for it to count as seen


def agreement(pixels: np.ndarray, said: Facts) -> dict[str, float]:
    """How much of what is said a picture shows: the part that holds of the colours, kinds, sizes, and relations.

    pixels: uint8 (h, w, 3), from 32 pixels on. A colour holds when enough pixels have it; a kind when the outline of
    those pixels is most like that kind's; a size by their extent; a relation or a place by their middles; the
    background by the most frequent colour along the border. Returns {"all": 1.0 when everything holds, "colour": ...,
    "kind": ..., "size": ..., "relation": ..., "background": ...}, only what is said; a place counts as a relation.
    """
    height, width = pixels.shape[:2]
    gaps = pixels.reshape(-1, 1, 3).astype(np.float32) - _RGB
    names = (gaps * gaps).sum(axis=2).argmin(axis=1).reshape(height, width)
    held: dict[str, list[bool]] = {}
    found = {}
    for kind, colour, size in said.shapes:
        seen = _look(names == _NAMES.index(colour))
        held.setdefault("colour", []).append(seen is not None)
        held.setdefault("kind", []).append(seen is not None and seen.kind == kind)
        if size:
            held.setdefault("size", []).append(seen is not None and (seen.radius > LARGE) == (size == "large"))
        if seen is not None:
            found[kind] = seen
    for a, relation, b in said.relations:
        if a in found and b in found:
            dx, dy = found[b].x - found[a].x, found[b].y - found[a].y
            holds = dy > abs(dx) if relation == "above" else dx > abs(dy)
        else:
            holds = False
        held.setdefault("relation", []).append(holds)
    if said.place:
        seen = next(iter(found.values()), None)
        held.setdefault("relation", []).append(seen is not None and _place_of(seen) == said.place)
    if said.background:
        border = np.concatenate([names[0], names[-1], names[:, 0], names[:, -1]])
        most = _NAMES[np.bincount(border, minlength=len(_NAMES)).argmax()]
        held["background"] = [most == said.background]
    parts = {what: sum(list_) / len(list_) for what, list_ in held.items()}
    return {"all": float(all(part == 1 for part in parts.values()))} | parts


@dataclass(frozen=True)
class _Seen:
    x: float
    y: float
    radius: float
    kind: str


def _look(mask: np.ndarray) -> _Seen | None:
    """What the pixels of one colour, bool (h, w), look like; None when there are too few."""
    height, width = mask.shape
    mask = _solid(mask)
    if mask.mean() < _LEAST:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    at = (np.arange(_CELLS) + 0.5) / _CELLS
    cut = mask[(top + at * (bottom - top)).astype(int)][:, (left + at * (right - left)).astype(int)]
    overlaps = [((cut & t).sum() / (cut | t).sum(), kind) for kind, t in _outlines()]
    return _Seen(
        x=(left + right) / 2 / width, y=(top + bottom) / 2 / height,
        radius=max((right - left) / width, (bottom - top) / height) / 2, kind=max(overlaps)[1],
    )  # fmt: skip


def _solid(mask: np.ndarray) -> np.ndarray:
    """The parts of the mask that hold a full square of 3x3 pixels.

    The edge of one shape mixes to the colour of another, in lines that are no shapes of their own.
    """
    part = _spread(~_spread(~mask))  # every full square
    for _ in range(max(mask.shape) // 4):
        more = _spread(part) & mask
        if (more == part).all():
            break
        part = more
    return part


def _spread(mask: np.ndarray) -> np.ndarray:
    """The mask and all neighbours of its pixels."""
    padded = np.pad(mask, 1)
    across = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return across[:-2] | across[1:-1] | across[2:]


@lru_cache(maxsize=1)
def _outlines() -> list[tuple[str, np.ndarray]]:
    """(kind, bool (24, 24)): each kind within its own bounds, turned this way and that."""
    out = []
    for kind in KINDS:
        for turn in (-0.08, -0.04, 0.0, 0.04, 0.08):
            item = Item(kind, "red", "large", 0.0, 0.0, 1.0, turn, COLOURS["red"])
            left, top, wide, high = bounds(item)
            at = ((np.arange(_CELLS) + 0.5) / _CELLS).astype(np.float32)
            x, y = (left + at * wide)[None, :], (top + at * high)[:, None]
            c, s = rotation(turn)
            inner = distance(kind, (x * c + y * s).astype(np.float32), (y * c - x * s).astype(np.float32))
            out.append((kind, inner < 0))
    return out


def _place_of(seen: _Seen) -> str:
    """The nearest of the nine places; a large shape cannot be quite at the edge."""
    return min(_PLACES, key=lambda name: (_PLACES[name][0] - seen.x) ** 2 + (_PLACES[name][1] - seen.y) ** 2)
