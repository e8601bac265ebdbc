"""What to change in a recipe so that it fits into a memory and a time: cheapest to quality first.

What costs no quality comes first (mixed precision, activations computed again, pictures decoded as they are needed),
then a smaller batch, then smaller pictures; for time, fewer epochs. Every candidate is a real recipe, walked like the
one that was asked for; what the measuring of that one has shown of this machine is carried over to it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from pygan import device as devices
from pygan.errors import UserError
from pygan.plan import data, length, memory
from pygan.plan.make import Plan, cost_s
from pygan.plan.walk import Walk, walk
from pygan.recipe import flag

_SIZES = (0.75, 0.5, 0.375, 0.25)  # parts of the crop size that are tried
_LEAST_SIZE = 16  # pixels
_LENGTHS = re.compile(r"(epochs|decay_epochs|steps)(_\d)?")  # fields; with a number: of a later phase
_NOT_LOOKED_AT = ("batch", "amp", "recompute")  # what a set is not changed by, beside the length


@dataclass(frozen=True)
class Proposal:
    """A recipe, what of it was changed, in words, and what it is predicted to take: bytes; seconds or None."""

    recipe: Any
    changes: tuple[str, ...]
    peak: int
    total_s: float | None
    fits: bool

    @property
    def what(self) -> str:
        """The changes in words."""
        return ", ".join(self.changes) or "as it is"


class Fitter:
    """Predicts variants of a planned recipe. Lives as long as a search; walks each step, and looks at each set, once.

    limit: bytes of memory, None: any; within: seconds, None: any.
    """

    def __init__(
        self, gan: ModuleType, plan: Plan, device: torch.device, *, limit: int | None, within: float | None
    ) -> None:
        self._gan, self._plan, self._device = gan, plan, device
        self._limit, self._within = limit, within
        self._seen: dict[Any, tuple[int, float | None]] = {}
        self._walks: dict[Any, Walk] = {}
        self._sets: dict[Any, data.Sets] = {}
        self._proposed: list[Proposal] = []
        self._recomputes: bool | None = None
        self._more_bytes, self._more_time = 0, 1.0  # than is computed of a variant, as measuring one has shown

    def proposals(self) -> list[Proposal]:
        """Recipes that fit, the cheapest to quality first, one of each kind; [] if none does."""
        asked = self._plan.asked
        first = self.proposed(asked, ())
        if first.fits:
            return [first]
        found: list[Proposal | None] = []
        if not self._in_memory(first) and not self._in_memory(self._smallest(asked)):
            return []
        if self._in_memory(first):  # it takes too long
            faster = [self.proposed(replace(asked, **fields), (words,)) for fields, words in self._knobs(asked)]
            found += [next((one for one in faster if one.fits), None), self._in_time(first)]
            found.append(next((one for one in self._smaller(asked) if one.fits), None))
        else:
            for level in (self._free(asked, ()), self._batches(asked, ()), next(self._smaller(asked), None)):
                found.append(None if level is None else self._in_time(level))
        unique = {one.what: one for one in found if one is not None and one.fits}
        return list(unique.values())

    def least(self) -> Proposal:
        """The variant of least memory among those that have been looked at."""
        return min(self._proposed, key=lambda one: one.peak)

    def learn(self, one: Proposal, peak: int, total_s: float | None) -> None:
        """What a proposal took when it was measured counts from here on: the limits are lowered by what it took more.

        peak: bytes; total_s: seconds.
        """
        self._seen.clear()
        self._proposed.clear()
        self._more_bytes += max(0, peak - one.peak)
        if total_s and one.total_s:
            self._more_time *= max(1.0, total_s / one.total_s)

    def proposed(self, recipe: Any, changes: tuple[str, ...]) -> Proposal:
        """A recipe with its prediction."""
        peak, total_s = self._predict(recipe)
        fits = (self._limit is None or peak <= self._limit) and (
            self._within is None or (total_s is not None and total_s <= self._within)
        )
        found = Proposal(recipe, changes, peak, total_s, fits)
        self._proposed.append(found)
        return found

    def _in_memory(self, one: Proposal) -> bool:
        return self._limit is None or one.peak <= self._limit

    def _free(self, recipe: Any, told: tuple[str, ...]) -> Proposal | None:
        """The least of what costs no quality with which a recipe fits into the memory; None if all of it does not do.

        told: what was changed before, in words.
        """
        knobs = self._knobs(recipe)
        every = {name: value for fields, _ in knobs for name, value in fields.items()}
        together = self.proposed(replace(recipe, **every), told + tuple(words for _, words in knobs))
        if not self._in_memory(together):
            return None
        for fields, words in [({}, ()), *((fields, (words,)) for fields, words in knobs)]:
            one = self.proposed(replace(recipe, **fields), told + words)
            if self._in_memory(one):
                return one
        return together

    def _knobs(self, recipe: Any) -> list[tuple[dict[str, Any], str]]:
        """The free knobs that this recipe on this machine has: (fields, in words)."""
        found: list[tuple[dict[str, Any], str]] = []
        low = devices.precision(replace(recipe, amp=True), self._device)[0] != torch.float32
        if not recipe.amp and low:
            found.append(({"amp": True}, "mixed precision (--amp)"))
        if self._limit is not None and not recipe.recompute and self._can_recompute():
            found.append(({"recompute": True}, "activations computed again (--recompute)"))
        if self._limit is not None and any(part.found.kind == "resident" for part in self._plan.parts):
            found.append(({"feed": "pillow"}, "pictures decoded as they are needed (--feed pillow)"))
        return found

    def _can_recompute(self) -> bool:
        """Has G blocks that can do it? The answer is that of the recipe that was asked for."""
        if self._recomputes is None:
            try:
                self._predict(replace(self._plan.asked, recompute=True))
                self._recomputes = True
            except UserError:
                self._recomputes = False
        return self._recomputes

    def _batches(self, recipe: Any, told: tuple[str, ...]) -> Proposal | None:
        """The largest smaller batch with which a recipe fits into the memory."""
        batch = recipe.batch
        while batch > 1:
            batch //= 2
            smaller = _changed(recipe, batch=batch)
            if smaller is None:
                continue
            found = self._free(smaller, (*told, f"batch {batch} instead of {recipe.batch} (--batch)"))
            if found is not None:
                return found
        return None

    def _smaller(self, recipe: Any) -> Iterator[Proposal]:
        """Smaller pictures that fit into the memory, the largest first, with the largest batch that does."""
        for part in _SIZES:
            smaller = _resized(recipe, part) if hasattr(recipe, "crop_size") else None
            if smaller is None:
                continue
            told = (f"pictures of {smaller.crop_size} instead of {recipe.crop_size} pixels (--crop-size)",)
            found = self._free(smaller, told) or self._batches(smaller, told)
            if found is not None:
                yield found

    def _smallest(self, recipe: Any) -> Proposal:
        """The smallest pictures, the smallest batch and all that is free: what no proposal goes below."""
        told: tuple[str, ...] = ()
        small = next((one for part in reversed(_SIZES) if (one := _resized(recipe, part)) is not None), None)
        if small is not None:
            told += (f"pictures of {small.crop_size} instead of {recipe.crop_size} pixels (--crop-size)",)
            recipe = small
        for batch in (1, 2, 4):
            if batch < recipe.batch and (one := _changed(recipe, batch=batch)) is not None:
                told += (f"batch {batch} instead of {recipe.batch} (--batch)",)
                recipe = one
                break
        knobs = self._knobs(recipe)
        every = {name: value for fields, _ in knobs for name, value in fields.items()}
        return self.proposed(replace(recipe, **every), told + tuple(words for _, words in knobs))

    def _in_time(self, one: Proposal) -> Proposal:
        """With as many epochs as there is time for."""
        if one.fits or self._within is None or one.total_s is None:
            return one
        recipe, part = one.recipe, self._within / one.total_s
        for _ in range(6):  # what does not shrink with the epochs is left out at first
            shorter = _shortened(recipe, part, sum(p.length.steps for p in self._plan.parts))
            if shorter is None:
                return one
            told = f"{_length(shorter)} instead of {_length(recipe)}"
            found = self.proposed(shorter, (*one.changes, told))
            if found.fits:
                return found
            part *= 0.97 * self._within / found.total_s
        return one

    def _predict(self, recipe: Any) -> tuple[int, float | None]:
        """(bytes at the peak, seconds in all or None) of a recipe."""
        if recipe not in self._seen:
            self._seen[recipe] = self._predict_anew(recipe)
        return self._seen[recipe]

    def _predict_anew(self, recipe: Any) -> tuple[int, float | None]:
        plan, kind = self._plan, self._device.type
        peaks, times, limits = [], [], []
        for part, (one, found) in zip(plan.parts, self._look(recipe), strict=True):
            walked = self._walk(one)
            steps = part.length.steps  # for all: what more steps of a smaller batch take, measuring a proposal shows
            computed = memory.of(part.walk, part.found, plan.measured, None, kind, steps).peak
            share = min(1.0, walked.small / part.walk.small) if part.walk.small else 1.0
            seen = part.memory.peak - computed if part.memory.measured else 0
            peaks.append(memory.of(walked, found, plan.measured, None, kind, steps).peak + int(seen * share))
            step_s = part.length.step_s
            if step_s is not None:
                step_s *= cost_s(walked, kind, plan.threads) / cost_s(part.walk, kind, plan.threads)
            took = length.of(self._gan, one, walked, found, part.phase, step_s, "")
            times.append(took.total_s)
            limits.append(took.limit_s)
        peak, total = max(peaks), None
        if not any(time is None for time in times):
            total = plan.start_s + sum(times)
            total = min([total, *(limit + plan.start_s for limit in limits if limit)])
        if recipe == plan.asked:
            return peak, total
        return peak + self._more_bytes, None if total is None else total * self._more_time

    def _walk(self, phase: Any) -> Walk:
        """Of a resolved recipe; only once of those that make the same step."""
        if not self._walks:
            self._walks = {_but(part.recipe, "feed"): part.walk for part in self._plan.parts}
        key = _but(phase, "feed")
        if key not in self._walks:
            self._walks[key] = walk(self._gan, phase, self._device)
        return self._walks[key]

    def _look(self, recipe: Any) -> list[tuple[Any, data.Found]]:
        """The phases of a recipe and their sets; only once for those that see the same pictures."""
        key = _but(recipe, *_NOT_LOOKED_AT)
        if key not in self._sets:
            self._sets[key] = data.look(self._gan, recipe, self._device)
        return self._sets[key].of(self._gan, recipe)


def _but(recipe: Any, *names: str) -> tuple[Any, ...]:
    """The values of a recipe without its length and these fields."""
    return tuple(
        getattr(recipe, f.name)
        for f in dataclasses.fields(recipe)
        if f.name not in names and not _LENGTHS.fullmatch(f.name)
    )


def _changed(recipe: Any, **fields: Any) -> Any | None:
    """The recipe with these fields; None if it does not take them."""
    try:
        return replace(recipe, **fields)
    except UserError:
        return None


def _resized(recipe: Any, part: float) -> Any | None:
    """The recipe for pictures of about that part of the size, as large as it allows; None if it allows none."""
    wanted = int(recipe.crop_size * part)
    for multiple in (64, 32, 16, 8, 4):
        crop = wanted // multiple * multiple
        if crop < _LEAST_SIZE or crop < recipe.crop_size * part * 0.75:
            continue
        load = max(crop, round(recipe.load_size * crop / recipe.crop_size))
        smaller = _changed(recipe, crop_size=crop, load_size=load)
        if smaller is not None:
            return smaller
    return None


def _shortened(recipe: Any, part: float, steps: int) -> Any | None:
    """The recipe for that part of its time, in whole epochs, or in steps where that is less; None if nothing is left.

    steps: of the whole training.
    """
    later = {
        field.name: max(1, int(getattr(recipe, field.name) * part))
        for field in dataclasses.fields(recipe)
        if (match := _LENGTHS.fullmatch(field.name)) and match[2] and getattr(recipe, field.name)
    }
    epochs, decay = int(recipe.epochs * part), int(recipe.decay_epochs * part)
    if not recipe.steps and epochs + decay >= 1:
        return _changed(recipe, epochs=epochs, decay_epochs=decay, **later)
    steps = int((recipe.steps or steps) * part)
    return _changed(recipe, steps=steps, **later) if steps >= 1 else None


def _length(recipe: Any) -> str:
    """In words: "100 + 100 epochs" or "5000 steps", and those of later phases."""
    told = f"{recipe.epochs} + {recipe.decay_epochs} epochs (--epochs, --decay-epochs)"
    if recipe.steps:
        told = f"{recipe.steps} steps (--steps)"
    for field in dataclasses.fields(recipe):
        match = _LENGTHS.fullmatch(field.name)
        if match and match[2] and getattr(recipe, field.name):
            told += f" and {getattr(recipe, field.name)} ({flag(field.name)})"
    return told
