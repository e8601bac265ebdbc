"""`pygan translate` on files: formats, depths, names, pipes, what goes wrong, and an interruption."""

import errno
import io
import os
import re
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
from rich.console import Console

from pygan import log, pixels, use
from pygan.__main__ import main
from pygan.pixels import Picture
from pygan.rundir import write_atomic
from pygan.translate.jobs import jobs

PROGRAM = [sys.executable, str(Path(__file__).parent.parent / "inverting.py")]


@pytest.fixture
def network(monkeypatch):
    """The network that `pygan translate` finds; its channels may be changed."""
    made = Inverts()
    monkeypatch.setattr(use, "network", lambda *args: made)
    return made


def drawn(shape, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(values * np.iinfo(dtype).max).astype(dtype)


def write(path, picture, kind="png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pixels.encode(picture, kind))
    return path


def inverted(values):
    return 1 - values if values.dtype.kind == "f" else np.iinfo(values.dtype).max - values


def translate(*words):
    return main(["translate", "RUN", *map(str, words)])


# Formats and depths.


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("png", np.uint8), ("png", np.uint16), ("webp", np.uint8), ("tiff", np.uint8), ("tiff", np.uint16),
     ("tiff", np.float32), ("npy", np.uint8), ("npy", np.uint16), ("npy", np.float32)],
)  # fmt: skip
def test_depth_channels_and_alpha_are_kept(network, tmp_path, kind, dtype, channels, alpha):
    if pixels.why_not(kind, dtype, channels, alpha=alpha) or (kind == "npy" and alpha):
        pytest.skip("no such file")
    network.card = Inverts(3 if kind == "webp" else channels).card
    given = drawn((20, 30, channels + alpha), dtype)
    picture = Picture(given[:, :, :channels], given[:, :, channels] if alpha else None)
    source = write(tmp_path / f"in{pixels.suffix(kind)}", picture, kind)
    assert translate(source, "-o", tmp_path / "out") == 0
    (result,) = (tmp_path / "out").iterdir()
    own = "npy" if kind == "npy" else "tiff" if channels == 5 or dtype == np.float32 else "png"
    assert result.name == f"in{pixels.suffix(own)}"
    got = pixels.read(result)
    assert got.pixels.dtype == dtype
    seen = pixels.read(source)
    np.testing.assert_allclose(
        got.pixels.astype(float), inverted(pixels.with_channels(pixels.on_white(seen), got.pixels.shape[2])), atol=1e-6
    )
    if alpha:
        np.testing.assert_array_equal(got.alpha, picture.alpha)
    else:
        assert got.alpha is None


@pytest.mark.parametrize(("depth", "dtype"), [("8", np.uint8), ("16", np.uint16), ("float", np.float32)])
@pytest.mark.parametrize("given", [np.uint8, np.uint16, np.float32])
def test_another_depth_may_be_asked_for(network, tmp_path, given, depth, dtype):
    values = drawn((16, 16, 3), given)
    source = write(tmp_path / "in.tif", Picture(values), "tiff")
    assert translate(source, "-o", tmp_path / "out", "--depth", depth) == 0
    (result,) = (tmp_path / "out").iterdir()
    got = pixels.read(result).pixels
    assert got.dtype == dtype
    exact = inverted(values).astype(float) / (1 if given == np.float32 else np.iinfo(given).max)
    step = {"8": 0.5 / 255, "16": 0.5 / 65535, "float": 1e-6}[depth]
    assert np.abs(got / (1 if depth == "float" else np.iinfo(dtype).max) - exact).max() <= step + 1e-6


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tiff", "npy"])
def test_another_format_may_be_asked_for(network, tmp_path, kind):
    soft = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    source = write(tmp_path / "in.png", Picture(soft))
    assert translate(source, "-o", tmp_path / "out", "--format", kind) == 0
    got = pixels.read(tmp_path / "out" / f"in{pixels.suffix(kind)}").pixels
    assert np.abs(got.astype(int) - inverted(soft)).max() <= (4 if kind == "jpg" else 0)


def test_quality_is_heard(network, tmp_path):
    source = write(tmp_path / "in.png", Picture(drawn((64, 64, 3))))
    sizes = []
    for quality in ("5", "95"):
        out = tmp_path / quality
        assert translate(source, "-o", out, "--format", "jpg", "--quality", quality) == 0
        sizes.append((out / "in.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_floats_of_another_range_come_back_in_it(network, tmp_path, capfd):
    values = drawn((16, 16, 3), np.float32) * 900 + 100
    np.save(tmp_path / "in.npy", values)
    assert translate(tmp_path / "in.npy", "-o", tmp_path / "out") == 2
    assert "--float-range LO,HI" in capfd.readouterr().err
    assert translate(tmp_path / "in.npy", "-o", tmp_path / "out", "--float-range", "100,1000") == 0
    np.testing.assert_allclose(np.load(tmp_path / "out" / "in.npy"), 1100 - values, rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_the_largest_range_of_floats_is_filled(network, tmp_path):
    source = write(tmp_path / "in.png", Picture(np.array([[[0], [255]], [[51], [204]]], np.uint8).repeat(3, axis=2)))
    flags = ("--depth", "float", "--format", "npy", "--float-range=-3.4e38,3.4e38")
    assert translate(source, "-o", tmp_path / "out", *flags) == 0
    got = np.load(tmp_path / "out" / "in.npy")[:, :, 0]
    np.testing.assert_allclose(got, [[3.4e38, -3.4e38], [2.04e38, -2.04e38]], rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--format", "jpg", "--depth", "16"), "a jpg cannot hold 16 bits"),
        (("--format", "png", "--depth", "float"), "a png cannot hold float"),
        (("--quality", "50"), "add --format jpg"),
        (("--format", "jpg", "--quality", "0"), "from 1 to 100"),
        (("--float-range", "3"), "two numbers"),
        (("--float-range", "3,1"), "two numbers"),
        (("--float-range=0,nan",), "two numbers"),
        (("--float-range=-1e308,1e308",), "two numbers"),
        (("--batch", "0"), "at least 1"),
        (("--stream", "gif"), "must be auto, mjpeg, png or rgb24"),
        (("--stream", ""), "must be auto, mjpeg, png or rgb24"),
        (("--stream", "rgb24:0x5"), "--stream rgb24:0x5: 0x5 pixels"),
        (("--stream", "png"), "standard output"),
    ],
)
def test_flags_that_fit_no_picture_are_one_line(network, tmp_path, capfd, words, says):
    source = write(tmp_path / "in.png", Picture(drawn((16, 16, 3))))
    assert translate(source, "-o", tmp_path / "out", *words) == 2
    line = capfd.readouterr().err.strip()
    assert says in line
    assert "\n" not in line
    assert not network.batches or network.batches == [(1, 3, 32, 32)]  # of the options
    assert not (tmp_path / "out").exists()


def test_five_channels_as_png_are_refused_before_any_picture_is_opened(network, tmp_path, capfd):
    network.card = Inverts(5).card
    assert translate(write(tmp_path / "in.png", Picture(drawn((16, 16, 3)))), "-o", tmp_path, "--format", "png") == 2
    assert "a png cannot hold 5 channels" in capfd.readouterr().err


def test_a_picture_that_the_format_cannot_hold_is_left_out(network, tmp_path, capfd):
    both = drawn((16, 16, 4))
    write(tmp_path / "in" / "a.png", Picture(both[:, :, :3], both[:, :, 3]))
    write(tmp_path / "in" / "b.png", Picture(both[:, :, :3]))
    write(tmp_path / "in" / "c.png", Picture(drawn((16, 16, 3), np.uint16)))
    network.batches.clear()
    assert translate(tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg") == 2
    said = capfd.readouterr().err
    assert "a.png: a jpg cannot hold transparency" in said
    assert "c.png: a jpg cannot hold 16 bits" in said
    assert "--depth 8" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.jpg"]
    assert sum(shape[0] for shape in network.batches) == 2  # of the options, and one picture


def test_a_picture_of_other_channels_costs_its_neighbours_nothing(network, tmp_path, capfd):
    for name, channels in (("a", 3), ("b", 5), ("c", 1)):
        write(tmp_path / "in" / f"{name}.tif", Picture(drawn((16, 16, channels))), "tiff")
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 2
    assert "b.tif: it has 5 channels, the network takes 3" in capfd.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


# Batches, order, memory.


def test_pictures_of_one_size_go_together_whatever_lies_between(network, tmp_path):
    for k in range(12):
        write(tmp_path / "in" / f"{k:02}.png", Picture(drawn((16, 16 + 8 * (k % 2), 3), seed=k)))
    network.batches.clear()
    assert translate(tmp_path / "in", "-o", tmp_path / "out", "--batch", "3") == 0
    assert sorted(network.batches[1:]) == [(3, 3, 16, 16)] * 2 + [(3, 3, 16, 24)] * 2
    for path in (tmp_path / "in").iterdir():
        got = pixels.read(tmp_path / "out" / path.name).pixels
        np.testing.assert_array_equal(got, 255 - pixels.read(path).pixels)


def test_sizes_without_end_do_not_wait_for_each_other(network, tmp_path):
    for k in range(20):
        write(tmp_path / "in" / f"{k:02}.png", Picture(drawn((16, 16 + k, 3))))
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 20


def test_where_the_memory_ends_pictures_go_alone(network, tmp_path, monkeypatch, capfd):
    for k in range(3):
        write(tmp_path / "in" / f"{k}.png", Picture(drawn((16, 16, 3), seed=k)))
    write(tmp_path / "in" / "large.png", Picture(drawn((40, 40, 3))))
    plain = network.translate

    def scarce(A, rng=None, **options):
        if A.shape[0] > 1 or A.shape[2] > 32:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return plain(A, rng, **options)

    monkeypatch.setattr(network, "translate", scarce)
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 2
    said = capfd.readouterr().err
    assert "large.png: 40x40 pixels do not fit into the memory; use --tile" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_dropout_in_use_puts_every_picture_alone(network, tmp_path):
    network.card = Inverts(chance=True).card
    for k in range(3):
        write(tmp_path / "in" / f"{k}.png", Picture(drawn((16, 16, 3), seed=k)))
    network.batches.clear()
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert [shape[0] for shape in network.batches[1:]] == [1, 1, 1]


# Names and places.


def test_results_that_are_there_stay_whatever_their_kind(network, tmp_path, capfd):
    write(tmp_path / "in" / "a.tif", Picture(drawn((16, 16, 3), np.float32)), "tiff")
    write(tmp_path / "in" / "b.png", Picture(drawn((16, 16, 3))))
    argv = (tmp_path / "in", "-o", tmp_path / "out")
    assert translate(*argv) == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"a.tif", "b.png"}
    assert translate(*argv) == 0
    assert "2 results were already in" in capfd.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert translate(*argv, "--overwrite") == 0
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} != before


def test_names_of_all_sorts_come_back(network, tmp_path, capfdbinary):
    names = [b"plain.png",
             "umlaut ä ☃.png".encode(), b"\xff\xfe not utf8.png", b"two\nlines.png", b"-o.png", b".png.png",
             b"a..b.png", b"\x1b[31mred.png", b"dots...png", b"*.png", b"[x].png"]  # fmt: skip
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(pixels.encode(Picture(drawn((16, 16, 3)))))
    with open(os.path.join(folder, b"bad \xff\n\x1b[2J.png"), "wb") as file:
        file.write(b"no picture")
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 2
    visible = sorted(name for name in names if not name.startswith(b"."))
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == visible
    said = capfdbinary.readouterr().err
    assert said.count(b"\n") == 1
    assert b"\x1b" not in said


def test_a_name_may_be_as_long_as_a_name_can_be(network, tmp_path, capfd):
    for name in ("x" * 251, "ä" * 125 + "x", "y"):
        write(tmp_path / "in" / f"{name}.png", Picture(drawn((16, 16, 3))))
    given = sorted(path.name for path in (tmp_path / "in").iterdir())
    for _ in range(2):
        assert translate(tmp_path / "in", "-o", tmp_path / "out", "--overwrite") == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == given
    capfd.readouterr()
    assert translate(tmp_path / "in", "-o", tmp_path / "longer", "--format", "webp") == 2
    said = capfd.readouterr().err
    assert said.count("cannot write") == said.count("\n") == 2  # only the result's name is too long
    assert [path.name for path in (tmp_path / "longer").iterdir()] == ["y.webp"]


def test_one_more_picture_neither_renames_nor_replaces_a_result(network, tmp_path, capfd):
    """Whichever comes first, and whether results may be replaced or not."""
    for first, more in (("a.jpg", "a.png"), ("a.png", "a.jpg")):
        inside, out = tmp_path / first / "in", tmp_path / first / "out"
        pictures = {name: drawn((16, 16, 3), seed=k) for k, name in enumerate((first, more))}
        write(inside / first, Picture(pictures[first]))
        assert translate(inside, "-o", out) == 0
        before = (out / "a.png").read_bytes()
        write(inside / more, Picture(pictures[more]))
        for flags in ((), ("--overwrite",)):
            assert translate(inside, "-o", out, *flags) == 0
            assert sorted(path.name for path in out.iterdir()) == ["a.png", "a_jpg.png", "a_png.png"]
            assert (out / "a.png").read_bytes() == before
            for name, values in pictures.items():
                got = pixels.read(out / f"a_{name[2:]}.png").pixels
                np.testing.assert_array_equal(got, 255 - values)


def test_pictures_of_one_name_in_several_folders(network, tmp_path, monkeypatch, capfd):
    values = {name: drawn((16, 16, 3), seed=k) for k, name in enumerate(("f/0.png", "g/0.png", "g/1.png"))}
    for name, picture in values.items():
        write(tmp_path / name, Picture(picture))
    monkeypatch.chdir(tmp_path)
    for k, words in enumerate((("f", "g"), ("g", "f/0.png"), ("*/*.png",), ("g/", "./f"))):
        assert translate(*words, "-o", f"outs/made/{k}") == 0
        found = {path.name: pixels.read(path).pixels for path in (tmp_path / f"outs/made/{k}").iterdir()}
        wanted = {
            "0_f.png": 255 - values["f/0.png"],
            "0_g.png": 255 - values["g/0.png"],
            "1.png": 255 - values["g/1.png"],
        }
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in found)
    write(tmp_path / "deep" / "f" / "0.png", Picture(values["g/0.png"]))
    capfd.readouterr()
    assert translate("f", "deep/f", "-o", "out") == 2
    assert "f/0.png and deep/f/0.png would both be" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_name_of_dots_stays_in_the_output(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("..png", "...png", ".png"):
        write(tmp_path / name, Picture(drawn((16, 16, 3))))
        assert translate(name, "-o", "out") == 0
    assert sorted(os.listdir("out")) == ["...png.png", "..png.png", ".png.png"]


def test_links_in_circles_and_output_inside_the_input(network, tmp_path):
    write(tmp_path / "in" / "a.png", Picture(drawn((16, 16, 3))))
    write(tmp_path / "in" / "deep" / "b.png", Picture(drawn((16, 16, 3))))
    (tmp_path / "in" / "deep" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "nowhere.png").symlink_to(tmp_path / "gone")
    (tmp_path / "in" / "itself.png").symlink_to("itself.png")
    out = tmp_path / "in" / "out"
    for _ in range(2):
        assert translate(tmp_path / "in", "-o", out, "--overwrite") == 2  # two links lead nowhere
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.png")) == ["a.png", "deep/b.png"]


def test_every_name_of_a_picture_is_mirrored_once(network, tmp_path):
    write(tmp_path / "all" / "a.png", Picture(drawn((16, 16, 3))))
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.png").symlink_to("../all/a.png")
    (tmp_path / "part" / "two.png").symlink_to("one.png")
    (tmp_path / "again").symlink_to("part")
    assert (
        translate(*(tmp_path / name for name in ("all", "part", "again", "part/one.png")), "-o", tmp_path / "out") == 0
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "one.png", "two.png"]


def test_a_folder_that_cannot_be_looked_into_is_named(network, tmp_path, monkeypatch, capfd):
    for name in ("a.png", "closed/b.png"):
        write(tmp_path / "in" / name, Picture(drawn((16, 16, 3))))
    plain, closed = os.scandir, str(tmp_path / "in" / "closed")

    def scandir(path):
        if str(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may look everywhere
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 2
    assert f"{closed}: " in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_the_folder_of_the_results_among_the_inputs(network, tmp_path, monkeypatch, capfd):
    """As `*` finds it the second time; and inputs below it are inputs."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.png", Picture(drawn((16, 16, 3))))
    assert translate("a.png", "-o", "out") == 0
    for words in (("a.png", "out"), ("*",)):
        assert translate(*words, "-o", "out", "--overwrite") == 0
        assert "out is where the results go, so it is left out" in capfd.readouterr().err
        assert os.listdir("out") == ["a.png"]
    assert translate("out", "-o", "out") == 2
    assert "there is no picture but in out, where the results go" in capfd.readouterr().err
    write(tmp_path / "photos" / "b.png", Picture(drawn((16, 16, 3))))
    assert translate("photos", "-o", ".") == 0
    assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("words", "says"), [(("", "-o", "out"), "'': no such picture"), (("a", "-o", ""), "-o is empty")]
)
def test_an_empty_name_is_no_folder(network, tmp_path, monkeypatch, capfd, words, says):
    monkeypatch.chdir(tmp_path)
    assert translate(*words) == 2
    assert says in capfd.readouterr().err
    assert not os.listdir(tmp_path)


def test_nothing_is_written_outside_the_output(network, tmp_path, monkeypatch, capfd):
    work = tmp_path / "work"
    write(work / "in" / "deep" / "a.png", Picture(drawn((16, 16, 3))))
    write(tmp_path / "above.png", Picture(drawn((16, 16, 3))))
    (tmp_path / "elsewhere").mkdir()
    (work / "out").mkdir()
    (work / "out" / "deep").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(work)
    assert translate("../above.png", str(tmp_path / "above.png"), "../work/./in", "-o", "out") == 2
    assert "leads out of it" in capfd.readouterr().err
    assert [path.name for path in (work / "out").iterdir() if path.is_file()] == ["above.png"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_input_is_never_replaced(network, tmp_path, capfd):
    source = write(tmp_path / "a.png", Picture(drawn((16, 16, 3))))
    before = source.read_bytes()
    assert translate(source, "-o", tmp_path, "--overwrite") == 2
    assert "would be replaced" in capfd.readouterr().err
    assert source.read_bytes() == before


@pytest.mark.parametrize("flags", [["--depth", "float"], []])
def test_a_result_whose_kind_the_picture_decides_replaces_nothing_either(network, tmp_path, flags, capfd):
    floats = drawn((20, 20, 3), np.float32)
    inside = tmp_path / "in"
    a = write(inside / "a.jpg", Picture(floats), "tiff")  # floats under another name: its result is a TIFF
    other = write(inside / "a.tif", Picture(floats[::-1]), "tiff")
    before = other.read_bytes()
    link = tmp_path / "b.tif"
    link.symlink_to(other)
    assert translate(a, link, "-o", inside, *flags) == 2
    assert "a.tif is one of the inputs and would be replaced" in capfd.readouterr().err
    assert other.read_bytes() == before
    there = tmp_path / "out" / "a.tif"
    there.parent.mkdir()
    there.write_bytes(b"kept")
    assert translate(a, "-o", there.parent, *flags) == 0
    assert "already" in capfd.readouterr().err
    assert there.read_bytes() == b"kept"
    assert translate(a, "-o", there.parent, *flags, "--overwrite") == 0
    assert pixels.read(there).pixels.dtype == np.float32


def test_a_format_tells_names_apart_before_anything_is_read(tmp_path):
    for name in ("a.tif", "a.png", "a.npy"):
        (tmp_path / name).write_bytes(b"")
    found = jobs([str(tmp_path)], tmp_path / "out", lambda native, ending: ("png",), None)
    assert sorted(job.target.name for job in found) == ["a_npy", "a_png", "a_tif"]


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/dev/full"), reason="no full disk here")
def test_a_full_disk_ends_it_with_one_line(network, tmp_path, monkeypatch, capfd):
    from pygan.translate import files

    for k in range(30):
        write(tmp_path / "in" / f"{k:02}.png", Picture(drawn((16, 16, 3))))
    plain, count = files.write_atomic, []

    def fills(path, data):
        count.append(path)
        if len(count) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(path, data)

    monkeypatch.setattr(files, "write_atomic", fills)
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device" in said
    assert "results so far are kept" in said
    assert len(list((tmp_path / "out").iterdir())) == 10


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_file_that_is_not_written_to_its_end_is_as_it_was(tmp_path, monkeypatch, stop):
    def stops(number):
        raise stop

    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", stops)
    with pytest.raises(stop):
        write_atomic(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


# A pipe.


def piped(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_to_a_folder(network, tmp_path, monkeypatch):
    values = drawn((16, 16, 3), np.uint16)
    piped(monkeypatch, pixels.encode(Picture(values)))
    assert translate("-", "-o", tmp_path / "out") == 0
    np.testing.assert_array_equal(pixels.read(tmp_path / "out" / "stdin.png").pixels, 65535 - values)


def test_standard_input_to_standard_output():
    values = drawn((16, 16, 3), np.float32)
    buffer = io.BytesIO()
    np.save(buffer, values)
    ran = subprocess.run(
        [*PROGRAM, "translate", "RUN", "-", "-o", "-"], input=buffer.getvalue(), capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_allclose(np.load(io.BytesIO(ran.stdout)), 1 - values, atol=1e-6)


def test_a_file_to_standard_output(network, tmp_path, capsysbinary):
    values = drawn((16, 16, 3))
    assert translate(write(tmp_path / "in.png", Picture(values)), "-o", "-", "--format", "webp") == 0
    out = capsysbinary.readouterr().out
    assert out[8:12] == b"WEBP"
    np.testing.assert_array_equal(pixels.read(out).pixels, 255 - values)


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_a_bad_picture_from_standard_input_is_one_line(network, monkeypatch, capsysbinary, data):
    piped(monkeypatch, data)
    assert translate("-", "-o", "-") == 2
    said = capsysbinary.readouterr()
    assert said.out == b""
    assert said.err.startswith(b"pygan: error: cannot read standard input")
    assert said.err.count(b"\n") == 1


def test_only_one_picture_goes_to_standard_output(network, tmp_path, capfd):
    for name in "ab":
        write(tmp_path / f"{name}.png", Picture(drawn((16, 16, 3))))
    assert translate(tmp_path, "-o", "-") == 2
    assert "writes one picture and 2 are asked for" in capfd.readouterr().err


# An interruption.


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_whole_files_and_says_how_many(network, tmp_path, capfd, how):
    total = 60
    for k in range(total):
        write(tmp_path / "in" / f"{k:03}.png", Picture(drawn((64, 64, 3), seed=k)))
    argv = [*PROGRAM, "translate", "RUN", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--batch", "2"]
    child = subprocess.Popen(
        argv, env={**os.environ, "PYGAN_TEST_SLOW": "0.05"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(how)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    done = sorted((tmp_path / "out").iterdir())
    assert f"interrupted; {len(done)} of {total} pictures" in said.decode()
    assert "the same command goes on" in said.decode()
    assert said.count(b"\n") == 1
    assert 5 <= len(done) < total
    for path in done:
        with Image.open(path) as image:
            image.load()
    assert translate(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == total
    assert f"{len(done)} results were already" in capfd.readouterr().err


def test_progress_in_a_pipe_is_a_line_now_and_then(network, tmp_path, monkeypatch, capfd):
    from pygan.translate import progress

    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0.0)
    for k in range(4):
        write(tmp_path / "in" / f"{k}.png", Picture(drawn((16, 16, 3), seed=k)))
    assert translate(tmp_path / "in", "-o", tmp_path / "out", "--batch", "1") == 0
    said = capfd.readouterr().out
    assert "/4 pictures  " in said
    assert " images/s  " in said
    assert " left" in said
    assert threading.active_count() < 20


def on_a_terminal(monkeypatch, width=80):
    """What a terminal of that width is shown."""
    shown = io.StringIO()
    made = Console(file=shown, force_terminal=True, width=width, highlight=False, soft_wrap=True)
    monkeypatch.setattr(log, "console", lambda: made)
    return shown


def test_on_a_terminal_a_bar_says_how_long_it_takes(network, tmp_path, monkeypatch, capfd):
    shown = on_a_terminal(monkeypatch)
    for k in range(4):
        write(tmp_path / "in" / f"{k}.png", Picture(drawn((16, 16, 3), seed=k)))
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    monkeypatch.setenv("PYGAN_TEST_SLOW", "0.2")
    assert translate(tmp_path / "in", "-o", tmp_path / "out", "--batch", "1") == 2
    assert re.search(r"/5  \d+\.\d images/s  \d+ s left", shown.getvalue())
    assert "bad.png" in capfd.readouterr().err  # which is no terminal, so the line is not above the bar
    assert "bad.png" not in shown.getvalue()


def test_a_rate_below_one_in_ten_seconds_is_no_zero(monkeypatch):
    from pygan.translate.progress import Bar

    now = iter((0.0, 80.0, 80.0))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    bar = Bar(2)
    assert bar.rate == "0.0 images/s"
    bar.done = 1
    assert bar.rate == "0.013 images/s"
