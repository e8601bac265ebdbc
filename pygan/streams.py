"""Work side by side on one GPU, also inside a CUDA graph. On a CPU, and outside `overlapping()`, it runs in turn.

What a GPU does at batch 1 is hundreds of short kernels that do not fill it. Three kinds of work wait for nobody and run
beside the rest: gradients of weights, the optimizer's pass over weights whose gradient is there, and a second network.

Memory is the trap: a block that Python gives back is handed out again on the stream it came from, whatever another
stream still reads. So everything that crosses streams is kept alive until `join`, behind which all of it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

_F, _G = TypeVar("_F"), TypeVar("_G")
_SIDE, _SECOND = 0, 1  # weight gradients and optimizers; the second of two networks

_on = False
_streams: dict[tuple[int, int], torch.cuda.Stream] = {}
_forked: set[tuple[int, int]] = set()  # streams that have work since the last join
_kept: list[Any] = []  # what they read
_kept_for_the_step: list[Any] = []


@contextlib.contextmanager
def overlapping(enabled: bool = True) -> Iterator[None]:
    """Inside, work is spread over streams of the current GPU; `finish` must have been called before it ends."""
    global _on
    before, _on = _on, enabled
    try:
        yield
    finally:
        _on = before
        if _forked and not torch.cuda.is_current_stream_capturing():  # something failed on the way
            torch.cuda.synchronize()
        _forked.clear()
        _kept.clear()
        _kept_for_the_step.clear()


def overlaps(x: Tensor) -> bool:
    """True where work on x is spread over streams."""
    return _on and x.is_cuda


def here(x: Tensor) -> int:
    """A number for the stream that work on x is launched on now."""
    return torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0


def _stream(device: torch.device, which: int) -> torch.cuda.Stream:
    key = (device.index, which)
    if key not in _streams:
        _streams[key] = torch.cuda.Stream(device)
    _forked.add(key)
    return _streams[key]


@contextlib.contextmanager
def beside(*used: Tensor) -> Iterator[None]:
    """Launch what is inside on the side stream, behind all that the current stream has.

    used: the tensors that it reads. What is inside must only be read after `join`.
    """
    if not overlaps(used[0]):
        yield
        return
    device = used[0].device
    side = _stream(device, _SIDE)
    side.wait_stream(torch.cuda.current_stream(device))
    _kept.extend(used)
    with torch.cuda.stream(side):
        yield


def side_by_side(f: Callable[[], _F], g: Callable[[], _G]) -> tuple[_F, _G]:
    """(f(), g()), g on a stream of its own; so are both backward passes (autograd runs a node where its forward ran).

    f and g must not need each other. A network must be called in the same place, f or g, all through a step.
    """
    if not _on:
        return f(), g()
    device = torch.device("cuda", torch.cuda.current_device())
    main, second = torch.cuda.current_stream(device), _stream(device, _SECOND)
    second.wait_stream(main)
    with torch.cuda.stream(second):
        b = g()
    a = f()
    main.wait_stream(second)
    _kept_for_the_step.append((f, g, a, b))  # either stream's backward reads what they hold
    return a, b


def join(device: torch.device) -> None:
    """The current stream waits for all that runs beside it."""
    for key in sorted(_forked):
        torch.cuda.current_stream(device).wait_stream(_streams[key])
    _forked.clear()
    _kept.clear()


def finish(device: torch.device) -> None:
    """`join` at the end of a step: no backward pass is to come for what `side_by_side` computed."""
    join(device)
    _kept_for_the_step.clear()
