"""What the command line says of a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pygan.errors import UserError

PEERS = ("pix2pix", "cyclegan", "stargan")  # the GANs that networks can be imported as


@dataclass(frozen=True)
class Asked:
    """What the command line says of a network that its file may not tell. Empty or None: nothing."""

    back: Path | None = None  # cyclegan: the file of the network that goes from B to A
    norm: str = ""  # "batch" or "instance"
    dropout: bool | None = None  # has G dropout?
    eval: bool = False  # use running statistics and no dropout, as the port's --eval
    labels: str = ""  # stargan: names of the labels, and of those of a second data set
    labels_2: str = ""


def check(name: str, asked: Asked) -> None:
    """Errors: UserError for a GAN that cannot be imported, and for flags that say nothing about this one."""
    if name not in PEERS:
        raise UserError(f"--as must be one of {', '.join(PEERS)}, got {name!r}")
    if asked.back is not None and name != "cyclegan":
        raise UserError(f"--back is for --as cyclegan, which has a network for each direction, not {name}")
    for flag, value in (("--labels", asked.labels), ("--labels-2", asked.labels_2)):
        if value and name != "stargan":
            raise UserError(f"{flag} is for --as stargan, not {name}")
    if name == "stargan":
        given = (("--norm", asked.norm), ("--dropout", asked.dropout is not None), ("--eval", asked.eval))
        for flag, value in given:
            if value:
                raise UserError(f"{flag} says nothing about a StarGAN generator; leave it out")
