"""Loads the operator library `pygan/_ops.so` once, and says why when it cannot."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
from pathlib import Path

import torch


def _find() -> Path | None:
    """The library: $PYGAN_NATIVE_DIR, else beside the installed package (wheel, editable or source tree)."""
    if folder := os.environ.get("PYGAN_NATIVE_DIR"):
        return Path(folder) / "_ops.so"
    module = importlib.util.find_spec("pygan._C")
    if module is not None and module.origin is not None:
        return Path(module.origin).parent / "_ops.so"
    try:  # `python -m ...` inside a checkout imports the sources: the library is in the installed pygan
        installed = Path(str(importlib.metadata.distribution("pygan").locate_file("pygan/_ops.so")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return installed if installed.exists() else None


@functools.cache
def _load() -> str:
    """Load the library. Returns "" when it is loaded, else the reason why it is not."""
    library = _find()
    if library is None:
        return "pygan's native library is not installed; run `pip install .` in the checkout to build it"
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        return f"{library} does not load ({str(error).splitlines()[0]}); reinstall pygan against this torch"
    return ""


def available() -> bool:
    """True when the native operators can be called."""
    return _load() == ""


def why_missing() -> str:
    """One line: why the native operators cannot be called. Empty when they can."""
    return _load()


@functools.cache
def has_cuda_kernels() -> bool:
    """True when the library is loaded and its CUDA kernels were compiled in."""
    return available() and torch._C._dispatch_has_kernel_for_dispatch_key("pygan::norm_act", "CUDA")
