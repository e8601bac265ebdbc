"""The family from the command line: what a user may mistake, one line each; tiny pictures; runs used from elsewhere."""

import pickle
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pygan.__main__ import main
from pygan.checkpoint import Damaged, read_torch
from pygan.gans.feature_gan import model as feature_model


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """One small set of each kind."""
    path = tmp_path_factory.mktemp("sets")
    for name, argv in {
        "faces": ["faces", "--n", "20"],
        "classes": ["faces", "--layout", "rafd", "--n", "60"],
        "seasons": ["seasons", "--n", "4"],
        "cub": ["shapes", "--layout", "cub", "--n", "8"],
    }.items():
        assert main(["data", "make", *argv[:1], str(path / name), "--size", "32", *argv[1:]]) == 0
    return path


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(gan, *argv):
    common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--run", "run"]
    return main(["train", gan, *common, *map(str, argv)])


def fails(capfd, *argv):
    """Must end with 2, one line, and nothing written. Returns the line."""
    capfd.readouterr()
    assert train(*argv) == 2
    error = capfd.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert error.startswith("pygan: error: ")
    assert not Path("run").exists()
    return error


@pytest.mark.parametrize("gan", ["cyclegan", "bigan", "simgan", "feature_gan", "stargan", "pix2pix", "cogan"])
def test_the_smallest_pictures_are_translated(gan, tmp_path):
    assert train(gan, "--max-steps", "1") == 0
    (tmp_path / "in").mkdir()
    sizes = [(2, 2), (3, 5), (4, 4), (8, 8), (50, 3)]
    for width, height in sizes:
        Image.new("RGB", (width, height), (90, 30, 200)).save(tmp_path / "in" / f"{width}x{height}.png")
    to = ["--to", "Male"] if gan == "stargan" else []
    assert main(["translate", "run", "in", "-o", "out", "--device", "cpu", *to]) == 0
    assert {Image.open(path).size for path in (tmp_path / "out").iterdir()} == set(sizes)


def test_labels_that_cannot_be(sets, capfd):
    assert "--data-2" in fails(capfd, "stargan", "--labels-2", "a,b")
    assert "--cls-mode" in fails(capfd, "stargan", "--data", sets / "faces", "--cls-mode", "single")
    assert "--attrs" in fails(capfd, "stargan", "--data", sets / "classes", "--attrs", "Male")
    assert "trainA" in fails(capfd, "stargan", "--data", sets / "seasons")
    both = ["--data", sets / "classes", "--data-2", sets / "faces", "--attrs", " Male , Young"]
    assert train("stargan", *both, "--max-steps", "1") == 0


@pytest.mark.parametrize("pre_crop", ["0", "1", "1x9+0+0", "9x1+0+0", "３０", "30x20"])
def test_cuts_that_leave_nothing(sets, capfd, pre_crop):
    error = fails(capfd, "began", "--data", sets / "faces", "--pre-crop", pre_crop)
    assert "at least" in error or "must be" in error


@pytest.mark.parametrize("what", ["nested", "no length"])
def test_embeddings_that_say_too_much_or_nothing(sets, tmp_path, capfd, what):
    shutil.copytree(sets / "cub", tmp_path / "cub")
    nested = b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))
    content = b"\x80\x02]q\x00" + nested + b"." if what == "nested" else pickle.dumps(np.array(1.5))
    (tmp_path / "cub" / "birds" / "train" / "char-CNN-RNN-embeddings.pickle").write_bytes(content)
    assert "embeddings of" in fails(capfd, "stackgan", "--data", tmp_path / "cub" / "birds")


def test_a_text_model_that_is_not_here(capfd, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = fails(capfd, "stackgan", "--text-encoder", "no/such-model")
    assert "sentence-transformers" in error or "none is fetched" in error


def test_a_sentence_of_nothing(capfd):
    assert train("stackgan", "--max-steps", "1") == 0
    capfd.readouterr()
    assert main(["sample", "run", "-o", "out.png", "--text", " "]) == 2
    assert "--text" in capfd.readouterr().err
    assert not Path("out.png").exists()


@pytest.mark.parametrize("modern", [True, False])
def test_damaged_files_of_weights_are_said(tmp_path, modern):
    tensors = {f"features.{i}.weight": torch.ones(3, 3) for i in range(4)}
    torch.save(tensors, tmp_path / "whole.pth", _use_new_zipfile_serialization=modern)
    whole, draw, damaged = (tmp_path / "whole.pth").read_bytes(), random.Random(0), 0
    for _ in range(150):
        content = bytearray(whole)
        if draw.random() < 0.3:
            content = content[: draw.randrange(len(content))]
        else:
            for _ in range(draw.choice((1, 3, 10))):
                content[draw.randrange(min(600, len(content)))] = draw.randrange(256)
        (tmp_path / "a.pth").write_bytes(content)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", ResourceWarning)  # of whatever is collected in this moment
            try:
                read_torch(tmp_path / "a.pth")
            except (Damaged, pickle.UnpicklingError):
                damaged += 1
        assert [str(one.message) for one in told] == []
    assert damaged > 50


def test_files_that_a_run_was_trained_with_are_found_from_anywhere(tmp_path, monkeypatch):
    """Stage I and the weights of VGG-16 were named by relative paths."""
    common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard"]
    assert main(["train", "stackgan", *common, "--stage", "1", "--crop-size", "16", "--run", "one"]) == 0
    second = ["--stage", "2", "--stage1", "one", "--run", "two"]
    assert main(["train", "stackgan", *common, *second, "--max-steps", "2"]) == 0
    channels, names, c = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512), (0, 2, 5, 7, 10, 12, 14, 17, 19, 21), 3
    weights = {}
    for c_next, name in zip(channels, names, strict=True):
        weights |= {f"features.{name}.weight": torch.full((c_next, c, 3, 3), 0.01)}
        weights |= {f"features.{name}.bias": torch.zeros(c_next)}
        c = c_next
    torch.save(weights, "vgg.pth")
    vgg = ["--features", "vgg16", "--vgg-weights", "vgg.pth", "--feature-size", str(feature_model.MULTIPLE)]
    assert main(["train", "feature_gan", *common, *vgg, "--run", "vgg", "--max-steps", "1"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "feature_gan", "--run", "../vgg", "--device", "cpu", "--max-steps", "2"]) == 0
    assert main(["train", "stackgan", "--run", "../two", "--device", "cpu", "--max-steps", "3"]) == 0
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert main(["train", "stackgan", "--run", "../two", "--device", "cpu", "--stage1", "../moved"]) == 0


@pytest.mark.parametrize("steps", ["2", "1000"])
def test_data_that_moved_is_told_once(sets, tmp_path, capfd, steps):
    """Of a run that goes on, and of one that is finished."""
    shutil.copytree(sets / "seasons", tmp_path / "here")
    assert train("cyclegan", "--data", "here", "--max-steps", steps) == 0
    shutil.move(tmp_path / "here", tmp_path / "there")
    capfd.readouterr()
    assert main(["sample", "run", "-o", "a.png", "--device", "cpu"]) == 2
    error = capfd.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "pygan train cyclegan --run run --data DIR" in error
    go_on = ["train", "cyclegan", "--run", "run", "--device", "cpu"]
    assert main([*go_on, "--data", "there", "--max-steps", "3"]) == 0
    assert main([*go_on, "--max-steps", "4"]) == 0
    assert main(["sample", "run", "-o", "a.png", "--device", "cpu"]) == 0


def test_check_says_what_an_unpaired_set_lacks(sets, tmp_path, capfd):
    shutil.copytree(sets / "seasons", tmp_path / "set")
    for path in (tmp_path / "set" / "testA").iterdir():
        path.unlink()
    capfd.readouterr()
    assert main(["data", "check", "set"]) == 2
    said = "".join(capfd.readouterr())
    assert "testA" in said
    assert "pair" not in said.replace("unpaired", "")


def test_an_imported_network_is_shown_but_not_trained(sets, tmp_path, capfd):
    """Of one direction, from a file of the shapes of the peers' U-Net."""
    from pygan import checkpoint, gans, resume
    from pygan.rundir import RunDir
    from pygan.state import State

    gan = gans.load("cyclegan")
    recipe = gan.resolve(gan.Recipe(**gan.PRESETS["tiny"], learned="AtoB", data=str(sets / "seasons")))
    state = gan.build(recipe, "cpu")
    run_dir = RunDir(tmp_path / "run").open()
    checkpoint.save(run_dir.checkpoints, State(nets={"G": state.G}, opts={}), {}, {"finished": True})
    resume.write_recipe(run_dir, {"gan": "cyclegan", "preset": "imported", "imported": ["a.pth"]}, recipe, recipe)
    run_dir.close()
    assert main(["sample", "run", "-o", "a.png", "--device", "cpu"]) == 0
    assert main(["translate", "run", str(sets / "seasons" / "testA"), "-o", "out", "--device", "cpu"]) == 0
    capfd.readouterr()
    assert main(["train", "cyclegan", "--run", "run", "--device", "cpu"]) == 2
    assert "was imported" in capfd.readouterr().err
    assert main(["train", "cyclegan", "--preset", "tiny", "--learned", "AtoB", "--run", "new", "--device", "cpu"]) == 2
    assert "--learned" in capfd.readouterr().err
    assert not Path("new").exists()


def test_both_stages_are_in_the_table_of_kernels(capfd):
    assert main(["doctor", "--kernels", "stackgan", "--preset", "tiny"]) == 0
    first, second = capfd.readouterr().out.split("phase 2 of 2")
    assert "phase 1 of 2" in first
    assert "2x3x16x16" in first
    assert "2x3x32x32" not in first
    assert "2x3x32x32" in second


def test_two_sets_need_two(capfd):
    assert "--data-2" in fails(capfd, "stargan", "--joint")


def test_sets_without_pairs_are_not_cut_in_halves(sets, capfd):
    assert "list_attr_celeba.txt" in fails(capfd, "pix2pix", "--data", sets / "faces")
    assert train("pix2pix", "--data", sets / "faces", "--input-transform", "grey", "--max-steps", "1") == 0
