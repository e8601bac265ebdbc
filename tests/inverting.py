"""A network that inverts colours, for tests of what is round one; a program too: `inverting.py translate RUN ...`."""

import os
import sys
import time

import torch

from pygan import use


class Inverts:
    """White becomes black, at once or after PYGAN_TEST_SLOW seconds a call; takes as many channels as it gives."""

    def __init__(self, channels=3, **card):
        self.card = use.Card(
            gan="inverting", images_seen=1, recipe={}, acts=("translate",), channels={"": (channels, channels)}, **card
        )
        self.device = torch.device("cpu")
        self.batches = []

    def rng(self, seed):
        return torch.tensor([seed, 0])

    def translate(self, A, rng=None, **options):
        self.batches.append(tuple(A.shape))
        time.sleep(float(os.environ.get("PYGAN_TEST_SLOW", "0")))
        return -A


if __name__ == "__main__":
    from pygan.__main__ import main

    use.network = lambda *args: Inverts()
    sys.exit(main(sys.argv[1:]))
