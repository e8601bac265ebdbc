"""What a user reads when something is wrong: one clear line, never a traceback."""

from __future__ import annotations

import sys

_said: set[str] = set()


class UserError(Exception):
    """A mistake the user can mend. The message is one line: the thing, what was expected, what to do.

    The command line prints it as ``pygan: error: <message>`` and exits with code 2.
    """


class Diverged(Exception):
    """A loss became NaN or infinite. The message says at which step, in which module, and what is kept.

    The command line prints it as ``pygan: error: <message>`` and exits with code 1.
    """


def say(line: str) -> None:
    """Print one line for the user on stderr, at once."""
    if sys.stderr is not None:
        print("pygan: " + line.replace("\n", "\\n"), file=sys.stderr, flush=True)


def say_once(line: str) -> None:
    """Like `say`, but each line only once in the life of the process (slow paths, missing parts)."""
    if line not in _said:
        _said.add(line)
        say(line)
