"""One picture to standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pygan import pixels
from pygan.errors import UserError, say
from pygan.translate.jobs import jobs
from pygan.translate.work import Work


def through(work: Work, inputs: Sequence[str]) -> int:
    """Translate the one picture of `inputs` to standard output; everything that is said goes to stderr.

    Returns the exit code. Errors: UserError.
    """
    # Nothing goes below this output, so nothing can be replaced.
    asked = jobs(inputs, Path(os.devnull), work.kinds, piped(work) if "-" in inputs else None)
    if len(asked) != 1:
        raise UserError(f"-o - writes one picture and {len(asked)} are asked for; choose a folder")
    (job,) = asked
    out = standard_output()
    picture = work.read(job.source, job.name)
    with contextlib.redirect_stdout(sys.stderr):  # where tiles tell how far they are
        (made,) = work.results([picture], [job.name])
    if isinstance(made, UserError):
        raise made
    try:
        out.write(work.encode(made, work.kind(picture, job.native)))
        out.flush()
    except BrokenPipeError:
        say("nobody reads standard output any more")
    except OSError as error:
        raise UserError(f"cannot write to standard output ({error.strerror})") from error
    return 0


def piped(work: Work) -> bytes:
    """What comes by standard input, to its end. Errors: UserError for more than a picture can have."""
    most = pixels.most_bytes(work.most_pixels)
    data = standard_input().read(most + 1)
    if len(data) > most:
        raise UserError(f"standard input: more than {most:,} bytes are not read; make the picture smaller")
    return data


def standard_input() -> BinaryIO:
    """The bytes of standard input. Errors: UserError if it is closed."""
    if sys.stdin is None or not hasattr(sys.stdin, "buffer"):
        raise UserError("standard input is closed: there is no picture to read")
    if sys.stdin.isatty():
        raise UserError("standard input is the terminal; send a picture: < FILE, or PROGRAM |")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """The bytes of standard output. Errors: UserError if it is closed, or a terminal."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        raise UserError("standard output is closed: there is nowhere to write to")
    if sys.stdout.isatty():
        raise UserError("-o - would write a picture to the terminal; send it to a file or a program")
    return buffer
