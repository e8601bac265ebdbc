"""Pictures of any depth and any number of channels, from files and to files: what a network is given and gives back."""

from pygan.pixels.picture import Picture, from_signed, on_white, to_depth, to_signed, white, with_channels
from pygan.pixels.reading import DecodesJpeg, most_bytes, of_image, read
from pygan.pixels.writing import KINDS, MEDIA_TYPES, encode, kind_for, suffix, why_not

__all__ = [
    "KINDS",
    "MEDIA_TYPES",
    "DecodesJpeg",
    "Picture",
    "encode",
    "from_signed",
    "kind_for",
    "most_bytes",
    "of_image",
    "on_white",
    "read",
    "suffix",
    "to_depth",
    "to_signed",
    "white",
    "why_not",
    "with_channels",
]
