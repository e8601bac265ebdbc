"""`pygan study`: to its end, stopped, killed and gone on with; what it writes; what a user can do wrong."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent.parent.parent))  # last: the installed pygan, not that of the checkout

from pygan.__main__ import main
from pygan.gans import pix2pix
from pygan.rundir import read_metrics
from pygan.study import lab, measure

FLAGS = ["--preset", "quick", "--size", "16", "--images", "8", "--items", "6", "--epochs", "4", "--lpips", "none"]
FLAGS += ["--set", "ngf=4", "--set", "ndf=4", "--set", "n_layers_d=1", "--variants", "none;all", "--domains", "both"]
FLAGS += ["--device", "cpu"]
STEPS = 8  # of each variant
CLOCK = ("seconds", "seconds_of_training")


def study(out, *more):
    return main(["study", "skips", *(more if more else FLAGS), "--out", str(out)])


def results(out):
    """What was measured, by unit, without the clock."""
    rows = [json.loads(line) for line in (out / lab.RESULTS).read_text().splitlines()]
    return {row["unit"]: {name: value for name, value in row.items() if name not in CLOCK} for row in rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that nothing disturbed."""
    out = tmp_path_factory.mktemp("study") / "whole"
    assert study(out) == 0
    return out


@pytest.fixture
def at_step(monkeypatch):
    """A function that has something happen at the n-th step from now."""

    def arrange(n, act):
        count, plain = [0], pix2pix.step

        def step(*args):
            count[0] += 1
            if count[0] == n:
                act()
            return plain(*args)

        monkeypatch.setattr(pix2pix, "step", step)

    return arrange


def test_it_ends_with_an_answer_a_page_a_table_and_a_picture(whole, capsys):
    assert study(whole, "--device", "cpu") == 0  # finished: nothing is trained, all is said again
    said = capsys.readouterr().out
    assert "images/s" not in said
    assert "With all skips the gap (held-out minus training L1) is" in said
    assert "Each variant was trained once" in said
    page = (whole / "study.html").read_text()
    assert "With all skips the gap" in page
    assert page.count("<svg") == 4
    with open(whole / "study.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["skips-none", "skips-all"]
    found = results(whole)["skips-all"]
    assert float(rows[1]["held_out_l1"]) == pytest.approx(np.mean(found["held_out"]["l1"]), rel=1e-4)
    assert float(rows[1]["without_skip_3_output"]) > 0
    assert "without_skip_1_output" not in {name for name, value in rows[0].items() if value}
    with Image.open(whole / "study.png") as picture:
        assert picture.width >= 1000


def test_the_benchmark_makes_a_table_of_it(whole):
    from benchmarks import study as bench
    from benchmarks import table

    rows = bench.rows(whole, 3.21)
    assert [row.get("variant") for row in rows] == ["no skips", "all skips", None]
    found = results(whole)["skips-all"]
    assert rows[1]["held_out_l1"] == pytest.approx(np.mean(found["held_out"]["l1"]))
    most = max(found["skips"], key=lambda skip: np.mean(found["skips"][skip]["held_out"]["output"]))
    assert rows[1]["most"][0] == int(most)
    older = [row | {"run": "older", "variant": "old"} for row in rows]
    text = "\n".join(table.study_table(json.loads(json.dumps([*older, *rows]))))
    assert "| no skips |" in text
    assert f"skip {most}: " in text
    assert "3.2 minutes for all" in text
    assert "- With all skips the gap" in text
    assert "| old |" not in text
    assert table.study_table([]) == ["not yet run"]


def test_its_numbers_are_those_of_the_runs(whole):
    """Each variant is a run like any other, whose own scores are the means of what the study measured."""
    for unit, found in results(whole).items():
        run = whole / "variants" / unit
        scores = json.loads((run / "scores.json").read_text())["scores"]["pix2pix (this run)"]
        for name, its in (("l1", "l1"), ("ssim", "ssim"), ("edges", "gradient_correlation")):
            assert len(found["held_out"][name]) == 6
            assert np.mean(found["held_out"][name]) == pytest.approx(scores[its], rel=1e-4)
        assert found["images"] == 4 * STEPS
        assert found["kept"] == {"skips-none": [], "skips-all": [1, 2, 3]}[unit]
        assert len(found["other"]["l1"]) == len(found["train"]["l1"]) == 6
        assert read_metrics(run)
    none, both = results(whole)["skips-none"], results(whole)["skips-all"]
    assert both["parameters"] > none["parameters"]
    assert set(both["skips"]) == {"1", "2", "3"}
    assert none["skips"] == {}


def test_the_page_asks_for_nothing_and_fits(whole, browser):
    browser.requests()
    browser.get((whole / "study.html").as_uri())
    assert [url for url in browser.requests() if not url.startswith("file:")] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    for width in (1280, 400):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.execute_script("return [...document.images].every(image => image.complete)")


KILL = """
import os, signal, sys
from pygan.__main__ import main
from pygan.gans import pix2pix
plain, left = pix2pix.step, [int(sys.argv[1])]
def step(*args):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*args)
pix2pix.step = step
main(sys.argv[2:])
"""


def test_a_killed_study_goes_on_to_the_same_numbers(whole, tmp_path):
    out = tmp_path / "study"
    command = [sys.executable, "-c", KILL, str(STEPS + 5), "study", "skips", *FLAGS, "--out", str(out)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert list(results(out)) == ["skips-none"]
    assert study(out, "--device", "cpu") == 0
    assert results(out) == results(whole)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_it_saved(whole, tmp_path, at_step, capsys, name):
    out = tmp_path / "study"
    at_step(STEPS + 3, lambda: os.kill(os.getpid(), getattr(signal, name)))
    assert study(out) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "pygan study" in line or "pygan train" in line]
    (line,) = said[-1:]  # one way to go on, and not that of the variant beside it
    assert line == f"stopped by {name} and saved at 12 images; go on with: pygan study skips --out {out}"
    assert not [line for line in said if "go on with: pygan train" in line]
    assert list(results(out)) == ["skips-none"]
    assert "1 of 2 trainings are done" in (out / "study.html").read_text()
    assert study(out, "--device", "cpu") == 0
    assert results(out) == results(whole)


def test_a_signal_while_measuring_loses_nothing(tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    with monkeypatch.context() as patch:
        patch.setattr(measure, "of_items", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert study(out) == 0
    assert "stopped by SIGTERM; nothing is lost" in capsys.readouterr().out
    assert not (out / lab.RESULTS).exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_network_that_diverges_is_noted_and_the_others_go_on(tmp_path, capsys):
    out = tmp_path / "study"
    flags = [*FLAGS[: FLAGS.index("--variants")], "--lambdas", "1,1e38", "--device", "cpu"]
    assert main(["study", "lambda", *flags, "--out", str(out)]) == 0
    assert "the study goes on without it" in capsys.readouterr().err
    assert {unit: "diverged" in row for unit, row in results(out).items()} == {"l1-1": False, "l1-1e+38": True}
    assert "diverged" in (out / "study.html").read_text()


def test_another_study_is_not_gone_on_with(whole, capsys):
    before = (whole / "study.json").read_bytes()
    for flags, reason in (
        (["skips", "--size", "32"], "--size 16, now it is 32"),
        (["skips", "--set", "ngf=8", "--seeds", "2"], "(and 1 more differ)"),
        (["lambda"], "is a study of skips, not of lambda"),
    ):
        assert main(["study", *flags, "--out", str(whole)]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert "another --out" in error
        assert error.count("\n") == 1
    assert (whole / "study.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["skips", "--size", "17"], "--size 17"),
        (["skips", "--variants", "9"], "--variants must be"),
        (["skips", "--dropout", "x"], "--dropout must be"),
        (["skips", "--set", "nothing=1"], "no field of the recipe"),
        (["skips", "--set", "seed=1"], "has a flag for it"),
        (["skips", "--set", "skips=all"], "the study decides it"),
        (["skips", "--set", "ngf=many"], "int expected"),
        (["skips", "--set", "ngf"], "FIELD=VALUE"),
        (["skips", "--set", "lr=nan"], "finite"),
        (["skips", "--lambdas", "1;2"], "--lambdas must be"),
        (["lambda", "--lambdas=-1"], "--lambdas must be"),
        (["patch", "--fields", "17"], "no patch D sees 17"),
        (["patch", "--fields", "16.5"], "no patch D sees 16.5"),
        (["patch", "--fields", "286"], "no variant is left"),
        (["skips", "--seeds", "0"], "--seeds must be"),
        (["skips", "--items", "1"], "--items must be"),
        (["skips", "--minutes", "nan"], "--minutes must be"),
        (["skips", "--epochs", "0"], "decides the budget"),
        (["skips", "--data", "/nowhere"], "/nowhere"),
        (["skips", "--data", "/tmp", "--images", "4"], "--images is"),
        (["skips", "--other", "seasons"], "--domains"),
        (["skips", "--other", "seasons", "--domains", "both", "--input", "labels"], "single pictures"),
        (["skips", "--other", "shapes:x", "--domains", "both"], "a number expected"),
        (["skips", "--other", "/nowhere", "--domains", "other"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_written(tmp_path, capsys, flags, reason):
    out = tmp_path / "study"
    assert main(["study", *flags, "--preset", "quick", "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "is left out" not in line]
    assert len(lines) == 1
    assert reason in lines[0]
    assert not out.exists()


def test_a_damaged_line_is_measured_again(whole, tmp_path, capsys):
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    lines = (out / lab.RESULTS).read_text().splitlines()
    (out / lab.RESULTS).write_text(lines[0] + "\n" + lines[1][:-20] + "\n")
    assert study(out, "--device", "cpu") == 0
    assert "line 2 cannot be read" in capsys.readouterr().err
    assert results(out) == results(whole)


def test_a_line_of_other_things_than_numbers_is_measured_again(whole, tmp_path, capsys):
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    rows = [json.loads(line) for line in (out / lab.RESULTS).read_text().splitlines()]
    rows[0]["train"]["l1"] = ["x"]
    (out / lab.RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert study(out, "--device", "cpu") == 0
    assert "line 1 cannot be read" in capsys.readouterr().err
    assert results(out) == results(whole)


@pytest.mark.parametrize("damage", [{"seeds": None}, {"items": "x"}, {"set": "x"}])
def test_a_plan_of_other_types_is_damaged(whole, tmp_path, capsys, damage):
    facts = json.loads((whole / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(facts | {"asked": facts["asked"] | damage}))
    assert main(["study", facts["kind"], "--out", str(tmp_path)]) == 2
    assert "study.json is damaged" in capsys.readouterr().err
    facts["variants"][0]["axes"] = {}
    (tmp_path / "study.json").write_text(json.dumps(facts))
    assert main(["study", facts["kind"], "--out", str(tmp_path)]) == 2
    assert "study.json is damaged" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert study(tmp_path / "file" / "study") == 2
    assert "--out" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    assert study(tmp_path / "run") == 2
    assert "holds something else" in capsys.readouterr().err


def test_an_lpips_that_was_asked_for_must_be_there(tmp_path, capsys):
    out = tmp_path / "study"
    flags = [flag if flag != "none" else str(tmp_path / "no.pt") for flag in FLAGS]
    assert main(["study", "skips", *flags, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "no.pt" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_lpips_that_cannot_be_had_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    out = tmp_path / "study"
    flags = [flag if flag != "none" else "alex" for flag in FLAGS]
    assert main(["study", "skips", *flags, "--out", str(out), "--domains", "same", "--epochs", "1"]) == 0
    assert capsys.readouterr().err.count("LPIPS is left out") == 1
    assert "lpips" not in results(out)["skips-all"]["held_out"]
    text = (out / "study.html").read_text()
    assert "Not measured: LPIPS." in text
    assert "LPIPS, training" not in text  # nor an empty column
