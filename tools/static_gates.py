"""What can be known of the CUDA kernels without a GPU, held against a table: `python tools/static_gates.py [op ...]`.

Compiles csrc/ops/*/*_cuda.cu for every architecture and reads, per kernel: registers, spills and stack (ptxas), and the
machine code (nvdisasm, from the PyPI package nvidia-cuda-nvdisasm). Gates: no spills, stack or local memory; not more
registers and not fewer instances with 16-byte loads and stores than tools/static_gates.json says for the kernel.
`--update` writes the table from what it finds. Exit status: 0 all well, 1 a gate is violated, 2 cannot tell.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tools" / "static_gates.json"
ARCHS = ("80", "86", "89", "90a", "100", "120")
# As CMakeLists.txt compiles them: line information does not change the code.
NVCC_FLAGS = ("-std=c++17", "-O3", "--expt-relaxed-constexpr", f"-I{ROOT / 'csrc'}")

ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_\w+'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
FUNCTION = re.compile(r"^\s*\.text\.(\w+):", re.MULTILINE)
# 16 bytes a thread, or the 32 that sm_100 and later have.
WIDE_LOAD = re.compile(r"\bLDG?\.\S*\b(?:128|256)\b")
WIDE_STORE = re.compile(r"\bSTG?\.\S*\b(?:128|256)\b")
LOCAL_MEMORY = re.compile(r"\b(?:LDL|STL)\b")


@dataclass
class Kernel:
    """One instance of a kernel on one architecture."""

    op: str
    arch: str
    symbol: str
    family: str = ""  # its name without namespace, template and function arguments
    registers: int = 0
    spills: int = 0  # bytes stored and loaded
    stack: int = 0  # bytes
    wide_load: bool = False
    wide_store: bool = False
    local_memory: bool = False


class CannotTellError(Exception):
    """A tool is missing or fails: nothing can be said about the kernels."""


def find_nvcc() -> str:
    found = shutil.which(os.environ.get("CUDACXX", "nvcc"))
    if found is None:
        raise CannotTellError("no nvcc on this machine: install the CUDA toolkit, or set CUDACXX")
    return found


def find_nvdisasm() -> str:
    packages = Path(sysconfig.get_path("purelib"))
    places = [shutil.which("nvdisasm"), *packages.glob("nvidia/cu*/bin/nvdisasm")]
    found = next((str(p) for p in places if p is not None), None)
    if found is None:
        raise CannotTellError("no nvdisasm on this machine: pip install nvidia-cuda-nvdisasm")
    return found


def call(command: list[str], **options) -> subprocess.CompletedProcess:
    run = subprocess.run(command, capture_output=True, text=True, **options)
    if run.returncode != 0:
        raise CannotTellError(f"{' '.join(command)} failed:\n{run.stderr.strip()}")
    return run


def parse_ptxas(text: str, op: str, arch: str) -> list[Kernel]:
    """The kernels that one `ptxas -v` speaks of. Lines about device functions that are not entries are ignored."""
    kernels = []
    for line in text.splitlines():
        if entry := ENTRY.search(line):
            kernels.append(Kernel(op, arch, entry[1]))
        elif kernels and (frame := FRAME.search(line)):
            kernels[-1].stack = int(frame[1])
            kernels[-1].spills = int(frame[2]) + int(frame[3])
        elif kernels and (registers := REGISTERS.search(line)):
            kernels[-1].registers = int(registers[1])
    return kernels


def read_machine_code(text: str, kernels: list[Kernel]) -> None:
    """Fills in what the disassembly of a cubin shows."""
    pieces = FUNCTION.split(text)
    code = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    for kernel in kernels:
        if kernel.symbol not in code:
            raise CannotTellError(f"the disassembly lacks {kernel.symbol} (sm_{kernel.arch})")
        body = code[kernel.symbol]
        kernel.wide_load = bool(WIDE_LOAD.search(body))
        kernel.wide_store = bool(WIDE_STORE.search(body))
        kernel.local_memory = bool(LOCAL_MEMORY.search(body))


def family_of(demangled: str) -> str:
    """`void pygan::(anonymous namespace)::norm<float, 4>(Args)` -> `norm`."""
    depth, plain = 0, ""
    for character in demangled.replace("(anonymous namespace)::", ""):
        depth -= character in ">)"
        if depth == 0 and character not in ">)":
            plain += character
        depth += character in "<("
    return plain.rstrip("<(").replace("<(", "").split("::")[-1].split(" ")[-1]


def compile_op(source: Path, arch: str, nvcc: str, nvdisasm: str, folder: Path) -> list[Kernel]:
    op = source.parent.name
    cubin = folder / f"{op}-{arch}.cubin"
    command = [nvcc, *NVCC_FLAGS, f"-arch=sm_{arch}", "-cubin", "-Xptxas", "-v", str(source), "-o", str(cubin)]
    kernels = parse_ptxas(call(command).stderr, op, arch)
    if not kernels:
        raise CannotTellError(f"ptxas tells of no kernel in {source.name} (sm_{arch})")
    read_machine_code(call([nvdisasm, "-c", str(cubin)]).stdout, kernels)
    return kernels


def name_families(kernels: list[Kernel]) -> None:
    names = call(["c++filt"], input="\n".join(k.symbol for k in kernels)).stdout.splitlines()
    for kernel, name in zip(kernels, names, strict=True):
        kernel.family = family_of(name)


def summarize(kernels: list[Kernel]) -> dict[str, dict[str, int]]:
    """{"op/kernel": row}: the most registers of any instance and architecture; the fewest wide instances of any."""
    groups: dict[str, dict[str, list[Kernel]]] = {}
    for kernel in kernels:
        groups.setdefault(f"{kernel.op}/{kernel.family}", {}).setdefault(kernel.arch, []).append(kernel)
    return {
        name: {
            "registers": max(k.registers for instances in archs.values() for k in instances),
            "instances": min(len(instances) for instances in archs.values()),
            "wide_loads": min(sum(k.wide_load for k in instances) for instances in archs.values()),
            "wide_stores": min(sum(k.wide_store for k in instances) for instances in archs.values()),
        }
        for name, archs in sorted(groups.items())
    }


def violations(kernels: list[Kernel], table: dict[str, dict[str, int]], ops: set[str]) -> list[str]:
    """One line for each gate that does not hold. `ops`: those that were compiled; the table may know others."""
    found = []
    for k in kernels:
        where = f"{k.op}/{k.family} (sm_{k.arch}, {k.symbol})"
        if k.spills:
            found.append(f"{where}: {k.spills} bytes of spills, the gate is 0")
        if k.stack:
            found.append(f"{where}: {k.stack} bytes of stack, the gate is 0")
        if k.local_memory and not k.spills and not k.stack:
            found.append(f"{where}: loads or stores local memory")
        limit = table.get(f"{k.op}/{k.family}", {}).get("registers", k.registers)
        if k.registers > limit:
            found.append(f"{where}: {k.registers} registers, the gate is {limit}")
    now = summarize(kernels)
    for name, row in now.items():
        if name not in table:
            found.append(f"{name}: not in {TABLE.name}; look at it, then run with --update")
            continue
        gate = table[name]
        if row["instances"] != gate["instances"]:
            found.append(f"{name}: {row['instances']} instances, the table says {gate['instances']}; run with --update")
            continue
        for key, what in (("wide_loads", "loads"), ("wide_stores", "stores")):
            if row[key] < gate[key]:
                found.append(f"{name}: {row[key]} instances have 16-byte {what}, the gate is {gate[key]}")
    for name in table:
        if name not in now and name.split("/")[0] in ops:
            found.append(f"{name}: in {TABLE.name}, but no longer in the source; run with --update")
    return found


def run(ops: list[str], archs: list[str], update: bool) -> int:
    nvcc, nvdisasm = find_nvcc(), find_nvdisasm()
    sources = sorted((ROOT / "csrc" / "ops").glob("*/*_cuda.cu"))
    if ops:
        sources = [s for s in sources if s.parent.name in ops]
        if unknown := set(ops) - {s.parent.name for s in sources}:
            raise CannotTellError(f"no CUDA source in csrc/ops for {', '.join(sorted(unknown))}")
    jobs = [(source, arch) for source in sources for arch in archs]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = [pool.submit(compile_op, source, arch, nvcc, nvdisasm, Path(folder)) for source, arch in jobs]
        kernels = [kernel for task in tasks for kernel in task.result()]
    name_families(kernels)

    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    compiled = {source.parent.name for source in sources}
    if update:
        others = {name: row for name, row in table.items() if ops and name.split("/")[0] not in compiled}
        table = dict(sorted({**others, **summarize(kernels)}.items()))
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
        TABLE.write_text(f"{{\n{rows}\n}}\n")
    found = violations(kernels, table, compiled)
    for line in found:
        print(line)
    families = len({(k.op, k.family) for k in kernels})
    most = max(kernels, key=lambda k: k.registers)
    print(
        f"static gates: {len(kernels)} kernels ({families} families, {len(archs)} architectures), "
        f"at most {most.registers} registers ({most.op}/{most.family}), {len(found)} violations"
    )
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", help="folders of csrc/ops; all of them if none is named")
    parser.add_argument("--update", action="store_true", help="write the table from what is found")
    parser.add_argument("--if-possible", action="store_true", help="exit 0 where nvcc or nvdisasm is missing")
    parser.add_argument("--arch", action="append", choices=ARCHS, help="compile for this one alone; may be repeated")
    arguments = parser.parse_args()
    if arguments.update and arguments.arch:
        parser.error("--update needs all architectures; leave --arch out")
    try:
        if arguments.if_possible:
            try:
                find_nvcc()
                find_nvdisasm()
            except CannotTellError as missing:
                print(f"static gates: not checked, {missing}")
                return 0
        return run(arguments.ops, arguments.arch or list(ARCHS), arguments.update)
    except CannotTellError as error:
        print(f"static gates: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
