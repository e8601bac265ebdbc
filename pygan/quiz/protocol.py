"""Who is asked what, in which order: the rules of the two tests, drawn from one random word per session.

Real or fake (pix2pix, section 4.1; CycleGAN, section 5.1.1): pairs of a real and a generated picture, practice first;
one system per person. Human rank (StackGAN, section 4.1): the pictures of all systems beside each other, best to worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from pygan.quiz.pool import System

SIDES = ("left", "right")


class Pair(NamedTuple):
    """One question: which of the two is real?"""

    practice: bool  # answered with feedback, never counted
    real: int  # number in the pool
    fake: int
    side: str  # where the real one is: "left" or "right"


class Row(NamedTuple):
    """One question: in which order?"""

    item: int  # number in the pools
    order: tuple[int, ...]  # systems from left to right


def fitted(pairs: int, practice: int, trials: int) -> tuple[int, int]:
    """(practice, trials) that can be had of so many pairs without showing one twice.

    Where there are too few, practice gets what is left, but a fifth of them at least if so many are asked for.
    """
    if practice + trials <= pairs:
        return practice, trials
    practice = min(practice, max(pairs // 5, pairs - trials))
    return practice, min(trials, pairs - practice)


def assign(systems: Sequence[System], sessions: Mapping[System, int], random: Random) -> System:
    """The system of a new session: one with the fewest sessions so far, at random among equals."""
    fewest = min(sessions.get(system, 0) for system in systems)
    return random.choice([system for system in systems if sessions.get(system, 0) == fewest])


def pairs(draw: str, *, items: int, paired: bool, practice: int, trials: int) -> list[Pair]:
    """The questions of a session, all of different pictures.

    draw: the session's random word, which nobody knows but the server; items: pairs in the pool, at least
    practice + trials; paired: a real picture is shown beside the fake of the same number.
    """
    random = Random(f"pairs {draw}")
    fakes = random.sample(range(items), practice + trials)
    reals = fakes if paired else random.sample(range(items), practice + trials)
    sides = [random.choice(SIDES) for _ in fakes]
    return [Pair(k < practice, *three) for k, three in enumerate(zip(reals, fakes, sides, strict=True))]


def rows(draw: str, *, items: int, systems: int, trials: int) -> list[Row]:
    """The questions of a session of ranking: every item once, the systems of each in random order."""
    random = Random(f"rows {draw}")
    chosen = random.sample(range(items), trials)
    return [Row(item, tuple(random.sample(range(systems), systems))) for item in chosen]
