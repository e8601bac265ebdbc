"""From a bundle to a network. Its files may come from anybody: nothing in them is run, and nothing is believed."""

from __future__ import annotations

from pathlib import Path

from pygan.bundle import layout
from pygan.errors import UserError
from pygan.exported import weights_file
from pygan.use import Trained


def read(folder: Path, device: str = "auto") -> Trained:
    """The network of a bundle, ready for use, as `use.load` makes it of the run. Errors: UserError, one line.

    The weights must be those that config.json is of; what is built of them is what their own header says.
    """
    where = folder / layout.CONFIG
    facts = layout.config(folder)
    if (other := facts.get("library_name")) != "pygan":
        raise UserError(f"{where} is not of a model of pygan: its library_name is {_short(other)}")
    if (other := facts.get("format")) != layout.FORMAT:
        raise UserError(
            f"{where} has format {_short(other)}, this pygan reads format {layout.FORMAT}; install another pygan"
        )
    weights = folder / layout.WEIGHTS
    if layout.checksum(weights) != facts.get("sha256"):
        raise UserError(f"{weights} is not the file that {where} is of: its checksum differs; download both again")
    return weights_file.read(weights, device)


def _short(value: object) -> str:
    """A value from elsewhere, for one line."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
