"""The build backend finds the user's torch and never moves it."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("scikit_build_core", reason="the build requirements are not installed outside a build")


@pytest.fixture
def backend():
    path = Path(__file__).parent.parent / "build_backend" / "pygan_backend.py"
    spec = importlib.util.spec_from_file_location("pygan_backend", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake(folder, version):
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "version.py").write_text(f"__version__ = '{version}+cu130'\n")
    return folder / "torch"


def test_the_first_torch_is_taken(backend, tmp_path):
    there = fake(tmp_path / "b", "2.12.1")
    assert backend.find_torch(iter([tmp_path / "a" / "torch", there])) == there.resolve()
    assert backend.find_torch(iter([tmp_path / "a" / "torch"])) is None


def test_an_old_torch_is_named_and_left_alone(backend, tmp_path):
    old = fake(tmp_path, "2.9.0")
    with pytest.raises(SystemExit, match=r"found torch 2.9.0 at .* needs torch >= 2.11.*never replaces"):
        backend.find_torch(iter([old]))


def test_requirements_follow_the_torch_that_is_there(backend, tmp_path, monkeypatch):
    settings = {"requires": ["numpy"]}
    there = fake(tmp_path, "2.11.0")
    monkeypatch.setattr(backend, "_of_the_user", lambda: iter([there]))
    assert backend.dynamic_metadata("dependencies", settings) == ["torch>=2.11", "numpy"]
    assert backend._needs_torch() == []
    monkeypatch.setattr(backend, "_of_the_user", lambda: iter([]))
    assert backend.dynamic_metadata("dependencies", settings) == [f"torch>=2.11,<={backend.TESTED}", "numpy"]
    assert backend._needs_torch() == [f"torch=={backend.TESTED}"]
