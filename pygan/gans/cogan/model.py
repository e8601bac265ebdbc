"""The networks of CoGAN: coupled generators z -> (A, B), coupled discriminators (A, B) -> logits, real up.

Two forms of each: one for squares of 32 to 256 pixels, and that of the paper's 28-pixel digits, of which the authors'
PyTorch code is the source.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Mode, NormAct

MNIST_SIZE = 28  # pixels


class PReLU(nn.Module):
    """max(x, 0) + slope min(x, 0) with one learned slope for all channels (He et al. 2015, "channel-shared").

    The slope begins at 0.25. Shape and type of x are kept.
    """

    BEGIN = 0.25

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((1,), self.BEGIN))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope.to(x.dtype))


class Generators(nn.Module):
    """z (n, z_dim) -> the pair of pictures (A, B), each (n, c, size, size) in [-1, 1], all but the heads shared.

    `multiple`: pictures have that height and width, no other.
    """

    def __init__(self, shared: nn.ModuleList, head_a: Deconv, head_b: Deconv, *, size: int) -> None:
        super().__init__()
        self.shared = shared
        self.head_a, self.head_b = head_a, head_b
        self.multiple = size

    def features(self, z: Tensor, mode: Mode = TRAIN) -> Tensor:
        """What both domains are painted from, (n, c, h, w)."""
        h = z.view(*z.shape, 1, 1)
        for block in self.shared:
            h = block(h, mode) if isinstance(block, ConvNormAct) else block(h)
        return h

    def paint(self, features: Tensor, domain: str, dtype: torch.dtype) -> Tensor:
        """The picture of one domain, "A" or "B"."""
        head = self.head_a if domain == "A" else self.head_b
        return head.image(features, tanh=True, dtype=dtype)

    def forward(self, z: Tensor, mode: Mode = TRAIN) -> tuple[Tensor, Tensor]:
        features = self.features(z, mode)
        return self.paint(features, "A", z.dtype), self.paint(features, "B", z.dtype)


class MnistGenerators(Generators):
    """The pair of 28-pixel pictures; the sigmoid of the source, s in [0, 1], becomes 2 s - 1 in [-1, 1]."""

    def paint(self, features: Tensor, domain: str, dtype: torch.dtype) -> Tensor:
        """The picture of one domain, "A" or "B": 2 sigmoid(x) - 1 = tanh(x / 2)."""
        head = self.head_a if domain == "A" else self.head_b
        return torch.tanh(head.image(features, tanh=False, dtype=dtype) / 2)


class Discriminators(nn.Module):
    """Pictures of A (n, c_a, h, w) and of B (n, c_b, h, w) -> logits (2n, 1, 1, 1), in each group A first, then B.

    mode.groups: the samples of A and of B are that many equal ranges, such as real and fake, which stay apart: with 2
    groups the logits are of real A, real B, fake A, fake B. Both domains of a group share batch statistics.
    """

    def __init__(self, enter_a: nn.Module, enter_b: nn.Module, shared: nn.ModuleList, head: Conv) -> None:
        super().__init__()
        self.enter_a, self.enter_b = enter_a, enter_b
        self.shared = shared
        self.head = head

    def enter(self, A: Tensor, B: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
        """Each domain through its own layer."""
        return self.enter_a(A, mode), self.enter_b(B, mode)

    def forward(self, A: Tensor, B: Tensor, mode: Mode = TRAIN) -> Tensor:
        a, b = self.enter(A, B, mode)
        parts = [part for both in zip(a.chunk(mode.groups), b.chunk(mode.groups), strict=True) for part in both]
        h = torch.cat(parts)
        for block in self.shared:
            h = block(h, mode) if isinstance(block, ConvNormAct) else block(h)
        return self.logits(h)

    def logits(self, h: Tensor) -> Tensor:
        """(2n, 1, 1, 1) from what the shared layers give."""
        return self.head(h)


class MnistDiscriminators(Discriminators):
    """The discriminators of 28-pixel pictures, which see [0, 1] as in the source.

    The two classes of the source, fake and real, are softmax(head): the log odds of real, which the logits here are,
    have its cross-entropy as their softplus loss.
    """

    def enter(self, A: Tensor, B: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
        """Each domain, from [-1, 1] to [0, 1], through its own layer."""
        return self.enter_a((A + 1) / 2), self.enter_b((B + 1) / 2)

    def logits(self, h: Tensor) -> Tensor:
        """(2n, 1, 1, 1) from what the shared layers give."""
        classes = self.head(h)  # (2n, 2, 1, 1)
        return classes[:, 1:] - classes[:, :1]


def generators(c_a: int, c_b: int, *, size: int, z_dim: int = 100, ngf: int = 64) -> Generators:
    """Deconvolutions 4x4 as in DCGAN (Radford et al. 2016): z to 4x4 pixels, doublings to size / 2, then the heads.

    ngf: channels in front of the heads; each layer before has twice as many, 8 ngf at most. size: 4 x a power of two.
    """
    widths = [ngf * min(8, 2**i) for i in range((size // 4).bit_length() - 1)][::-1]
    shared = nn.ModuleList()
    c = z_dim
    for i, c_next in enumerate(widths):
        shape = {"stride": 2, "padding": 1} if i else {"stride": 1, "padding": 0}
        conv = Deconv(c, c_next, kernel=4, bias=False, **shape)
        shared.append(ConvNormAct(conv, NormAct(c_next, norm="batch", act="relu")))
        c = c_next
    return Generators(shared, Deconv(c, c_a), Deconv(c, c_b), size=size)


def discriminators(c_a: int, c_b: int, *, size: int, ndf: int = 64) -> Discriminators:
    """Convolutions 4x4 of stride 2 as in DCGAN down to 4x4 pixels, then one logit; the first is each domain's own."""

    def down(c: int, c_next: int, norm: str) -> ConvNormAct:
        conv = Conv(c, c_next, kernel=4, stride=2, padding=1, bias=norm == "none")
        return ConvNormAct(conv, NormAct(c_next, norm=norm, act="leaky_relu"))

    widths = [ndf * min(8, 2**i) for i in range((size // 4).bit_length() - 1)]
    shared = nn.ModuleList(down(c, c_next, "batch") for c, c_next in itertools.pairwise(widths))
    head = Conv(widths[-1], 1, kernel=4)
    return Discriminators(down(c_a, ndf, "none"), down(c_b, ndf, "none"), shared, head)


def mnist_generators(c_a: int, c_b: int, *, z_dim: int = 100) -> Generators:
    """The authors' generators of 28-pixel pictures: 1 -> 4 -> 7 -> 13 -> 25 pixels, BatchNorm without scale, PReLU."""
    shared = nn.ModuleList()
    c = z_dim
    for c_next in (1024, 512, 256, 128):
        shape = {"kernel": 4, "stride": 1, "padding": 0} if c_next == 1024 else {"kernel": 3, "stride": 2, "padding": 1}
        norm_act = NormAct(c_next, norm="batch", act="none", bn_affine=False)
        shared += [ConvNormAct(Deconv(c, c_next, **shape), norm_act), PReLU()]
        c = c_next
    heads = (Deconv(c, channels, kernel=6, stride=1, padding=1) for channels in (c_a, c_b))  # 25 -> 28 pixels
    return MnistGenerators(shared, *heads, size=MNIST_SIZE)


def mnist_discriminators(c_a: int, c_b: int) -> Discriminators:
    """The authors' discriminators of 28-pixel pictures, LeNet-like: 24 -> 12 -> 8 -> 4 -> 1 pixels, no norm."""
    shared = nn.ModuleList([nn.MaxPool2d(2), Conv(20, 50, kernel=5), nn.MaxPool2d(2), Conv(50, 500, kernel=4), PReLU()])
    enter_a, enter_b = (Conv(channels, 20, kernel=5) for channels in (c_a, c_b))
    return MnistDiscriminators(enter_a, enter_b, shared, Conv(500, 2, kernel=1))
