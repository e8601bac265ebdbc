"""A server in a thread, over real HTTP, and a network that costs nothing: for the tests of `pygan serve`."""

import contextlib
import io
import threading
import time

import numpy as np
import torch
from PIL import Image

from pygan.ops.philox import new_rng
from pygan.serve import app, server
from pygan.serve.limits import Settings
from pygan.use import Card


class Negative:
    """A network that makes negatives. `gate`: closed, it waits; `seen`: shapes of its batches; it fails on white."""

    device = torch.device("cpu")

    def __init__(self, *, acts=("translate",), options=None, chance=False, asks=()):
        self.card = Card(
            "negative", 7, {"crop_size": 8, "data": "/secret/place", "text_encoder": "auto"}, acts,
            channels=dict.fromkeys((options or {}).get("direction", ("",)), (3, 3)), options=options or {},
            chance=chance, multiple=4, asks=asks, z=4 if "generate" in acts else 0, text=256 if asks else 0,
        )  # fmt: skip
        self.gate = threading.Event()
        self.gate.set()
        self.seen = []

    def translate(self, A, rng=None, **options):
        self.seen.append(tuple(A.shape))
        assert self.gate.wait(60)
        if A.amin(dim=(1, 2, 3)).max() == 1:
            raise RuntimeError("white\nis too much")
        return -A if options.get("direction") != "BtoA" else A.clone()

    def generate(self, n, rng=None, **more):
        assert self.gate.wait(60)
        noise = torch.rand((n, 3, 8, 8), generator=torch.Generator().manual_seed(int(rng[0]))) * 2 - 1
        return noise if "text" not in more else noise * more["text"].abs().mean(dim=1).view(n, 1, 1, 1).clamp(0, 1)

    def rng(self, seed):
        return new_rng(seed, self.device)


def picture(seed=0, size=(12, 10)):
    """(pixels (h, w, 3) uint8, its PNG); size: (h, w)."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    return pixels, png(pixels)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@contextlib.contextmanager
def served(networks, *, port=0, **settings):
    """Serves networks at a port (0: any that is free): the running `server.Server`, with `url`, `port` and `house`."""
    granted = Settings(**settings)
    made = app.create(networks, granted)
    with server.bound(granted.host, port) as sock:
        up = threading.Event()
        running = server.Server(made, granted, up.set)
        running.url, running.port = server.url(sock, granted.host).rstrip("/"), sock.getsockname()[1]
        running.house, running.app = made.state.house, made
        thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        assert up.wait(30)
        try:
            yield running
        finally:
            running.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def until(true, seconds=60.0):
    """Wait until `true()`; how long it takes says nothing, that it comes does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)
