"""Blocks of networks that paint and judge pictures by a text: StackGAN's, and those of the text GANs before it.

A text is an embedding (n, d). Generators turn it into a short condition (n, c); discriminators repeat a condition at
every place of a small map and judge both together.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pygan.nn import TRAIN, Conv, ConvNormAct, Linear, Mode, NormAct, UpsampleConv


class Condition(NamedTuple):
    """What conditioning augmentation makes of texts: each (n, c), in float32 (float64 for nets in it)."""

    c: Tensor  # drawn from N(mu, sigma^2)
    mu: Tensor
    log_variance: Tensor  # log sigma^2


class ConditioningAugmentation(nn.Module):
    """c = mu + sigma eps, mu and sigma from a text (Zhang et al. 2017, StackGAN, 3.2): (n, d) -> `Condition`.

    One linear layer d -> 2c with bias and activation `act` ("relu" or "leaky_relu" of slope 0.2); its first half is mu.
    The second is log sigma^2, or with log_sigma log sigma. sample=False switches the noise off: c = mu.
    """

    def __init__(
        self, text_dim: int, c_dim: int, *, act: str = "leaky_relu", log_sigma: bool = False, sample: bool = True
    ) -> None:
        super().__init__()
        self.c_dim, self.log_sigma, self.sample = c_dim, log_sigma, sample
        self.fc = TextLayer(text_dim, 2 * c_dim, act=act)

    def forward(self, text: Tensor, eps: Tensor | None) -> Condition:
        """eps: (n, c) from N(0, 1), or None for c = mu."""
        mu, spread = self.fc(text).split(self.c_dim, dim=1)
        log_variance = 2.0 * spread if self.log_sigma else spread
        if eps is None or not self.sample:
            return Condition(mu, mu, log_variance)
        return Condition(mu + eps.to(mu.dtype) * torch.exp(0.5 * log_variance), mu, log_variance)


def kl_to_standard_normal(condition: Condition, *, reduction: str = "mean") -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) = 1/2 (mu^2 + sigma^2 - 1 - log sigma^2), mean over the batch; 0-d.

    reduction: "mean" over the c values too (the authors' code), or their "sum" (StackGAN, equation 2).
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean" or "sum", got {reduction!r}')
    _, mu, log_variance = condition
    each = 0.5 * (mu.square() + log_variance.exp() - 1.0 - log_variance)  # (n, c)
    return each.mean() if reduction == "mean" else each.sum(dim=1).mean()


class TextLayer(nn.Module):
    """Linear layer, norm and activation on vectors such as texts: (n, d) -> (n, c), in at least float32.

    norm: "none" or "batch"; act: as `NormAct` has it. bias: by default only without a norm. In front of a norm with
    batch statistics it is kept and left out of the sum, as `ConvNormAct` does.
    """

    def __init__(
        self, text_dim: int, c: int, *, norm: str = "none", act: str = "leaky_relu", bias: bool | None = None
    ) -> None:
        super().__init__()
        self.linear = Linear(text_dim, c, bias=norm == "none" if bias is None else bias)
        self.norm_act = NormAct(c, norm=norm, act=act)

    def forward(self, text: Tensor, mode: Mode = TRAIN) -> Tensor:
        hidden = self.norm_act.norm == "batch" and mode.statistics != "running"
        h = self.linear(text, with_bias=not hidden)
        h = h if h.dtype == torch.float64 else h.float()  # what is drawn and compared is not drawn in 16 bits
        lost_bias = self.linear.bias if hidden else None
        return self.norm_act(h[:, :, None, None], mode, lost_bias=lost_bias).flatten(1)


def beside_map(features: Tensor, c: Tensor) -> Tensor:
    """features (n, f, h, w) beside c (n, k) at every place -> (n, f + k, h, w), in the type of the features."""
    n, _, h, w = features.shape
    tiled = c.to(features.dtype)[:, :, None, None].expand(n, c.shape[1], h, w)
    return torch.cat((features, tiled), dim=1).contiguous(memory_format=torch.channels_last)


class TextJudge(nn.Module):
    """Logit of a map of features and a condition together: (n, f, s, s), (n, k) -> (n, 1, 1, 1).

    kernel: 3 or 1, of the convolution f + k -> f that joins them (no bias, BatchNorm, LeakyReLU 0.2); a convolution
    s x s makes the logit. c_dim 0: the logit of the features alone, without a joining convolution.
    """

    def __init__(self, features: int, c_dim: int, *, size: int = 4, kernel: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.join = None
        if c_dim:
            conv = Conv(features + c_dim, features, kernel=kernel, padding=kernel // 2, bias=False)
            self.join = ConvNormAct(conv, NormAct(features, norm="batch", act="leaky_relu"))
        self.head = Conv(features, 1, kernel=size, bias=bias)

    def forward(self, features: Tensor, c: Tensor | None = None, mode: Mode = TRAIN) -> Tensor:
        if self.join is not None:
            features = self.join(beside_map(features, c), mode)
        return self.head(features)


def conv_bn(c: int, c_next: int, *, kernel: int, act: str, stride: int = 1, norm: str = "batch") -> ConvNormAct:
    """Convolution without bias, BatchNorm, activation: 3x3 and 1x1 keep h and w, 4x4 of stride 2 halves them."""
    conv = Conv(c, c_next, kernel=kernel, stride=stride, padding=(kernel - 1) // 2, bias=False)
    return ConvNormAct(conv, NormAct(c_next, norm=norm, act=act))


def up_bn(c: int, c_next: int, *, act: str = "relu") -> ConvNormAct:
    """Nearest x2, convolution 3x3 without bias, BatchNorm, activation: (n, c, h, w) -> (n, c_next, 2h, 2w)."""
    return ConvNormAct(UpsampleConv(c, c_next, bias=False), NormAct(c_next, norm="batch", act=act))


class Residual(nn.Module):
    """act(x + body(x)) with a body of convolutions and norms, whose last one adds x: (n, c, h, w) kept.

    inner: width of a bottleneck, whose convolutions are 1x1, 3x3 and 3x3 (StackGAN's TensorFlow code, and GAN-INT-CLS);
    0: two 3x3 of full width (its PyTorch code). act: inside and after the sum.
    """

    def __init__(self, channels: int, *, inner: int = 0, act: str = "relu") -> None:
        super().__init__()
        width = inner or channels
        shapes = [(channels, inner, 1), (inner, inner, 3)] if inner else [(channels, channels, 3)]
        self.first = nn.ModuleList(conv_bn(c, c_next, kernel=kernel, act=act) for c, c_next, kernel in shapes)
        self.last = conv_bn(width, channels, kernel=3, act=act)

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = x = x.to(self.last.conv.compute_dtype())
        for block in self.first:
            h = block(h, mode)
        return self.last(h, mode, residual=x)
