"""pygan trains, judges and serves the classic GANs. Start with `pygan train pix2pix --amp`."""

from pygan.version import __version__

__all__ = ["__version__"]
