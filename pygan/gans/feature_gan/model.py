"""The features that are to stay: VGG-16 up to relu4_2, whose weights come from a file and never move."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pygan import checkpoint
from pygan.errors import UserError
from pygan.nn import Conv

# (channels of a convolution's output, its number in torchvision's `features`, is a maximum pool behind it)
_LAYERS = (
    *((64, 0, False), (64, 2, True), (128, 5, False), (128, 7, True)),
    *((256, 10, False), (256, 12, False), (256, 14, True), (512, 17, False), (512, 19, False)),
)
# Of ImageNet's photographs, values in [0, 1], red, green, blue: what torchvision's weights were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MULTIPLE = 8  # three pools halve the size
HOW = (
    "the state dict of VGG-16 with torchvision's names, .pth or .safetensors "
    '(torch.save(torchvision.models.vgg16(weights="DEFAULT").state_dict(), FILE))'
)


class Vgg(nn.Module):
    """VGG-16 (Simonyan & Zisserman 2015, configuration D) up to relu4_2, on pictures of one size.

    image: (n, c, size_in, size_in) in [-1, 1], c 3, or 1 for three alike. It is resized to `size` x `size` (bilinear,
    no smoothing), normalised as ImageNet's photographs, and becomes (n, 512, size / 8, size / 8), >= 0.
    """

    def __init__(self, size_in: int, *, size: int = 224) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        c = 3
        for c_next, _, _ in _LAYERS:
            self.convs.append(Conv(c, c_next, kernel=3, padding=1))
            c = c_next
        # Resizing as a product from both sides: PyTorch's own has a gradient that adds in any order on a GPU. The rows
        # are what it makes of each pixel of a line alone.
        lines = torch.eye(size_in, dtype=torch.float64).unsqueeze(0)
        rows = F.interpolate(lines, size=size, mode="linear", align_corners=False)[0].T  # (size, size_in)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        # ((x + 1) / 2 - mean) / std = x scale + shift
        for name, values in {"rows": rows, "scale": 0.5 / std, "shift": (0.5 - mean) / std}.items():
            self.register_buffer(name, values.float().contiguous(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        h = self.rows @ image @ self.rows.T  # (n, c, size, size)
        h = (h * self.scale + self.shift).contiguous(memory_format=torch.channels_last)  # (n, 3, size, size)
        for conv, (_, _, pool) in zip(self.convs, _LAYERS, strict=True):
            h = F.relu(conv(h))
            if pool:
                h = _halved(h)
        return h


def _halved(x: Tensor) -> Tensor:
    """The largest of each 2x2, (n, c, h, w) channels_last -> (n, c, h/2, w/2) channels_last."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).view(n, h // 2, 2, w // 2, 2, c).amax(dim=(2, 4)).permute(0, 3, 1, 2)


@torch.no_grad()
def load_(vgg: Vgg, path: Path) -> None:
    """Fill `vgg` from a file. What the file has beside (later layers) is passed over.

    Errors: UserError, one line, for a file that is missing, unreadable, or not of VGG-16.
    """
    tensors = _read(path)
    for conv, (_, number, _) in zip(vgg.convs, _LAYERS, strict=True):
        for part, param in conv.named_parameters():
            name = f"features.{number}.{part}"
            found = tensors.get(name)
            if not isinstance(found, Tensor):
                raise UserError(f"--vgg-weights: {path} has no tensor {name}; expected is {HOW}")
            if found.shape != param.shape:
                got, expected = ("x".join(map(str, shape)) for shape in (found.shape, param.shape))
                raise UserError(f"--vgg-weights: {name} of {path} is {got}, that of VGG-16 is {expected}; take {HOW}")
            if not found.is_floating_point() or not found.isfinite().all():
                raise UserError(f"--vgg-weights: {name} of {path} has values that are no finite numbers; take {HOW}")
            param.copy_(found)


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file by name."""
    if not path.is_file():
        raise UserError(f"--vgg-weights: there is no file {path}; expected is {HOW}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = checkpoint.read_torch(path)
    except (checkpoint.Damaged, SafetensorError, pickle.UnpicklingError, OSError) as error:
        raise UserError(f"--vgg-weights: {path} cannot be read as tensors; expected is {HOW}") from error
    if not isinstance(tensors, Mapping):
        raise UserError(f"--vgg-weights: {path} holds a {type(tensors).__name__}, expected is {HOW}")
    return tensors
