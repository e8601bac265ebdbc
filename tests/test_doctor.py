"""`pygan doctor` on this machine, and with each thing missing that it looks for."""

import json
import sys
import types

import pytest

from pygan import doctor
from pygan.__main__ import main

H200 = doctor.Gpu("NVIDIA H200", (9, 0), 139.8)
OLD = doctor.Gpu("Tesla T4", (7, 5), 14.6)
ARCHS = "80-real;86-real;89-real;90a-real;100-real;120"
FACTS = {"version": "1.2.3", "torch": "2.13.0", "nvcc": "13.0.48", "cuda_archs": ARCHS, "compiler": "GNU 12.2.0"}


def finding(name):
    return {one.name: one for one in doctor.examine()}[name]


@pytest.fixture
def built(monkeypatch):
    """An extension with CUDA kernels, as it would say so itself."""
    monkeypatch.setattr(doctor, "why_no_operators", lambda: "")
    monkeypatch.setattr(doctor, "has_kernels", lambda: True)
    monkeypatch.setattr(doctor, "build_facts", lambda: FACTS)


def without(monkeypatch, module):
    real = doctor.import_or_none
    monkeypatch.setattr(doctor, "import_or_none", lambda name: None if name == module else real(name))


def test_report_of_this_machine(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("python", "torch", "extension", "CUDA kernels", "GPU", "driver", "DALI", "opencv", "tensorboard"):
        assert sum(line.startswith(name) for line in lines) == 1
    assert sum("what it costs:" in line for line in lines) == sum("how to get it:" in line for line in lines)


def test_json_says_the_same(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [doctor.Finding(**one) for one in told] == doctor.examine()


def test_every_lack_has_a_price_and_a_remedy_of_one_line(monkeypatch):
    monkeypatch.setattr(doctor, "why_no_operators", lambda: "not installed; run `pip install .`")
    monkeypatch.setattr(doctor, "find_gpus", list)
    monkeypatch.setattr(doctor, "driver_version", str)
    monkeypatch.setattr(doctor, "dali_is_installed", lambda: False)
    without(monkeypatch, "cv2")
    lacking = [one for one in doctor.examine() if not one.found]
    assert [one.name for one in lacking] == ["extension", "CUDA kernels", "GPU", "driver", "DALI", "opencv"]
    for one in doctor.examine():
        assert bool(one.costs) == bool(one.remedy)
        assert one.found or one.costs
        assert "\n" not in one.found + one.costs + one.remedy


def test_extension_tells_what_it_was_built_from(built):
    assert finding("extension").found == "1.2.3, built with GNU 12.2.0 against torch 2.13.0"
    assert not finding("extension").costs
    assert finding("CUDA kernels").found.startswith("compiled by nvcc 13.0.48 for 80-real, 86-real")


def test_missing_extension_says_why(monkeypatch):
    monkeypatch.setattr(doctor, "why_no_operators", lambda: "not installed; run `pip install .`")
    assert not finding("extension").found
    assert finding("extension").remedy == "not installed; run `pip install .`"


def test_extension_without_cuda_kernels(built, monkeypatch):
    monkeypatch.setattr(doctor, "has_kernels", lambda: False)
    assert not finding("CUDA kernels").found
    assert "nvcc" in finding("CUDA kernels").remedy


def test_gpu_is_told(built, monkeypatch):
    monkeypatch.setattr(doctor, "find_gpus", lambda: [H200])
    assert finding("GPU").found == "NVIDIA H200 (compute capability 9.0, 140 GiB)"
    assert not finding("GPU").costs
    assert not finding("CUDA kernels").costs


def test_gpu_that_no_kernel_runs_on(built, monkeypatch):
    monkeypatch.setattr(doctor, "find_gpus", lambda: [H200, OLD])
    assert "Tesla T4 (compute capability 7.5)" in finding("CUDA kernels").costs


def test_torch_without_cuda_beside_a_gpu(monkeypatch):
    torch = types.SimpleNamespace(__version__="2.13.0+cpu", version=types.SimpleNamespace(cuda=None))
    monkeypatch.setattr(doctor, "import_or_none", lambda name: torch)
    assert doctor.look_at_torch([H200]).costs == "the GPU of this machine stays unused"
    assert not doctor.look_at_torch([]).costs  # without a GPU it is the right torch


def test_missing_torch(monkeypatch):
    without(monkeypatch, "torch")
    assert finding("torch").costs == "nothing works without it"
    assert not finding("DALI").found


def test_missing_dali(monkeypatch):
    monkeypatch.setattr(doctor, "dali_is_installed", lambda: False)
    assert not finding("DALI").found
    assert finding("DALI").remedy == "pip install nvidia-dali-cuda130"


def test_dali_is_looked_for_without_any_nvidia_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia", None)
    monkeypatch.delitem(sys.modules, "nvidia.dali", raising=False)
    assert not doctor.dali_is_installed()


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 5), False),
        ((8, 0), True),
        ((8, 7), True),  # 8.6 code on a later minor version
        ((8, 9), True),
        ((9, 0), True),
        ((10, 3), True),
        ((11, 0), False),  # neither the code of 10.0 nor the PTX of 12.0
        ((12, 0), True),
        ((12, 1), True),
        ((13, 0), True),  # from PTX
    ],
)
def test_architectures(capability, runs):
    assert doctor.runs_on(ARCHS, capability) is runs


def test_code_for_one_version_alone():
    assert not doctor.runs_on("90a", (9, 1))
    assert not doctor.runs_on("120-real", (13, 0))
    assert not doctor.runs_on("", (9, 0))


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """An nvidia-smi that knows two GPUs, on a machine where torch sees none."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        "*name*) echo 'NVIDIA H200, 9.0, 143771'; echo 'Strange, [N/A], [N/A]'; echo 'A, B, 8.6, 24564';;\n"
        "*) echo 580.95.05; echo 580.95.05;;\nesac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "DRIVER_FILE", tmp_path / "version")
    without(monkeypatch, "torch")
    return tool


def test_gpus_by_the_driver(nvidia_smi):
    gpus = doctor.find_gpus()
    assert [(gpu.name, gpu.capability, round(gpu.memory_gib)) for gpu in gpus] == [
        ("NVIDIA H200", (9, 0), 140),
        ("A, B", (8, 6), 24),
    ]
    assert doctor.driver_version() == "580.95.05"


def test_driver_that_does_not_answer(nvidia_smi):
    nvidia_smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert doctor.find_gpus() == []
    assert doctor.driver_version() == ""


@pytest.mark.parametrize("words", ["Open Kernel Module for x86_64", "x86_64 Kernel Module"])
def test_driver_by_its_file(nvidia_smi, words):
    nvidia_smi.unlink()
    doctor.DRIVER_FILE.write_text(f"NVRM version: NVIDIA UNIX {words}  580.95.05  Release Build  (gcc 12.2.0)\n")
    assert doctor.driver_version() == "580.95.05"
