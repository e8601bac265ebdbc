"""docs/cloud.md keeps its word: what it calls tried runs, here on a CPU with the tiny preset; the rest says why not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import hostile_files

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "cloud.md"
# The page's own commands, but tiny, on the CPU, and without its pauses.
PYGAN = """#!/bin/sh
if [ "$1" = train ]; then set -- "$@" --preset tiny --device cpu --no-tensorboard; fi
exec {python} -m pygan "$@"
"""
SLEEP = """#!/bin/sh
exec {sleep} 0.2
"""


def blocks():
    """[(text before it, info string, commands)] of the page, in order."""
    parts = re.split(r"^```([^\n]*)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [(parts[k], parts[k + 1].strip(), parts[k + 2]) for k in range(0, len(parts) - 1, 3)]


def test_every_block_is_shell_and_says_whether_it_was_tried():
    """The words before a block and its mark agree; where there are none, those before the block above it hold."""
    said, kinds = "", []
    for before, info, commands in blocks():
        kinds.append(info)
        said = (re.findall(r"\b(?:not )?tried\b", before.lower()) or [said])[-1]
        assert info == {"tried": "bash tried", "not tried": "bash"}[said], commands
        if info == "bash tried":
            for needed in ("sudo", "nvidia-smi", "docker", "ssh ", "systemctl"):
                assert needed not in commands, f"{needed} cannot have been tried:\n{commands}"
        done = subprocess.run(["bash", "-n"], input=commands, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert kinds.count("bash tried") >= 10


def test_nothing_says_to_install_another_project():
    """The pygan of PyPI is not this one: pip is given a checkout, or an address."""
    files = [path for folder in ("pygan", "docs", "examples") for path in (ROOT / folder).rglob("*")]
    texts = [path for path in files if path.suffix in (".py", ".md", ".ipynb", ".html", ".js")]
    for path in (path for path in texts if path.name != "log.md"):  # which tells what was
        assert not re.search(r"pip install (-\S+ )*['\"]?pygan\b", path.read_text()), path


def test_flags_that_were_not_tried_are_known():
    """Long flags of every `pygan VERB` on the page that the blocks not tried use, in that verb's help."""
    from pygan.__main__ import _parser

    for _, info, commands in blocks():
        for line in commands.splitlines() if info == "bash" else ():
            found = re.search(r"\bpygan (train pix2pix|serve|translate|export)\b(.*)", line.replace("docker", ""))
            if found and "--" in found[2]:
                verb, *gan = found[1].split()
                parser = _parser(verb, gan[0] if gan else None, None)
                known = parser._subparsers._group_actions[0].choices[verb]
                known = known._subparsers._group_actions[0].choices[gan[0]] if gan else known
                for flag in re.findall(r"(?<= )--[a-z-]+", found[2]):
                    assert flag in known.format_help(), line


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_what_is_called_tried(tmp_path):
    """All of it in one shell, from top to bottom, in an empty folder with two pictures."""
    (tmp_path / "bin").mkdir()
    for name, text in (("pygan", PYGAN), ("sleep", SLEEP)):
        file = tmp_path / "bin" / name
        file.write_text(text.format(python=sys.executable, sleep=shutil.which("sleep")))
        file.chmod(0o755)
    here = tmp_path / "here"
    (here / "pictures").mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png")):
        (here / "pictures" / name).write_bytes(hostile_files.good_picture(hostile_files.random.Random(k)))
    tried = [commands for _, info, commands in blocks() if info == "bash tried"]
    script = "set -e\n" + "\n".join(tried) + "\necho the end of the page\n"
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.rstrip().endswith("the end of the page")
    for run in ("mine", "spot"):
        assert (here / "runs" / run / "checkpoints" / "last" / "G.safetensors").exists()
    for made in ("mine.safetensors", "a.png", "results/a.png", "results/b.png", "runs/mine/report.html"):
        assert (here / made).stat().st_size > 100, made
    assert "401\n" in done.stdout  # without the key
    assert "ExecStart=/" in (here / "pygan-train.service").read_text()
