"""What the answers of all people say: fooling rates and mean ranks, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from pygan import bootstrap
from pygan.bootstrap import Interval
from pygan.quiz.pool import System

_DRAWS, _CONFIDENCE = 10_000, 0.95


@dataclass(frozen=True)
class Summary:
    """Of one system, and one time of exposure. rate: a fooling rate in 0..1, or a mean rank from 1 (best)."""

    system: System
    exposure: float  # seconds, 0.0: without limit
    people: int  # sessions with a counted answer
    answers: int
    rate: Interval
    resampled: str  # "people" or "answers": what the bootstrap drew again and again, the one with the wider interval


def fooling(rows: Iterable[Mapping[str, Any]]) -> list[Summary]:
    """Fooling rates: part of the scored pairs whose fake was taken for the real picture. 0.5: nobody can tell.

    rows: of a results file. Practice and pairs that were not seen are not counted; an unfinished session is, as far as
    it went.
    """
    counted = [row for row in rows if row["what"] == "answer" and not row["practice"] and row["correct"] is not None]
    return _summaries(((system_of(r), r["exposure_s"]), r["session"], float(not r["correct"])) for r in counted)


def ranks(rows: Iterable[Mapping[str, Any]]) -> list[Summary]:
    """Mean ranks of the systems in human rank, 1 is best."""
    asked = [row for row in rows if row["what"] == "rank"]
    return _summaries(
        ((system_of(one), 0.0), row["session"], float(one["rank"])) for row in asked for one in row["ranks"]
    )


def of_people(values: Sequence[Sequence[float]]) -> Interval:
    """The mean of all values and its interval, where people, not answers, are drawn again: a person's answers hang
    together. values: one sequence per person, none empty; they may differ in length, so the mean is a ratio of sums.
    Errors: ValueError without a person.
    """
    if not values or not all(len(one) for one in values):
        raise ValueError(f"people with at least one answer each are expected, got {values!r}")
    sums = np.array([sum(one) for one in values])
    counts = np.array([len(one) for one in values])
    random = np.random.Generator(np.random.Philox(key=len(values)))
    drawn = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=_DRAWS)  # (draws, people)
    means = (drawn @ sums) / (drawn @ counts)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), float(means.std()))


def system_of(row: Mapping[str, Any]) -> System:
    """The system that a row, or one of its ranks, is about."""
    return System(row["run"], row["images_seen"], row["way"])


def named(systems: Sequence[System]) -> dict[System, str]:
    """Short names: the last folders of the run that tell them apart, the way and the images seen where these differ."""
    paths = {system.run for system in systems}
    depth = 1
    while len({_tail(path, depth) for path in paths}) < len(paths):
        depth += 1
    names = {}
    for system in systems:
        same = [other for other in systems if other.run == system.run]
        name = _tail(system.run, depth)
        if len({other.way for other in same}) > 1 or system.way:
            name += f" {system.way}"
        if len({other.images_seen for other in same}) > 1:
            name += f" at {system.images_seen:,} images"
        names[system] = name
    return names


def fooling_table(found: Sequence[Summary]) -> Table:
    """Fooling rates for a terminal, the highest first."""
    summaries = sorted(found, key=lambda one: -one.rate.mean)
    table = Table(title="real or fake? 50 % would mean that nobody can tell", title_justify="left")
    for head in ("", "people", "answers", "fooled", "95 % interval", "std", "resampled"):
        table.add_column(head, justify="right" if head not in ("", "resampled") else "left")
    names = named([one.system for one in summaries])
    exposures = {one.exposure for one in summaries}
    for one in summaries:
        rate = one.rate
        name = names[one.system] + (f", {one.exposure:g} s" if len(exposures) > 1 else "")
        numbers = (f"{100 * rate.mean:.1f} %", f"{100 * rate.low:.1f} .. {100 * rate.high:.1f} %")
        std = f"{100 * rate.std:.1f} %"
        table.add_row(Text(name), str(one.people), str(one.answers), *numbers, std, one.resampled)
    return table


def ranks_table(found: Sequence[Summary]) -> Table:
    """Mean ranks for a terminal, the best first."""
    summaries = sorted(found, key=lambda one: one.rate.mean)
    table = Table(title="human rank: 1 is best", title_justify="left")
    for head in ("", "people", "answers", "mean rank", "95 % interval", "std", "resampled"):
        table.add_column(head, justify="right" if head not in ("", "resampled") else "left")
    names = named([one.system for one in summaries])
    for one in summaries:
        rate = one.rate
        numbers = (f"{rate.mean:.2f}", f"{rate.low:.2f} .. {rate.high:.2f}", f"{rate.std:.2f}")
        table.add_row(Text(names[one.system]), str(one.people), str(one.answers), *numbers, one.resampled)
    return table


def _summaries(values: Iterable[tuple[tuple[System, float], str, float]]) -> list[Summary]:
    """One for each system and exposure, from ((system, exposure), session, value).

    The interval is the wider one of two: people are drawn again, whose answers hang together, or answers are, since few
    people can agree by chance.
    """
    by_system: dict[tuple[System, float], dict[str, list[float]]] = {}
    for key, session, value in values:
        by_system.setdefault(key, {}).setdefault(session, []).append(value)
    found = []
    for key, people in by_system.items():
        answers = [value for one in people.values() for value in one]
        both = {"answers": bootstrap.of_mean(answers), "people": of_people(list(people.values()))}
        resampled = max(both, key=lambda what: both[what].high - both[what].low)
        found.append(Summary(*key, len(people), len(answers), both[resampled], resampled))
    return found


def _tail(path: str, depth: int) -> str:
    return "/".join(path.rstrip("/").split("/")[-depth:])
