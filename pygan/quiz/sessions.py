"""The people who answer now: which question each is at, what they may still see, what they have said."""

from __future__ import annotations

import math
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any

import numpy as np

from pygan.quiz import protocol, rates
from pygan.quiz.pool import Pool, System
from pygan.quiz.records import Results

_TOO_LONG_MS = 30 * 86_400_000  # of an answer, 30 days


class Refused(Exception):
    """A request that breaks the rules. status: of HTTP; the message is for the page."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Session:
    """One person's way through the questions."""

    name: str
    systems: list[System]
    plan: Sequence[Any]  # the questions, in order
    answered: int = 0
    shown: set[int] = field(default_factory=set)
    right: int = 0  # of the scored


class Sessions(ABC):
    """All sessions of one test, over one results file. Safe for several threads.

    What a browser is told never says which picture is real before the answer is on the disk. Methods take the name of
    a session as the cookie has it. exposure: seconds for which pictures are seen, 0.0 without limit. Errors: Refused;
    OSError where the results cannot be written.
    """

    kind: str  # "pairs" or "ranks"

    def __init__(self, pools: Sequence[Pool], results: Results, *, seed: int, exposure: float = 0.0) -> None:
        self.exposure = exposure
        self.pools = {pool.system: pool for pool in pools}
        self.results = results
        self._seed = seed
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        for row in results.rows:
            self._recall(row)

    def start(self) -> str:
        """A new session, already on the disk. Returns its name."""
        with self._lock:
            name, draw = secrets.token_hex(16), secrets.token_hex(16)
            systems, practice, trials = self._assigned()
            row = {
                "what": "session", "time": _now(), "session": name, "test": self.kind,
                "systems": [system._asdict() for system in systems], "draw": draw, "seed": self._seed,
                "exposure_s": self.exposure, "items": self._items(systems), "practice": practice, "trials": trials,
            }  # fmt: skip
            self.results.append(row)
            self._recall(row)
            return name

    def state(self, name: str) -> dict[str, Any]:
        """What the page shows next: {"stage": "new"}, or "trial", or "done"."""
        with self._lock:
            return self._state(name)

    def show(self, name: str, trial: Any) -> list[np.ndarray]:
        """The pictures of the question that a session is at, from left to right; it is noted before they go."""
        with self._lock:
            session = self._at(name, trial)
            self._note_shown(session, trial)
            return self._pictures(session, session.plan[trial])

    def answer(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Record the answer to the question that a session is at. Returns {"state": the next, ...}."""
        with self._lock:
            session = self._at(name, body.get("trial"))
            if body["trial"] not in session.shown:
                raise Refused(409, "the pictures come first")
            row, reply = self._judged(session, session.plan[session.answered], body)
            self.results.append(row)
            self._recall(row)
            return reply | {"state": self._state(name)}

    @abstractmethod
    def _assigned(self) -> tuple[list[System], int, int]:
        """What a new session judges: its systems, how many questions for practice, and how many that count."""

    @abstractmethod
    def _plan(self, row: Mapping[str, Any]) -> Sequence[Any]:
        """The questions of the session of a row."""

    @abstractmethod
    def _note_shown(self, session: Session, trial: int) -> None: ...

    @abstractmethod
    def _pictures(self, session: Session, question: Any) -> list[np.ndarray]: ...

    @abstractmethod
    def _asked(self, session: Session, question: Any) -> dict[str, Any]:
        """What the page is told of a question."""

    @abstractmethod
    def _judged(self, session: Session, question: Any, body: Mapping[str, Any]) -> tuple[dict, dict[str, Any]]:
        """The row of an answer, and what the page is told. Errors: Refused if it is none."""

    @abstractmethod
    def _end(self, session: Session) -> dict[str, Any]:
        """What the last page is told."""

    def _state(self, name: str) -> dict[str, Any]:
        session = self._sessions.get(name)
        if session is None:
            return {"stage": "new"}
        if session.answered >= len(session.plan):
            return {"stage": "done", **self._end(session)}
        trial = session.answered
        return {"stage": "trial", "trial": trial, "shown": trial in session.shown} | self._asked(
            session, session.plan[trial]
        )

    def _at(self, name: str, trial: Any) -> Session:
        """The session, if it is at that question. Errors: Refused."""
        session = self._sessions.get(name)
        if session is None:
            raise Refused(403, "this session is not known here; begin a new one")
        if type(trial) is not int or trial != session.answered or trial >= len(session.plan):
            raise Refused(409, "this session is at another question")
        return session

    def _recall(self, row: Mapping[str, Any]) -> None:
        """Bring the sessions up to date with a row that is on the disk. Those of other pictures are left alone."""
        if row["what"] == "session":
            systems = [rates.system_of(one) for one in row["systems"]]
            same = row["test"] == self.kind and row["seed"] == self._seed and all(s in self.pools for s in systems)
            same = same and row["exposure_s"] == self.exposure
            if same and row["items"] == self._items(systems):
                self._sessions[row["session"]] = Session(row["session"], systems, self._plan(row))
            return
        session = self._sessions.get(row["session"])
        if session is None:
            return
        if row["what"] == "shown":
            session.shown.add(row["trial"])
        else:
            session.answered = max(session.answered, row["trial"] + 1)
            session.right += row["what"] == "answer" and not row["practice"] and row["correct"] is True

    def _items(self, systems: Sequence[System]) -> int:
        """Questions that the pools of these systems hold."""
        return min(self._size(self.pools[system]) for system in systems)

    @abstractmethod
    def _size(self, pool: Pool) -> int:
        """Questions that a pool holds."""


class Pairs(Sessions):
    """Real or fake? Each session judges one system.

    practice + trials: at most the pairs of the smallest pool.
    """

    kind = "pairs"

    def __init__(
        self, pools: Sequence[Pool], results: Results, *, seed: int, exposure: float, practice: int, trials: int
    ) -> None:
        self._counts = (practice, trials)
        super().__init__(pools, results, seed=seed, exposure=exposure)

    def _assigned(self) -> tuple[list[System], int, int]:
        counts: dict[System, int] = {}
        for row in self.results.rows:
            if row["what"] == "session" and row["test"] == self.kind:
                system = rates.system_of(row["systems"][0])
                counts[system] = counts.get(system, 0) + 1
        system = protocol.assign(list(self.pools), counts, SystemRandom())
        return [system], *self._counts

    def _size(self, pool: Pool) -> int:
        return pool.pairs

    def _plan(self, row: Mapping[str, Any]) -> Sequence[protocol.Pair]:
        paired = self.pools[rates.system_of(row["systems"][0])].paired
        counts = {name: row[name] for name in ("items", "practice", "trials")}
        return protocol.pairs(row["draw"], paired=paired, **counts)

    def _note_shown(self, session: Session, trial: int) -> None:
        if trial in session.shown:
            raise Refused(410, "this pair has been shown; nobody sees one twice")
        row = {"what": "shown", "time": _now(), "session": session.name, "trial": trial}
        self.results.append(row)
        self._recall(row)

    def _pictures(self, session: Session, question: protocol.Pair) -> list[np.ndarray]:
        pool = self.pools[session.systems[0]]
        two = [pool.real[question.real], pool.fake[question.fake]]
        return two if question.side == "left" else two[::-1]

    def _asked(self, session: Session, question: protocol.Pair) -> dict[str, Any]:
        practice = sum(pair.practice for pair in session.plan)
        scored = not question.practice
        return {
            "practice": question.practice,
            "number": session.answered + 1 - practice * scored,
            "of": len(session.plan) - practice if scored else practice,
        }

    def _judged(self, session: Session, question: protocol.Pair, body: Mapping[str, Any]) -> tuple[dict, dict]:
        said = body.get("side")
        if said is not None and said not in protocol.SIDES:
            raise Refused(400, 'side must be "left", "right", or null for a pair that was not seen')
        times = {name: _number(body, name) for name in ("exposure_ms", "answer_ms", "picture_px")}
        correct = None if said is None else said == question.side
        system, pool = session.systems[0], self.pools[session.systems[0]]
        row = {
            "what": "answer", "time": _now(), "session": session.name, **system._asdict(),
            "checkpoint": pool.checkpoint, "trial": session.answered, "practice": question.practice,
            "item": question.fake, "real_item": question.real, "real": question.side, "answer": said,
            "correct": correct, "exposure_s": self.exposure, **times,
        }  # fmt: skip
        return row, {"correct": correct, "real": question.side} if question.practice else {}

    def _end(self, session: Session) -> dict[str, Any]:
        system, name = session.systems[0], session.name
        mine = [r for r in self.results.rows if r["what"] == "answer" and r["session"] == name and not r["practice"]]
        told = {"right": session.right, "scored": sum(row["correct"] is not None for row in mine)}
        told["missed"] = len(mine) - told["scored"]
        for one in rates.fooling(self.results.rows):
            if (one.system, one.exposure) == (system, self.exposure):
                told |= {"rate": one.rate.mean, "low": one.rate.low, "high": one.rate.high}
                told |= {"people": one.people, "answers": one.answers, "resampled": one.resampled}
        return told


class Ranks(Sessions):
    """Human rank: each session orders the pictures of all systems, from best to worst.

    trials: at most the pictures of the smallest pool; the pools' items are the same, number for number.
    """

    kind = "ranks"

    def __init__(self, pools: Sequence[Pool], results: Results, *, seed: int, trials: int) -> None:
        self._trials = trials
        super().__init__(pools, results, seed=seed)

    def _assigned(self) -> tuple[list[System], int, int]:
        return list(self.pools), 0, self._trials

    def _size(self, pool: Pool) -> int:
        return len(pool.fake)

    def _plan(self, row: Mapping[str, Any]) -> Sequence[protocol.Row]:
        return protocol.rows(row["draw"], items=row["items"], systems=len(row["systems"]), trials=row["trials"])

    def _note_shown(self, session: Session, trial: int) -> None:
        session.shown.add(trial)  # these may be looked at for as long, and as often, as one likes

    def _pictures(self, session: Session, question: protocol.Row) -> list[np.ndarray]:
        """Those of the systems; the input comes last, where it is a picture."""
        found = [self.pools[session.systems[k]].fake[question.item] for k in question.order]
        given = self._input(session, question)
        return found if given is None or isinstance(given, str) else [*found, given]

    def _input(self, session: Session, question: protocol.Row) -> np.ndarray | str | None:
        inputs = self.pools[session.systems[0]].inputs
        return None if inputs is None else inputs[question.item]

    def _asked(self, session: Session, question: protocol.Row) -> dict[str, Any]:
        given = self._input(session, question)
        told = {"number": session.answered + 1, "of": len(session.plan), "pictures": len(question.order)}
        return told | {"text": given if isinstance(given, str) else ""}

    def _judged(self, session: Session, question: protocol.Row, body: Mapping[str, Any]) -> tuple[dict, dict]:
        places = body.get("order")
        if not isinstance(places, list) or not all(type(place) is int for place in places):
            raise Refused(400, "order must be a list of places, from best to worst")
        if sorted(places) != list(range(len(question.order))):
            raise Refused(400, f"order must name each of the {len(question.order)} places once")
        ranks = []
        for rank, place in enumerate(places, 1):
            system = session.systems[question.order[place]]
            ranks.append({**system._asdict(), "rank": rank, "place": place})
        row = {
            "what": "rank", "time": _now(), "session": session.name, "trial": session.answered,
            "item": question.item, "ranks": ranks, "answer_ms": _number(body, "answer_ms"),
        }  # fmt: skip
        return row, {}

    def _end(self, session: Session) -> dict[str, Any]:
        people = {row["session"] for row in self.results.rows if row["what"] == "rank"}
        return {"ranked": session.answered, "people": len(people)}


def _number(body: Mapping[str, Any], name: str) -> float | None:
    """A measurement of the page; None where it has none. Errors: Refused."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= _TOO_LONG_MS:
        raise Refused(400, f"{name} must be a number from 0 to {_TOO_LONG_MS}")
    return round(float(value), 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
