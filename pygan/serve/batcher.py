"""Jobs of many callers, put together for a device: a bounded queue, one worker, fair turns. It knows no pictures."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_RECENT_S = 1.0  # how long a crowd is remembered
_SMOOTH = 0.2  # weight of the newest batch in the measured rate
_MOST_RETRY_S = 60

Work = Callable[[Hashable, Sequence[Any]], Sequence[Any]]


class Full(Exception):
    """There is no room. `retry_s`: whole seconds after which the measured rate will have made some."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"no room; again in {retry_s} s")
        self.retry_s = retry_s


class Closed(Exception):
    """Nothing is taken any more."""


@dataclass(eq=False)
class _Job:
    group: Hashable
    item: Any
    most: int
    at: float
    future: Future = field(default_factory=Future)


@dataclass(eq=False)
class _Lane:
    """Those who take turns with the others: here, a model. Its groups take turns among themselves."""

    groups: OrderedDict[Hashable, deque[_Job]] = field(default_factory=OrderedDict)
    here: int = 0  # places taken: on the way, waiting, running, or being written
    most_here: int = 0  # in this second
    before: int = 0  # in the one before
    since: float = 0.0

    def crowd(self, now: float) -> int:
        """The most that were here at once within the last second or two."""
        if now - self.since >= _RECENT_S:
            old = now - self.since >= 2 * _RECENT_S
            self.before, self.most_here, self.since = (self.here if old else self.most_here), self.here, now
        return max(self.before, self.most_here)


class Ticket:
    """Places that are kept, from before a job is there (it is being decoded) until its result is away."""

    def __init__(self, batcher: Batcher, lane: Hashable, n: int) -> None:
        self._batcher, self._lane, self._n, self._open = batcher, lane, n, True
        self._futures: list[Future] = []

    def submit(self, group: Hashable, item: Any, *, most: int | None = None) -> Future:
        """Line a job up. group: jobs of one may run together, `most` of them at once (default: what the batcher runs).

        Cancelling the future takes the job out of the queue, if it is not running. Errors: Closed.
        """
        future = self._batcher._submit(self._lane, group, item, most)
        self._futures.append(future)
        return future

    def close(self) -> None:
        """Give the places back; jobs that are still waiting are dropped. May be called twice."""
        if self._open:
            self._open = False
            for future in self._futures:
                future.cancel()
            self._batcher._leave(self._lane, self._n)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Batcher:
    """Runs `work(group, items) -> results`, in order, on a thread of its own.

    most: items at once; room: places in all (`admit`). A batch that is not full waits for company `wait_s` at most, and
    only where there is company to expect: as many as were there at once within the last seconds. One caller who waits
    for each answer never waits for company. Lanes take turns, and so do the groups of a lane: nobody waits for more
    than one batch of each other lane before its own turn. Where a batch raises, its items are tried one by one, so
    that only the callers whose own item fails get the error. done(lane, items, seconds): told after each batch.
    """

    def __init__(
        self,
        work: Work,
        *,
        most: int,
        wait_s: float,
        room: int,
        done: Callable[[Hashable, int, float], None] = lambda lane, n, seconds: None,
    ) -> None:
        self.most, self.wait_s, self.room = most, wait_s, room
        self._work, self._done = work, done
        self._lanes: OrderedDict[Hashable, _Lane] = OrderedDict()
        self._changed = threading.Condition()
        self._taken = self._waiting = self._running = 0
        self._item_s = 0.0  # measured seconds of an item on the device
        self._draining = self._closing = False
        self._worker: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Jobs that are lined up."""
        return self._waiting

    @property
    def taken(self) -> int:
        """Places taken."""
        return self._taken

    @property
    def draining(self) -> bool:
        return self._draining

    def admit(self, lane: Hashable, n: int = 1) -> Ticket:
        """n places. Errors: Full, Closed."""
        with self._changed:
            self.check(n)
            self._taken += n
            now = time.monotonic()
            here = self._lanes.setdefault(lane, _Lane(since=now))
            here.here += n
            here.crowd(now)
            here.most_here = max(here.most_here, here.here)
        return Ticket(self, lane, n)

    def check(self, n: int = 1) -> None:
        """Would n places be had now? Errors: Full, Closed."""
        if self._draining:
            raise Closed
        if self._taken + n > self.room:
            raise Full(self.retry_s())

    def retry_s(self) -> int:
        """Whole seconds in which what is lined up will be done, as fast as it went lately; 1 to 60."""
        left = (self._waiting + self._running) * self._item_s
        return max(1, min(_MOST_RETRY_S, math.ceil(left)))

    def drain(self) -> None:
        """Admit nobody any more; who was admitted is served."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def close(self, timeout_s: float | None = None) -> bool:
        """Drain, do what is lined up, and end the worker. What `timeout_s` is too short for gets Closed.

        Returns whether all was done.
        """
        with self._changed:
            self._draining = self._closing = True
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join(timeout_s)
        with self._changed:
            left = [job for lane in self._lanes.values() for jobs in lane.groups.values() for job in jobs]
            for lane in self._lanes.values():
                lane.groups.clear()
            self._waiting = 0
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(Closed())
        return not left and not (worker is not None and worker.is_alive())

    def _submit(self, lane: Hashable, group: Hashable, item: Any, most: int | None) -> Future:
        job = _Job(group, item, max(1, min(self.most, most or self.most)), time.monotonic())
        with self._changed:
            if self._closing:
                raise Closed
            self._lanes[lane].groups.setdefault(group, deque()).append(job)
            self._waiting += 1
            if self._worker is None:
                self._worker = threading.Thread(target=self._run, name="pygan-device", daemon=True)
                self._worker.start()
            self._changed.notify_all()
        # It must not hold the job: the future would hold itself, and its picture until a garbage collection.
        job.future.add_done_callback(lambda future: self._drop(lane, group, future) if future.cancelled() else None)
        return job.future

    def _drop(self, lane: Hashable, group: Hashable, future: Future) -> None:
        """Out of the queue, if it is still there."""
        with self._changed, suppress(KeyError, StopIteration):
            groups = self._lanes[lane].groups
            groups[group].remove(next(job for job in groups[group] if job.future is future))
            self._waiting -= 1
            if not groups[group]:
                del groups[group]

    def _leave(self, lane: Hashable, n: int) -> None:
        with self._changed:
            self._taken -= n
            self._lanes[lane].here -= n

    def _run(self) -> None:
        while True:
            with self._changed:
                lane, jobs = self._take()
                while not jobs:
                    if self._closing and not self._waiting:
                        return
                    self._changed.wait(lane)  # seconds until a batch has waited long enough, None: until it is told
                    lane, jobs = self._take()
                self._waiting -= len(jobs)
                ready = [job for job in jobs if job.future.set_running_or_notify_cancel()]
                self._running = len(ready)
            if ready:
                self._serve(lane, ready)
            self._running = 0
            del jobs, ready  # who waits for work holds no pictures

    def _take(self) -> tuple[Any, list[_Job]]:
        """(lane, jobs of the batch whose turn it is), or (seconds to wait, []). Called with the lock held."""
        now = time.monotonic()
        soonest = math.inf
        for name, lane in self._lanes.items():
            crowd = lane.crowd(now)
            for group, jobs in lane.groups.items():
                most = min(job.most for job in jobs)
                ripe_at = jobs[0].at + self.wait_s
                if len(jobs) < min(most, crowd) and now < ripe_at and not self._closing:
                    soonest = min(soonest, ripe_at)
                    continue
                batch = [jobs.popleft() for _ in range(min(most, len(jobs)))]
                if jobs:
                    lane.groups.move_to_end(group)
                else:
                    del lane.groups[group]
                self._lanes.move_to_end(name)
                return name, batch
        return (None if soonest == math.inf else max(0.0, soonest - now)), []

    def _serve(self, lane: Hashable, jobs: list[_Job]) -> None:
        began = time.monotonic()
        try:
            results: Sequence[Any] = self._work(jobs[0].group, [job.item for job in jobs])
            if len(results) != len(jobs):
                raise RuntimeError(f"{len(jobs)} items gave {len(results)} results")
        except BaseException as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._serve(lane, [job])
            else:
                jobs[0].future.set_exception(error)
            return
        seconds = time.monotonic() - began
        each = seconds / len(jobs)
        self._item_s = each if self._item_s == 0.0 else (1 - _SMOOTH) * self._item_s + _SMOOTH * each
        self._done(lane, len(jobs), seconds)
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)
