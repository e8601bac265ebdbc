"""A network on a GPU replayed: the kernels of a batch recorded once as a CUDA graph, and run again with one call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pygan import device as devices
from pygan.errors import say_once
from pygan.use import Network, Trained

MOST = 8
"""Graphs that are kept, one for each shape of a batch: the memory that a graph computes in is its own."""

_REMEMBERED = 64  # shapes that came once
_WARM_UP = 2  # calls before recording: libraries choose their algorithms, the allocator its blocks

Key = tuple[Any, ...]
Call = Callable[[Tensor, Tensor | None], Tensor]


class Replay:
    """`network.translate` with the same results, bit for bit, and without the cost of launching each kernel.

    A `use.Network` itself, so it can stand wherever the network does. A shape that comes for the first time is computed
    plainly, for the second time recorded; the graph that was not used for longest goes when there are more than `MOST`,
    and all of them where the memory they hold is needed. Plain stays what cannot be recorded: networks on a CPU or of
    exported files, those that search for each picture (those with noise of their own, `card.z`), and a shape that there
    is no memory to record. One thread at a time may call it.
    """

    def __init__(self, network: Network, *, most: int = MOST) -> None:
        self._network, self._most = network, most
        self.card, self.device, self.rng, self.generate = network.card, network.device, network.rng, network.generate
        self._records = isinstance(network, Trained) and network.device.type == "cuda" and not self.card.z
        self._graphs: OrderedDict[Key, Call] = OrderedDict()
        self._seen: OrderedDict[Key, bool] = OrderedDict()  # whether it may be recorded
        self._stream: torch.cuda.Stream | None = None  # for all recordings: libraries keep memory for each stream

    def __call__(self, A: Tensor, rng: Tensor | None = None, **options: Any) -> Tensor:
        """As `use.Network.translate`: (n, c, h, w) in [-1, 1] on any device -> images, float32 on the CPU."""
        key = (tuple(A.shape), rng is not None, tuple(sorted(options.items())))
        if not self._records or not self._again(key):
            return self._plain(A, rng, options)
        with torch.inference_mode():  # what a graph computes in is written again by every call
            if key not in self._graphs:
                try:
                    graph = self._record(A, rng, options)
                except RuntimeError as error:
                    if devices.out_of_memory(error):
                        self._seen[key] = False
                    else:  # it would fail again
                        self._graphs.clear()
                        self._records = False
                        say_once(f"this network cannot be replayed, so each kernel is launched: {_first_line(error)}")
                    graph = None
                if graph is None:
                    return self._plain(A, rng, options)
                self._graphs[key] = graph
                if len(self._graphs) > self._most:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(key)
            return self._graphs[key](A, rng)

    translate = __call__

    def _plain(self, A: Tensor, rng: Tensor | None, options: dict[str, Any]) -> Tensor:
        try:
            return self._network.translate(A, rng, **options)
        except RuntimeError as error:
            if not (self._graphs and devices.out_of_memory(error)):
                raise
        self._graphs.clear()  # behind the error, which keeps the tensors of its call alive
        return self._network.translate(A, rng, **options)

    def _again(self, key: Key) -> bool:
        """Whether such a batch was here before, and may be recorded."""
        if key in self._graphs:
            return True
        if key in self._seen:
            return self._seen[key]
        self._seen[key] = True
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _record(self, A: Tensor, rng: Tensor | None, options: dict[str, Any]) -> Call:
        """A function of (A, rng) that runs the recorded kernels. Errors: RuntimeError where they cannot be recorded."""
        one = self._network
        assert isinstance(one, Trained)
        with devices.current(one.device):
            # Laid out as `Trained.translate` does, so that the same kernels are chosen.
            given = A.to(one.device).contiguous(memory_format=torch.channels_last).clone()
            drawn = None if rng is None else rng.to(one.device).clone()

            def plain() -> Tensor:
                return one.gan.translate(one.net, one.recipe, given, drawn, **options).float()

            stream = self._stream = self._stream or torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # which is left again where recording fails, too
                for _ in range(_WARM_UP):
                    plain()
                graph = torch.cuda.CUDAGraph()
                # "thread_local": threads that decode pictures may allocate meanwhile, which is none of our business.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    made = plain()
            torch.cuda.current_stream().wait_stream(stream)

        def replay(A: Tensor, rng: Tensor | None) -> Tensor:
            given.copy_(A)
            if drawn is not None and rng is not None:
                drawn.copy_(rng)
            with devices.current(one.device):  # on whose current stream it runs
                graph.replay()
            return made.cpu()

        return replay


def _first_line(error: BaseException) -> str:
    """What went wrong first: where a recording fails, ending it fails too."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
