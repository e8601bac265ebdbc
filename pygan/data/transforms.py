"""Inputs made from the target itself, so that one folder of pictures is enough: edges, grey, lightness, a hole."""

from __future__ import annotations

import numpy as np
import torch

from pygan.errors import UserError

TRANSFORMS = ("none", "canny", "grey", "lab", "mask")
NATURAL_CHANNELS = {"none": (3, 3), "canny": (1, 3), "grey": (1, 3), "lab": (1, 2), "mask": (3, 3)}
"""(channels of A, channels of B) that each transform gives by itself."""


def grey(rgb: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (h, w, 1): 0.299 R + 0.587 G + 0.114 B, rounded."""
    weighted = rgb.astype(np.uint32) @ np.array((299, 587, 114), dtype=np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint8)[:, :, None]


def canny(rgb: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (h, w, 1): Canny edges of the grey picture, thresholds 128/128, black on white."""
    return 255 - _cv2().Canny(grey(rgb)[:, :, 0], 128, 128)[:, :, None]


def lab(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 sRGB (h, w, 3) -> (uint8 (h, w, 1), uint8 (h, w, 2)) that normalise to A = L/50 - 1 and B = (a, b)/110.

    CIE 1976 L*a*b* under D65; sRGB reaches |a|, |b| <= 108, so B stays in [-1, 1]. Stored in steps of 1/127.5 like
    every other picture: 0.4 units of L and 0.9 of a and b.
    """
    values = _cv2().cvtColor(rgb.astype(np.float32) / 255, _cv2().COLOR_RGB2Lab)
    lightness = np.rint(values[:, :, :1] * 2.55)  # L in 0..100
    colour = np.rint((values[:, :, 1:] / 110 + 1) * 127.5)
    return np.clip(lightness, 0, 255).astype(np.uint8), np.clip(colour, 0, 255).astype(np.uint8)


def split(rgb: np.ndarray, transform: str) -> tuple[np.ndarray, np.ndarray]:
    """(A, B) of one picture, uint8 with NATURAL_CHANNELS[transform] channels.

    "mask" gives the picture twice: its hole is in the middle of the crop, so the feed cuts it after cropping.
    """
    if transform == "canny":
        return canny(rgb), rgb
    if transform == "grey":
        return grey(rgb), rgb
    if transform == "lab":
        return lab(rgb)
    return rgb, rgb


def cut_hole_(A: torch.Tensor) -> torch.Tensor:
    """Set the central half-size square of A (n, c, h, w) to 1.0 (white), in place: the input of inpainting."""
    height, width = A.shape[2:]
    top, left = height // 4, width // 4
    A[:, :, top : top + height // 2, left : left + width // 2] = 1.0
    return A


def lab_to_rgb(L: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
    """The way back from `lab`: L (n, 1, h, w) and ab (n, 2, h, w) in [-1, 1] -> sRGB (n, 3, h, w) in [-1, 1].

    CIE 15:2004 8.2.1 and IEC 61966-2-1, D65; colours outside sRGB are clipped.
    """
    lightness = ((L.float() + 1) * 50 + 16) / 116
    a, b = (ab.float() * 110).unbind(dim=1)
    y = lightness[:, 0]
    xyz = []
    for f, white in zip((y + a / 500, y, y - b / 200), (0.950456, 1.0, 1.088754), strict=True):
        xyz.append(white * torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))
    to_linear = torch.tensor(
        [(3.240479, -1.537150, -0.498535), (-0.969256, 1.875991, 0.041556), (0.055648, -0.204043, 1.057311)],
        device=L.device,
    )
    linear = torch.einsum("ij,njhw->nihw", to_linear, torch.stack(xyz, dim=1)).clamp(0, 1)
    encoded = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055)
    return encoded * 2 - 1


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (h, w, 1 or 3) with 1 or 3 channels: grey is repeated, colour becomes grey; C-contiguous."""
    if pixels.shape[2] == channels:
        return np.ascontiguousarray(pixels)
    return grey(pixels) if channels == 1 else np.repeat(pixels, channels, axis=2)


def _cv2():
    try:
        import cv2  # heavy, and only Canny and Lab need it
    except ImportError:
        raise UserError("the canny and lab input transforms need OpenCV: pip install opencv-python-headless") from None
    return cv2
