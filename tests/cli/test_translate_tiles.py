"""`pygan translate --tile`: large pictures in parts, with the result of the whole."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pygan import log, tiles
from pygan.__main__ import main
from pygan.data import images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiled") / "run"
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--ngf", "2"]
    assert main(["train", "pix2pix", *flags, "--run", str(path)]) == 0
    return path


def photograph(file, width, height, mode="RGB"):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (90 + 40 * k)) + np.cos(y / (70 + 50 * k)) for k in range(3)]
    Image.fromarray(np.uint8(np.stack(waves, -1) * 60 + 128)).convert(mode).save(file)
    return str(file)


def translated(run, picture, output, *flags):
    assert main(["translate", str(run), picture, "-o", str(output), *flags]) == 0
    return np.asarray(Image.open(output / "in.png")).astype(int)


def test_a_large_picture(run, tmp_path):
    picture = photograph(tmp_path / "in.png", 1500, 1000)
    want = translated(run, picture, tmp_path / "whole")
    got = translated(run, picture, tmp_path / "tiles", "--tile", "500")
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1


def test_a_picture_that_fits_is_not_cut(run, tmp_path):
    picture = photograph(tmp_path / "in.png", 200, 150)
    want = translated(run, picture, tmp_path / "whole")
    assert np.array_equal(translated(run, picture, tmp_path / "fits", "--tile"), want)


def test_more_pixels_are_opened(run, tmp_path, monkeypatch, capsys):
    """The limit is that of tiles, which is larger."""
    assert tiles.MOST_PIXELS > 10 * images.MAX_PIXELS
    picture = photograph(tmp_path / "in.png", 100, 80)
    monkeypatch.setattr(tiles, "MOST_PIXELS", 7000)
    assert main(["translate", str(run), picture, "-o", str(tmp_path / "out"), "--tile", "32"]) == 2
    assert "7,000 pixels" in capsys.readouterr().err
    monkeypatch.setattr(tiles, "MOST_PIXELS", 8000)
    assert main(["translate", str(run), picture, "-o", str(tmp_path / "out"), "--tile", "32"]) == 0


def test_how_far_it_is(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pygan.tiles.progress._EVERY_S", 0.0)
    translated(run, photograph(tmp_path / "in.png", 150, 90), tmp_path / "out", "--tile", "64")
    first, *_, last = [line for line in capsys.readouterr().out.splitlines() if "megapixels/s" in line]
    assert "tiles of 64 pixels" in first
    assert "passes: 5" in first
    done, total = last.split(": ")[1].split(" tiles")[0].split("/")
    assert done == total
    assert "left" in last


def test_how_far_it_is_on_a_narrow_terminal(run, tmp_path, monkeypatch):
    shown = io.StringIO()
    made = Console(file=shown, force_terminal=True, width=60, highlight=False, soft_wrap=True)
    monkeypatch.setattr(log, "console", lambda: made)
    monkeypatch.setattr("pygan.tiles.progress._BAR_AFTER_S", 0.0)
    translated(run, photograph(tmp_path / "in.png", 150, 90), tmp_path / "out", "--tile", "64")
    text = shown.getvalue()
    assert "in.png (6 tiles of 64 pixels" in text
    assert "/30 tiles  " in text
    assert " s left" in text
    assert "…" not in text


def test_standard_output_holds_the_picture_alone(run, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setattr("pygan.tiles.progress._EVERY_S", 0.0)
    picture = photograph(tmp_path / "in.png", 70, 50)
    assert main(["translate", str(run), picture, "-o", "-", "--tile", "32"]) == 0
    captured = capfdbinary.readouterr()
    assert captured.out.startswith(b"\x89PNG")
    assert b"megapixels/s" in captured.err


def test_what_is_wrong_is_one_line(run, tmp_path, capsys):
    picture = photograph(tmp_path / "in.png", 70, 50)
    command = ["translate", str(run), picture, "-o", str(tmp_path / "out")]
    for flags, line in (
        (["--overlap", "8"], "--overlap is of --tile"),
        (["--tile", "-3"], "--tile must be at least 1"),
        (["--tile", "64", "--overlap", "-1"], "--overlap must be at least 0"),
    ):
        assert main([*command, *flags]) == 2
        said = capsys.readouterr().err.strip()
        assert line in said
        assert "\n" not in said
        assert not (tmp_path / "out").exists()


def test_an_interruption_leaves_nothing_half_done(run, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pygan.tiles.progress.Progress.add", interrupt)
    picture = photograph(tmp_path / "in.png", 70, 50)
    assert main(["translate", str(run), picture, "-o", str(tmp_path / "out"), "--tile", "32"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.*"))
