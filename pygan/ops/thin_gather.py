"""thin_gather: from many channels to few, the passes of a thin convolution that cuDNN is slowest at.

Forward of the layers that end in few channels (a U-Net's last transposed convolution, a ResNet's 7 x 7 head, PatchGAN's
logits) and input gradient of those that begin with few. Contract: csrc/ops/thin_gather/thin_gather.h; the four modes:
csrc/common/thin.h. `thin_gather_ref` is the specification. No autograd here: `pygan.ops.thin_conv` is the layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.ops._impl import compiled

MODES = ("stride2", "reflect", "zero_adjoint", "reflect_adjoint")
ACTS = ("none", "tanh")


def thin_size_of(mode: str, thick_size: tuple[int, int]) -> tuple[int, int]:
    """(ht, wt) for (hk, wk). Of the two sizes that stride 2 allows, the even one: a transposed convolution's."""
    h, w = thick_size
    return {"stride2": (2 * h, 2 * w), "zero_adjoint": (h - 1, w - 1)}.get(mode, (h, w))


def _fold(padded: Tensor, pad: int) -> Tensor:
    """The transpose of F.pad(..., mode="reflect"): what lies on the border is added to where it was copied from."""
    for dim in (2, 3):
        size = padded.shape[dim] - 2 * pad
        body = padded.narrow(dim, pad, size).clone()
        body.narrow(dim, 1, pad).add_(padded.narrow(dim, 0, pad).flip(dim))
        body.narrow(dim, size - 1 - pad, pad).add_(padded.narrow(dim, pad + size, pad).flip(dim))
        padded = body
    return padded


def thin_gather_ref(
    k: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mode: str,
    act: str = "none",
    thin_size: tuple[int, int] | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`thin_gather` in plain PyTorch: what the kernels must equal."""
    wide = torch.float64 if k.dtype == torch.float64 else torch.float32
    x, w = k.to(wide), weight.to(wide)
    if mode == "stride2":
        size = thin_size or thin_size_of(mode, k.shape[2:])
        extra = [t - 2 * s for t, s in zip(size, k.shape[2:], strict=True)]
        t = F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=extra)
    elif mode == "reflect":
        t = _fold(F.conv_transpose2d(x, w), 3)
    elif mode == "zero_adjoint":
        t = F.conv2d(x, w, padding=1)
    else:
        t = F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), w)
    if bias is not None:
        t = t + bias.to(wide).view(1, -1, 1, 1)
    if act == "tanh":
        t = t.tanh()
    return t.to(out_dtype or k.dtype)


def thin_gather(
    k: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mode: str,
    act: str = "none",
    thin_size: tuple[int, int] | None = None,
    out_dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """t = act(gather(k) + bias) by the native operator.

    Args:
        k: (n, ck, hk, wk), channels_last or a channel slice of such a tensor. CUDA: bfloat16 or float16, ck a multiple
            of 64; CPU: float32, bfloat16 or float64 (there it has to be right, not fast).
        weight: the weight of the layer in its PyTorch shape and the dtype of k: (ck, ct, 4, 4) for "stride2", (ck, ct,
            7, 7) for "reflect", (ct, ck, 4, 4) for "zero_adjoint", (ct, ck, 7, 7) for "reflect_adjoint". Any memory
            format.
        bias: (ct,), float32 or the dtype of k, or None.
        mode: one of MODES. "stride2": transposed convolution, stride 2, padding 1; "zero_adjoint": convolution, padding
            1; "reflect_adjoint": convolution with 3 reflected pixels on each side; "reflect": the input gradient of
            one, where k is the incoming gradient.
        act: "none" or "tanh".
        thin_size: (ht, wt); None is `thin_size_of`. An input gradient knows it: stride 2 drops an odd last pixel.
        out_dtype: the dtype of the result, float32 or that of k (None).
        out: a tensor (n, ct, ht, wt) of any strides that the result is written to. None: a new one, channels_last.

    Returns:
        (n, ct, ht, wt): `out`, or a new tensor.

    Raises:
        RuntimeError: an argument does not fit the others; the message names it.
    """
    if out is None:
        thick_first = mode in ("stride2", "reflect")
        shape = (k.shape[0], weight.shape[1 if thick_first else 0], *(thin_size or thin_size_of(mode, k.shape[2:])))
        out = torch.empty(shape, dtype=out_dtype or k.dtype, device=k.device, memory_format=torch.channels_last)
    torch.ops.pygan.thin_gather.default(k, weight, bias, out, mode, act)
    return out


if compiled("thin_gather"):
    torch.library.register_fake("pygan::thin_gather", lambda k, weight, bias, t, thin_mode, act: None)
