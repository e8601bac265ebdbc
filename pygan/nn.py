"""Blocks that more than one network is made of, and how their weights begin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import ops

# (eps, momentum) of BatchNorm, momentum being the weight of the new batch, as each library has them.
BN_CONSTANTS = {"pytorch": (1e-5, 0.1), "keras": (1e-3, 0.01), "chainer": (2e-5, 0.1)}


@dataclass(frozen=True)
class Mode:
    """What differs between one forward pass of a network and another; handed down to every block.

    rng: int64[2] on the device, {seed, offset} of the dropout masks; None switches dropout off.
    statistics: "update" (of the batch, and running statistics follow: training), "batch" (of the batch, nothing
    moves) or "running" (the running ones).
    groups: the batch is that many equal consecutive ranges of samples, each with its own batch statistics.
    """

    rng: Tensor | None = None
    statistics: str = "update"
    groups: int = 1

    def __post_init__(self) -> None:
        if self.statistics not in ("update", "batch", "running"):
            raise ValueError(f'statistics must be "update", "batch" or "running", got {self.statistics!r}')


TRAIN = Mode()


# On a CPU a weight of at least this many values stays in (o, i, kh, kw) memory, and its layer computes in (n, c, h, w).
# oneDNN returns gradients of weights in that order, and turning 4 M of them to channels_last took 8 of the 10 ms of a
# deep layer's backward pass; turning its small maps costs a tenth of a millisecond.
CPU_PLAIN_WEIGHT = 1 << 20


def place_(net: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a net to its device, in the memory layout that is fastest there: channels_last, see CPU_PLAIN_WEIGHT."""
    device = torch.device(device)
    net.to(device=device, memory_format=torch.channels_last)
    for module in net.modules():
        large = isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() >= CPU_PLAIN_WEIGHT
        if device.type == "cpu" and large:
            module.weight.data = module.weight.data.contiguous()
    return net


def _laid_as(weight: Tensor, x: Tensor) -> Tensor:
    """x in the memory order of the weight on a CPU; on a GPU as it is."""
    if x.is_cuda or weight.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Conv(nn.Conv2d):
    """Convolution (n, c_in, h, w) -> (n, c_out, h', w') whose bias can be left out of the sum.

    pad: "symmetric", or "right_bottom" = one row and one column of zeros after the last (stride 2, 3x3, as TensorFlow
    pads even sizes).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        pad: str = "symmetric",
    ) -> None:
        if pad not in ("symmetric", "right_bottom"):
            raise ValueError(f'pad must be "symmetric" or "right_bottom", got {pad!r}')
        self.right_bottom = pad == "right_bottom"
        super().__init__(c_in, c_out, kernel, stride, 0 if self.right_bottom else padding, bias=bias)

    def forward(self, x: Tensor, *, with_bias: bool = True) -> Tensor:
        if self.right_bottom:
            x = F.pad(x, (0, 1, 0, 1))
        x = _laid_as(self.weight, x)
        return _channels_last(F.conv2d(x, self.weight, self.bias if with_bias else None, self.stride, self.padding))


class Deconv(nn.ConvTranspose2d):
    """Transposed convolution 4x4, stride 2, padding 1: (n, c_in, h, w) -> (n, c_out, 2h, 2w)."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, kernel_size=4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor, *, with_bias: bool = True) -> Tensor:
        x = _laid_as(self.weight, x)
        bias = self.bias if with_bias else None
        return _channels_last(F.conv_transpose2d(x, self.weight, bias, stride=2, padding=1))


class DeconvSame(nn.ConvTranspose2d):
    """Transposed convolution 3x3, stride 2, "same" of TensorFlow: the last row and column of 2h+1, 2w+1 are dropped."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, kernel_size=3, stride=2, bias=bias)

    def forward(self, x: Tensor, *, with_bias: bool = True) -> Tensor:
        x = _laid_as(self.weight, x)
        bias = self.bias if with_bias else None
        return _channels_last(F.conv_transpose2d(x, self.weight, bias, stride=2)[..., :-1, :-1])


class UpsampleConv(nn.Conv2d):
    """Nearest x2 of x beside a skip, then convolution 3x3, padding 1: -> (n, c_out, 2h, 2w).

    c_in counts the channels of x and of the skip (n, c, 2h, 2w), x first. Without a skip the two steps are one
    transposed convolution with a merged kernel (`ops.upsample_conv3x3`), and no upsampled tensor exists.
    """

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, kernel_size=3, padding=1, bias=bias)

    def forward(self, x: Tensor, skip: Tensor | None = None, *, with_bias: bool = True) -> Tensor:
        bias = self.bias if with_bias else None
        if skip is None:
            return ops.upsample_conv3x3(x, self.weight, bias)
        both = _laid_as(self.weight, ops.upsample_concat(x, skip))
        return _channels_last(F.conv2d(both, self.weight, bias, padding=1))


class NormAct(nn.Module):
    """Norm, affine, dropout and activation in one op, with the parameters and running statistics they need.

    z = dropout(affine(norm(x))), y = act(z); with `skip_act` also s = skip_act(z). Shapes are kept: (n, c, h, w).
    norm: "batch" (affine, running statistics), "instance" (affine where asked) or "none" (activation only).
    rng_stream: this layer's own number in the random stream of its network.
    """

    def __init__(
        self,
        channels: int,
        *,
        norm: str,
        act: str,
        skip_act: str | None = None,
        slope: float = 0.2,
        bn: str = "pytorch",
        in_affine: bool = False,
        dropout_p: float = 0.0,
        rng_stream: int = 0,
    ) -> None:
        super().__init__()
        self.norm, self.act, self.skip_act, self.slope = norm, act, skip_act, slope
        self.eps, self.momentum = BN_CONSTANTS[bn]
        self.dropout_p, self.rng_stream = dropout_p, rng_stream
        affine = norm == "batch" or (norm == "instance" and in_affine)
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels) if norm == "batch" else None)
        self.register_buffer("running_var", torch.ones(channels) if norm == "batch" else None)

    def forward(
        self,
        x: Tensor,
        mode: Mode = TRAIN,
        *,
        lost_bias: Tensor | None = None,
        out: Tensor | None = None,
        skip_out: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """y, or (y, s) when the block has a `skip_act`.

        lost_bias: (c,), what x would have had added to it had the norm not taken it away again; the running mean
        follows the mean with it. out, skip_out: channel slices of a concat buffer to store y and s into.
        """
        use_running = self.norm == "batch" and mode.statistics == "running"
        update = self.norm == "batch" and mode.statistics == "update"
        result = ops.norm_act(
            x.contiguous(memory_format=torch.channels_last),
            self.weight,
            self.bias,
            norm=self.norm,
            groups=mode.groups if self.norm == "batch" and not use_running else 1,
            eps=self.eps,
            act=self.act,
            slope=self.slope,
            dropout_p=0.0 if mode.rng is None else self.dropout_p,
            rng=mode.rng,
            rng_stream=self.rng_stream,
            running_mean=self.running_mean if update or use_running else None,
            running_var=self.running_var if update or use_running else None,
            momentum=self.momentum,
            use_running=use_running,
            out=out,
            skip_act=self.skip_act,
            skip_out=skip_out,
        )
        if update and lost_bias is not None:
            kept = (1.0 - self.momentum) ** mode.groups  # of the old running mean, after one update per group
            self.running_mean.add_(lost_bias.detach(), alpha=1.0 - kept)
        return result


class ConvNormAct(nn.Module):
    """A convolution and the `NormAct` behind it.

    A bias in front of a norm with batch statistics shifts the mean that the norm takes away again: it is kept as a
    parameter and left out of the sum, so it gets no gradient and the optimizer passes it by. With running statistics
    it can be seen, and is added.
    """

    def __init__(self, conv: nn.Module, norm_act: NormAct) -> None:
        super().__init__()
        self.conv = conv
        self.norm_act = norm_act

    def convolve(self, *inputs: Tensor | None, mode: Mode = TRAIN) -> Tensor:
        """The convolution alone, with its bias where that can be seen."""
        return self.conv(*inputs, with_bias=self._lost_bias(mode) is None)

    def activate(
        self, z: Tensor, mode: Mode = TRAIN, *, out: Tensor | None = None, skip_out: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The `NormAct` on what `convolve` returned."""
        return self.norm_act(z, mode, lost_bias=self._lost_bias(mode), out=out, skip_out=skip_out)

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> Tensor:
        return self.activate(self.convolve(x, mode=mode), mode)

    def _lost_bias(self, mode: Mode) -> Tensor | None:
        norm = self.norm_act.norm
        dead = norm == "instance" or (norm == "batch" and mode.statistics != "running")
        return self.conv.bias if dead else None


def init_weights_(
    net: nn.Module, kind: str, gain: float, generator: torch.Generator, norm_std: float | None = None
) -> None:
    """Fill every parameter and buffer of `net`, on the CPU, from `generator`.

    Weights of convolutions and linear layers: "normal" N(0, gain), "xavier" normal (Glorot & Bengio 2010, gain),
    "kaiming" normal (He et al. 2015, fan in), "orthogonal" (Saxe et al. 2014, gain) or "glorot" (Xavier uniform,
    gain 1, the default of Keras). Their biases 0. Norm scales N(1, norm_std), shifts 0, running statistics 0 and 1;
    norm_std defaults to `gain`, and to 0 for "glorot".
    """
    if kind not in INIT_KINDS:
        raise ValueError(f"kind must be one of {', '.join(INIT_KINDS)}, got {kind!r}")
    if norm_std is None:
        norm_std = 0.0 if kind == "glorot" else gain
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            INIT_KINDS[kind](module.weight, gain, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, NormAct):
            if module.weight is not None:
                nn.init.normal_(module.weight, 1.0, norm_std, generator=generator)
                nn.init.zeros_(module.bias)
            if module.running_mean is not None:
                module.running_mean.zero_()
                module.running_var.fill_(1.0)


INIT_KINDS = {
    "normal": lambda w, gain, generator: nn.init.normal_(w, 0.0, gain, generator=generator),
    "xavier": lambda w, gain, generator: nn.init.xavier_normal_(w, gain, generator=generator),
    "kaiming": lambda w, gain, generator: nn.init.kaiming_normal_(w, a=0.0, mode="fan_in", generator=generator),
    "orthogonal": lambda w, gain, generator: nn.init.orthogonal_(w, gain, generator=generator),
    "glorot": lambda w, gain, generator: nn.init.xavier_uniform_(w, generator=generator),
}
