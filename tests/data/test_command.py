"""`pygan data make` and `pygan data check`."""

import argparse
import json

import numpy as np
import pytest
from PIL import Image

from pygan.data import command, paired_source
from pygan.errors import UserError


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser.add_subparsers(dest="act", required=True))
    return command.run(parser.parse_args([str(word) for word in words]))


def test_make_writes_what_the_built_in_set_is(tmp_path, recipe, capsys):
    folder = tmp_path / "new" / "houses"
    assert run("make", "facades", folder, "--n", 4, "--size", 36, "--seed", 2, "--holdout", 0.5) == 0
    assert "4 train, 2 val, 2 test pairs of 36x36" in capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == ["pygan.json", "test", "train", "val"]
    on_disk = paired_source(recipe(data=folder), "train")
    built_in = paired_source(recipe(data="facades:2"), "train")
    assert on_disk.natural_direction == "BtoA"
    assert on_disk.filters == ("bicubic", "nearest")
    for i in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(on_disk.pair(i), built_in.pair(i), strict=True))


def test_make_jpeg_of_another_shape(tmp_path):
    assert run("make", "facades", tmp_path, "--n", 1, "--size", "48x32", "--format", "jpg") == 0
    with Image.open(tmp_path / "train" / "facade_00000.jpg") as image:
        assert image.format == "JPEG"
        assert image.size == (96, 32)


def test_make_refuses_what_would_be_lost(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"not empty.*--force"):
        run("make", "facades", tmp_path, "--n", 2)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert run("make", "facades", tmp_path, "--n", 3, "--size", 16, "--force") == 0
    assert run("make", "facades", tmp_path, "--n", 1, "--size", 16, "--force", "--format", "jpg") == 0
    assert [p.name for p in (tmp_path / "train").iterdir()] == ["facade_00000.jpg"]  # no mixture of two sets
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--size", "huge"], "--size"), (["--size", "4"], "8..4096"), (["--n", "0"], "training houses"),
     (["--seed", "-1"], "--seed"), (["--holdout", "1.5"], "--holdout")],
)  # fmt: skip
def test_make_says_what_is_wrong(tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        run("make", "facades", tmp_path / "x", *flags)
    assert not (tmp_path / "x").exists()


def test_make_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the set"):
        run("make", "facades", tmp_path / "file" / "set", "--n", 1)


def test_check_of_a_good_set(tmp_path, picture, capsys):
    for i in range(3):
        picture(tmp_path / "train" / f"{i}.jpg", seed=i)
    picture(tmp_path / "val" / "0.png", 80, 40)
    assert run("check", tmp_path) == 0
    out = capsys.readouterr().out
    for words in ("side by side", "3 train, held out: 1", "64x32 (3), 80x40 (1)", "JPEG (3), PNG (1)", "RGB 8 bit (4)"):
        assert words in out
    assert "bad        none" in out


def test_check_lists_every_problem(tmp_path, picture, capsys):
    for i in range(6):
        picture(tmp_path / f"{i}.jpg", seed=i)
    for i in range(6, 11):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    picture(tmp_path / "odd.png", 63, 32)
    assert run("check", tmp_path) == 2
    out = capsys.readouterr().out
    assert out.count("empty file") == 5
    assert "text.jpg: not a picture" in out
    assert "odd.png: 63x32: no two equal halves" in out
    assert "bad        7" in out
    assert run("check", tmp_path, "--input-transform", "canny") == 2  # an odd width is no problem for single pictures
    assert "odd.png" not in capsys.readouterr().out


def test_check_lists_every_unpaired_name(tmp_path, picture, capsys):
    for name in ("A/1", "B/1", *(f"A/x{i}" for i in range(6))):
        picture(tmp_path / f"{name}.png")
    assert run("check", tmp_path) == 2
    out = capsys.readouterr().out
    assert out.count("no partner of the same name") == 6
    assert "A/x5.png" in out


def test_check_of_no_set(tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        run("check", tmp_path)


def test_marker_is_json(tmp_path):
    run("make", "facades", tmp_path, "--n", 1, "--size", 16)
    marker = json.loads((tmp_path / "pygan.json").read_text())
    assert marker == {"set": "facades", "natural_direction": "BtoA", "label_side": "B", "seed": 0}
