"""`pygan translate --stream`: frames through a pipe, broken ones, slow and vanished readers, an interruption."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from inverting import Inverts
from PIL import Image

from pygan import pixels, use
from pygan.__main__ import main
from pygan.errors import UserError
from pygan.pixels import Picture
from pygan.translate import frames

PROGRAM = [sys.executable, str(Path(__file__).parent.parent / "inverting.py"), "translate", "RUN"]


@pytest.fixture
def network(monkeypatch):
    made = Inverts()
    monkeypatch.setattr(use, "network", lambda *args: made)
    return made


def soft(k, side=48):
    """Frame k: smooth, so that JPEG keeps it within a few levels; its mean tells which it is."""
    ramp = np.linspace(0, 40, side)
    return np.rint(ramp[:, None, None] + ramp[None, :, None] + 12 * k + np.zeros(3)).astype(np.uint8)


def jpeg(k, **options):
    buffer = io.BytesIO()
    Image.fromarray(soft(k)).save(buffer, "JPEG", quality=98, **options)
    return buffer.getvalue()


def png(k):
    return pixels.encode(Picture(soft(k)))


def split(data, kind):
    return list(frames.pictures(io.BytesIO(data), kind, most=1 << 24))


def stream(tmp_path, capsysbinary, data, *words):
    """(exit code, what came out, what was said) of a file of frames."""
    (tmp_path / "frames").write_bytes(data)
    capsysbinary.readouterr()
    code = main(["translate", "RUN", str(tmp_path / "frames"), "-o", "-", "--stream", *words])
    said = capsysbinary.readouterr()
    return code, said.out, said.err.decode()


def assert_inverted(files, numbers, slack=4):
    assert len(files) == len(numbers)
    for file, k in zip(files, numbers, strict=True):
        assert np.abs(pixels.read(file).pixels.astype(int) - (255 - soft(k))).max() <= slack


@pytest.mark.parametrize("kind", ["auto", "mjpeg"])
def test_jpeg_after_jpeg(network, tmp_path, capsysbinary, kind):
    code, out, said = stream(tmp_path, capsysbinary, b"".join(map(jpeg, range(9))), kind)
    assert code == 0
    assert_inverted(split(out, "mjpeg"), range(9))
    assert "translated 9 frames" in said


def test_png_after_png_is_exact(network, tmp_path, capsysbinary):
    code, out, _ = stream(tmp_path, capsysbinary, b"".join(map(png, range(5))))
    assert code == 0
    assert_inverted(split(out, "png"), range(5), slack=0)


def test_another_kind_of_frame_may_be_asked_for(network, tmp_path, capsysbinary):
    code, out, _ = stream(tmp_path, capsysbinary, b"".join(map(jpeg, range(3))), "auto", "--format", "png")
    assert code == 0
    assert_inverted(split(out, "png"), range(3))


def test_raw_frames(network, tmp_path, capsysbinary):
    given = [soft(k)[:20] for k in range(4)]
    code, out, _ = stream(tmp_path, capsysbinary, b"".join(x.tobytes() for x in given), "rgb24:48x20")
    assert code == 0
    np.testing.assert_array_equal(np.frombuffer(out, np.uint8).reshape(4, 20, 48, 3), 255 - np.stack(given))


def test_a_raw_frame_that_is_cut_short_is_named(network, tmp_path, capsysbinary):
    whole = soft(0).tobytes()
    code, out, said = stream(tmp_path, capsysbinary, whole + whole[:100], "rgb24:48x48")
    assert code == 2
    assert len(out) == len(whole)
    assert "frame 2: the stream ends within it, 100 of 6,912 bytes came" in said


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (jpeg(1)[:-300], "cut short"),  # the next frame begins within this one
        (jpeg(1)[:-200] + b"\xff\xd9", "cut short"),
        (b"noise between the frames", "no JPEG or PNG begins there"),
        (jpeg(1).replace(b"\xff\xc0", b"\xff\xc0\x00\x00"), "JPEG"),
        (png(1)[:-30], ""),
        (png(1).replace(b"IDAT", b"IDAX"), ""),
    ],
)
def test_a_broken_frame_is_left_out_and_the_next_is_seen(network, tmp_path, capsysbinary, broken, says):
    code, out, said = stream(tmp_path, capsysbinary, jpeg(0) + broken + jpeg(2) + jpeg(3))
    assert code == 2
    assert_inverted(split(out, "mjpeg"), (0, 2, 3))
    assert "frame 2" in said
    assert says in said
    assert "1 could not be read" in said


def test_a_last_frame_that_is_cut_short_is_named(network, tmp_path, capsysbinary):
    for make in (jpeg, png):
        code, out, said = stream(tmp_path, capsysbinary, make(0) + make(1)[:-20])
        assert code == 2
        assert_inverted(split(out, "auto"), (0,))
        assert "frame 2" in said


def test_previews_within_a_frame_are_no_frames(network, tmp_path, capsysbinary):
    """EXIF data may hold a whole JPEG."""
    exif = b"Exif\0\0" + jpeg(7)
    frame = jpeg(1)
    with_preview = frame[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + frame[2:]
    code, out, _ = stream(tmp_path, capsysbinary, with_preview * 2)
    assert code == 0
    assert_inverted(split(out, "mjpeg"), (1, 1))


def test_what_cameras_put_between_frames_is_no_frame(network, tmp_path, capsysbinary):
    head = b"\r\n--boundary\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    parts = b"".join(head % len(jpeg(k)) + jpeg(k) for k in range(3)) + b"\r\n--boundary--\r\n"
    for data in (parts, jpeg(0) + bytes(500) + jpeg(1) + jpeg(2) + bytes(3)):
        code, out, _ = stream(tmp_path, capsysbinary, data)
        assert code == 0
        assert_inverted(split(out, "mjpeg"), range(3))


def test_frames_in_pieces_of_any_length_are_the_same(monkeypatch):
    damaged = jpeg(1).replace(b"\xff\xc0", b"\xff\xc0\x00\x00")  # told once, though more of it comes later
    data = jpeg(0) + b"xx" + png(1) + damaged + jpeg(2)[:300] + jpeg(3) + png(4)[:100]
    whole = [str(x) if isinstance(x, UserError) else x for x in split(data, "auto")]
    assert sum(isinstance(x, bytes) for x in whole) == 3
    for piece in (1, 2, 3, 7, 100, 1000):
        monkeypatch.setattr(frames, "_CHUNK", piece)
        assert [str(x) if isinstance(x, UserError) else x for x in split(data, "auto")] == whole


def test_a_frame_without_end_does_not_fill_the_memory():
    class Endless:
        given = 0

        def read(self, n):
            self.given += n
            return jpeg(0)[:-2] if self.given == n else bytes(n) if self.given < 1 << 22 else b""

    found = list(frames.pictures(Endless(), "mjpeg", most=1 << 18))
    assert [type(x) for x in found] == [UserError]
    assert "a frame of more than 262,144 bytes" in str(found[0])


@pytest.mark.parametrize("data", [b"", b"no frame at all"])
def test_nothing_is_no_crash(network, tmp_path, capsysbinary, data):
    code, out, _ = stream(tmp_path, capsysbinary, data)
    assert (code, out) == (2 if data else 0, b"")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "b", "--stream", "-o", "-"], "one input"),
        (["a", "--stream", "-o", "out"], "-o -"),
        (["a", "--stream", "-o", "-", "--format", "tiff"], "jpg or png"),
        (["a", "--stream", "rgb24:9x9", "-o", "-", "--format", "png"], "leave it out"),
        (["a", "--stream", "-o", "-", "--depth", "float"], "cannot hold that"),
        (["nowhere", "--stream", "-o", "-"], "cannot read nowhere"),
        (["a", "--stream", "rgb24:1x9", "-o", "-"], "at least 2x2"),
        (["a", "--stream", "rgb24:99999x99999", "-o", "-"], "more than"),
    ],
)
def test_what_does_not_fit_a_stream_is_one_line(network, tmp_path, monkeypatch, capsysbinary, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(["translate", "RUN", *words]) == 2
    said = capsysbinary.readouterr()
    assert said.out == b""
    assert says in said.err.decode()
    assert said.err.count(b"\n") == 1


class Child:
    """The program on real pipes."""

    def __init__(self, *words, slow="0"):
        self.process = subprocess.Popen(
            [*PROGRAM, *words], env={**os.environ, "PYGAN_TEST_SLOW": slow},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self.given, self.taken = self.process.stdin, self.process.stdout

    def frame(self):
        """The next JPEG that comes out."""
        data = b""
        while not data.endswith(b"\xff\xd9"):
            piece = self.taken.read(1)
            assert piece, self.process.stderr.read()
            data += piece
        return data


def test_a_frame_comes_out_before_the_next_goes_in_until_an_interruption():
    child = Child("--stream", "-", "-o", "-")
    for k in range(4):
        child.given.write(jpeg(k))
        assert_inverted([child.frame()], (k,))
    child.process.send_signal(signal.SIGINT)
    assert child.process.wait(timeout=60) == 130
    assert child.process.stderr.read() == b"pygan: interrupted; 4 frames were translated\n"


def test_a_slow_reader_makes_the_writer_wait_and_a_vanished_one_ends_it():
    child = Child("-", "--stream", "rgb24:256x256", "-o", "-")
    frame = bytes(256 * 256 * 3)
    written = [0]

    def feed():
        try:
            for _ in range(200):
                child.given.write(frame)
                written[0] += 1
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    assert child.taken.read(1) == b"\xff"  # it is under way, and now nobody reads
    before = -1
    while before != written[0]:
        before = written[0]
        time.sleep(0.5)
    assert written[0] < 20  # those in the pipes, in the queues, and in the hands of a thread
    child.taken.close()
    assert child.process.wait(timeout=60) == 0
    assert b"nobody reads the results any more" in child.process.stderr.read()
