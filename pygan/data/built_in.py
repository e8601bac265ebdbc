"""The sets that are drawn instead of read: which one `--data` names, and how many pictures of it there are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pygan.errors import UserError

_NAMED = re.compile(r"([a-z]+)(?::(\d+))?")


def built_in(data: str, default: str, names: tuple[str, ...]) -> tuple[str, int] | None:
    """(name, seed) of the drawn set that `data` ("", "faces" or "faces:7") means, None: it is a folder.

    default: the set of "" ; names: the sets that can be asked for. A folder of that name wins. UserError for a seed
    that is too large.
    """
    if not data:
        return default, 0
    match = _NAMED.fullmatch(data)
    if not match or match[1] not in names or Path(os.path.expanduser(data)).is_dir():
        return None
    seed = int(match[2] or 0)
    if seed >= 1 << 63:
        raise UserError(f"--data {match[1]}:SEED must have a SEED less than 2**63, got {seed}")
    return match[1], seed
