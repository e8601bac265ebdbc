"""Blocks: biases that a norm hides, statistics of each mode, the ways to double a map, how weights begin."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pygan.nn as pygan_nn
from pygan import nets
from pygan.nn import Conv, ConvNormAct, Deconv, Deconv3, DeconvSame, Mode, NormAct, UpsampleConv, init_weights_
from pygan.ops.conv import path as conv_path


def block_and_stock(norm="batch", bn="pytorch"):
    """A block whose convolution has a bias, and stock layers with the same numbers, in float64."""
    torch.manual_seed(0)
    eps, momentum = {"pytorch": (1e-5, 0.1), "keras": (1e-3, 0.01), "chainer": (2e-5, 0.1)}[bn]
    block = ConvNormAct(Conv(3, 5, kernel=3, padding=1), NormAct(5, norm=norm, act="leaky_relu", bn=bn)).double()
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    conv.load_state_dict(block.conv.state_dict())
    stock = {
        "batch": nn.BatchNorm2d(5, eps, momentum),
        "instance": nn.InstanceNorm2d(5, eps),
        "none": nn.Identity(),
    }[norm]
    return block, nn.Sequential(conv, stock.double(), nn.LeakyReLU(0.2))


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("bn", ["pytorch", "keras", "chainer"])
def test_a_bias_left_out_changes_nothing(norm, bn):
    block, stock = block_and_stock(norm, bn)
    for seed in range(3):
        x = torch.rand(4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(block(x), stock(x), rtol=0, atol=1e-12)
    if norm == "batch":
        torch.testing.assert_close(block.norm_act.running_mean, stock[1].running_mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(block.norm_act.running_var, stock[1].running_var, rtol=0, atol=1e-12)
    stock.eval()
    torch.testing.assert_close(block(x, Mode(statistics="running")), stock(x), rtol=0, atol=1e-12)


def test_the_running_mean_follows_the_bias_group_after_group():
    block, stock = block_and_stock()
    x = torch.rand(6, 3, 6, 6, dtype=torch.float64)
    both = torch.cat([stock(part) for part in x.chunk(3)])
    torch.testing.assert_close(block(x, Mode(groups=3)), both, rtol=0, atol=1e-12)
    torch.testing.assert_close(block.norm_act.running_mean, stock[1].running_mean, rtol=0, atol=1e-12)


def test_a_hidden_bias_has_no_gradient_and_a_visible_one_has():
    block, _ = block_and_stock()
    x = torch.rand(4, 3, 6, 6, dtype=torch.float64)
    block(x).sum().backward()
    assert block.conv.bias.grad is None
    block(x, Mode(statistics="running")).sum().backward()
    assert block.conv.bias.grad.abs().min() > 0


@pytest.mark.parametrize("statistics", ["update", "batch", "running"])
def test_only_training_moves_running_statistics(statistics):
    layer = NormAct(3, norm="batch", act="none")
    before = layer.running_mean.clone(), layer.running_var.clone()
    layer(torch.rand(2, 3, 4, 4) + 1, Mode(statistics=statistics))
    moved = [not torch.equal(a, b) for a, b in zip(before, (layer.running_mean, layer.running_var), strict=True)]
    assert moved == [statistics == "update"] * 2


def test_dropout_needs_random_numbers():
    layer = NormAct(3, norm="none", act="none", dropout_p=0.5, rng_stream=4)
    x = torch.ones(2, 3, 8, 8)
    assert torch.equal(layer(x), x)
    rng = torch.tensor([1, 0])
    dropped = layer(x, Mode(rng=rng))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped, layer(x, Mode(rng=rng)))
    assert not torch.equal(dropped, layer(x, Mode(rng=rng + torch.tensor([0, 1]))))
    other = NormAct(3, norm="none", act="none", dropout_p=0.5, rng_stream=5)
    assert not torch.equal(dropped, other(x, Mode(rng=rng)))


def test_a_mode_that_does_not_exist():
    with pytest.raises(ValueError, match='statistics must be "update", "batch" or "running"'):
        Mode(statistics="eval")


def test_doubling_layers():
    x = torch.rand(2, 4, 5, 3, dtype=torch.float64)
    deconv, same, up = Deconv(4, 3).double(), DeconvSame(4, 3).double(), UpsampleConv(4, 3).double()
    whole = F.conv_transpose2d(x, same.weight, same.bias, stride=2)
    assert whole.shape[2:] == (11, 7)
    torch.testing.assert_close(same(x), whole[:, :, :10, :6])
    twice = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(up(x), F.conv2d(twice, up.weight, up.bias, padding=1))
    assert deconv(x).shape == same(x).shape == up(x).shape == (2, 3, 10, 6)
    skip = torch.rand(2, 1, 10, 6, dtype=torch.float64)
    torch.testing.assert_close(
        up(x[:, :3], skip, with_bias=False), F.conv2d(torch.cat((twice[:, :3], skip), 1), up.weight, padding=1)
    )


def test_right_bottom_padding():
    conv = Conv(1, 1, kernel=3, stride=2, bias=False, pad="right_bottom")
    nn.init.ones_(conv.weight)
    torch.testing.assert_close(conv(torch.ones(1, 1, 4, 4)), torch.tensor([[[[9.0, 6.0], [6.0, 4.0]]]]))
    with pytest.raises(ValueError, match='pad must be "symmetric" or "right_bottom"'):
        Conv(1, 1, kernel=3, pad="same")


def initialised(kind, gain=0.02, **more):
    net = nn.Sequential(
        ConvNormAct(Conv(16, 64, kernel=4), NormAct(64, norm="batch", act="relu")), Deconv(64, 32), nn.Linear(64, 512)
    )
    init_weights_(net, kind, gain, torch.Generator().manual_seed(0), **more)
    return net


@pytest.mark.parametrize(
    ("kind", "conv", "deconv", "linear"),
    [
        ("normal", 0.02, 0.02, 0.02),
        # the fan of a convolution: 16 inputs per output channel; xavier: gain sqrt(2 / (fan in + fan out))
        ("xavier", 0.02 * (2 / (16 * 16 + 64 * 16)) ** 0.5, 0.02 * (2 / (16 * 96)) ** 0.5, 0.02 * (2 / 576) ** 0.5),
        ("kaiming", (2 / 256) ** 0.5, (2 / (32 * 16)) ** 0.5, (2 / 64) ** 0.5),
        ("glorot", (2 / (16 * 16 + 64 * 16)) ** 0.5, (2 / (16 * 96)) ** 0.5, (2 / 576) ** 0.5),
    ],
)
def test_weights_begin_with_the_spread_of_their_rule(kind, conv, deconv, linear):
    net = initialised(kind)
    for layer, std in ((net[0].conv, conv), (net[1], deconv), (net[2], linear)):
        assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.03)
        assert abs(float(layer.weight.detach().mean())) < 0.05 * std
        assert not layer.bias.any()
    assert float(net[0].norm_act.weight.detach().mean()) == pytest.approx(1.0, abs=0.01)
    assert float(net[0].norm_act.weight.detach().std()) == pytest.approx(0.0 if kind == "glorot" else 0.02, abs=0.005)


def test_orthogonal_weights():
    weight = initialised("orthogonal", gain=0.5)[0].conv.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 0.25 * torch.eye(64), rtol=0, atol=1e-5)


def test_glorot_is_uniform_and_norms_can_begin_at_one():
    weight = initialised("glorot")[2].weight.detach()
    assert float(weight.abs().max()) <= (6 / 576) ** 0.5
    assert torch.equal(initialised("normal", norm_std=0.0)[0].norm_act.weight, torch.ones(64))
    with pytest.raises(ValueError, match="kind must be one of normal"):
        initialised("zeros")


# Paths: the fused kernels' references on a CPU must be the plain blocks


@pytest.fixture
def own_kernels(monkeypatch):
    """Every layer takes the path that a GPU would take in bfloat16; on a CPU its op then runs its reference."""
    taken = []

    def as_on_a_gpu(x_shape, weight_shape, geometry, *, dtype, device_type, own=True):
        path = conv_path(x_shape, weight_shape, geometry, dtype=torch.bfloat16, device_type="cuda", own=own)
        taken.append(path.name)
        return path

    monkeypatch.setattr(pygan_nn, "conv_path", as_on_a_gpu)
    return taken


def net_and_inputs():
    torch.manual_seed(0)
    net = nets.unet(3, 3, levels=4, dropout_levels=(1,)).double()
    x = torch.rand(2, 3, 16, 32, dtype=torch.float64).mul(2).sub(1)
    return net, x.contiguous(memory_format=torch.channels_last)


def run_net(net, x, mode):
    net.zero_grad()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    y = net(x, mode)
    y.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    running = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            buffer.copy_(before[name])
    return {"y": y.detach()} | gradients | running


@pytest.mark.parametrize("statistics", ["update", "batch", "running"])
def test_fused_paths_compute_what_the_blocks_compute(own_kernels, statistics):
    net, x = net_and_inputs()
    mode = Mode(rng=torch.tensor([1, 2]), statistics=statistics, groups=1 if statistics == "running" else 2)
    pygan_nn.choose_kernels_(net, "library")
    expected = run_net(net, x, mode)
    assert set(own_kernels) == {"library"}
    own_kernels.clear()
    pygan_nn.choose_kernels_(net, "auto")
    got = run_net(net, x, mode)
    assert {"thin", "small", "library"} >= set(own_kernels) >= {"thin", "small"}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_reflected_layer_pads_unless_it_is_padded():
    conv = Conv(2, 3, kernel=3, padding=1, pad_mode="reflect").double()
    x = torch.rand(2, 2, 5, 6, dtype=torch.float64)
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = F.conv2d(padded, conv.weight, conv.bias)
    torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(conv(padded, padded=True), expected)
    assert conv.out_shape(x.shape) == expected.shape
    with pytest.raises(ValueError, match='pad_mode must be "zeros" or "reflect"'):
        Conv(2, 3, kernel=3, padding=1, pad_mode="mirror")


@pytest.mark.parametrize(
    "layer",
    [
        Conv(3, 4, kernel=4, stride=2, padding=1),
        Conv(3, 4, kernel=3, stride=2, pad="right_bottom"),
        Deconv(3, 4),
        Deconv3(3, 4),
        DeconvSame(3, 4),
        UpsampleConv(3, 4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_know_the_shape_of_their_output(layer):
    x = torch.rand(2, 3, 6, 8)
    assert layer(x).shape == layer.out_shape(x.shape)


def test_deconv3_doubles():
    layer = Deconv3(3, 4).double()
    x = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    expected = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1, output_padding=1)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape == (2, 4, 10, 12)
