"""Every GAN's step in every variant as a GPU has to compute it; and on the CPU whatever of that a CPU can show.

A new GAN is tested by being there; `on_a_gpu` says how its tests add variants.
"""

import contextlib
import dataclasses

import pytest
import torch
from on_a_gpu import Rehearsed, assert_near, assert_same, cases, moved, phases, run

from pygan import kernels, optim
from pygan.graph import GraphedStep

ROUNDING = 2e-2  # two steps in float32, their sums in another order
BITS_16 = 0.1  # two steps, against float32


@pytest.fixture
def fixed_algorithms(monkeypatch):
    """No measuring of convolutions, and no atomics: two runs of one step have the same bits."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.fixture
def early(monkeypatch):
    """Weights move during the backward pass of small nets, too."""
    monkeypatch.setattr(optim, "_BUCKET", 1 << 12)


@contextlib.contextmanager
def nothing_waits():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.usefixtures("fixed_algorithms", "early")
@pytest.mark.parametrize("case", cases())
def test_a_captured_step_equals_the_plain_one_bit_for_bit(case):
    for recipe, batches in phases(case, 6, ema_half_life_images=100.0):
        plain, captured = (run(case.gan, recipe, batches, "cuda", wrap=wrap) for wrap in (None, GraphedStep))
        assert_same(plain, captured)


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("case", cases(amp=False))
def test_steps_that_are_taken_back_leave_no_trace(case):
    """As a GraphedStep takes back its warm-up: all that a step changes is among the tensors of its state."""
    for recipe, batches in phases(case, 2, ema_half_life_images=100.0):
        plain, rehearsed = (run(case.gan, recipe, batches, "cpu", wrap=wrap) for wrap in (None, Rehearsed))
        assert_same(plain, rehearsed)


@pytest.mark.cuda
@pytest.mark.parametrize("case", cases())
def test_a_step_never_waits_for_the_gpu(case):
    gan = case.gan
    for recipe, batches in phases(case, 3):
        state = gan.build(recipe, "cuda")
        first, *rest = [type(batch)(*(tensor.cuda() for tensor in batch)) for batch in batches]
        gan.step(state, recipe, first)
        with nothing_waits():
            for batch in rest:
                gan.step(state, recipe, batch)


@pytest.mark.parametrize("case", cases(amp=False))
def test_a_step_asks_for_no_number(case):
    """Where a GPU would have to be waited for, tensors without memory have no answer."""
    gan = case.gan
    for recipe, batches in phases(case, 1):
        state = gan.build(recipe, "meta")
        state.opts = dict.fromkeys(state.opts, kernels.Still())
        logs = gan.step(state, recipe, type(batches[0])(*(tensor.to("meta") for tensor in batches[0])))
        assert {value.device.type for value in logs.values()} == {"meta"}


@pytest.mark.cuda
@pytest.mark.parametrize("case", cases(amp=False))
def test_a_step_on_cuda_equals_the_cpu(case, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    for recipe, batches in phases(case, 2):
        cpu, cuda = (run(case.gan, recipe, batches, device) for device in ("cpu", "cuda"))
        assert_near(cuda, cpu, ROUNDING)
        assert moved(cuda) == moved(cpu)


@pytest.mark.parametrize("case", cases(amp=False, own=False))
def test_what_is_rounded_otherwise_changes_little(case):
    """Of the pictures' 24 bits the last three change by chance: a GPU's sums differ from a CPU's by less than that."""
    draws = torch.Generator().manual_seed(0)
    for recipe, batches in phases(case, 2):
        rounded = [
            type(batch)(
                *(x * (1 + 1e-6 * (torch.rand(x.shape, generator=draws) - 0.5)) if x.dim() == 4 else x for x in batch)
            )
            for batch in batches
        ]
        a, b = (run(case.gan, recipe, which, "cpu") for which in (batches, rounded))
        assert any(not torch.equal(a.after[name], b.after[name]) for name in a.after)
        assert_near(b, a, ROUNDING / 4)


def in_16_bits(case, amp_dtype, device):
    """Steps in float32, and in 16 bits."""
    for recipe, batches in phases(case, 2):
        low = dataclasses.replace(recipe, amp=True, amp_dtype=amp_dtype)
        exact, near = (run(case.gan, one, batches, device) for one in (recipe, low))
        assert_near(near, exact, BITS_16)
        assert any(not torch.equal(value, near.logs[0][name]) for name, value in exact.logs[0].items())
        assert all(tensor.dtype not in (torch.bfloat16, torch.float16) for tensor in near.after.values())


@pytest.mark.cuda
@pytest.mark.parametrize("amp_dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("case", cases(amp=False))
def test_16_bits_on_cuda_are_near(case, amp_dtype):
    if amp_dtype == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    in_16_bits(case, amp_dtype, "cuda")


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("case", cases(amp=False, own=False))
def test_16_bits_are_near(case):
    in_16_bits(case, "bf16", "cpu")


def trained_in_fp16(case, device):
    """The first steps find the scale of the losses, later ones train every net that float32 trains."""
    for recipe, batches in phases(case, 16):
        low = dataclasses.replace(recipe, amp=True, amp_dtype="fp16")
        exact = run(case.gan, recipe, batches[:1], device)
        near = run(case.gan, low, batches, device)
        assert float(near.before["buffer.loss_scale"]) == 2.0**16
        assert moved(near) == moved(exact) != set()
        assert all(tensor.isfinite().all() for tensor in near.after.values())
        assert all(value.isfinite() for value in near.logs[-1].values())


@pytest.mark.cuda
@pytest.mark.parametrize("case", cases(amp=False))
def test_fp16_training_on_cuda_scales_the_losses(case):
    trained_in_fp16(case, "cuda")


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("case", cases(amp=False, own=False))
def test_fp16_training_scales_the_losses(case):
    trained_in_fp16(case, "cpu")
