"""A whole training step as one CUDA graph: D and G, forward and backward, both optimizers, the average.

Replaying a graph costs the CPU one call instead of several hundred kernel launches. What is computed is the same,
bit for bit: the kernels that a plain step launches are recorded, and run again on the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pygan import streams
from pygan.device import current
from pygan.state import State

Step = Callable[[Any], dict[str, Tensor]]
_WARM_UP = 3  # steps before capture: cuDNN picks its algorithms, the allocator its blocks


class GraphedStep:
    """`step(batch)` recorded once and replayed from then on.

    step: changes only tensors of `state`, in place, and reads only them and its batch; it never waits for the GPU.
    batch: an example, a named tuple of tensors (the pictures, or the address of pictures that the step gathers itself);
    every later batch has its shapes. Numbers that change during training (the learning rate) must be tensors. The
    returned logs are overwritten by the next call.

    The graph is wide where the step is (`streams`): gradients of small layers' weights and the optimizer run beside the
    backward pass, the two networks of a pair beside each other. overlap=False: one kernel after the other.
    """

    def __init__(self, step: Step, state: State, batch: Any, *, overlap: bool = True) -> None:
        self._device = state.device
        with current(self._device):
            self._batch = type(batch)(*(torch.empty_like(tensor, device=state.device) for tensor in batch))
            self._load(batch)
            live = state.tensors()
            before = {name: tensor.detach().clone() for name, tensor in live.items()}
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for i in range(_WARM_UP):
                    with streams.overlapping(overlap and i > 0):  # cuDNN measures its algorithms undisturbed
                        step(self._batch)
                with torch.no_grad():
                    for name, tensor in live.items():
                        tensor.copy_(before[name])
                state.refresh_()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # "thread_local": a feed may allocate on the GPU from its own threads meanwhile, which is none of our
            # business. The stream is named: PyTorch's own for recordings is of the GPU that recorded first.
            recorded = torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local")
            with streams.overlapping(overlap), recorded:
                self._logs = step(self._batch)

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        self._load(batch)
        with current(self._device):  # on whose current stream it runs
            self._graph.replay()
        return self._logs

    def _load(self, batch: Any) -> None:
        for static, tensor in zip(self._batch, batch, strict=True):
            static.copy_(tensor, non_blocking=True)
