"""Whose memory an error says is too small, whoever says it; and which GPU is the current one."""

import contextlib

import pytest
import torch

from pygan import device


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "the GPU"),
        (RuntimeError("in the TorchScript interpreter.\nRuntimeError: CUDA out of memory."), "the GPU"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), "the GPU"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "the GPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the GPU"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "this machine",
        ),
        (MemoryError(), "this machine"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), ""),
        (ValueError("CUDA error: out of memory"), ""),
    ],
)
def test_whose_memory_is_too_small(error, whose):
    assert device.out_of_memory(error) == whose


def test_what_torch_says_of_a_tensor_that_is_too_large():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert device.out_of_memory(caught.value) == "this machine"


def test_the_current_gpu(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda where: asked.append(where) or contextlib.nullcontext())
    for name in ("cuda:1", "cpu"):
        with device.current(torch.device(name)):
            pass
    assert asked == [torch.device("cuda:1")]
