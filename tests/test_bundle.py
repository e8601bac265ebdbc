"""A run as a folder for the Hugging Face Hub: complete, proven, read again as the run, and never believed blindly."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
from argparse import ArgumentParser

import numpy as np
import pytest
import torch
from PIL import Image

import pygan
from pygan import bundle, exported, gans, use
from pygan import recipe as recipes
from pygan.__main__ import main
from pygan.bundle import layout, licence, model_card, writing
from pygan.errors import UserError

X = np.random.default_rng(0).integers(0, 256, (30, 37, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A function from the name of a GAN to a tiny run of it."""
    made = {}

    def run(gan):
        if gan not in made:
            made[gan] = tmp_path_factory.mktemp("bundle") / gan
            flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--ema-half-life-images", "8"]
            assert main(["train", gan, *flags, "--run", str(made[gan])]) == 0
        return made[gan]

    return run


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    """A bundle that tests only look at."""
    path = tmp_path_factory.mktemp("hub") / "facades"
    assert main(["export", str(runs("pix2pix")), "--to", "hub", "-o", str(path), "--license", "MIT"]) == 0
    return path


@pytest.fixture
def own(folder, tmp_path):
    """A bundle that a test may damage."""
    return shutil.copytree(folder, tmp_path / "own")


def write(run, path, **more):
    return bundle.write(use.load(run, "last", "cpu"), run, path, **more)


def front_matter(folder):
    """As the Hub's own library reads it, where it is installed."""
    text = (folder / "README.md").read_text()
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(text)
    assert card.text.strip()
    return card.data.to_dict()


# --- what is in it ---


def test_it_is_complete(folder, runs):
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == [
        ".gitattributes", "README.md", "config.json", "model.safetensors", "samples", "samples/0.png"
    ]  # fmt: skip
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # nothing is left beside it
    config = json.loads((folder / "config.json").read_text())
    assert config["card"]["gan"] == config["model_type"] == "pix2pix"
    assert config["versions"]["pygan"] == pygan.__version__
    assert use.Card.from_dict(config["card"], "it").images_seen == 32
    assert "*.safetensors filter=lfs" in (folder / ".gitattributes").read_text()
    with Image.open(folder / "samples" / "0.png") as sheet:
        assert sheet.width > sheet.height


@pytest.mark.parametrize(
    ("gan", "task"),
    [
        ("pix2pix", "image-to-image"),
        ("stargan", "image-to-image"),
        ("began", "unconditional-image-generation"),
        ("cogan", "unconditional-image-generation"),
        ("stackgan", "text-to-image"),
    ],
)
def test_its_page_says_how_to_use_and_to_train_it(runs, tmp_path, gan, task, capsys):
    folder = write(runs(gan), tmp_path / gan, license="cc-by-4.0")
    assert "bit for bit" in capsys.readouterr().out
    data = front_matter(folder)
    assert data["pipeline_tag"] == task
    assert data["library_name"] == "pygan"
    assert data["license"] == "cc-by-4.0"
    assert {"pygan", "gan", gan} <= set(data["tags"])
    page = (folder / "README.md").read_text()
    for heading in ("Use", "Samples", "Metrics", "Recipe", "Limits"):
        assert f"\n## {heading}\n" in page
    assert "![0.png](samples/0.png)" in page
    _try(page, folder, tmp_path)
    assert _trained_by(page, gan) == _numbers(use.load(runs(gan), "last", "cpu").recipe)


def _try(page, folder, tmp_path):
    """Run the commands of the page, with names for what they call FOLDER and the like."""
    Image.fromarray(X).save(tmp_path / "photo.png")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    code = code.replace("FOLDER", str(folder)).replace("photo.png", str(tmp_path / "photo.png"))
    exec(compile(code, "README.md", "exec"), {})
    if command := re.search(r"^pygan (translate .*)$", page, flags=re.MULTILINE):
        words = shlex.split(command[1])
        names = {"FOLDER": folder, "PICTURES": tmp_path / "photo.png", "RESULTS": tmp_path / "out"}
        assert main([str(names.get(word, word)) for word in words]) == 0
        assert (tmp_path / "out" / "photo.png").exists()


def _trained_by(page, gan):
    """The numbers of the recipe that the command of the page stands for."""
    words = shlex.split(re.search(r"^pygan (train .*)$", page, flags=re.MULTILINE)[1])
    assert words[:2] == ["train", gan]
    parser = ArgumentParser()
    recipes.add_flags(parser, gans.load(gan).Recipe)
    return _numbers(gans.load(gan).Recipe(**vars(parser.parse_args(words[2:]))))


def _numbers(recipe):
    session = recipes.session_fields(recipe, recipes.to_dict(recipe))
    return {name: value for name, value in recipes.to_dict(recipe).items() if name not in session}


def test_its_page_survives_foreign_scores(runs, tmp_path):
    run = shutil.copytree(runs("pix2pix"), tmp_path / "run")
    evil = {"a | b\n# <script>`": {"l1\n": 1.0, "text": "no number", "nan": float("nan")}, "list": []}
    for scores in ({"images": 3, "held_out": 2, "scores": evil}, {"scores": evil}, [], {"images": "x"}):
        (run / "scores.json").write_text(json.dumps(scores))
        assert "<script>" not in model_card._metrics(run)
    (run / "scores.json").write_text(json.dumps({"images": 3, "held_out": 2, "scores": {"a|b\n#": {"l1": 1.0}}}))
    assert "| a/b # | 1.000 |" in model_card._metrics(run)


def test_no_path_of_this_machine_is_published(runs, tmp_path):
    run = shutil.copytree(runs("pix2pix"), tmp_path / "run")
    facts = json.loads((run / "recipe.json").read_text())
    facts["recipe"] |= {"data": "/home/me/secret/photos", "eval_features": "inception:/home/me/secret/i.pt"}
    (run / "recipe.json").write_text(json.dumps(facts))
    folder = write(run, tmp_path / "out")
    for path in folder.rglob("*"):
        assert path.is_dir() or b"/home/me" not in path.read_bytes(), path
    assert "a folder named 'photos'" in (folder / "README.md").read_text()


# --- it is the run ---


@pytest.mark.parametrize("gan", ["pix2pix", "stargan", "began", "stackgan"])
def test_read_again_it_is_the_run(runs, tmp_path, gan):
    folder = write(runs(gan), tmp_path / gan)
    run, again = pygan.load(runs(gan), device="cpu"), pygan.load(folder, device="cpu")
    assert again.card.to_dict() == run.card.to_dict() | {"recipe": again.card.recipe}
    if "translate" in run.card.acts:
        to = run.card.options["to"][0] if "to" in run.card.options else None
        assert np.array_equal(run(X, to=to), again(X, to=to))
    else:
        text = {"text": "a red bird"} if "text" in run.card.asks else {}
        assert torch.equal(run.generate(3, **text, as_="torch"), again.generate(3, **text, as_="torch"))


def test_the_average_is_what_is_published(runs, folder):
    files = [p.name for p in (runs("pix2pix") / "checkpoints" / "last").iterdir()]
    assert "G_ema.safetensors" in files
    assert np.array_equal(pygan.load(folder)(X), pygan.load(runs("pix2pix"))(X))


def test_it_is_translated_with_and_its_weights_stand_alone(runs, folder, tmp_path):
    Image.fromarray(X).save(tmp_path / "x.png")
    for name, source in (("run", runs("pix2pix")), ("hub", folder), ("file", folder / "model.safetensors")):
        assert main(["translate", str(source), str(tmp_path / "x.png"), "-o", str(tmp_path / name)]) == 0
    results = {name: (tmp_path / name / "x.png").read_bytes() for name in ("run", "hub", "file")}
    assert results["run"] == results["hub"] == results["file"]


def test_frozen_it_says_so(runs, tmp_path):
    path = tmp_path / "frozen"
    assert main(["export", str(runs("pix2pix")), "--to", "hub", "-o", str(path), "--freeze"]) == 0
    card = pygan.load(path).card
    assert not card.chance
    assert card.statistics == "running"
    assert json.loads((path / "config.json").read_text())["semantics"] == "frozen"
    assert exported.load(path / "model.safetensors").card.to_dict() == card.to_dict()


def test_a_clone_and_a_snapshot_of_the_hub_are_read(folder, tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "origin")]
    shutil.copytree(folder, tmp_path / "origin")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "model"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    clone = ["git", "clone", "-q", str(tmp_path / "origin"), str(tmp_path / "clone")]
    subprocess.run(clone, check=True, capture_output=True)
    assert np.array_equal(pygan.load(tmp_path / "clone")(X), pygan.load(folder)(X))
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"  # as the Hub's cache has it: links to blobs
    for path in (p for p in folder.rglob("*") if p.is_file()):
        link, blob = snapshot / path.relative_to(folder), blobs / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        blobs.mkdir(exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    assert np.array_equal(pygan.load(snapshot)(X), pygan.load(folder)(X))


def test_without_its_data_a_run_is_published_all_the_same(runs, tmp_path, capsys):
    run = shutil.copytree(runs("pix2pix"), tmp_path / "run")
    facts = json.loads((run / "recipe.json").read_text())
    facts["recipe"]["data"] = str(tmp_path / "gone")
    (run / "recipe.json").write_text(json.dumps(facts))
    folder = write(run, tmp_path / "out", license="mit")
    said = capsys.readouterr()
    assert "made-up inputs" in said.err
    assert "made-up inputs" in said.out
    assert not (folder / "samples").exists()
    assert "## Samples" not in (folder / "README.md").read_text()
    assert np.array_equal(pygan.load(folder)(X), pygan.load(run)(X))


# --- the licence ---


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("", {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        (" Apache-2.0 ", {"license": "apache-2.0"}),
        ("openrail++", {"license": "openrail++"}),
        ("Acme-Model-1.0", {"license": "other", "license_name": "acme-model-1.0"}),
        ("all rights reserved", None),
        ("mit\ntags: evil", None),
        ("../../LICENSE", None),
        ("x" * 65, None),
        ("-", None),
    ],
)
def test_a_licence_is_an_identifier(said, fields):
    if fields is None:
        with pytest.raises(UserError, match="--license must be an identifier"):
            licence.fields(said)
    else:
        assert licence.fields(said) == fields


def test_a_missing_licence_is_said(runs, tmp_path, capsys):
    folder = write(runs("pix2pix"), tmp_path / "out")
    err = capsys.readouterr().err
    assert "--license mit" in err
    assert "look at them before you publish" in err
    assert front_matter(folder)["license"] == "unknown"
    other = write(runs("pix2pix"), tmp_path / "other", license="acme-1.0")
    assert front_matter(other) | {"license": "other", "license_name": "acme-1.0"} == front_matter(other)


# --- whole or not at all ---


def test_a_folder_that_is_there_is_left_alone(runs, own, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    (tmp_path / "file").write_text("x")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    for path, words in ((own, "--overwrite"), (tmp_path / "mine", "something else"), (tmp_path / "file", "no folder")):
        with pytest.raises(UserError, match=words):
            write(runs("began"), path)
    for path in (tmp_path / "mine", tmp_path / "file"):
        with pytest.raises(UserError):
            write(runs("began"), path, overwrite=True)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    assert bundle.is_bundle(write(runs("began"), tmp_path / "empty"))


def test_overwriting_keeps_what_is_not_ours(runs, own):
    for name in (".git/HEAD", "LICENSE"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("mine")
    for k in range(3):
        (own / "samples" / f"{k}.png").write_bytes(b"old")
    write(runs("began"), own, overwrite=True)
    assert pygan.load(own).card.gan == "began"
    assert (own / ".git" / "HEAD").read_text() == (own / "LICENSE").read_text() == "mine"
    assert [p.name for p in (own / "samples").iterdir()] == ["0.png"]
    assert [p.name for p in own.parent.iterdir()] == [own.name]


def test_overwriting_stays_in_its_folder(runs, own, tmp_path):
    (own / "samples" / "9.png").write_bytes(b"of a bundle before")
    (own / "samples" / "mine.png").write_bytes(b"mine")
    write(runs("began"), own, overwrite=True)
    assert {path.name for path in (own / "samples").iterdir()} == {"0.png", "mine.png"}
    shutil.move(own / "samples", tmp_path / "album")
    (own / "samples").symlink_to(tmp_path / "album")
    before = {path.name: path.read_bytes() for path in (tmp_path / "album").iterdir()}
    with pytest.raises(UserError, match="samples is a link to another place"):
        write(runs("began"), own, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "album").iterdir()} == before


def _fails(monkeypatch, kind):
    if kind == "weights":  # a file that is not the network

        def changed(trained, path, **more):
            weight = next(iter(trained.net.parameters()))
            with torch.no_grad():
                weight.add_(1e-3)
                write_safetensors(trained, path, **more)
                weight.sub_(1e-3)

        write_safetensors = writing.export.write_safetensors
        monkeypatch.setattr(writing.export, "write_safetensors", changed)
        return UserError, "differ by"
    if kind == "disk":

        def full(*args, **more):
            raise OSError(errno.ENOSPC, "No space left on device", "README.md")

        monkeypatch.setattr(writing.model_card, "text", full)
        return UserError, "No space left"

    def interrupted(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.samples, "write", interrupted)
    return KeyboardInterrupt, None


@pytest.mark.parametrize("kind", ["weights", "disk", "interrupt"])
@pytest.mark.parametrize("there", [False, True])
def test_what_fails_leaves_nothing(runs, own, tmp_path, monkeypatch, kind, there):
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    error, words = _fails(monkeypatch, kind)
    with pytest.raises(error, match=words):
        write(runs("began"), own if there else tmp_path / "new" / "out", overwrite=True)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    assert [p.name for p in (tmp_path / "new").iterdir()] == [] if not there else not (tmp_path / "new").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_where_nothing_can_be_written_is_one_line(runs, tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "out", tmp_path / ("x" * 300), tmp_path / ".."):
        with pytest.raises(UserError) as caught:
            write(runs("began"), path)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "x"


# --- files from anybody ---


def _config(own, **changes):
    facts = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(facts | changes))


def _link(path, target):
    path.unlink()
    path.symlink_to(target)


def _recipe(own, **changes):
    """Other numbers in the recipe that the header of the weights has, and the checksum of that."""
    weights = own / "model.safetensors"
    data = weights.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    card = json.loads(header["__metadata__"]["pygan"])
    header["__metadata__"]["pygan"] = json.dumps(card | {"recipe": card["recipe"] | changes})
    head = json.dumps(header).encode()
    weights.write_bytes(len(head).to_bytes(8, "little") + head + data[end:])
    _config(own, sha256=layout.checksum(weights))


DAMAGE = {
    "no config": (lambda own: (own / "config.json").unlink(), "neither a run directory nor a model"),
    "a folder": (lambda own: ((own / "config.json").unlink(), (own / "config.json").mkdir()), "is a directory"),
    "no JSON": (lambda own: (own / "config.json").write_text("{"), "not JSON"),
    "bytes": (lambda own: (own / "config.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "a list": (lambda own: (own / "config.json").write_text("[]"), "not a JSON object"),
    "deep": (lambda own: (own / "config.json").write_text("[" * 100_000), "not JSON"),
    "huge": (lambda own: (own / "config.json").write_bytes(b" " * (1 << 21)), "more than 1 MiB"),
    "another library": (lambda own: _config(own, library_name="diffusers"), "'diffusers'"),
    "no library": (lambda own: _config(own, library_name=["x" * 10_000]), "not of a model of pygan"),
    "a later format": (lambda own: _config(own, format=2), "format 2"),
    "no sum": (lambda own: _config(own, sha256=None), "checksum differs"),
    "another sum": (lambda own: _config(own, sha256="0" * 64), "checksum differs"),
    "no weights": (lambda own: (own / "model.safetensors").unlink(), "no such file"),
    "cut": (lambda own: os.truncate(own / "model.safetensors", 900), "checksum differs"),
    "an endless config": (lambda own: _link(own / "config.json", "/dev/zero"), "device or a pipe"),
    "endless weights": (lambda own: _link(own / "model.safetensors", "/dev/zero"), "device or a pipe"),
    "a pipe": (lambda own: ((own / "config.json").unlink(), os.mkfifo(own / "config.json")), "device or a pipe"),
    "a loop": (lambda own: _link(own / "config.json", "config.json"), "symbolic links"),
    "a billion levels": (lambda own: _recipe(own, levels=10**9), "at most 256"),
    "a wide network": (lambda own: _recipe(own, ngf=10**9), "makes no network"),
    "another network": (lambda own: _recipe(own, ngf=16), "differs"),
    "a run's recipe": (lambda own: (own / "recipe.json").write_text("[" * 100_000), "recipe.json cannot be read"),
    "a pointer": (
        lambda own: (own / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        ),
        "git lfs pull",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_one_line(own, kind):
    damage, words = DAMAGE[kind]
    damage(own)
    with pytest.raises(UserError) as caught:
        pygan.load(own)
    assert words.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_config_cannot_change_what_is_built(own):
    """Its card is for others: the network is what the header of the weights says, which the checksum holds."""
    _config(own, card={"gan": "../../evil", "recipe": {"ngf": 10**9}})
    assert pygan.load(own).card.gan == "pix2pix"
    (own / "model.safetensors").write_bytes(b"not weights")
    _config(own, sha256=layout.checksum(own / "model.safetensors"))
    with pytest.raises(UserError, match="not a readable safetensors file"):
        pygan.load(own)
