"""The networks of StarGAN: one generator for all domains, and a discriminator that also tells the domain."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pygan.nets.recompute import run
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Mode, NormAct

SLOPE = 0.01  # of LeakyReLU in D, below 0


class ResBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))): convolutions 3x3 padded with zeros; nothing is activated after the sum."""

    def __init__(self, first: ConvNormAct, second: ConvNormAct) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> Tensor:
        return self.second(self.first(x, mode), mode, residual=x)


class Generator(nn.Module):
    """An image (n, channels, h, w) and the label to give it (n, labels) -> image (n, channels, h, w) in [-1, 1].

    Choi et al. 2018, table 4. The label enters as planes of one value each beside the image. Every padding is of zeros:
    under a reflected border a plane would be constant after the first convolution, and the norm would take it away. The
    norm is InstanceNorm with scale and shift, of each image's own statistics always. h and w must be multiples of
    `multiple`. recompute: see `nets.recompute`.
    """

    multiple = 4
    recompute = False

    def __init__(self, channels: int, labels: int, *, ngf: int = 64, blocks: int = 6) -> None:
        super().__init__()

        def layer(conv: nn.Module, act: str = "relu") -> ConvNormAct:
            return ConvNormAct(conv, NormAct(conv.out_channels, norm="instance", act=act, in_affine=True))

        def block() -> ResBlock:
            first, second = (Conv(4 * ngf, 4 * ngf, kernel=3, padding=1, bias=False) for _ in range(2))
            return ResBlock(layer(first), layer(second, act="none"))

        self.stem = layer(Conv(channels + labels, ngf, kernel=7, padding=3, bias=False))
        self.down_1 = layer(Conv(ngf, 2 * ngf, kernel=4, stride=2, padding=1, bias=False))
        self.down_2 = layer(Conv(2 * ngf, 4 * ngf, kernel=4, stride=2, padding=1, bias=False))
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.up_1 = layer(Deconv(4 * ngf, 2 * ngf, bias=False))
        self.up_2 = layer(Deconv(2 * ngf, ngf, bias=False))
        self.head = Conv(ngf, channels, kernel=7, padding=3, bias=False)

    def forward(self, image: Tensor, label: Tensor, mode: Mode = TRAIN) -> Tensor:
        n, _, height, width = image.shape
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"height and width must be multiples of {self.multiple}, got {height}x{width}")
        planes = label.to(image.dtype).view(n, -1, 1, 1).expand(-1, -1, height, width)
        both = torch.cat((image, planes), dim=1)  # (n, channels + labels, h, w)
        act = partial(run, self.recompute, mode=mode)
        h = act(self.stem, both.contiguous(memory_format=torch.channels_last))  # (n, ngf, h, w)
        h = act(self.down_2, act(self.down_1, h))  # (n, 4 ngf, h/4, w/4)
        for block in self.blocks:
            h = act(block, h)
        h = act(self.up_2, act(self.up_1, h))  # (n, ngf, h, w)
        return self.head.image(h, tanh=True, dtype=image.dtype)


class Discriminator(nn.Module):
    """An image (n, channels, size, size) -> (source (n, 1, h', w'), logits of its labels (n, classes)), real up.

    Choi et al. 2018, table 5: convolutions of stride 2 without any norm, then two heads. h' = w' = size / 2^layers.
    """

    def __init__(self, channels: int, classes: int, *, size: int, ndf: int = 64, layers: int = 6) -> None:
        super().__init__()
        self.trunk = nn.ModuleList()
        c = channels
        for i in range(layers):
            c_next = ndf * 2**i
            conv = Conv(c, c_next, kernel=4, stride=2, padding=1)
            self.trunk.append(ConvNormAct(conv, NormAct(c_next, norm="none", act="leaky_relu", slope=SLOPE)))
            c = c_next
        self.source = Conv(c, 1, kernel=3, padding=1, bias=False)
        self.classify = Conv(c, classes, kernel=size >> layers, bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(image)
        return self.source(h), self.classes(h)

    def features(self, image: Tensor) -> Tensor:
        """What both heads look at: (n, c, h', w')."""
        for layer in self.trunk:
            image = layer(image)
        return image

    def classes(self, features: Tensor) -> Tensor:
        """Logits of the labels, (n, classes), in at least float32."""
        logits = self.classify(features).flatten(1)
        return logits if logits.dtype == torch.float64 else logits.float()

    def input_gradient(self, image: Tensor) -> Tensor:
        """The gradient of the sum of the source map by the image, (n, channels, size, size), taken as its own forward.

        The net is linear wherever no activation changes sign: its gradient is the product of the transposed
        convolutions and of the slopes, and these do not move with weights or image. So one ordinary backward pass
        through this chain differentiates the gradient by the weights; a second derivative by autograd would also walk
        the forward pass once more, with gradients that are all 0.
        """
        maps = [image]
        with torch.no_grad():
            for layer in self.trunk:
                maps.append(layer(maps[-1]))
        last = maps[-1]
        one = last.new_ones((1, 1, *last.shape[2:]))  # of the source map, for every image the same
        gradient = self.source.adjoint(one, last.shape[2:]).expand_as(last)
        for layer, before, after in zip(reversed(self.trunk), reversed(maps[:-1]), reversed(maps[1:]), strict=True):
            # An activated value has the sign of what it was made of.
            through = torch.ops.aten.leaky_relu_backward(gradient, after, SLOPE, self_is_result=True)
            gradient = layer.conv.adjoint(through, before.shape[2:])
        return gradient
