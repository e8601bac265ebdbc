"""The shapes: the same for everyone and at every size, pictures show what is said, and captions say what is shown."""

import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pygan.data.facades import Draws
from pygan.data.shapes import (
    BACKGROUNDS,
    CAPTIONS,
    COLOURS,
    KEYPOINTS,
    KINDS,
    LARGE,
    Facts,
    agreement,
    bounds,
    captions,
    extremes,
    facts,
    keypoints,
    paint,
    parse,
    plan,
    shapes_name,
    shapes_picture,
)

GOLDEN = 0x07DE6176, 0x1190786B  # CRC-32 of picture and captions of scene 7 of set 3 at 48 pixels
SCENES = [plan(0, i) for i in range(200)]


def test_same_scene_for_everyone():
    pixels, scene = shapes_picture(3, 7, 48)
    assert pixels.shape == (48, 48, 3)
    assert pixels.dtype == np.uint8
    assert scene == plan(3, 7)
    # Fixed for good: a change here changes every result measured on the built-in set.
    said = "\n".join(captions(scene, 3, 7)).encode()
    assert (zlib.crc32(pixels.tobytes()), zlib.crc32(said)) == GOLDEN


def test_scenes_vary():
    items = [item for scene in SCENES for item in scene.items]
    assert {item.kind for item in items} == set(KINDS)
    assert {item.colour for item in items} == set(COLOURS)
    assert {scene.background for scene in SCENES} == set(BACKGROUNDS)
    assert {len(scene.items) for scene in SCENES} == {1, 2, 3}
    assert {scene.place for scene in SCENES} >= {"", "centre", "top left", "right"}
    assert {relation for scene in SCENES for _, relation, _ in scene.relations} == {
        "above", "below", "left of", "right of",
    }  # fmt: skip
    assert len({facts(scene) for scene in SCENES}) > 195
    for scene in SCENES:
        assert (
            len({item.kind for item in scene.items}) == len({item.colour for item in scene.items}) == len(scene.items)
        )


def test_relations_and_sizes_hold_and_nothing_overlaps():
    for scene in SCENES:
        for i, relation, j in scene.relations:
            dx, dy = scene.items[j].x - scene.items[i].x, scene.items[j].y - scene.items[i].y
            ahead, aside = {
                "above": (dy, dx), "below": (-dy, dx), "left of": (dx, dy), "right of": (-dx, dy),
            }[relation]  # fmt: skip
            assert ahead > abs(aside)
        for k, item in enumerate(scene.items):
            assert (item.radius > LARGE) == (item.size == "large")
            left, top, width, height = bounds(item)
            assert min(left, top, 1 - left - width, 1 - top - height) > 0
            for other in scene.items[:k]:
                assert (item.x - other.x) ** 2 + (item.y - other.y) ** 2 > (item.radius + other.radius) ** 2


def nearest(colour):
    return min(COLOURS | BACKGROUNDS, key=lambda name: np.square((COLOURS | BACKGROUNDS)[name] - colour).sum())


def test_measured_colours_are_those_of_the_facts():
    for index in range(60):
        pixels, scene = shapes_picture(0, index, 64)
        for item in scene.items:
            x, y, reach = (round(64 * v) for v in (item.x, item.y, item.radius / 4))
            assert nearest(np.median(pixels[y - reach : y + reach, x - reach : x + reach], axis=(0, 1))) == item.colour
        corner = np.median(np.concatenate([pixels[0], pixels[-1]]), axis=0)
        assert nearest(corner) == scene.background


@pytest.mark.parametrize("size", [64, 160])
def test_boxes_and_key_points_lie_on_the_edges(size):
    for index in range(40):
        scene = plan(0, index)
        for k, item in enumerate(scene.items):
            alone = replace(scene, items=(replace(item, rgb=(255, 0, 0)),), background="black", ground=(0, 0, 0))
            red = _red(alone, size)
            rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
            x, y, width, height = (size * length for length in bounds(item))
            seen = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
            assert np.abs(np.array((x, y, width, height)) - seen).max() < 0.02 * size + 1.5
            points = keypoints(scene)[5 * k : 5 * k + 5]
            assert [p[:2] for p in points[1:]] == list(extremes(item))
            for px, py, visible in points:
                assert visible == 1
                row, column = int(size * py), int(size * px)
                near = red[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
                assert near.any()


def _red(scene, size):
    return paint(scene, Draws(0, 0, use=1), size)[:, :, 0] > 100


def test_key_points_of_what_is_not_there():
    for scene in SCENES[:20]:
        points = keypoints(scene)
        assert len(points) == KEYPOINTS
        assert all(point == (0.0, 0.0, 0) for point in points[5 * len(scene.items) :])
        assert [point[2] for point in points].count(1) == 5 * len(scene.items)


def test_captions_parse_back_to_the_facts():
    words = set()
    for index, scene in enumerate(SCENES):
        said, whole = captions(scene, 0, index), facts(scene)
        assert len(set(said)) == len(said) == CAPTIONS
        assert parse(said[0]) == whole
        for caption in said:
            read = parse(caption)
            assert read.true_of(whole)
            assert {shape[:2] for shape in read.shapes} == {shape[:2] for shape in whole.shapes}
            assert (read.relations, read.place) == (whole.relations, whole.place)
            words |= set(re.findall("[a-z]+", caption))
        other = facts(SCENES[index - 1])
        assert not parse(said[0]).true_of(other) or whole == other
    assert {"tiny", "huge", "disc", "violet", "teal", "beneath", "grey", "gray"} <= words
    assert "an orange" in " ".join(captions(plan(0, 0), 0, 0))


def test_parse_of_other_sentences():
    assert parse("A big  RED circle.") == Facts(frozenset({("circle", "red", "large")}), frozenset(), "", "")
    under = parse("below a blue star is a tiny teal box")
    assert under.relations == {("star", "above", "square")}
    assert under.shapes == {("star", "blue", ""), ("square", "turquoise", "small")}
    three = parse("a red star left of a pink heart, and a small green cross above the star on white")
    assert three.relations == {("star", "left of", "heart"), ("cross", "above", "star")}
    assert three.background == "white"
    assert parse("nothing of this") == Facts(frozenset(), frozenset(), "", "")


def test_pictures_agree_with_their_captions_and_not_with_others():
    own, other, turned = [], [], []
    for index in range(120):
        pixels, scene = shapes_picture(0, index, 64)
        whole = facts(scene)
        found = agreement(pixels, whole)
        assert found.keys() >= {"all", "colour", "kind", "size", "relation", "background"}
        own.append(found["all"])
        other.append(agreement(pixels, facts(SCENES[index + 1]))["colour"])
        if whole.relations:
            swapped = frozenset((b, relation, a) for a, relation, b in whole.relations)
            turned.append(agreement(pixels, replace(whole, relations=swapped))["relation"])
    assert np.mean(own) > 0.97
    assert np.mean(other) < 0.4
    assert np.mean(turned) < 0.02


@pytest.mark.parametrize("what", ["kind", "size", "background", "place"])
def test_agreement_sees_what_is_wrong(what):
    wrong = []
    for index in range(60):
        pixels, scene = shapes_picture(0, index, 64)
        whole = facts(scene)
        if what == "background":
            said = replace(whole, background="white" if whole.background != "white" else "black")
        elif what == "place":
            if not whole.place:
                continue
            said = replace(whole, place="left" if whole.place != "left" else "top right")
        else:
            turn = {"small": "large", "large": "small"}
            shapes = [
                (KINDS[KINDS.index(k) - 1], c, s) if what == "kind" else (k, c, turn[s]) for k, c, s in whole.shapes
            ]
            said = replace(whole, shapes=frozenset(shapes))
        wrong.append(agreement(pixels, said)["relation" if what == "place" else what])
    assert np.mean(wrong) < 0.03


def test_agreement_of_a_picture_of_nothing():
    said = facts(SCENES[0])
    grey = np.full((64, 64, 3), 132, dtype=np.uint8)
    assert agreement(grey, replace(said, background="grey"))["background"] == 1
    assert agreement(grey, said)["colour"] == agreement(grey, said)["relation"] == agreement(grey, said)["all"] == 0


def test_the_same_at_every_size():
    small = np.stack([shapes_picture(0, i, 64)[0] for i in range(12)]).astype(np.float32)
    large = [Image.fromarray(shapes_picture(0, i, 192)[0]).resize((64, 64), Image.Resampling.BOX) for i in range(12)]
    shrunk = np.stack([np.asarray(image) for image in large]).astype(np.float32)
    own = np.abs(small - shrunk).mean(axis=(1, 2, 3))
    other = np.abs(small - np.roll(shrunk, 1, axis=0)).mean(axis=(1, 2, 3))
    assert own.max() < 3
    assert (own < 0.25 * other).all()


def test_too_small():
    with pytest.raises(ValueError, match="at least 2 pixels"):
        shapes_picture(0, 0, 1)
    assert shapes_picture(0, 0, 2)[0].shape == (2, 2, 3)


def test_name():
    assert shapes_name(3) == "shapes_00003"
