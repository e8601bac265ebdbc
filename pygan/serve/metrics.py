"""What a server counts, in the form of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "pygan_requests", "Requests answered, by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "pygan_request_seconds",
            "From the head of a request to its answer",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.rejected = Counter(
            "pygan_rejected", "Requests that were refused, by reason", ["reason"], registry=registry
        )
        self.left = Counter("pygan_clients_left", "Clients that left before their answer", registry=registry)
        self.pixels = Counter("pygan_pixels", "Pixels of pictures taken in", ["model"], registry=registry)
        self.pictures = Counter("pygan_pictures", "Pictures that the device made", ["model"], registry=registry)
        self.batches = Histogram("pygan_batch_size", "Pictures at once", ["model"], registry=registry, buckets=_SIZES)
        self.device = Counter("pygan_device_seconds", "Seconds the device was busy", ["model"], registry=registry)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A number that is looked up when it is asked for."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def batch(self, model: str, n: int, seconds: float) -> None:
        """The device did n pictures of a model in one go."""
        self.pictures.labels(model).inc(n)
        self.batches.labels(model).observe(n)
        self.device.labels(model).inc(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
