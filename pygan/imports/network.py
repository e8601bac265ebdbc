"""Which generator tensors are: its family, its depth, its norm, its channels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from pygan.errors import UserError
from pygan.imports import reading
from pygan.imports.asked import Asked
from pygan.imports.layers import Layer, resnet_layers, stargan_layers, unet_layers

_PORT = "the PyTorch CycleGAN/pix2pix port"
_DISCRIMINATORS = {
    "patch": f"a PatchGAN discriminator of {_PORT}",
    "pixel": f"a pixel discriminator of {_PORT}",
    "stargan D": "a discriminator of StarGAN's code",
}


@dataclass(frozen=True)
class Network:
    """A generator that was recognised."""

    file: Path
    kind: str  # "unet", "resnet" or "stargan"
    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    depth: int  # halvings of a U-Net, blocks of the others
    norm: str = "instance"
    affine: bool = False
    biases: bool = False  # in front of the norms
    dropout: bool | None = None  # None: the file does not say
    channels: tuple[int, int] = field(default=(3, 3))  # of input and output; labels are counted with the input
    width: int = 64  # channels of the first convolution

    def __str__(self) -> str:
        words = {"unet": f"a U-Net generator of {self.depth} levels", "resnet": f"a ResNet generator of {self.depth}"}
        if self.kind == "stargan":
            return f"a StarGAN generator of {self.depth} blocks and {self.channels[0] - self.channels[1]} label planes"
        return words[self.kind] + (" blocks" if self.kind == "resnet" else "") + f" ({self.norm} norm)"


def recognise(file: Path, asked: Asked) -> Network:
    """The generator that a file holds. Errors: UserError, what the file is instead."""
    tensors = reading.tensors(file)

    def kernel(key: str) -> int:
        weight = tensors.get(key)
        return weight.shape[2] if weight is not None and weight.dim() == 4 else 0

    if kernel("model.model.0.weight") == 4:
        depth = max(_levels(tensors), default=1)
        layers = tuple(unet_layers(depth))
        return _port(file, "unet", tensors, layers, depth, asked)
    if kernel("model.1.weight") == 7:
        depth, dropout = _blocks(tensors, file)
        layers = tuple(resnet_layers(depth, dropout))
        return _port(file, "resnet", tensors, layers, depth, asked, dropout)
    if kernel("main.0.weight") == 7:
        depth = sum(bool(re.fullmatch(r"main\.\d+\.main\.0\.weight", key)) for key in tensors)
        layers = tuple(stargan_layers(depth))
        network = Network(file, "stargan", tensors, layers, depth, affine=True)
        return _with_sizes(network)
    kind = ""
    if kernel("model.0.weight") == 4:
        kind = "patch"
    elif kernel("net.0.weight") == 1:
        kind = "pixel"
    elif kernel("main.0.weight") == 4 and "conv1.weight" in tensors:
        kind = "stargan D"
    if kind:
        raise UserError(f"{file} is {_DISCRIMINATORS[kind]}, no generator; import the file of its G")
    key = next(iter(tensors))
    raise UserError(
        f"{file} is no network that is understood ({len(tensors)} tensors, the first {key!r} of shape "
        f"{list(tensors[key].shape)}): a *_net_G.pth of {_PORT} or a *-G.ckpt of StarGAN's code is"
    )


def _levels(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    for key in tensors:
        if match := re.fullmatch(r"model\.model\.1((?:\.model\.3)*)\.model\.1\.weight", key):
            yield 2 + len(match[1]) // len(".model.3")


def _blocks(tensors: Mapping[str, Tensor], file: Path) -> tuple[int, bool]:
    """(how many residual blocks, do they have dropout). Errors: UserError for blocks without reflected borders."""
    found = {key.split(".")[1] for key in tensors if re.match(r"model\.\d+\.conv_block\.", key)}
    if "model.10.conv_block.0.weight" in tensors:
        raise UserError(f"{file} is a ResNet generator of {_PORT} with padding by zeros, which is not understood")
    return len(found), "model.10.conv_block.6.weight" in tensors and "model.10.conv_block.5.weight" not in tensors


def _port(
    file: Path,
    kind: str,
    tensors: Mapping[str, Tensor],
    layers: tuple[Layer, ...],
    depth: int,
    asked: Asked,
    dropout: bool | None = None,
) -> Network:
    """A generator of the port, whose norm and dropout are found in its tensors or in what is asked."""
    normed = next(layer for layer in layers if layer.norm)
    scaled, running = f"{normed.norm}.weight" in tensors, f"{normed.norm}.running_mean" in tensors
    biases = f"{normed.conv}.bias" in tensors
    if scaled and running and biases:  # BatchNorm behind biases, or InstanceNorm with everything
        norm = asked.norm
        if not norm:
            raise UserError(f"{file} does not say which norm its network has: add --norm batch or --norm instance")
    elif scaled and running:
        norm = "batch"
    elif scaled or biases:  # old versions of the port kept running statistics of InstanceNorm and never used them
        norm = "instance"
    else:
        raise UserError(f"{file} is a generator of {_PORT} without norms, which is not understood")
    if asked.norm not in ("", norm):
        raise UserError(f"--norm is {asked.norm}, but the network in {file} has {norm} norm; leave the flag out")
    if dropout is not None and asked.dropout not in (None, dropout):
        word = "has" if dropout else "has no"
        raise UserError(f"the network in {file} {word} dropout; leave --dropout and --no-dropout out")
    network = Network(file, kind, tensors, layers, depth, norm=norm, affine=scaled, biases=biases, dropout=dropout)
    return _with_sizes(network)


def _with_sizes(network: Network) -> Network:
    """The network with its channels. Errors: UserError if a layer is missing or has another shape than its kind."""
    first, last = network.layers[0], network.layers[-1]
    for layer in network.layers:
        weight = network.tensors.get(f"{layer.conv}.weight")
        if weight is None or weight.dim() != 4:
            raise UserError(f"{network.file} is {network}, but its {layer.conv}.weight is missing or no convolution")
    stem, head = network.tensors[f"{first.conv}.weight"], network.tensors[f"{last.conv}.weight"]
    out = head.shape[1 if network.kind == "unet" else 0]  # transposed in a U-Net
    return replace(network, channels=(stem.shape[1], out), width=stem.shape[0])
