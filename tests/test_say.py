"""Lines for the user."""

import errno
import sys

from pygan.errors import say


def test_a_line_is_one_write(monkeypatch):
    """Text and its end in two would let the lines of two threads run into each other."""
    written = []

    class Stream:
        write, flush = staticmethod(written.append), staticmethod(lambda: None)

    monkeypatch.setattr(sys, "stderr", Stream)
    say("a name\nwith \x1b[2J in it")
    assert written == ["pygan: a name\\nwith \\x1b[2J in it\n"]


def test_a_line_that_nobody_gets_stops_nothing(monkeypatch):
    tried = []

    class Full:
        flush = staticmethod(lambda: None)

        def write(self, text):
            tried.append(text)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    say("lost")
    assert tried == ["pygan: lost\n"]
