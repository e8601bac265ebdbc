"""Every GAN through the command line: trained, stopped, taken up again bit for bit, used; a new one by being there."""

import inspect
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from pygan import gans
from pygan.__main__ import main
from pygan.rundir import read_metrics


@pytest.fixture(scope="module", params=gans.names())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def whole(name, tmp_path_factory):
    """A tiny run from beginning to end."""
    path = tmp_path_factory.mktemp(name) / "run"
    assert train(name, path) == 0
    return path


def train(name, path, *more):
    common = ("--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--log-every-images", "1")
    return main(["train", name, "--run", str(path), *common, *more])


def rows(run):
    return [
        {k: v for k, v in row.items() if k != "images_per_s" and not k.startswith("vital/diversity")}
        for row in read_metrics(run)
    ]  # diversity is measured over the last rows of the same session


def test_a_run_leaves_everything(whole):
    found = rows(whole)
    assert {"loss/G", "loss/D"} <= found[-1].keys()
    assert all(np.isfinite(value) for row in found for value in row.values())
    facts = json.loads((whole / "checkpoints" / "last" / "manifest.json").read_text())
    assert facts["finished"] is True
    assert (whole / "checkpoints" / "best" / "G.safetensors").exists()
    scores = json.loads((whole / "scores.json").read_text())["scores"]
    assert all(np.isfinite(value) for score in scores.values() for value in score.values())
    assert Image.open(max((whole / "samples").glob("*.png"))).size[0] > 50


def test_stopped_at_any_step_it_goes_on_bit_for_bit(name, whole, tmp_path):
    run = tmp_path / "run"
    steps = rows(whole)[-1]["steps"]
    for most in sorted({1, steps // 2, steps - 1} - {0}):  # in every phase of those that have several
        assert train(name, run, "--max-steps", str(most)) == 0
        assert rows(run)[-1]["steps"] == most
    assert train(name, run) == 0
    assert rows(run) == rows(whole)
    files = sorted(path.name for path in (whole / "checkpoints" / "last").glob("*.safetensors"))
    assert files == sorted(path.name for path in (run / "checkpoints" / "last").glob("*.safetensors"))
    for file in files:
        a, b = (load_file(path / "checkpoints" / "last" / file) for path in (whole, run))
        assert a.keys() == b.keys()
        assert [key for key in a if a[key].tobytes() != b[key].tobytes()] == []


@pytest.mark.cuda
def test_on_a_gpu_too(name, tmp_path):
    """One CUDA graph a phase; stopped half-way it goes on bit for bit."""
    a, b = tmp_path / "a", tmp_path / "b"
    on_gpu = ("--device", "cuda", "--deterministic")
    assert train(name, a, *on_gpu) == 0
    steps = rows(a)[-1]["steps"]
    assert train(name, b, *on_gpu, "--max-steps", str(steps // 2)) == 0
    assert train(name, b, *on_gpu) == 0
    assert rows(a) == rows(b)
    assert all(np.isfinite(value) for row in rows(a) for value in row.values())


def test_samples_follow_the_seed(whole, tmp_path, capfd):
    pictures = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}.png"
        assert main(["sample", str(whole), "-o", str(out), "-n", "4", "--seed", str(seed), "--device", "cpu"]) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]


def test_pictures_go_through_it(name, whole, tmp_path, capfd):
    picture = tmp_path / "in" / "grey.png"
    picture.parent.mkdir()
    Image.fromarray(np.arange(50 * 70, dtype=np.uint8).reshape(50, 70)).save(picture)
    code = main(["translate", str(whole), str(picture.parent), "-o", str(tmp_path / "out"), "--device", "cpu"])
    if not hasattr(gans.load(name), "translate"):
        assert code == 2
        assert "translates nothing" in capfd.readouterr().err
    elif "to" in inspect.signature(gans.load(name).translate).parameters:
        assert code == 2  # it has to be told what to
        assert "--to" in capfd.readouterr().err
    else:
        assert code == 0
        assert Image.open(tmp_path / "out" / "grey.png").size == (70, 50)


def test_what_it_cannot_be_asked_is_said(name, whole, tmp_path, capfd):
    gan = gans.load(name)
    takes = inspect.signature(gan.translate).parameters if hasattr(gan, "translate") else {}
    generate = getattr(gan, "generate", None)
    reads = generate is not None and "text" in inspect.signature(generate).parameters
    picture = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(picture)
    out = str(tmp_path / "out.png")
    translate = ["translate", str(whole), str(picture), "-o", str(tmp_path / "o"), "--device", "cpu"]
    wrong = [[*translate, f"--{option}", value] for option, value in (("direction", "BtoA"), ("to", "x"))]
    wrong = [argv for argv, option in zip(wrong, ("direction", "to"), strict=True) if option not in takes]
    wrong += [] if reads else [["sample", str(whole), "-o", out, "--text", "a bird"]]
    wrong += [["sample", str(whole), "-o", out, "--interpolate"]]
    capfd.readouterr()
    for argv in wrong:
        assert main(argv) == 2, argv
        error = capfd.readouterr().err.strip()
        assert len(error.splitlines()) == 1, error


def test_sentences_are_painted(name, whole, tmp_path, capfd):
    generate = getattr(gans.load(name), "generate", None)
    if generate is None or "text" not in inspect.signature(generate).parameters:
        return
    out = tmp_path / "out.png"
    two = ["--text", "a small red circle above a blue square", "--text", "a large green star"]
    for more in (["-n", "3"], ["--interpolate"]):
        assert main(["sample", str(whole), "-o", str(out), "--device", "cpu", *two, *more]) == 0
        assert Image.open(out).size[0] > 50


def test_the_kernels_of_its_step_are_named(name, capfd):
    assert main(["doctor", "--kernels", name, "--preset", "tiny", "--amp"]) == 0
    assert "G." in capfd.readouterr().out
