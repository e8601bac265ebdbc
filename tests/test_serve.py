"""`pygan serve` over real HTTP: every route, every status, crowds, overload, slow and rude clients, the end."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import gzip
import io
import json
import re
import socket
import struct
import threading
import time
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import Negative, picture, pixels_of, png, served, until

from pygan import apply, pixels
from pygan.errors import UserError
from pygan.serve import app
from pygan.serve.limits import Settings

HEAD = b"POST /v1/translate/plain HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
PNG = {"Content-Type": "image/png"}
KEY = "correct horse battery".replace(" ", "-")


@pytest.fixture(scope="module")
def networks():
    return {
        "plain": Negative(),
        "ways": Negative(options={"direction": ("AtoB", "BtoA")}),
        "many": Negative(options={"to": ("Blond_Hair", "Male")}),
        "dice": Negative(acts=("translate", "generate"), chance=True),
        "words": Negative(acts=("generate",), asks=("text",)),
    }


@pytest.fixture(scope="module")
def server(networks):
    with served(networks, most_pixels=10_000, most_bytes=200_000, most_pictures=4, timeout_s=20.0) as running:
        yield running


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url) as one:
        yield one


@pytest.fixture
def own():
    """A server of the test's own: `own(network, **settings)` -> (running, client)."""
    with contextlib.ExitStack() as stack:

        def make(network=None, **settings):
            running = stack.enter_context(served({"plain": network or Negative()}, **settings))
            return running, stack.enter_context(httpx.Client(base_url=running.url, timeout=30))

        yield make


def post(client, data, path="/v1/translate/plain", **more):
    return client.post(path, content=data, headers=PNG | more.pop("headers", {}), **more)


def raw(port, data, seconds=20.0):
    """What comes back of bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        sock.sendall(data)
        return all_of(sock)


def all_of(sock):
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            got += chunk
    return got


def error_of(response, status, *words):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    ((key, line),) = response.json().items()
    assert key == "error"
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


# Routes


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for name in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)):
        file = client.get(name)
        assert file.status_code == 200
        assert file.headers["content-type"].startswith(("text/", "image/"))
    for name in ("nope.js", "../app.py", "%2e%2e%2fapp.py", "..%2f__init__.py", "app.py"):
        error_of(client.get(f"/static/{name}"), 404)


def test_health_models_and_metrics(client, networks):
    assert client.get("/health").json() == {"status": "ready"}
    told = client.get("/v1/models")
    models = {one["name"]: one for one in told.json()["models"]}
    assert list(models) == list(networks)
    assert models["plain"]["channels"] == {"": [3, 3]}
    assert models["ways"]["options"] == {"direction": ["AtoB", "BtoA"]}
    assert (models["words"]["needs_text"], models["words"]["acts"]) == (True, ["generate"])
    assert (models["dice"]["chance"], models["dice"]["images_seen"], models["dice"]["size"]) == (True, 7, 8)
    assert told.json()["limits"] == {"bytes": 200_000, "pixels": 10_000, "pictures": 4}
    assert "secret" not in told.text
    post(client, picture()[1])
    text = client.get("/metrics").text
    assert 'pygan_requests_total{route="translate",status="200"}' in text
    assert 'pygan_pixels_total{model="plain"}' in text
    for name in ("pygan_queue_depth", "pygan_batch_size_bucket", "pygan_request_seconds_bucket", "pygan_rejected"):
        assert name in text


def test_head_is_get_without_a_body_and_other_methods_are_told(client):
    for path in ("/", "/health", "/metrics", "/openapi.json", "/v1/models"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
    for method, path, allowed in (
        ("OPTIONS", "/v1/models", {"GET", "HEAD"}),
        ("TRACE", "/health", {"GET", "HEAD"}),
        ("DELETE", "/", {"GET", "HEAD"}),
        ("GET", "/v1/translate/plain", {"POST"}),
        ("PUT", "/v1/translate/plain/batch", {"POST"}),
        ("OPTIONS", "/v1/generate/dice", {"POST"}),
        ("GET", "/login", {"POST"}),
    ):
        answer = client.request(method, path)
        error_of(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == allowed
    for path in ("/nope", "/v1", "/v1/", "/v1//models", "/health/", "/v1/models/plain", "/static/", "/docs", "/%00"):
        error_of(client.get(path), 404)


def test_what_can_befall_any_request_is_described(client):
    """Also what is answered before it is known which route is asked."""
    description = client.get("/openapi.json").json()
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            assert {"400", "408", "421", "500", "503"} <= set(told["responses"]), (path, method)
            assert ("403" in told["responses"]) == (method == "post")


# Pictures


@pytest.mark.parametrize("size", [(12, 10), (2, 3), (33, 64), (100, 100)])
def test_a_picture_of_any_size_becomes_what_it_becomes_offline(client, networks, size):
    given, data = picture(3, size)
    answer = post(client, data)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    (offline,) = apply.translated(networks["plain"], [pixels.read(data)])
    assert np.array_equal(pixels_of(answer.content), offline.pixels)
    assert np.array_equal(pixels_of(answer.content), 255 - given)


def test_a_form_and_a_body_and_any_label_are_the_same(client):
    _, data = picture()
    plain = post(client, data).content
    form = client.post("/v1/translate/plain", files={"image": ("../../etc/x.png", data, "text/html")})
    octets = client.post("/v1/translate/plain", content=data, headers={"Content-Type": "application/octet-stream"})
    wrong = client.post("/v1/translate/plain", content=data, headers={"Content-Type": "IMAGE/JPEG; x=y"})
    chunks = client.post("/v1/translate/plain", content=iter([data[:50], data[50:]]), headers=PNG)
    assert [r.content for r in (form, octets, wrong, chunks)] == [plain] * 4


def test_other_kinds_of_file_come_back(client):
    given, data = picture()
    for kind, media in (("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp"), ("tiff", "image/tiff")):
        answer = post(client, data, params={"format": kind})
        assert (answer.status_code, answer.headers["content-type"]) == (200, media)
        assert Image.open(io.BytesIO(answer.content)).format == {"jpg": "JPEG"}.get(kind, kind.upper())
        assert np.abs(pixels_of(answer.content).astype(int) - (255 - given)).mean() < (0.01 if kind != "jpg" else 60)
    array = post(client, data, params={"format": "npy"})
    assert array.headers["content-type"] == "application/x-npy"
    assert np.array_equal(np.load(io.BytesIO(array.content)), 255 - given)


def test_alpha_is_kept_and_sixteen_bits_stay_sixteen(client):
    rgba = np.random.default_rng(1).integers(0, 255, (8, 8, 4), dtype=np.uint8)
    assert np.array_equal(pixels_of(post(client, png(rgba)).content)[:, :, 3], rgba[:, :, 3])
    deep = np.random.default_rng(1).integers(0, 65535, (8, 8, 3), dtype=np.uint16)
    buffer = io.BytesIO()
    np.save(buffer, deep)
    answer = client.post(
        "/v1/translate/plain?format=npy", content=buffer.getvalue(), headers={"Content-Type": "application/x-npy"}
    )
    assert np.array_equal(np.load(io.BytesIO(answer.content)), 65535 - deep)


def test_options_decide_and_wrong_ones_are_told(client):
    given, data = picture()
    forth = post(client, data, "/v1/translate/ways", params={"direction": "AtoB"})
    back = post(client, data, "/v1/translate/ways", params={"direction": "BtoA"})
    assert np.array_equal(pixels_of(forth.content), 255 - given)
    assert np.array_equal(pixels_of(back.content), given)
    assert post(client, data, "/v1/translate/ways").content == forth.content
    assert post(client, data, "/v1/translate/many?to=Male").status_code == 200
    assert post(client, data, "/v1/translate/many?to=Male,Blond_Hair").status_code == 200
    for path, words in (
        ("ways?direction=up", ("direction", "AtoB, BtoA")),
        ("ways?direction=", ("direction",)),
        ("ways?direction=AtoB&direction=AtoB", ("twice",)),
        ("plain?direction=AtoB", ("direction", "seed, format")),
        ("plain?seed=-1", ("seed",)),
        ("plain?seed=1.5", ("seed",)),
        ("plain?seed=9223372036854775808", ("seed",)),
        ("plain?seed=%D9%A1", ("seed",)),
        ("plain?format=exe", ("format",)),
        ("plain?colour=red", ("colour",)),
        ("many", ("to", "Blond_Hair")),
        ("many?to=Bald", ("to", "Bald")),
        ("many?to=Male,", ("to",)),
    ):
        error_of(post(client, data, f"/v1/translate/{path}"), 422, *words)
    assert post(client, data, "/v1/translate/plain?seed=9223372036854775807").status_code == 200
    for path in ("/v1/translate/nope", "/v1/translate/words", "/v1/translate/%2e%2e", "/v1/translate/nope/batch"):
        error_of(post(client, data, path), 404)


def test_what_is_no_picture_is_told_in_one_line(client):
    _, data = picture()
    for body in (b"", b"x", data[:-30], b"\x00" * 1000, data[:8] + b"\xff" * 100, b"<svg/>", b"P6 9 9 255 "):
        error_of(post(client, body), 422, "picture")
    error_of(client.post("/v1/translate/plain", content=data, headers={"Content-Type": "text/plain"}), 415, "image/png")
    error_of(client.post("/v1/translate/plain", content=data), 415)
    error_of(client.post("/v1/translate/plain/batch", content=data, headers=PNG), 415, "multipart")
    error_of(post(client, gzip.compress(data), headers={"Content-Encoding": "gzip"}), 415, "gzip")
    assert post(client, data, headers={"Content-Encoding": "Identity"}).status_code == 200


def test_a_bomb_is_refused_before_it_is_decoded(client, server):
    """A PNG of 60,000 x 60,000 pixels by its head; and one of a pixel too many."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 150_000))
        + chunk(b"IEND", b"")
    )
    began = time.process_time()
    error_of(post(client, bomb), 422, "10,000")
    assert time.process_time() - began < 5.0  # of the processor, not of the clock: to decode it takes minutes
    error_of(post(client, picture(0, (100, 101))[1]), 422, "10,000")
    assert post(client, picture(0, (100, 100))[1]).status_code == 200


def test_many_pictures_in_one_form(client):
    given, data = picture()
    other, second = picture(2, (20, 30))
    files = [("image", ("a.png", data)), ("image", ("../b\u00e9\u202e.png", b"no picture")), ("image", ("", second))]
    answer = client.post("/v1/translate/plain/batch", files=files)
    assert answer.status_code == 200
    first, bad, last = answer.json()["results"]
    assert (first["name"], first["media_type"]) == ("a.png", "image/png")
    assert np.array_equal(pixels_of(base64.b64decode(first["image"])), 255 - given)
    assert np.array_equal(pixels_of(base64.b64decode(last["image"])), 255 - other)
    assert set(bad) == {"name", "error"}
    assert "picture" in bad["error"]
    assert answer.content.isascii()
    error_of(client.post("/v1/translate/plain/batch", files=[("image", ("a", data))] * 5), 422, "4 fields")
    error_of(client.post("/v1/translate/plain/batch", files={"picture": ("a", data)}), 422, "picture")
    error_of(client.post("/v1/translate/plain", files=[("image", ("a", data))] * 2), 422)


def test_a_form_of_more_than_the_memory_for_pixels_is_done_bit_by_bit(own):
    network = Negative()
    running, client = own(network, most_pixels=1000, batch=1)
    network.gate.clear()
    files = [("image", (f"{k}", picture(k, (24, 40))[1])) for k in range(12)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.post, "/v1/translate/plain/batch", files=files)
        until(lambda: running.house._pixels == 8 * 24 * 40)
        network.gate.set()
        for k, one in enumerate(held.result().json()["results"]):
            assert np.array_equal(pixels_of(base64.b64decode(one["image"])), 255 - picture(k, (24, 40))[0])
    assert f'pygan_pixels_total{{model="plain"}} {12 * 24 * 40}.0' in client.get("/metrics").text


def test_a_form_that_takes_long_to_read_holds_nobody_up(own, monkeypatch):
    from pygan.serve import intake

    gate, plain = threading.Event(), intake.pictures

    def slow(*args):
        assert gate.wait(60)
        return plain(*args)

    monkeypatch.setattr(intake, "pictures", slow)
    _, client = own()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.post, "/v1/translate/plain", files={"image": ("a", picture()[1])})
        assert client.get("/health").status_code == 200
        gate.set()
        assert held.result().status_code == 200


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=", b"x", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\nx", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", 422),
        ("multipart/form-data; boundary=b", b"--other\r\n\r\nx\r\n--other--\r\n", 400),
        ("multipart/form-data; boundary=" + "b" * 5000, b"x", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n\r\n--b--", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"A: x\r\n" * 5000 + b"\r\n\r\n--b--", 400),
    ],
)
def test_broken_forms(client, kind, body, status):
    error_of(client.post("/v1/translate/plain", content=body, headers={"Content-Type": kind}), status)


def test_pictures_from_noise(client):
    one = client.post("/v1/generate/dice", json={"seed": 3})
    assert (one.status_code, one.headers["content-type"]) == (200, "image/png")
    assert pixels_of(one.content).shape == (8, 8, 3)
    assert client.post("/v1/generate/dice", json={"seed": 3, "n": 1.0}).content == one.content
    assert client.post("/v1/generate/dice", json={"seed": 4}).content != one.content
    many = client.post("/v1/generate/dice?format=webp", json={"n": 3}).json()["results"]
    assert [set(x) for x in many] == [{"name", "image", "media_type"}] * 3
    assert {x["media_type"] for x in many} == {"image/webp"}
    assert client.post("/v1/generate/words", json={"text": "a red bird"}).status_code == 200
    assert len(client.post("/v1/generate/words", json={"text": "\u7d05\u3044\u9ce5", "n": 2}).json()["results"]) == 2


@pytest.mark.parametrize(
    ("model", "body", "status"),
    [
        ("dice", b"", 400), ("dice", b"{", 400), ("dice", b"[" * 40_000, 400), ("dice", b'{"n": NaN}', 400),
        ("dice", b'{"n": ' + b"9" * 5000 + b"}", 400), ("dice", b"\xff", 400), ("dice", b"[]", 422),
        ("dice", b"null", 422), ("dice", b'{"n": 0}', 422), ("dice", b'{"n": 5}', 422), ("dice", b'{"n": true}', 422),
        ("dice", b'{"n": 1.5}', 422), ("dice", b'{"n": 1e999}', 422), ("dice", b'{"n": "1"}', 422),
        ("dice", b'{"seed": -1}', 422), ("dice", b'{"seed": 9223372036854775808}', 422),
        ("dice", b'{"seed": null}', 422),
        ("dice", b'{"text": "a"}', 422), ("dice", b'{"m": 1}', 422), ("dice", b" " * 70_000, 413),
        ("words", b"{}", 422), ("words", b'{"text": ""}', 422), ("words", b'{"text": "  "}', 422),
        ("words", b'{"text": 1}', 422), ("words", b'{"text": ["a", 2]}', 422), ("words", b'{"text": null}', 422),
        ("words", b'{"text": "\\ud800"}', 422), ("words", b'{"text": "' + b"a" * 1001 + b'"}', 422),
        ("plain", b"{}", 404), ("nope", b"{}", 404),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_noise(client, model, body, status):
    error_of(client.post(f"/v1/generate/{model}", content=body, headers={"Content-Type": "application/json"}), status)


def test_noise_is_asked_for_as_json(client):
    error_of(client.post("/v1/generate/dice", content=b"{}", headers={"Content-Type": "text/plain"}), 415)


# Limits


def test_a_body_that_is_too_long_is_refused_by_its_head(client, server, monkeypatch):
    from pygan.serve import server as serving_http

    monkeypatch.setattr(serving_http, "_LINGER_S", 0.2)
    error_of(post(client, b"x" * 200_001), 413, "200,001", "200,000")
    head = HEAD
    got = raw(server.port, head + b"Content-Length: 99999999999\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413")
    got = raw(server.port, head + b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in got


def test_a_body_without_a_length_is_cut_off_at_the_limit(client, server, monkeypatch):
    from pygan.serve import server as serving_http

    monkeypatch.setattr(serving_http, "_LINGER_S", 0.2)
    sent = 0

    def endless():
        nonlocal sent
        while sent < 100 << 20:  # which takes minutes
            sent += 10_000
            time.sleep(0.01)
            yield b"x" * 10_000

    with contextlib.suppress(httpx.TransportError):  # it stops listening to who does not stop
        error_of(post(client, endless()), 413, "200,000")
    assert sent < 50 << 20
    assert server.house.bodies._left == 8 * 200_000
    got = raw(server.port, HEAD + b"Connection: close\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 411")


def test_all_bodies_together_have_a_limit(own):
    """What is being received is held in memory too."""
    running, client = own(most_bytes=100_000)
    head = HEAD + b"Content-Length: 100000\r\n\r\n"
    socks = []
    for _ in range(8):
        socks.append(socket.create_connection(("127.0.0.1", running.port)))
        socks[-1].sendall(head + b"x" * 99_999)
    until(lambda: running.house.bodies._left < 1000)
    refused = post(client, picture(0, (40, 40))[1])
    error_of(refused, 429)
    assert refused.headers["retry-after"] == "1"
    for sock in socks:
        sock.close()
    until(lambda: running.house.bodies._left == 800_000)
    assert post(client, picture()[1]).status_code == 200


def test_a_full_queue_says_when_to_come_again(own):
    network = Negative()
    running, client = own(network, queue=3, batch=1)
    network.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        held = [pool.submit(post, client, picture(k)[1]) for k in range(3)]
        until(lambda: running.house.batcher.taken == 3)
        for _ in range(3):
            refused = post(client, picture()[1])
            error_of(refused, 429, "full")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        error_of(client.post("/v1/translate/plain/batch", files={"image": ("a", picture()[1])}), 429)
        assert client.get("/health").status_code == 200
        assert 'pygan_rejected_total{reason="full"} 4.0' in client.get("/metrics").text
        network.gate.set()
        for k, future in enumerate(held):
            assert np.array_equal(pixels_of(future.result().content), 255 - picture(k)[0])
    assert post(client, picture()[1]).status_code == 200
    assert running.house.batcher.taken == 0


def test_all_pictures_together_have_a_limit(own):
    network = Negative()
    running, client = own(network, most_pixels=1000, batch=1)
    network.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        held = [pool.submit(post, client, picture(k, (24, 40))[1]) for k in range(8)]
        until(lambda: running.house._pixels == 8 * 24 * 40)
        refused = post(client, picture(0, (24, 40))[1])
        error_of(refused, 429, "pixels")
        assert int(refused.headers["retry-after"]) >= 1
        network.gate.set()
        assert [future.result().status_code for future in held] == [200] * 8
    assert running.house._pixels == 0
    assert "pygan_pixels_in_house 0.0" in client.get("/metrics").text


def test_pictures_that_are_one_size_for_the_network_go_together(own):
    network = Negative()  # it takes multiples of 4
    running, client = own(network)
    network.gate.clear()
    sizes = [(12, 12), (9, 12), (12, 10), (11, 9), (12, 13)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        busy = pool.submit(post, client, picture(9, (4, 4))[1])
        until(lambda: len(network.seen) == 2)
        answers = [  # nor does a seed tell apart what draws nothing
            pool.submit(post, client, picture(k, size)[1], params={"seed": k}) for k, size in enumerate(sizes)
        ]
        until(lambda: running.house.batcher.waiting == 5)
        network.gate.set()
        for k, (answer, size) in enumerate(zip(answers, sizes, strict=True)):
            assert np.array_equal(pixels_of(answer.result().content), 255 - picture(k, size)[0])
        assert busy.result().status_code == 200
    assert sorted(network.seen[2:]) == [(1, 3, 12, 16), (4, 3, 12, 12)]


def test_a_strip_is_not_padded_into_a_wall(own):
    network = Negative()
    network.card = dataclasses.replace(network.card, multiple=64)
    _, client = own(network, most_pixels=10_000)
    assert post(client, picture(0, (2, 90))[1]).status_code == 200
    error_of(post(client, picture(0, (2, 5000))[1]), 422, "5000x2", "5056x64")


def test_who_waits_too_long_is_told_and_leaves_the_queue(own):
    network = Negative()
    running, client = own(network, timeout_s=1.5, batch=1)
    network.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        late = [pool.submit(post, client, picture(k)[1]) for k in range(3)]
        for future in late:
            error_of(future.result(), 504, "1.5 s")
    until(lambda: running.house.batcher.waiting == 0)
    assert running.house.batcher.taken == 0
    network.gate.set()
    assert post(client, picture()[1]).status_code == 200
    assert len(network.seen) == 3, "the trial at the start, the one that ran, and the last: what waited never ran"


def test_who_leaves_takes_the_job_along(own):
    network = Negative()
    running, client = own(network, batch=1)
    network.gate.clear()
    head = HEAD
    data = picture()[1]
    socks = []
    for _ in range(3):
        socks.append(socket.create_connection(("127.0.0.1", running.port)))
        socks[-1].sendall(head + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    until(lambda: running.house.batcher.waiting == 2)
    for sock in socks:
        sock.close()
    until(lambda: running.house.batcher.waiting == 0)
    until(lambda: running.house.batcher.taken == 0)
    network.gate.set()
    assert post(client, data).status_code == 200
    assert len(network.seen) == 3
    assert "pygan_clients_left_total 3.0" in client.get("/metrics").text


def test_slow_clients_are_not_waited_for(own, monkeypatch):
    from pygan.serve import server

    monkeypatch.setattr(server, "_HEAD_S", 0.3)
    monkeypatch.setattr(server, "_LINGER_S", 0.3)
    running, client = own(timeout_s=0.3)
    assert raw(running.port, b"").startswith(b"HTTP/1.1 408")
    assert raw(running.port, b"GET /health HT").startswith(b"HTTP/1.1 408")
    assert raw(running.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").startswith(b"HTTP/1.1 408")
    head = HEAD + b"Content-Length: 99\r\n\r\nx"
    got = raw(running.port, head)
    assert got.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in got.lower()
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as sock:  # its second request is slow
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        sock.sendall(b"GET /he")
        assert b"HTTP/1.1 408" in all_of(sock)
    # A body that trickles in after its refusal.
    big = head.replace(b"99", b"99999999")
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as sock:
        sock.sendall(big)
        stop = threading.Event()

        def trickle():
            with contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    sock.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        assert all_of(sock).startswith(b"HTTP/1.1 413")  # and it ends
        stop.set()
        thread.join()
    assert client.get("/health").status_code == 200


@contextlib.contextmanager
def takes_nothing(port, *requests):
    """A client that asks, and has no room for the answers."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(b"".join(requests))
        yield sock


def large(more=b""):
    """A request whose answer has 6,750,128 bytes, more than the system keeps on its way."""
    data = png(np.zeros((1500, 1500, 3), np.uint8))
    head = HEAD.replace(b"plain", b"plain?format=npy") + more
    return head + f"Content-Length: {len(data)}\r\n\r\n".encode() + data


@pytest.mark.parametrize(
    "requests",
    [(large(),), (large(b"Connection: close\r\n"),), (large(), b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")],
    ids=["kept", "closed", "asked again"],
)
def test_a_client_that_does_not_take_its_answer_is_left(own, monkeypatch, requests):
    from pygan.serve import server

    monkeypatch.setattr(server, "_STUCK_S", 0.2)
    monkeypatch.setattr(server, "_KEEP_S", 0.2)
    running, client = own(most_pixels=1 << 24)
    with takes_nothing(running.port, *requests):
        until(lambda: len(running.server_state.connections) == 1)
        until(lambda: not running.server_state.connections, seconds=30)
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(("at_once", "enough"), [(1_500_000, True), (100, False)])
def test_a_client_may_take_its_answer_slowly_but_not_in_crumbs(own, monkeypatch, at_once, enough):
    from pygan.serve import server

    monkeypatch.setattr(server, "_STUCK_S", 1.0)
    running, _ = own(most_pixels=1 << 24)
    got = 0
    with takes_nothing(running.port, large(b"Connection: close\r\n")) as sock:
        while chunk := sock.recv(at_once, socket.MSG_WAITALL):
            got += len(chunk)
            time.sleep(0.4)
            if not (enough or running.server_state.connections):
                break  # what the system had on its way may still come
    assert (got > 6_750_000) == enough


def test_all_answers_that_wait_to_be_taken_have_a_limit(own):
    running, client = own(most_pixels=1 << 24, most_bytes=100_000)
    with takes_nothing(running.port, large()):
        until(lambda: running.house.unsent() > 8 * 100_000)
        refused = post(client, picture()[1])
        error_of(refused, 429, "answers")
        assert refused.headers["retry-after"] == "1"
    until(lambda: running.house.unsent() == 0)
    assert post(client, picture()[1]).status_code == 200


def test_too_many_connections_are_told(own):
    running, client = own(connections=3)
    assert client.get("/health").status_code == 200
    socks = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
    assert raw(running.port, b"").startswith(b"HTTP/1.1 503")
    for sock in socks:
        sock.close()
    until(lambda: len(running.server_state.connections) == 1)
    with httpx.Client(base_url=running.url) as other:
        assert other.get("/health").status_code == 200


# Crowds


def test_64_clients_lose_nothing_and_get_what_is_theirs(server, networks):
    """Sizes, options and models mixed; every answer compared with the offline result."""
    jobs = []
    for k in range(64):
        model, query = (("plain", ""), ("ways", "?direction=BtoA"), ("dice", "?seed=5"), ("many", "?to=Male"))[k % 4]
        jobs.append((model, query, *picture(k, ((8, 8), (12, 10), (16, 20))[k % 3])))

    def client(job):
        model, query, given, data = job
        with httpx.Client(base_url=server.url, timeout=60) as one:
            for _ in range(4):
                answer = post(one, data, f"/v1/translate/{model}{query}")
                assert answer.status_code == 200, answer.text
                wanted = given if query == "?direction=BtoA" else 255 - given
                assert np.array_equal(pixels_of(answer.content), wanted)
        return True

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        assert all(pool.map(client, jobs))
    assert any(shape[0] > 1 for shape in networks["plain"].seen)
    assert all(shape[0] == 1 for shape in networks["dice"].seen), "a network with dropout takes pictures one by one"
    assert all(shape[0] * shape[2] * shape[3] <= 10_000 for shape in networks["plain"].seen if shape[0] > 1)
    assert (server.house.batcher.taken, server.house.batcher.waiting) == (0, 0)


def test_a_network_that_fails_fails_one_request(client, capfd):
    _, good = picture(0, (8, 8))
    white = png(np.full((8, 8, 3), 255, np.uint8))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [f.result() for f in [pool.submit(post, client, data) for data in (good, white, good, white)]]
    assert [a.status_code for a in answers] == [200, 500, 200, 500]
    line = error_of(answers[1], 500)
    assert "white" not in line, "what went wrong inside is for the log"
    said = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(said) == 2
    assert all("RuntimeError" in line and "Traceback" not in line for line in said)


def test_a_defect_is_one_line_and_no_traceback(own, monkeypatch, capfd):
    running, client = own()

    def broken(*args):
        raise KeyError("a\nb")

    monkeypatch.setattr(running.house.metrics, "text", broken)
    error_of(client.get("/metrics"), 500)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "KeyError" in said
    assert client.get("/health").status_code == 200


# HTTP


def test_one_connection_serves_many_requests(server):
    with httpx.Client(base_url=server.url) as client:
        for k in range(20):
            assert post(client, picture(k)[1]).status_code == 200
            error_of(post(client, b"x" * 200_001), 413)
            error_of(post(client, b"x"), 422)
    until(lambda: all(c.cycle is None or c.cycle.response_complete for c in server.server_state.connections))


def test_requests_sent_ahead_are_answered_in_order(server):
    data = picture()[1]
    head = "POST /v1/translate/{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n"
    one = head.format("plain", len(data)).encode() + data
    two = head.format("nope", 3).encode() + b"abc"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    got = raw(server.port, one + two + one + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200", b"404", b"200", b"200"]
    assert got.endswith(b'{"status":"ready"}')


@pytest.mark.parametrize(
    "request_line",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: " + b"x" * 500_000 + b"\r\n\r\n",
        b"POST /v1/translate/plain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # of HTTP/1.1 a name is asked
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_told(server, request_line, capfd):
    got = raw(server.port, request_line)
    assert re.findall(rb"HTTP/1.1 (\d+)", got)[-1] in (b"400", b"415")
    json.loads(got.rpartition(b"\r\n\r\n")[2])
    assert capfd.readouterr().err == ""


def test_an_upgrade_is_not_made(server):
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
    assert raw(server.port, head + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


# Who may ask


def test_a_bent_name_is_not_answered(client):
    port = client.base_url.port
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "192.0.2.7", "LOCALHOST"):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[x]",
        ":",
    ):
        error_of(client.get("/v1/models", headers={"Host": host}), 421)


def test_a_client_that_says_no_name_is_no_browser(server):
    """HTTP/1.0, as some load balancers ask whether a server is well."""
    assert raw(server.port, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert raw(server.port, b"GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n").startswith(b"HTTP/1.1 421")
    assert raw(server.port, b"GET /health HTTP/1.0\r\nHost:\r\n\r\n").startswith(b"HTTP/1.1 421")
    for version in (b"1.1", b"9.9"):
        assert raw(server.port, b"GET /health HTTP/" + version + b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    asks = HEAD.replace(b"1.1", b"1.0").replace(b"Host: localhost", b"Origin: http://evil.example")
    assert raw(server.port, asks + b"Content-Length: 1\r\n\r\nx").startswith(b"HTTP/1.1 403")


def test_behind_a_proxy(own):
    """Which speaks TLS to the browser, and calls the server by another name, as some do."""
    _, client = own(names=("PyGAN.example",), api_key=KEY)
    for host in ("pygan.example", str(client.base_url.netloc, "ascii")):
        through = {"Host": host, "Origin": "https://pygan.example", "Sec-Fetch-Site": "same-origin"}
        given = client.post("/login", data={"key": KEY}, headers=through)
        assert given.status_code == 303
        assert given.headers["set-cookie"].endswith("; Secure")
        answer = post(client, picture()[1], headers=through | {"Cookie": given.headers["set-cookie"].partition(";")[0]})
        assert answer.status_code == 200
        error_of(post(client, b"", headers=through | {"Origin": "https://evil.pygan.example"}), 403)
    plainly = client.post("/login", data={"key": KEY}, headers={"Origin": str(client.base_url).rstrip("/")})
    assert "Secure" not in plainly.headers["set-cookie"]


def test_a_name_can_be_allowed(own):
    _, client = own(names=("pygan.example",))
    assert client.get("/health", headers={"Host": "PyGAN.example:443"}).status_code == 200
    error_of(client.get("/health", headers={"Host": "other.example"}), 421)


def test_beyond_this_machine_any_name_is_answered_until_one_is_allowed(own):
    _, client = own(host="0.0.0.0")
    assert client.get("/health", headers={"Host": "any.example"}).status_code == 200
    _, client = own(host="0.0.0.0", names=("pygan.example",))
    for host in ("pygan.example", "192.0.2.7:8000", "localhost"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    error_of(client.get("/health", headers={"Host": "any.example"}), 421)


def test_another_site_can_neither_ask_nor_look(client):
    _, data = picture()
    own = str(client.base_url).rstrip("/")
    assert post(client, data, headers={"Origin": own}).status_code == 200
    for origin in ("https://evil.example", "null", "", own + "9", "http://localhost:1", "file://"):
        error_of(post(client, data, headers={"Origin": origin}), 403)
    for site in ("cross-site", "same-site"):
        error_of(post(client, data, headers={"Sec-Fetch-Site": site}), 403)
    answer = client.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_key_is_asked_for_everywhere_but_for_health(own, capfd):
    _, client = own(api_key=KEY)
    _, data = picture()
    assert client.get("/health").status_code == 200
    asked = ["/v1/models", "/metrics", "/openapi.json", "/static/app.js", "/nope"]
    for headers in (
        {}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer"}, {"X-API-Key": ""}, {"X-API-Key": KEY[:-1]}, {"Cookie": f"pygan_serve={KEY}"},
        {"X-API-Key": "\u00e9".encode("latin-1")},
    ):  # fmt: skip
        for path in asked:
            answer = client.get(path, headers=headers)
            error_of(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        error_of(post(client, data, headers=headers), 401)
    error_of(client.get(f"/v1/models?api_key={KEY}"), 401)
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer  {KEY}"}, {"X-API-Key": KEY}):
        assert [client.get(path, headers=headers).status_code for path in asked[:3]] == [200] * 3
        assert post(client, data, headers=headers).status_code == 200
    assert KEY not in capfd.readouterr().err


def test_the_page_asks_for_the_key_once(own):
    _, client = own(api_key=KEY)
    form = client.get("/")
    assert form.status_code == 401
    assert form.headers["content-type"].startswith("text/html")
    assert 'action="/login"' in form.text
    assert "'sha256-" in form.headers["content-security-policy"]
    wrong = client.post("/login", data={"key": "not the key"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    for data in ({}, {"other": "x"}, {"key": [KEY, KEY]}, {"key": ""}):
        assert client.post("/login", data=data).status_code in (415, 422)
    error_of(client.post("/login", json={"key": KEY}), 415)
    error_of(client.post("/login", data={"key": KEY}, headers={"Origin": "https://evil.example"}), 403)
    right = client.post("/login", data={"key": KEY}, headers={"Origin": str(client.base_url).rstrip("/")})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert KEY not in cookie
    assert client.get("/").status_code == 200  # the client keeps its cookies
    assert client.get("/v1/models", headers={"Cookie": "odd=[]{}; " + cookie.partition(";")[0]}).status_code == 200
    assert post(client, picture()[1]).status_code == 200
    with httpx.Client(base_url=client.base_url, cookies={cookie.partition("=")[0]: "0" * 64}) as other:
        error_of(other.get("/v1/models"), 401)


# The end


def test_the_end_answers_what_was_accepted_and_refuses_the_rest(own):
    network = Negative()
    running, client = own(network, batch=1)
    network.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        held = [pool.submit(post, client, picture(k)[1]) for k in range(5)]
        until(lambda: running.house.batcher.taken == 5)
        with httpx.Client(base_url=running.url) as other:
            assert other.get("/health").json() == {"status": "ready"}
            running.house.batcher.drain()
            drained = other.get("/health")
            assert (drained.status_code, drained.json()) == (503, {"status": "draining"})
            refused = post(other, picture()[1])
            error_of(refused, 503)
            assert refused.headers["connection"] == "close"
        running.should_exit = True
        until(lambda: not running.servers[0].is_serving())
        with pytest.raises(httpx.TransportError):
            httpx.get(running.url + "/health")
        network.gate.set()
        for k, future in enumerate(held):
            assert np.array_equal(pixels_of(future.result().content), 255 - picture(k)[0])


def test_what_does_not_end_is_cut_off_and_counted(own):
    network = Negative()
    running, client = own(network, drain_s=1.0)
    network.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, client, picture()[1])
        until(lambda: running.house.batcher.taken == 1)
        running.should_exit = True
        until(lambda: running.lost == 1)
        with contextlib.suppress(httpx.TransportError):
            assert held.result().status_code == 503
        network.gate.set()


# What is served


def test_names_and_settings_are_checked_at_the_door():
    for name in ("", "a/b", "..", ".hidden", "a b", "a" * 65, "\u00e9", "x\n"):
        with pytest.raises(UserError, match="name"):
            app.create({name: Negative()})
    with pytest.raises(UserError, match="nothing can be asked"):
        app.create({"a": Negative(acts=())})
    for wrong, flag in (
        ({"batch": 0}, "--batch"), ({"queue": 0}, "--queue"), ({"timeout_s": 0.0}, "--timeout"),
        ({"timeout_s": float("nan")}, "--timeout"), ({"wait_s": -1.0}, "--wait-ms"), ({"most_bytes": 0}, "--max-bytes"),
        ({"most_pixels": 0}, "--max-pixels"), ({"workers": 0}, "--workers"), ({"seed": -1}, "--seed"),
        ({"seed": 1 << 63}, "--seed"), ({"api_key": "short"}, "--api-key"), ({"api_key": "with a space"}, "--api-key"),
        ({"api_key": "k\u00e9yk\u00e9yk\u00e9y"}, "--api-key"), ({"drain_s": 1e9}, "--drain"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=flag):
            Settings(**wrong)
