"""The house: a file imports from floors below its own, or from inside its own folder. GANs never import each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pygan"
FLOOR = {"__main__": 5, "__init__": 5, "gans": 3, "ops": 1, "streams": 1, "errors": 0, "signals": 0, "version": 0}
FLOOR |= dict.fromkeys(
    (
        "loop", "resume", "graph", "translate", "sample", "doctor", "kernels", "heldout", "log", "use", "imports",
        "evaluate", "report", "compare", "study", "quiz", "judge", "watch", "api", "apply", "noise",
        "bundle", "export", "exported", "plan", "progress", "serve", "tiles",
    ),
    4,
)  # fmt: skip
FLOOR |= dict.fromkeys(
    (
        "data",
        "recipe",
        "state",
        "begin",
        "outputs",
        "bootstrap",
        "distributions",
        "segmentation",
        "features",
        "neighbours",
        "vitals",
        "diagnosis",
        "page",
        "pixels",
        "kinds",
        "checkpoint",
        "rundir",
        "device",
        "heap",
        "pictures",
        "losses",
        "optim",
        "nn",
        "nets",
        "metrics",
        "baselines",
        "pool",
    ),
    2,
)


def imports(path):
    """The pygan modules that a file names in its imports, as dotted parts without "pygan"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "pygan":
            names = [f"pygan.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
        else:
            continue
        yield from (name.split(".")[1:] for name in names if name.startswith("pygan."))


def violations(path, module, found):
    """Those of the imports `found` in the file of `module` that point up or across."""
    own = module[0]
    for target in found:
        if target[0] not in FLOOR:
            yield f"{'.'.join(module)} imports {target[0]}, which has no floor in tests/test_arrows.py"
        elif target[0] != own and FLOOR[target[0]] > FLOOR[own]:
            yield f"{'.'.join(module)} (floor {FLOOR[own]}) imports {'.'.join(target)} (floor {FLOOR[target[0]]})"
        elif own == "gans" and target[0] == "gans" and len(module) > 2 and tuple(target[1:2]) != module[1:2]:
            yield f"{'.'.join(module)} imports another GAN: {'.'.join(target)}"


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_point_down(path):
    module = path.relative_to(PACKAGE).with_suffix("").parts
    assert module[0] in FLOOR, f"{path.name} needs a floor in tests/test_arrows.py"
    assert not list(violations(path, module, imports(path)))


def test_an_arrow_that_points_up_is_seen(tmp_path):
    bad = tmp_path / "x.py"
    bad.write_text("from pygan import loop\nimport pygan.gans.dcgan.model\nfrom pygan.ops.norm_act import norm_act\n")
    assert len(list(violations(bad, ("nn",), imports(bad)))) == 2
    assert len(list(violations(bad, ("gans", "pix2pix", "model"), imports(bad)))) == 2
