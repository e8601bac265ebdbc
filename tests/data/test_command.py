"""`pygan data make` and `pygan data check`."""

import argparse
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pygan.data import command, paired_source, shapes
from pygan.data.caption_files import read_captions
from pygan.data.faces import ATTRIBUTES, draw_attributes, face_picture
from pygan.data.seasons import FIRST_WINTER, season_picture
from pygan.data.text import Hashing
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


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_seasons_are_laid_out_as_cyclegans_sets(tmp_path, capsys):
    assert run("make", "seasons", tmp_path, "--n", 3, "--size", "24x16", "--seed", 5, "--format", "png") == 0
    assert "3 summers and 3 winters to train, 1 of each to test, of 24x16" in capsys.readouterr().out
    assert files_in(tmp_path) == sorted([
        "pygan.json", "testA/summer_2000000.png", "testB/winter_2000000.png",
        *(f"trainA/summer_0000{i}.png" for i in range(3)), *(f"trainB/winter_0000{i}.png" for i in range(3)),
    ])  # fmt: skip
    for name, index, domain in (("trainA/summer_00001", 1, "A"), ("trainB/winter_00002", FIRST_WINTER + 2, "B"),
                                ("testB/winter_2000000", FIRST_WINTER + 2_000_000, "B")):  # fmt: skip
        assert np.array_equal(pixels_of(tmp_path / f"{name}.png"), season_picture(5, index, (16, 24), domain))
    assert json.loads((tmp_path / "pygan.json").read_text()) == {"set": "seasons", "seed": 5}


def test_faces_are_laid_out_as_celeba(tmp_path):
    assert run("make", "faces", tmp_path, "--n", 12, "--format", "png") == 0
    assert files_in(tmp_path) == sorted(
        ["list_attr_celeba.txt", "pygan.json", *(f"images/{i:06d}.png" for i in range(1, 13))]
    )
    count, names, *rows = (tmp_path / "list_attr_celeba.txt").read_text().splitlines()
    assert count == "12"
    assert names.split() == list(ATTRIBUTES)
    assert len(rows) == 12
    for index, row in enumerate(rows):
        file, *values = row.split()
        pixels, label = face_picture(0, index, (218, 178))
        assert file == f"{index + 1:06d}.png"
        assert [int(value) for value in values] == (2 * label.astype(int) - 1).tolist()
        assert np.array_equal(pixels_of(tmp_path / "images" / file), pixels)


def test_faces_are_laid_out_as_rafd(tmp_path):
    assert run("make", "faces", tmp_path, "--layout", "rafd", "--n", 24, "--holdout", 0.5, "--size", 16) == 0
    names = files_in(tmp_path)
    assert len(names) == 24 + 12 + 1
    for name in names[1:]:
        split, kind, file = name.split("/")
        index = int(file.removesuffix(".jpg")) - 1
        assert split == ("test" if index >= 2_000_000 else "train")
        label = draw_attributes(0, index)
        assert kind == ("black_hair", "blond_hair", "brown_hair")[int(label[:3].argmax())]


def test_shapes_have_a_line_of_json_each(tmp_path):
    assert run("make", "shapes", tmp_path, "--n", 5, "--size", 40, "--holdout", 0.4) == 0
    assert files_in(tmp_path) == sorted(["captions.jsonl", "pygan.json", *(f"images/{i:06d}.png" for i in range(1, 8))])
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    indices = [*range(5), 2_000_000, 2_000_001]
    for number, (index, row) in enumerate(zip(indices, rows, strict=True), start=1):
        pixels, scene = shapes.shapes_picture(0, index, 40)
        assert row["file"] == f"images/{number:06d}.png"
        assert row["split"] == ("train" if index < 5 else "test")
        assert row["class"] == f"{scene.items[0].colour} {scene.items[0].kind}"
        assert row["captions"] == shapes.captions(scene, 0, index)
        assert row["box"] == pytest.approx([40 * length for length in shapes.bounds(scene.items[0])], abs=1e-3)
        wanted = [(40 * x, 40 * y, v) for x, y, v in shapes.keypoints(scene)]
        assert np.array(row["keypoints"]) == pytest.approx(np.array(wanted), abs=1e-3)
        assert np.array_equal(pixels_of(tmp_path / row["file"]), pixels)
    read = read_captions(tmp_path / "captions.jsonl")
    assert [row.file for row in read] == [row["file"] for row in rows]
    assert [row.captions for row in read] == [tuple(row["captions"]) for row in rows]


def unpickled(path):
    return pickle.loads(path.read_bytes())  # of our own making


def test_shapes_are_laid_out_as_the_birds(tmp_path):
    assert run("make", "shapes", tmp_path, "--layout", "cub", "--n", 6, "--size", 64, "--holdout", 0.3) == 0
    top = tmp_path / "birds" / "CUB_200_2011"
    names = [line.split() for line in (top / "images.txt").read_text().splitlines()]
    boxes = np.loadtxt(top / "bounding_boxes.txt")
    parts = np.loadtxt(top / "parts" / "part_locs.txt")
    assert [int(number) for number, _ in names] == list(range(1, 9)) == boxes[:, 0].tolist()
    assert parts.shape == (8 * 15, 5)
    assert len((top / "parts" / "parts.txt").read_text().splitlines()) == 15
    by_name = dict(zip([name for _, name in names], boxes[:, 1:], strict=True))
    seen = []
    for split, count, first in (("train", 6, 0), ("test", 2, 2_000_000)):
        folder = tmp_path / "birds" / split
        assert [p.name for p in sorted(folder.iterdir())] == [
            "304images.pickle", "76images.pickle", "char-CNN-RNN-embeddings.pickle", "class_info.pickle",
            "filenames.pickle",
        ]  # fmt: skip
        filenames, classes = unpickled(folder / "filenames.pickle"), unpickled(folder / "class_info.pickle")
        texts = unpickled(folder / "char-CNN-RNN-embeddings.pickle")
        assert len(filenames) == len(classes) == len(texts) == count
        for k, name in enumerate(filenames):
            pixels, scene = shapes.shapes_picture(0, first + k, 64)
            main = scene.items[0]
            title = f"{main.colour}_{main.kind}".title()
            assert name == f"{classes[k]:03d}.{title}/{title}_{first + k:07d}"
            with Image.open(top / "images" / f"{name}.jpg") as image:
                assert image.format == "JPEG"
                assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 4
            said = (tmp_path / "birds" / "text_c10" / f"{name}.txt").read_text().splitlines()
            assert said == shapes.captions(scene, 0, first + k)
            assert texts[k].shape == (10, 1024)
            assert texts[k].dtype == np.float32
            assert np.array_equal(texts[k][:, :256], Hashing().encode(said))
            x, y, width, height = by_name[f"{name}.jpg"]
            for item in scene.items:
                left, above, wide, high = (64 * length for length in shapes.bounds(item))
                assert x <= left + 0.1
                assert y <= above + 0.1
                assert left + wide <= x + width + 0.2
                assert above + high <= y + height + 0.2
            seen.append(f"{name}.jpg")
        for side in (304, 76):
            pictures = unpickled(folder / f"{side}images.pickle")
            assert [p.shape for p in pictures] == [(side, side, 3)] * count
            assert all(p.dtype == np.uint8 for p in pictures)
    assert sorted(seen) == [name for _, name in names]


def test_pictures_cut_for_the_birds_show_what_is_said(tmp_path):
    run("make", "shapes", tmp_path, "--layout", "cub", "--n", 12, "--size", 96)
    pictures = unpickled(tmp_path / "birds" / "train" / "304images.pickle")
    held = []
    for index, pixels in enumerate(pictures):
        whole = shapes.facts(shapes.plan(0, index))
        unsized = frozenset((kind, colour, "") for kind, colour, _ in whole.shapes)  # the cut makes small ones large
        held.append(shapes.agreement(pixels, replace(whole, shapes=unsized, place=""))["all"])
    assert np.mean(held) > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [(["facades", "--layout", "cub"], "--layout of facades must be one of pix2pix"),
     (["faces", "--holdout", "0.2"], "--holdout: CelebA"),
     (["faces", "--n", "0"], "training faces"),
     (["faces", "--layout", "rafd", "--n", "8"], "test/ has no black_hair among 1 faces"),
     (["seasons", "--n", "0"], "training pictures of each domain"),
     (["shapes", "--size", "64x48"], "--size of shapes must be one number"),
     (["shapes", "--layout", "cub", "--format", "png"], "--layout cub has jpg pictures")],
)  # fmt: skip
def test_make_says_what_does_not_go_together(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run("make", words[0], tmp_path / "x", *words[1:])
    assert not (tmp_path / "x").exists()


def test_a_smaller_set_leaves_nothing_of_the_larger(tmp_path):
    how = ("--layout", "cub", "--size", 16)
    run("make", "shapes", tmp_path, "--n", 9, *how)
    mine = tmp_path / "birds" / "CUB_200_2011" / "images" / "mine" / "cat.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"precious")
    run("make", "shapes", tmp_path, "--n", 1, "--seed", 3, "--force", *how)
    assert mine.read_bytes() == b"precious"
    assert len([name for name in files_in(tmp_path) if name.endswith(".jpg")]) == 1 + 1 + 1
    assert len(list((tmp_path / "birds" / "text_c10").iterdir())) <= 2  # no folders of classes that are gone
