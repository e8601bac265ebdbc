"""`pygan export`: the file is there when it is proven to be the network, and not before."""

import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from pygan import apply, bundle, export, exported, pixels, use
from pygan.__main__ import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of pix2pix that knows where its pictures are."""
    folder = tmp_path_factory.mktemp("run") / "runs" / "facades"
    assert main(["train", "pix2pix", "--preset", "tiny", "--ngf", "4", "--dropout-levels", "2", "--max-steps", "2",
                 "--device", "cpu", "--no-tensorboard", "--run", str(folder)]) == 0  # fmt: skip
    return folder


def ways(folder, *flags):
    return ["export", str(folder), *map(str, flags)]


def said(capsys):
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_onnx(run, tmp_path, capsys):
    path = tmp_path / "facades.onnx"
    assert main(ways(run, "--to", "onnx", "--dynamic", "-o", path)) == 0
    out, err = said(capsys)
    assert err == ""
    assert "input      image: float32 (batch, 3, height, width)" in out
    assert "input      seed: int64 (2)" in out
    assert "output     float32 (batch, 3, height, width) in [-1, 1]" in out
    assert "kept as the run has them: dropout on" in out
    proof = next(line for line in out.splitlines() if line.startswith("proof"))
    assert "images of held-out inputs (1x32x32, 2x64x32, 3x32x96); tolerance 0.0001" in proof
    assert float(proof.split()[6]) <= 1e-4
    assert list(tmp_path.iterdir()) == [path]

    picture = pixels.of_image(Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)))
    networks = use.load(run, "last", "cpu"), use.network(path)
    (expected,), (got,) = (apply.translated(network, [picture], seed=4) for network in networks)
    assert np.abs(expected.pixels.astype(int) - got.pixels.astype(int)).max() <= 1


def test_a_file_translates_as_the_run_does(run, tmp_path, capsys):
    path = tmp_path / "facades.onnx"
    assert main(ways(run, "--to", "onnx", "-o", path)) == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    for source, name in ((run, "by_run"), (path, "by_file")):
        assert main(["translate", str(source), str(tmp_path / "a.png"), "-o", str(tmp_path / name)]) == 0
    first, second = (np.asarray(Image.open(tmp_path / name / "a.png")).astype(int) for name in ("by_run", "by_file"))
    assert first.shape == (32, 30, 3)
    assert np.abs(first - second).max() <= 1
    Image.fromarray(np.zeros((60, 40, 3), np.uint8)).save(tmp_path / "large.png")
    capsys.readouterr()
    assert main(["translate", str(path), str(tmp_path / "large.png"), "-o", str(tmp_path / "by_file")]) == 2
    assert "60x40 pixels, the file takes 32x32 alone" in said(capsys)[1]


@pytest.mark.parametrize("kind", ["torchscript", "safetensors"])
def test_other_kinds(kind, run, tmp_path, capsys):
    path = tmp_path / f"G{'.ts' if kind == 'torchscript' else '.safetensors'}"
    assert main(ways(run, "--to", kind, "-o", path)) == 0
    assert "proof      largest difference from the run" in said(capsys)[0]
    assert exported.load(path, "cpu").card.gan == "pix2pix"
    assert main(ways(path, "--to", kind, "-o", tmp_path / f"again{path.suffix}")) == (2 if kind == "torchscript" else 0)


def test_frozen_and_half(run, tmp_path, capsys):
    path = tmp_path / "G.onnx"
    assert main(ways(run, "--to", "onnx", "--freeze", "--fp16", "-o", path)) == 0
    out, _ = said(capsys)
    assert "frozen: dropout off; batch statistics: running" in out
    assert "seed" not in out
    assert "tolerance 0.02" in out
    frozen = exported.load(path, "cpu")
    image = torch.zeros((1, 3, 32, 32))
    assert torch.equal(frozen.translate(image, frozen.rng(1)), frozen.translate(image, frozen.rng(2)))


def test_above_the_tolerance_there_is_no_file(run, tmp_path, capsys):
    path = tmp_path / "G.onnx"
    assert main(ways(run, "--to", "onnx", "--tolerance", "1e-12", "-o", path)) == 1
    out, err = said(capsys)
    assert out == ""
    assert err.count("\n") == 1
    assert "more than the tolerance of 1e-12; nothing was written" in err
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"before")
    assert main(ways(run, "--to", "onnx", "--tolerance", "1e-12", "-o", path, "--overwrite")) == 1
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(how, run, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def stop(*_args):
        assert len(list(tmp_path.iterdir())) == 1
        signal.raise_signal(how)

    monkeypatch.setattr("pygan.export.prove.prove", stop)
    monkeypatch.setattr("pygan.export.prove.batch_of", stop)
    for kind in ("safetensors", "hub"):
        assert main(ways(run, "--to", kind, "-o", tmp_path / f"G{export.ENDINGS[kind]}")) == 130
        assert list(tmp_path.iterdir()) == []
        assert said(capsys)[1].startswith("pygan: interrupted; ")
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_came_while_it_was_proven_stays(run, tmp_path, monkeypatch, capsys):
    path, prove = tmp_path / "G.safetensors", export.prove.prove

    def late(*args):
        path.write_bytes(b"another's")
        return prove(*args)

    monkeypatch.setattr("pygan.export.prove.prove", late)
    assert main(ways(run, "--to", "safetensors", "-o", path)) == 2
    assert "is there already" in said(capsys)[1]
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == {path: b"another's"}


def test_what_is_there_stays(run, tmp_path, capsys):
    path = tmp_path / "G.safetensors"
    path.write_bytes(b"mine")
    assert main(ways(run, "--to", "safetensors", "-o", path)) == 2
    assert "is there already; add --overwrite" in said(capsys)[1]
    assert path.read_bytes() == b"mine"
    assert main(ways(run, "--to", "safetensors", "-o", path, "--overwrite")) == 0
    assert len(path.read_bytes()) > 1000


def test_a_link_to_nothing_stays(run, tmp_path, capsys):
    (tmp_path / "G.safetensors").symlink_to(tmp_path / "unplugged" / "G.safetensors")
    assert main(ways(run, "--to", "safetensors", "-o", tmp_path / "G.safetensors")) == 2
    assert "is there already" in said(capsys)[1]
    assert (tmp_path / "G.safetensors").is_symlink()


def test_verbs_of_runs_say_that_a_file_is_none(tmp_path, capsys):
    (tmp_path / "G.onnx").write_bytes(b"anything")
    assert main(["sample", str(tmp_path / "G.onnx"), "-o", str(tmp_path / "images.png")]) == 2
    assert "G.onnx is a file; name the directory of a run" in said(capsys)[1]


def test_data_that_is_gone(run, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    recipe = (moved / "recipe.json").read_text()
    (moved / "recipe.json").write_text(recipe.replace('"data": ""', '"data": "/no/such/place"'))
    assert main(ways(moved, "--to", "safetensors", "-o", tmp_path / "G.safetensors")) == 0
    out, err = said(capsys)
    assert err.count("compared on made-up inputs") == 1
    assert "of made-up inputs" in out


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--to", "onnx", "-o", "G.pt"], "ends in .onnx"),
        (["--to", "onnx", "--size", "33x32"], "--size must be multiples of 32"),
        (["--to", "onnx", "--size", "0x32"], "--size must be multiples of 32"),
        (["--to", "onnx", "--size", "big"], "--size must be HEIGHTxWIDTH"),
        (["--to", "onnx", "--size", "32x32", "--dynamic"], "leave one of them out"),
        (["--to", "onnx", "--batch", "-1"], "--batch must be at least 1"),
        (["--to", "onnx", "--tolerance", "0"], "--tolerance must be more than 0"),
        (["--to", "onnx", "--tolerance", "nan"], "--tolerance must be more than 0"),
        (["--to", "onnx", "--tolerance", "inf"], "--tolerance must be more than 0 and finite"),
        (
            ["--to", "onnx", "--batch", str(10**12)],
            "too little memory to record this; take a smaller --size or --batch",
        ),
        (["--to", "onnx", "--direction", "BtoA"], "goes one way"),
        (["--to", "onnx", "--what", "generate"], "not something that this network of pix2pix does"),
        (["--to", "onnx", "--license", "mit"], "--license belongs to --to hub"),
        (["--to", "safetensors", "--dynamic"], "has no meaning with --to safetensors"),
        (["--to", "hub", "--fp16"], "has no meaning with --to hub"),
        (["--to", "onnx", "--checkpoint", "ghost"], "has no checkpoint 'ghost'"),
    ],
)
def test_what_cannot_be_is_one_line(flags, why, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(ways(run, *flags)) == 2
    out, err = said(capsys)
    assert out == ""
    assert why in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be(run, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "G.safetensors", "/proc/G.safetensors"):
        assert main(ways(run, "--to", "safetensors", "-o", path)) == 2
        _, err = said(capsys)
        assert "cannot write" in err
        assert err.count("\n") == 1
    assert main(ways(tmp_path / "nothing", "--to", "onnx")) == 2
    assert "is not a run directory" in said(capsys)[1]


def test_a_hugging_face_folder(run, tmp_path, capsys):
    folder = tmp_path / "model"
    assert main(ways(run, "--to", "hub", "-o", folder, "--license", "mit")) == 0
    found = exported.load(folder, "cpu")
    image = torch.rand((1, 3, 32, 32))
    expected = use.load(run, "last", "cpu").translate(image)
    assert torch.equal(found.translate(image), expected)


def test_a_folder_is_compared_bit_for_bit_with_the_weights_as_they_are(run, tmp_path, monkeypatch):
    """Packed ones (`nn.pack_`), as a network in use has them, round in another order."""
    seen, equal = [], bundle.writing._prove_equal

    def compared(trained, fresh, batch):
        seen.extend([trained, fresh])
        return equal(trained, fresh, batch)

    monkeypatch.setattr(bundle.writing, "_prove_equal", compared)
    assert main(ways(run, "--to", "hub", "-o", tmp_path / "hub", "--license", "mit")) == 0
    assert [getattr(module, "low", None) for one in seen for module in one.net.modules()].count(None) > 10
    assert not any(getattr(module, "low", None) for one in seen for module in one.net.modules())


def test_the_name_that_a_file_gets(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(ways(run, "--to", "safetensors")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pix2pix-facades.safetensors"]
