"""A network from an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pygan import device as devices
from pygan.errors import UserError, say_once
from pygan.exported import facts
from pygan.exported.network import Exported

_ELSEWHERE = b"\n\x08location"  # how an ONNX file names another one that its weights are in


def read(path: Path, device: str = "auto") -> Exported:
    """The network of an ONNX file. On a GPU where ONNX Runtime has its CUDA provider, else on the CPU, which is said.

    Errors: UserError, also where onnxruntime is missing; OSError.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"to use {path} the package onnxruntime is needed; pip install '.[export]' in pygan's checkout"
        ) from error
    data = path.read_bytes()
    if _ELSEWHERE in data:
        raise UserError(f"{path} takes its weights from other files, which is not done here; only what is in it counts")
    where = devices.choose(device) if device != "auto" else torch.device("cpu")
    providers = ["CPUExecutionProvider"]
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device != "cpu" and has_cuda:
        providers.insert(0, "CUDAExecutionProvider")
        where = torch.device("cuda")
    elif device == "cuda":
        say_once(f"{path} runs on the CPU: this onnxruntime has no CUDA (slower); pip install onnxruntime-gpu")
        where = torch.device("cpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what goes wrong is said below
    options.intra_op_num_threads = torch.get_num_threads()  # its own count is that of the machine's cores
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
        table = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # its exceptions have no class in common
        why = str(error).partition("\n")[0].rpartition(" : ")[2][:160]
        raise UserError(f"{path} is not an ONNX file that can be used ({why}); export it again") from error
    card = facts.read(table, str(path))
    names = facts.inputs(card)
    found = [one.name for one in session.get_inputs()]
    if found != list(names):
        raise UserError(f"{path} is damaged: its inputs are {', '.join(found)}, expected {', '.join(names)}")

    def run(given: Mapping[str, Tensor]) -> Tensor:
        return torch.from_numpy(session.run(None, {name: given[name].numpy() for name in names})[0])

    return Exported(card, where, str(path), run)
