"""What the files of several GANs compare with: batches of noise, float64 states, networks and losses of stock layers.

The networks are written from the papers, not from pygan's; a bias that a norm takes away again is left out of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan.optim import adam
from pygan.recipe import BaseRecipe
from pygan.state import State

CONVS = (nn.Conv2d, nn.ConvTranspose2d)
EDGES = {"reflect": nn.ReflectionPad2d, "zeros": nn.ZeroPad2d, "replicate": nn.ReplicationPad2d}


def on_meta(make: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    """A net that is not even allocated."""
    with torch.device("meta"):
        return make(*arguments)


def counts(make: Callable[..., nn.Module], *arguments: Any) -> tuple[int, int]:
    """(parameters, elements of buffers) of a net that is not even allocated."""
    net = on_meta(make, *arguments)
    return sum(p.numel() for p in net.parameters()), sum(b.numel() for b in net.buffers())


def noise(
    gan: ModuleType, recipe: BaseRecipe, *, n: int | None = None, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Any:
    """A batch in the shapes of the recipe's: pictures uniform in [-1, 1), all else normal. n: None for the recipe's."""
    draws, tensors = torch.Generator().manual_seed(seed), []
    like = gan.example(recipe)
    for tensor in like:
        shape = (n or len(tensor), *tensor.shape[1:])
        if tensor.dim() == 4:
            image = torch.rand(shape, generator=draws, dtype=dtype) * 2 - 1
            tensors.append(image.contiguous(memory_format=torch.channels_last))
        else:
            tensors.append(torch.randn(shape, generator=draws, dtype=dtype))
    return type(like)(*tensors)


def doubled(gan: ModuleType, recipe: BaseRecipe) -> State:
    """The state of `build` in float64."""
    state = gan.build(recipe, "cpu")
    nets = {name: net.double() for name, net in state.nets.items()}
    opts = {}
    for name in state.opts:  # "G", or "G_AtoB" for a part of it
        net, _, part = name.partition("_")
        opts[name] = adam(nets[net].get_submodule(part), recipe)
    buffers = {k: v.double() if v.is_floating_point() else v for k, v in state.buffers.items()}
    return State(nets=nets, opts=opts, buffers=buffers)


class _Block(nn.Module):
    def __init__(self, c: int, norm: type[nn.Module], padding: str, relu: bool) -> None:
        super().__init__()
        edge = EDGES[padding]
        self.body = nn.Sequential(
            *(edge(1), nn.Conv2d(c, c, 3, bias=False), norm(c), nn.ReLU()),
            *(edge(1), nn.Conv2d(c, c, 3, bias=False), norm(c)),
        )
        self.act = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.body(x))


def residual_g(
    c_in: int,
    c_out: int,
    ngf: int,
    blocks: int,
    *,
    norm: type[nn.Module] = nn.InstanceNorm2d,
    padding: str = "reflect",
    relu: bool = False,
) -> nn.Sequential:
    """The generator of Zhu et al. 2017, 7.2. padding, relu: at the edges of its blocks, and behind their sums."""
    layers = [nn.ReflectionPad2d(3)]
    for c, c_next, kernel, stride in ((c_in, ngf, 7, 1), (ngf, 2 * ngf, 3, 2), (2 * ngf, 4 * ngf, 3, 2)):
        layers += [nn.Conv2d(c, c_next, kernel, stride, stride - 1, bias=False), norm(c_next), nn.ReLU()]
    layers += [_Block(4 * ngf, norm, padding, relu) for _ in range(blocks)]
    for c in (4 * ngf, 2 * ngf):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1, bias=False), norm(c // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, c_out, 7), nn.Tanh())


def patch_d(c: int, ndf: int, n_layers: int, norm: type[nn.Module] = nn.InstanceNorm2d) -> nn.Sequential:
    """The PatchGAN of Isola et al. 2017, 6.1.2, on c channels."""
    layers, c = [nn.Conv2d(c, ndf, 4, 2, 1), nn.LeakyReLU(0.2)], ndf
    for i in range(1, n_layers + 1):
        stride = 2 if i < n_layers else 1
        layers += [nn.Conv2d(c, 2 * c, 4, stride, 1, bias=False), norm(2 * c), nn.LeakyReLU(0.2)]
        c *= 2
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1))


def beside(
    plain: nn.Module, net: nn.Module, norms: tuple[str, ...] = ("weight", "bias")
) -> Iterator[tuple[Tensor, Tensor]]:
    """(tensor of stock layers, the same one of ours), in the order of the layers. norms: which of batch norms'."""
    convs = [[module for module in one.modules() if isinstance(module, CONVS)] for one in (plain, net)]
    for own, theirs in zip(*convs, strict=True):
        yield own.weight, theirs.weight
        if own.bias is not None:
            yield own.bias, theirs.bias
    stock = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    ours = [module for module in net.modules() if getattr(module, "running_mean", None) is not None]
    for own, theirs in zip(stock, ours, strict=True):
        yield from ((getattr(own, name), getattr(theirs, name)) for name in norms)


@torch.no_grad()
def begun(plain: nn.Module, net: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """`beside`, and the stock net begins like ours."""
    pairs = list(beside(plain, net))
    for own, theirs in pairs:
        own.copy_(theirs)
    return pairs


def bce(logits: Tensor, target: float) -> Tensor:
    """Binary cross entropy of logits that are all to say the same."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


LOSSES = {  # mode: (D's loss of real and fake logits, G's loss of fake logits)
    "lsgan": (lambda r, f: (((r - 1) ** 2).mean() + (f**2).mean()) / 2, lambda f: ((f - 1) ** 2).mean()),
    "vanilla": (lambda r, f: (bce(r, 1.0) + bce(f, 0.0)) / 2, lambda f: bce(f, 1.0)),
    "softplus": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda f: bce(f, 1.0)),
    "wgangp": (lambda r, f: f.mean() - r.mean(), lambda f: -f.mean()),
}


def pooled(images: list[Tensor], size: int, fresh: Tensor, draws: Any) -> tuple[Tensor, int]:
    """The published rule for each picture. images: changed in place. Returns what comes back, how many older ones."""
    returned, older = [], 0
    for image, chance, place in zip(fresh, draws[0::2], draws[1::2], strict=True):
        if len(images) < size:
            images.append(image)
            returned.append(image)
        elif chance / 2**32 > 0.5:
            slot = place * size // 2**32
            returned.append(images[slot])
            images[slot] = image
            older += 1
        else:
            returned.append(image)
    return torch.stack(returned), older


__all__ = [
    *("CONVS", "EDGES", "LOSSES", "bce", "begun", "beside", "counts", "doubled", "noise", "on_meta", "patch_d"),
    *("pooled", "residual_g"),
]
