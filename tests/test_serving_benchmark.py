"""The serving benchmark's own arithmetic, and that its plain server serves the same network. Nothing is timed here."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))  # last: the installed pygan, not that of the checkout

from benchmarks import serving, table
from pygan import pixels, use
from pygan.__main__ import main

TRAIN = ["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--no-tensorboard"]


def png(value):
    return pixels.encode(pixels.Picture(np.full((8, 8, 3), value, np.uint8)), "png")


def test_an_answer_may_be_a_grey_level_off_and_no_more():
    wanted = {"a.png": np.full((8, 8, 3), 100, np.uint8)}
    bodies = {"same": png(100), "near": png(101), "far": png(102)}
    answers = [["a.png", 200, ms, kept, True] for ms, kept in ((1.0, "same"), (2.0, "near"), (3.0, "far"))]
    found = serving.judge([(2.0, answers, bodies)], wanted)
    assert (found["lost"], found["wrong"], found["refused"]) == (0, 1, 0)
    assert found["answers"] == 3
    assert found["images_per_s"] == 1.5
    assert found["p50_ms"] == 2.0


def test_what_does_not_come_is_lost_and_a_full_queue_is_not():
    wanted = {"a.png": np.full((8, 8, 3), 100, np.uint8)}
    answers = [["a.png", status, 1.0, "", True] for status in (0, 500, 429)] + [["a.png", 200, 1.0, "same", False]]
    found = serving.judge([(1.0, answers, {"same": png(100)})], wanted)
    assert (found["lost"], found["wrong"], found["refused"]) == (2, 0, 1)
    assert found["answers"] == 0  # the right one came while the servers were warming up


def row(way, clients, rate, run="r"):
    common = {"device": "CPU", "size": 64, "clients": clients, "run": run, "date": "2026-01-01", "commit": "abc"}
    figures = {"images_per_s": rate, "p50_ms": 1.0, "p99_ms": 2.0, "answers": 10, "lost": 0, "wrong": 0, "refused": 0}
    return common | {"way": way} | figures


def test_the_table():
    assert table.serving_table([]) == ["not yet run"]
    whole = [row(way, 8, rate) for way, rate in zip(serving.WAYS, (10.0, 20.0, 30.0), strict=True)]
    lines = table.serving_table([*whole, row("plain", 1, 10.0)])  # of one client nothing but the plain way was measured
    assert sum(line.startswith("| CPU") for line in lines) == 1
    assert "3.00x" in lines[2]
    assert "1.50x" in lines[2]
    assert "30 answers" in lines[-1]
    mixed = [row(way, 8, 1.0, run=way) for way in serving.WAYS]
    assert table.serving_table(mixed) == ["not yet run"]  # of several runs, perhaps of several days


def test_the_table_of_hostile_inputs():
    assert table.hostile_table([]) == ["not yet run"]
    common = {"count": 10_000, "faults": 0, "peak_mib": 700.0, "minutes": 5.0, "device": "CPU"}
    rows = [
        common | {"verb": "serve", "outcomes": {"200": 9, "422": 1}, "date": "d", "commit": commit} for commit in "ab"
    ]
    lines = table.hostile_table(rows)
    assert len(lines) == 3
    assert "200: 9, 422: 1" in lines[2]
    assert lines[2].endswith("d, b |")


def test_the_plain_server_answers_as_offline(tmp_path, capsys):
    """Its network, in PyTorch's own layers, and its pixels: within a grey level of pygan's."""
    pytest.importorskip("fastapi")
    testing = pytest.importorskip("starlette.testclient")
    from benchmarks import plain_server

    run = tmp_path / "run"
    assert main([*TRAIN, "--no-test-dropout", "--test-bn", "running", "--run", str(run)]) == 0
    serving.draw(tmp_path / "pictures", 64)
    wanted = serving.offline(run, tmp_path / "pictures")
    client = testing.TestClient(plain_server.create(str(run), torch.device("cpu"), level=1))
    for path in sorted((tmp_path / "pictures").glob("*.png"))[:3]:
        answer = client.post("/translate", content=path.read_bytes(), headers={"Content-Type": "image/png"})
        assert answer.status_code == 200
        assert serving._is_right(answer.content, wanted[path.name])
        other = pixels.encode(pixels.Picture(255 - pixels.read(answer.content).pixels), "png")
        assert not serving._is_right(other, wanted[path.name])
    assert client.post("/translate", content=b"no picture").status_code == 415
    assert use.network(run, device="cpu").card.statistics == "running"
