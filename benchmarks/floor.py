"""How fast a step can be at most on this GPU: the bytes that it must move, the products that it must compute.

    convolutions   for every layer and pass the larger of FLOPs / measured bf16 matmul rate and
                   bytes / measured copy bandwidth; input, weight and output once each, in 16 bits
    norms          each tensor once: 4 bytes per element forward (x, y), 6 backward (x, dy, dx). What does not fit into
                   cache is read twice, 6 and 10 bytes: `Floor.norms_two_reads`, which is not part of the floor
    Adam           28 bytes per parameter: master weight and both moments in float32, gradient and copy in 16 bits

Which layers and passes a step has is read off the plain step itself, run on tensors without memory.
"""

import statistics
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import timing

aten = torch.ops.aten
_NORMS = {aten.native_batch_norm, aten._native_batch_norm_legit, aten.cudnn_batch_norm}
_NORMS_BACKWARD = {aten.native_batch_norm_backward, aten.cudnn_batch_norm_backward}
ADAM_BYTES = 28  # per parameter
NORM_BYTES = {"forward": 4, "backward": 6}  # per element, read once
NORM_BYTES_TWO_READS = {"forward": 6, "backward": 10}


class Conv(NamedTuple):
    """One pass of one convolution."""

    flop: int
    bytes: int


class Work(NamedTuple):
    """What a step does."""

    convs: list[Conv]
    norm_elements: dict[str, int]  # by "forward" and "backward"
    parameters: int

    @property
    def conv_flop(self):
        return sum(conv.flop for conv in self.convs)


class Rates(NamedTuple):
    """What a GPU was seen to do."""

    flop_per_s: float  # bf16 matmul
    bytes_per_s: float  # copy, read and write counted


class Floor(NamedTuple):
    """Milliseconds per step."""

    convs: float
    norms: float
    adam: float
    norms_two_reads: float

    @property
    def ms(self):
        return self.convs + self.norms + self.adam


def conv_pass(x, weight, y, *, transposed):
    """One pass of a convolution from its three shapes; forward and both gradients cost the same.

    Multiplications that fall on padding are counted.
    """
    positions = torch.Size(x if transposed else y).numel()  # each meets a whole kernel
    macs = positions * torch.Size(weight[1:]).numel()
    values = sum(torch.Size(shape).numel() for shape in (x, weight, y))
    return Conv(flop=2 * macs, bytes=2 * values)


class _Record(TorchDispatchMode):
    """Notes the convolutions and norms that pass by."""

    def __init__(self):
        super().__init__()
        self.convs, self.norm_elements = [], {"forward": 0, "backward": 0}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        op = func.overloadpacket
        if op is aten.convolution:
            self.convs.append(conv_pass(args[0].shape, args[1].shape, out.shape, transposed=args[6]))
        elif op is aten.convolution_backward:
            (dy, x, weight), transposed, (wants_dx, wants_dw, _) = args[:3], args[7], args[10]
            one = conv_pass(x.shape, weight.shape, dy.shape, transposed=transposed)
            self.convs += [one] * (wants_dx + wants_dw)
        elif op in _NORMS:
            self.norm_elements["forward"] += args[0].numel()
        elif op in _NORMS_BACKWARD:
            self.norm_elements["backward"] += args[0].numel()
        return out


def work(plain, A, B):
    """The `Work` of a `Plain`'s step on A and B, all of it on the meta device: nothing is computed."""
    plain.update = lambda name, loss: loss.backward()
    with _Record() as seen:
        plain.step(A, B)
    parameters = sum(p.numel() for net in plain.nets.values() for p in net.parameters())
    return Work(seen.convs, seen.norm_elements, parameters)


def floor(work, rates):
    """The `Floor` of a step on a GPU with these rates."""

    def norms(bytes_per_element):
        return sum(count * bytes_per_element[way] for way, count in work.norm_elements.items()) / rates.bytes_per_s

    convs = sum(max(conv.flop / rates.flop_per_s, conv.bytes / rates.bytes_per_s) for conv in work.convs)
    adam = ADAM_BYTES * work.parameters / rates.bytes_per_s
    return Floor(*(1e3 * seconds for seconds in (convs, norms(NORM_BYTES), adam, norms(NORM_BYTES_TWO_READS))))


def measured_rates():
    """The `Rates` of this GPU: a product of two 8192 x 8192 bf16 matrices, and a copy of 1 GiB."""
    side, count = 8192, 1 << 28
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in "ab")
    source = torch.randn(count, device="cuda")
    target = torch.empty_like(source)
    runs = {"matmul": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)}
    times, _ = timing.interleaved(runs, device="cuda", rounds=5, seconds=0.1)
    matmul_s, copy_s = (statistics.median(times[name]) * 1e-3 for name in ("matmul", "copy"))
    return Rates(flop_per_s=2 * side**3 / matmul_s, bytes_per_s=2 * 4 * count / copy_s)
