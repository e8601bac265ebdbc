"""The plan of a recipe: walked, measured here, and put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from pygan import gans
from pygan.data.feeds import memory_budget
from pygan.errors import UserError
from pygan.plan import data, length, memory
from pygan.plan.data import Found
from pygan.plan.length import Length
from pygan.plan.measure import Measured, Phase, measure
from pygan.plan.memory import Memory
from pygan.plan.walk import Walk, walk

# A machine in round numbers, to scale what was measured to another batch or size: what counts is their relation. Per
# thread of a CPU; and of a GPU, whose launches are few in a graph.
_FLOPS_PER_S = {"cpu": 4e10, "cuda": 2e14}
_BYTES_PER_S = {"cpu": 8e9, "cuda": 2e12}
_OPERATION_S = {"cpu": 1e-5, "cuda": 2e-6}
_SAFE = 0.8  # of the free memory, that a measuring child may take


@dataclass(frozen=True)
class Part:
    """One phase of a plan; most GANs have one."""

    recipe: Any
    found: Found
    walk: Walk
    phase: Phase | None
    memory: Memory
    length: Length

    @property
    def cpu_s(self) -> float | None:
        """Seconds that all threads together compute in a step; None: not measured."""
        if self.phase is None or not self.phase.step:
            return None
        return self.phase.cpu * self.length.step_s / self.phase.step


@dataclass(frozen=True)
class Plan:
    """What is said before a training. notes: what was not measured, or otherwise than asked for, a line each."""

    gan: str
    preset: str
    asked: Any  # the recipe as it was given, for `pygan train`
    device: str
    threads: int
    parts: tuple[Part, ...]
    measured: Measured
    notes: tuple[str, ...]

    @property
    def start_s(self) -> float:
        """Seconds until a fresh process has its libraries."""
        return self.measured.start

    @property
    def peak(self) -> int:
        """Bytes of memory at the highest point of all phases."""
        return max(part.memory.peak for part in self.parts)

    @property
    def whole_s(self) -> float | None:
        """Seconds of all phases, if nothing stops them; None: not measured."""
        times = [part.length.total_s for part in self.parts]
        return None if any(time is None for time in times) else self.start_s + sum(times)

    @property
    def total_s(self) -> float | None:
        """Seconds of all phases, as far as --max-minutes lets them; None: not measured."""
        if self.whole_s is None:
            return None
        limits = [part.length.limit_s for part in self.parts if part.length.limit_s]
        return min([self.whole_s, *(limit + self.start_s for limit in limits)])

    @property
    def disk(self) -> dict[str, int]:
        """Bytes at the end by part; checkpoints of a later phase take the place of those before."""
        every = [part.length.disk for part in self.parts]
        summed = {key: sum(one[key] for one in every) for key in every[0]}
        return summed | {"checkpoints": max(one["checkpoints"] for one in every)}


def cost_s(walk: Walk, device_type: str, threads: int) -> float:
    """Seconds of a step on a machine in round numbers."""
    n = max(1, threads) if device_type == "cpu" else 1
    flops, moved = walk.flops / _FLOPS_PER_S[device_type], walk.moved / _BYTES_PER_S[device_type]
    return (flops + moved) / n + walk.operations * _OPERATION_S[device_type]


def free_bytes(device: torch.device) -> int:
    """Memory that is free now: of the GPU, or of this machine."""
    return 4 * memory_budget(device)  # which is a quarter of it


def make(
    gan: ModuleType, recipe: Any, preset: str, device: torch.device, *, seconds: float = 8.0, measured: bool = True
) -> Plan:
    """Plan a recipe. seconds: of steps that are measured in all; measured=False: none is.

    Errors: UserError for what is wrong with the data, or files that a GAN needs.
    """
    name, threads = gans.name_of(gan), torch.get_num_threads()
    phases = data.look(gan, recipe, device).of(gan, recipe)
    walks = [walk(gan, one, device) for one, _ in phases]
    notes = [f"could not be walked: {one.unwalked}" for one in walks if one.unwalked]
    small, small_walks = _measurable(gan, phases, walks, device, threads, seconds / len(phases))
    result = measure(name, small or phases, device.type, seconds=seconds, steps=measured and bool(small))
    if result.failed:
        notes.append(f"measuring here did not come to its end: {result.failed}")
    if measured and not small:
        notes.append("no step was measured: not even one of batch 1 fits into the free memory")
    if not measured:
        notes.append("no step was measured (--no-measure): no time is said, and memory is computed")
    parts = []
    for i, ((one, found), walked) in enumerate(zip(phases, walks, strict=True)):
        phase = result.phases[i] if i < len(result.phases) else None
        step_s, step_from = None, "not measured"
        seen = phase
        if phase is not None and phase.step is not None:
            step_s, step_from = phase.step, f"measured here, {phase.steps} step{'s' if phase.steps != 1 else ''}"
            if phase.steps == 1:
                notes.append("only the first step was measured, which takes longer than others; give it more --seconds")
            if device.type == "cpu" and phase.cpu and phase.step > 1.3 * phase.cpu / threads:
                notes.append(
                    f"this machine is busy: a step took {phase.step:.2g} s, in which its threads computed "
                    f"{phase.cpu / threads:.2g} s each; alone it is faster"
                )
            if phase.lacks:
                notes.append(f"not measured in the time that there was: {phase.lacks}")
            if small[i][0].batch != one.batch:
                step_s *= cost_s(walked, device.type, threads) / cost_s(small_walks[i], device.type, threads)
                step_from = f"by its operations, {step_from} of batch {small[i][0].batch}"
                seen = replace(phase, peak=0, gpu={})  # of another size
        steps = length.steps_of(gan, one, found)
        told = memory.of(walked, found, result, seen, device.type, steps)
        if seen is not phase:
            told = memory.corrected(told, small_walks[i], small[i][1], result, phase, device.type, steps)
        if not told.measured and measured:
            notes.append("memory is computed, not measured")
        parts.append(
            Part(one, found, walked, phase, told, length.of(gan, one, walked, found, phase, step_s, step_from))
        )
    return Plan(name, preset, recipe, device.type, threads, tuple(parts), result, tuple(dict.fromkeys(notes)))


def _measurable(
    gan: ModuleType,
    phases: list[tuple[Any, Found]],
    walks: list[Walk],
    device: torch.device,
    threads: int,
    seconds: float,
) -> tuple[list[tuple[Any, Found]], list[Walk]]:
    """The phases with a batch whose steps fit into the time and the free memory, and their walks; [] if none does."""
    free = _SAFE * free_bytes(device)
    small, small_walks = [], []
    for (one, found), walked in zip(phases, walks, strict=True):
        batch = one.batch
        while True:
            needed = memory.of(walked, found, None, None, device.type, length.steps_of(gan, one, found)).peak
            if needed <= free and (cost_s(walked, device.type, threads) <= seconds / 3 or batch == 1):
                break
            if batch == 1:
                return [], []
            batch = max(1, batch // 2)
            try:
                one = replace(one, batch=batch)
            except UserError:
                return [], []
            walked = walk(gan, one, device)
        small.append((one, found))
        small_walks.append(walked)
    return small, small_walks


def to_json(plan: Plan) -> dict[str, Any]:
    """Plain values: sizes in bytes, times in seconds; None for what was not measured."""
    parts = []
    for part in plan.parts:
        one = part.length
        parts.append(
            {
                "data": {"items": part.found.items, "held_out": part.found.held_out, "feed": part.found.kind,
                         "description": part.found.description},
                "parameters": part.walk.parameters,
                "memory": memory.to_json(part.memory),
                "images": one.images, "steps": one.steps, "epochs": round(one.epochs, 3), "batch": one.per_step,
                "step_s": one.step_s, "step_from": one.step_from, "epoch_s": one.epoch_s,
                "images_per_s": None if not one.step_s else one.per_step / one.step_s,
                "seconds": one.seconds if one.step_s is not None else None, "total_s": one.total_s,
                "cpu_s": part.cpu_s,
                "row_s": part.phase.row if part.phase is not None and one.step_s is not None else None,
                "checkpoint_bytes": one.checkpoint_bytes, "checkpoints_kept": one.kept,
                "flops_per_step": part.walk.flops, "bytes_per_step": part.walk.moved,
            }
        )  # fmt: skip
    return {
        "device": plan.device, "threads": plan.threads, "peak_bytes": plan.peak, "total_s": plan.total_s,
        "start_s": plan.start_s, "disk_bytes": sum(plan.disk.values()), "disk": plan.disk, "phases": parts,
        "notes": list(plan.notes),
    }  # fmt: skip
