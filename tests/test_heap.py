"""A training on a CPU gives back what it has freed, before it has grown much."""

import mmap

import pytest

from pygan import heap


def test_what_has_grown_is_given_back():
    sizes, given = iter([100, 100 + heap.SLACK, 101 + heap.SLACK, 200, 200 + heap.SLACK, 201 + heap.SLACK]), []
    of = heap.Heap(lambda: given.append(True), lambda: next(sizes))
    assert [of.end_of_round() for _ in range(6)] == [False, False, True, False, False, True]
    assert len(given) == 2


def test_a_process_says_how_large_it_is():
    before = heap.resident()
    if not before:
        pytest.skip("there is no /proc here")
    with mmap.mmap(-1, 40 << 20) as held:  # new pages, whatever the heap still has
        held.write(b"x" * len(held))
        assert heap.resident() - before > 30 << 20


def test_a_training_on_a_cpu_looks_after_each_step(tmp_path, monkeypatch):
    from pygan import loop

    rounds = []
    monkeypatch.setattr(heap.Heap, "end_of_round", lambda self: rounds.append(True))
    loop.train("dcgan", preset="tiny", run=tmp_path / "run", device="cpu", steps=3, tensorboard=False)
    assert len(rounds) == 3


def test_where_the_c_library_gives_nothing_back_nothing_happens(monkeypatch):
    def without(name):
        raise OSError

    monkeypatch.setattr(heap.ctypes, "CDLL", without)
    of = heap.Heap(size=iter([1, 2 + heap.SLACK]).__next__)
    assert [of.end_of_round() for _ in range(2)] == [False, True]
