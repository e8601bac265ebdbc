"""A trained net in PyTorch's own operators alone, none of which writes into a tensor: what exporters can record.

The copy computes what the net computes. Kernels of pygan give way to the formulas that they are tested against, skips
stand alone and are joined by a concatenation, and a BatchNorm in use is what it has become: constants, where it takes
running statistics, or each picture's own, which is InstanceNorm and the same for any batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import nn as blocks
from pygan.export.mask import keep_mask
from pygan.nets.unet import Down
from pygan.nn import TRAIN, Conv, Linear, Mode, NormAct, UpsampleConv
from pygan.ops.upsample_concat import merge_upsample_weight


def plain(net: nn.Module, *, apart: bool) -> nn.Module:
    """A copy of `net` on the CPU, in float32, without gradients; for use, called as the GAN calls its net.

    apart: with statistics of the batch each picture has its own, as where pictures are translated; False: those of all.
    Call it once, through `settle_`, before it is recorded.
    """
    net = copy.deepcopy(net).requires_grad_(False).cpu().float().eval()
    blocks.choose_kernels_(net, "library")
    for module in list(net.modules()):
        if isinstance(module, NormAct):
            module.__class__ = _PlainNorm
            module.apart = apart
        elif isinstance(module, UpsampleConv):
            module.__class__ = _PlainUpsample
            module.merged = None
        elif type(module) is Conv and module.geometry.pad_mode == "reflect":
            module.__class__ = _PlainReflecting
        elif isinstance(module, Down) and module.room:
            module.room = 0  # the skip stands alone: no buffer that encoder and decoder write into
    return net


def settle_(net: nn.Module, call: Callable[[], Tensor]) -> Tensor:
    """Call the net once, by `call`, and leave only what that needed: weights, and constants instead of statistics.

    Layers decide about themselves at their first call (how to enlarge, which statistics). Returns what `call` does.
    """
    called: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda module, *_: called.add(module)) for m in net.modules()]
    try:
        with torch.no_grad():
            result = call()
    finally:
        for hook in hooks:
            hook.remove()
    for module in net.modules():
        if module not in called and not any(below in called for below in module.modules()):
            for name in module._parameters:
                module._parameters[name] = None
            for name in module._buffers:
                module._buffers[name] = None
        elif isinstance(module, _PlainNorm):
            module.leave_only_used_()
    return result


def half_(net: nn.Module) -> None:
    """Weights of convolutions and dense layers in float16. Norms keep float32, and so do their statistics."""
    for module in net.modules():
        if blocks.is_convolution(module) or isinstance(module, Linear):
            module.half()


class _PlainNorm(NormAct):
    """`NormAct` as its reference has it, for use: no running statistics move."""

    apart: bool  # with statistics of the batch, each picture has its own

    def leave_only_used_(self) -> None:
        """Turn running statistics that were used into constants, in float64 until rounded; forget them otherwise."""
        if self.norm != "batch":
            return
        if self.constant:
            scale = torch.rsqrt(self.running_var.double() + self.eps)
            scale = scale if self.weight is None else scale * self.weight.double()
            self.register_buffer("minus_mean", -self.running_mean[:, None, None])
            self.register_buffer("scale", scale.float()[:, None, None])
            self.weight = None
        self.running_mean = self.running_var = None

    def forward(
        self,
        x: Tensor,
        mode: Mode = TRAIN,
        *,
        lost_bias: Tensor | None = None,
        residual: Tensor | None = None,
        pad: int = 0,
        out: Tensor | None = None,
        skip_out: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        if out is not None or skip_out is not None:
            raise ValueError("a net to be exported writes into no buffer")
        z = self._normed(x.float(), mode)
        if mode.rng is not None and self.dropout_p > 0:
            keep = keep_mask(tuple(z.shape), self.dropout_p, mode.rng, self.rng_stream)
            z = z * (keep.to(z.dtype) / (1 - self.dropout_p))
        if residual is not None:
            z = z + residual.to(z.dtype)
        y = self._activated(z, self.act)
        if pad:
            y = F.pad(y, (pad,) * 4, mode="reflect")
        y = y.to(x.dtype)
        return y if self.skip_act is None else (y, self._activated(z, self.skip_act).to(x.dtype))

    def _normed(self, x: Tensor, mode: Mode) -> Tensor:
        """Norm and affine."""
        if self.norm == "none":
            return x
        bias = None if self.bias is None else self.bias[:, None, None]
        self.constant = self.norm == "batch" and mode.statistics == "running"
        if self.constant and self.running_mean is not None:  # the first call
            scale = torch.rsqrt(self.running_var + self.eps) * (1.0 if self.weight is None else self.weight)
            x = (x - self.running_mean[:, None, None]) * scale[:, None, None]
            return x if bias is None else x + bias
        if self.constant:
            x = (x + self.minus_mean) * self.scale
            return x if bias is None else x + bias
        if self.norm == "batch" and mode.statistics == "update":
            raise ValueError("a net to be exported is in use: its statistics do not move")
        dims = (2, 3) if self.norm == "instance" or self.apart else (0, 2, 3)
        # Mean and variance one after the other, and not the scale and shift that a fused norm makes of them: where a
        # map varies little beside its mean, those lose digits.
        x = x - x.mean(dims, keepdim=True)
        scale = torch.rsqrt(x.square().mean(dims, keepdim=True) + self.eps)
        x = x * (scale if self.weight is None else scale * self.weight[:, None, None])
        return x if bias is None else x + bias

    def _activated(self, z: Tensor, act: str) -> Tensor:
        if act == "leaky_relu":
            return F.leaky_relu(z, self.slope)
        return {"none": lambda x: x, "relu": F.relu, "elu": F.elu}[act](z)


class _PlainReflecting(Conv):
    """A convolution whose reflected border is PyTorch's own padding."""

    def forward(self, x: Tensor, *, with_bias: bool = True, padded: bool = False) -> Tensor:
        x = x.to(self.weight.dtype)
        if not padded:
            x = F.pad(x, (self.geometry.padding,) * 4, mode="reflect")
        return super().forward(x, with_bias=with_bias, padded=True)


class _PlainUpsample(UpsampleConv):
    """Nearest x2 and 3x3: with a merged weight that is stored as such, or beside a skip; the first call decides."""

    merged: bool | None

    def forward(self, x: Tensor, skip: Tensor | None = None, *, with_bias: bool = True) -> Tensor:
        if self.merged is None:
            self.merged = skip is None
            if self.merged:
                self.weight = nn.Parameter(merge_upsample_weight(self.weight).contiguous(), requires_grad=False)
        bias = self.bias if with_bias else None
        x = x.to(self.weight.dtype)
        if self.merged:
            return F.conv_transpose2d(x, self.weight, bias, stride=2, padding=1)
        both = torch.cat((F.interpolate(x, scale_factor=2.0, mode="nearest"), skip.to(x.dtype)), dim=1)
        return F.conv2d(both, self.weight, bias, padding=1)
