"""The generator and the autoencoder of BEGAN (Berthelot et al. 2017, 3.5), without norms, as its known codes have them.

A decoder goes from a code (n, z) to a picture (n, c, size, size), the encoder back; as a discriminator, a picture is
judged by how far it is from what decoder and encoder make of it. `Shape` says which of them. Published differences are
switches: where an encoder halves, ELU behind dense layers, tanh, skips and vanishing residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pygan import ops
from pygan.nn import Conv, ConvNormAct, Linear, NormAct, UpsampleConv

FIRST = 8  # height and width of the smallest map
DOWNS = ("conv", "second", "pool")


@dataclass(frozen=True)
class Shape:
    """What a decoder, or an autoencoder, is made of.

    size: height and width of pictures, 8 times a power of two, at least 16; channels: of pictures; n: channels of a
    decoder's maps, an encoder's i-th resolution has i n; z_dim: length of a code.
    down: how an encoder halves: "conv", a third convolution of stride 2 in each resolution but the last; "second", the
    second one has the stride; "pool", a 1x1 convolution to the next width, not activated, and the mean of 2x2.
    pad: "right_bottom" or "symmetric", of the strided ones. dense_elu: ELU behind dense layers. tanh: pictures leave
    through it. skips: the decoder's first map stands, enlarged, beside what each upsampling enlarges. residuals:
    vanishing ones, see `Layer`.
    """

    size: int = 64
    channels: int = 3
    n: int = 128
    z_dim: int = 64
    down: str = "conv"
    pad: str = "right_bottom"
    dense_elu: bool = False
    tanh: bool = False
    skips: bool = False
    residuals: bool = False

    def __post_init__(self) -> None:
        times = self.size // FIRST
        if times < 2 or times & (times - 1) or self.size % FIRST:
            raise ValueError(f"size must be 16, 32, 64 or another doubling, got {self.size}")
        if self.down not in DOWNS:
            raise ValueError(f"down must be one of {', '.join(DOWNS)}, got {self.down!r}")

    @property
    def resolutions(self) -> int:
        """How many sizes maps have: 4 for pictures of 64 pixels."""
        return (self.size // FIRST).bit_length()


class Layer(ConvNormAct):
    """Convolution 3x3 and ELU: (n, c_in, h, w) -> (n, c_out, h', w').

    residual: of a layer whose output has the shape of its input (Berthelot et al. 2017, 3.5.1): carry x + (1 - carry)
    ELU(conv(x)), with a carry that falls from 1 to 0 in the first steps of training.
    """

    def __init__(self, conv: nn.Module, *, residual: bool = False) -> None:
        super().__init__(conv, NormAct(conv.out_channels, norm="none", act="elu"))
        self.residual = residual

    def forward(self, x: Tensor, carry: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        return torch.lerp(y, x.to(y.dtype), carry.to(y.dtype)) if self.residual else y


class _Dense(nn.Module):
    """A dense layer, with ELU where asked for: (n, features_in) -> (n, features_out)."""

    def __init__(self, features_in: int, features_out: int, *, elu: bool) -> None:
        super().__init__()
        self.linear = Linear(features_in, features_out)
        self.act = NormAct(features_out, norm="none", act="elu") if elu else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y if self.act is None else self.act(y[:, :, None, None])[:, :, 0, 0]


def _same(shape: Shape, c_in: int, c_out: int) -> Layer:
    """A layer that keeps height and width; with vanishing residuals where it keeps the channels too."""
    return Layer(Conv(c_in, c_out, kernel=3, padding=1), residual=shape.residuals and c_in == c_out)


class _Doubling(nn.Module):
    """A resolution of a decoder: two layers, the first of which reads the map before it nearest x2.

    That is one transposed convolution with a merged kernel (`UpsampleConv`): no enlarged map exists.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        n = shape.n
        self.first = Layer(UpsampleConv(2 * n if shape.skips else n, n))
        self.second = _same(shape, n, n)

    def forward(self, x: Tensor, skip: Tensor | None, carry: Tensor | None) -> Tensor:
        """x, skip: (n, c, h, w) -> (n, c, 2h, 2w)."""
        both = x if skip is None else torch.cat((x, skip.to(x.dtype)), dim=1)
        return self.second(self.first(both), carry)


class Decoder(nn.Module):
    """(n, z_dim) -> (n, channels, size, size): dense to n maps of 8x8, two layers at each resolution, a convolution.

    As a generator it is called with the code alone. `carry` (float32, 0-d) is there with vanishing residuals only: 1 at
    first, and whoever trains lowers it; an autoencoder hands down its own.
    """

    def __init__(self, shape: Shape, *, own_carry: bool = True) -> None:
        super().__init__()
        n = shape.n
        self.n, self.tanh, self.skips = n, shape.tanh, shape.skips
        self.register_buffer("carry", torch.ones(()) if shape.residuals and own_carry else None)
        self.dense = _Dense(shape.z_dim, n * FIRST * FIRST, elu=shape.dense_elu)
        self.first = nn.ModuleList(_same(shape, n, n) for _ in range(2))
        self.doublings = nn.ModuleList(_Doubling(shape) for _ in range(shape.resolutions - 1))
        self.head = Conv(n, shape.channels, kernel=3, padding=1)

    def forward(self, z: Tensor, carry: Tensor | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
        """dtype: of the picture, that of z unless given."""
        carry = self.carry if carry is None else carry
        h = self.dense(z).view(-1, self.n, FIRST, FIRST).contiguous(memory_format=torch.channels_last)
        skip = h if self.skips else None
        for layer in self.first:
            h = layer(h, carry)
        for i, doubling in enumerate(self.doublings):
            if self.skips and i > 0:
                skip = ops.upsample_concat(skip, None)  # as large as h, which the doubling enlarges with it
            h = doubling(h, skip, carry)
        return self.head.image(h, tanh=self.tanh, dtype=dtype or z.dtype)


class _Down(nn.Module):
    """A resolution of an encoder: (n, c_in, h, w) -> (n, width, h, w), then halved but at the last one."""

    def __init__(self, shape: Shape, c_in: int, width: int, *, last: bool) -> None:
        super().__init__()
        symmetric = {"padding": 1} if shape.pad == "symmetric" else {"pad": shape.pad}
        strided = None if last else Conv(width, width, kernel=3, stride=2, **symmetric)
        self.layers = nn.ModuleList([_same(shape, c_in, width)])
        self.widen = None
        if shape.down == "second":
            self.layers.append(_same(shape, width, width) if last else Layer(strided))
            return
        self.layers.append(_same(shape, width, width))
        if shape.down == "conv" and not last:
            self.layers.append(Layer(strided))
        elif shape.down == "pool" and not last:
            self.widen = Conv(width, width + shape.n, kernel=1)

    def forward(self, x: Tensor, carry: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, carry)
        return x if self.widen is None else nn.functional.avg_pool2d(self.widen(x), kernel_size=2)


class Encoder(nn.Module):
    """(n, channels, size, size) -> codes (n, z_dim): i n maps at the i-th resolution, down to 8x8, then dense."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        n, last = shape.n, shape.resolutions
        self.stem = Layer(Conv(shape.channels, n, kernel=3, padding=1))
        self.downs = nn.ModuleList()
        c = n
        for i in range(1, last + 1):
            self.downs.append(_Down(shape, c, i * n, last=i == last))
            c = (i + 1) * n if shape.down == "pool" else i * n
        self.dense = _Dense(last * n * FIRST * FIRST, shape.z_dim, elu=shape.dense_elu)

    def forward(self, image: Tensor, carry: Tensor | None = None) -> Tensor:
        h = self.stem(image.contiguous(memory_format=torch.channels_last))
        for down in self.downs:
            h = down(h, carry)
        return self.dense(h.contiguous().flatten(1))  # channels, rows, columns: the order of the weights


class Autoencoder(nn.Module):
    """A discriminator that paints again what it is shown: (n, channels, size, size) -> the same.

    `carry` as in `Decoder`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("carry", torch.ones(()) if shape.residuals else None)
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape, own_carry=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image), image.dtype)

    def encode(self, image: Tensor) -> Tensor:
        """Codes (n, z_dim), in the precision of the step."""
        return self.encoder(image, self.carry)

    def decode(self, code: Tensor, dtype: torch.dtype) -> Tensor:
        """Pictures (n, channels, size, size) in `dtype`."""
        return self.decoder(code, self.carry, dtype=dtype)


@torch.no_grad()
def fade_(net: Decoder | Autoencoder, rng: Tensor, steps: int) -> None:
    """Set the carry of a net with vanishing residuals: 1 at first, 0 after `steps` steps, in a straight line.

    rng: int64[2], whose offset counts the steps done (`State.rng`): a CUDA graph follows it, and so does a resumed run.
    """
    net.carry.copy_((1.0 - rng[1].double() / steps).clamp(min=0.0))
