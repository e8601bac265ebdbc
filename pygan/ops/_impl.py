"""Which implementation of an op runs: what `impl="auto"` means."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan import errors
from pygan.ops import _native


@torch.compiler.assume_constant_result
def compiled(op: str, key: str = "CPU") -> bool:
    """True when the loaded native library holds the op family `op` for the device type `key`, "CPU" or "CUDA"."""
    if not _native.available() or not hasattr(torch.ops.pygan, op):
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"pygan::{op}", key)


def choose(op: str, x: Tensor, impl: str, *, cpu_limit: int | None = None) -> str:
    """Decide between "native" and "ref" for an input like `x`.

    auto is the kernel on CUDA for float32, bfloat16 and float16; otherwise one line says why not. On the CPU it is
    the native twin for float32, bfloat16 and float64, up to `cpu_limit` values (None: any number), above which PyTorch
    was measured to be faster.

    Raises:
        ValueError: `impl` is none of "auto", "native", "ref".
        RuntimeError: "native" is asked for and the library is not there.
    """
    if impl not in ("auto", "native", "ref"):
        raise ValueError(f"{op}: impl must be 'auto', 'native' or 'ref', got {impl!r}")
    if impl == "native" and not compiled(op):
        raise RuntimeError(f"{op}: {_native.why_missing() or 'not in the native library; reinstall pygan'}")
    if impl != "auto":
        return impl
    if not x.is_cuda:
        if not compiled(op):
            errors.say_once(f"{op} runs in plain PyTorch (slower): {_native.why_missing() or 'not compiled in'}")
        twin = compiled(op) and x.device.type == "cpu" and x.dtype != torch.float16
        return "native" if twin and (cpu_limit is None or x.numel() <= cpu_limit) else "ref"
    if not compiled(op, "CUDA"):
        errors.say_once(f"{op} runs in plain PyTorch (slower): no CUDA kernels; `pygan doctor` says why")
        return "ref"
    if x.dtype == torch.float64:
        errors.say_once(f"{op} runs in plain PyTorch (slower): its CUDA kernel has no float64")
        return "ref"
    return "native"
