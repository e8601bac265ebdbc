"""From the tensors of a step to the memory that a training takes: the process, its libraries, its allocator."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from pygan import heap
from pygan.plan.data import Found
from pygan.plan.measure import Measured, Phase
from pygan.plan.walk import Walk

MIB = 1 << 20

# Of a process on a CPU, in bytes, found by comparing walks with the peaks of real trainings (benchmarks/plan.py).
BASELINE = 325 * MIB  # all libraries, where that is not measured: torch 2.13 on Linux
# What a training takes more, with each e times as many steps, until it gives its heap back (pygan/heap.py): 8 to 15 MiB
# were seen of pix2pix, CycleGAN, StarGAN and DCGAN between 5 and 400 steps.
LONGER = 10 * MIB
FRAGMENTS = 0.5  # of the small tensors of a step: holes that glibc's heap keeps between them

# On a GPU: whole blocks of 2 MiB and holes (part of the tensors), cuDNN's workspaces, the context with its kernels.
GPU_ROUNDING, GPU_WORKSPACE, GPU_CONTEXT = 0.1, 256 * MIB, 500 * MIB


@dataclass(frozen=True)
class Memory:
    """parts: bytes by name, which add up to `peak`; of main memory for a CPU, of the GPU's for a GPU.

    measured: the peak was seen in a real training of some steps, else it is computed. least: what no recipe of this GAN
    goes below on this machine: the process without a network.
    """

    parts: dict[str, int]
    measured: bool
    least: int

    @property
    def peak(self) -> int:
        """Bytes at the highest point of the training."""
        return sum(self.parts.values())


def of(
    walk: Walk, found: Found, baseline: Measured | None, phase: Phase | None, device_type: str, steps: int
) -> Memory:
    """Memory of a phase of so many steps. phase: what was measured of it, None (or without a peak) if nothing was."""
    if device_type == "cuda":
        return _of_gpu(walk, found, phase)
    base = baseline.baseline if baseline is not None and baseline.baseline else BASELINE
    parts = _tensors(walk, found) | {"process and libraries": base}
    computed = sum(parts.values())
    if phase is not None and phase.peak and not phase.lacks:
        peak = phase.peak + longer(steps, phase.steps) + found.resident - _resident_in_child(found, phase)
        return Memory(parts | {"allocator and the rest": max(0, peak - computed)}, True, base)
    return Memory(parts | {"allocator and the rest": overhead(walk, steps)}, False, base)


def corrected(
    computed: Memory, small: Walk, found: Found, baseline: Measured | None, phase: Phase, kind: str, steps: int
) -> Memory:
    """What was computed, and on top what a measured smaller batch took more than had been computed of it.

    small, found, phase: of that batch. Nothing is taken off: what a small step did not need, a large one may.
    """
    seen = of(small, found, baseline, phase, kind, steps)
    more = seen.peak - of(small, found, baseline, None, kind, steps).peak if seen.measured else 0
    rest = next(name for name in computed.parts if name.startswith("allocator"))
    return replace(computed, parts=computed.parts | {rest: computed.parts[rest] + max(0, more)})


def longer(steps: int, after: int) -> int:
    """Bytes that a process on a CPU takes more in `steps` than in `after` of them, by experience."""
    return int(min(heap.SLACK, LONGER * (1 + math.log(max(1.0, steps / after)))))


def overhead(walk: Walk, steps: int) -> int:
    """Bytes that a process on a CPU takes beside its tensors and its libraries, by experience."""
    return longer(steps, after=1) + int(FRAGMENTS * walk.small)


def _tensors(walk: Walk, found: Found) -> dict[str, int]:
    """Live tensors at the highest point, by part."""
    parts = dict(walk.state)
    if walk.step_bytes >= max(walk.evaluation, walk.checkpoint):
        parts |= walk.step | {"scratch of convolutions": walk.scratch}
    elif walk.evaluation >= walk.checkpoint:
        parts |= {"an evaluation": walk.evaluation}
    else:
        parts |= {"writing a checkpoint": walk.checkpoint}
    return parts | {"pictures (feed)": found.resident}


def _resident_in_child(found: Found, phase: Phase) -> int:
    """Bytes of the small set that lay in the measured process."""
    return found.resident * phase.items // found.items if found.drawn else 0


def _of_gpu(walk: Walk, found: Found, phase: Phase | None) -> Memory:
    parts = _tensors(walk, found)
    computed = sum(parts.values())
    if phase is not None and phase.gpu and not phase.lacks:
        reserved = phase.gpu["reserved"] + found.resident - _resident_in_child(found, phase)
        context = phase.gpu["context"]
        parts |= {"allocator, workspaces, graph": max(0, reserved - computed), "context": context}
        return Memory(parts, True, context)
    parts |= {"allocator, workspaces, graph": int(GPU_ROUNDING * computed) + GPU_WORKSPACE, "context": GPU_CONTEXT}
    return Memory(parts, False, GPU_CONTEXT)


def to_json(memory: Memory) -> dict[str, Any]:
    """Plain values: bytes."""
    return {"peak_bytes": memory.peak, "measured": memory.measured, "parts": memory.parts}
