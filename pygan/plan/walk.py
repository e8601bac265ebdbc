"""One training step walked on tensors without values: every tensor's birth and death, and the work of every operation.

Fake tensors know shape, type, memory order and device, so the step takes the paths that it would take with values, and
autograd frees what it would free: the highest sum of live bytes is that of the tensors of a real step. What an
operation needs inside itself is in it for convolutions on a CPU, as far as it is known.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from pygan import errors
from pygan.nn import full_precision
from pygan.recipe import BaseRecipe
from pygan.state import State

STATE_PARTS = ("weights", "working copies", "optimizer", "averages", "buffers")
STEP_PARTS = ("gradients", "activations", "batch")
HEAP = 32 << 20  # bytes: what is larger, glibc always takes from the system and gives back at once
# Copies of its weight that oneDNN makes inside a convolution: one in its own order; backward one more of the gradient,
# and one of the transposed weight (measured: 105 MiB around a weight of 33 MiB).
_WEIGHT_COPIES = {torch.ops.aten.convolution: 1, torch.ops.aten.convolution_backward: 3}


@dataclass(frozen=True)
class Walk:
    """What one step of a recipe takes; sizes in bytes.

    parameters: by net. state: STATE_PARTS, there from the beginning to the end. step: STEP_PARTS at the moment when
    most is needed; scratch: what the library needs inside an operation at that moment; small: bytes of the step that
    lie in tensors of less than HEAP. evaluation: the most that measuring and painting a batch of held-out items adds to
    the state; checkpoint: what writing one adds (copies in the order of the file). flops: floating point operations of
    matrix products and convolutions of a step; moved: bytes that all operations of a step read and write; operations:
    how many there are. files: bytes of a checkpoint on disk. unwalked: what could not be walked, in words, "" if
    nothing.
    """

    parameters: dict[str, int]
    state: dict[str, int]
    step: dict[str, int]
    scratch: int
    small: int
    evaluation: int
    checkpoint: int
    flops: float
    moved: float
    operations: int
    files: int
    unwalked: str = ""

    @property
    def state_bytes(self) -> int:
        """Of all that is alive between two steps."""
        return sum(self.state.values())

    @property
    def step_bytes(self) -> int:
        """What a step adds to the state at its peak."""
        return sum(self.step.values()) + self.scratch


def walk(gan: ModuleType, recipe: BaseRecipe, device: torch.device | str) -> Walk:
    """Walk one step of a resolved recipe (one phase) on a device of this kind; nothing is computed.

    device: "cpu", or "cuda" where torch has one. Errors: UserError, where the GAN needs files that are not there.
    """
    follower = Follower()
    with errors.quiet(), _fake_tensors(), follower:
        state = gan.build(recipe, device)
        state_parts = _named(state, follower)
        parameters = {name: sum(p.numel() for p in net.parameters()) for name, net in state.nets.items()}
        files = sum(tensor.numel() * tensor.element_size() for tensor in state.tensors().values())

        checkpoint = follower.highest(lambda: _contiguous(state))
        evaluation, unwalked = 0, ""
        try:
            evaluation = follower.highest(lambda: _evaluation(gan, recipe, state, device))
        except Exception as error:  # an operation that asks for values: no measure is needed for a plan
            unwalked = f"an evaluation ({type(error).__name__})"

        with _gradients_told(state, follower):
            batch = gan.example(recipe, device)
            follower.call(batch, "batch")
            follower.begin()
            gan.step(state, recipe, batch)
        step = follower.peak_by_part()
    return Walk(
        parameters=parameters,
        state=state_parts,
        step={part: step.get(part, 0) for part in STEP_PARTS},
        scratch=follower.scratch,
        small=follower.small_at_peak(),
        evaluation=evaluation,
        checkpoint=checkpoint,
        flops=follower.flops,
        moved=follower.moved,
        operations=follower.operations,
        files=files,
        unwalked=unwalked,
    )


class Follower(TorchDispatchMode):
    """Follows storages from birth to death. Lives as long as a walk; sizes in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.moved = 0.0
        self.operations = 0
        self.live = self.scratch = self._peak = 0
        self._storages: dict[int, _Storage] = {}  # by address, the living
        self._at_peak: list[_Storage] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        fresh = [tensor for tensor in outputs if self._note(tensor)]
        if outputs and (fresh or not _is_view(func)):  # a fake tensor asks for its device here, too
            self.operations += 1
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in [*inputs, *outputs])
        if copies := _WEIGHT_COPIES.get(func._overloadpacket):
            weight = args[1 if func._overloadpacket is torch.ops.aten.convolution else 2]
            if weight.device.type == "cpu":
                self._look(copies * weight.numel() * weight.element_size())
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out

    def begin(self) -> None:
        """From here on: the work is counted, and the peak is looked for."""
        self.flops = self.moved = 0.0
        self.operations = 0
        self._peak = self.scratch = 0
        self._look()

    def call(self, tensors: Any, part: str) -> int:
        """Say which part these tensors are of, where that is not known yet. Returns the bytes that were not."""
        found = 0
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._note(tensor)
                storage = self._storages[tensor.untyped_storage()._cdata]
                if not storage.part:
                    storage.part = part
                    found += storage.size
        return found

    def highest(self, act: Callable[[], Any]) -> int:
        """Do something and let its tensors go: the bytes that were alive at most beside those from before."""
        before = self.live
        self._peak = before
        act()
        return self._peak - before

    def peak_by_part(self) -> dict[str, int]:
        """What was alive at the peak, but the parts of the state, by part; unnamed tensors are activations."""
        found: dict[str, int] = {}
        for storage in self._at_peak:
            part = storage.part or "activations"
            if part not in STATE_PARTS:
                found[part] = found.get(part, 0) + storage.size
        return found

    def small_at_peak(self) -> int:
        """Bytes alive at the peak beside the state, in tensors of less than HEAP."""
        return sum(s.size for s in self._at_peak if s.part not in STATE_PARTS and s.size < HEAP)

    def _note(self, tensor: Tensor) -> bool:
        """Is it a tensor of memory that was not known?"""
        memory = tensor.untyped_storage()
        key = memory._cdata
        if key in self._storages:
            return False
        size = memory.nbytes()

        def died(_: Any, key: int = key) -> None:
            self.live -= self._storages.pop(key).size

        self._storages[key] = _Storage(size, weakref.ref(memory, died))
        self.live += size
        self._look()
        return True

    def _look(self, scratch: int = 0) -> None:
        """Is more needed now than ever? scratch: inside the operation."""
        if self.live + scratch > self._peak:
            self._peak, self.scratch = self.live + scratch, scratch
            self._at_peak = list(self._storages.values())


@dataclass
class _Storage:
    """A run of memory; `part` may become known after its birth."""

    size: int
    alive: Any
    part: str = field(default="")


def _is_view(func: Any) -> bool:
    """Does the operation only look at memory in another way?"""
    return any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.returns)


@contextlib.contextmanager
def _fake_tensors() -> Iterator[None]:
    """Tensors without values inside, each with an address of its own: pygan's ops compare addresses."""

    def address(tensor: Tensor) -> int:
        return (tensor.untyped_storage()._cdata << 48) + tensor.storage_offset() * tensor.element_size()

    with mock.patch.object(FakeTensor, "data_ptr", address), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def _named(state: State, follower: Follower) -> dict[str, int]:
    """Tell the follower what the state is made of. Bytes by part."""
    params = [p for net in state.nets.values() for p in net.parameters()]
    low = [getattr(m, "low", None) for net in state.nets.values() for m in net.modules()]
    found = {
        "weights": follower.call([*params, *(b for net in state.nets.values() for b in net.buffers())], "weights"),
        "working copies": follower.call([t for one in low if one for t in (one.weight, one.bias)], "working copies"),
        "averages": follower.call([dict(net.state_dict()) for net in state.ema.values()], "averages"),
        "optimizer": follower.call([opt.tensors() for opt in state.opts.values()], "optimizer"),
        "buffers": follower.call(state.buffers, "buffers"),
    }
    rest = list(follower._storages.values())
    found["buffers"] += sum(storage.size for storage in rest if not storage.part)
    for storage in rest:
        storage.part = storage.part or "buffers"
    return {part: found[part] for part in STATE_PARTS}


@contextlib.contextmanager
def _gradients_told(state: State, follower: Follower) -> Iterator[None]:
    """Inside, what becomes the gradient of a weight is called one."""

    def tell(leaf: Tensor) -> None:
        follower.call(leaf.grad, "gradients")

    leaves = (leaf for opt in state.opts.values() for leaf in opt.leaves())
    handles = [leaf.register_post_accumulate_grad_hook(tell) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _contiguous(state: State) -> None:
    """What `checkpoint.save` copies: one file after the other, in the order of the file."""
    for tensors in (*(net.state_dict() for net in state.networks().values()), state.rest()):
        _ = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _evaluation(gan: ModuleType, recipe: BaseRecipe, state: State, device: torch.device | str) -> None:
    """What an evaluation does with a batch."""
    nets = state.nets | state.ema
    with full_precision(), torch.no_grad():
        gan.sample(nets["G"], recipe, gan.example(recipe, device))
        gan.measure(nets, recipe, gan.example(recipe, device))
