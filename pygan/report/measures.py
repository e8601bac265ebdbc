"""What the names of measures mean to a reader: which way is better, what they are called."""

from __future__ import annotations

import re

_LOW = {"l1", "l2", "mse", "rmse", "fid", "kid", "lpips", "cycle", "m", "error", "distance", "swd", "mmd", "loss"}
_HIGH = {"psnr", "ssim", "correlation", "accuracy", "iou", "miou", "inception", "is", "precision", "recall", "coverage"}
_TITLES = {
    "l1": "L1 (grey levels)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "gradient_correlation": "edges (correlation)",
    "colour_l1": "colours (L1 of 8×8 blocks)",
    "fid": "FID",
    "kid": "KID",
    "lpips": "LPIPS",
    "M": "M (measure of convergence)",
}


def way(name: str) -> str:
    """Which is better for a measure of this name, "low" or "high"; "" if the name does not tell."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if words & _HIGH:
        return "high"
    return "low" if words & _LOW else ""


def title(name: str) -> str:
    """What a measure is called in a heading."""
    return _TITLES.get(name, name.replace("_", " "))


def head(name: str) -> str:
    """Title, and which way is better where that is known."""
    return title(name) + {"low": " ↓", "high": " ↑", "": ""}[way(name)]
