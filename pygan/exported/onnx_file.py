"""A network from an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygan import device as devices
from pygan.errors import UserError, say_once
from pygan.exported import facts
from pygan.exported.network import Exported

# How an ONNX file names another one that its weights are in: a field 1 of 8 bytes, whose numbers may be written long.
_ELSEWHERE = re.compile(rb"(?:\n|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")
_CUDA = "CUDAExecutionProvider"
_LOOP = re.compile(rb"(?:\x22|\xa2\x80*\x00)(?:\x04|\x84\x80*\x00)(?:Loop|Scan)")  # a node's operator, field 4
_NO_MEMORY = re.compile("bad_alloc|allocate memory|out of memory", re.IGNORECASE)

_of_the_parent: list[Any] = []  # sessions that came with a fork: to let go of one waits for its threads for ever


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
    where, providers = _place(path, device, onnxruntime.get_available_providers())
    session, table, size = _opened(path, providers)
    if where.type == "cuda" and _CUDA not in session.get_providers():
        say_once(
            f"{path} runs on the CPU: the CUDA of this onnxruntime does not start (slower); it needs the CUDA and the "
            "cuDNN that it was built for"
        )
        where = torch.device("cpu")
    card = facts.read(table, str(path))
    names = facts.inputs(card)
    found = [one.name for one in session.get_inputs()]
    if found != list(names):
        raise UserError(f"{path} is damaged: its inputs are {', '.join(found)}, expected {', '.join(names)}")
    process = os.getpid()

    def run(given: Mapping[str, Tensor]) -> Tensor:
        nonlocal session, process
        if os.getpid() != process:  # a fork, which has no threads but its own: the session would wait for its for ever
            again = _opened(path, providers)
            if again[1:] != (table, size):
                raise UserError(f"{path} is another file now than when it was opened; load it again")
            _of_the_parent.append(session)
            session, process = again[0], os.getpid()
        try:
            return torch.from_numpy(session.run(None, {name: given[name].numpy() for name in names})[0])
        except Exception as error:  # its exceptions have no class in common
            if _NO_MEMORY.search(str(error)):
                raise MemoryError(str(error)) from error
            raise RuntimeError(_why(error)) from error

    return Exported(card, where, str(path), run)


def _place(path: Path, device: str, available: Sequence[str]) -> tuple[torch.device, list[Any]]:
    """Where it computes, and what of ONNX Runtime does it. Errors: UserError for a device that is not there."""
    where = devices.choose(device)
    if where.type == "cuda" and _CUDA in available:
        # Its default measures all algorithms anew for every size of pictures.
        options = {"device_id": where.index or 0, "cudnn_conv_algo_search": "HEURISTIC"}
        return where, [(_CUDA, options), "CPUExecutionProvider"]
    if where.type == "cuda":
        say_once(f"{path} runs on the CPU: this onnxruntime has no CUDA (slower); pip install onnxruntime-gpu")
    return torch.device("cpu"), ["CPUExecutionProvider"]


def _opened(path: Path, providers: Sequence[Any]) -> tuple[Any, dict[str, str], int]:
    """A session, the table that the file has, and its size in bytes. Errors: UserError; OSError."""
    import onnxruntime

    data = path.read_bytes()
    if _ELSEWHERE.search(data):
        raise UserError(f"{path} takes its weights from other files, which is not done here; only what is in it counts")
    if _LOOP.search(data):
        raise UserError(f"{path} is not opened: there are loops in it, which no network of pygan has")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said below
    options.intra_op_num_threads = torch.get_num_threads()  # its own count is that of the machine's cores
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
        return session, session.get_modelmeta().custom_metadata_map, len(data)
    except Exception as error:  # its exceptions have no class in common
        raise UserError(f"{path} is not an ONNX file that can be used ({_why(error)}); export it again") from error


def _why(error: Exception) -> str:
    return str(error).partition("\n")[0].rpartition(" : ")[2][:160]
