"""What a network sees in pictures: Inception's features, those of a user's network, or edges and colours without one.

`load` gives the features by which sets of pictures are compared, `lpips` a distance of two pictures. Nothing is ever
downloaded: what is missing is named, with where it comes from.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pygan.errors import UserError
from pygan.features.kind import RANGES, Features, Perceptual

__all__ = ["RANGES", "Features", "Perceptual", "load", "lpips"]


def load(spec: str, device: torch.device | str, *, size: int = 0, values: str = "signed") -> Features:
    """The features that `spec` names, on `device`.

    spec: "inception" (torch-fidelity's port of the FID network; its weights from the library's cache, or from the file
    of "inception:FILE"), the path of a TorchScript (.pt, .pth, .ts) or ONNX file, or "hog" (edges and colours, by
    OpenCV: no weights, for looking for similar pictures only). size: pixels, height and width that pictures are resized
    to for a network of the user's, 0: as its file says, else as they are; values: one of `RANGES`, what it expects.
    Errors: UserError, one line that says how to get what is missing.
    """
    name, _, file = spec.partition(":")
    if name == "inception":
        from pygan.features import inception

        return inception.load(Path(file) if file else None, torch.device(device))
    if spec == "hog":
        from pygan.features import hog

        return hog.load()
    from pygan.features import network

    return network.features(_existing(spec, "inception, inception:FILE, hog"), torch.device(device), size, values)


def lpips(spec: str, device: torch.device | str, *, size: int = 0, values: str = "signed") -> Perceptual:
    """The perceptual distance that `spec` names, on `device`.

    spec: "alex" or "vgg" (LPIPS 0.1; the backbone's weights from torch's cache, or from the file of "alex:FILE": that
    of torchvision; the linear layer is part of torchmetrics), or the path of a TorchScript or ONNX network, whose
    features are compared as they are. size, values: as in `load`. Errors: UserError, one line.
    """
    name, _, file = spec.partition(":")
    if name in ("alex", "vgg"):
        from pygan.features import perceptual

        return perceptual.load(name, Path(file) if file else None, torch.device(device))
    from pygan.features import network, perceptual

    path = _existing(spec, "alex, vgg, alex:FILE, vgg:FILE")
    return perceptual.of_network(network.Network(path, torch.device(device), size, values))


def _existing(spec: str, words: str) -> Path:
    path = Path(spec)
    if not path.is_file():
        raise UserError(f"{spec}: no such network; give {words}, or a TorchScript or ONNX file")
    return path
