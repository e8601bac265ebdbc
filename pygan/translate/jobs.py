"""What is to be translated, and where each result goes: names and folders mirrored, never outside the output."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pygan import pixels
from pygan.data import images
from pygan.data.index import list_images
from pygan.errors import UserError

ENDINGS = images.EXTENSIONS | {".npy"}
Kinds = Callable[[str, str], Sequence[str]]  # (native, ending of the source) -> kinds that a result may be


@dataclass(frozen=True)
class Job:
    """A picture, and its result below the output folder without its ending."""

    source: Path | bytes
    name: str  # as a user reads it
    target: Path
    native: str = ""  # "npy" where results are .npy if nothing else is asked for

    def file(self, kind: str) -> Path:
        """Where the result goes as a file of that kind."""
        return self.target.with_name(self.target.name + pixels.suffix(kind))

    def files(self, kinds: Kinds) -> list[Path]:
        """Where it is to be expected, before it is read."""
        ending = "" if isinstance(self.source, bytes) else self.source.suffix.lower()
        return [self.file(kind) for kind in kinds(self.native, ending)]


def jobs(inputs: Sequence[str], output: Path, kinds: Kinds, piped: bytes | None) -> list[Job]:
    """One for every picture that is asked for, each once, in order.

    piped: what "-" stands for.
    Errors: UserError where there is none, or where a result would replace an input.
    """
    found: dict[str, tuple[Path, Path]] = {}  # file -> (as it was named, where below `output`)
    made: list[Job] = []
    taken: set[Path] = set()
    for text in inputs:
        if text == "-" and piped is not None:
            taken.add(Path("stdin"))
            native = "npy" if piped.startswith(b"\x93NUMPY") else ""
            made.append(Job(piped, "standard input", output / "stdin", native))
            continue
        for path, below in _matches(text, output):
            found.setdefault(real(path), (path, below))
    for path, below in found.values():
        target = below.with_suffix("")
        if target in taken:  # a.jpg and a.png, or the same name from two folders
            target = below.with_name(f"{below.stem}_{below.suffix[1:]}")
        number = 2
        while target in taken:
            target, number = below.with_name(f"{below.stem}_{number}"), number + 1
        taken.add(target)
        job = Job(path, shown(path), output / target, "npy" if path.suffix.lower() == ".npy" else "")
        for file in job.files(kinds):
            if real(file) in found:
                raise UserError(f"{shown(file)} is one of the inputs and would be replaced; choose another -o")
        made.append(job)
    return made


def shown(path: Path) -> str:
    """A file's name for one line of a terminal: what cannot be printed (new lines, colours, no UTF-8) is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def safe(target: Path, output: Path) -> bool:
    """Whether a result would lie in the output folder once links are followed."""
    return Path(real(target.parent)).is_relative_to(real(output))


def real(path: Path) -> str:
    """The path with its links followed; of links in a circle, which `Path.resolve` refuses, as far as that goes."""
    return os.path.realpath(path)


def _matches(text: str, output: Path) -> list[tuple[Path, Path]]:
    """(picture, where below the output) for a file, a folder or a glob. Errors: UserError where there is nothing."""
    if "\0" in text:
        raise UserError(f"{shown(Path(text))}: no such picture, folder or glob")
    try:
        there = os.path.lexists(text)
    except OSError:  # a name that is too long
        there = False
    matches = [Path(text)] if there else sorted(map(Path, glob.glob(text, recursive=True)))
    if not matches:
        raise UserError(f"{shown(Path(text))}: no such picture, folder or glob")
    pairs = []
    for match in matches:
        if not match.is_dir():
            pairs.append((match, Path(match.name)))
            continue
        inside = [path for path in list_images(match, ENDINGS) if not Path(real(path)).is_relative_to(real(output))]
        if not inside and len(matches) == 1:
            raise UserError(f"{shown(match)} holds no picture ({', '.join(sorted(ENDINGS))})")
        pairs += [(path, path.relative_to(match)) for path in inside]
    return pairs
