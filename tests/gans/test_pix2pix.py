"""pix2pix: counts of every variant, the step against the equations in stock PyTorch, how a trained G is used."""

import contextlib
import dataclasses
import functools
import itertools

import pytest
import stock
import torch
import torch.nn.functional as F
from stock import LOSSES, counts, noise
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan import nets, ops, optim, streams
from pygan.data import Batch, Facts
from pygan.errors import UserError
from pygan.gans import pix2pix
from pygan.gans.pix2pix import PRESETS, Recipe, model
from pygan.gans.pix2pix import recipe as recipe_module
from pygan.nn import Mode, is_convolution
from pygan.ops import _beside, _native
from pygan.ops.philox import words

TINY = PRESETS["tiny"]
ON_A_GPU = {
    "instance norm": {"norm": "instance"},
    "nearest": {"upsample": "nearest"},
    "wgangp": {"gan_mode": "wgangp"},
    "G first": {"first": "G", "d_fakes": "use", "label_smoothing": True, "label_flip": 0.3},
    "one class": {"d_batches": "one_class", "d_fakes": "use", "gan_mode": "softplus"},
    "thin and small convolutions": {"amp": True, "ngf": 64, "ndf": 64, "load_size": 64, "crop_size": 64},
}
doubled = functools.partial(stock.doubled, pix2pix)
pair = functools.partial(noise, pix2pix)


def tiny(**fields):
    return pix2pix.resolve(Recipe(**{**TINY, **fields}))


# Counts


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nets.unet(3, 3), (54_413_955, 9_856)),
        (lambda: nets.unet(3, 3, norm="instance"), (54_409_603, 0)),
        (lambda: nets.unet(3, 3, bias="all"), (54_419_459, 9_856)),
        (lambda: nets.unet(3, 3, bias="all", bottleneck_norm=True), (54_420_483, 10_880)),
        (lambda: nets.unet(3, 3, levels=7), (41_828_995, 7_808)),
        (lambda: nets.unet(3, 3, levels=7, bias="all"), (41_833_475, 7_808)),
        (lambda: nets.unet(3, 3, skips=()), (39_075_459, 9_856)),
        (lambda: nets.unet(3, 3, skips=(), bias="all"), (39_080_963, 9_856)),
        (lambda: model.keras_unet(1, 3), (19_295_875, 7_936)),
        (lambda: model.keras_unet(1, 3, skips={1}), (17_303_491, 7_936)),
        (lambda: model.keras_unet(1, 3, skips=()), (14_944_195, 7_936)),
        (lambda: model.keras_unet(3, 3, levels=8), (26_377_987, 9_984)),
        (lambda: model.keras_unet(3, 3, levels=8, upsample="deconv"), (30_618_691, 10_880)),
        (lambda: model.keras_unet(1, 3, upsample="deconv"), (23_536_579, 8_832)),
        (lambda: model.KerasTwoBranchD(1, 3, size=(128, 128)), (856_212, 1_280)),
        (lambda: model.KerasPatchD(3, size=(256, 256)), (6_275_652, 3_968)),
        (lambda: model.KerasPatchD(3, size=(256, 256), minibatch=True), (10_371_852, 3_968)),
        (lambda: model.chainer_unet(12, 3), (54_421_635, 10_880)),
        (lambda: model.chainer_unet(12, 3).downs, (19_545_536, 5_888)),
        (lambda: model.TwoInputD(12, 3), (2_767_553, 1_792)),
        (lambda: model.PatchD(3, 3), (2_768_705, 1_792)),
        (lambda: model.PatchD(3, 3, bias="all"), (2_769_601, 1_792)),
    ],
)
def test_parameter_counts(make, expected):
    assert counts(make) == expected


@pytest.mark.parametrize(
    ("make", "shapes", "expected"),
    [
        (lambda: nets.unet(3, 3), [(3, 256)], 6_048_186_368),
        (lambda: nets.unet(3, 3, skips=()), [(3, 256)], 4_034_920_448),
        (lambda: nets.unet(3, 3, levels=7), [(3, 128)], 1_505_755_136),
        (lambda: model.keras_unet(1, 3, upsample="deconv"), [(1, 128)], 842_268_672),
        (lambda: model.chainer_unet(12, 3), [(12, 256)], 24_268_242_944),
        (lambda: model.PatchD(3, 3), [(3, 256), (3, 256)], 3_197_140_992),
        (lambda: model.TwoInputD(12, 3), [(12, 256), (3, 256)], 1_737_621_504),
        (lambda: model.KerasTwoBranchD(1, 3, size=(128, 128)), [(1, 128), (3, 128)], 614_465_552),
    ],
)
def test_multiplications_of_one_image(make, shapes, expected):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        make()(*(torch.empty(1, channels, size, size) for channels, size in shapes))
    assert counter.get_total_flops() == 2 * expected


@pytest.mark.parametrize(
    ("n_layers", "conditional", "unconditional", "field", "size"),
    [
        (0, 9_024, 8_705, 1, 256),
        (1, 139_585, 136_385, 16, 126),
        (2, 666_433, 662_977, 34, 62),
        (3, 2_768_705, 2_764_737, 70, 30),
        (4, 6_964_033, 6_959_553, 142, 14),
        (5, 11_159_361, 11_154_369, 286, 6),
        (6, 15_354_689, 15_349_185, 574, 2),
    ],
)
def test_patch_discriminators(n_layers, conditional, unconditional, field, size):
    assert counts(lambda: model.PatchD(3, 3, n_layers=n_layers))[0] == conditional
    plain = {"n_layers": n_layers, "conditional": False, "norm": "instance"}
    assert counts(lambda: model.PatchD(0, 3, **plain))[0] == unconditional
    with torch.device("meta"):
        D = model.PatchD(3, 3, n_layers=n_layers)
        image = torch.empty(1, 3, 256, 256)
        assert D(image, image).shape == (1, 1, size, size)
    seen, jump = 1, 1  # of one logit, in pixels of the input
    for conv in [*(block.conv for block in D.blocks), D.head]:
        seen, jump = seen + (conv.kernel_size[0] - 1) * jump, jump * conv.stride[0]
    assert seen == field


SAVED_UNET = {1: 4_194_304, 2: 4_194_304, 3: 4_194_304, 4: 2_097_152, 5: 524_288, 6: 131_072, 7: 3_072}
SAVED_KERAS = {1: 2_359_296, 2: 1_179_648, 3: 589_824, 4: 147_456, 5: 73_728, 6: 1_728}


@pytest.mark.parametrize(
    ("make", "saved", "whole"),
    [
        (lambda skips: nets.unet(3, 3, skips=skips), SAVED_UNET, 54_413_955),
        (lambda skips: model.keras_unet(1, 3, skips=skips), SAVED_KERAS, 19_295_875),
    ],
    ids=["unet", "keras"],
)
def test_removing_skips_adds_up(make, saved, whole):
    subsets = [kept for size in (0, 1, 2, len(saved) - 1) for kept in itertools.combinations(saved, size)]
    for kept in subsets:
        expected = whole - sum(count for level, count in saved.items() if level not in kept)
        assert counts(lambda kept=kept: make(kept))[0] == expected


# The step


class PlainG(nn.Module):
    """The U-Net of the paper's appendix, of stock layers."""

    def __init__(self, G):
        super().__init__()
        widths = [down.conv.weight.shape[0] for down in G.downs]
        ends = [None, *widths[1:-1], None]  # neither e1 nor the innermost is normalised
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in zip([3, *widths], widths, strict=False)
        )
        self.down_norm = nn.ModuleList(nn.BatchNorm2d(c) if c else nn.Identity() for c in ends)
        shapes = [up.conv.weight.shape[:2] for up in G.ups] + [G.head.weight.shape[:2]]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=b == 3) for a, b in shapes)
        self.up_norm = nn.ModuleList(nn.BatchNorm2d(b) for _, b in shapes[:-1])

    def forward(self, x):
        features = []
        for i, (conv, norm) in enumerate(zip(self.down, self.down_norm, strict=True)):
            x = norm(conv(F.leaky_relu(x, 0.2) if i else x))
            features.append(x)
        features.pop()
        for conv, norm in zip(self.up, self.up_norm, strict=False):
            x = torch.cat((norm(conv(F.relu(x))), features.pop()), dim=1)
        return torch.tanh(self.up[-1](F.relu(x)))

    def pairs(self, G):
        """(parameter here, the same one in G)"""
        for own, theirs in zip([*self.down, *self.up], [*G.downs, *G.ups, G.head], strict=True):
            yield own.weight, theirs.weight if theirs is G.head else theirs.conv.weight
        yield self.up[-1].bias, G.head.bias
        for own, theirs in zip([*self.down_norm, *self.up_norm], [*G.downs, *G.ups], strict=True):
            if isinstance(own, nn.BatchNorm2d):
                yield own.weight, theirs.norm_act.weight
                yield own.bias, theirs.norm_act.bias
                yield own.running_mean, theirs.norm_act.running_mean
                yield own.running_var, theirs.norm_act.running_var


def plain_d(D):
    """The patch discriminator of the paper's appendix as an `nn.Sequential`, and its tensors beside D's."""
    layers, pairs = [], []
    for i, block in enumerate(D.blocks):
        own = block.conv
        layers += [nn.Conv2d(own.in_channels, own.out_channels, 4, own.stride, 1, bias=i == 0)]
        pairs += [(layers[-1].weight, own.weight)] + ([(layers[-1].bias, own.bias)] if i == 0 else [])
        if i:
            layers += [nn.BatchNorm2d(own.out_channels)]
            pairs += [(layers[-1].weight, block.norm_act.weight), (layers[-1].bias, block.norm_act.bias)]
        layers += [nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(D.head.in_channels, 1, 4, 1, 1)]
    pairs += [(layers[-1].weight, D.head.weight), (layers[-1].bias, D.head.bias)]
    return nn.Sequential(*layers), pairs


@pytest.mark.parametrize("mode", LOSSES)
def test_three_steps_equal_the_equations_in_stock_pytorch(mode):
    recipe = tiny(gan_mode=mode, dropout_p=0.0, ngf=4, ndf=4, lr=1e-3, weight_decay=1e-4)
    state = doubled(recipe)
    G, (D, d_pairs) = PlainG(state.G).double(), plain_d(state.D)
    D.double()
    pairs = [*G.pairs(state.G), *d_pairs]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": 1e-4, "foreach": False}
    opt_G, opt_D = torch.optim.Adam(G.parameters(), **numbers), torch.optim.Adam(D.parameters(), **numbers)
    loss_of_D, loss_of_G = LOSSES[mode]

    for i in range(3):
        A, B = pair(recipe, seed=i, dtype=torch.float64)
        alpha = (words(state.rng, recipe_module._PENALTY_STREAM, len(A)) / 2**32).double().view(-1, 1, 1, 1)
        logs = pix2pix.step(state, recipe, Batch(A, B))

        fake = G(A)
        loss_D = loss_of_D(D(torch.cat((A, B), 1)), D(torch.cat((A, fake.detach()), 1)))
        if mode == "wgangp":
            between = (alpha * B + (1 - alpha) * fake.detach()).requires_grad_()
            (slope,) = torch.autograd.grad(D(torch.cat((A, between), 1)).sum(), between, create_graph=True)
            loss_D = loss_D + 10 * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()
        distance = 100 * (fake - B).abs().mean()
        adversarial = loss_of_G(D(torch.cat((A, fake), 1)))
        opt_G.zero_grad()
        (adversarial + distance).backward()
        opt_G.step()

        for name, value in (("D", loss_D), ("G_gan", adversarial), ("G_l1", distance), ("G", adversarial + distance)):
            torch.testing.assert_close(logs[f"loss/{name}"].double(), value.detach(), rtol=1e-9, atol=1e-9)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        {"gan_mode": "softplus", "first": "G"},
        {"d_fakes": "use", "label_smoothing": True, "label_flip": 0.5},
        {"d_batches": "one_class", "gan_mode": "softplus", "d_fakes": "use"},
        {
            "d_batches": "one_class",
            "gan_mode": "lsgan",
            "label_smoothing": True,
            "label_flip": 0.5,
            "d_loss_scale": 1.0,
        },
    ],
    ids=["G first", "labels", "in turn, as in use", "in turn, labels, lsgan"],
)
def test_four_steps_of_other_orders_and_labels_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(dropout_p=0.0, ngf=4, ndf=4, lr=1e-3, seed=3, **fields)
    state = doubled(recipe)
    G, (D, d_pairs) = PlainG(state.G).double(), plain_d(state.D)
    D.double()
    pairs = [*G.pairs(state.G), *d_pairs]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "foreach": False}
    opt_G, opt_D = torch.optim.Adam(G.parameters(), **numbers), torch.optim.Adam(D.parameters(), **numbers)
    squares = recipe.gan_mode == "lsgan"
    exchanged = 0

    def loss(logits, targets):  # of each sample one
        targets = targets.view(-1, 1, 1, 1).expand_as(logits)
        return ((logits - targets) ** 2).mean() if squares else F.binary_cross_entropy_with_logits(logits, targets)

    for i in range(4):
        A, B = pair(recipe, seed=i, dtype=torch.float64)
        if recipe.d_fakes == "use":
            G.eval()
            shown = G(A).detach()
            G.train()
        fake = G(A)
        shown = shown if recipe.d_fakes == "use" else fake.detach()
        real_labels, fake_labels = torch.ones(len(A), dtype=A.dtype), torch.zeros(len(A), dtype=A.dtype)
        if recipe.label_smoothing:
            drawn = words(state.rng, recipe_module._SMOOTH_STREAM, len(A)).double() / 2**32
            real_labels = 0.9 + 0.1 * drawn
        if recipe.label_flip:
            first, second = (words(state.rng, recipe_module._FLIP_STREAM, 2).double() / 2**32 < 0.5).tolist()
            real_labels = 1 - real_labels if first else real_labels
            fake_labels = 1 - fake_labels if second else fake_labels
            exchanged += first + second
        logs = pix2pix.step(state, recipe, Batch(A, B))

        on_real = loss(D(torch.cat((A, B), 1)), real_labels)
        on_fake = loss(D(torch.cat((A, shown), 1)), fake_labels)
        factor = 1.0 if recipe.gan_mode == "softplus" else recipe.d_loss_scale
        if recipe.d_batches == "both":
            loss_D = factor * (on_real + on_fake)
        else:
            loss_D = (1.0 if recipe.gan_mode == "softplus" else 2 * factor) * (on_fake if i % 2 else on_real)
        gradients = torch.autograd.grad(loss_D, list(D.parameters()))
        for param, gradient in zip(D.parameters(), gradients, strict=True):
            param.grad = gradient
        if recipe.first == "D":
            opt_D.step()
        loss_G = loss(D(torch.cat((A, fake), 1)), torch.ones(len(A), dtype=A.dtype)) + 100 * (fake - B).abs().mean()
        for param, gradient in zip(G.parameters(), torch.autograd.grad(loss_G, list(G.parameters())), strict=True):
            param.grad = gradient
        opt_G.step()
        if recipe.first == "G":
            opt_D.step()

        for name, value in (("D", loss_D), ("G", loss_G)):
            torch.testing.assert_close(logs[f"loss/{name}"].double(), value.detach(), rtol=1e-9, atol=1e-9)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    assert exchanged or not recipe.label_flip


KERAS = {"generator": "keras_unet", "discriminator": "keras_two_branch", "d_patch": 16, "init": "glorot"}


@pytest.mark.parametrize("fields", [{}, {"label_bug_compat": True}, {"label_smoothing": True}, {"label_flip": 0.9}])
def test_labels_of_the_keras_discriminators_are_pairs(fields):
    """The cross-entropy of Keras, mean over both classes, of softmax and the labels of each source."""
    recipe = tiny(**KERAS, gan_mode="softplus", dropout_p=0.0, **fields)
    state = doubled(recipe)
    A, B = pair(recipe, dtype=torch.float64)
    with torch.no_grad():
        fake = state.G(A, Mode(statistics="batch"))
        said = [torch.softmax(state.D.class_logits(A, x, Mode(statistics="batch")), dim=1) for x in (B, fake)]
    labels = [torch.tensor([[0.0, 1.0]] * 2).double(), torch.tensor([[1.0, 0.0]] * 2).double()]  # (fake, real)
    if recipe.label_bug_compat:
        labels[0][:] = 0.0
    if recipe.label_smoothing:
        labels[0][:, 1] = 0.9 + 0.1 * words(state.rng, recipe_module._SMOOTH_STREAM, 2).double() / 2**32
    if recipe.label_flip:
        flips = words(state.rng, recipe_module._FLIP_STREAM, 2) < 0.9 * 2**32
        assert flips.any()
        labels = [pairs.flip(1) if flip else pairs for pairs, flip in zip(labels, flips.tolist(), strict=True)]
    logs = pix2pix.step(state, recipe, Batch(A, B))
    for name, classes, pairs in zip(("real", "fake"), said, labels, strict=True):
        expected = F.binary_cross_entropy(classes, pairs)
        torch.testing.assert_close(logs[f"loss/D_{name}"].double(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logs["loss/D"], logs["loss/D_real"] + logs["loss/D_fake"])


def test_the_best_discriminator_that_knows_nothing_under_the_label_bug():
    """Real labels (0, 0): the optimum is (3/4, 1/4), where D costs 0.562335 on average and G ln 4."""
    losses = {}
    for batches, chance in itertools.product(("both", "one_class"), (1 / 4, 1 / 2)):
        recipe = tiny(**KERAS, lr=0.0, label_bug_compat=True, d_batches=batches)
        state = pix2pix.build(recipe, "cpu")
        with torch.no_grad():
            state.D.judge.weight.zero_()
            state.D.judge.bias.copy_(torch.tensor([1 - chance, chance]).log())
        logs = [pix2pix.step(state, recipe, pair(recipe)) for _ in range(2)]
        losses[batches, chance] = [float(row["loss/D"]) for row in logs]
        slope = state.rest()["opt.D.judge.bias.exp_avg"]
        if batches == "both":
            assert (float(slope.abs().max()) < 1e-6) == (chance == 1 / 4)  # nothing is better
        if chance == 1 / 4:
            assert float(logs[1]["loss/G_gan"]) == pytest.approx(1.386294, abs=1e-6)
    assert losses["both", 1 / 4] == pytest.approx([0.562335] * 2, abs=1e-6)
    assert losses["one_class", 1 / 4] == pytest.approx([0.836988, 0.287682], abs=1e-6)  # real, then fake
    assert losses["both", 1 / 2] == pytest.approx([0.693147] * 2, abs=1e-6)


def test_the_keras_preset_is_the_network_of_the_sources():
    recipe = Recipe(**PRESETS["keras"])
    assert sum(counts(lambda: recipe_module.generator(recipe))) == 19_303_811
    assert sum(counts(lambda: recipe_module.discriminator(recipe))) == 857_492
    expected = {"lambda_l1": 10.0, "l1_reduction": "channel_sum", "lr": 1e-3, "beta1": 0.9, "batch": 5}
    expected |= {"crop_size": 128, "schedule": "const", "input_transform": "canny", "label_bug_compat": False}
    assert {name: getattr(recipe, name) for name in expected} == expected
    recipe = Recipe(**PRESETS["chainer"])
    assert counts(lambda: recipe_module.generator(recipe))[0] == 54_421_635
    assert counts(lambda: recipe_module.discriminator(recipe))[0] == 2_767_553


def test_logs_are_what_they_say():
    recipe = tiny(dropout_p=0.0)
    state, batch = pix2pix.build(recipe, "cpu"), pair(recipe)
    with torch.no_grad():
        fake = state.G(batch.A, Mode(statistics="batch"))
        real_logits, fake_logits = (state.D(batch.A, x, Mode(statistics="batch")) for x in (batch.B, fake))
    logs = pix2pix.step(state, recipe, batch)
    assert set(logs) == {
        *("loss/G", "loss/D", "loss/G_gan", "loss/G_l1", "loss/D_real", "loss/D_fake", "logit/real", "logit/fake")
    }
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())
    for name, value in {
        "logit/real": real_logits.mean(),
        "logit/fake": fake_logits.mean(),
        "loss/D_real": F.softplus(-real_logits).mean(),
        "loss/D_fake": F.softplus(fake_logits).mean(),
        "loss/G_l1": 100 * (fake - batch.B).abs().mean(),
    }.items():
        torch.testing.assert_close(logs[name], value, rtol=1e-5, atol=1e-5)
    assert float(logs["loss/D"]) == pytest.approx(float(logs["loss/D_real"] + logs["loss/D_fake"]) / 2, rel=1e-5)


def test_a_step_moves_both_nets_and_the_random_numbers_and_keeps_every_address():
    recipe = tiny(ema_half_life_images=4.0)
    state = pix2pix.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    pix2pix.step(state, recipe, pair(recipe))
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert not torch.equal(tensor, before[name][1]), name
    assert state.rng.tolist() == [0, 1]


def test_dropout_masks_follow_the_random_numbers_of_the_state():
    recipe = tiny()
    states = [pix2pix.build(recipe, "cpu") for _ in range(3)]
    states[2].rng[1] += 1
    losses = [float(pix2pix.step(state, recipe, pair(recipe))["loss/G_l1"]) for state in states]
    assert losses[0] == losses[1] != losses[2]
    levels = [up.norm_act for up in states[0].G.ups]
    assert [layer.dropout_p for layer in levels] == [0.5, 0.5, 0.5, 0.0]
    assert len({layer.rng_stream for layer in levels}) == len(levels)


@pytest.mark.parametrize(
    ("mode", "expected_d", "expected_g"),
    [("vanilla", 0.693147, 0.693147), ("lsgan", 0.5, 1.0), ("softplus", 1.386294, 0.693147), ("wgangp", 10.0, 0.0)],
)
def test_losses_of_a_discriminator_that_says_nothing(mode, expected_d, expected_g):
    recipe = tiny(gan_mode=mode, lr=0.0)
    state = pix2pix.build(recipe, "cpu")
    nn.init.zeros_(state.D.head.weight)
    logs = pix2pix.step(state, recipe, pair(recipe))
    assert float(logs["loss/D"]) == pytest.approx(expected_d, abs=1e-5)
    assert float(logs["loss/G_gan"]) == pytest.approx(expected_g, abs=1e-5)


def test_channel_sum_weighs_three_times_the_mean():
    a, b = tiny(lambda_l1=10.0, l1_reduction="channel_sum"), tiny(lambda_l1=30.0)
    logs = [pix2pix.step(pix2pix.build(recipe, "cpu"), recipe, pair(recipe)) for recipe in (a, b)]
    torch.testing.assert_close(logs[0]["loss/G_l1"], logs[1]["loss/G_l1"])


def test_weights_of_the_losses():
    logs = {}
    for weights in ((1.0, 100.0), (0.5, 20.0), (0.0, 0.0)):
        recipe = tiny(lambda_gan=weights[0], lambda_l1=weights[1])
        logs[weights] = pix2pix.step(pix2pix.build(recipe, "cpu"), recipe, pair(recipe))
        adversarial, distance = logs[weights]["loss/G_gan"], logs[weights]["loss/G_l1"]
        torch.testing.assert_close(adversarial, logs[1.0, 100.0]["loss/G_gan"] * weights[0])
        torch.testing.assert_close(distance, logs[1.0, 100.0]["loss/G_l1"] * weights[1] / 100)
        torch.testing.assert_close(logs[weights]["loss/G"], adversarial + distance)


# Variants


VARIANTS = {
    "encoder-decoder": {"skips": "none"},
    "inner skips": {"skips": "1,3", "concat": "encoder_first"},
    "nearest": {"upsample": "nearest"},
    "nearest, two skips": {"upsample": "nearest", "skips": "2,4"},
    "bias everywhere": {"bias": "all", "bottleneck_norm": True},
    "instance": {"norm": "instance"},
    "instance, affine": {"norm": "instance", "in_affine": True},
    "no norm": {"norm": "none"},
    "three levels": {"levels": 3, "dropout_levels": "1,2"},
    "keras": {"generator": "keras_unet", "discriminator": "keras_two_branch", "d_patch": 16, "init": "glorot"},
    "keras deconv": {
        **{"generator": "keras_unet", "upsample": "deconv", "discriminator": "keras_patch", "d_patch": 16},
        **{"d_minibatch": True, "pad": "symmetric", "skips": "1", "dropout_levels": "none"},
    },
    "chainer": {"generator": "chainer", "discriminator": "two_input", "gan_mode": "softplus"},
    "chainer, no skips": {"generator": "chainer", "skips": "none", "norm": "instance"},
    "pixel D": {"n_layers_d": 0},
    "one-layer D, unconditional": {"n_layers_d": 1, "d_conditional": False},
    "wgangp": {"gan_mode": "wgangp", "norm": "instance"},
    "xavier": {"init": "xavier"},
    "kaiming": {"init": "kaiming", "dropout_levels": "jy"},
    "orthogonal": {"init": "orthogonal", "bn": "keras"},
    "grey to four channels": {"input_channels": 1, "output_channels": 4},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_is_used(name):
    recipe = Recipe(**{**TINY, **VARIANTS[name]})
    recipe = pix2pix.resolve(recipe, Facts(channels=(recipe.input_channels or 3, recipe.output_channels or 3)))
    state = pix2pix.build(recipe, "cpu")
    size = recipe.crop_size
    A, B = (torch.rand(2, c, size, size) * 2 - 1 for c in (recipe.input_channels, recipe.output_channels))
    logs = pix2pix.step(state, recipe, Batch(A, B))
    assert all(value.isfinite() for value in logs.values())
    moments = state.rest()
    for net_name, net in state.nets.items():
        for path, _ in net.named_parameters():
            block = net.get_submodule(path.rpartition(".conv.")[0]) if ".conv." in path else None
            dead = path.endswith("conv.bias") and block.norm_act.norm != "none"
            if recipe.gan_mode == "wgangp" and path == "head.bias":
                continue  # its gradients from real and fake cancel
            assert bool(moments[f"opt.{net_name}.{path}.exp_avg"].any()) != dead, path
    image = pix2pix.translate(state.G, recipe, A)
    assert image.shape == B.shape
    assert image.abs().max() <= 1
    wide = torch.rand(1, A.shape[1], 2 * state.G.multiple, 3 * state.G.multiple)
    assert state.G(wide).shape == (1, B.shape[1], *wide.shape[2:])
    with pytest.raises(ValueError, match=f"multiples of {state.G.multiple}"):
        state.G(wide[..., 1:])


@pytest.mark.parametrize("fields", [{}, VARIANTS["keras"], VARIANTS["chainer"]], ids=["unet", "keras", "chainer"])
def test_ref_and_native_agree(fields, monkeypatch):
    if not _native.available():
        pytest.skip(_native.why_missing())
    recipe = tiny(**fields)
    images = []
    for impl in ("ref", "native"):
        state = pix2pix.build(recipe, "cpu")
        with monkeypatch.context() as patch:
            patch.setattr(ops, "norm_act", functools.partial(ops.norm_act, impl=impl))
            images.append(state.G.double()(pair(recipe, dtype=torch.float64).A, Mode(rng=state.rng)))
    torch.testing.assert_close(*images, rtol=0, atol=1e-12)


def test_concat_order_is_a_permutation_of_channels():
    draws = torch.Generator().manual_seed(0)
    first, second = (nets.unet(3, 3, ngf=4, levels=4, decoder_first=order).double() for order in (True, False))
    x = torch.rand(2, 3, 16, 16, generator=draws, dtype=torch.float64)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        for conv in [*(up.conv for up in second.ups[1:]), second.head]:
            conv.weight.copy_(conv.weight.roll(conv.weight.shape[0] // 2, dims=0))
    torch.testing.assert_close(first(x), second(x), rtol=0, atol=1e-12)


# Use


def test_dropout_and_statistics_in_use():
    recipe = tiny()
    state, (A, _) = pix2pix.build(recipe, "cpu"), pair(recipe, n=3)
    pix2pix.step(state, recipe, pair(recipe))
    before = {name: tensor.clone() for name, tensor in state.G.state_dict().items()}
    outputs = {}
    for dropout, bn in itertools.product((True, False), ("batch", "running")):
        used = dataclasses.replace(recipe, test_dropout=dropout, test_bn=bn)
        outputs[dropout, bn] = whole = pix2pix.translate(state.G, used, A)
        torch.testing.assert_close(pix2pix.translate(state.G, used, A), whole, rtol=0, atol=0)
        other = pix2pix.translate(state.G, used, A, torch.tensor([9, 9]))
        assert torch.equal(other, whole) != dropout
        if not dropout:
            alone = pix2pix.translate(state.G, used, A[1:2])
            torch.testing.assert_close(alone, whole[1:2], rtol=0, atol=1e-5)
    for one, two in itertools.combinations(outputs.values(), 2):
        assert not torch.allclose(one, two, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.G.state_dict().items())


def test_what_people_and_the_measure_see():
    recipe = pix2pix.resolve(Recipe(**{**TINY, "test_dropout": False}), Facts(channels=(1, 3)))
    state = pix2pix.build(recipe, "cpu")
    A, B = torch.rand(2, 1, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    columns = pix2pix.sample(state.G, recipe, Batch(A, B))
    assert list(columns) == ["input", "output", "target"]
    output = pix2pix.translate(state.G, recipe, A)
    for column, expected in zip(columns.values(), (A, output, B), strict=True):
        assert torch.equal(column, expected)
    measured = pix2pix.measure(state.nets, recipe, Batch(A, B))
    assert list(measured) == ["l1", "psnr", "ssim", "gradient_correlation"]
    assert float(measured["l1"]) == pytest.approx(127.5 * float((output - B).abs().mean()), rel=1e-5)
    exact = pix2pix.measure(state.nets, recipe, Batch(A, output))
    assert [float(value) for value in exact.values()] == pytest.approx([0, 100, 1, 1], abs=1e-4)


def test_an_example_has_the_shapes_of_a_batch():
    recipe = tiny(batch=3)
    A, B = pix2pix.example(dataclasses.replace(recipe, input_channels=1))
    assert (A.device.type, A.shape, B.shape) == ("meta", (3, 1, 32, 32), (3, 3, 32, 32))
    assert B.is_contiguous(memory_format=torch.channels_last)
    batch = Batch(*(x.zero_() for x in pix2pix.example(recipe, "cpu")))
    assert pix2pix.step(pix2pix.build(recipe, "cpu"), recipe, batch)["loss/D"].isfinite()


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    c_in = {"chainer": 12, "keras": 1}.get(preset, 3)
    recipe = pix2pix.resolve(Recipe(**PRESETS[preset]), Facts(channels=(1, c_in), natural_direction="BtoA"))
    assert (recipe.direction, recipe.input_channels, recipe.output_channels) == ("BtoA", c_in, 1)
    assert recipe.crop_size % 2**recipe.levels == 0
    assert pix2pix.resolve(recipe, Facts(channels=(1, c_in), natural_direction="AtoB")) == recipe


@pytest.mark.parametrize(
    ("size", "generator", "levels"),
    [
        (256, "unet", 8),
        (128, "unet", 7),
        (512, "unet", 8),
        (288, "unet", 5),
        (256, "keras_unet", 8),
        (128, "keras_unet", 7),
        (256, "chainer", 7),
        (128, "chainer", 6),
        (32, "chainer", 4),
    ],
)
def test_levels_follow_the_size(size, generator, levels):
    assert pix2pix.resolve(Recipe(load_size=size, crop_size=size, generator=generator)).levels == levels


def test_dropout_levels_by_name():
    def at(**fields):
        with torch.device("meta"):
            G = recipe_module.generator(Recipe(**fields))
        return [level for level, up in enumerate(G.ups, start=1) if up.norm_act.dropout_p]

    assert at() == [1, 2, 3]
    assert at(dropout_levels="jy") == [2, 3, 4]
    assert at(dropout_levels="jy", load_size=128, crop_size=128) == [2, 3]
    assert at(dropout_levels="px", load_size=128, crop_size=128) == [1, 2, 3]
    assert at(dropout_levels="1,7") == [1, 7]
    assert at(dropout_levels="none") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 250}, "multiple of 16 such as 240 or 256"),
        ({"crop_size": 256, "levels": 9, "load_size": 600}, "multiple of 512 such as 512, or --levels 8"),
        ({"crop_size": 300}, "--load-size must be at least --crop-size 300"),
        ({"skips": "1,8"}, "--skips must be all, none or a list of levels from 1 to 7"),
        ({"skips": "most"}, "--skips must be all, none or a list"),
        ({"dropout_levels": "0"}, "--dropout-levels must be px, jy, none or a list"),
        ({"n_layers_d": 7}, "--n-layers-d must be at most 6"),
        ({"n_layers_d": 6, "crop_size": 128, "load_size": 128}, "a crop size of at least 192, or fewer layers"),
        ({"discriminator": "keras_patch", "d_patch": 48}, "--d-patch must be a power of two that divides"),
        ({"discriminator": "two_input", "d_conditional": False}, "--no-d-conditional is for --discriminator patch"),
        ({"generator": "chainer", "upsample": "nearest"}, "--upsample nearest is not part of --generator chainer"),
        ({"upsample": "nearest", "concat": "encoder_first"}, "leave --concat out"),
        ({"gan_mode": "hinge"}, "--gan-mode must be one of"),
        ({"dropout_p": 1.0}, r"--dropout-p must be in \[0, 1\)"),
        ({"levels": 1}, "set --levels"),
        ({"norm": "instance", "bottleneck_norm": True}, "--levels 7, or leave --bottleneck-norm out"),
        ({"norm": "instance", "generator": "keras_unet"}, "--levels 7, or another norm"),
        ({"label_flip": 1.0}, r"--label-flip must be in \[0, 1\)"),
        ({"label_bug_compat": True}, "take --discriminator keras_two_branch or keras_patch"),
        ({"label_bug_compat": True, "discriminator": "keras_patch", "gan_mode": "lsgan"}, "not lsgan"),
        (
            {"label_bug_compat": True, "discriminator": "keras_patch", "label_smoothing": True},
            "leave --label-smoothing out",
        ),
        ({"gan_mode": "wgangp", "d_batches": "one_class"}, "--d-batches is not for --gan-mode wgangp"),
        ({"gan_mode": "wgangp", "label_flip": 0.1}, "--label-flip is not for --gan-mode wgangp"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--input-channels is 4, but the data has 3"):
        pix2pix.resolve(Recipe(input_channels=4), Facts())


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = pix2pix.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = pix2pix.build(tiny(), "cpu").tensors(), pix2pix.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.G.downs.0.conv.weight"], other["net.G.downs.0.conv.weight"])
    assert first["net.G.downs.1.conv.weight"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("name", VARIANTS)
def test_mixed_precision_stays_near_full_precision(name):
    """Losses of three steps within 2 % (5 % with a penalty on slopes): bf16 has 8 bits, and G moves little so soon."""
    losses = {}
    for amp in (False, True):
        recipe = Recipe(**{**TINY, **VARIANTS[name], "amp": amp, "dropout_p": 0.0})
        recipe = pix2pix.resolve(recipe, Facts(channels=(recipe.input_channels or 3, recipe.output_channels or 3)))
        state = pix2pix.build(recipe, "cpu")
        draws = torch.Generator().manual_seed(0)
        shapes = [(2, c, recipe.crop_size, recipe.crop_size) for c in (recipe.input_channels, recipe.output_channels)]
        batches = [Batch(*(torch.rand(shape, generator=draws) * 2 - 1 for shape in shapes)) for _ in range(3)]
        losses[amp] = [pix2pix.step(state, recipe, batch) for batch in batches]
        assert any(leaf.dtype == torch.bfloat16 for leaf in state.opt_G.leaves()) == amp
        assert all(tensor.dtype != torch.bfloat16 for tensor in state.tensors().values())
    for full, mixed in zip(losses[False], losses[True], strict=True):
        for key in ("loss/D", "loss/G_l1"):
            assert float(mixed[key]) == pytest.approx(
                float(full[key]), rel=0.05 if name == "wgangp" else 0.02, abs=0.02
            ), key


@pytest.mark.usefixtures("low_precision")
def test_mixed_precision_sees_the_new_weights_of_d():
    recipe = tiny(lr=0.01, amp=True)
    state = pix2pix.build(recipe, "cpu")
    pix2pix.step(state, recipe, pair(recipe))
    for net in state.nets.values():
        layers = [layer for layer in net.modules() if getattr(layer, "low", None) is not None]
        assert layers
        assert all(torch.equal(layer.low.weight, layer.weight.bfloat16()) for layer in layers)


def test_weight_gradients_of_both_nets_go_beside_the_rest(monkeypatch):
    """On a CPU that pretends to overlap: G's forward passes are not forgotten while D learns, nor D's mixed up."""
    recipe = tiny()
    state = pix2pix.build(recipe, "cpu")
    expected = pix2pix.build(recipe, "cpu")
    batch, went = pair(recipe), []
    plain_losses = [pix2pix.step(expected, recipe, batch) for _ in range(2)]

    @contextlib.contextmanager
    def note(*used):
        went.append(used[0].data_ptr())
        yield

    monkeypatch.setattr(streams, "overlaps", lambda x: True)
    monkeypatch.setattr(streams, "beside", note)
    losses = [pix2pix.step(state, recipe, batch) for _ in range(2)]
    assert losses == plain_losses
    for net in state.nets.values():
        convolutions = [layer for layer in net.modules() if is_convolution(layer)]
        assert [went.count(layer.weight.data_ptr()) for layer in convolutions] == [2] * len(convolutions)
    assert not _beside._uses
    assert not _beside._spent


def test_a_step_that_fails_leaves_nothing_behind(monkeypatch):
    recipe = tiny()
    state, batch = pix2pix.build(recipe, "cpu"), pair(recipe)
    expected = pix2pix.step(pix2pix.build(recipe, "cpu"), recipe, batch)
    with monkeypatch.context() as patch:
        patch.setattr(optim, "check_taken", lambda leaf: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pix2pix.step(state, recipe, batch)
    assert all(leaf.grad is None for opt in state.opts.values() for leaf in opt.leaves())
    state = pix2pix.build(recipe, "cpu")
    assert pix2pix.step(state, recipe, batch) == expected


def test_learning_rates_reach_the_optimizers():
    state = pix2pix.build(tiny(), "cpu")
    for opt in state.opts.values():
        opt.set_lr_(1e-5)
    assert [opt.lr for opt in state.opts.values()] == [1e-5, 1e-5]


@pytest.mark.parametrize("mode", ["vanilla", "lsgan", "softplus"])
def test_d_loss_scale_is_the_factor_of_both_halves(mode):
    losses = {}
    for scale in (0.5, 1.0):
        recipe = tiny(gan_mode=mode, d_loss_scale=scale)
        logs = pix2pix.step(pix2pix.build(recipe, "cpu"), recipe, pair(recipe))
        losses[scale] = logs["loss/D"].item()
        factor = 1.0 if mode == "softplus" else scale
        assert losses[scale] == pytest.approx(factor * (logs["loss/D_real"] + logs["loss/D_fake"]).item(), rel=1e-5)
