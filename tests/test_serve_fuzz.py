"""A server fuzzed from its own description by schemathesis, every check on, over real HTTP.

Here it is small and seeded; `python tests/test_serve_fuzz.py 500` asks 500 times as much of each route.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import Negative, served

pytest.importorskip("schemathesis", reason="pip install '.[test]' in pygan's checkout")
KEY = "a-key-of-a-test"
HERE = Path(__file__).parent


def every_kind():
    return {
        "plain": Negative(),
        "ways": Negative(options={"direction": ("AtoB", "BtoA")}),
        "many": Negative(options={"to": ("Blond_Hair", "Male")}),
        "dice": Negative(acts=("translate", "generate"), chance=True),
        "words": Negative(acts=("generate",), asks=("text",)),
    }


def fuzz(networks, key, examples, seed, folder, *more_flags):
    """(exit code, what it said) of a run against a server of its own."""
    with served(networks, api_key=key, most_pictures=3, timeout_s=60.0) as running:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json"]
        command += ["--checks", "all", "--mode", "all", "--max-examples", str(examples), "--seed", str(seed)]
        command += ["--no-color", "--request-timeout", "60", "--suppress-health-check", "all"]
        command += ["--header", f"Authorization: Bearer {key}"] if key else []
        command += more_flags
        more = {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(HERE)}
        done = subprocess.run(command, env=os.environ | more, cwd=folder, capture_output=True, text=True, timeout=3600)
        assert (running.house.batcher.taken, running.house.batcher.waiting) == (0, 0)
        return done.returncode, done.stdout + done.stderr


def test_the_description_is_true(tmp_path):
    options = {"direction": ("AtoB", "BtoA"), "to": ("Blond_Hair", "Male")}
    one = Negative(acts=("translate", "generate"), options=options, asks=("text",))
    code, said = fuzz({"one": one}, KEY, 2, 1, tmp_path)
    assert code == 0, said


def test_a_description_that_is_not_true_is_found_out(tmp_path, monkeypatch):
    """A status that is not described, and a picture that is described as JSON."""
    from pygan.serve import openapi

    plain = openapi.describe

    def lying(models, settings):
        description = plain(models, settings)
        answers = description["paths"]["/v1/translate/one"]["post"]["responses"]
        del answers["422"], answers["200"]["content"]["image/png"]
        return description

    monkeypatch.setattr(openapi, "describe", lying)
    code, said = fuzz({"one": Negative()}, "", 2, 1, tmp_path, "--include-path", "/v1/translate/one")
    assert code == 1
    assert "ST103" in said
    assert "ST105" in said


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        for a_key in ("", KEY):
            code, said = fuzz(
                every_kind(), a_key, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1, place
            )
            print(said)
            if code:
                sys.exit(code)
