"""Whose memory an error says is too small, whoever says it; and which GPU is the current one."""

import contextlib

import pytest
import torch

from pygan import __main__, device


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


def test_memory_that_no_command_minds_is_one_line(monkeypatch, capsys):
    raised = [RuntimeError("CUDA out of memory."), MemoryError(), RuntimeError("an illegal memory access")]
    monkeypatch.setattr(__main__, "_run", lambda argv: (_ for _ in ()).throw(raised.pop(0)))
    assert [__main__.main(["serve"]) for _ in range(2)] == [2, 2]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("error: ")[2][:15] for line in lines] == ["the GPU has too", "this machine ha"]
    with pytest.raises(RuntimeError, match="illegal"):
        __main__.main(["serve"])
