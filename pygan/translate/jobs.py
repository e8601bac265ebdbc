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
from pygan.errors import UserError, say

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
    Errors: UserError where there is none, where a result would replace an input, or two of them would be one file.
    """
    found: dict[str, _Found] = {}
    made: list[Job] = []
    for text in inputs:
        if text == "-" and piped is not None:
            if made:  # named twice
                continue
            native = "npy" if piped.startswith(b"\x93NUMPY") else ""
            made.append(Job(piped, "standard input", output / "stdin", native))
            continue
        for one in _matches(text, output):
            found.setdefault(os.path.join(real(one.path.parent), one.path.name), one)  # a link is a picture of its own
    sources = {real(one.path) for one in found.values()}
    for one, target in zip(found.values(), _targets(list(found.values())), strict=True):
        path = one.path
        job = Job(path, shown(path), output / target, "npy" if path.suffix.lower() == ".npy" else "")
        for file in job.files(kinds):
            if real(file) in sources:
                raise UserError(f"{shown(file)} is one of the inputs and would be replaced; choose another -o")
        made.append(job)
    if not made:
        raise UserError(f"there is no picture but in {shown(output)}, where the results go; choose another -o")
    first: dict[Path, Job] = {}
    for job in made:
        other = first.setdefault(job.target, job)
        if other is not job:
            raise UserError(
                f"the results of {other.name} and {job.name} would both be {shown(job.target)}; translate them into "
                "two folders"
            )
    return made


@dataclass(frozen=True)
class _Found:
    """A picture as it was named, where its mirror is below the output, and the name of the folder that is mirrored."""

    path: Path
    below: Path
    folder: str


def _targets(found: Sequence[_Found]) -> list[Path]:
    """Where each result goes below the output, without its ending: the picture's name without its own.

    Of those that would be one (a.jpg and a.png, or a.png of two folders) each gets what it differs in, its ending or
    the folder: a_jpg, a_png. Neither takes the plain name: that is of the result of a time when it was alone.
    """
    # Without its ending "..png" would be the output folder itself.
    targets = [one.below.with_suffix("") if one.below.stem.strip(".") else one.below for one in found]
    for marks in ([one.below.suffix[1:] for one in found], [one.folder for one in found]):
        together: dict[Path, list[int]] = {}
        for k, target in enumerate(targets):
            together.setdefault(target, []).append(k)
        for members in together.values():
            if len({marks[k] for k in members}) > 1:
                for k in members:
                    targets[k] = targets[k].with_name(f"{targets[k].name}_{marks[k]}")
    return targets


def shown(path: Path) -> str:
    """A file's name for one line of a terminal: what cannot be printed (new lines, colours, no UTF-8) is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def safe(target: Path, output: Path) -> bool:
    """Whether a result would lie in the output folder once links are followed."""
    return Path(real(target.parent)).is_relative_to(real(output))


def real(path: Path) -> str:
    """The path with its links followed; of links in a circle, which `Path.resolve` refuses, as far as that goes."""
    return os.path.realpath(path)


def _matches(text: str, output: Path) -> list[_Found]:
    """The pictures of a file, a folder or a glob. Errors: UserError where there is nothing."""
    nothing = UserError(f"{shown(Path(text)) if text else repr(text)}: no such picture, folder or glob")
    if "\0" in text:
        raise nothing
    try:
        there = os.path.lexists(text)
    except OSError:  # a name that is too long
        there = False
    matches = [Path(text)] if there else sorted(map(Path, glob.glob(text, recursive=True)))
    if not matches:
        raise nothing
    pictures: list[_Found] = []
    for match in matches:
        if not match.is_dir():
            pictures.append(_Found(match, Path(match.name), _name_of(match.parent)))
            continue
        if real(match) == real(output):  # as the shell's * finds it the second time
            say(f"{shown(match)} is where the results go, so it is left out")
            continue
        closed: list[OSError] = []
        inside = list_images(match, ENDINGS, unread=closed.append)
        inside += [Path(error.filename) for error in closed]  # read as a picture each is one that cannot be
        if Path(real(output)).is_relative_to(real(match)):  # which holds the results of before
            inside = [path for path in inside if not Path(real(path)).is_relative_to(real(output))]
        if not inside and len(matches) == 1:
            raise UserError(f"{shown(match)} holds no picture ({', '.join(sorted(ENDINGS))})")
        pictures += [_Found(path, path.relative_to(match), _name_of(match)) for path in inside]
    return pictures


def _name_of(folder: Path) -> str:
    return os.path.basename(os.path.abspath(folder))
