"""`pygan serve` as a command: what it says, what it refuses at the door, and how it ends, under load too."""

import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest
from serving import picture, pixels_of

from pygan import apply, pixels, use
from pygan.__main__ import main
from pygan.errors import UserError
from pygan.serve import names, server

PNG = {"Content-Type": "image/png"}
KEY = "a-key-of-a-test"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with dropout in use and one from noise."""
    folder = tmp_path_factory.mktemp("serve")
    for gan in ("pix2pix", "dcgan"):
        flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--max-steps", "2", "--run"]
        assert main(["train", gan, *flags, str(folder / gan)]) == 0
    return folder


class Serving:
    """`pygan serve` in a process of its own, once it answers."""

    def __init__(self, *argv, **environment):
        command = [sys.executable, "-m", "pygan", "serve", *map(str, argv), "--device", "cpu", "--port", "0"]
        more = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"} | environment
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, **pipes, env=os.environ | more)
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"serving at (http://127\.0\.0\.1:\d+)/", line):
                self.url = found[1]
                return
        pytest.fail(f"it does not serve: {self.said}")

    def end(self, number=signal.SIGTERM):
        """(exit code, what it said in all)"""
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=60)[0]
        return self.process.returncode, self.said + rest


def test_what_it_says_and_serves_is_what_the_run_makes(runs):
    one = Serving(runs / "pix2pix", f"noise={runs / 'dcgan'}", "--seed", "3", PYGAN_API_KEY=KEY)
    with httpx.Client(base_url=one.url, headers={"X-API-Key": KEY}, timeout=60) as client:
        offline = use.load(runs / "pix2pix", "last", "cpu")
        for query, seed in (("", 3), ("?seed=4", 4)):
            answer = client.post(f"/v1/translate/pix2pix{query}", content=picture(1)[1], headers=PNG)
            (wanted,) = apply.translated(offline, [pixels.read(picture(1)[1])], seed=seed)
            assert np.array_equal(pixels_of(answer.content), wanted.pixels)
        assert client.post("/v1/generate/noise", json={"n": 2}).status_code == 200
        told = client.get("/v1/models").text
        assert str(runs) not in told
        assert httpx.get(f"{one.url}/v1/models").status_code == 401
    code, said = one.end(signal.SIGINT)
    assert code == 0
    assert re.search(r"^pix2pix: pix2pix at \d+ images, translates, on cpu$", said, re.MULTILINE)
    assert re.search(r"^noise: dcgan at \d+ images, generates, on cpu$", said, re.MULTILINE)
    assert "a key is asked for" in said
    assert "8 pictures at once, 128 in the house" in said
    assert KEY not in said
    assert "Traceback" not in said


def test_the_end_under_load_answers_all_that_was_accepted(runs):
    """Many clients, more than run at once; the signal comes while they wait. Each is answered, or told that it is over,
    and those who were let in are answered rightly.
    """
    one = Serving(runs / "pix2pix", "--queue", "200", "--timeout", "60")
    offline = use.load(runs / "pix2pix", "last", "cpu")
    began = threading.Barrier(25)

    def client(number):
        with httpx.Client(base_url=one.url, timeout=60) as http:
            assert http.get("/health").status_code == 200  # the connection is there
            began.wait(60)
            return http.post("/v1/translate/pix2pix", content=picture(number, (200, 200))[1], headers=PNG)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = [pool.submit(client, number) for number in range(24)]
        began.wait(60)
        with httpx.Client(base_url=one.url) as http:
            while True:  # until all of them are in the house
                found = re.search(r"^pygan_in_house (\d+)", http.get("/metrics").text, re.MULTILINE)
                if int(found[1]) >= 12 or all(answer.done() for answer in answers):
                    break
        code, said = one.end()
        statuses = [answer.result().status_code for answer in answers]
    assert code == 0, said
    assert statuses.count(200) >= 12
    assert set(statuses) <= {200, 503}
    assert "shutting down" in said
    for number, answer in enumerate(answers):
        if answer.result().status_code == 200:
            (wanted,) = apply.translated(offline, [pixels.read(picture(number, (200, 200))[1])])
            assert np.array_equal(pixels_of(answer.result().content), wanted.pixels)


def test_a_second_signal_ends_it_at_once(runs):
    """And beyond this machine, any name is answered, and a missing key is warned of."""
    one = Serving(runs / "pix2pix", "--timeout", "600", "--drain", "600", "--host", "0.0.0.0")
    assert "everybody who reaches this address may use it" in one.said
    assert httpx.get(f"{one.url}/v1/models", headers={"Host": "any.example"}).status_code == 200
    host, port = one.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"POST /v1/translate/pix2pix HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
        sock.sendall(b"Content-Length: 9\r\n\r\nx")  # it was accepted, and will not end
        one.process.send_signal(signal.SIGTERM)
        while "shutting down" not in one.said:
            one.said += one.process.stdout.readline()
        code, said = one.end()
    assert code == 128 + signal.SIGTERM
    assert "stopped at once" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "-1"], "--port must be in 0..65535"),
        (["--port", "70000"], "--port must be in 0..65535"),
        (["--host", "no.such.host.invalid"], "--host 127.0.0.1"),
        (["--host", "192.0.2.1"], "cannot serve at 192.0.2.1"),
        (["--batch", "0"], "--batch"),
        (["--timeout", "nan"], "--timeout"),
        (["--api-key", ""], "--api-key is empty"),
        (["--api-key", "short"], "--api-key must be at least 8"),
        (["--checkpoint", "none"], "no checkpoint 'none'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(runs, flags, words, capsys):
    port = [] if "--port" in flags else ["--port", "0"]
    assert main(["serve", str(runs / "pix2pix"), "--device", "cpu", *port, *flags]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("pygan: error: ")
    assert said.count("\n") == 1


def test_a_port_in_use_is_said(runs, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(runs / "pix2pix"), "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1 is in use; choose another --port" in capsys.readouterr().err


def test_a_port_for_the_administrator_is_said(runs, capsys, monkeypatch):
    def refused(self, address):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    assert main(["serve", str(runs / "pix2pix"), "--port", "80"]) == 2
    assert "port 80 of 127.0.0.1 is not for everybody" in capsys.readouterr().err


def test_no_run_and_no_picture_of_it(runs, tmp_path, capsys):
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 2
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client", "python_multipart"])
def test_a_missing_package_is_named(runs, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", str(runs / "pix2pix"), "--port", "0"]) == 2
    assert (
        capsys.readouterr().err
        == f"pygan: error: serving needs {package}: pip install '.[serve]' in pygan's checkout\n"
    )


def test_names_come_from_paths_and_are_unique(tmp_path):
    for name in ("a", "b", "deep/a", "odd name!", "x=y", "net.onnx"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.mkdir() if "." not in name else place.write_bytes(b"")
    p = str(tmp_path)
    assert names([f"{p}/a", f"{p}/b/", f"{p}/net.onnx"]) == {
        "a": tmp_path / "a", "b": tmp_path / "b", "net": tmp_path / "net.onnx",
    }  # fmt: skip
    assert list(names([f"{p}/odd name!", f"{p}/x=y", f"c={p}/a"])) == ["odd-name-", "x-y", "c"]
    with pytest.raises(UserError, match=f"would both be called a; give one a name: other={p}/deep/a"):
        names([f"{p}/a", f"{p}/deep/a"])


def test_an_address_can_be_given_to_a_browser():
    with server.bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert server.url(sock, "0.0.0.0") == f"http://127.0.0.1:{port}/"
        assert server.url(sock, "::1") == f"http://[::1]:{port}/"
