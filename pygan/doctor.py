"""`pygan doctor`: what this machine has for pygan, and for each thing that is missing, what it costs and how to get it.
`pygan doctor RUN`: what went wrong in a run.

Every probe looks at one thing and never fails: what cannot be found is a finding too. Nothing here uses the network.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from pygan.version import __version__

DRIVER_FILE = Path("/proc/driver/nvidia/version")
NVIDIA_SMI_TIMEOUT_S = 20


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was found ("" if nothing), and what its lack costs ("" if nothing is lacking)."""

    name: str
    found: str
    costs: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU: its name, its compute capability and its memory in GiB."""

    name: str
    capability: tuple[int, int]
    memory_gib: float


def run(as_json: bool = False) -> int:
    """Print the report: a line per finding, or a JSON list of {name, found, costs, remedy}. Returns 0."""
    findings = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return 0
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.name:<{width}}  {finding.found or 'missing'}")
        if finding.costs:
            print(f"{'':<{width}}    what it costs: {finding.costs}")
            print(f"{'':<{width}}    how to get it: {finding.remedy}")
    lacking = sum(bool(finding.costs) for finding in findings)
    print(f"\npygan {__version__}: " + (f"{lacking} of {len(findings)} could be better" if lacking else "all is there"))
    return 0


def of_run(run: Path, as_json: bool = False) -> int:
    """Print the diagnosis of a run directory, replayed from its rows: findings in the order in which they came up.

    As JSON: {run, gan, rows, steps, findings: [...], unchecked}. Returns 0, also with findings. Errors: UserError.
    """
    from pygan import diagnosis

    if as_json:
        told = diagnosis.replayed(run)
        findings = [finding.to_json() for finding in told.findings]
        facts = {"run": str(run), "gan": told.gan, "rows": told.rows, "steps": told.steps}
        print(json.dumps(facts | {"findings": findings, "unchecked": told.unseen}, indent=2))
        return 0
    from pygan.progress import Counter

    with Counter("looking through the rows", unit="rows") as counter:
        told = diagnosis.replayed(run, counter.of)
    for finding in told.findings:
        print(f"{finding.name} (said at step {finding.steps}, {finding.images} images)")
        print(f"    {finding.line}")
        print(f"    what people do: {finding.advice}")
    if not told.rows and not told.findings:
        print(f"{run} has no rows yet: nothing to look at")
        return 0
    count = len(told.findings) or "no"
    print(f"{count} finding{'s' if len(told.findings) > 1 else ''} in {told.rows} rows up to step {told.steps}")
    if told.unseen:
        print(f"not checked: {told.unseen}")
    return 0


def examine() -> list[Finding]:
    """All findings, in the order in which one needs the other."""
    gpus = find_gpus()
    return [
        look_at_python(),
        look_at_torch(gpus),
        look_at_extension(),
        look_at_kernels(gpus),
        look_at_gpu(gpus),
        look_at_driver(gpus),
        look_at_dali(),
        look_at_module("opencv", "cv2", "the input transforms canny and lab are not there", "opencv-python-headless"),
        look_at_module(
            "tensorboard", "tensorboard", "no curves and pictures to look at while a run goes on", "tensorboard"
        ),
    ]


# ---- One function per line of the report


def look_at_python() -> Finding:
    system = f"{platform.system()} {platform.machine()}"
    return Finding("python", f"{platform.python_version()} at {sys.executable} ({system})")


def look_at_torch(gpus: list[Gpu]) -> Finding:
    torch = import_or_none("torch")
    if torch is None:
        return Finding("torch", "", "nothing works without it", "pip install torch")
    if torch.version.cuda is not None:
        return Finding("torch", f"{torch.__version__}, built with CUDA {torch.version.cuda}")
    found = f"{torch.__version__}, built without CUDA"
    if not gpus:
        return Finding("torch", found)
    remedy = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
    return Finding("torch", found, "the GPU of this machine stays unused", remedy)


def look_at_extension() -> Finding:
    """The operator library: whether it loads into this torch, and what it was built from."""
    if reason := why_no_operators():
        return Finding("extension", "", "PyTorch's own operators are used instead, which are slower", reason)
    facts = build_facts()
    if facts is None:
        return Finding("extension", "loaded; what it was built from is not known (no pygan._C beside it)")
    built = f"built with {facts['compiler']} against torch {facts['torch']}"
    return Finding("extension", f"{facts['version']}, {built}")


def look_at_kernels(gpus: list[Gpu]) -> Finding:
    """The CUDA kernels in the extension, and whether they run on the GPUs that are here."""
    lost = "a GPU takes PyTorch's own kernels, which are slower"
    if why_no_operators():
        return Finding("CUDA kernels", "", lost, "they come with the extension, where nvcc is there to compile them")
    if not has_kernels():
        return Finding(
            "CUDA kernels", "", lost, "install the CUDA toolkit (nvcc), then pip install --force-reinstall ."
        )
    facts = build_facts()
    if facts is None:
        return Finding("CUDA kernels", "compiled in, for architectures that are not known")
    found = f"compiled by nvcc {facts['nvcc']} for {facts['cuda_archs'].replace(';', ', ')}"
    for gpu in gpus:
        if not runs_on(facts["cuda_archs"], gpu.capability):
            lost = f"none of them runs on {gpu.name} (compute capability {gpu.capability[0]}.{gpu.capability[1]})"
            return Finding("CUDA kernels", found, lost, "a GPU of compute capability 8.0 or later")
    return Finding("CUDA kernels", found)


def look_at_gpu(gpus: list[Gpu]) -> Finding:
    if not gpus:
        lost = "training runs on the CPU: good for trying out, tens of times slower"
        return Finding("GPU", "", lost, "a machine with an NVIDIA GPU of compute capability 8.0 or later")
    names = [f"{g.name} (compute capability {g.capability[0]}.{g.capability[1]}, {g.memory_gib:.0f} GiB)" for g in gpus]
    return Finding("GPU", "; ".join(names))


def look_at_driver(gpus: list[Gpu]) -> Finding:
    version = driver_version()
    if version:
        return Finding("driver", version)
    if gpus:
        return Finding("driver", "there, of unknown version")
    return Finding(
        "driver", "", "no GPU can be used", "with an NVIDIA GPU: the driver from https://www.nvidia.com/drivers"
    )


def look_at_dali() -> Finding:
    """DALI, and whether JPEG files are decoded on the GPU."""
    lost = "--feed dali is not there; sets too large for memory are decoded by Pillow"
    if import_or_none("torch") is None:
        return Finding("DALI", "", lost, "install torch first")
    from pygan.data import dali

    if not dali_is_installed():
        return Finding("DALI", "", lost, dali.INSTALL)
    return Finding("DALI", dali.decoder_report())


def look_at_module(name: str, module: str, lost: str, package: str) -> Finding:
    imported = import_or_none(module)
    if imported is None:
        return Finding(name, "", lost, f"pip install {package}")
    return Finding(name, str(getattr(imported, "__version__", "of unknown version")))


# ---- Probes


def import_or_none(name: str) -> ModuleType | None:
    """A module, or None where it is not installed or one of its libraries is not."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def why_no_operators() -> str:
    """Why pygan's native operators cannot be called; "" when they can."""
    if import_or_none("torch") is None:
        return "torch is not installed"
    from pygan.ops import _native

    return _native.why_missing()


def has_kernels() -> bool:
    """Whether the operator library holds CUDA kernels."""
    from pygan.ops import _native

    return _native.has_cuda_kernels()


def build_facts() -> dict[str, str] | None:
    """What the extension says of its build: version, torch, nvcc, cuda_archs, compiler. None without the extension."""
    module = import_or_none("pygan._C")
    return None if module is None else module.build_info()


def runs_on(archs: str, capability: tuple[int, int]) -> bool:
    """Whether code for `archs`, as CMake lists them ("80-real;90a-real;120"), runs on a GPU of this capability.

    Machine code runs on the same major version and the same or a later minor one, "a" code on its own version only.
    An entry without "-real" also holds PTX, which every later GPU compiles for itself.
    """
    for entry in archs.split(";"):
        arch, _, kind = entry.partition("-")
        match = re.fullmatch(r"(\d+)(\d)([af]?)", arch)
        if match is None:
            continue
        version = (int(match[1]), int(match[2]))
        if version == capability:
            return True
        if match[3] == "" and version[0] == capability[0] and version < capability:
            return True
        if match[3] == "" and kind != "real" and version < capability:
            return True
    return False


def find_gpus() -> list[Gpu]:
    """The NVIDIA GPUs here: those torch sees, else those the driver's own tool tells of (a torch without CUDA)."""
    torch = import_or_none("torch")
    if torch is not None and torch.cuda.is_available():
        every = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return [Gpu(p.name, (p.major, p.minor), p.total_memory / 2**30) for p in every]
    gpus = []
    for line in ask_nvidia_smi("name,compute_cap,memory.total").splitlines():  # "NVIDIA H200, 9.0, 143771"
        parts = [part.strip() for part in line.rsplit(",", 2)]
        capability = re.fullmatch(r"(\d+)\.(\d+)", parts[1]) if len(parts) == 3 else None
        if capability is not None and parts[2].isdigit():
            gpus.append(Gpu(parts[0], (int(capability[1]), int(capability[2])), int(parts[2]) / 1024))
    return gpus


def driver_version() -> str:
    """The version of the NVIDIA driver, "" without one."""
    if DRIVER_FILE.exists():
        version = re.search(r"NVRM version:.*?(\d+\.[\d.]*\d)", DRIVER_FILE.read_text())
        if version is not None:
            return version[1]
    return ask_nvidia_smi("driver_version").partition("\n")[0].strip()


def ask_nvidia_smi(fields: str) -> str:
    """What nvidia-smi says of each GPU, a line each; memory in MiB. "" where there is none or it fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def dali_is_installed() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # not even the package nvidia
        return False
