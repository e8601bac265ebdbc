"""`pygan doctor RUN` from outside: on a real run, an old one, a sick one, a diverged one, and on what is no run."""

import hashlib
import json
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from pygan.__main__ import main
from pygan.rundir import read_findings, read_metrics

FLAGS = ["--device", "cpu", "--no-tensorboard", "--log-every-images", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run with a row for each step."""
    path = tmp_path_factory.mktemp("doctor") / "run"
    assert main(["train", "pix2pix", "--preset", "tiny", *FLAGS, "--run", str(path)]) == 0
    return path


@pytest.fixture
def run(trained, tmp_path):
    """A copy to be spoiled."""
    return shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "samples"))


def said(capsys, *argv):
    """What `pygan doctor` prints of a run; it must end well and say nothing else."""
    capsys.readouterr()
    assert main(["doctor", *map(str, argv)]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    return out.out


def rewrite(run, change):
    """Every row of a run, changed in place."""
    rows = read_metrics(run)
    text = "".join(json.dumps(change(dict(row))) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(text)


def longer(row):
    """The same run at ten times the steps: long enough to be called ill."""
    return row | {"images": 10 * row["images"], "steps": 10 * row["steps"]}


def test_a_healthy_run(trained, capsys):
    out = said(capsys, trained)
    assert out.startswith("no finding in 16 rows up to step 16")
    assert "not checked: memorisation" in out
    assert "vital" not in out  # these are there


def test_a_run_of_an_older_version(run, capsys):
    rewrite(run, lambda row: {key: value for key, value in row.items() if not key.startswith(("vital/", "held_out/"))})
    lines = said(capsys, run).splitlines()
    assert lines[0].startswith("no finding in 16 rows")
    assert lines[1].startswith("not checked: gradients, colours, patterns and diversity")
    assert len(lines) == 2


def test_a_sick_run(run, capsys):
    rewrite(run, lambda row: longer(row) | {"logit/real": 0.0, "logit/fake": 0.0, "loss/D": 0.693147})
    out = said(capsys, run)
    assert "constant_discriminator (said at step " not in out  # 16 rows: 10 to see that it is steady, 10 to be sure
    rows = read_metrics(run)
    later = {"images": 320, "steps": 160, "epoch": 4}
    more = [row | {key: row[key] + much for key, much in later.items()} for row in rows]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + more))
    lines = said(capsys, run).splitlines()
    assert lines[0].startswith("constant_discriminator (said at step ")
    assert "loss/D 0.6931 = the optimum 0.6931 of one that cannot tell, since step 10" in lines[1]
    assert lines[2].strip().startswith("what people do: ")
    assert "1 finding in 32 rows up to step 320" in lines
    told = json.loads(said(capsys, run, "--json"))
    assert told.keys() == {"run", "gan", "rows", "steps", "findings", "unchecked"}
    assert told["gan"] == "pix2pix"
    (finding,) = told["findings"]
    assert finding["name"] == "constant_discriminator"
    assert finding["line"] in lines[1]
    assert finding["since_steps"] == 10


def test_what_was_said_live_is_said_again(tmp_path, capsys):
    """Findings come up while training, also after it was interrupted, and once: a replay finds the same."""
    path = tmp_path / "run"
    flags = ["--preset", "tiny", *FLAGS, "--lambda-l1", "1e5", "--epochs", "30", "--decay-epochs", "30"]
    flags += ["--checkpoint-every-images", "1000", "--sample-every-images", "1000", "--log-every-images", "8"]
    flags += [
        "--crop-size",
        "16",
        "--load-size",
        "18",
        "--ngf",
        "4",
        "--ndf",
        "4",
        "--n-layers-d",
        "1",
        "--run",
        str(path),
    ]
    assert main(["train", "pix2pix", *flags, "--max-steps", "150"]) == 0
    assert main(["train", "pix2pix", *flags]) == 0
    out = capsys.readouterr().out
    live = read_findings(path)
    assert [finding["name"] for finding in live].count("loss_imbalance") == 1
    assert [json.loads(json.dumps(one)) for one in live] == json.loads(said(capsys, path, "--json"))["findings"]
    for finding in live:
        assert finding["line"] in out
        assert finding["advice"] in out


def test_a_run_that_diverged(tmp_path, capsys):
    """Live and replayed the same: the first module where a number was none, and since when."""
    path = tmp_path / "run"
    flags = ["--preset", "tiny", *FLAGS, "--lr", "1e30", "--run", str(path)]
    assert main(["train", "pix2pix", *flags]) == 1
    (live,) = [finding for finding in read_findings(path) if finding["name"] == "diverged"]
    out = said(capsys, path)
    assert out.splitlines()[0].startswith("diverged (said at step ")
    assert live["line"] in out
    assert "module" in live["line"]
    json.loads(said(capsys, path, "--json"), parse_constant=pytest.fail)  # no NaN, which is not JSON


def test_the_module_of_the_step_in_which_it_appeared(tmp_path, capsys):
    """Not that of the row, ten steps later, when the optimizer has carried it into every weight of the net."""
    path = tmp_path / "run"
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--log-every-images", "20", "--run", str(path)]
    flags += ["--epochs", "20", "--sample-every-images", "1000", "--checkpoint-every-images", "1000"]
    assert main(["train", "pix2pix", *flags, "--max-steps", "3"]) == 0
    last = path / "checkpoints" / "last"
    with safe_open(last / "G.safetensors", "pt") as file:
        about, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    tensors["ups.0.conv.weight"].fill_(float("nan"))
    save_file(tensors, last / "G.safetensors", metadata=about)
    manifest = json.loads((last / "manifest.json").read_text())
    manifest["files"]["G.safetensors"] = hashlib.sha256((last / "G.safetensors").read_bytes()).hexdigest()
    (last / "manifest.json").write_text(json.dumps(manifest))
    assert main(["train", "pix2pix", *flags]) == 1
    (live,) = read_findings(path)
    assert live["since_steps"] == 4
    assert live["steps"] == 10
    assert "at step 4, first seen in module G.ups.0.conv;" in live["line"]
    assert live["line"] in said(capsys, path)


def test_losses_that_were_no_numbers_first(tmp_path):
    """The step is gone over again also without a checkpoint; loss/D was a number then."""
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--log-every-images", "20", "--lr", "1e15"]
    flags += ["--sample-every-images", "1000", "--checkpoint-every-images", "1000", "--run", str(tmp_path / "run")]
    assert main(["train", "dcgan", *flags]) == 1
    (live,) = read_findings(tmp_path / "run")
    assert live["since_steps"] < live["steps"]
    assert "first seen in module" in live["line"]
    assert "loss/D," not in live["line"]


def test_a_run_is_only_looked_at(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said(capsys, run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_without_rows(run, capsys):
    (run / "metrics.jsonl").unlink()
    assert said(capsys, run) == f"{run} has no rows yet: nothing to look at\n"
    assert json.loads(said(capsys, run, "--json"))["rows"] == 0


def spoil_missing(run):
    shutil.rmtree(run)


def spoil_file(run):
    shutil.rmtree(run)
    run.write_text("no folder")


def spoil_recipe(run):
    (run / "recipe.json").write_text('{"gan": "pix2pix"')


def spoil_types(run):
    (run / "recipe.json").write_text('{"gan": 3}')


def spoil_rows(run):
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_missing, "is not a run directory: there is nothing of that name"),
        (spoil_file, "is a file; name the directory of a run"),
        (spoil_recipe, "cannot be read (it is not JSON)"),
        (spoil_types, "is damaged"),
        (spoil_rows, "the rows of"),
    ],
)
def test_what_is_no_run_is_said_in_one_line(run, capsys, spoil, says):
    spoil(run)
    capsys.readouterr()
    assert main(["doctor", str(run)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert line.startswith("pygan: error: ")


def test_a_run_and_kernels_are_two_questions(run, capsys):
    assert main(["doctor", str(run), "--kernels", "pix2pix"]) == 2
    assert "leave one of them out" in capsys.readouterr().err
