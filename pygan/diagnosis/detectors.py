"""All diseases, and how long each must last before it is said.

The thresholds stand in the files `of_*`, each with its reason. Healthy runs whose rows they were chosen by: the demo
presets of all GANs here, and pix2pix of 64x64 pixels with transposed convolutions and batch 1. Sick ones are those of
tests/test_diagnosis.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pygan.diagnosis.of_balance import loss_imbalance, memorisation, stuck_balance
from pygan.diagnosis.of_discriminator import certain_discriminator, constant_discriminator
from pygan.diagnosis.of_generator import exploding_gradients, generator_collapse, vanishing_gradients
from pygan.diagnosis.of_pictures import blank_pictures, checkerboard, inverted_colours, saturated_pictures
from pygan.diagnosis.rows import WINDOW, Case, Rows
from pygan.diagnosis.sign import Answer

MEDIAN_LAG = WINDOW // 2  # a median over the last rows changes when half of them have


class Detector(NamedTuple):
    """A disease, and how long it must last before it is said."""

    name: str
    look: Callable[[Rows, Case], Answer]
    rows: int
    steps: int
    lag: int = MEDIAN_LAG  # rows from where a change is to where it shows
    of_evaluations: bool = False  # looks at rows of evaluations, else at those of steps


# Ten rows are 20 seconds; the steps keep what the first ones of a training are always like from being a disease.
DETECTORS = (
    Detector("constant_discriminator", constant_discriminator, 10, 100, WINDOW - 1),
    Detector("certain_discriminator", certain_discriminator, 20, 200, 0),
    Detector("stuck_balance", stuck_balance, 30, 500, WINDOW - 1),
    Detector("generator_collapse", generator_collapse, 20, 400),
    Detector("vanishing_gradients", vanishing_gradients, 10, 50),
    Detector("exploding_gradients", exploding_gradients, 10, 50),
    Detector("checkerboard", checkerboard, 20, 400),
    Detector("inverted_colours", inverted_colours, 20, 300),
    Detector("saturated_pictures", saturated_pictures, 10, 50),
    Detector("blank_pictures", blank_pictures, 20, 200),
    Detector("loss_imbalance", loss_imbalance, 20, 200),
    Detector("memorisation", memorisation, 2, 0, of_evaluations=True),
)
