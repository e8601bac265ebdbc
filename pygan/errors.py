"""What a user reads when something is wrong: one clear line, never a traceback."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator

_said: set[str] = set()
_quiet = False


class UserError(Exception):
    """A mistake the user can mend. The message is one line: the thing, what was expected, what to do.

    The command line prints it as ``pygan: error: <message>`` and exits with code 2.
    """


class Diverged(Exception):
    """A loss became NaN or infinite. The message says at which step, in which module, and what is kept.

    The command line prints it as ``pygan: error: <message>`` and exits with code 1.
    """


def meant(word: str, words: Iterable[str]) -> str:
    """The nearest of the words that there are as " (did you mean ...?)", "" if none is near."""
    close = difflib.get_close_matches(word.lower(), list(words), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def say(line: str) -> None:
    """Print one line for the user on stderr, at once; what would break the line or steer a terminal is spelled out."""
    if sys.stderr is not None:
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)
        with contextlib.suppress(OSError):  # nobody reads on, or a full disk: no reason to stop the work
            sys.stderr.write(f"pygan: {shown}\n")  # one write: lines of two threads must not run into each other
            sys.stderr.flush()


def say_once(line: str) -> None:
    """Like `say`, but each line only once in the life of the process (slow paths, missing parts)."""
    if line not in _said and not _quiet:
        _said.add(line)
        say(line)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, `say_once` is silent: for a computation that is not the user's."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before
