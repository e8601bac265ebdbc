"""`pygan plan` as it is typed, and `pygan train --recipe` of what it writes."""

import json

import pytest

from pygan.__main__ import main
from pygan.plan import make
from pygan.plan.measure import Measured
from pygan.rundir import read_facts

TINY = ["--preset", "tiny", "--device", "cpu", "--no-measure"]


@pytest.fixture(autouse=True)
def no_child(request, monkeypatch):
    """Only the test of measuring starts a process, which takes seconds."""
    if "measured" not in request.node.name:
        monkeypatch.setattr(make, "measure", lambda *args, **options: Measured(300 << 20, 2.0, 1))


def test_it_says_memory_and_disk_in_a_table_and_a_line(capsys):
    assert main(["plan", "dcgan", *TINY]) == 0
    out = capsys.readouterr().out
    for word in ("weights", "optimizer", "process and libraries", "peak", "checkpoints", "held out"):
        assert word in out
    assert "train it: pygan train dcgan --preset tiny" in out
    assert "note: no step was measured" in out


def test_what_it_writes_is_trained(tmp_path, capsys):
    file = tmp_path / "plan.json"
    flags = ["--batch", "3", "--steps", "2", "--no-tensorboard", "--ema-half-life-images", "20"]
    assert main(["plan", "dcgan", *TINY, *flags, "-o", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["gan"] == "dcgan"
    assert written["recipe"]["batch"] == 3
    assert written["plan"]["peak_bytes"] > 0
    assert main(["train", "dcgan", "--recipe", str(file), "--device", "cpu", "--run", str(tmp_path / "run")]) == 0
    assert (
        main(["train", "dcgan", "--preset", "tiny", *flags, "--device", "cpu", "--run", str(tmp_path / "typed")]) == 0
    )
    assert read_facts(tmp_path / "run")["recipe"] == read_facts(tmp_path / "typed")["recipe"]
    assert main(["train", "cyclegan", "--recipe", str(file), "--device", "cpu", "--run", str(tmp_path / "no")]) == 2
    capsys.readouterr()


def test_json_is_json(capsys):
    assert main(["plan", "dcgan", *TINY, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["phases"][0]["parameters"]["G"] > 0
    assert told["plan"]["total_s"] is None


def test_time_is_measured(capsys):
    assert main(["plan", "dcgan", "--preset", "tiny", "--device", "cpu", "--seconds", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["plan"]
    assert told["total_s"] > told["phases"][0]["step_s"] > 0
    assert told["phases"][0]["memory"]["measured"]


def test_a_fitting_recipe_is_left_as_it_is(capsys):
    assert main(["plan", "dcgan", *TINY, "--fit", "64GB"]) == 0
    assert "1. as it is" in capsys.readouterr().out


def test_nothing_fits(tmp_path, capsys):
    file = tmp_path / "plan.json"
    assert main(["plan", "dcgan", *TINY, "--fit", "10MB", "-o", str(file)]) == 2
    error = capsys.readouterr().err.strip()
    assert "nothing fits into" in error
    assert "the least that is known of dcgan is" in error
    assert error.count("\n") == 0
    assert not file.exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--fit", "much"], "--fit must be a size"),
        (["--within", "soon"], "--within must be a time"),
        (["--within", "3h"], "--within needs the time of a step"),
        (["--seconds", "0"], "--seconds must be more than 0"),
        (["--preset", "none"], "unknown preset"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["-o", "nowhere/plan.json"], "cannot write"),
        (["--data", "nowhere"], "nowhere"),
        (["--recompute"], "--recompute"),
    ],
)
def test_what_cannot_be_planned(flags, says, capsys):
    assert main(["plan", "dcgan", *TINY, *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert says in error[0]


def test_an_unknown_gan(capsys):
    assert main(["plan", "gone"]) == 2
    assert "invalid choice" in capsys.readouterr().err


def test_help_lists_the_recipe(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "stargan", "--help"])
    out = capsys.readouterr().out
    assert "--fit SIZE" in out
    assert "--ngf N" in out
    assert "--recompute" in out
