"""The files of a bundle, and how one is told from another folder."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

from pygan.errors import UserError
from pygan.rundir import from_json

CONFIG, WEIGHTS, CARD, SAMPLES, ATTRIBUTES = (
    "config.json",
    "model.safetensors",
    "README.md",
    "samples",
    ".gitattributes",
)
FORMAT = 1
_MOST_BYTES = 1 << 20  # of a config.json
_POINTER = b"version https://git-lfs.github.com/spec"


def is_bundle(folder: Path) -> bool:
    """Does the folder hold what `write` wrote, of whatever version?"""
    try:
        return config(folder).get("library_name") == "pygan"
    except UserError:
        return False


def config(folder: Path) -> dict[str, Any]:
    """What config.json says. Errors: UserError, one line, if it is missing, too large or no JSON object."""
    path = folder / CONFIG
    try:
        _check_ends(path)
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} is no config of a model: it has more than {_MOST_BYTES >> 20} MiB")
        found = from_json(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is neither a run directory nor a model: it has no recipe.json and no {CONFIG}"
        ) from error
    except (OSError, ValueError) as error:
        why = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "it is not JSON"
        raise UserError(f"{path} is no config of a model ({why}); download it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no config of a model (it is not a JSON object); download it again")
    return found


def checksum(path: Path) -> str:
    """SHA-256 of a file of weights. Errors: UserError if it is missing, or a pointer that Git LFS left."""
    try:
        _check_ends(path)
        with open(path, "rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise UserError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull` in {path.parent}")
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({(error.strerror or 'damaged').lower()}); download it again"
        ) from error


def _check_ends(path: Path) -> None:
    """Errors: UserError for a device or a pipe, perhaps behind a link, which may never end; OSError."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path} is a device or a pipe, not a file; download it again")
