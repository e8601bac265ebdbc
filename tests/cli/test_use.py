"""`pygan translate`, `pygan sample`, `pygan doctor`: from the run directory alone, on any picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pygan import apply, use
from pygan.__main__ import main
from pygan.gans import pix2pix


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("use") / "run"
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--ema-half-life-images", "8"]
    assert main(["train", "pix2pix", *flags, "--run", str(path)]) == 0
    return path


def picture(path, width, height, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


@pytest.mark.parametrize(("width", "height"), [(32, 32), (100, 70), (33, 31), (5, 3), (2, 64), (257, 40)])
def test_any_size_comes_back_at_its_size(run, tmp_path, width, height):
    file = picture(tmp_path / "in.png", width, height)
    assert main(["translate", str(run), str(file), "-o", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "in.png") as result:
        assert result.size == (width, height)
        assert result.mode == "RGB"


def test_options_are_tried_on_a_picture_that_costs_nothing(run, tmp_path, monkeypatch):
    """A U-Net of 256 pixels, or a search tile by tile, would be busy for long with a large one."""
    sizes, plain = [], pix2pix.translate

    def translate(G, recipe, A, rng):
        sizes.append(tuple(A.shape[2:]))
        return plain(G, recipe, A, rng)

    monkeypatch.setattr(pix2pix, "translate", translate)
    assert main(["translate", str(run), str(picture(tmp_path / "in.png", 96, 64)), "-o", str(tmp_path / "out")]) == 0
    assert sizes == [(32, 32), (64, 96)]


def test_padding_is_reflection():
    row = torch.arange(5.0)[None, None, None]
    assert apply.pad(row, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert apply.pad(row, 8).shape == (1, 1, 8, 8)
    assert apply.pad(apply.pad(row, 8), 8).shape == (1, 1, 8, 8)


def test_files_folders_and_globs_keep_their_shape(run, tmp_path):
    for name in ("set/a.png", "set/deep/b.jpg", "glob/c.png", "glob/d.png", "glob/e.txt", "one.webp"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no picture")
        else:
            picture(tmp_path / name, 20, 20)
    out = tmp_path / "out"
    inputs = [str(tmp_path / "set"), str(tmp_path / "glob" / "*.png"), str(tmp_path / "one.webp")]
    assert main(["translate", str(run), *inputs, "-o", str(out)]) == 0
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*.*"))
    assert found == ["a.png", "c.png", "d.png", "deep/b.png", "one.png"]


def test_names_that_meet_are_told_apart(run, tmp_path):
    for name in ("x/a.png", "y/a.png", "y/a.jpg"):
        picture(tmp_path / name, 16, 16)
    assert main(["translate", str(run), str(tmp_path / "x"), str(tmp_path / "y"), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_picture_does_not_depend_on_its_batch(run, tmp_path):
    for i in range(5):
        picture(tmp_path / "in" / f"{i}.png", 40, 40 + (i > 2))
    for batch in ("1", "4"):
        flags = ["-o", str(tmp_path / batch), "--batch", batch, "--device", "cpu"]
        assert main(["translate", str(run), str(tmp_path / "in"), *flags]) == 0
    for i in range(5):
        alone, together = (np.asarray(Image.open(tmp_path / b / f"{i}.png")).astype(int) for b in "14")
        assert np.abs(alone - together).max() <= 1


def test_the_output_is_the_networks(run, tmp_path):
    file = picture(tmp_path / "in.png", 32, 32)
    assert main(["translate", str(run), str(file), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    trained = use.load(run, "last", "cpu")
    A = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = trained.translate(A, trained.rng(0))[0].permute(1, 2, 0).add(1).mul(127.5).round().numpy()
    assert np.abs(np.asarray(Image.open(tmp_path / "out" / "in.png")) - expected).max() <= 1
    assert (run / "checkpoints" / "last" / "G_ema.safetensors").exists()  # and the average is what is used


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_are_understood(run, tmp_path, mode):
    file = picture(tmp_path / ("in.jpg" if mode == "CMYK" else "in.png"), 24, 24, mode)
    assert main(["translate", str(run), str(file), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "in.png").exists()


def test_a_bad_picture_is_named_and_the_rest_is_done(run, tmp_path, capfd):
    picture(tmp_path / "in" / "good.png", 24, 24)
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "good.png").read_bytes()[:100])
    (tmp_path / "in" / "empty.jpg").write_bytes(b"")
    assert main(["translate", str(run), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    said = capfd.readouterr()
    assert "bad.png" in said.err
    assert "empty.jpg" in said.err
    assert "2 could not be read" in said.out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def test_results_are_not_replaced_unasked(run, tmp_path, capfd):
    file = picture(tmp_path / "in.png", 24, 24)
    argv = ["translate", str(run), str(file), "-o", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "in.png").write_text("mine")
    assert main(argv) == 0
    assert "were left alone" in capfd.readouterr().err
    assert (tmp_path / "out" / "in.png").read_text() == "mine"
    assert main([*argv, "--overwrite"]) == 0
    assert Image.open(tmp_path / "out" / "in.png").size == (24, 24)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gan": "biggan"}, "damaged is a run of 'biggan', which this version of pygan does not know"),
        ({"quantum": 3}, "recipe.json has the recipe field 'quantum', which this version of pygan does not know"),
        ({"lr": float("nan")}, "damaged/recipe.json: --lr must be a finite number, got nan"),
        ({"crop_size": 10**9}, "damaged/recipe.json: --load-size must be at least --crop-size"),
    ],
)
def test_what_is_wrong_with_a_recipe_names_its_file(run, tmp_path, capfd, change, says):
    """Nobody gave the flag that such a line speaks of."""
    facts = json.loads((run / "recipe.json").read_text())
    facts = facts | change if "gan" in change else facts | {"recipe": facts["recipe"] | change}
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "recipe.json").write_text(json.dumps(facts))
    assert main(["sample", str(tmp_path / "damaged"), "-o", str(tmp_path / "x.png")]) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert says in line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["translate", "RUN", "nothing.png", "-o", "out"], "nothing.png: no such picture"),
        (["translate", "no-run", "x.png", "-o", "out"], "no-run is not a run directory: there is nothing of that name"),
        (["translate", "RUN", "x.png"], "-o"),
        (
            ["translate", "RUN", "x.png", "-o", "out", "--checkpoint", "bets"],
            "has no checkpoint 'bets'; there",
        ),
        (["sample", "no-run", "-o", "x.png"], "no-run is not a run directory"),
        (["sample", "RUN", "-o", "x.jpg"], "name it x.png"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, monkeypatch, capfd, argv, says):
    monkeypatch.chdir(tmp_path)
    assert main([str(run) if word == "RUN" else word for word in argv]) == 2
    line = capfd.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert says in line
    assert not list(tmp_path.iterdir())


def test_sample_writes_a_captioned_grid(run, tmp_path):
    assert main(["sample", str(run), "-o", str(tmp_path / "grid.png"), "-n", "1"]) == 0
    width, height = Image.open(tmp_path / "grid.png").size
    assert width > 3 * 90
    assert height > 90


@pytest.mark.parametrize("transform", ["canny", "grey", "lab", "mask"])
def test_a_network_with_an_input_transform_takes_photos(tmp_path, transform):
    for i in range(4):
        picture(tmp_path / "photos" / f"{i}.png", 40, 40)
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--max-steps", "1"]
    where = ["--data", str(tmp_path / "photos"), "--run", str(tmp_path / "run"), "--input-transform", transform]
    assert main(["train", "pix2pix", *flags, *where]) == 0
    file = picture(tmp_path / "in.png", 50, 30)
    assert main(["translate", str(tmp_path / "run"), str(file), "-o", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "in.png") as result:
        assert (result.size, result.mode) == ((50, 30), "RGB")


def test_doctor_reports_as_text_and_as_json(capfd):
    assert main(["doctor"]) == 0
    assert "torch" in capfd.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert {"name", "found", "costs", "remedy"} <= json.loads(capfd.readouterr().out)[0].keys()


@pytest.mark.parametrize(("verb", "kept"), [("train", "last checkpoint"), ("sample", "what was done is kept")])
def test_an_interruption_is_one_line(verb, kept, monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("pygan.__main__._run", interrupted)
    assert main([verb, "x"]) == 130
    error = capsys.readouterr().err
    assert kept in error
    assert error.count("\n") == 1
