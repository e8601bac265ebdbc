"""The queue in front of the device, alone, with work that is no network: turns, company, overload, failure, the end."""

import gc
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import CancelledError

import pytest
from serving import until

from pygan.serve.batcher import Batcher, Closed, Full


class Work:
    """Doubles its items, when its gate is open. `seen`: (group, items) of each batch."""

    def __init__(self):
        self.seen, self.gate = [], threading.Semaphore(1_000_000)

    def hold(self):
        self.gate = threading.Semaphore(0)

    def go(self, batches=1_000_000):
        self.gate.release(batches)

    def __call__(self, group, items):
        self.seen.append((group, list(items)))
        assert self.gate.acquire(timeout=30)
        if any(item == "bad" for item in items):
            raise ValueError("bad item")
        if any(item == "exit" for item in items):
            raise SystemExit(3)
        return [item * 2 for item in items]


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def made(work):
    """Makes batchers, and ends them."""
    ones = []

    def make(**more):
        ones.append(Batcher(work, **{"most": 4, "wait_s": 0.0, "room": 100} | more))
        return ones[-1]

    yield make
    work.go()
    for one in ones:
        assert one.close(30)


def busy(batcher, work, lane="first"):
    """Hold the worker on a job, so that what comes now lines up."""
    work.hold()
    ticket = batcher.admit(lane)
    future = ticket.submit("busy", 0)
    until(lambda: work.seen)
    work.seen.clear()
    return ticket, future


def test_jobs_of_a_group_run_together_and_each_gets_its_own(made, work):
    batcher = made()
    busy(batcher, work)
    futures = [batcher.admit("a").submit("x", k) for k in range(6)]
    work.go()
    assert [f.result(30) for f in futures] == [0, 2, 4, 6, 8, 10]
    assert work.seen == [("x", [0, 1, 2, 3]), ("x", [4, 5])]


def test_a_job_that_runs_alone_runs_alone(made, work):
    batcher = made()
    busy(batcher, work)
    futures = [batcher.admit("a").submit("x", k, most=1) for k in range(3)]
    futures += [batcher.admit("a").submit("y", k, most=2) for k in range(3)]
    work.go()
    assert [f.result(30) for f in futures] == [0, 2, 4, 0, 2, 4]
    assert sorted(len(items) for group, items in work.seen if group == "x") == [1, 1, 1]
    assert sorted(len(items) for group, items in work.seen if group == "y") == [1, 2]


def test_groups_and_lanes_take_turns(made, work):
    """A crowd in one lane, of many groups, holds nobody of another lane up for more than a batch."""
    batcher = made(most=2)
    busy(batcher, work)
    crowd = [batcher.admit("crowd").submit(f"g{k % 3}", k) for k in range(18)]
    lone = batcher.admit("lone").submit("z", 100)
    work.go()
    assert [f.result(30) for f in [*crowd, lone]] == [2 * k for k in range(18)] + [200]
    order = [group for group, _ in work.seen]
    assert "z" in order[:2]
    assert [group for group in order if group != "z"] == ["g0", "g1", "g2"] * 3


def test_a_lone_caller_waits_for_nobody(made, work):
    """`wait_s` is an hour: it would be noticed."""
    batcher = made(wait_s=3600.0)
    for k in range(5):
        with batcher.admit("a") as ticket:
            assert ticket.submit("x", k).result(30) == 2 * k


def test_company_that_is_on_its_way_is_waited_for(made, work):
    batcher = made(wait_s=3600.0)
    tickets = [batcher.admit("a") for _ in range(3)]  # being decoded
    first = [ticket.submit("x", k) for k, ticket in enumerate(tickets[:2])]
    time.sleep(0.05)
    assert not work.seen
    last = tickets[2].submit("x", 2)
    assert [f.result(30) for f in [*first, last]] == [0, 2, 4]
    assert work.seen == [("x", [0, 1, 2])]


def test_company_that_does_not_come_is_not_waited_for_longer_than_said(made, work):
    batcher = made(wait_s=0.05)
    tickets = [batcher.admit("a") for _ in range(3)]
    began = time.monotonic()
    assert tickets[0].submit("x", 1).result(30) == 2
    assert time.monotonic() - began >= 0.04


def test_while_one_group_waits_for_company_another_runs(made, work):
    batcher = made(wait_s=3600.0, most=2)
    tickets = [batcher.admit("a") for _ in range(3)]
    waits = tickets[0].submit("x", 1)
    assert [t.submit("y", k).result(30) if k else t.submit("y", k) for k, t in enumerate(tickets[1:])][1] == 2
    assert not waits.done()
    assert batcher.admit("b").submit("z", 5).result(30) == 10
    assert not waits.done()
    waits.cancel()


def test_what_is_too_much_is_refused_at_once_and_room_comes_back(made, work):
    batcher = made(room=3)
    ticket, future = busy(batcher, work)
    two = batcher.admit("a", 2)
    with pytest.raises(Full) as full:
        batcher.admit("a")
    assert 1 <= full.value.retry_s <= 60
    with pytest.raises(Full):
        batcher.check()
    two.close()
    two.close()
    assert batcher.taken == 1
    batcher.check(2)
    work.go()
    assert future.result(30) == 0
    ticket.close()
    assert batcher.taken == 0


def test_retry_after_follows_the_measured_rate(made, work):
    batcher = made()
    batcher._item_s = 2.0  # as measured
    ticket, _ = busy(batcher, work)
    rest = batcher.admit("a", 4)
    futures = [rest.submit("x", k) for k in range(4)]
    assert batcher.retry_s() == 10
    batcher._item_s = 1000.0
    assert batcher.retry_s() == 60
    work.go()
    assert [f.result(30) for f in futures] == [0, 2, 4, 6]
    assert batcher._item_s < 1000.0
    ticket.close()


def test_a_cancelled_job_leaves_the_queue_and_a_running_one_does_not(made, work):
    batcher = made()
    _, running = busy(batcher, work)
    ticket = batcher.admit("a", 3)
    one, two, three = (ticket.submit("x", k) for k in range(3))
    assert batcher.waiting == 3
    assert two.cancel()
    assert batcher.waiting == 2
    assert not running.cancel()
    work.go()
    assert (one.result(30), three.result(30)) == (0, 4)
    assert work.seen == [("x", [0, 2])]
    with pytest.raises(CancelledError):
        two.result(0)


def test_a_ticket_that_is_given_back_takes_its_waiting_jobs_along(made, work):
    batcher = made()
    busy(batcher, work)
    with batcher.admit("a", 2) as ticket:
        dropped = [ticket.submit("x", k) for k in range(2)]
    assert all(f.cancelled() for f in dropped)
    assert batcher.waiting == 0
    work.go()
    assert batcher.admit("a").submit("x", 4).result(30) == 8
    assert work.seen == [("x", [4])]


def test_an_item_that_fails_fails_alone(made, work):
    batcher = made()
    busy(batcher, work)
    futures = [batcher.admit("a").submit("x", item) for item in (1, "bad", 3, "exit")]
    work.go()
    assert (futures[0].result(30), futures[2].result(30)) == (2, 6)
    with pytest.raises(ValueError, match="bad item"):
        futures[1].result(30)
    with pytest.raises(SystemExit):
        futures[3].result(30)
    assert batcher.admit("a").submit("x", 4).result(30) == 8, "the worker lives on"


def test_what_is_done_is_let_go_of_at_once(made, work):
    """Pictures are large: none waits for a garbage collection."""

    class Item:
        def __mul__(self, n):
            return n

    batcher = made()
    gc.disable()
    try:
        item = Item()
        gone = weakref.ref(item)
        with batcher.admit("a") as ticket:
            assert ticket.submit("x", item).result(30) == 2
        work.seen.clear()
        del item, ticket
        until(lambda: gone() is None)
    finally:
        gc.enable()


def test_results_that_are_too_few_are_an_error_not_a_mix_up(made):
    batcher = Batcher(lambda group, items: items[1:], most=4, wait_s=0.0, room=10)
    with pytest.raises(RuntimeError, match="1 items gave 0"):
        batcher.admit("a").submit("x", 1).result(30)
    batcher.close(30)


def test_the_end_finishes_what_was_taken_and_takes_nothing_more(made, work):
    batcher = made(wait_s=3600.0)
    _, first = busy(batcher, work)
    late = batcher.admit("a")
    futures = [batcher.admit("a").submit("x", k) for k in range(5)]
    batcher.drain()
    with pytest.raises(Closed):
        batcher.admit("a")
    futures.append(late.submit("x", 5))  # it was admitted before
    work.go()
    assert batcher.close(30)
    assert first.result(0) == 0
    assert [f.result(0) for f in futures] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(Closed):
        late.submit("x", 6)


def test_an_end_that_takes_too_long_says_so_to_those_who_wait(made, work):
    batcher = made()
    _, running = busy(batcher, work)
    waits = batcher.admit("a").submit("x", 1)
    assert not batcher.close(0.05)
    with pytest.raises(Closed):
        waits.result(0)
    work.go()
    assert running.result(30) == 0
    until(lambda: batcher.close(30))


def test_many_callers_at_once_lose_nothing(made, work):
    """64 threads, four lanes, three groups each, cancelling now and then."""
    sizes = Counter()
    batcher = made(most=8, wait_s=0.001, room=64, done=lambda lane, n, seconds: sizes.update([n]))
    wrong = []

    def caller(number):
        for k in range(20):
            with batcher.admit(number % 4) as ticket:
                future = ticket.submit(number % 3, number * 1000 + k)
                if k % 7 == 3 and future.cancel():
                    continue
                if future.result(30) != 2 * (number * 1000 + k):
                    wrong.append((number, k))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong
    assert (batcher.taken, batcher.waiting) == (0, 0)
    assert max(sizes) > 1
