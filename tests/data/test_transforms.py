"""Inputs made from the target, by the formulas of the specification."""

import numpy as np
import pytest
import torch

from pygan.data import transforms
from pygan.data.feeds import normalise


@pytest.fixture
def rgb():
    y, x = np.mgrid[:32, :32]
    pixels = np.stack([x * 8, y * 8, (x + y) * 4], axis=2).astype(np.uint8)
    pixels[8:20, 10:24] = (250, 240, 30)
    return pixels


def test_grey(rgb):
    exact = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(transforms.grey(rgb)[:, :, 0] - exact).max() <= 0.5 + 1e-9


def test_canny_is_black_edges_on_white(rgb):
    cv2 = pytest.importorskip("cv2")
    edges = transforms.canny(rgb)
    assert edges.shape == (32, 32, 1)
    assert set(np.unique(edges)) == {0, 255}
    assert (edges == 255).mean() > 0.7
    assert (edges[6:22, 8:12] == 0).any()
    assert np.array_equal(edges[:, :, 0], 255 - cv2.Canny(transforms.grey(rgb)[:, :, 0], 128, 128))


def test_lab_known_colours():
    pytest.importorskip("cv2")
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    A, B = (normalise(torch.from_numpy(side)[None])[0] for side in transforms.lab(colours))
    lab = [(100, 0, 0), (0, 0, 0), (53.24, 80.09, 67.20), (32.30, 79.19, -107.86)]
    for i, (lightness, a, b) in enumerate(lab):
        assert A[0, 0, i] == pytest.approx(lightness / 50 - 1, abs=0.006)
        assert B[:, 0, i].tolist() == pytest.approx([a / 110, b / 110], abs=0.006)


def test_lab_and_back(rgb):
    pytest.importorskip("cv2")
    L, ab = (normalise(torch.from_numpy(side)[None]) for side in transforms.lab(rgb))
    back = (transforms.lab_to_rgb(L, ab)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(back - rgb).mean() < 1.5
    assert np.abs(back - rgb).max() < 12


def test_hole():
    A = torch.zeros(2, 3, 32, 32)
    assert transforms.cut_hole_(A) is A
    assert (A[:, :, 8:24, 8:24] == 1).all()
    assert A.sum() == 2 * 3 * 16 * 16


def test_channels(rgb):
    assert np.array_equal(transforms.with_channels(rgb, 3), rgb)
    assert np.array_equal(transforms.with_channels(rgb, 1), transforms.grey(rgb))
    assert np.array_equal(transforms.with_channels(rgb[:, :, :1], 3), np.repeat(rgb[:, :, :1], 3, axis=2))
