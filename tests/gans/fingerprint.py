"""Weights and inputs that anyone can compute.

A hash of the element's number fills a net, so that its output is a fingerprint of its architecture, to be compared with
the figures that other implementations give.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pygan.nn import NormAct

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def h(count: int, layer: int) -> np.ndarray:
    """The hash of elements 0..count-1 of a layer: float64 in [-0.5, 0.5), from 32-bit unsigned arithmetic."""
    x = np.arange(1, count + 1, dtype=np.uint32) * np.uint32(2654435761)
    x += np.uint32(40503 * layer % 2**32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x45D9F3B)
    x ^= x >> np.uint32(16)
    return x / 2.0**32 - 0.5


def filled(shape: tuple[int, ...], number: int = 9999) -> Tensor:
    """An input of a net, float64 in [-1, 1); the first has number 9999, the second 9998."""
    return torch.from_numpy(2.0 * h(int(np.prod(shape)), number)).view(shape)


@torch.no_grad()
def fill_(net: nn.Module, call) -> nn.Module:
    """Fill `net`, built on the meta device, in float64; layers are numbered as `call(net)` first reaches them."""
    order: list[nn.Module] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: order.append(module) if module not in order else None)
        for module in net.modules()
        if isinstance(module, LAYERS)
    ]
    call(net)
    for hook in hooks:
        hook.remove()
    net.double().to_empty(device="cpu")
    for number, layer in enumerate(order):
        weight = layer.weight
        out = weight.shape[1] if isinstance(layer, nn.ConvTranspose2d) else weight.shape[0]
        values = h(weight.numel(), number) * np.sqrt(24.0 / (weight.numel() / out))
        weight.copy_(torch.from_numpy(values).view(weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(0.1 * h(layer.bias.numel(), number + 1000)))
    for module in net.modules():
        if isinstance(module, NormAct):
            if module.weight is not None:
                module.weight.fill_(1.0)
                module.bias.zero_()
            if module.running_mean is not None:
                module.running_mean.zero_()
                module.running_var.fill_(1.0)
    return net.to(memory_format=torch.channels_last)


def signature(output: Tensor) -> tuple[float, float, float, float]:
    """mean, mean |.|, first and last element."""
    flat = output.reshape(-1)
    return tuple(float(v) for v in (flat.mean(), flat.abs().mean(), flat[0], flat[-1]))


__all__ = ["fill_", "filled", "h", "signature"]
