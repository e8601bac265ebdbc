"""A step recorded as a CUDA graph computes what the plain step computes, bit for bit."""

import pytest
import torch

from pygan import optim
from pygan.gans import pix2pix

pytestmark = pytest.mark.cuda


@pytest.fixture
def fixed_algorithms(monkeypatch):
    """No measuring of convolutions, and no atomics: two runs of one step have the same bits."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(optim, "_BUCKET", 1 << 12)  # weights move during the backward pass of small nets, too
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def make(amp_dtype=None):
    amp = {"amp": True, "amp_dtype": amp_dtype} if amp_dtype else {}
    recipe = pix2pix.Recipe(**{**pix2pix.PRESETS["tiny"], **amp})
    recipe = pix2pix.resolve(recipe)
    return recipe, pix2pix.build(recipe, "cuda")


def batches(count):
    from pygan.data import Batch

    generator = torch.Generator("cuda").manual_seed(0)
    for _ in range(count):
        images = (torch.rand(2, 3, 32, 32, device="cuda", generator=generator).mul(2).sub(1) for _ in "AB")
        yield Batch(*(image.contiguous(memory_format=torch.channels_last) for image in images))


def run(recipe, state, graphed):
    from pygan.graph import GraphedStep

    def step(batch):
        return pix2pix.step(state, recipe, batch)

    losses, recorded = [], None
    for batch in batches(6):
        if graphed and recorded is None:
            recorded = GraphedStep(step, state, batch)
        logs = (recorded if graphed else step)(batch)
        losses.append({name: value.clone() for name, value in logs.items()})
    return losses, {name: tensor.clone() for name, tensor in state.tensors().items()}


@pytest.mark.usefixtures("fixed_algorithms")
@pytest.mark.parametrize("amp_dtype", [None, "bf16", "fp16"])
def test_graph_equals_plain_bit_for_bit(amp_dtype):
    plain_losses, plain = run(*make(amp_dtype), graphed=False)
    graph_losses, graph = run(*make(amp_dtype), graphed=True)
    for a, b in zip(plain_losses, graph_losses, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert plain.keys() == graph.keys()
    assert all(torch.equal(plain[name], graph[name]) for name in plain)


@pytest.mark.parametrize("amp_dtype", [None, "bf16", "fp16"])
def test_a_step_never_waits_for_the_gpu(amp_dtype):
    recipe, state = make(amp_dtype)
    data = list(batches(3))
    pix2pix.step(state, recipe, data[0])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in data[1:]:
            pix2pix.step(state, recipe, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("fixed_algorithms")
@pytest.mark.parametrize("amp_dtype", [None, "bf16", "fp16"])
def test_a_rerun_has_the_same_bits(amp_dtype):
    """With streams beside each other in the graph, too: nothing is added in an order that chance decides."""
    first_losses, first = run(*make(amp_dtype), graphed=True)
    again_losses, again = run(*make(amp_dtype), graphed=True)
    for a, b in zip(first_losses, again_losses, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.usefixtures("fixed_algorithms")
def test_a_graph_gathers_the_pictures_of_its_address():
    """The resident feed's gather inside the graph gives the losses of batches made outside."""
    from pygan.graph import GraphedStep

    recipe, _ = make("bf16")
    losses = []
    for inside in (False, True):
        state = pix2pix.build(recipe, "cuda")
        with pix2pix.batches(recipe, "train", torch.device("cuda")) as feed:

            def step(address, state=state, feed=feed):
                return pix2pix.step(state, recipe, feed.batch(address))

            source = feed.address if inside else feed.get
            act = step if inside else lambda batch, state=state: pix2pix.step(state, recipe, batch)
            recorded = GraphedStep(act, state, source(0))
            losses.append([float(recorded(source(2 * i))["loss/G_l1"]) for i in range(4)])
    assert losses[0] == losses[1]
