"""A bot that answers pictures with their translation: those put into a folder, or named on stdin, one a line.

    python examples/bot.py RUN --watch INBOX --answers OUTBOX
    find photos -name '*.jpg' | python examples/bot.py RUN --answers OUTBOX

RUN: a run directory, or a file or folder that `pygan export` wrote. The answer to INBOX/a.jpg is OUTBOX/a.jpg.png. It
can be stopped at any moment and started again: a picture is not answered twice, unless it has changed. What is no
picture gets one line on stderr in place of an answer.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pygan
from pygan.errors import say


def main() -> int:
    parser = argparse.ArgumentParser(description="Answer pictures with their translation.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, or an exported file or folder")
    parser.add_argument("--answers", type=Path, required=True, metavar="FOLDER", help="where the answers go")
    parser.add_argument("--watch", type=Path, metavar="FOLDER", help="answer what is put here (default: read stdin)")
    parser.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between two looks (default: 1)")
    parser.add_argument("--direction", choices=("AtoB", "BtoA"), help="which way, of a GAN that learned both")
    parser.add_argument("--to", metavar="NAMES", help="labels of the answer, of a GAN of many domains")
    args = parser.parse_args()
    try:
        if not 0 < args.every <= 3600:
            raise pygan.UserError(f"--every must be more than 0 and at most 3600 seconds, got {args.every:g}")
        generator = pygan.load(args.run)
        args.answers.mkdir(parents=True, exist_ok=True)
        if args.watch is not None and args.watch.samefile(args.answers):
            raise pygan.UserError(f"{args.answers} is watched too, and would be answered; choose other --answers")
        for source, name in watched(args.watch, args.every) if args.watch else named():
            answer(generator, source, args.answers / f"{name}.png", direction=args.direction, to=args.to)
    except pygan.UserError as error:
        say(f"error: {error}")
        return 2
    except OSError as error:
        say(f"error: cannot use {error.filename} ({error.strerror}); choose another folder")
        return 2
    except KeyboardInterrupt:
        say("stopped; start it again to go on")
        return 130
    return 0


def named() -> Iterator[tuple[Path, str]]:
    """The paths that stdin names, until it ends, each with a name that has its folders in it: a/b.jpg is a_b.jpg."""
    for line in sys.stdin.buffer:  # a name is any bytes
        if line.strip():
            source = Path(os.fsdecode(line.rstrip(b"\r\n")))
            yield source, "_".join(part for part in source.parts if part not in ("/", ".."))


def watched(folder: Path, every_s: float) -> Iterator[tuple[Path, str]]:
    """The files of a folder and their names, each time that one is new or changed, and whole: the same at two looks."""
    before: dict[Path, tuple[int, int]] = {}
    given: dict[Path, tuple[int, int]] = {}
    while True:
        now = {path: state(path) for path in sorted(folder.iterdir()) if is_ours(path)}
        for path in now:
            if before.get(path) == now[path] != given.get(path):
                yield path, path.name
                given[path] = now[path]
        before, given = now, {path: given[path] for path in now if path in given}
        time.sleep(every_s)


def is_ours(path: Path) -> bool:
    """Is it a file that is meant for the bot? Hidden ones are on their way in, links lead elsewhere."""
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def state(path: Path) -> tuple[int, int]:
    """(time of the last change in ns, bytes) of a file; (0, 0) when it is gone or cannot be looked at."""
    try:
        return path.stat().st_mtime_ns, path.stat().st_size
    except (OSError, ValueError):
        return 0, 0


def answer(generator: pygan.Generator, source: Path, target: Path, *, direction: str | None, to: str | None) -> None:
    """Write the answer, whole, unless it is there; or say in one line why there is none.

    An answer has its picture's time of change: by that the next start knows that the picture was answered.
    """
    new = target.with_name(f".{target.name}.new")
    changed, _ = state(source)
    if changed and changed == state(target)[0]:
        return
    try:
        picture = generator(source, direction=direction, to=to)
        new.unlink(missing_ok=True)
        picture.save(new, "PNG")
        os.utime(new, ns=(changed, changed))
        os.replace(new, target)
        say(f"{source} -> {target}")
    except pygan.UserError as error:
        say(str(error))
    except OSError as error:
        say(f"cannot write {target} ({error.strerror})")


if __name__ == "__main__":
    sys.exit(main())
