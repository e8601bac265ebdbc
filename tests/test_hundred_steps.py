"""A hundred steps in bf16 follow a hundred of the plain float32 step: what each net is trained by stays within 1 %."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))  # last: the installed pygan, not that of the checkout

from benchmarks import cases, side_by_side
from pygan import optim

STEPS = 100


def run(case, way, device, monkeypatch):
    monkeypatch.setattr(side_by_side, "STEPS", STEPS)
    data = cases.batches(case, cases.WAYS[way], device)
    return side_by_side.losses(cases.build(case, cases.WAYS[way], device, check=True), data)


def of_both_nets(losses):
    """The sum of the losses of D and that of G's."""
    of_d = sum(value for name, value in losses.items() if name.startswith("loss/D"))
    return {"D": of_d, "G": sum(losses.values()) - of_d}


def check(case, device, monkeypatch):
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        expected, got = (run(case, way, device, monkeypatch) for way in ("eager", "pygan"))
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    assert len(got) == len(expected) == STEPS
    for number, (step, wanted) in enumerate(zip(got, expected, strict=True)):
        assert step.keys() >= wanted.keys()
        of_ours = of_both_nets({name: step[name] for name in wanted})
        assert of_ours == pytest.approx(of_both_nets(wanted), rel=0.01), f"step {number}"
    assert of_both_nets(expected[-1])["G"] < 0.999 * of_both_nets(expected[0])["G"]  # something was learned


def test_on_a_cpu(monkeypatch):
    def precision(recipe, device):
        return (torch.bfloat16 if recipe.amp else torch.float32), ""

    monkeypatch.setattr(optim, "precision", precision)  # whatever this processor can do
    check(cases.Case("pix2pix", 32, 8, 2), "cpu", monkeypatch)


@pytest.mark.cuda
@pytest.mark.parametrize("gan", ["pix2pix", "cyclegan"])
def test_on_a_gpu(gan, monkeypatch):
    check(cases.Case(gan, 128, 64, 2), "cuda", monkeypatch)
