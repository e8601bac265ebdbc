"""A network as a safetensors file: the weights of G alone, and the card in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from pygan import nn as blocks
from pygan.nn import Linear
from pygan.use import Trained

_LENGTH = 8  # bytes of the number in front, which says how long the header is


def write(trained: Trained, metadata: Mapping[str, str], path: Path, *, half: bool = False) -> None:
    """Write the weights and buffers of the network, and `metadata` in the header. half: convolutions' and dense layers'
    in float16. The same network makes the same bytes. Errors: OSError.
    """
    narrow = {
        f"{name}.{key}".lstrip(".")
        for name, module in trained.net.named_modules()
        if blocks.is_convolution(module) or isinstance(module, Linear)
        for key, _ in module.named_parameters(recurse=False)
    }
    tensors = {}
    for name, tensor in trained.net.state_dict().items():
        dtype = torch.float16 if half and name in narrow else tensor.dtype
        tensors[name] = tensor.detach().cpu().to(dtype).contiguous()
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    length = int.from_bytes(data[:_LENGTH], "little")
    header = json.loads(data[_LENGTH : _LENGTH + length])
    # Written anew with its keys in order, which the library leaves to chance; padded to whole words, as it does.
    header = {"__metadata__": {"format": "pt"} | dict(sorted(metadata.items()))} | {
        name: header[name] for name in sorted(header) if name != "__metadata__"
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(_LENGTH, "little"))
        file.write(text)
        file.write(memoryview(data)[_LENGTH + length :])
