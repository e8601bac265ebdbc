"""LPIPS: how different two pictures look (Zhang et al., CVPR 2018, equation 1)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan.errors import UserError
from pygan.features.kind import Perceptual, digest, weights
from pygan.features.network import Network

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS 0.1, of pictures in [-1, 1]
_SMALL, _ENLARGED = 32, 64  # pixels: AlexNet sees nothing of less than 32
_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}  # as torchvision names them
_NAMES = {"alex": "AlexNet", "vgg": "VGG-16"}


def load(backbone: str, file: Path | None, device: torch.device) -> Perceptual:
    """LPIPS 0.1 by "alex" or "vgg". file: torchvision's weights of the backbone; None: where torch keeps them.

    Pictures with a side below 32 pixels are enlarged to 64 at least. Errors: UserError.
    """
    path = file or Path(torch.hub.get_dir()) / "checkpoints" / _FILES[backbone]
    if not path.is_file():
        raise UserError(
            f"the weights of {_NAMES[backbone]} are not at {path}; torchvision's {_FILES[backbone]} belongs "
            f"there, or name its place: --lpips {backbone}:FILE (or give a network of your own: --lpips FILE)"
        )
    net = _Backbone(backbone)
    state = weights(path, f"torchvision's {_FILES[backbone]}")
    linear = _linear(backbone)
    try:
        net.layers.load_state_dict(
            {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        )
    except RuntimeError as error:
        raise UserError(f"{path} are not torchvision's weights of {_NAMES[backbone]} ({_FILES[backbone]})") from error
    net = net.requires_grad_(False).eval().to(device)
    linear = [w.to(device) for w in linear]

    def compute(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(net(a.to(device)), net(b.to(device)), linear, strict=True)
        return sum((_apart(x, y) * w).sum(dim=1).mean(dim=(1, 2)) for x, y, w in pairs)

    facts = {"kind": f"LPIPS 0.1, {_NAMES[backbone]}", "file": str(path), "sha256": digest(path)}
    return Perceptual(f"LPIPS ({_NAMES[backbone]})", compute, facts)


def of_network(net: Network) -> Perceptual:
    """The distance by any network: its output maps (n, c, ...) with length 1 over c, the squared difference summed over
    c, the mean over places, the sum over outputs. That is LPIPS without a learned weight, and is named so.
    """

    def compute(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(net(a), net(b), strict=True)
        return sum(_apart(x.float(), y.float()).sum(dim=1).reshape(len(a), -1).mean(dim=1) for x, y in pairs)

    facts = net.facts | {"note": "distance of the features of a network given by the user, not LPIPS"}
    return Perceptual(f"{net.name} ({net.sha256})", compute, facts, "feature_distance")


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """The squared difference of maps (n, c, ...) that have length 1 over c."""
    x, y = ((z / (z.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()) for z in (x, y))
    return (x - y).square()


def _linear(backbone: str) -> list[Tensor]:
    """The learned weights (1, c, 1, 1) of each map, which torchmetrics carries. Errors: UserError."""
    spec = importlib.util.find_spec("torchmetrics")
    if spec is None:
        raise UserError(
            "LPIPS needs torchmetrics, which carries its linear layer: pip install '.[metrics]' in pygan's checkout"
        )
    path = Path(spec.submodule_search_locations[0]) / "functional" / "image" / "lpips_models" / f"{backbone}.pth"
    if not path.is_file():
        raise UserError(f"this torchmetrics does not carry {path.name}; pip install -U torchmetrics")
    state = weights(path, "that of torchmetrics")
    return [state[f"lin{k}.model.1.weight"] for k in range(5)]


class _Backbone(nn.Module):
    """The convolutions of AlexNet or VGG-16, numbered as torchvision does, up to the last map that LPIPS looks at.

    (n, 3, h, w) in [-1, 1] -> the five maps (n, c, h', w').
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_alex() if name == "alex" else _vgg()))
        self.taps = (1, 4, 7, 9, 11) if name == "alex" else (3, 8, 15, 22, 29)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        if min(images.shape[2:]) < _SMALL:
            factor = _ENLARGED / min(images.shape[2:])
            images = F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
        x, maps = (images - self.shift) / self.scale, []
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k in self.taps:
                maps.append(x)
        return maps


def _alex() -> list[nn.Module]:
    pool = (nn.MaxPool2d(kernel_size=3, stride=2),)
    first = nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2)
    second = nn.Conv2d(64, 192, kernel_size=5, padding=2)
    rest = [nn.Conv2d(i, o, kernel_size=3, padding=1) for i, o in ((192, 384), (384, 256), (256, 256))]
    return [first, nn.ReLU(), *pool, second, nn.ReLU(), *pool, *(m for c in rest for m in (c, nn.ReLU()))]


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for width, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(times):
            layers += [nn.Conv2d(before, width, kernel_size=3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return layers[:-1]
