"""The canvas of the drawn sets: areas, edges, frames, and noise that does not depend on the size."""

import numpy as np
import pytest
from PIL import Image

from pygan.data.canvas import Canvas, clouds, ellipse, grain, polygon, rotation, sides, uniforms, wave
from pygan.data.facades import Draws


def area(draw, size=200):
    """Covered part of a unit square."""
    canvas = Canvas(size, size, unit=size)
    draw(canvas)
    return canvas.pixels[:, :, 0].mean() / 255


WHITE = (255, 255, 255)
SHAPES = {
    "ellipse": (lambda c: c.ellipse(0.5, 0.5, 0.4, 0.2, WHITE), np.pi * 0.08),
    "ellipses": (lambda c: c.ellipses([(0.25, 0.5, 0.2, 0.1), (0.75, 0.5, 0.1, 0.2)], WHITE), np.pi * 0.04),
    "discs": (lambda c: c.discs([(0.3, 0.3, 0.2), (0.7, 0.7, 0.1)], WHITE), np.pi * 0.05),
    "box": (lambda c: c.box(0.103, 0.2, 0.6, 0.7, WHITE), 0.497 * 0.5),
    "rounded": (lambda c: c.box(0.1, 0.2, 0.6, 0.7, WHITE, round_=0.1), 0.25 - (4 - np.pi) * 0.01),
    "triangle": (lambda c: c.polygons([((0.1, 0.9), (0.5, 0.1), (0.9, 0.9))], WHITE), 0.32),
    "stroke": (lambda c: c.strokes(((0.2, 0.5, 0.8, 0.5, 0.05),), WHITE), 0.06 + np.pi * 0.0025),
    "placed": (lambda c: c.placed(0.5, 0.5, 0.2, 0.3).box(-1, -0.5, 1, 0.5, WHITE), 0.08),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_areas(name):
    draw, expected = SHAPES[name]
    assert area(draw) == pytest.approx(expected, rel=0.01)
    assert area(draw, 40) == pytest.approx(expected, rel=0.04)  # edges are smooth, so few pixels do as well


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_outside_the_picture_nothing_happens(turn):
    canvas = Canvas(16, 24, unit=16).placed(0.0, 0.0, 1.0, turn)
    canvas.ellipse(-3, -3, 0.5, 0.5, WHITE)
    canvas.box(5, 5, 6, 6, WHITE)
    assert not canvas.pixels.any()


def test_placed_turns_clockwise_and_scales():
    canvas = Canvas(100, 100, unit=100)
    frame = canvas.placed(0.5, 0.5, 0.1, 0.5)
    c, s = rotation(0.5)
    assert (c, s) == (0.6, 0.8)
    assert frame.at(1, 0) == pytest.approx((56, 58))
    assert frame.placed(1, 0, 1.0).at(0, 1) == pytest.approx((48, 64))


def test_inside_confines_and_shade_darkens():
    canvas = Canvas(50, 50, unit=50)
    half = canvas.box(0, 0, 0.5, 1, (100, 100, 100))
    canvas.box(0.25, 0, 1, 1, WHITE, inside=half)
    assert canvas.pixels[25, 40].tolist() == [0, 0, 0]
    assert canvas.pixels[25, 18].tolist() == [255, 255, 255]
    canvas.box(0, 0, 0.2, 1, light=0.5)
    assert canvas.pixels[25, 4].tolist() == [50, 50, 50]


def test_signed_distances():
    x = np.array([[0.0, 1.0, 3.0]], dtype=np.float32)
    assert ellipse(x, np.zeros((1, 1), dtype=np.float32), 2.0, 2.0)[0] == pytest.approx([-2, -1, 1])
    flat = ellipse(x, np.zeros((1, 1), dtype=np.float32), 2.0, 0.5)[0]
    assert flat[0] < -0.4
    assert flat[2] > 0.4
    square = ((0, 0), (2, 0), (2, 2), (0, 2))
    assert polygon(x, np.ones((1, 1), dtype=np.float32), square)[0, 1:] == pytest.approx([-1, 1])
    notch = ((0, 0), (2, 2), (4, 0), (4, 4), (0, 4))
    assert polygon(x + 1, np.ones((1, 1), dtype=np.float32), notch)[0, 1] == pytest.approx(0.5**0.5)  # outside


def test_noise_is_the_same_at_every_size():
    large, small = (clouds(Draws(1, 2, use=3), 5, 7, n, n) for n in (128, 32))
    shrunk = np.asarray(Image.fromarray(large).resize((32, 32), Image.Resampling.BOX))
    assert np.abs(shrunk - small).max() < 0.08
    assert np.abs(large).max() <= 1
    assert np.abs(wave(Draws(1, 2, use=3), 9, np.linspace(-1, 2, 50, dtype=np.float32))).max() <= 1
    noise = grain(Draws(1, 2, use=3), 63, 65, 4.0)
    assert noise.shape == (63, 65)
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(4 / np.sqrt(6), rel=0.05)
    assert abs(uniforms(Draws(0, 0, use=0), 4000).mean()) < 0.05


def test_sides():
    assert sides(5) == (5, 5)
    assert sides((3, 4)) == (3, 4)
    with pytest.raises(ValueError, match="at least 2 pixels"):
        sides((1, 9))
