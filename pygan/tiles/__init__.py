"""Pictures that are larger than the memory: through a network in tiles, with the result of the whole."""

from pygan.tiles.picture import MOST_PIXELS, through, translated
from pygan.tiles.run import Tiling

__all__ = ["MOST_PIXELS", "Tiling", "through", "translated"]
