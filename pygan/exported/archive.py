"""What is in a TorchScript or PT2 file, a zip archive, before PyTorch opens it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from pygan.errors import UserError

EXTRA = "pygan.json"  # the member with the table of `facts`
_MOST_FACTS, _MOST_TEXT = 1 << 20, 1 << 28  # bytes, once unpacked; weights are not packed


def members(path: Path, what: str) -> dict[str, zipfile.ZipInfo]:
    """The members by their path below the archive's one folder. what: kind of file, for errors.

    Errors: UserError for another file, one that is cut short, or one that would unpack to far more than its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is not a {what} file, or damaged; export it again") from error
    found = {info.filename.partition("/")[2]: info for info in infos}
    if len(found) != len(infos) or len({info.filename.partition("/")[0] for info in infos}) != 1:
        raise UserError(f"{path} is not a {what} file; export it again")
    packed = sum(info.file_size for info in infos if info.compress_type != zipfile.ZIP_STORED)
    if packed > _MOST_TEXT or sum(info.compress_size for info in infos) > path.stat().st_size:  # or: one in another
        raise UserError(f"{path} unpacks to far more than its size and is not opened")
    return found


def table(path: Path, found: Mapping[str, zipfile.ZipInfo]) -> dict[str, str]:
    """What the file says about its network. Errors: UserError if it says nothing, or nothing that can be read."""
    info = found.get(f"extra/{EXTRA}")
    if info is None:
        raise UserError(f"{path} says nothing of its network: only files that `pygan export` wrote can be used")
    if info.file_size > _MOST_FACTS:
        raise UserError(f"{path} is damaged: what it says of its network is {info.file_size:,} bytes long")
    try:
        values = json.loads(read(path, info))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: what it says of its network is not JSON; export it again") from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise UserError(f"{path} is damaged: what it says of its network is no table; export it again")
    return values


def read(path: Path, info: zipfile.ZipInfo) -> bytes:
    """One member. Errors: UserError if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(info)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, zipfile.zlib.error) as error:
        raise UserError(f"{path} is damaged: {info.filename} cannot be read; export it again") from error
