"""The networks of SimGAN: a refiner that keeps the size of its picture, and a discriminator of its small patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan.nets.recompute import run
from pygan.nn import TRAIN, Conv, ConvNormAct, Mode, NormAct


def _conv(c_in: int, c_out: int, *, kernel: int, stride: int = 1) -> ConvNormAct:
    """A convolution that keeps the size but for its stride, and ReLU."""
    conv = Conv(c_in, c_out, kernel=kernel, stride=stride, padding=kernel // 2)
    return ConvNormAct(conv, NormAct(c_out, norm="none", act="relu"))


class Block(nn.Module):
    """relu(x + conv(relu(conv(x)))), 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv(channels, channels, kernel=3), _conv(channels, channels, kernel=3)

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> Tensor:
        return self.second(self.first(x, mode), mode, residual=x)


class Refiner(nn.Module):
    """The refiner (Shrivastava et al. 2017, 3.1): 3x3, residual blocks, 1x1; no norm. (n, c, h, w) -> the same.

    width: channels of every map between; blocks: 4 for their eyes, 10 for their hands. recompute: see
    `nets.recompute`.
    """

    multiple = 1
    recompute = False

    def __init__(self, channels: int, *, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.stem = _conv(channels, width, kernel=3)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = Conv(width, channels, kernel=1)

    def forward(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = run(self.recompute, self.stem, image.contiguous(memory_format=torch.channels_last), mode=mode)
        for block in self.blocks:
            h = run(self.recompute, block, h, mode=mode)
        return self.head.image(h, tanh=True, dtype=image.dtype)


class LocalD(nn.Module):
    """The discriminator (3.1, there with a softmax over {real, refined} at each place): a map of logits, real up.

    3x3 96 stride 2, 3x3 64 stride 2, 3x3 maximum of stride 1, 3x3 32, 1x1 32, 1x1 2. A logit is the difference of the
    two outputs, whose sigmoid is that softmax. (n, c, h, w) -> (n, 1, ceil(h / 4), ceil(w / 4)).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1 = _conv(channels, 96, kernel=3, stride=2)
        self.conv_2 = _conv(96, 64, kernel=3, stride=2)
        self.conv_3 = _conv(64, 32, kernel=3)
        self.conv_4 = _conv(32, 32, kernel=1)
        self.head = Conv(32, 2, kernel=1)

    def forward(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = self.conv_2(self.conv_1(image.contiguous(memory_format=torch.channels_last), mode), mode)
        real, refined = self.head(self.conv_4(self.conv_3(largest(h), mode), mode)).split(1, dim=1)
        return real - refined


def largest(x: Tensor) -> Tensor:
    """The largest of each 3x3 neighbourhood, (n, c, h, w) -> the same; x >= 0.

    As a maximum of shifted maps: the gradient of PyTorch's own overlapping maxima adds in any order on a GPU. Where
    several are largest they share the gradient; behind a ReLU that happens at 0, where there is none.
    """
    height, width = x.shape[2:]
    x = F.pad(x, (1, 1, 1, 1))  # beyond the edge 0, which no value is below
    rows = [x.narrow(2, k, height) for k in range(3)]
    x = torch.maximum(torch.maximum(rows[0], rows[1]), rows[2])
    columns = [x.narrow(3, k, width) for k in range(3)]
    return torch.maximum(torch.maximum(columns[0], columns[1]), columns[2])
