"""What must not stop, lose or falsify a run: closed outputs, changed data, damaged files, odd names, wrong numbers."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pygan.__main__ import main
from pygan.rundir import read_metrics

TINY = ["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--no-tensorboard"]


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run stopped at step 9 of 16."""
    path = tmp_path_factory.mktemp("half") / "run"
    assert main([*TINY, "--run", str(path), "--max-steps", "9"]) == 0
    return path


@pytest.fixture
def run(half, tmp_path):
    return shutil.copytree(half, tmp_path / "run")


def photos(folder, count=3, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}{suffix}")
    return folder


def fails(capfd, *argv):
    """Must end with 2; returns what stderr says, whose last line is the error."""
    capfd.readouterr()
    assert main([str(word) for word in argv]) == 2
    error = capfd.readouterr().err
    assert error.strip().splitlines()[-1].startswith("pygan: error: ")
    return error


@pytest.mark.parametrize("how", ["| head -1", "> /dev/full", ">&-"])
def test_an_output_that_goes_away_does_not_stop_training(tmp_path, how):
    words = " ".join([sys.executable, "-m", "pygan", *TINY, "--run", "run"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} {how}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "checkpoints" / "last" / "manifest.json").read_text())["finished"] is True


@pytest.mark.parametrize("change", ["another size", "renamed"])
def test_other_pictures_are_noticed_on_resume(tmp_path, capfd, change):
    photos(tmp_path / "set")
    flags = [*TINY, "--data", "set", "--input-transform", "grey", "--run", "run"]
    assert main([*flags, "--max-steps", "2"]) == 0
    if change == "renamed":
        (tmp_path / "set" / "0.png").rename(tmp_path / "set" / "zero.png")
    else:
        Image.new("RGB", (40, 40), "red").save(tmp_path / "set" / "0.png")
    assert "was trained on other pictures" in fails(capfd, "train", "pix2pix", "--run", "run")


def test_the_same_pictures_at_another_place_go_on(tmp_path, monkeypatch):
    photos(tmp_path / "set")
    assert main([*TINY, "--data", "set", "--input-transform", "grey", "--run", "run", "--max-steps", "2"]) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["train", "pix2pix", "--run", str(tmp_path / "run"), "--max-steps", "3"]) == 0
    (tmp_path / "set").rename(elsewhere / "moved")
    assert main(["train", "pix2pix", "--run", str(tmp_path / "run"), "--data", "moved", "--max-steps", "4"]) == 0


@pytest.mark.parametrize("edit", [
    lambda m: m.update(images_seen="x"), lambda m: m.update(images_seen=True), lambda m: m.pop("files"),
    lambda m: m.update(files=[]), lambda m: m.update(files={}), lambda m: m.pop("steps"),
])  # fmt: skip
def test_a_manifest_of_another_shape_is_a_damaged_checkpoint(run, capfd, edit):
    manifest = run / "checkpoints" / "last" / "manifest.json"
    facts = json.loads(manifest.read_text())
    edit(facts)
    manifest.unlink()
    manifest.write_text(json.dumps(facts))
    assert main(["train", "pix2pix", "--run", str(run)]) == 0
    said = capfd.readouterr().err
    assert "is damaged" in said
    assert "going on from" in said


@pytest.mark.parametrize("key", ["finished", "best", "data", "threads"])
@pytest.mark.parametrize("value", [None, "absent"])
def test_what_the_loop_wants_back_may_be_missing(run, key, value):
    manifest = run / "checkpoints" / "last" / "manifest.json"
    facts = json.loads(manifest.read_text())
    del facts[key]
    if value is None and key != "data":
        facts[key] = None
    manifest.unlink()
    manifest.write_text(json.dumps(facts))
    assert main(["train", "pix2pix", "--run", str(run), "--max-steps", "10"]) == 0


@pytest.mark.parametrize("edit", [
    lambda f: f.pop("asked"), lambda f: f.update(asked=[]), lambda f: f.update(recipe=None), lambda f: f.update(gan=3),
    lambda f: f["recipe"].update(batch="2"), lambda f: f["recipe"].update(batch=2.5),
    lambda f: f["recipe"].update(skips=3), lambda f: f["recipe"].update(amp=1), lambda f: f["recipe"].update(colour=1),
])  # fmt: skip
def test_a_damaged_recipe_is_one_line(run, capfd, edit):
    facts = json.loads((run / "recipe.json").read_text())
    edit(facts)
    (run / "recipe.json").write_text(json.dumps(facts))
    assert "recipe.json" in fails(capfd, "train", "pix2pix", "--run", run)


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\n", b'{"images": "a"}\n', b'{"images": 2'])
def test_rubbish_among_the_metrics_does_not_keep_a_run_from_going_on(run, rubbish):
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(rubbish)
    assert main(["train", "pix2pix", "--run", str(run)]) == 0
    assert read_metrics(run)[-1]["images"] == 32


def test_a_lost_last_checkpoint_is_said(run, tmp_path, capfd):
    shutil.rmtree(run / "checkpoints" / "last")
    photos(tmp_path / "in", 1)
    assert main(["translate", str(run), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    assert "is missing or damaged; using" in capfd.readouterr().err
    assert main(["train", "pix2pix", "--run", str(run), "--max-steps", "9"]) == 0
    assert "going on from" in capfd.readouterr().err


def test_a_run_without_any_checkpoint_begins_again_and_says_so(run, capfd):
    shutil.rmtree(run / "checkpoints")
    assert main(["train", "pix2pix", "--run", str(run), "--max-steps", "1"]) == 0
    assert "has no checkpoint: beginning again" in capfd.readouterr().err
    assert [row["images"] for row in read_metrics(run)] == [2]


def test_a_picture_that_vanishes_during_training_costs_nothing(tmp_path, monkeypatch, capfd):
    from pygan.data.feeds import ResidentFeed
    from pygan.errors import UserError

    plain = ResidentFeed.address

    def address(feed, images_seen):
        if images_seen == 6:
            raise UserError("cannot read 3.png: no such file")
        return plain(feed, images_seen)

    monkeypatch.setattr(ResidentFeed, "address", address)
    assert "cannot read 3.png" in fails(capfd, *TINY, "--run", "run")
    manifest = json.loads((tmp_path / "run" / "checkpoints" / "last" / "manifest.json").read_text())
    assert manifest["images_seen"] == 6


def test_max_steps_that_are_done_train_nothing(run, capfd):
    before = (run / "checkpoints" / "last" / "manifest.json").read_bytes()
    assert main(["train", "pix2pix", "--run", str(run), "--max-steps", "9"]) == 0
    assert "nothing to do" in capfd.readouterr().out
    assert (run / "checkpoints" / "last" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--seed", str(1 << 63)], "--seed"),
        (
            ["--crop-size", "8", "--load-size", "8", "--levels", "3", "--n-layers-d", "0"],
            "--crop-size must be at least 11",
        ),
        (["--ngf", "200000"], "memory"),
        (["--batch", "100000"], "more than the"),
        (["--data", "x" * 300], "File name too long"),
        (["--data", "~nosuchuser/x"], "no folder"),
        (["--data", "a\nb"], "no folder a\\nb"),
    ],
)
def test_numbers_and_paths_that_cannot_be(tmp_path, capfd, flags, says):
    line = fails(capfd, *TINY, "--run", "run", *flags)
    assert says in line
    assert len(line.strip().splitlines()) == 1


def test_names_that_are_no_text(tmp_path):
    photos(tmp_path / "set")
    os.rename(tmp_path / "set" / "1.png", os.fsencode(tmp_path / "set") + b"/t\xff.png")
    flags = ["--data", "set", "--input-transform", "canny", "--run", "run", "--max-steps", "1"]
    assert main([*TINY, *flags]) == 0


@pytest.mark.parametrize("transform", ["canny", "grey", "lab", "mask"])
def test_the_other_direction_of_a_transform_is_used_as_it_was_trained(tmp_path, transform):
    photos(tmp_path / "set")
    flags = ["--data", "set", "--input-transform", transform, "--direction", "BtoA", "--run", "run", "--max-steps", "1"]
    assert main([*TINY, *flags]) == 0
    assert main(["translate", "run", "set", "-o", "out"]) == 0
    with Image.open(tmp_path / "out" / "0.png") as result:
        assert result.size == (40, 40)


def test_labels_of_twelve_planes_are_read_from_their_colours(tmp_path):
    assert main(["data", "make", "facades", "set", "--n", "4", "--size", "36"]) == 0
    flags = ["--input-channels", "12", "--load-size", "36", "--run", "run", "--max-steps", "1"]
    assert main([*TINY, *flags]) == 0
    pair = Image.open(next((tmp_path / "set" / "train").glob("*.png")))
    pair.crop((36, 0, 72, 36)).save(tmp_path / "labels.png")
    assert main(["translate", "run", "labels.png", "-o", "out"]) == 0
    photos(tmp_path / "noise", 1)
    assert main(["translate", "run", "noise", "-o", "out2"]) == 2


def test_an_input_is_never_replaced_and_results_are_never_inputs(run, tmp_path, capfd):
    folder = photos(tmp_path / "in", 2)
    before = (folder / "0.png").read_bytes()
    assert "is one of the inputs" in fails(capfd, "translate", run, folder / "0.png", "-o", folder, "--overwrite")
    assert (folder / "0.png").read_bytes() == before
    for _ in range(2):
        assert main(["translate", str(run), str(folder), "-o", str(folder / "out")]) == 0
    assert sorted(p.name for p in (folder / "out").rglob("*")) == ["0.png", "1.png"]


def test_a_file_that_looks_like_a_flag(run, tmp_path):
    photos(tmp_path / "in", 1)
    (tmp_path / "in" / "0.png").rename(tmp_path / "--da_sh.png")
    assert main(["translate", str(run), "-o", "out", "--", "--da_sh.png"]) == 0
    assert (tmp_path / "out" / "--da_sh.png").exists()
