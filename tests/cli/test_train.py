"""`pygan train` from outside: what it writes, what it says, and how it takes bad input."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from pygan import heldout, judge, use
from pygan.__main__ import main
from pygan.errors import UserError
from pygan.gans import pix2pix
from pygan.rundir import read_metrics

TINY = ["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--no-tensorboard"]


def without_clock(row):
    """A row but for its speed, and for diversity, which is measured over the last rows of the same session."""
    return {k: v for k, v in row.items() if k != "images_per_s" and not k.startswith("vital/diversity")}


def pygan(*argv, **kwargs):
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pygan", *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **kwargs,
    )


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One finished tiny run for the tests that only look."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert main([*TINY[:-1], "--run", str(path), "--log-every-images", "2"]) == 0
    return path


def fails(capfd, *argv):
    """Run in-process; must end with 2 and one line on stderr. Returns the line."""
    assert main([str(word) for word in argv]) == 2
    error = capfd.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert error.startswith("pygan: error: ")
    return error


def same_bits(run, other):
    """Every row but for the clock, every weight, moment and random number of the two is the same."""
    rows = [[without_clock(row) for row in read_metrics(p)] for p in (run, other)]
    assert rows[0] == rows[1]
    for name in ("G", "D", "state"):
        a, b = (load_file(p / "checkpoints" / "last" / f"{name}.safetensors") for p in (run, other))
        assert a.keys() == b.keys()
        assert [key for key in a if a[key].tobytes() != b[key].tobytes()] == []


def pairs(folder, count=4, size=(48, 24), split="train"):
    """Side-by-side JPEG pairs of noise."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    for i in range(count):
        pixels = noise.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / f"{i}.jpg")
    return folder


def test_a_run_directory_explains_itself(trained):
    facts = json.loads((trained / "recipe.json").read_text())
    assert facts["gan"] == "pix2pix"
    assert facts["recipe"]["crop_size"] == 32
    rows = read_metrics(trained)
    assert [row["images"] for row in rows] == list(range(2, 33, 2))
    assert {"loss/G", "loss/D", "logit/real", "logit/fake", "lr", "epoch", "images_per_s"} <= rows[-1].keys()
    for name in ("last", "previous", "best"):
        assert (trained / "checkpoints" / name / "G.safetensors").exists()
    assert Image.open(trained / "samples" / "images-000000032.png").size[0] > 90
    assert list(trained.glob("events.out.tfevents.*"))


def test_tensorboard_reads_the_events(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained)).Reload()
    scalars = {event.step: event.value for event in events.Scalars("loss/G_l1")}
    rows = {row["images"]: row["loss/G_l1"] for row in read_metrics(trained)}
    assert scalars == pytest.approx(rows)
    assert "samples" in events.Tags()["images"]


def test_the_final_table_and_where_everything_lies(tmp_path):
    done = pygan(*TINY, "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for word in (
        "L1",
        "PSNR",
        "SSIM",
        "mean image",
        "copy of the input",
        "median colour of each label",
        "pygan translate",
    ):
        assert word in done.stdout
    assert done.stderr == ""


def test_an_interrupted_run_goes_on_bit_for_bit(trained, tmp_path):
    flags = [*TINY, "--run", str(tmp_path / "run"), "--log-every-images", "2"]
    for steps in (3, 4, 9):
        assert main([*flags, "--max-steps", str(steps)]) == 0
    assert main(["train", "pix2pix", "--run", str(tmp_path / "run"), "--device", "cpu"]) == 0  # no flag is repeated
    same_bits(tmp_path / "run", trained)


@pytest.mark.cuda
@pytest.mark.parametrize("amp", [(), ("--amp", "--amp-dtype", "fp16")], ids=["float32", "fp16"])
def test_an_interrupted_run_on_a_gpu_goes_on_bit_for_bit(tmp_path, amp):
    """With --deterministic, from process to process, and with one CUDA graph a step as without."""
    start = [*TINY[:4], "--device", "cuda", "--deterministic", "--no-tensorboard", "--log-every-images", "2", *amp]
    runs = {
        "whole": [[*start, "--graph", "auto"]],
        "halves": [[*start, "--graph", "auto", "--max-steps", "7"], [*start, "--graph", "auto"]],
        "plain": [[*start, "--graph", "off"]],
        "plain halves": [[*start, "--graph", "off", "--max-steps", "7"], [*start, "--graph", "off"]],
    }
    for name, commands in runs.items():
        for command in commands:
            done = pygan(*command, "--run", tmp_path / name)
            assert done.returncode == 0, done.stderr
            assert ("capturing the step" in done.stdout) == ("plain" not in name)
    for name in ("halves", "plain", "plain halves"):
        same_bits(tmp_path / name, tmp_path / "whole")


def test_sigterm_saves_and_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "pygan",
            *TINY,
            "--run",
            str(tmp_path / "run"),
            "--epochs",
            "5000",
            "--log-every-images",
            "2",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        pass
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped by SIGTERM and saved at" in out
    assert f"pygan train pix2pix --run {tmp_path / 'run'}" in out
    manifest = json.loads((tmp_path / "run" / "checkpoints" / "last" / "manifest.json").read_text())
    assert manifest["images_seen"] == read_metrics(tmp_path / "run")[-1]["images"]


def test_twenty_kills(tmp_path):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent.parent / "kill_resume.py"), "--kills", "20"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 kills" in done.stdout


def test_dry_run_writes_nothing(tmp_path, capfd):
    assert main([*TINY, "--dry-run"]) == 0
    assert "nothing was written" in capfd.readouterr().out
    assert not list(tmp_path.iterdir())


def test_help_shows_defaults_with_units():
    done = pygan("train", "pix2pix", "--help")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert "(default: 256 pixels)" in text
    assert "--lambda-l1 X" in text
    assert "(default: 0.0002)" in text


def test_underscored_flags_are_understood(tmp_path, capfd):
    assert main([*TINY, "--lambda_l1=7", "--dry-run"]) == 0
    assert "lambda_l1                 7.0" in capfd.readouterr().out


# Bad input: one line, exit code 2, nothing written or lost.


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "pix2pix", "--preset", "tinny"], "unknown preset 'tinny': choose one of"),
        (["train", "pix3pix"], "pix3pix"),
        ([*TINY, "--colour", "red"], "--colour"),
        ([*TINY, "--batch", "x"], "invalid int value: 'x'"),
        ([*TINY, "--batch", "0"], "--batch must be at least 1"),
        ([*TINY, "--crop-size", "33"], "--crop-size"),
        ([*TINY, "--data", "nowhere"], "nowhere"),
        ([*TINY, "--max-steps", "0"], "--max-steps must be a whole number, at least 1"),
        ([*TINY, "--steps", "1000"], "the learning rate is 0 long before: after --epochs 2 and --decay-epochs 2"),
        ([], "VERB"),
    ],
)
def test_wrong_words(argv, says, capfd, tmp_path):
    assert says in fails(capfd, *argv)
    assert not list(tmp_path.iterdir())


def test_no_gpu(capfd, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda: " in fails(capfd, *TINY[:4], "--device", "cuda")


def damage_empty(folder):
    folder.mkdir()


def damage_unequal_halves(folder):
    pairs(folder)
    Image.new("RGB", (49, 24)).save(folder / "train" / "odd.jpg")


def damage_truncated(folder):
    file = pairs(folder) / "train" / "1.jpg"
    file.write_bytes(file.read_bytes()[:300])


def damage_zero_bytes(folder):
    (pairs(folder) / "train" / "1.jpg").write_bytes(b"")


def damage_mislabelled(folder):
    (pairs(folder) / "train" / "1.jpg").write_text("I am a text")


def damage_bomb(folder):
    pairs(folder)
    Image.new("1", (40_000, 10_000)).save(folder / "train" / "bomb.png")


def damage_one_pixel(folder):
    pairs(folder)
    Image.new("RGB", (2, 1)).save(folder / "train" / "speck.png")


def damage_unpaired(folder):
    for name, stems in (("A", "abc"), ("B", "abd")):
        (folder / name).mkdir(parents=True)
        for stem in stems:
            Image.new("RGB", (24, 24)).save(folder / name / f"{stem}.png")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_empty, "set"),
        (damage_unequal_halves, "odd.jpg"),
        (damage_truncated, "1.jpg"),
        (damage_zero_bytes, "1.jpg"),
        (damage_mislabelled, "1.jpg"),
        (damage_bomb, "bomb.png"),
        (damage_one_pixel, "speck.png"),
        (damage_unpaired, "c"),
    ],
)
def test_bad_images_are_named_and_nothing_is_written(damage, says, tmp_path, capfd):
    damage(tmp_path / "set")
    assert says in fails(capfd, *TINY, "--data", tmp_path / "set", "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_skip_bad_trains_on_the_rest(tmp_path):
    damage_truncated(tmp_path / "set")
    assert main([*TINY, "--data", str(tmp_path / "set"), "--skip-bad", "--max-steps", "1", "--run", "run"]) == 0


def test_an_output_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "file").write_text("not a folder")
    assert "choose another place with --run" in fails(capfd, *TINY, "--run", tmp_path / "file" / "run")
    line = fails(capfd, *TINY, "--run", tmp_path / "file")
    assert f"{tmp_path / 'file'} is a file; choose another place" in line  # before any picture is prepared


def test_another_recipe_does_not_touch_a_run(trained, capfd):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*")}
    line = fails(capfd, *TINY, "--run", trained, "--lambda-l1", "10")
    assert "was started with --lambda-l1 100.0, now it is 10.0" in line
    assert "--resume is never" in fails(capfd, *TINY, "--run", trained, "--resume", "never")
    after = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.name != ".lock"}
    assert after == {p: t for p, t in before.items() if p.name != ".lock"}


def test_a_run_in_use_is_left_alone(tmp_path, capfd):
    from pygan.rundir import RunDir

    assert main([*TINY, "--run", "run", "--max-steps", "1"]) == 0
    holder = RunDir(tmp_path / "run").open()
    try:
        capfd.readouterr()
        assert "in use by another process" in fails(capfd, *TINY, "--run", "run")
    finally:
        holder.close()


def test_a_damaged_checkpoint_falls_back_and_says_so(tmp_path, capfd):
    assert main([*TINY, "--run", "run", "--max-steps", "9"]) == 0
    victim = tmp_path / "run" / "checkpoints" / "last" / "G.safetensors"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.unlink()  # hard links share the bytes: damage this one only
    victim.write_bytes(data)
    assert main([*TINY, "--run", "run"]) == 0
    said = capfd.readouterr()
    assert "is damaged (G.safetensors: checksum differs)" in said.err
    assert "resuming" in said.out


def test_a_full_disk_stops_with_one_line_and_keeps_what_was_there(tmp_path):
    assert main([*TINY, "--run", str(tmp_path / "run"), "--max-steps", "9"]) == 0
    before = (tmp_path / "run" / "checkpoints" / "last" / "manifest.json").read_bytes()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1));"
        "from pygan.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *TINY, "--run", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "is intact" in done.stderr
    assert (tmp_path / "run" / "checkpoints" / "last" / "manifest.json").read_bytes() == before
    assert main([*TINY, "--run", str(tmp_path / "run")]) == 0


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, capfd):
    assert (
        main([*TINY, "--run", "run", "--lr", "1e30", "--checkpoint-every-images", "2", "--log-every-images", "2"]) == 1
    )
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "became NaN or infinite at step" in line
    assert "first seen in module" in line
    for found in (tmp_path / "run" / "checkpoints").glob("*/manifest.json"):
        assert json.loads(found.read_text())["steps"] < 32


def test_evaluations_come_as_often_as_asked_and_the_best_is_kept_at_once(tmp_path):
    run = tmp_path / "run"
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--run", str(run), "--log-every", "2"]
    assert main(["train", "pix2pix", *flags, "--eval-every", "4", "--best-by", "ssim"]) == 0
    rows = [row for row in read_metrics(run) if "held_out/ssim" in row]
    assert [row["images"] for row in rows] == list(range(4, 33, 4))
    for row in rows:
        assert {"held_out/l1", "train/l1", "train/ssim", "loss/G"} <= row.keys()
    best = max(rows, key=lambda row: row["held_out/ssim"])
    manifest = json.loads((run / "checkpoints" / "best" / "manifest.json").read_text())
    assert manifest["images_seen"] == best["images"]
    net = use.load(run, "best", "cpu")
    assert net.images_seen == best["images"]


def test_training_items_are_measured_whole_and_always_the_same(tmp_path):
    recipe = pix2pix.resolve(pix2pix.Recipe(**pix2pix.PRESETS["tiny"]))
    nets = pix2pix.build(recipe, "cpu").nets
    with (
        pix2pix.batches(recipe, "held-out", "cpu") as held_out,
        contextlib.closing(judge.Judge(pix2pix, recipe, held_out, torch.device("cpu"))) as judged,
        contextlib.closing(
            pix2pix.batches(dataclasses.replace(recipe, load_size=32, flip=False), "train", "cpu")
        ) as feed,
    ):
        first, again = (judged.of_training_items(nets, 4) for _ in range(2))
        with torch.no_grad():
            direct = [float(pix2pix.measure(nets, recipe, feed.get(k))["l1"]) for k in (0, 2)]
        assert first == again
        assert first["l1"] == pytest.approx(sum(direct) / 2, rel=1e-5)
        assert first != judged.scores(nets, 4)


@pytest.mark.parametrize("metric", ["nonsense", "loss/G"])
def test_a_metric_that_is_not_there_is_named_before_anything_is_written(tmp_path, capsys, metric):
    run = tmp_path / "run"
    assert (
        main(["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--run", str(run), "--best-by", metric]) == 2
    )
    said = capsys.readouterr().err
    assert f"--best-by {metric}" in said
    assert "gradient_correlation" in said
    assert said.count("\n") == 1
    assert not run.exists()


def test_each_session_notes_where_it_runs(tmp_path):
    run = tmp_path / "run"
    flags = ["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--run", str(run)]
    assert main([*flags, "--max-steps", "3"]) == 0
    assert main(flags) == 0
    sessions = json.loads((run / "environment.json").read_text())["sessions"]
    assert [session["images"] for session in sessions] == [0, 6]
    assert {"pygan", "torch", "python", "device", "precision", "threads", "command", "began"} <= sessions[0].keys()


def test_training_items_that_are_gone_do_not_stop_a_training(tmp_path, monkeypatch, capsys):
    def gone(*_):
        raise UserError("a.png is gone; restore it")

    monkeypatch.setattr(heldout, "training_items", gone)
    run = tmp_path / "run"
    assert main([*TINY, "--run", str(run)]) == 0
    assert "training items are not measured: a.png is gone" in capsys.readouterr().err
    assert "held_out/l1" in read_metrics(run)[-1]
    assert not any(key.startswith("train/") for row in read_metrics(run) for key in row)
