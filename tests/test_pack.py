"""Weights that are packed once: every kind of convolution gives the same, without gradients and with them."""

import copy

import pytest
import torch

import pygan
from pygan import errors, gans, nn, use
from pygan.__main__ import main
from pygan.ops.conv import packs
from pygan.ops.philox import new_rng
from pygan.recipe import make

needs_onednn = pytest.mark.skipif(not packs(torch.ones(1)), reason="this PyTorch has no oneDNN")

KINDS = {
    "stride 2": lambda: nn.Conv(5, 6, kernel=4, stride=2, padding=1),
    "reflect": lambda: nn.Conv(5, 6, kernel=3, padding=1, pad_mode="reflect"),
    "no bias": lambda: nn.Conv(5, 6, kernel=3, padding=1, bias=False),
    "deconv": lambda: nn.Deconv(5, 6),
    "deconv 3": lambda: nn.Deconv3(5, 6),
    "deconv same": lambda: nn.DeconvSame(5, 6),
    "up": lambda: nn.UpsampleConv(5, 6),
}


def layer(kind):
    torch.manual_seed(0)
    return nn.place_(KINDS[kind](), "cpu").requires_grad_(False)


@needs_onednn
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 5, 4, 4), (3, 5, 9, 16), (2, 5, 2, 2)], ids=str)
def test_the_same_image(kind, shape):
    plain, x = layer(kind), torch.randn(shape)
    with_its_own = nn.pack_(copy.deepcopy(plain))
    with torch.inference_mode():
        torch.testing.assert_close(with_its_own(x), plain(x), atol=1e-6, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize("kind", ["stride 2", "deconv"])
def test_packed_weights_are_used_and_only_without_gradients(kind):
    plain, x = layer(kind), torch.randn((1, 5, 4, 4), requires_grad=True)
    packed = nn.pack_(copy.deepcopy(plain))
    with torch.no_grad():
        packed.weight.data.zero_()  # so that nobody notices
        assert packed(x).abs().max() > 0.1  # what was packed is another memory
        with nn.full_precision():
            torch.testing.assert_close(packed(x), _bias(plain).expand_as(plain(x)))
        packed.weight.zero_()
        torch.testing.assert_close(packed(x), _bias(plain).expand_as(plain(x)))
    packed.weight.data.copy_(plain.weight)
    (dx,) = torch.autograd.grad(packed(x).square().sum(), x)
    (wanted,) = torch.autograd.grad(plain(x).square().sum(), x)
    assert torch.equal(dx, wanted)


def _low(layer):
    return getattr(layer, "low", None)


def _bias(layer):
    return layer.bias.view(1, -1, 1, 1)


@needs_onednn
def test_a_copy_is_not_packed_and_the_state_is_as_before():
    packed = nn.pack_(layer("deconv"))
    assert packed.low is not None
    assert copy.deepcopy(packed).low is None
    assert list(packed.state_dict()) == ["weight", "bias"]


@needs_onednn
def test_a_whole_generator():
    gan = gans.load("pix2pix")
    recipe = gan.resolve(make(gan.Recipe, gan.PRESETS, "tiny", {}))
    net = nn.place_(gan.generator(recipe), "cpu").requires_grad_(False)
    A = torch.rand((2, 3, 32, 64)) * 2 - 1
    with torch.inference_mode():
        wanted = gan.translate(net, recipe, A, new_rng(0, torch.device("cpu")))
        found = gan.translate(nn.pack_(net), recipe, A, new_rng(0, torch.device("cpu")))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_what_every_way_to_a_network_uses_is_packed(tmp_path):
    """Of a run and of its safetensors file, for translate, the library and the server, which are to give one result."""
    run, file = tmp_path / "run", tmp_path / "G.safetensors"
    assert main(["train", "simgan", "--preset", "tiny", "--max-steps", "1", "--device", "cpu", "--no-tensorboard",
                 "--run", str(run)]) == 0  # fmt: skip
    assert main(["export", str(run), "--to", "safetensors", "-o", str(file)]) == 0
    for network in (use.network(run, device="cpu"), use.network(file, device="cpu"), pygan.load(run).network):
        layers = [one for one in network.net.modules() if nn.is_convolution(one)]
        assert len(layers) > 10
        assert all(_low(one) is not None and _low(one).weight.is_mkldnn for one in layers)
    assert all(_low(one) is None for one in use.load(run, "last", "cpu").net.modules() if nn.is_convolution(one))


def test_where_nothing_can_be_packed_that_is_said_once(monkeypatch, capfd):
    monkeypatch.setattr(nn, "packs", lambda weight: False)
    monkeypatch.setattr(errors, "_said", set())
    net = torch.nn.Sequential(layer("stride 2"), layer("up"))
    for _ in range(2):
        nn.pack_(net)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "no oneDNN that packs weights" in said
    assert all(_low(one) is None for one in net)
