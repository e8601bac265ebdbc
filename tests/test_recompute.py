"""Activations that are computed again: the same numbers, bit for bit, in less memory."""

from dataclasses import replace

import pytest
import torch

from pygan import gans
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.ops.philox import new_rng
from pygan.plan.walk import walk

CASES = {
    "pix2pix": {},
    "pix2pix nearest": {"upsample": "nearest"},
    "pix2pix encoder first, some skips": {"concat": "encoder_first", "skips": "1,3"},
    "pix2pix wgangp": {"gan_mode": "wgangp", "norm": "instance"},
    "pix2pix with averages": {"ema_half_life_images": 10.0, "first": "G"},
    "cyclegan": {},
    "cyclegan BatchNorm, dropout": {"norm": "batch", "dropout_p": 0.5},
    "cyclegan zeros": {"padding": "zeros", "sum_relu": True},
    "cyclegan in turns": {"optimizers": "four", "norm": "batch"},
    "cyclegan unet": {"generator": "unet"},
    "stargan": {},
    "simgan": {},
    "bigan": {},
    "feature_gan": {},
}


def made(case, device="cpu", **fields):
    """(the GAN, its resolved tiny recipe)."""
    gan = gans.load(case.split()[0])
    return gan, gan.resolve(recipes.make(gan.Recipe, gan.PRESETS, "tiny", CASES.get(case, {}) | fields))


def filled(gan, recipe, device, seed):
    """A batch of random values: in [-1, 1], labels 0 or 1."""
    draws = torch.Generator().manual_seed(seed)

    def values(empty):
        drawn = torch.rand(empty.shape, generator=draws) * 2 - 1
        return (drawn if empty.dim() == 4 else (drawn > 0).float()).to(device)

    batch = gan.example(recipe, "cpu")
    return type(batch)(*(values(one) for one in batch))


def trained(gan, recipe, device="cpu", steps=2):
    """(logs of each step, all tensors of the state) after some steps."""
    state = gan.build(recipe, device)
    logs = [gan.step(state, recipe, filled(gan, recipe, device, seed)) for seed in range(steps)]
    return logs, {name: tensor.clone() for name, tensor in state.tensors().items()}


def same(a, b):
    """Names of tensors that differ in a bit."""
    return [name for name in a if not torch.equal(a[name], b[name])]


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_the_same_bit_for_bit(case):
    gan, recipe = made(case)
    logs, tensors = trained(gan, recipe)
    logs_again, tensors_again = trained(gan, replace(recipe, recompute=True))
    assert not any(same(a, b) for a, b in zip(logs, logs_again, strict=True))
    assert tensors.keys() == tensors_again.keys()
    assert same(tensors, tensors_again) == []
    assert all(torch.isfinite(value) for step in logs for value in step.values())


@pytest.mark.parametrize("case", ["pix2pix", "cyclegan", "stargan", "simgan", "bigan", "feature_gan"])
def test_a_step_keeps_less(case):
    gan, recipe = made(case, batch=8)
    kept, again = walk(gan, recipe, "cpu"), walk(gan, replace(recipe, recompute=True), "cpu")
    assert again.step["activations"] < 0.95 * kept.step["activations"]
    assert again.flops > kept.flops
    assert again.state == kept.state


def test_running_statistics_move_once():
    gan, recipe = made("pix2pix", recompute=True)
    state = gan.build(recipe, "cpu")
    before = {name: b.clone() for name, b in state.G.named_buffers() if "running_mean" in name}
    A, B = filled(gan, recipe, "cpu", 0)
    from pygan.nn import Mode

    fake = state.G(A, Mode(rng=new_rng(0, "cpu")))
    forward = {name: b.clone() for name, b in state.G.named_buffers() if "running_mean" in name}
    (fake - B).square().mean().backward()
    assert before
    assert all(not torch.equal(before[name], forward[name]) for name in before)
    assert all(torch.equal(dict(state.G.named_buffers())[name], forward[name]) for name in before)


@pytest.mark.parametrize("name", ["dcgan", "began", "cogan"])
def test_where_there_are_no_blocks_it_is_refused(name):
    gan, recipe = made(name, recompute=True)
    with pytest.raises(UserError, match="--recompute"):
        gan.build(recipe, "cpu")


@pytest.mark.parametrize("case", ["pix2pix", "cyclegan BatchNorm, dropout"])
def test_mixed_precision(case, monkeypatch):
    from pygan import device, optim

    def bf16(recipe, where):
        return torch.bfloat16, ""

    monkeypatch.setattr(optim, "precision", bf16)  # whatever this processor gains
    monkeypatch.setattr(device, "precision", bf16)
    gan, recipe = made(case, amp=True)
    (logs, tensors), (logs_again, tensors_again) = (trained(gan, replace(recipe, recompute=r)) for r in (False, True))
    assert same(tensors, tensors_again) == []
    assert not any(map(same, logs, logs_again))


@pytest.mark.cuda
@pytest.mark.parametrize("case", ["pix2pix", "cyclegan", "stargan"])
def test_inside_a_cuda_graph(case):
    from pygan.graph import GraphedStep

    gan, recipe = made(case, amp=True, deterministic=True)
    found = []
    for again in (False, True):
        one = replace(recipe, recompute=again)
        state = gan.build(one, "cuda")
        step = GraphedStep(
            lambda batch, one=one, state=state: gan.step(state, one, batch), state, filled(gan, one, "cuda", 0)
        )
        for seed in range(3):
            step(filled(gan, one, "cuda", seed))
        torch.cuda.synchronize()
        found.append({name: tensor.clone() for name, tensor in state.tensors().items()})
    assert same(*found) == []


def test_a_run_goes_on_with_it(tmp_path):
    from safetensors.torch import load_file

    from pygan import loop

    same_recipe = {"preset": "tiny", "device": "cpu", "tensorboard": False, "steps": 3}
    whole = loop.train("pix2pix", run=tmp_path / "whole", **same_recipe)
    loop.train("pix2pix", run=tmp_path / "two", max_steps=1, **same_recipe)
    two = loop.train("pix2pix", run=tmp_path / "two", device="cpu", recompute=True)
    for name in ("G", "D", "state"):
        a, b = (load_file(run / "checkpoints/last" / f"{name}.safetensors") for run in (whole, two))
        assert a.keys() == b.keys()
        assert same(a, b) == []
