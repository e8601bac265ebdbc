"""The networks of BiGAN between two domains of pictures, and those of ALI between pictures of 32 pixels and noise.

A generator is a pair of nets, each the other's way back. The discriminator of two domains is a `nets.PatchD` of as many
channels as both have together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygan.nets import ResNet
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Mode, NormAct

ALI_SIZE = 32  # pixels
_LEAK = 0.1  # slope of ALI's leaky ReLUs
_PIECES = 2  # of its maxout


class Generators(nn.Module):
    """Two residual generators: AtoB is G, BtoA is E. Height and width: multiples of `multiple`, at least `least`."""

    def __init__(self, AtoB: ResNet, BtoA: ResNet) -> None:
        super().__init__()
        self.AtoB, self.BtoA = AtoB, BtoA
        self.multiple, self.least = AtoB.multiple, AtoB.least


class Encoder(nn.Module):
    """ALI's inference network: x (n, c, 32, 32) in [-1, 1] -> mean and log sigma of q(z|x), each (n, z_dim).

    32 -> 28 -> 13 -> 10 -> 4 -> 1 pixels, unpadded.
    """

    def __init__(self, channels: int, z_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        c = channels
        for kernel, stride, c_next in ((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512), (1, 1, 512)):
            conv = Conv(c, c_next, kernel=kernel, stride=stride, bias=False)
            self.blocks.append(ConvNormAct(conv, _leaky(c_next)))
            c = c_next
        self.head = Conv(c, 2 * z_dim, kernel=1)

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> tuple[Tensor, Tensor]:
        h = (x + 1) / 2  # the source's pictures are in [0, 1]
        for block in self.blocks:
            h = block(h, mode)
        mean, log_sigma = self.head(h).to(x.dtype).flatten(1).chunk(2, dim=1)
        return mean, log_sigma


class Decoder(nn.Module):
    """ALI's generator: z (n, z_dim) -> (n, c, 32, 32) in [-1, 1]. 1 -> 4 -> 10 -> 13 -> 28 -> 32 pixels, unpadded.

    The last bias is one value per channel and pixel.
    """

    def __init__(self, channels: int, z_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        c = z_dim
        for kernel, stride, c_next in ((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), (1, 1, 32)):
            conv = Deconv(c, c_next, kernel=kernel, stride=stride, padding=0, bias=False)
            self.blocks.append(ConvNormAct(conv, _leaky(c_next)))
            c = c_next
        self.head = Conv(c, channels, kernel=1, bias=False)
        self.pixel_bias = nn.Parameter(torch.zeros(channels, ALI_SIZE, ALI_SIZE))

    def forward(self, z: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = z.view(*z.shape, 1, 1)
        for block in self.blocks:
            h = block(h, mode)
        # the source's sigmoid s, in [0, 1], as 2 s - 1
        return torch.tanh((self.head(h).to(z.dtype) + self.pixel_bias) / 2)


class AliGenerators(nn.Module):
    """ALI's decoder z -> x and encoder x -> z. `multiple`: pictures have that height and width, no other."""

    multiple = ALI_SIZE

    def __init__(self, channels: int, z_dim: int) -> None:
        super().__init__()
        self.decoder = Decoder(channels, z_dim)
        self.encoder = Encoder(channels, z_dim)


class Maxout(nn.Module):
    """Dropout, convolution (with `bias`), and the larger one of each two neighbouring channels: c_next / 2 are left."""

    def __init__(
        self, c: int, c_next: int, *, kernel: int = 1, stride: int = 1, bias: bool, dropout_p: float, rng_stream: int
    ) -> None:
        super().__init__()
        self.drop = NormAct(c, norm="none", act="none", dropout_p=dropout_p, rng_stream=rng_stream)
        self.conv = Conv(c, c_next, kernel=kernel, stride=stride, bias=bias)

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = self.conv(self.drop(x, mode))
        return torch.maximum(h[:, 0::_PIECES], h[:, 1::_PIECES]).contiguous(memory_format=torch.channels_last)


class AliD(nn.Module):
    """ALI's discriminator of pairs x (n, c, 32, 32) in [-1, 1] and z (n, z_dim): logits (n, 1, 1, 1).

    x and z pass layers of their own, then joint ones. dropout_in: part of x and z that is dropped, dropout_p: of what
    every other convolution reads; mode.rng None switches both off. No norm.
    """

    def __init__(self, channels: int, z_dim: int, *, dropout_in: float = 0.2, dropout_p: float = 0.5) -> None:
        super().__init__()
        of_x = ((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512))
        self.see_x, self.see_z, self.judge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        c = channels
        for i, (kernel, stride, c_next) in enumerate(of_x):
            p = dropout_p if i else dropout_in
            shape = {"kernel": kernel, "stride": stride, "bias": i == 0}
            self.see_x.append(Maxout(c, c_next, dropout_p=p, rng_stream=1 + i, **shape))
            c = c_next // _PIECES
        c_z = z_dim
        for i, p in enumerate((dropout_in, dropout_p)):
            self.see_z.append(Maxout(c_z, 512, bias=False, dropout_p=p, rng_stream=16 + i))
            c_z = 512 // _PIECES
        c += c_z
        for i in range(2):
            self.judge.append(Maxout(c, 1024, bias=True, dropout_p=dropout_p, rng_stream=32 + i))
            c = 1024 // _PIECES
        self.drop = NormAct(c, norm="none", act="none", dropout_p=dropout_p, rng_stream=34)
        self.head = Conv(c, 1, kernel=1)

    def forward(self, x: Tensor, z: Tensor, mode: Mode = TRAIN) -> Tensor:
        h, h_z = (x + 1) / 2, z.view(*z.shape, 1, 1)
        for block in self.see_x:
            h = block(h, mode)
        for block in self.see_z:
            h_z = block(h_z, mode)
        h = torch.cat((h, h_z), dim=1)  # (n, 512, 1, 1)
        for block in self.judge:
            h = block(h, mode)
        return self.head(self.drop(h, mode))


def _leaky(channels: int) -> NormAct:
    return NormAct(channels, norm="batch", act="leaky_relu", slope=_LEAK, bn="ali")
