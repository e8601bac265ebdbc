"""The Colab notebook, executed whole on the tiny preset, twice: the second time nothing is trained anew."""

import errno
import fcntl
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from pygan.__main__ import main
from pygan.rundir import RunDir, read_metrics

NOTEBOOK = Path(__file__).parent.parent / "examples" / "pygan_colab.ipynb"


def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_it_is_kept_without_outputs():
    for cell in cells():
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_every_number_is_in_the_first_code_cell():
    """Each name of the first cell is used by a later one, and none is set again."""
    first, *rest = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    names = [line.split(" = ")[0] for line in first.splitlines()]
    assert {"GAN", "PRESET", "DATA", "RUN", "RUNS"} <= set(names)
    for name in names:
        assert any(name in cell for cell in rest), name
        assert not any(f"\n{name} = " in f"\n{cell}" for cell in rest), name


def test_the_flags_that_it_shows_are_flags(tmp_path, capsys):
    (first,) = [cell for cell in cells() if "parameters" in cell["metadata"].get("tags", ())]
    (shown,) = re.findall(r'as "(--[^"]*)"', "".join(first["source"]))
    command = ["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--run", str(tmp_path / "run"), "--dry-run"]
    assert main([*command, *shlex.split(shown)]) == 0, capsys.readouterr().err


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Of the kernel: this Python's `pygan` on the path, a home and a temporary folder."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def executed(folder, **numbers):
    """(texts, how many pictures, HTML) of the executed notebook, with other numbers than its first code cell has."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    at = next(k for k, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    lines = "\n".join(f"{name} = {value!r}" for name, value in numbers.items())
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(lines))
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    text, pictures, html = [], 0, ""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text.append(output.get("text", "") or "".join(output.get("data", {}).get("text/plain", "")))
            pictures += "image/png" in output.get("data", {})
            html += output.get("data", {}).get("text/html", "")
    return "\n".join(text), pictures, html


def test_the_whole_notebook_twice(tmp_path, environment):
    folder = tmp_path / "somewhere"
    folder.mkdir()
    tiny = {"PRESET": "tiny", "FLAGS": "--device cpu", "RUN": "my facades"}

    text, pictures, html = executed(folder, **tiny, TENSORBOARD=False)
    run = folder / "runs" / "my facades"
    assert "extension" in text  # of the doctor
    assert "32/32 images" in text
    assert pictures >= 5  # the newest sample, three of the way, before and after, the exported network's
    assert (folder / "runs" / "my facades.safetensors").stat().st_size > 100_000
    rows, weights = read_metrics(run), (run / "checkpoints" / "last" / "G.safetensors").stat().st_mtime_ns
    assert rows[-1]["images"] == 32

    again, pictures, html_again = executed(folder, **tiny, TENSORBOARD=True)
    assert "is finished" in again
    assert "32/32 images" not in again
    assert pictures >= 4
    assert read_metrics(run) == rows
    assert (run / "checkpoints" / "last" / "G.safetensors").stat().st_mtime_ns == weights
    assert "tensorboard-frame" in html_again
    assert "tensorboard-frame" not in html


def test_a_drive_without_locks_is_said_and_used(tmp_path, monkeypatch, capfd):
    """Some cloud and network drives have none: the run goes on there, with one line."""

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    run = RunDir(tmp_path / "run").open()
    run.close()
    assert "cannot be locked there (No locks available)" in capfd.readouterr().err
