"""A network from a TorchScript file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pygan import device as devices
from pygan.errors import UserError, say_once
from pygan.exported import archive, facts
from pygan.exported.network import Exported

# What a network is made of in TorchScript's own language, one line after the other: functions of `torch`, and a few for
# the sizes of tensors. Its writer puts no space into a name, its reader takes some: whatever is not as written is more.
_NAME = re.compile(r"(?<![.\w])(?:torch|ops)\b[^(,\n]{0,80}\(?")
_CALL = re.compile(r"(?:torch|ops\.prim)\.\w+\(")
_MORE = re.compile(r"\b(?:save|load|from_file|while|for|__setstate__)\b")


def read(path: Path, device: str = "auto") -> Exported:
    """The network of a TorchScript file. Errors: UserError; OSError.

    A file of `torch.save` has the same ending and is a pickle, which could run anything: it is not opened. Nor is
    TorchScript that does anything else than compute with tensors.
    """
    found = archive.members(path, "TorchScript")
    code = {name: info for name, info in found.items() if name.startswith("code/") and name.endswith(".py")}
    if not code or "constants.pkl" not in found:
        raise UserError(
            f"{path} is no TorchScript but a pickle, which could run anything, and is not opened; `pygan import` takes "
            "weights of other programs"
        )
    table = archive.table(path, found)
    for name, info in code.items():
        text = archive.read(path, info).decode("utf-8", "replace")
        strange = [one for one in _NAME.findall(text) if not _CALL.fullmatch(one)] + _MORE.findall(text)
        if strange:
            what = " ".join(strange[0].split())
            raise UserError(f"{path} is not opened: {name} has {what} in it, which no network of pygan does")
    card = facts.read(table, str(path))
    names = facts.inputs(card)
    where = devices.choose(device)
    module = _opened(path, where)

    def run(given: Mapping[str, Tensor]) -> Tensor:
        nonlocal module, where
        inputs = [given[name] for name in names]
        try:
            return _computed(module, inputs, where)
        except RuntimeError as error:
            if where.type == "cpu" or devices.out_of_memory(error):
                raise
            say_once(
                f"{path} was recorded for the CPU alone and runs there (slower); ONNX and PT2 files follow the GPU"
            )
            where = torch.device("cpu")
            module = _opened(path, where)
            return _computed(module, inputs, where)

    return Exported(card, where, str(path), run)


def _opened(path: Path, where: torch.device) -> torch.jit.ScriptModule:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is deprecated is not the user's affair
            return torch.jit.load(str(path), map_location=where).eval()
    except (RuntimeError, ValueError, EOFError) as error:
        why = str(error).strip().partition("\n")[0][:160]
        raise UserError(f"{path} is damaged ({why}); export it again") from error


def _computed(module: torch.jit.ScriptModule, inputs: Sequence[Tensor], where: torch.device) -> Tensor:
    with torch.inference_mode():
        return module(*(x.to(where) for x in inputs)).float().cpu()
