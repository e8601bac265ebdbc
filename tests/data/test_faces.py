"""The faces: the same for everyone and at every size, and every attribute is to be seen where it should be."""

import zlib

import numpy as np
import pytest
from PIL import Image

from pygan.data.faces import ATTRIBUTES, HAIR, HAIR_COLOURS, draw_attributes, face_name, face_picture

GOLDEN = 0xF98FEA55  # CRC-32 of face 7 of set 3 at 48 pixels
PLAIN = dict.fromkeys(ATTRIBUTES, 0) | {"Brown_Hair": 1, "Young": 1}


def draw(index, size=64, **changes):
    assert changes.keys() <= PLAIN.keys()
    return face_picture(0, index, size, list((PLAIN | changes).values()))[0].astype(np.float32)


def test_same_face_for_everyone():
    pixels, label = face_picture(3, 7, 48)
    assert pixels.shape == (48, 48, 3)
    assert pixels.dtype == label.dtype == np.uint8
    assert np.array_equal(label, draw_attributes(3, 7))
    # Fixed for good: a change here changes every result measured on the built-in set.
    assert zlib.crc32(pixels.tobytes() + label.tobytes()) == GOLDEN


def test_labels():
    labels = np.stack([draw_attributes(0, i) for i in range(600)])
    share = dict(zip(ATTRIBUTES, labels.mean(axis=0), strict=True))
    assert (labels[:, :3].sum(axis=1) == 1).all()
    assert list(ATTRIBUTES[:3]) == list(HAIR)
    assert all(0.15 < part < 0.7 for part in share.values()), share
    assert not (labels[:, ATTRIBUTES.index("Mustache")] > labels[:, ATTRIBUTES.index("Male")]).any()
    assert len({label.tobytes() for label in labels}) > 80


def test_attributes_of_ones_own():
    own = draw_attributes(0, 5)
    assert np.array_equal(face_picture(0, 5, 32)[0], face_picture(0, 5, 32, own.tolist())[0])
    other = face_picture(0, 5, 32, list(PLAIN.values()))
    assert other[1].tolist() == list(PLAIN.values())
    for wrong in ([1] * 3, [2] + [0] * 8):
        with pytest.raises(ValueError, match="attributes must be 9 numbers"):
            face_picture(0, 5, 32, wrong)
    for wrong in ([0] * 9, [1, 1] + [0] * 7):
        with pytest.raises(ValueError, match="exactly one of Black_Hair"):
            face_picture(0, 5, 32, wrong)


@pytest.mark.parametrize("hat", [0, 1])
@pytest.mark.parametrize("male", [0, 1])
def test_hair_has_the_colour_of_its_label(male, hat):
    for index in range(8):
        how = {"Male": male, "Wearing_Hat": hat}
        drawn = {name: draw(index, **how, **(dict.fromkeys(HAIR, 0) | {name: 1})) for name in HAIR}
        moved = np.abs(drawn["Black_Hair"] - drawn["Blond_Hair"]).sum(axis=2)
        hair = moved > 0.7 * moved.max()  # where only the colour of the hair can make it
        assert hair.sum() > 20
        for name, pixels in drawn.items():
            seen = np.median(pixels[hair], axis=0)
            nearest = min(HAIR, key=lambda other: np.abs(seen - HAIR_COLOURS[other]).sum())
            assert nearest == name


WHERE = {  # rows of the picture, in 64ths, that an attribute may change
    "Eyeglasses": (22, 46), "Mustache": (36, 52), "Smiling": (22, 62), "Wearing_Hat": (0, 36), "Young": (14, 64),
}  # fmt: skip


@pytest.mark.parametrize("name", WHERE)
def test_an_attribute_changes_what_it_means_and_nothing_else(name):
    top, bottom = WHERE[name]
    for index in range(12):
        base = {"Male": 1} if name == "Mustache" else {}
        change = np.abs(draw(index, **base) - draw(index, **(base | {name: 1 - PLAIN[name]}))).max(axis=2)
        assert change[:top].max(initial=0) == 0
        assert change[bottom:].max(initial=0) == 0
        assert change.max() > 20
        assert (change > 8).sum() > 8


def test_mens_hair_is_short():
    for index in range(8):
        change = np.abs(draw(index) - draw(index, Male=1)).max(axis=2)
        assert (change > 20).sum() > 300


def test_attributes_can_be_learned():
    """A linear probe on 24x24 pixels, trained on 500 faces, tells each attribute of 150 others."""
    faces = [face_picture(0, i, 24) for i in range(650)]
    pixels = np.stack([p.astype(np.float64).ravel() for p, _ in faces]) / 255 - 0.5
    labels = np.stack([label for _, label in faces]) * 2.0 - 1
    pixels = np.concatenate([pixels, np.ones((650, 1))], axis=1)
    train, test = pixels[:500], pixels[500:]
    weights = train.T @ np.linalg.solve(train @ train.T + 3 * np.eye(500), labels[:500])  # ridge regression
    right = ((test @ weights > 0) == (labels[500:] > 0)).mean(axis=0)
    usual = np.maximum((labels[500:] > 0).mean(axis=0), (labels[500:] < 0).mean(axis=0))
    assert (right > usual + 0.05).all(), dict(zip(ATTRIBUTES, right, strict=True))
    assert right.mean() > 0.85


def test_the_same_at_every_size():
    small = np.stack([face_picture(0, i, 64)[0] for i in range(8)]).astype(np.float32)
    large = [Image.fromarray(face_picture(0, i, 192)[0]).resize((64, 64), Image.Resampling.BOX) for i in range(8)]
    shrunk = np.stack([np.asarray(image) for image in large]).astype(np.float32)
    own = np.abs(small - shrunk).mean(axis=(1, 2, 3))
    other = np.abs(small - np.roll(shrunk, 1, axis=0)).mean(axis=(1, 2, 3))
    assert own.max() < 4
    assert (own < 0.25 * other).all()


def test_the_square_of_a_tall_picture_is_the_square_picture():
    tall, square = face_picture(0, 3, (218, 178))[0].astype(int), face_picture(0, 3, 178)[0].astype(int)
    assert tall.shape == (218, 178, 3)
    difference = np.abs(tall[20:198] - square)[20:-20]
    assert np.median(difference) <= 4  # the grain, and the shades of the ground, are those of the whole picture
    assert (difference > 60).mean() < 0.01


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (2, 2)])
def test_any_shape(size):
    assert face_picture(1, 2, size)[0].shape == (*size, 3)


def test_name():
    assert face_name(0) == "000001"
