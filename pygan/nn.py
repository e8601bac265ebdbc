"""Blocks that more than one network is made of, and how their weights begin."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pygan import ops
from pygan.errors import say_once
from pygan.ops.conv import Geometry, Path, packed, packs
from pygan.ops.conv import path as conv_path

# (eps, momentum) of BatchNorm, momentum being the weight of the new batch, as each library has them.
BN_CONSTANTS = {"pytorch": (1e-5, 0.1), "keras": (1e-3, 0.01), "chainer": (2e-5, 0.1), "ali": (1e-5, 0.05)}


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
    if active_fake_mode() is None:
        net.to(device=device, memory_format=torch.channels_last)
    else:  # a walk (`pygan.plan`). A fake parameter cannot be moved: the net is laid out before it becomes one
        with unset_fake_temporarily():
            net.to(memory_format=torch.channels_last)
        net.to_empty(device=device)
    for module in net.modules():
        large = isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() >= CPU_PLAIN_WEIGHT
        if device.type == "cpu" and large:
            module.weight.data = module.weight.data.contiguous()
    return net


class Low:
    """Working copies of a layer's weights: in 16 bits, kept by its optimizer (`optim.Adam`), or packed (`pack_`).

    weight, bias: in 16 bits leaves of autograd, views of one run of memory that the optimizer writes; bias None where
    there is none. A copy of a layer has none of them: they would not follow its weights.
    of: the layer's own weight, where it was packed: once that has changed it is used itself.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, of: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self._of = None if of is None else _version(of)

    def follows(self, own: Tensor) -> bool:
        """Whether `own`, the layer's weight, is as it was when it was packed."""
        return self._of == _version(own)

    def __deepcopy__(self, memo: dict) -> None:
        return None


def _version(x: Tensor) -> int:
    """Another one after each change in place; of what was made in inference mode PyTorch does not count them."""
    return 0 if x.is_inference() else x._version


_full_precision = False


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Inside, every layer computes with its own weights, also where it has working copies."""
    global _full_precision
    before, _full_precision = _full_precision, True
    try:
        yield
    finally:
        _full_precision = before


def is_full_precision() -> bool:
    """True inside `full_precision()`."""
    return _full_precision


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The weight and bias to compute with: the working copies, where there are some and they will do."""
    low = getattr(layer, "low", None)
    own = low is None or _full_precision
    if not own and low.weight.is_mkldnn:
        own = torch.is_grad_enabled() or not low.follows(layer.weight)
    return (layer.weight, layer.bias) if own else (low.weight, low.bias)


def pack_(net: nn.Module) -> nn.Module:
    """Gives a net that will not be trained any more, on a CPU, weights that are packed once and not in every call.

    What it computes without gradients is the same but for rounding, and faster the fewer pictures at once; with
    gradients, or once a weight is changed, it computes as before. Costs the memory of its weights once more. Elsewhere
    than on a CPU: nothing. Where this PyTorch cannot pack, that is said.
    """
    for module in net.modules():
        if not isinstance(module, Conv | _Transposed):
            continue
        if packs(module.weight):
            module.low = Low(packed(module.weight.detach(), module.geometry), module.bias, of=module.weight)
        elif module.weight.device.type == "cpu":
            say_once(
                "this PyTorch has no oneDNN that packs weights, so every call brings them into order again: a picture "
                "alone takes up to a quarter longer"
            )
    return net


def is_convolution(layer: nn.Module) -> bool:
    """Is it one of the convolutions of this file?"""
    return isinstance(layer, _Convolution)


def choose_kernels_(net: nn.Module, kernels: str) -> None:
    """kernels: "auto", pygan's own where they fit, or "library", PyTorch's for every convolution."""
    for module in net.modules():
        if isinstance(module, _Convolution):
            module.own_kernels = kernels == "auto"


def _laid_as(weight: Tensor, x: Tensor) -> Tensor:
    """x in the memory order of the weight on a CPU; on a GPU as it is."""
    if x.is_cuda or weight.is_mkldnn or weight.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Convolution:
    """What `Conv` and the transposed ones share: geometry, weights in the precision of the step, choice of a path."""

    geometry: Geometry
    own_kernels = True  # False: --kernels library

    def out_shape(self, x_shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Shape of the output for that of the input, (n, c, h, w)."""
        n, _, h, w = x_shape
        kernel = self.weight.shape[2:]
        c_out = self.weight.shape[1 if self.geometry.transposed else 0]
        return n, c_out, *(self.geometry.out_size(size, k) for size, k in zip((h, w), kernel, strict=True))

    def compute_dtype(self) -> torch.dtype:
        """The type that the layer computes in and returns."""
        return _weights(self)[0].dtype

    def path(
        self,
        x_shape: Sequence[int],
        dtype: torch.dtype | None = None,
        device_type: str | None = None,
    ) -> Path:
        """How the layer is computed on an input of that shape; dtype and device_type are the weights' unless given."""
        weight = _weights(self)[0]
        return conv_path(
            x_shape,
            weight.shape,
            self.geometry,
            dtype=dtype or weight.dtype,
            device_type=device_type or weight.device.type,
            own=self.own_kernels,
        )

    def thin(self, x: Tensor, *, with_bias: bool = True, **epilogue: Any) -> Tensor | tuple[Tensor, Tensor]:
        """The layer by pygan's kernel for few channels on one side; epilogue: as `ops.thin_conv` has it."""
        weight, bias = _weights(self)
        g = self.geometry
        return ops.thin_conv(
            x,
            weight,
            bias if with_bias else None,
            stride=g.stride,
            padding=g.padding,
            pad_mode=g.pad_mode,
            transposed=g.transposed,
            **epilogue,
        )

    def forward(self, x: Tensor, *, with_bias: bool = True, padded: bool = False) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, h', w'), channels_last. padded: x has its reflected border already."""
        if not padded and self.path(x.shape).name == "thin":
            return self.thin(x, with_bias=with_bias)
        weight, bias = _weights(self)
        x = x.to(weight.dtype)
        if self.geometry.pad_mode == "reflect" and not padded:
            # PyTorch's own padding leaves channels_last, and its backward pass adds in any order.
            x = ops.norm_act(_channels_last(x), norm="none", act="none", pad=self.geometry.padding)
        x = _laid_as(weight, x)
        return _channels_last(ops.convolution(x, weight, bias if with_bias else None, self.geometry))

    def image(self, x: Tensor, *, tanh: bool, dtype: torch.dtype) -> Tensor:
        """The layer as the last one of a generator: its image, through tanh if asked for, in `dtype`."""
        if self.path(x.shape).name == "thin":
            return self.thin(x, act="tanh" if tanh else "none", out_dtype=dtype)
        image = self(x).to(dtype)  # the last step in full precision also where the convolutions are not
        return torch.tanh(image) if tanh else image


class Conv(_Convolution, nn.Conv2d):
    """Convolution (n, c_in, h, w) -> (n, c_out, h', w') whose bias can be left out of the sum.

    pad: "symmetric", or "right_bottom" = one row and one column of zeros after the last (stride 2, 3x3, as TensorFlow
    pads even sizes). pad_mode: "zeros", or "reflect" = the picture mirrored at its edge.
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
        pad_mode: str = "zeros",
    ) -> None:
        if pad not in ("symmetric", "right_bottom"):
            raise ValueError(f'pad must be "symmetric" or "right_bottom", got {pad!r}')
        if pad_mode not in ("zeros", "reflect"):
            raise ValueError(f'pad_mode must be "zeros" or "reflect", got {pad_mode!r}')
        self.right_bottom = pad == "right_bottom"
        padding = 0 if self.right_bottom else padding
        super().__init__(c_in, c_out, kernel, stride, padding, bias=bias)
        self.geometry = Geometry(stride, padding, pad_mode)

    def out_shape(self, x_shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Shape of the output for that of the input, (n, c, h, w)."""
        n, c, h, w = x_shape
        return super().out_shape((n, c, h + self.right_bottom, w + self.right_bottom))

    def forward(self, x: Tensor, *, with_bias: bool = True, padded: bool = False) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, h', w'), channels_last. padded: x has its reflected border already."""
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.right_bottom else x, with_bias=with_bias, padded=padded)

    def adjoint(self, y: Tensor, size: Sequence[int]) -> Tensor:
        """The layer without its bias, transposed: what a gradient of its output is when it has come to its input.

        y: (n, c_out, h', w'); size: (h, w) of the input. Returns (n, c_in, h, w), channels_last. Differentiable in y
        and in the weight, so that a penalty on a gradient needs no second derivative. Zero padding alone.
        """
        if self.right_bottom or self.geometry.pad_mode != "zeros":
            raise ValueError("adjoint is for convolutions with symmetric padding by zeros")
        weight, _ = _weights(self)
        back = Geometry(self.geometry.stride, self.geometry.padding, transposed=True)
        # Rows and columns at the end that the stride passed over.
        missing = [s - back.out_size(t, k) for s, t, k in zip(size, y.shape[2:], weight.shape[2:], strict=True)]
        if missing[0] != missing[1]:
            raise ValueError(f"size must leave as many rows as columns to the stride, got {list(size)}")
        back = back._replace(output_padding=missing[0])
        y = y.to(weight.dtype)
        way = conv_path(
            y.shape, weight.shape, back, dtype=weight.dtype, device_type=weight.device.type, own=self.own_kernels
        )
        if way.name == "thin":
            return ops.thin_conv(y, weight, None, stride=back.stride, padding=back.padding, transposed=True)
        return _channels_last(ops.convolution(_laid_as(weight, y), weight, None, back))


class _Transposed(_Convolution, nn.ConvTranspose2d):
    def __init__(self, c_in: int, c_out: int, kernel: int, geometry: Geometry, bias: bool) -> None:
        g = geometry
        super().__init__(c_in, c_out, kernel, g.stride, g.padding, g.output_padding, bias=bias)
        self.geometry = geometry


class Deconv(_Transposed):
    """Transposed convolution: h' = (h - 1) stride - 2 padding + kernel + output_padding, and w' likewise.

    (n, c_in, h, w) -> (n, c_out, h', w'). By default 4x4, stride 2, padding 1, which doubles h and w.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int = 4,
        stride: int = 2,
        padding: int = 1,
        output_padding: int = 0,
        bias: bool = True,
    ) -> None:
        geometry = Geometry(stride=stride, padding=padding, transposed=True, output_padding=output_padding)
        super().__init__(c_in, c_out, kernel, geometry, bias)


class Deconv3(_Transposed):
    """Transposed convolution 3x3, stride 2, padding 1, output padding 1: (n, c_in, h, w) -> (n, c_out, 2h, 2w)."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, 3, Geometry(stride=2, padding=1, transposed=True, output_padding=1), bias)


class DeconvSame(_Transposed):
    """Transposed convolution 3x3, stride 2, "same" of TensorFlow: the last row and column of 2h+1, 2w+1 are dropped."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, 3, Geometry(stride=2, transposed=True), bias)

    def out_shape(self, x_shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Shape of the output for that of the input, (n, c, h, w)."""
        n, c, h, w = super().out_shape(x_shape)
        return n, c, h - 1, w - 1

    def forward(self, x: Tensor, *, with_bias: bool = True, padded: bool = False) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, 2h, 2w), channels_last."""
        return _channels_last(super().forward(x, with_bias=with_bias, padded=padded)[..., :-1, :-1])


class UpsampleConv(_Convolution, nn.Conv2d):
    """Nearest x2 of x beside a skip, then convolution 3x3, padding 1: -> (n, c_out, 2h, 2w).

    c_in counts the channels of x and of the skip (n, c, 2h, 2w), x first. Without a skip the two steps are one
    transposed convolution with a merged kernel (`ops.upsample_conv3x3`), and no upsampled tensor exists.
    """

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, kernel_size=3, padding=1, bias=bias)
        self.geometry = Geometry(padding=1)

    def out_shape(self, x_shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Shape of the output for that of the input, (n, c, h, w)."""
        n, c, h, w = x_shape
        return super().out_shape((n, c, 2 * h, 2 * w))

    def path(
        self,
        x_shape: Sequence[int],
        dtype: torch.dtype | None = None,
        device_type: str | None = None,
    ) -> Path:
        """How the layer is computed."""
        return Path("library", "nearest x2 and 3x3 as one merged transposed convolution, or beside a skip")

    def forward(self, x: Tensor, skip: Tensor | None = None, *, with_bias: bool = True) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, 2h, 2w), channels_last."""
        weight, bias = _weights(self)
        bias = bias if with_bias else None
        x = x.to(weight.dtype)
        if skip is None:
            return ops.upsample_conv3x3(x, weight, bias)
        both = _laid_as(weight, ops.upsample_concat(x, skip.to(weight.dtype)))
        return _channels_last(ops.convolution(both, weight, bias, self.geometry))


class Linear(nn.Linear):
    """(..., features_in) -> (..., features_out), in the precision of the step."""

    def forward(self, x: Tensor, *, with_bias: bool = True) -> Tensor:
        weight, bias = _weights(self)
        return F.linear(x.to(weight.dtype), weight, bias if with_bias else None)


@dataclass(frozen=True)
class Given:
    """What a `NormAct` is told where its input is one part of a larger picture (`pygan.tiles`).

    mean, var: (c,) float32, the (biased) statistics of the whole to normalise with; None: as without `Given`.
    keep: (p, rng, rng_stream) -> which elements dropout keeps, bool like the input; None: as without `Given`.
    """

    mean: Tensor | None = None
    var: Tensor | None = None
    keep: Callable[[float, Tensor, int], Tensor] | None = None


class NormAct(nn.Module):
    """Norm, affine, dropout and activation in one op, with the parameters and running statistics they need.

    z = dropout(affine(norm(x))), y = act(z); with `skip_act` also s = skip_act(z). Shapes are kept: (n, c, h, w).
    norm: "batch" (running statistics; affine unless bn_affine=False), "instance" (affine where asked) or "none"
    (activation only). bn: whose eps and momentum BatchNorm has, a key of BN_CONSTANTS. rng_stream: this layer's own
    number in the random stream of its network.
    """

    given: Given | None = None  # of a whole of which the inputs are parts

    def __init__(
        self,
        channels: int,
        *,
        norm: str,
        act: str,
        skip_act: str | None = None,
        slope: float = 0.2,
        bn: str = "pytorch",
        bn_affine: bool = True,
        in_affine: bool = False,
        dropout_p: float = 0.0,
        rng_stream: int = 0,
    ) -> None:
        super().__init__()
        self.norm, self.act, self.skip_act, self.slope = norm, act, skip_act, slope
        self.eps, self.momentum = BN_CONSTANTS[bn]
        self.dropout_p, self.rng_stream = dropout_p, rng_stream
        affine = (norm == "batch" and bn_affine) or (norm == "instance" and in_affine)
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
        residual: Tensor | None = None,
        pad: int = 0,
        out: Tensor | None = None,
        skip_out: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """y, or (y, s) when the block has a `skip_act`.

        lost_bias: (c,), what x would have had added to it had the norm not taken it away again; the running mean
        follows the mean with it. residual: like x, added to z. pad: y is stored with a reflected border of that many
        pixels. out, skip_out: channel slices of a concat buffer to store y and s into.
        """
        extra = {"residual": residual, "pad": pad} if residual is not None or pad else {}
        x = x.contiguous(memory_format=torch.channels_last)
        if self.given is not None and self.given.keep is not None and mode.rng is not None and self.dropout_p > 0:
            kept = self.given.keep(self.dropout_p, mode.rng, self.rng_stream)
            plain = {**self.arguments(mode), "act": "none", "dropout_p": 0.0}
            z = ops.norm_act(x, self.weight, self.bias, **plain) * (kept.to(x.dtype) / (1 - self.dropout_p))
            last = {"act": self.act, "slope": self.slope, "skip_act": self.skip_act}
            return ops.norm_act(z, norm="none", **last, **extra, out=out, skip_out=skip_out)
        result = ops.norm_act(
            x,
            self.weight,
            self.bias,
            **self.arguments(mode),
            **extra,
            out=out,
            skip_act=self.skip_act,
            skip_out=skip_out,
        )
        self.follow_bias_(mode, lost_bias)
        return result

    def arguments(self, mode: Mode) -> dict[str, Any]:
        """Everything that `ops.norm_act` and the fused convolutions need to know of the norm."""
        told = self.given is not None and self.given.mean is not None
        use_running = told or (self.norm == "batch" and mode.statistics == "running")
        moves = self._updates(mode) or use_running
        mean, var = (self.given.mean, self.given.var) if told else (self.running_mean, self.running_var)
        return {
            "norm": "batch" if told else self.norm,
            "groups": mode.groups if self.norm == "batch" and not use_running else 1,
            "eps": self.eps,
            "act": self.act,
            "slope": self.slope,
            "dropout_p": 0.0 if mode.rng is None else self.dropout_p,
            "rng": mode.rng,
            "rng_stream": self.rng_stream,
            "running_mean": mean if moves else None,
            "running_var": var if moves else None,
            "momentum": self.momentum,
            "use_running": use_running,
        }

    def follow_bias_(self, mode: Mode, lost_bias: Tensor | None) -> None:
        """The running mean follows the mean that the inputs would have had with their bias."""
        if self._updates(mode) and lost_bias is not None:
            kept = (1.0 - self.momentum) ** mode.groups  # of the old running mean, after one update per group
            self.running_mean.add_(lost_bias.detach(), alpha=1.0 - kept)

    def _updates(self, mode: Mode) -> bool:
        told = self.given is not None and self.given.mean is not None
        return self.norm == "batch" and mode.statistics == "update" and not told


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

    def forward(
        self,
        x: Tensor,
        mode: Mode = TRAIN,
        *,
        skip: Tensor | None = None,
        padded: bool = False,
        residual: Tensor | None = None,
        pad: int = 0,
        out: Tensor | None = None,
        skip_out: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """y, or (y, s) when the norm has a `skip_act`; skip and padded: of the convolution, the rest of `NormAct`."""
        norm_act, lost_bias = self.norm_act, self._lost_bias(mode)
        whole = residual is None and pad == 0
        path = self.path(x.shape)
        if path.name == "thin" and norm_act.norm == "none" and whole:
            return self.conv.thin(
                x, act=norm_act.act, slope=norm_act.slope, skip_act=norm_act.skip_act, out=out, skip_out=skip_out
            )
        if path.name == "small" and whole:
            weight, bias = _weights(self.conv)
            result = ops.small_conv(
                x,
                weight,
                norm_act.weight,
                norm_act.bias,
                bias=bias if lost_bias is None else None,
                transposed=self.conv.geometry.transposed,
                **norm_act.arguments(mode),
                out=out,
                skip_act=norm_act.skip_act,
                skip_out=skip_out,
            )
            norm_act.follow_bias_(mode, lost_bias)
            return result
        inputs = (x,) if skip is None else (x, skip)
        options = {"padded": True} if padded else {}
        z = self.conv(*inputs, with_bias=lost_bias is None, **options)
        return norm_act(z, mode, lost_bias=lost_bias, residual=residual, pad=pad, out=out, skip_out=skip_out)

    def path(self, x_shape: Sequence[int], dtype: torch.dtype | None = None, device_type: str | None = None) -> Path:
        """How the convolution is computed on an input of that shape; see `_Convolution.path`."""
        return self.conv.path(x_shape, dtype, device_type)

    def _lost_bias(self, mode: Mode) -> Tensor | None:
        norm = self.norm_act.norm
        dead = norm == "instance" or (norm == "batch" and mode.statistics != "running")
        return self.conv.bias if dead else None


def init_weights_(
    net: nn.Module, kind: str, gain: float, generator: torch.Generator, norm_std: float | None = None
) -> None:
    """Fill every parameter and buffer of `net`, on the CPU, from `generator`.

    Weights of convolutions and linear layers: "normal" N(0, gain), "truncated" the same cut off at two standard
    deviations (TensorFlow), "xavier" normal (Glorot & Bengio 2010, gain), "xavier_uniform" likewise, "kaiming" normal
    (He et al. 2015, fan in), "orthogonal" (Saxe et al. 2014, gain), "glorot" (Xavier uniform, gain 1, the default of
    Keras) or "pytorch" (uniform up to 1/sqrt(fan in), its default, biases too). Biases 0 but for "pytorch". Norm scales
    N(1, norm_std), shifts 0, running statistics 0 and 1; norm_std defaults to `gain`, and to 0 for "glorot" and
    "pytorch".
    """
    if kind not in INIT_KINDS:
        raise ValueError(f"kind must be one of {', '.join(INIT_KINDS)}, got {kind!r}")
    if norm_std is None:
        norm_std = 0.0 if kind in ("glorot", "pytorch") else gain
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            INIT_KINDS[kind](module.weight, gain, generator)
            if module.bias is not None and kind == "pytorch":
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            elif module.bias is not None:
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
    "truncated": lambda w, gain, generator: nn.init.trunc_normal_(
        w, 0.0, gain, -2.0 * gain, 2.0 * gain, generator=generator
    ),
    "xavier_uniform": lambda w, gain, generator: nn.init.xavier_uniform_(w, gain, generator=generator),
    "pytorch": lambda w, gain, generator: nn.init.kaiming_uniform_(w, a=math.sqrt(5.0), generator=generator),
    "kaiming": lambda w, gain, generator: nn.init.kaiming_normal_(w, a=0.0, mode="fan_in", generator=generator),
    "orthogonal": lambda w, gain, generator: nn.init.orthogonal_(w, gain, generator=generator),
    "glorot": lambda w, gain, generator: nn.init.xavier_uniform_(w, generator=generator),
}
