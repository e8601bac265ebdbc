"""`pygan compare`: what differs, curves, the same pictures through each, measures; of one GAN and of several."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pygan.__main__ import main
from pygan.compare import inputs, sections
from pygan.report import record
from pygan.rundir import read_metrics

TINY = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--log-every-images", "4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of pix2pix with one name, a CycleGAN of the same pictures, and a GAN from noise."""
    root = tmp_path_factory.mktemp("compare")
    made = {
        "a": ("pix2pix", root / "a" / "run", ["--lambda-l1", "10"]),
        "b": ("pix2pix", root / "b" / "run", ["--lr", "0.001", "--max-steps", "8"]),
        "cyclegan": ("cyclegan", root / "cyclegan", ["--max-steps", "4"]),
        "dcgan": ("dcgan", root / "dcgan", ["--max-steps", "2"]),
    }
    for gan, path, more in made.values():
        assert main(["train", gan, *TINY, *more, "--run", str(path)]) == 0
    return {name: path for name, (_, path, _) in made.items()}


def compare(*argv):
    """Write a page; its text."""
    out = Path("compare.html")
    assert main(["compare", *map(str, argv), "--device", "cpu", "-o", str(out)]) == 0
    return out.read_text()


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fails(capfd, *argv):
    """Must end with 2 and one line on stderr. Returns the line."""
    assert main(["compare", *map(str, argv)]) == 2
    error = capfd.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return error


def records(*paths):
    return dict(zip(sections.names(paths), map(record.read, paths), strict=True))


def test_names_tell_runs_apart(tmp_path):
    assert sections.names([tmp_path / "x" / "run", tmp_path / "y" / "run"]) == ["x/run", "y/run"]
    assert sections.names([tmp_path / "x", tmp_path / "y"]) == ["x", "y"]
    assert sections.names([tmp_path / "p" / "x" / "r", tmp_path / "q" / "x" / "r"]) == ["p/x/r", "q/x/r"]


def test_only_what_differs(runs):
    rows, only = sections.difference_rows(records(runs["a"], runs["b"]))
    found = {re.sub("<.*?>", "", row["flag"]): (row["run 0"], row["run 1"]) for row in rows}
    assert found == {"--lambda-l1": ("10", "100"), "--lr": ("0.0002", "0.001")}
    assert only == []
    often = records(runs["a"], runs["b"])
    next(iter(often.values())).recipe["sample_every_images"] = 7  # of the session: behind what makes numbers differ
    assert [re.sub("<.*?>", "", row["flag"]) for row in sections.difference_rows(often)[0]][
        -1
    ] == "--sample-every-images"
    rows, only = sections.difference_rows(records(runs["a"], runs["cyclegan"]))
    flags = {re.sub("<.*?>", "", row["flag"]): (row["run 0"], row["run 1"]) for row in only}
    assert flags["--lambda-l1"] == ("10", "–")
    assert flags["--lambda-a"] == ("–", "10")
    assert not flags.keys() & {re.sub("<.*?>", "", row["flag"]) for row in rows}


def test_the_same_inputs_go_through_networks_of_two_gans(runs):
    names = {name: runs[name] for name in ("a", "b", "cyclegan", "dcgan")}
    found = inputs.of(names, "last", "cpu", 2)
    assert list(found.left_out) == ["dcgan"]
    assert "noise" in found.left_out["dcgan"]
    assert len(found.rows) == 1  # eight pictures to train, one held out
    images, far = found.rows[0]
    assert list(images) == ["input", "a", "b", "cyclegan", "target"]
    assert set(far) == {"a", "b", "cyclegan"}
    assert {image.size for image in images.values()} == {(32, 32)}
    # The same as `translate` makes of the very picture, which comes from the run's own held-out items.
    images["input"].save("input.png")
    for name in ("a", "cyclegan"):
        way = ["--direction", "BtoA"] if name == "cyclegan" else []  # pix2pix goes from labels, B, to photos
        assert main(["translate", str(runs[name]), "input.png", "-o", name, "--device", "cpu", *way]) == 0
        from PIL import Image, ImageChops

        with Image.open(f"{name}/input.png") as made:
            assert ImageChops.difference(made.convert("RGB"), images[name].convert("RGB")).getextrema() == ((0, 0),) * 3


def test_a_run_that_cannot_take_part_is_named(runs, tmp_path):
    bare = shutil.copytree(runs["b"], tmp_path / "bare")
    shutil.rmtree(bare / "checkpoints")
    found = inputs.of({"bare": bare, "a": runs["a"]}, "last", "cpu", 1)
    assert "no readable checkpoint" in found.left_out["bare"]
    assert "of a" in found.words
    assert list(found.rows[0][0]) == ["input", "a", "target"]


def test_the_data_of_another_run_is_taken_where_the_first_has_none(runs, tmp_path):
    moved = shutil.copytree(runs["a"], tmp_path / "moved")
    facts = json.loads((moved / "recipe.json").read_text())
    facts["recipe"]["data"] = str(tmp_path / "gone")
    (moved / "recipe.json").write_text(json.dumps(facts))
    found = inputs.of({"moved": moved, "b": runs["b"]}, "last", "cpu", 1)
    assert list(found.rows[0][0]) == ["input", "moved", "b", "target"]
    assert found.left_out == {}


def test_other_channels_and_directions_do_not_fit(runs):
    for name, flags in {"grey": ["--input-transform", "grey"], "colour": ["--direction", "AtoB"]}.items():
        assert main(["train", "pix2pix", *TINY, *flags, "--max-steps", "1", "--run", name]) == 0
    found = inputs.of({"colour": Path("colour"), "grey": Path("grey"), "a": runs["a"]}, "last", "cpu", 1)
    assert found.left_out["grey"] == "it takes pictures of 1 channels, the inputs have 3"
    assert found.left_out["a"] == "it goes BtoA, the inputs are those of AtoB"
    assert list(found.rows[0][0]) == ["input", "colour", "target"]


def test_gans_from_noise_are_shown_beside_each_other(runs, tmp_path):
    other = shutil.copytree(runs["dcgan"], tmp_path / "other")
    text = compare(runs["dcgan"], other)
    assert "None of them translates" in text
    assert "The recipes are equal" in text


def test_the_best_value_of_each_measure_is_marked(runs, tmp_path):
    better = shutil.copytree(runs["a"], tmp_path / "better")
    scores = json.loads((better / "scores.json").read_text())
    first = next(iter(scores["scores"].values()))
    first["l1"], first["ssim"] = 0.25, 0.0001
    (better / "scores.json").write_text(json.dumps(scores))
    evaluation = {"ways": {"output": {"scores": {"fid": {"value": 12.5}}}}}
    (better / "evaluation.json").write_text(json.dumps(evaluation))
    text = compare(better, runs["a"], "--inputs", 0)
    table = text[text.index('id="metrics"') :]
    marked = re.findall(r'<td class="n best">([^<]*)', table)
    assert "0.25" in marked  # lower is better
    assert "0.0001" not in marked  # higher is
    assert "FID ↓" in table


def test_the_page_in_a_browser(runs, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    compare(runs["a"], runs["b"], runs["cyclegan"], runs["dcgan"])
    browser.requests()
    browser.get(Path("compare.html").resolve().as_uri())
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    assert [url for url in browser.requests() if "compare.html" not in url] == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    charts = browser.find_elements("css selector", ".chart")
    assert all(chart.get_attribute("data-drawn") for chart in charts)

    loss = next(chart for chart in charts if chart.text.startswith("loss/G\n"))
    names = [button.text for button in loss.find_elements("css selector", ".legend button")]
    assert names == [
        "a/run",
        "b/run",
        next(n for n in names if "cyclegan" in n),
        next(n for n in names if "dcgan" in n),
    ]
    canvas = loss.find_element("css selector", ".over")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser, duration=0).move_to_element_with_offset(canvas, -int(canvas.size["width"] * 0.3), 0).perform()
    head, *lines = loss.find_element("css selector", ".tip").text.splitlines()
    images = int(re.search(r"images ([\d,]+)", head)[1].replace(",", ""))
    shown = dict(line.split()[:2] for line in lines)
    for name in ("a", "b"):
        row = next(row for row in read_metrics(runs[name]) if row["images"] == images)
        assert float(shown[f"{name}/run"]) == pytest.approx(row["loss/G"], rel=1e-5)

    slider = browser.find_element("css selector", ".timeline input")
    lanes = browser.find_elements("css selector", ".lanes figure")
    assert len(lanes) == 4
    slider.send_keys(Keys.END)
    notes = [lane.find_element("css selector", "span").text for lane in lanes]
    assert notes[0] == ""  # the longest run is at its end
    assert notes[1].startswith("at ")
    rows = browser.find_elements("css selector", "#the-same-inputs .pictures")
    assert rows[0].find_element("tag name", "figcaption").text == "input"


def test_bad_wishes_are_refused_in_one_line(runs, tmp_path, capfd):
    assert "two runs or more" in fails(capfd, runs["a"])
    assert "named twice" in fails(capfd, runs["a"], runs["b"], runs["a"])
    assert "not a run directory" in fails(capfd, runs["a"], tmp_path)
    assert "at least 0" in fails(capfd, runs["a"], runs["b"], "--inputs", "-2")
    assert "name it x.html" in fails(capfd, runs["a"], runs["b"], "-o", "x.png")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_was_asked_for_must_be_there(runs, capfd):
    assert "no checkpoint 'nope'" in fails(capfd, runs["a"], runs["b"], "--checkpoint", "nope", "-o", "out.html")
    assert not Path("out.html").exists()
