"""What is wrong with a set of pictures is said in one line, whatever was to be trained on it; nothing is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pygan.__main__ import main

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pictures(folder, count, ending="png"):
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i + 1:06d}.{ending}" for i in range(count)]
    for name in names:
        Image.fromarray(PICTURE).save(folder / name)
    return names


def captions(folder, rows):
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def attributes(folder, names, columns=("Male", "Young"), count=None):
    rows = [f"{name} {' '.join(['1', '-1'][(i + k) % 2] for k in range(len(columns)))}" for i, name in enumerate(names)]
    head = [str(len(names) if count is None else count), " ".join(columns)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]) + "\n")


def train(gan, folder, *more):
    common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--run", "run", "--max-steps", "1"]
    return main(["train", gan, "--data", str(folder), *common, *map(str, more)])


def fails(capfd, *argv):
    """Must end with 2, one line, and nothing written. Returns the line."""
    capfd.readouterr()
    assert train(*argv) == 2
    error = capfd.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert error.startswith("pygan: error: ")
    assert not Path("run").exists()
    return error


def test_missing_captions(tmp_path, capfd):
    names = pictures(tmp_path / "set" / "images", 6)
    assert "captions" in fails(capfd, "stackgan", tmp_path / "set")
    captions(tmp_path / "set", [{"file": f"images/{name}", "captions": ["a red bird"]} for name in names[:4]])
    error = fails(capfd, "stackgan", tmp_path / "set")
    assert names[4] in error or names[5] in error
    captions(tmp_path / "set", [{"file": f"images/{name}", "captions": []} for name in names])
    fails(capfd, "stackgan", tmp_path / "set")
    captions(tmp_path / "set", [{"file": f"images/{name}", "captions": ["a bird"]} for name in [*names, "other.png"]])
    assert "other.png" in fails(capfd, "stackgan", tmp_path / "set")
    with open(tmp_path / "set" / "captions.jsonl", "w") as out:
        out.write("{no json\n")
    assert "captions.jsonl" in fails(capfd, "stackgan", tmp_path / "set")


def test_labels_that_do_not_match_the_pictures(tmp_path, capfd):
    folder = tmp_path / "set"
    names = pictures(folder / "images", 12, "jpg")
    attributes(folder, [*names[:-1], "999999.jpg"])
    error = fails(capfd, "stargan", folder, "--attrs", "Male,Young")
    assert "999999.jpg" in error or names[-1] in error
    attributes(folder, names, count=13)
    assert "13" in fails(capfd, "stargan", folder, "--attrs", "Male,Young")
    (folder / "list_attr_celeba.txt").write_text("12\nMale Young\n" + "\n".join(f"{name} 1" for name in names))
    fails(capfd, "stargan", folder, "--attrs", "Male,Young")


def test_an_attribute_that_does_not_exist(tmp_path, capfd):
    names = pictures(tmp_path / "set" / "images", 12, "jpg")
    attributes(tmp_path / "set", names)
    error = fails(capfd, "stargan", tmp_path / "set", "--attrs", "Male,Yuong")
    assert "Yuong" in error
    assert "Young" in error


@pytest.mark.parametrize("empty", ["trainA", "trainB"])
def test_one_empty_domain(tmp_path, capfd, empty):
    for name in ("trainA", "trainB", "testA", "testB"):
        pictures(tmp_path / "set" / name, 0 if name == empty else 4)
    assert empty in fails(capfd, "cyclegan", tmp_path / "set")


@pytest.mark.parametrize("gan", ["dcgan", "cyclegan", "stargan", "stackgan"])
def test_grey_and_16_bit_pictures_among_colour_ones_are_said_and_used(tmp_path, capfd, gan):
    folder = tmp_path / "set"
    if gan == "cyclegan":
        for name in ("trainA", "trainB"):
            pictures(folder / name, 6)
        inside = folder / "trainA"
    else:
        inside = folder / "images"
        names = pictures(inside, 12, "png")
        if gan == "stargan":
            attributes(folder, names)
        if gan == "stackgan":
            captions(folder, [{"file": f"images/{name}", "captions": ["a red bird"]} for name in names])
    Image.fromarray(PICTURE[..., 0]).save(inside / "000001.png")
    Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257).save(inside / "000002.png")
    more = ["--attrs", "Male,Young"] if gan == "stargan" else []
    assert train(gan, folder, *more) == 0
    said = capfd.readouterr()
    both = said.out + said.err
    assert "grey" in both
    assert "16" in both


def test_a_damaged_picture_is_named_and_can_be_left_out(tmp_path, capfd):
    pictures(tmp_path / "set", 8)
    (tmp_path / "set" / "000003.png").write_bytes(b"no picture")
    assert "000003.png" in fails(capfd, "dcgan", tmp_path / "set")
    assert train("dcgan", tmp_path / "set", "--skip-bad") == 0


def test_labels_that_changed_are_other_data(tmp_path, capfd):
    folder = tmp_path / "set"
    names = pictures(folder / "images", 12, "jpg")
    attributes(folder, names)
    assert train("stargan", folder, "--attrs", "Male,Young") == 0
    attributes(folder, names, columns=("Young", "Male"))
    capfd.readouterr()
    assert main(["train", "stargan", "--run", "run", "--device", "cpu"]) == 2
    assert "trained on other" in capfd.readouterr().err
