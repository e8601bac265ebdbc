"""What a server grants: sizes, numbers, times, and who may ask."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, fields

from pygan.errors import UserError

_SHORTEST_KEY = 8
_MOST = {"batch": 1024, "queue": 100_000, "workers": 256, "most_pictures": 1024}


@dataclass(frozen=True)
class Settings:
    """Everything that a user of `pygan serve` can decide but the networks."""

    host: str = "127.0.0.1"  # the address that it is bound to: on loopback only this machine's own names are answered
    names: tuple[str, ...] = ()  # further names by which it may be called, of a proxy in front; beyond loopback: all
    api_key: str = ""  # without one everybody may ask
    batch: int = 8  # pictures at once on the device
    wait_s: float = 0.002  # how long a batch may wait for company
    queue: int = 128  # pictures in the house: decoded, waiting, running, being encoded
    timeout_s: float = 30.0  # for a request's body to arrive, and then again for its answer to be made
    drain_s: float = 30.0  # for what was accepted, after a signal to stop
    most_bytes: int = 32 << 20  # of a request's body
    most_pixels: int = 1 << 22  # of a picture, width times height; also of all the pictures of a batch
    most_pictures: int = 32  # of one request
    connections: int = 1024
    seed: int = 0  # of dropout and noise, where a request names none
    workers: int = max(2, min(4, os.cpu_count() or 1))  # threads that decode and encode

    def __post_init__(self) -> None:
        """Errors: UserError, with the name of the flag."""
        for one in fields(self):
            value = getattr(self, one.name)
            flag = f"--{_FLAGS.get(one.name, one.name)}"
            if one.type == "int" and one.name != "seed" and not 1 <= value <= _MOST.get(one.name, 1 << 40):
                raise UserError(f"{flag} must be in 1..{_MOST.get(one.name, 1 << 40)}, got {value}")
            if one.type == "float" and not (0 if one.name == "wait_s" else 0.001) <= value <= 86_400:
                raise UserError(f"{flag} must be more than 0 and at most a day, got {value:g}")
        if not 0 <= self.seed < 1 << 63:
            raise UserError(f"--seed must be in 0..2**63-1, got {self.seed}")
        key = self.api_key
        if key and (len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key):
            raise UserError(f"--api-key must be at least {_SHORTEST_KEY} printable ASCII characters without a space")

    @property
    def on_loopback(self) -> bool:
        """Is it for this machine alone?"""
        return is_loopback(self.host)


_FLAGS = {"wait_s": "wait-ms", "timeout_s": "timeout", "drain_s": "drain", "most_bytes": "max-bytes"}
_FLAGS |= {"most_pixels": "max-pixels", "most_pictures": "max-pictures"}


def is_loopback(host: str) -> bool:
    """Is an address or name one that only this machine can reach?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
