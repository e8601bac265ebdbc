"""Places to write at: what a killed process leaves there goes, and nothing else does."""

import os

import pytest

from pygan.export.aside import aside


def left_by_a_killed_process(path, *, folder):
    """A child makes the place, writes something in it, and is gone without a word."""
    child = os.fork()
    if not child:
        writing = aside(path, folder=folder)  # held: what is collected tidies up
        place = writing.__enter__()
        (place / "half" if folder else place).write_text("half")
        os._exit(0)
    os.waitpid(child, 0)
    (left,) = path.parent.iterdir()
    return left


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_process_left_is_removed(folder, tmp_path, capsys):
    path = tmp_path / "deep" / "G.x.onnx"
    left = left_by_a_killed_process(path, folder=folder)
    assert left.name.startswith(".G.x.")
    assert left.name.endswith(".new.onnx")
    with aside(path, folder=folder) as new:
        assert list(path.parent.iterdir()) == [new]
        assert new.is_dir() == folder
    assert list(path.parent.iterdir()) == []
    assert f"{left} was left by an export that was killed; it is removed" in capsys.readouterr().err


def test_whoever_still_writes_is_left_alone(tmp_path):
    path = tmp_path / "G.onnx"
    with aside(path) as one, aside(path, folder=True) as two:
        one.write_text("one")
        (two / "file").write_text("two")
        with aside(path) as three:
            assert len({one, two, three}) == 3
        assert set(tmp_path.iterdir()) == {one, two}
        assert one.read_text() == "one"
        os.replace(one, path)
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_others_stay(tmp_path):
    names = [".G.12345678.new", ".G.12345678.new.pt", ".H.12345678.new.onnx", ".G.123.new.onnx", "G.12345678.new.onnx"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".G.00000000.new.onnx").symlink_to(tmp_path / names[0])
    os.mkfifo(tmp_path / ".G.00000001.new.onnx.pipe")
    before = set(tmp_path.iterdir())
    with aside(tmp_path / "G.onnx") as new:
        assert set(tmp_path.iterdir()) == {*before, new}
    assert set(tmp_path.iterdir()) == before


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    left = left_by_a_killed_process(tmp_path / "G.onnx", folder=False)

    def no_locks(*_args):
        raise OSError("no locks here")

    monkeypatch.setattr("pygan.export.aside.fcntl.flock", no_locks)
    with aside(tmp_path / "G.onnx") as new:
        assert set(tmp_path.iterdir()) == {left, new}
