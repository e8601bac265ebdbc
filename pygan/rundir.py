"""A run directory explains itself: recipe.json, metrics.jsonl, findings.jsonl, samples/, checkpoints/, and more."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygan.errors import UserError, say_once

RECIPE, METRICS, SCORES = "recipe.json", "metrics.jsonl", "scores.json"
FINDINGS, ENVIRONMENT = "findings.jsonl", "environment.json"


def as_path(said: object, what: str) -> Path:
    """A path as a caller named it. Errors: UserError for what can be none, or cannot be looked at."""
    if not isinstance(said, str | os.PathLike) or "\0" in str(said) or said == "":
        raise UserError(f"{what} must be a path, got {said!r}")
    path = Path(said)
    try:
        path.exists()
    except OSError as error:
        raise UserError(f"cannot use {path} ({error.strerror}); choose another path") from error
    return path


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file whole: written beside it, synced, renamed. Errors: OSError; the old file is untouched then.

    What is written first has a name of its own length, so that the file's may be as long as the system allows.
    """
    new = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:24]}.new")
    try:
        with open(new, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:  # Ctrl-C too
        new.unlink(missing_ok=True)
        raise


class RunDir:
    """A run directory that this process alone writes into, from `open` to `close`.

    The lock is the kernel's (flock): it goes with the process, however the process ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints, self.samples = path / "checkpoints", path / "samples"
        self._lock: int | None = None

    def open(self) -> RunDir:
        """Create the directory if need be and take its lock. Errors: UserError (in use, not writable)."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"cannot write into {self.path} ({error.strerror}); choose another place with --run"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise UserError(
                f"{self.path} is in use by another process; wait for it, or choose another --run"
            ) from error
        except OSError as error:  # of some network and cloud drives
            say_once(f"{self.path} cannot be locked there ({error.strerror}): nothing keeps a second process out of it")
        return self

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def facts(self) -> dict[str, Any] | None:
        """{"gan", "preset", "recipe", ...} as saved, or None in a new directory. Errors: UserError if unreadable."""
        return read_facts(self.path) if (self.path / RECIPE).exists() else None

    def write_facts(self, facts: dict[str, Any]) -> None:
        write_atomic(self.path / RECIPE, (json.dumps(facts, indent=2) + "\n").encode())

    def rewind_metrics(self, images_seen: int) -> None:
        """Drop the rows after `images_seen`, and a row that was cut short: training is about to write them again."""
        path = self.path / METRICS
        if path.exists():
            kept = [line for line, row in _rows(path) if row["images"] <= images_seen]
            write_atomic(path, "".join(line + "\n" for line in kept).encode())

    def append_metrics(self, row: dict[str, Any]) -> None:
        with open(self.path / METRICS, "a") as file:
            file.write(json.dumps(row) + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """What recipe.json of a run directory says. Errors: UserError if `path` is not a run directory."""
    try:
        facts = from_json((path / RECIPE).read_text())
    except FileNotFoundError as error:
        why = f"it has no {RECIPE}" if path.exists() else "there is nothing of that name"
        raise UserError(f"{path} is not a run directory: {why}") from error
    except NotADirectoryError as error:
        raise UserError(f"{path} is a file; name the directory of a run") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise UserError(
            f"{path / RECIPE} cannot be read ({why}); restore it from a backup, or start anew in another --run"
        ) from error
    types = {"gan": str, "asked": dict, "recipe": dict}
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), kind) for key, kind in types.items()):
        raise UserError(f"{path / RECIPE} is damaged; restore it from a backup, or start anew in another --run")
    return facts


def read_recipe_file(file: Path) -> dict[str, Any]:
    """{"gan": name, "recipe": {field: value}, ...} of a JSON file. Errors: UserError if it is none."""
    try:
        facts = from_json(file.read_text())
    except (OSError, ValueError) as error:
        why = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "it is not JSON"
        raise UserError(f"{file} is no recipe ({why}); `pygan plan GAN -o FILE` writes one") from error
    if (
        not isinstance(facts, dict)
        or not isinstance(facts.get("gan"), str)
        or not isinstance(facts.get("recipe"), dict)
    ):
        raise UserError(f'{file} is no recipe (it needs "gan" and "recipe"); `pygan plan GAN -o FILE` writes one')
    return facts


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, oldest first; a row that was cut short is left out."""
    return [row for _, row in _rows(path / METRICS)] if (path / METRICS).exists() else []


def read_findings(path: Path) -> list[dict[str, Any]]:
    """The findings of findings.jsonl as they were said, oldest first; one that was cut short is left out."""
    return [row for _, row in _rows(path / FINDINGS)] if (path / FINDINGS).exists() else []


def from_json(text: str) -> Any:
    """JSON of a file that may be damaged; whole numbers of more than 18 digits become floats. Errors: ValueError."""
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = from_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("images"), int):
            yield line, row
