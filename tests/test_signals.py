"""Signals within a block and behind it."""

import os
import signal
import threading

import pytest

from pygan import signals


def test_a_block_answers_and_what_was_there_before_comes_back():
    before, came = {one: signal.getsignal(one) for one in signals.STOPS}, []

    @signals.handled(lambda number, _: came.append(number), *signals.STOPS)
    def block():
        for number in signals.STOPS:
            os.kill(os.getpid(), number)
        raise ValueError("out")

    with pytest.raises(ValueError, match="out"):
        block()
    assert came == list(signals.STOPS)
    assert {one: signal.getsignal(one) for one in signals.STOPS} == before


def test_sigterm_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt), signals.sigterm_is_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)


def test_in_another_thread_nothing_is_handled():
    found = []

    def work():
        with signals.sigterm_is_ctrl_c():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
