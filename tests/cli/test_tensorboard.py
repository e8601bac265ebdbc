"""TensorBoard events open in a real TensorBoard, and say what metrics.jsonl says."""

import io
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from pygan.__main__ import main
from pygan.rundir import read_metrics


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "runs" / "one"
    flags = ["--preset", "tiny", "--device", "cpu", "--log-every-images", "4", "--sample-every-images", "16"]
    assert main(["train", "pix2pix", *flags, "--run", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def ask(run, tmp_path_factory):
    """A function that gets an address from a TensorBoard over the folder of runs: bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = tmp_path_factory.mktemp("tensorboard") / "log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run.parent), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--load_fast", "false", "--reload_interval", "1"]
    with open(said, "wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read()

    try:
        ends = time.monotonic() + 90
        while True:
            assert server.poll() is None, said.read_text()
            try:
                if "one" in json.loads(get("/data/plugin/scalars/tags")):
                    break
            except (urllib.error.URLError, OSError, ValueError):
                pass
            assert time.monotonic() < ends, "TensorBoard did not read the events in 90 s"
            time.sleep(0.2)
        yield get
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def scalars(ask, tag):
    """[(step, value), ...] of a tag."""
    rows = json.loads(ask("/data/plugin/scalars/scalars?" + urllib.parse.urlencode({"run": "one", "tag": tag})))
    return [(step, value) for _, step, value in rows]


def test_the_run_is_listed(ask):
    assert json.loads(ask("/data/runs")) == ["one"]


def test_every_column_of_numbers_is_there_with_the_values_of_the_rows(ask, run):
    rows = read_metrics(run)
    keys = {key for row in rows for key in row} - {"images", "steps", "epoch", "images_per_s"}
    assert {"loss/G", "loss/D", "logit/real", "lr"} <= keys
    tags = set(json.loads(ask("/data/plugin/scalars/tags"))["one"])
    assert keys <= tags
    for key in sorted(keys):
        expected = [(row["images"], row[key]) for row in rows if key in row]
        found = scalars(ask, key)
        assert [step for step, _ in found] == [step for step, _ in expected], key
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], rtol=1e-6)


def test_throughput_is_there(ask, run):
    found = scalars(ask, "speed/images_per_s")
    assert [step for step, _ in found] == [row["images"] for row in read_metrics(run)]


def test_sample_grids_are_the_files(ask, run):
    query = urllib.parse.urlencode({"run": "one", "tag": "samples", "sample": 0})
    found = json.loads(ask(f"/data/plugin/images/images?{query}"))
    assert [entry["step"] for entry in found] == [16, 32]
    for entry in found:
        with Image.open(io.BytesIO(ask("/data/plugin/images/individualImage?" + entry["query"]))) as image:
            shown = np.asarray(image.convert("RGB"))
        with Image.open(run / "samples" / f"images-{entry['step']:09d}.png") as image:
            assert np.array_equal(shown, np.asarray(image.convert("RGB")))
