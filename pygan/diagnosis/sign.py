"""What a row shows of a disease: the terms that all signs are told in."""

from __future__ import annotations

from typing import NamedTuple


class Sign(NamedTuple):
    """What a row shows of a disease."""

    what: str  # one line without a full stop, with the number in it
    evidence: float  # that number
    advice: str
    severity: float = 1.0  # grows as it gets worse
    since: tuple[int, int] | None = None  # (images, steps), where the sign itself knows when it began


HEALTHY = False  # the row could have shown the disease and does not; None: it cannot tell
Answer = Sign | bool | None

DIFFERENT = 5.0  # grey levels: real pictures, or inputs, that are more alike ask for nothing else


def of(end: str) -> str:
    """Of which domain, or way, a line is: " of A" for keys that end in _A, "" without an ending."""
    return f" of {end.lstrip('_')}" if end else ""
