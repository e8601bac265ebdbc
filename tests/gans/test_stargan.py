"""StarGAN: counts and fingerprints of its networks, the step against the equations in stock PyTorch, how G is used."""

import functools

import fingerprint
import numpy as np
import pytest
import stock
import torch
import torch.nn.functional as F
from stock import counts
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan import checkpoint
from pygan import recipe as recipes
from pygan.data import Facts, JointLabelled, Labelled
from pygan.data.picture_files import window_of
from pygan.errors import UserError
from pygan.gans import stargan
from pygan.gans.stargan import PRESETS, Recipe
from pygan.gans.stargan import model as networks
from pygan.gans.stargan import recipe as recipe_module
from pygan.nn import Conv
from pygan.ops.philox import words
from pygan.state import State

TINY = PRESETS["tiny"]
HAIR = ["Black_Hair", "Blond_Hair", "Brown_Hair"]
WIDE = {"ngf": 16, "ndf": 64, "crop_size": 32, "load_size": 32}
ON_A_GPU = {
    "wider": WIDE,
    "two sets": {**WIDE, "data_2": Recipe().data},
    "two sets in bf16": {**WIDE, "data_2": Recipe().data, "amp": True},
    "two sets in fp16": {**WIDE, "data_2": Recipe().data, "amp": True, "amp_dtype": "fp16"},
}
doubled = functools.partial(stock.doubled, stargan)


def tiny(facts=None, **fields):
    return stargan.resolve(Recipe(**{**TINY, **fields}), facts)


def joint(**fields):
    return tiny(Facts((3,), labels=("a", "b", "c"), labels_2=("x", "y"), single_2=True), data_2="there", **fields)


def pictures(recipe, seed=0, dtype=torch.float32, device="cpu"):
    """A batch of noise for one step, with labels as the recipe's modes have them."""
    draws, tensors = torch.Generator().manual_seed(seed), []
    n, size = stargan.images_per_step(recipe), recipe.crop_size
    for names, mode in ((recipe.labels, recipe.cls_mode), (recipe.labels_2, recipe.cls_mode_2)):
        if not names:
            continue
        k = len(names.split(","))
        image = torch.rand((n, recipe.channels, size, size), generator=draws, dtype=dtype) * 2 - 1
        if mode == "single":
            label = F.one_hot(torch.randint(k, (n,), generator=draws), k).float()
        else:
            label = torch.randint(2, (n, k), generator=draws).float()
        tensors += [image.to(device).contiguous(memory_format=torch.channels_last), label.to(device)]
    return Labelled(*tensors) if len(tensors) == 2 else JointLabelled(*tensors)


# The networks


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (8_430_528, 44_762_048)),
        ({"load_size": 256, "crop_size": 256}, (8_430_528, 44_884_928)),
        ({"labels": "a,b,c,d,e,f,g,h"}, (8_439_936, 44_786_624)),
        ({**PRESETS["joint"], "data_2": "there"}, (8_461_888, 45_147_072)),
    ],
)
def test_parameter_counts(fields, expected):
    recipe = stargan.resolve(Recipe(**fields))
    nets = recipe_module.generator, recipe_module.discriminator
    assert [counts(make, recipe) for make in nets] == [(count, 0) for count in expected]


@pytest.mark.parametrize(
    ("size", "labels", "classes", "expected"),
    [
        (128, 5, 5, (9_960_423_424, 683_786_240)),
        (256, 5, 5, (39_841_693_696, 2_735_144_960)),
        (128, 8, 8, (10_114_564_096, 683_810_816)),
        (256, 15, 13, (41_896_902_656, 2_735_407_104)),
    ],
)
def test_multiplications_of_one_image(size, labels, classes, expected):
    image, label = torch.empty(1, 3, size, size, device="meta"), torch.empty(1, labels, device="meta")
    with torch.device("meta"):
        G, D = networks.Generator(3, labels), networks.Discriminator(3, classes, size=size)
    counted = []
    for call in (lambda: G(image, label), lambda: D(image)):
        with FlopCounterMode(display=False) as counter:
            out = call()
        counted.append(counter.get_total_flops())
    assert tuple(counted) == (2 * expected[0], 2 * expected[1])
    assert [t.shape for t in out] == [(1, 1, size // 64, size // 64), (1, classes)]


def test_a_value_of_the_source_map_sees_318_pixels():
    with torch.device("meta"):
        D = networks.Discriminator(3, 5, size=128)
    pixels, step = 1, 1
    for conv in (*(layer.conv for layer in D.trunk), D.source):
        pixels, step = pixels + (conv.kernel_size[0] - 1) * step, step * conv.stride[0]
    assert pixels == 318


def test_fingerprint_of_g():
    image, label = fingerprint.filled((2, 3, 128, 128)), fingerprint.filled((2, 5), 9998)
    with torch.device("meta"):
        G = networks.Generator(3, 5)
    fingerprint.fill_(G, lambda G: G(image.to("meta", torch.float32), label.to("meta", torch.float32)))
    with torch.no_grad():
        output = G(image, label)
    expected = (-0.138720396, 0.491220731, 0.203025130, 0.082601940)
    np.testing.assert_allclose(fingerprint.signature(output), expected, rtol=0, atol=1e-7)


def test_fingerprint_of_d():
    image = fingerprint.filled((2, 3, 128, 128))
    with torch.device("meta"):
        D = networks.Discriminator(3, 5, size=128)
    fingerprint.fill_(D, lambda D: D(image.to("meta", torch.float32)))
    with torch.no_grad():
        _, classes = D(image)
    expected = (-0.242896488, 0.666600446, -0.405965747, -1.299611525)
    np.testing.assert_allclose(fingerprint.signature(classes), expected, rtol=0, atol=1e-7)


def test_a_label_reaches_the_picture():
    G = stargan.build(tiny(), "cpu").G
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        a, b = (G(image, torch.full((1, 5), value)) for value in (0.0, 1.0))
    assert not torch.allclose(a, b, atol=1e-3)
    with pytest.raises(ValueError, match="multiples of 4, got 18x16"):
        G(torch.rand(1, 3, 18, 16), torch.zeros(1, 5))


# The gradient penalty


def plain_d(channels, classes, ndf, layers, size):
    """(trunk, source, classes) of stock layers."""
    trunk, c = [], channels
    for i in range(layers):
        trunk += [nn.Conv2d(c, ndf * 2**i, 4, 2, 1), nn.LeakyReLU(0.01)]
        c = ndf * 2**i
    heads = nn.Conv2d(c, 1, 3, 1, 1, bias=False), nn.Conv2d(c, classes, size // 2**layers, bias=False)
    return nn.ModuleList([nn.Sequential(*trunk), *heads])


def plain_g(channels, labels, ngf, blocks):
    def norm(c):
        return nn.InstanceNorm2d(c, affine=True)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            c = 4 * ngf
            self.body = nn.Sequential(
                *(nn.Conv2d(c, c, 3, 1, 1, bias=False), norm(c), nn.ReLU()),
                *(nn.Conv2d(c, c, 3, 1, 1, bias=False), norm(c)),
            )

        def forward(self, x):
            return x + self.body(x)

    layers = [nn.Conv2d(channels + labels, ngf, 7, 1, 3, bias=False), norm(ngf), nn.ReLU()]
    for c in (ngf, 2 * ngf):
        layers += [nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False), norm(2 * c), nn.ReLU()]
    layers += [Block() for _ in range(blocks)]
    for c in (4 * ngf, 2 * ngf):
        layers += [nn.ConvTranspose2d(c, c // 2, 4, 2, 1, bias=False), norm(c // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(ngf, channels, 7, 1, 3, bias=False), nn.Tanh())


def beside(plain, net):
    """(parameter of a stock net, the same one of ours), in the order of the layers."""
    own, theirs = (list(one.parameters()) for one in (plain, net))
    assert [p.shape for p in own] == [p.shape for p in theirs]
    return list(zip(own, theirs, strict=True))


def copy_(pairs):
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)


@pytest.mark.parametrize("size", [16, 24])
def test_the_penalty_is_autograds_in_value_and_in_all_gradients(size):
    ours = stargan.build(tiny(crop_size=size, load_size=size, ndf=8), "cpu").D.double()
    plain = plain_d(3, 5, 8, 3, size).double()
    pairs = beside(plain, ours)
    copy_(pairs)
    x = torch.rand(3, 3, size, size, dtype=torch.float64) * 2 - 1

    gradient = ours.input_gradient(x)
    penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    penalty.backward()

    leaf = x.clone().requires_grad_()
    source = plain[1](plain[0](leaf))
    assert source.shape[2:] == (size // 8, size // 8)
    (expected,) = torch.autograd.grad(source.sum(), leaf, create_graph=True)
    expected_penalty = ((expected.flatten(1).norm(dim=1) - 1) ** 2).mean()
    expected_penalty.backward()

    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(penalty, expected_penalty, rtol=0, atol=1e-12)
    moved = 0
    for own, theirs in pairs:
        if own.dim() == 4 and own is not plain[2].weight:
            torch.testing.assert_close(theirs.grad, own.grad, rtol=0, atol=1e-12)
            moved += bool(theirs.grad.abs().max() > 1e-6)
        else:  # biases and the other head say nothing about a slope
            assert theirs.grad is None
            assert own.grad is None or not own.grad.any()
    assert moved == 4


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(8, 4, 2, 1), (9, 4, 2, 1), (6, 3, 1, 1), (7, 2, 3, 0)]
)
def test_an_adjoint_is_one(size, kernel, stride, padding):
    """The product of a layer's output with y is that of its input with the adjoint of y."""
    layer = Conv(3, 5, kernel=kernel, stride=stride, padding=padding, bias=False).double()
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    out = layer(x)
    y = torch.rand_like(out)
    back = layer.adjoint(y, x.shape[2:])
    assert back.shape == x.shape
    torch.testing.assert_close((out * y).sum(), (x * back).sum())


def test_no_adjoint_of_other_borders():
    for layer in (Conv(1, 1, kernel=3, padding=1, pad_mode="reflect"), Conv(1, 1, kernel=3, pad="right_bottom")):
        with pytest.raises(ValueError, match="padding by zeros"):
            layer.adjoint(torch.zeros(1, 1, 4, 4), (4, 4))
    with pytest.raises(ValueError, match="as many rows as columns"):
        Conv(1, 1, kernel=4, stride=2, padding=1).adjoint(torch.zeros(1, 1, 4, 4), (8, 9))


# Multiplications of the parts of D at 128 pixels with 5 classes.
SOURCE, CLASSES = 9 * 2048 * 4, 5 * 2048 * 4
TRUNK = 683_786_240 - SOURCE - CLASSES


def penalty_flops(penalty):
    with FlopCounterMode(display=False) as counter:
        penalty().backward()
    return counter.get_total_flops() // 2


def test_the_penalty_does_no_work_on_zeros():
    """Autograd's second derivative walks the forward pass once more: a convolution backward of zeros for each layer."""
    with torch.device("meta"):
        D = networks.Discriminator(3, 5, size=128)
    x = torch.empty(1, 3, 128, 128, device="meta")

    def eager():
        leaf = x.clone().requires_grad_()
        h = leaf
        for layer in D.trunk:
            h = F.leaky_relu(F.conv2d(h, layer.conv.weight, layer.conv.bias, 2, 1), 0.01)
        source = F.conv2d(h, D.source.weight, padding=1)
        (gradient,) = torch.autograd.grad(source.sum(), leaf, create_graph=True)
        return gradient.flatten(1).norm(dim=1).mean()

    def chain():
        return D.input_gradient(x).flatten(1).norm(dim=1).mean()

    # The maps, whose signs are the slopes; the chain; the chain's gradients by weights and by what goes through it.
    assert penalty_flops(chain) == TRUNK + (TRUNK + SOURCE) + (2 * TRUNK + SOURCE)
    # Autograd has the source map besides, and by zeros the gradients by the trunk's weights and by its inputs.
    assert penalty_flops(eager) == penalty_flops(chain) + 2 * SOURCE + 2 * TRUNK


def step_flops(n_critic, monkeypatch):
    """Multiplications of one step, per image of a mini-batch."""
    recipe = stargan.resolve(Recipe(batch=1, n_critic=n_critic))

    def update(state, name, loss):
        loss.backward(inputs=list(state.nets[name].parameters()))

    monkeypatch.setattr(recipe_module, "update", update)
    monkeypatch.setattr(recipe_module, "end_step_", lambda state, recipe: None)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        G, D = recipe_module.generator(recipe), recipe_module.discriminator(recipe)
        state = State(nets={"G": G, "D": D}, opts={}, buffers={"rng": torch.empty(2, dtype=torch.int64)})
        stargan.step(state, recipe, stargan.example(recipe))
    return counter.get_total_flops() // 2


def test_multiplications_of_a_step(monkeypatch):
    one, two = (step_flops(n, monkeypatch) for n in (1, 2))
    update_D, update_G = two - one, one - (two - one)
    g, stem, first = 9_960_423_424, 8 * 64 * 49 * 128**2, 3 * 64 * 16 * 64**2
    both = 2 * (TRUNK + SOURCE)  # of real and fake images; the class head sees the real ones
    penalty = 4 * TRUNK + 2 * SOURCE
    assert update_D == g + 3 * (both + CLASSES) - 2 * first + penalty
    assert update_D / 1e9 == pytest.approx(18.140 - 2 * TRUNK / 1e9, abs=2e-3)  # the published step without the zeros
    # Its own pass of G is the last update's of D, where G is the same.
    assert update_G == g + 2 * 2 * g - stem + 2 * (TRUNK + SOURCE + CLASSES)
    assert update_G / 1e9 == pytest.approx(60.719 - g / 1e9, abs=5e-4)


# The step, against stock PyTorch


def cross_entropy(logits, label, mode):
    """From the definitions, for labels of 0 and 1."""
    if mode == "multi":
        p = torch.sigmoid(logits)
        return -(label * p.log() + (1 - label) * (1 - p).log()).sum() / len(logits)
    return -(label * (logits - torch.logsumexp(logits, dim=1, keepdim=True))).sum() / len(logits)


def plain_update(G, D, opt_G, opt_D, recipe, code, part, real, label, order, alpha, with_G):
    """One iteration of the published algorithm for one data set. part: its logits; code: label -> what G is told."""
    target = label[order]

    def told(x, label):
        planes = code(label)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return G(torch.cat((x, planes), 1))

    fake = told(real, target)

    def judge(x):
        h = D[0](x)
        return D[1](h), D[2](h).flatten(1)[:, part]

    source, classes = judge(real)
    source_fake, _ = judge(fake.detach())
    between = (alpha * real + (1 - alpha) * fake.detach()).requires_grad_()
    slope = torch.autograd.grad(judge(between)[0].sum(), between, create_graph=True)[0]
    penalty = ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    named = cross_entropy(classes, label, recipe.cls_mode if part.start == 0 else recipe.cls_mode_2)
    loss_D = source_fake.mean() - source.mean() + recipe.lambda_cls * named + recipe.lambda_gp * penalty
    opt_D.zero_grad()
    loss_D.backward()
    opt_D.step()
    logs = {"loss/D": loss_D, "loss/D_cls": named, "loss/gp": penalty}
    logs |= {"logit/real": source.mean(), "logit/fake": source_fake.mean()}
    if not with_G:
        return {}

    fake = told(real, target)
    source_fake, classes = judge(fake)
    rec = recipe.lambda_rec * (told(fake, label) - real).abs().mean()
    named = cross_entropy(classes, target, recipe.cls_mode if part.start == 0 else recipe.cls_mode_2)
    loss_G = -source_fake.mean() + rec + recipe.lambda_cls * named
    opt_G.zero_grad()
    loss_G.backward()
    opt_G.step()
    return logs | {"loss/G": loss_G, "loss/G_gan": -source_fake.mean(), "loss/G_rec": rec, "loss/G_cls": named}


CASES = {
    "multi": lambda: tiny(lr=1e-3, n_critic=3, weight_decay=1e-3),
    "single": lambda: tiny(Facts((3,), labels=("a", "b", "c"), single=True), lr=1e-3, lambda_rec=5.0, lambda_cls=2.0),
    "joint": lambda: joint(lr=1e-3, lambda_gp=4.0),
    "grey": lambda: tiny(Facts((1,), labels=("a", "b")), lr=1e-3, n_critic=1, batch=3),
}


@pytest.mark.parametrize("case", CASES)
def test_three_steps_equal_the_equations_in_stock_pytorch(case):
    recipe = CASES[case]()
    state, n, c = doubled(recipe), recipe.batch, recipe.channels
    k = len(recipe.labels.split(","))
    k_2 = 2 if case == "joint" else 0
    G = plain_g(c, k + k_2 + (2 if k_2 else 0), recipe.ngf, recipe.blocks).double()
    D = plain_d(c, k + k_2, recipe.ndf, recipe.n_layers_d, recipe.crop_size).double()
    pairs = beside(G, state.G) + beside(D, state.D)
    copy_(pairs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), **numbers) for net in (G, D))

    def code_1(label):
        if not k_2:
            return label
        rest = torch.tensor([[0, 0, 1, 0]], dtype=label.dtype).expand(len(label), -1)
        return torch.cat((label, rest), 1)

    def code_2(label):
        return torch.cat((label.new_zeros(len(label), k), label, label.new_tensor([[0, 1]]).expand(len(label), -1)), 1)

    parts = [(code_1, slice(0, k)), (code_2, slice(k, k + k_2))][: 2 if k_2 else 1]
    permuted = 0
    for i in range(3):
        batch = pictures(recipe, seed=i, dtype=torch.float64)
        rng = state.rng.clone()
        logs = stargan.step(state, recipe, batch)
        expected, draw = {}, 0
        for j in range(recipe.n_critic):
            here = slice(j * n, (j + 1) * n)
            for s, (code, part) in enumerate(parts):
                real, label = batch[2 * s][here], batch[2 * s + 1][here].double()
                drawn = words(rng, recipe_module._TARGET_STREAM + draw, n).tolist()
                order = sorted(range(n), key=drawn.__getitem__)
                permuted += order != list(range(n))
                alpha = (words(rng, recipe_module._PENALTY_STREAM + draw, n).double() / 2**32).view(-1, 1, 1, 1)
                said = plain_update(
                    G, D, opt_G, opt_D, recipe, code, part, real, label, order, alpha, j == recipe.n_critic - 1
                )
                expected |= {name + ("_2" if s else ""): value for name, value in said.items()}
                draw += 1
        assert logs.keys() == expected.keys()
        for name, value in logs.items():
            torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    assert permuted


def test_the_published_numbers_of_logs():
    """D that says nothing: its loss is lambda_gp; a loss of a label is ln 2, of one of 3 classes ln 3."""
    for facts, expected in ((None, 5 * np.log(2)), (Facts((3,), labels=("a", "b", "c"), single=True), np.log(3))):
        recipe = tiny(facts, lr=0.0)
        state = stargan.build(recipe, "cpu")
        for head in (state.D.source, state.D.classify):
            nn.init.zeros_(head.weight)
        logs = stargan.step(state, recipe, pictures(recipe))
        assert float(logs["loss/gp"]) == 1.0
        assert float(logs["loss/D_cls"]) == pytest.approx(expected, rel=1e-6)
        assert float(logs["loss/G_cls"]) == pytest.approx(expected, rel=1e-6)
        assert float(logs["loss/D"]) == pytest.approx(10 + expected, rel=1e-6)
        assert float(logs["loss/G_gan"]) == 0


# What a step does


@pytest.mark.parametrize("make", [tiny, joint], ids=["one set", "two sets"])
def test_a_step_moves_both_nets_and_keeps_every_address(make):
    recipe = make(ema_half_life_images=4.0)
    state = stargan.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = stargan.step(state, recipe, pictures(recipe))
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert not torch.equal(tensor, before[name][1]), name
    assert state.rng.tolist() == [0, 1]
    assert int(state.opts["D"].tensors()["step"]) == recipe.n_critic * len(recipe_module._sets(recipe))
    assert int(state.opts["G"].tensors()["step"]) == len(recipe_module._sets(recipe))


def test_the_average_follows_images_not_updates():
    """After a half-life's images, half of the beginning is left."""
    recipe = tiny(ema_half_life_images=4.0, n_critic=2, batch=2)
    state = stargan.build(recipe, "cpu")
    start = [p.clone() for p in state.G.parameters()]
    stargan.step(state, recipe, pictures(recipe))
    for old, new, average in zip(start, state.G.parameters(), state.ema_G.parameters(), strict=True):
        torch.testing.assert_close(average, (old + new) / 2, rtol=0, atol=1e-7)


def test_every_step_draws_anew_and_a_checkpoint_goes_on(tmp_path):
    recipe = joint()
    batch = pictures(recipe)
    state = stargan.build(recipe, "cpu")
    rows = [stargan.step(state, recipe, batch) for _ in range(2)]
    checkpoint.save(tmp_path, state, {}, {})
    rows += [stargan.step(state, recipe, batch) for _ in range(2)]
    again = stargan.build(joint(seed=5), "cpu")
    checkpoint.load_newest(tmp_path, again)
    assert [stargan.step(again, recipe, batch) for _ in range(2)] == rows[2:]
    assert rows[0]["loss/gp"] != rows[1]["loss/gp"]

    still = tiny(lr=0.0)
    state = stargan.build(still, "cpu")
    losses = {float(stargan.step(state, still, pictures(still))["loss/gp"]) for _ in range(4)}
    assert len(losses) == 4


@pytest.mark.usefixtures("low_precision")
def test_a_step_in_16_bits_is_near():
    rows = {}
    for amp in (False, True):
        recipe = tiny(amp=amp)
        state = stargan.build(recipe, "cpu")
        rows[amp] = [
            {k: float(v) for k, v in stargan.step(state, recipe, pictures(recipe, seed=i)).items()} for i in range(2)
        ]
        assert any(leaf.dtype == torch.bfloat16 for leaf in state.opt_D.leaves()) == amp
    for exact, low in zip(rows[False], rows[True], strict=True):
        assert low == pytest.approx(exact, rel=0.03, abs=0.01)


# Learning rate


def test_the_rate_falls_to_0_over_the_second_half():
    recipe = Recipe()
    factor = [stargan.lr_factor(recipe, 1, step) for step in (0, 20_000, 20_001, 30_000, 39_999)]
    assert factor == pytest.approx([1.0, 1.0, 1 - 5 / 100_000, 0.5, 5 / 100_000], abs=1e-12)
    assert stargan.lr_factor(Recipe(decay_part=0.0), 1, 39_999) == 1.0


def test_the_rate_of_the_authors_code():
    """It is lowered by lr / 100,000 after each 1000th iteration beyond the 100,000th."""
    recipe = Recipe(lr_bug=True)
    lr, rates = 1e-4, []
    for iteration in range(200_000):
        if iteration % 5 == 0:
            rates.append(lr)
        if (iteration + 1) % 1000 == 0 and iteration + 1 > 100_000:
            lr -= 1e-4 / 100_000
    assert lr == pytest.approx(9.99e-5)
    assert [1e-4 * stargan.lr_factor(recipe, 1, step) for step in range(40_000)] == pytest.approx(rates, rel=1e-9)


def test_the_rate_may_follow_epochs():
    recipe = Recipe(steps=0, epochs=10, decay_epochs=9)
    assert [stargan.lr_factor(recipe, e, 0) for e in (10, 15, 19)] == pytest.approx([1.0, 0.5, 0.1])


# Use


def test_translate_paints_the_named_labels():
    recipe = tiny()
    G = stargan.build(recipe, "cpu").G
    image = torch.rand(2, 3, 16, 24) * 2 - 1
    painted = stargan.translate(G, recipe, image, to="Blond_Hair, Male")
    with torch.no_grad():
        expected = G(image, torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]]).expand(2, -1))
    assert torch.equal(painted, expected)
    assert not painted.requires_grad


def test_translate_with_two_sets_and_with_classes():
    recipe = joint()
    G = stargan.build(recipe, "cpu").G
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    for to, code in (("b", [0, 1, 0, 0, 0, 1, 0]), ("a,c", [1, 0, 1, 0, 0, 1, 0]), ("y", [0, 0, 0, 0, 1, 0, 1])):
        with torch.no_grad():
            expected = G(image, torch.tensor([code], dtype=torch.float32).expand(2, -1))
        assert torch.equal(stargan.translate(G, recipe, image, to=to), expected)
    for to, says in (
        ("x,y", "--to must name one of x, y, got 'x,y'"),
        ("a,x", "--to got 'a,x': name labels to paint, of a, b, c; or x, y"),
        ("z", "--to does not know 'z': name labels to paint, of a, b, c; or x, y"),
        ("", "--to is missing: name labels to paint, of a, b, c; or x, y"),
    ):
        with pytest.raises(UserError) as error:
            stargan.translate(G, recipe, image, to=to)
        assert str(error.value) == says


def test_columns_of_a_sample_follow_the_authors_rules():
    recipe = tiny()
    G = stargan.build(recipe, "cpu").G
    batch = pictures(recipe)
    label = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 1, 0, 1]]).repeat(2, 1)
    columns = stargan.sample(G, recipe, Labelled(batch.image, label))
    assert list(columns) == ["input", *HAIR, "Male", "Young"]
    rules = {
        "Black_Hair": [[1.0, 0, 0, 1, 0], [1, 0, 0, 0, 1]],
        "Blond_Hair": [[0.0, 1, 0, 1, 0], [0, 1, 0, 0, 1]],
        "Brown_Hair": [[0.0, 0, 1, 1, 0], [0, 0, 1, 0, 1]],
        "Male": [[1.0, 0, 0, 0, 0], [0, 0, 1, 1, 1]],
        "Young": [[1.0, 0, 0, 1, 1], [0, 0, 1, 0, 0]],
    }
    assert torch.equal(columns["input"], batch.image)
    for name, target in rules.items():
        with torch.no_grad():
            assert torch.equal(columns[name], G(batch.image, torch.tensor(target).repeat(2, 1)))


def test_columns_of_two_sets():
    recipe = joint()
    state, batch = stargan.build(recipe, "cpu"), pictures(recipe)
    columns = stargan.sample(state.G, recipe, batch)
    assert list(columns) == ["input", "a", "b", "c", "x", "y"]
    assert torch.equal(columns["y"], stargan.translate(state.G, recipe, batch.image, to="y"))


def test_measures_are_means_over_all_labels():
    recipe = tiny(Facts((3,), labels=("a", "b"), single=True))
    state, batch = stargan.build(recipe, "cpu"), pictures(recipe)
    found = stargan.measure(state.nets, recipe, batch)
    assert list(found) == ["rec_l1", "cls_error", "cls_error_real"]
    G, D = state.G, state.D
    with torch.no_grad():
        distances, wrong = [], []
        for i in range(2):
            target = torch.eye(2)[i].expand(len(batch.image), -1)
            fake = G(batch.image, target)
            distances.append((G(fake, batch.label) - batch.image).abs().mean() * 127.5)
            wrong.append((D(fake)[1].argmax(1) != i).float().mean())
        real = (D(batch.image)[1].argmax(1) != batch.label.argmax(1)).float().mean()
    assert float(found["rec_l1"]) == pytest.approx(float(sum(distances)) / 2, rel=1e-6)
    assert float(found["cls_error"]) == pytest.approx(float(sum(wrong)) / 2)
    assert float(found["cls_error_real"]) == float(real)
    two = joint()
    found = stargan.measure(stargan.build(two, "cpu").nets, two, pictures(two))
    assert next(iter(found)) == "rec_l1"
    assert "cls_error_real_2" in found


def test_errors_of_a_class_head():
    logits, label = torch.tensor([[2.0, -1.0], [1.0, 3.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert recipe_module._error(logits, label, "multi") == 0.5
    assert recipe_module._error(logits, torch.eye(2)[[0, 0]], "single") == 0.5


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    recipe = stargan.resolve(Recipe(**PRESETS[preset]))
    assert recipe.labels == recipe_module.CELEBA
    assert "auto" not in (recipe.cls_mode, recipe.channels)
    assert stargan.resolve(recipe) == recipe
    again = recipes.from_dict(Recipe, recipes.to_dict(recipe), "here")
    stargan.build(again, "meta")


def test_the_paper_is_the_paper():
    recipe = stargan.resolve(Recipe(**PRESETS["paper"]))
    expected = {
        **{"crop_size": 128, "load_size": 128, "pre_crop": "178", "flip": True, "ngf": 64, "ndf": 64, "blocks": 6},
        **{"n_layers_d": 6, "batch": 16, "n_critic": 5, "steps": 40_000, "decay_part": 0.5, "lr_bug": False},
        **{"lambda_cls": 1.0, "lambda_rec": 10.0, "lambda_gp": 10.0, "lr": 1e-4, "beta1": 0.5, "beta2": 0.999},
        **{"weight_decay": 0.0, "init": "pytorch", "cls_mode": "multi", "labels_2": "", "ema_half_life_images": 0.0},
        **{"labels": "Black_Hair,Blond_Hair,Brown_Hair,Male,Young"},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert recipe.steps * recipe.n_critic == 200_000
    assert stargan.images_per_step(recipe) == 80


def test_presets_cut_faces_as_the_authors_do():
    """CelebA to its middle 178 pixels, RaFD (256 x 256) to itself, also where one preset cuts both."""
    sizes = {"celeba": (178, 218), "rafd": (256, 256)}
    expected = {"celeba": (0, 20, 178, 198), "rafd": (0, 0, 256, 256)}
    for preset, sets in {
        "paper": ["celeba"],
        "fast": ["celeba"],
        "rafd": ["rafd"],
        "joint": ["celeba", "rafd"],
    }.items():
        recipe = Recipe(**PRESETS[preset])
        assert recipe.crop_size == (256 if preset == "joint" else 128)
        for name in sets:
            assert window_of(recipe.pre_crop, *sizes[name]) == expected[name], (preset, name)


def test_labels_come_from_the_data():
    facts = Facts((1,), labels=("red", "blue"), single=True)
    recipe = stargan.resolve(Recipe(), facts)
    assert (recipe.labels, recipe.cls_mode, recipe.channels) == ("red,blue", "single", 1)
    assert stargan.resolve(recipe, facts) == recipe
    assert stargan.resolve(Recipe(cls_mode="multi"), facts).cls_mode == "multi"
    both = Facts((3,), labels=("a",), labels_2=("b", "c"), single_2=True)
    recipe = stargan.resolve(Recipe(data_2="there"), both)
    assert (recipe.labels_2, recipe.cls_mode, recipe.cls_mode_2) == ("b,c", "multi", "single")
    batch = stargan.example(recipe)
    assert [tuple(t.shape) for t in batch] == [(80, 3, 128, 128), (80, 1), (80, 3, 128, 128), (80, 2)]


@pytest.mark.parametrize(
    ("fields", "facts", "says"),
    [
        ({"crop_size": 96, "load_size": 96}, None, "--crop-size must be a multiple of 64 such as 64 or 128"),
        ({"crop_size": 256}, None, "--load-size must be at least --crop-size 256, got 128"),
        ({"n_layers_d": 11}, None, "--n-layers-d must be at most 10"),
        ({"n_critic": 0}, None, "--n-critic must be at least 1"),
        ({"decay_part": 1.5}, None, "--decay-part must be at most 1"),
        ({"lambda_rec": -1.0}, None, "--lambda-rec must be at least 0.0"),
        ({"labels": "a,,b"}, None, "--labels 'a,,b' must be different names"),
        ({"labels": "a,b"}, Facts((3,), labels=("a", "c")), "--labels is a,b, but the data has a,c"),
        ({}, Facts((3,), labels=("a", "b,c")), "the data's labels must be different names without commas"),
        ({"channels": 3}, Facts((1,), labels=("a",)), "--channels is 3, but the data has 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(fields, facts, says):
    with pytest.raises(UserError) as error:
        stargan.resolve(Recipe(**fields), facts)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
