"""Steps of any GAN on any device: which variants to try, how to run a few steps of one, how to compare two runs.

What the GPU tests do with these is in `test_on_a_gpu.py`. A file test_<gan>.py adds variants of its GAN in a table
ON_A_GPU = {"what it is": {fields of the recipe}}, on top of those that every GAN is tried in.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pygan import gans
from pygan.recipe import BaseRecipe
from pygan.state import State

EVERY = {"tiny": {}, "bf16": {"amp": True}, "fp16": {"amp": True, "amp_dtype": "fp16"}}


class Case(NamedTuple):
    """A GAN in one of its variants."""

    name: str
    fields: dict[str, Any]  # on top of the tiny preset

    @property
    def gan(self) -> ModuleType:
        return gans.load(self.name)


class Run(NamedTuple):
    """What some steps left behind."""

    logs: list[dict[str, Tensor]]  # of each step
    before: dict[str, Tensor]
    after: dict[str, Tensor]


def cases(*, amp: bool | None = None, own: bool = True) -> list[Any]:
    """Parameters of a test: every GAN in every variant.

    amp: only those with 16 bits, or only those without. own: also those of the GAN's own table.
    """
    found = []
    for name in gans.names():
        table = {}
        if own and importlib.util.find_spec(f"test_{name}"):
            table = getattr(importlib.import_module(f"test_{name}"), "ON_A_GPU", {})
        assert not table.keys() & EVERY.keys()
        for variant, fields in (EVERY | table).items():
            if amp is None or fields.get("amp", False) == amp:
                found.append(pytest.param(Case(name, fields), id=f"{name}-{variant}"))
    return found


def phases(case: Case, steps: int, **fields: Any) -> Iterator[tuple[BaseRecipe, list[Any]]]:
    """(recipe, batches of so many steps on the CPU) of each phase of a training on the built-in set."""
    gan = case.gan
    recipe = gan.Recipe(**{**gan.PRESETS["tiny"], **case.fields, **fields})
    with gan.batches(gans.phases(gan, recipe)[0], "train", torch.device("cpu")) as feed:
        recipe = gan.resolve(recipe, feed.facts)
    for phase in gans.phases(gan, recipe):
        n = gans.images_per_step(gan, phase)
        with gan.batches(phase, "train", torch.device("cpu")) as feed:
            batches = [feed.get(i * n) for i in range(steps)]
            yield phase, [type(batch)(*(tensor.clone() for tensor in batch)) for batch in batches]


def run(
    gan: ModuleType,
    recipe: BaseRecipe,
    batches: list[Any],
    device: str,
    *,
    wrap: Callable[[Any, State, Any], Any] | None = None,
) -> Run:
    """A step of a newly built state for each batch. wrap: what makes another step of a step, its state and a batch."""
    state = gan.build(recipe, device)
    before = snapshot(state)
    here = [type(batch)(*(tensor.to(device) for tensor in batch)) for batch in batches]
    act = functools.partial(gan.step, state, recipe)
    if wrap is not None:
        act = wrap(act, state, here[0])
    logs = [{name: value.clone() for name, value in act(batch).items()} for batch in here]
    return Run(logs, before, snapshot(state))


class Rehearsed:
    """What a GraphedStep does, without the graph: three steps that are taken back, then steps on one static batch."""

    def __init__(self, step: Callable[[Any], dict[str, Tensor]], state: State, batch: Any) -> None:
        self._step, self._batch = step, type(batch)(*(tensor.clone() for tensor in batch))
        before = snapshot(state)
        for _ in range(3):
            step(self._batch)
        with torch.no_grad():
            for name, tensor in state.tensors().items():
                tensor.copy_(before[name])
        state.refresh_()

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        for static, tensor in zip(self._batch, batch, strict=True):
            static.copy_(tensor)
        return self._step(self._batch)


def snapshot(state: State) -> dict[str, Tensor]:
    """Copies of all tensors of a state."""
    return {name: tensor.detach().clone() for name, tensor in state.tensors().items()}


def moved(one: Run) -> set[str]:
    """Names of the nets that the steps changed, and of averages."""
    names = [name for name, tensor in one.before.items() if not torch.equal(tensor, one.after[name])]
    return {name.split(".")[1] for name in names if name.startswith("net.")}


def assert_same(a: Run, b: Run) -> None:
    """Bit for bit, and the steps did something."""
    assert moved(a)
    for rows in zip([*a.logs, a.before, a.after], [*b.logs, b.before, b.after], strict=True):
        assert rows[0].keys() == rows[1].keys()
        for name, tensor in rows[0].items():
            assert torch.equal(tensor, rows[1][name]), name


def assert_near(a: Run, b: Run, within: float) -> None:
    """The logs are finite and near each other: within so much of b's number, or of 1 where that is less."""
    for ours, theirs in zip(a.logs, b.logs, strict=True):
        ours, theirs = ({name: float(value) for name, value in row.items()} for row in (ours, theirs))
        assert all(math.isfinite(value) for value in ours.values())
        assert ours == pytest.approx(theirs, rel=within, abs=within)


__all__ = ["Case", "Rehearsed", "Run", "assert_near", "assert_same", "cases", "moved", "phases", "run", "snapshot"]
