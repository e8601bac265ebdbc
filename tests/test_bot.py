"""examples/bot.py: answers a folder or stdin, whole files only, once, and survives what is no picture."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pygan
from pygan.__main__ import main

BOT = Path(__file__).parent.parent / "examples" / "bot.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("bot") / "run"
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard"]
    assert main(["train", "pix2pix", *flags, "--run", str(path)]) == 0
    return path


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return path


def command(run, *words):
    return [sys.executable, str(BOT), str(run), *map(str, words)]


class Bot:
    """The bot in a process of its own; `said` is what it wrote to stderr so far."""

    def __init__(self, log, *words):
        self.log = log
        with open(log, "wb") as err:
            self.process = subprocess.Popen(command(*words), stderr=err, stdin=subprocess.DEVNULL)

    @property
    def said(self):
        return self.log.read_text()

    def wait_for(self, words):
        deadline = time.monotonic() + 60
        while words not in self.said:
            assert self.process.poll() is None, f"it stopped: {self.said}"
            assert time.monotonic() < deadline, f"it never said {words!r}: {self.said}"
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


def test_it_watches_a_folder_and_does_nothing_twice(run, tmp_path):
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    picture(inbox / "a.png")
    (inbox / "bad.png").write_bytes(b"no picture at all")
    (inbox / ".hidden.png").write_bytes((inbox / "a.png").read_bytes())
    (inbox / "link.png").symlink_to(inbox / "a.png")
    words = (run, "--watch", inbox, "--answers", outbox, "--every", "0.05")

    bot = Bot(tmp_path / "1.log", *words)
    bot.wait_for("bad.png")
    bot.wait_for("a.png ->")
    whole = picture(tmp_path / "b.png", seed=1).read_bytes()
    (inbox / "b.png").write_bytes(whole[:400])  # on its way in: what is there is no picture yet
    bot.wait_for("b.png")
    assert not (outbox / "b.png.png").exists()
    (inbox / "b.png").write_bytes(whole)
    bot.wait_for("b.png ->")
    assert bot.stop() == 130
    assert bot.said.count("bad.png") == 1  # though it was looked at many times
    assert "Traceback" not in bot.said
    assert sorted(p.name for p in outbox.iterdir()) == ["a.png.png", "b.png.png"]
    with Image.open(outbox / "b.png.png") as answer:
        assert np.array_equal(np.asarray(answer), np.asarray(pygan.load(run)(inbox / "b.png")))

    picture(inbox / "a.png", seed=2)  # a changed picture, which only looks older
    os.utime(inbox / "a.png", (1e9, 1e9))
    picture(inbox / "c.png", seed=3)
    bot = Bot(tmp_path / "2.log", *words)
    bot.wait_for("c.png ->")
    bot.stop()
    answered = [line for line in bot.said.splitlines() if "->" in line]
    assert [Path(line.split()[1]).name for line in answered] == ["a.png", "c.png"]  # b.png was done


def test_what_is_taken_away_is_forgotten(tmp_path):
    """A bot that runs for months does not remember all that it has ever seen."""
    looks = runpy.run_path(str(BOT))["watched"](tmp_path, 0.01)
    for name in "abc":
        path = picture(tmp_path / f"{name}.png")
        assert next(looks) == (path, path.name)
        path.unlink()
    assert not looks.gi_frame.f_locals["given"]
    looks.close()


def test_it_answers_what_stdin_names(run, tmp_path):
    for folder in ("a", "b"):
        picture(tmp_path / folder / "same.png", seed=ord(folder))
    outside = picture(tmp_path / "outside.png", seed=5)
    (tmp_path / "work").mkdir()
    lines = ["../a/same.png", "../b/same.png\r", "missing.png", "", "nul\0.png", "x" * 400, str(outside)]

    def ask():
        return subprocess.run(
            command(run, "--answers", "out"), input="\n".join(lines), text=True, cwd=tmp_path / "work",
            capture_output=True, timeout=100, check=False,
        )  # fmt: skip

    done = ask()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("->") == 3
    assert len(done.stderr.splitlines()) == 6  # one for each line of stdin that has a name
    assert "Traceback" not in done.stderr
    names = sorted(p.name for p in (tmp_path / "work" / "out").iterdir())
    assert names == sorted(["a_same.png.png", "b_same.png.png", "_".join(outside.parts[1:]) + ".png"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "outside.png", "work"]
    assert ask().stderr.count("->") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing", "--answers", "out"), "is not a run directory"),
        (("RUN", "--answers", "in", "--watch", "in"), "is watched too"),
        (("RUN", "--answers", "out", "--watch", "nowhere"), "cannot use nowhere (No such file or directory)"),
        (("RUN", "--answers", "/proc/nothing"), "cannot use /proc/nothing"),
        (("RUN", "--answers", "out", "--watch", "in", "--every", "-1"), "--every must be"),
        (("RUN", "--answers", "out", "--watch", "in", "--every", "nan"), "--every must be"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, monkeypatch, capsys, words, said):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bot.py", *(str(run) if word == "RUN" else word for word in words)])
    assert runpy.run_path(str(BOT))["main"]() == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
