"""`pygan doctor --kernels GAN`: which kernel computes each convolution of a training step, and why.

The step is walked on tensors without memory, so that the answer for any batch comes at once and on any machine. What is
printed is the rule that the step itself follows (`pygan.ops.conv.path`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pygan import errors, gans
from pygan import recipe as recipes
from pygan.nn import ConvNormAct, is_convolution
from pygan.ops.conv import Path
from pygan.recipe import BaseRecipe


class Layer(NamedTuple):
    """One convolution of a step, on one shape of input."""

    name: str
    what: str  # "conv 4x4 s2"
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    calls: int  # forward passes of a step that see this shape
    path: Path


def report(gan: ModuleType, name: str, preset: str | None, given: Mapping[str, Any], device_type: str) -> int:
    """Print the table. device_type: "cuda" or "cpu", where the step would run. Returns 0. Errors: UserError."""
    preset = preset or ("fast" if device_type == "cuda" and "fast" in gan.PRESETS else "paper")
    phases = gans.phases(gan, gan.resolve(recipes.make(gan.Recipe, gan.PRESETS, preset, given)))
    for number, recipe in enumerate(phases, start=1):
        phase = f", phase {number} of {len(phases)}" if len(phases) > 1 else ""
        _table(gan, recipe, f"{name}, preset {preset}{phase}", device_type)
    return 0


def _table(gan: ModuleType, recipe: BaseRecipe, title: str, device_type: str) -> None:
    """Print the layers of one phase."""
    dtype = torch.float32
    if recipe.amp:
        dtype = torch.float16 if recipe.amp_dtype == "fp16" else torch.bfloat16
    layers = walk(gan, recipe, dtype, device_type)
    where = "a GPU" if device_type == "cuda" else "a CPU"
    print(f"{title}, batch {recipe.batch}, {str(dtype).removeprefix('torch.')} on {where}:\n")
    width = max(len(layer.name) for layer in layers)
    what = max(len(layer.what) for layer in layers)
    for layer in layers:
        shapes = f"{_text(layer.x_shape)} -> {_text(layer.y_shape)}"
        where = f"{layer.name:<{width}}  {layer.what:<{what}}  {shapes:<36} x{layer.calls:<2}"
        print(f"{where} {layer.path.name:<8} {layer.path.why}")
    names = [layer.path.name for layer in layers]
    print("\n" + ", ".join(f"{names.count(kind)} {kind}" for kind in sorted(set(names))))


def walk(gan: ModuleType, recipe: BaseRecipe, dtype: torch.dtype, device_type: str) -> list[Layer]:
    """Every convolution of one training step, in the order of the computation."""
    seen: dict[tuple[str, tuple[int, ...]], Layer] = {}

    def note(name: str, layer: nn.Module, x: Tensor, padded: bool) -> None:
        conv = layer.conv if isinstance(layer, ConvNormAct) else layer
        x_shape = (*x.shape, *(1,) * (4 - x.dim()))  # noise is a map of one pixel
        before = seen.get((name, x_shape))
        border = 2 * conv.geometry.padding if padded else 0  # that x has already
        y_shape = tuple(conv.out_shape((*x_shape[:2], x_shape[2] - border, x_shape[3] - border)))
        path = layer.path(x_shape, dtype, device_type)
        calls = 1 if before is None else before.calls + 1
        seen[name, x_shape] = Layer(name, _kind(conv), x_shape, y_shape, calls, path)

    with errors.quiet():  # what is missing for tensors without memory concerns nobody
        state = gan.build(recipe, "meta")
        for opt in state.opts:
            state.opts[opt] = Still()
        for net_name, net in state.nets.items():
            inside = {id(block.conv) for block in net.modules() if isinstance(block, ConvNormAct)}
            for path, layer in net.named_modules():
                if isinstance(layer, ConvNormAct) or (is_convolution(layer) and id(layer) not in inside):

                    def hook(layer: nn.Module, inputs: Any, options: Any, name: str = f"{net_name}.{path}") -> None:
                        note(name, layer, inputs[0], options.get("padded", False))

                    layer.register_forward_pre_hook(hook, with_kwargs=True)
        gan.step(state, recipe, gan.example(recipe))
    return list(seen.values())


class Still:
    """An optimizer that does nothing: the walk needs forward passes alone."""

    found_inf = torch.zeros(())

    def update(self, loss: Tensor, scale: Tensor | None, also: Sequence[Tensor] = ()) -> None:
        for leaf in also:
            leaf.grad = torch.zeros_like(leaf)

    def scale_lr_(self, factor: Tensor) -> None: ...

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def refresh_(self) -> None: ...


def _kind(conv: nn.Module) -> str:
    kernel, g = "x".join(str(k) for k in conv.weight.shape[2:]), conv.geometry
    word = "transposed" if g.transposed else "conv"
    more = (f" s{g.stride}" if g.stride > 1 else "") + (" reflect" if g.pad_mode == "reflect" else "")
    return f"{word} {kernel}{more}"


def _text(shape: tuple[int, ...]) -> str:
    n, c, h, w = shape
    return f"{n}x{c}x{h}x{w}"
