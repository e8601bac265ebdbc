"""Builds and runs programs of the host emulator (cuda_host.h): `python tests/emulator/emulate.py [--quick] <op> ..`."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SCHEDULES = (0, 1, 2, 3)
# ThreadSanitizer sees races between threads of a block in any order, those between blocks only where blocks interleave.
RACE_SCHEDULE = 2
TIMEOUT_S = 600
KEEP_BUILDS_S = 2 * 24 * 3600  # programs that nobody ran for so long are deleted

BASE = ("-std=c++20", "-g", "-DPYGAN_HOST_EMULATOR", f"-I{HERE}", "-Wall", "-Wno-unknown-pragmas")
SANITIZERS = {
    "address": (
        "-O1",
        "-fsanitize=address,alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero",
        "-fno-sanitize-recover=all",
    ),
    "thread": ("-O1", "-fsanitize=thread"),
}


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str


def why_not() -> str:
    """Why the emulator cannot run here, or an empty string."""
    if compiler() is None:
        return "no g++ on this machine"
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return "the emulator switches fibers with x86-64 Linux instructions"
    return ""


@functools.cache
def why_no(sanitizer: str) -> str:
    """Why programs under this sanitizer cannot run here (its library may be missing), or an empty string."""
    source = build_folder() / "empty.cpp"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("int main() {}\n")
    try:
        result = execute(build(source, sanitizer), schedule=0)
    except RuntimeError as error:
        return f"{sanitizer} sanitizer: {error}"
    return f"{sanitizer} sanitizer: {result.stderr.strip()}" if result.status != 0 else ""


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def build_folder() -> Path:
    return Path(os.environ.get("PYGAN_EMULATOR_BUILD", Path(tempfile.gettempdir()) / f"pygan-emulator-{os.getuid()}"))


@functools.cache
def fingerprint(csrc: Path) -> str:
    """A hash of everything a program may include, and of the compiler."""
    digest = hashlib.sha256(repr((BASE, SANITIZERS)).encode())
    digest.update(subprocess.run([compiler(), "--version"], capture_output=True, check=True).stdout)
    sources = [p for folder in (csrc, HERE) for p in folder.rglob("*") if p.suffix in {".h", ".cu", ".cpp"}]
    for path in sorted(p for p in sources if not p.name.startswith("test_")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compile_once(source: Path, output: Path, flags: tuple[str, ...], csrc: Path = CSRC) -> None:
    if output.exists():
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(f".{os.getpid()}")  # several processes may build at once
    command = [compiler(), *BASE, f"-I{csrc}", *flags, str(source), "-o", str(unfinished)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"{source.name} does not compile:\n{run.stderr}")
    unfinished.replace(output)


def build(source: Path, sanitizer: str, csrc: Path = CSRC) -> Path:
    """The program of one source under one sanitizer, compiled unless an equal one already was.

    csrc: another tree of kernels than the repository's (a copy with a bug in it).
    """
    folder = build_folder()
    host_source = HERE / "cuda_host.cpp"
    host_hash = hashlib.sha256(host_source.read_bytes() + (HERE / "cuda_host.h").read_bytes()).hexdigest()[:16]
    host = folder / f"cuda_host-{host_hash}.o"
    compile_once(host_source, host, ("-O2", "-c"))  # without a sanitizer: see the file
    host.touch()
    digest = hashlib.sha256(source.read_bytes() + fingerprint(csrc).encode()).hexdigest()[:16]
    program = folder / f"{source.stem}-{sanitizer}-{digest}"
    compile_once(source, program, (*SANITIZERS[sanitizer], str(host)), csrc)
    program.touch()
    with contextlib.suppress(FileNotFoundError):  # another process tidies up, too
        for path in folder.iterdir():
            if path.stat().st_mtime < time.time() - KEEP_BUILDS_S:
                path.unlink()
    return program


def execute(program: Path, schedule: int, *arguments: str) -> Result:
    environment = {
        **os.environ,
        "PYGAN_EMULATOR_SCHEDULE": str(schedule),
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "report_thread_leaks=0 halt_on_error=1",
    }
    result = call([str(program), *arguments], environment)
    if "ThreadSanitizer: unexpected memory mapping" in result.stderr and shutil.which("setarch"):
        # Its address layout does not fit that of newer kernels; without randomization it does.
        result = call(["setarch", "--addr-no-randomize", str(program), *arguments], environment)
    return result


def call(command: list[str], environment: dict[str, str]) -> Result:
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, timeout=TIMEOUT_S)
    return Result(run.returncode, run.stdout, run.stderr)


def problems(source: Path, quick: bool = False) -> list[str]:
    """What is wrong with a test program: one entry per failed run, empty if all is well."""
    found = []
    program = build(source, "address")
    first = None
    for schedule in SCHEDULES[:1] if quick else SCHEDULES:
        result = execute(program, schedule)
        first = first or result
        if result.status != 0:
            found.append(f"schedule {schedule}: exit status {result.status}\n{result.stdout}{result.stderr}")
        elif result.stdout != first.stdout:
            found.append(f"schedule {schedule} prints otherwise than schedule 0:\n{first.stdout}---\n{result.stdout}")
    if not quick and not why_no("thread"):
        result = execute(build(source, "thread"), RACE_SCHEDULE)
        if result.status != 0:
            found.append(f"ThreadSanitizer: exit status {result.status}\n{result.stdout}{result.stderr}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="+", help="names of ops, or paths of test programs")
    parser.add_argument("--quick", action="store_true", help="AddressSanitizer and schedule 0 alone")
    arguments = parser.parse_args()
    if reason := why_not() or why_no("address"):
        print(reason)
        return 1
    if not arguments.quick and why_no("thread"):
        print(f"races are not looked for: {why_no('thread')}")
    failed = 0
    for op in arguments.ops:
        source = Path(op) if op.endswith((".cpp", ".cu")) else HERE / f"test_{op}.cpp"
        found = problems(source, arguments.quick)
        if not found:
            print(execute(build(source, "address"), 0).stdout, end="")
        print(f"{source.name}: " + ("ok" if not found else "\n".join(found)))
        failed += bool(found)
    return failed


if __name__ == "__main__":
    sys.exit(main())
