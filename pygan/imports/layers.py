"""The layers of other programs' generators, by their names there and here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Layer(NamedTuple):
    """A convolution of the peer's network, the norm behind it, and the same block of ours."""

    conv: str
    norm: str  # "": none
    ours: str
    alone: bool = False  # our convolution stands by itself, not in a block with a norm
    swap: bool = False  # input channels: those of the encoder come first


def unet_layers(levels: int) -> Iterator[Layer]:
    """The port's nested blocks, each `model` of which is down, the block inside it, up."""
    yield Layer("model.model.0", "", "downs.0")
    inside = "model.model.1.model"
    for level in range(2, levels):
        yield Layer(f"{inside}.1", f"{inside}.2", f"downs.{level - 1}")
        yield Layer(f"{inside}.5", f"{inside}.6", f"ups.{levels - level}")
        inside += ".3.model"
    yield Layer(f"{inside}.1", "", f"downs.{levels - 1}")
    yield Layer(f"{inside}.3", f"{inside}.4", "ups.0")
    yield Layer("model.model.3", "", "head", alone=True)


def swapped(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """Transposed convolutions behind a concat: all but the innermost."""
    for layer in layers:
        joined = layer.ours == "head" or (layer.ours.startswith("ups.") and layer.ours != "ups.0")
        yield layer._replace(swap=joined)


def resnet_layers(blocks: int, dropout: bool) -> Iterator[Layer]:
    yield Layer("model.1", "model.2", "stem")
    yield Layer("model.4", "model.5", "down_1")
    yield Layer("model.7", "model.8", "down_2")
    second = 6 if dropout else 5  # behind pad, conv, norm, ReLU, dropout, pad
    for i in range(blocks):
        block = f"model.{10 + i}.conv_block"
        yield Layer(f"{block}.1", f"{block}.2", f"blocks.{i}.first")
        yield Layer(f"{block}.{second}", f"{block}.{second + 1}", f"blocks.{i}.second")
    n = 10 + blocks
    yield Layer(f"model.{n}", f"model.{n + 1}", "up_1")
    yield Layer(f"model.{n + 3}", f"model.{n + 4}", "up_2")
    yield Layer(f"model.{n + 7}", "", "head", alone=True)


def stargan_layers(blocks: int) -> Iterator[Layer]:
    for i, ours in enumerate(("stem", "down_1", "down_2")):
        yield Layer(f"main.{3 * i}", f"main.{3 * i + 1}", ours)
    for i in range(blocks):
        block = f"main.{9 + i}.main"
        yield Layer(f"{block}.0", f"{block}.1", f"blocks.{i}.first")
        yield Layer(f"{block}.3", f"{block}.4", f"blocks.{i}.second")
    n = 9 + blocks
    yield Layer(f"main.{n}", f"main.{n + 1}", "up_1")
    yield Layer(f"main.{n + 3}", f"main.{n + 4}", "up_2")
    yield Layer(f"main.{n + 6}", "", "head", alone=True)
