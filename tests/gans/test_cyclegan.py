"""CycleGAN: counts and fingerprints of its networks, the step against the equations in stock PyTorch, how G is used."""

import dataclasses
import functools

import fingerprint
import numpy as np
import pytest
import stock
import torch
from stock import LOSSES, beside, counts, noise, patch_d, pooled, residual_g
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan import nets, ops, pool
from pygan.data import Batch, Facts
from pygan.errors import UserError
from pygan.gans import cyclegan
from pygan.gans.cyclegan import PRESETS, Recipe
from pygan.gans.cyclegan import recipe as recipe_module
from pygan.nn import Mode
from pygan.ops import _native
from pygan.ops.philox import words
from pygan.state import State

TINY = PRESETS["tiny"]
ON_A_GPU = {
    "batch norm": {"norm": "batch"},
    "dropout": {"dropout_p": 0.5},
    "wgangp": {"gan_mode": "wgangp"},
    "no identity": {"lambda_identity": 0.0, "pool_size": 3},
    "four optimizers": {"optimizers": "four"},
    "unet": {"generator": "unet", "dropout_p": 0.5},
    "zeros": {"padding": "zeros"},
    "replicate": {"padding": "replicate"},
    "thin convolutions": {"amp": True, "ngf": 64, "ndf": 64, "load_size": 64, "crop_size": 64},
}
doubled = functools.partial(stock.doubled, cyclegan)
pair = functools.partial(noise, cyclegan)


def tiny(**fields):
    return cyclegan.resolve(Recipe(**{**TINY, **fields}))


def trained(recipe, steps=1):
    """(state after some steps from the seed, logs of each) in float64."""
    state = doubled(recipe)
    logs = [cyclegan.step(state, recipe, pair(recipe, seed=i, dtype=torch.float64)) for i in range(steps)]
    return state, [{name: float(value) for name, value in row.items()} for row in logs]


# The networks


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nets.ResNet(3, 3), (11_378_179, 0)),
        (lambda: nets.ResNet(3, 3, norm="batch"), (11_383_427, 10_496)),
        (lambda: nets.ResNet(3, 3, blocks=6), (7_837_699, 0)),
        (lambda: nets.ResNet(3, 3, ngf=32, in_affine=True), (2_855_811, 0)),
        (lambda: nets.ResNet(3, 3, padding="zeros"), (11_378_179, 0)),
        (lambda: nets.ResNet(3, 3, padding="replicate"), (11_378_179, 0)),
        (lambda: nets.PatchD(3), (2_764_737, 0)),
        (lambda: recipe_module.generator(Recipe()), (2 * 11_378_179, 0)),
        (lambda: recipe_module.discriminator(Recipe()), (2 * 2_764_737, 0)),
        (lambda: recipe_module.generator(Recipe(crop_size=128)), (2 * 7_837_699, 0)),
        (lambda: recipe_module.generator(Recipe(crop_size=132)), (2 * 11_378_179, 0)),
        (lambda: recipe_module.generator(Recipe(generator="unet_256")), (2 * 54_409_603, 0)),
        (lambda: recipe_module.generator(Recipe(generator="unet")), (2 * 54_409_603, 0)),
        (lambda: recipe_module.generator(Recipe(generator="unet_128", norm="batch")), (2 * 41_828_995, 2 * 7_808)),
    ],
)
def test_parameter_counts(make, expected):
    assert counts(make) == expected


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        (lambda: nets.ResNet(3, 3), 256, 49_551_507_456),
        (lambda: nets.ResNet(3, 3, norm="batch"), 256, 49_551_507_456),
        (lambda: nets.ResNet(3, 3, blocks=6), 128, 8_763_998_208),
        (lambda: nets.ResNet(3, 3, blocks=6), 256, 35_055_992_832),
        (lambda: nets.ResNet(3, 3, ngf=32, in_affine=True), 256, 12_696_158_208),
        (lambda: nets.PatchD(3), 256, 3_146_809_344),
        (lambda: nets.PatchD(3), 128, 754_483_200),
    ],
)
def test_multiplications_of_one_image(make, size, expected):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        make()(torch.empty(1, 3, size, size))
    assert counter.get_total_flops() == 2 * expected


@pytest.mark.parametrize(
    ("n_layers", "sees", "parameters", "of_6_channels", "size", "giga"),
    [
        (0, 1, 8_705, 9_024, 256, 0.5704),
        (1, 16, 136_385, 139_585, 126, 2.2472),
        (2, 34, 662_977, 666_433, 62, 2.7342),
        (3, 70, 2_764_737, 2_768_705, 30, 3.1971),
        (4, 142, 6_959_553, 6_964_033, 14, 2.6566),
        (5, 286, 11_154_369, 11_159_361, 6, 2.1855),
        (6, 574, 15_349_185, 15_354_689, 2, 2.0846),
    ],
)
def test_patch_discriminators(n_layers, sees, parameters, of_6_channels, size, giga):
    assert counts(lambda: nets.PatchD(3, n_layers=n_layers))[0] == parameters
    pixels, step = 1, 1
    with torch.device("meta"):
        D = nets.PatchD(6, n_layers=n_layers, norm="batch")
        assert sum(p.numel() for p in D.parameters()) == of_6_channels
        with FlopCounterMode(display=False) as counter:
            assert D(torch.empty(1, 6, 256, 256)).shape == (1, 1, size, size)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=5e-5)
    for conv in (*(block.conv for block in D.blocks), D.head):
        pixels, step = pixels + (conv.kernel_size[0] - 1) * step, step * conv.stride[0]
    assert pixels == sees


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nets.ResNet(3, 3), (-0.102823315, 0.503528129, -0.587814765, -0.015361867)),
        (lambda: nets.PatchD(3), (0.178459179, 0.710520970, 1.078720936, 0.914443757)),
    ],
    ids=["ResNet-9", "PatchGAN 70"],
)
def test_fingerprint(make, expected):
    image = fingerprint.filled((2, 3, 256, 256))
    with torch.device("meta"):
        net = make()
    fingerprint.fill_(net, lambda net: net(image.to("meta", torch.float32)))
    with torch.no_grad():  # one by one: less memory, half the time
        output = torch.cat([net(one) for one in image.split(1)])
    np.testing.assert_allclose(fingerprint.signature(output), expected, rtol=0, atol=1e-7)


def test_the_image_discriminator():
    assert counts(lambda: nets.ImageD(3)) == (11_158_209, 3_840)
    pixels, step = 1, 1
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        D = nets.ImageD(3)
        assert D(torch.empty(1, 3, 256, 256)).shape == (1, 1, 2, 2)
    assert counter.get_total_flops() == 2 * 1_996_521_472
    for conv in (*(block.conv for block in D.blocks), D.head):
        pixels, step = pixels + (conv.kernel_size[0] - 1) * step, step * conv.stride[0]
    assert pixels == 382
    recipe = cyclegan.resolve(Recipe(discriminator="image", norm="batch"))
    with torch.device("meta"):
        nets_of_d = recipe_module.discriminator(recipe)
    assert isinstance(nets_of_d.A, nets.ImageD)
    with pytest.raises(UserError, match="--discriminator image needs a crop size of at least 256"):
        Recipe(discriminator="image", crop_size=128, load_size=128)


def test_pictures_that_the_generator_cannot_take():
    G = nets.ResNet(3, 3, ngf=2, blocks=1)
    assert G(torch.rand(1, 3, 8, 12)).shape == (1, 3, 8, 12)
    for size in ((10, 12), (12, 10), (4, 12)):
        with pytest.raises(ValueError, match="multiples of 4 and at least 8, got "):
            G(torch.rand(1, 3, *size))


# The step, against stock PyTorch


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gan_mode": "vanilla", "lambda_identity": 0.25, "lambda_a": 8.0},
        {"gan_mode": "softplus", "pool_size": 0},
        {"gan_mode": "wgangp"},
        {"norm": "batch", "lambda_gan": 2.0, "weight_decay": 1e-4},
        {"lambda_identity": 0.0, "lambda_b": 0.0, "d_loss_scale": 1.0},
        {"padding": "zeros", "sum_relu": True},
        {"padding": "replicate"},
    ],
    ids=["lsgan", "vanilla", "softplus, no pool", "wgangp", "batch", "forward", "zeros", "replicate"],
)
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(**{"pool_size": 2, "ngf": 2, "ndf": 4, "lr": 1e-3, "crop_size": 24, **fields})
    state = doubled(recipe)
    norm = nn.BatchNorm2d if recipe.norm == "batch" else nn.InstanceNorm2d
    block = {"padding": recipe.padding, "relu": recipe.sum_relu}
    AtoB, BtoA = (residual_g(3, 3, 2, 6, norm=norm, **block).double() for _ in range(2))
    D = {domain: patch_d(3, 4, 2, norm).double() for domain in "AB"}
    sides = [(AtoB, state.G.AtoB), (BtoA, state.G.BtoA), (D["A"], state.D.A), (D["B"], state.D.B)]
    pairs = [tensors for plain, net in sides for tensors in beside(plain, net)]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G = torch.optim.Adam([*AtoB.parameters(), *BtoA.parameters()], **numbers)
    opt_D = torch.optim.Adam([*D["A"].parameters(), *D["B"].parameters()], **numbers)
    loss_of_D, loss_of_G = LOSSES[recipe.gan_mode]
    pools, older = {"A": [], "B": []}, 0

    for i in range(3):
        A, B = pair(recipe, seed=i, dtype=torch.float64)
        draws = {x: words(state.rng, recipe_module._POOL_STREAMS[x], 2 * len(A)).tolist() for x in "AB"}
        alphas = {x: words(state.rng, recipe_module._PENALTY_STREAMS[x], len(A)) / 2**32 for x in "AB"}
        logs = cyclegan.step(state, recipe, Batch(A, B))

        fake_B, fake_A = AtoB(A), BtoA(B)
        expected = {
            "loss/G_B": recipe.lambda_gan * loss_of_G(D["B"](fake_B)),
            "loss/G_A": recipe.lambda_gan * loss_of_G(D["A"](fake_A)),
            "loss/cycle_A": recipe.lambda_a * (BtoA(fake_B) - A).abs().mean(),
            "loss/cycle_B": recipe.lambda_b * (AtoB(fake_A) - B).abs().mean(),
            "loss/identity_A": recipe.lambda_identity * recipe.lambda_a * (BtoA(A) - A).abs().mean(),
            "loss/identity_B": recipe.lambda_identity * recipe.lambda_b * (AtoB(B) - B).abs().mean(),
        }
        expected["loss/G"] = sum(expected.values())
        opt_G.zero_grad()
        expected["loss/G"].backward()
        opt_G.step()

        opt_D.zero_grad()
        for x, real, fake in (("A", A, fake_A.detach()), ("B", B, fake_B.detach())):
            if recipe.pool_size:
                fake, swapped = pooled(pools[x], recipe.pool_size, fake, draws[x])
                older += swapped
            logits_real, logits_fake = D[x](real), D[x](fake)
            loss = loss_of_D(logits_real, logits_fake) * (2 * recipe.d_loss_scale)
            if recipe.gan_mode == "wgangp":
                between = torch.lerp(fake, real, alphas[x].double().view(-1, 1, 1, 1)).requires_grad_()
                (slope,) = torch.autograd.grad(D[x](between).sum(), between, create_graph=True)
                penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
                expected[f"loss/gp_{x}"] = penalty
                loss = loss + 10 * penalty
            loss.backward()
            expected |= {f"loss/D_{x}": loss, f"logit/real_{x}": logits_real.mean()}
            expected |= {f"logit/fake_{x}": logits_fake.mean()}
        opt_D.step()
        expected["loss/D"] = expected["loss/D_A"] + expected["loss/D_B"]

        absent = {f"loss/cycle_{x}" for x, on in (("A", recipe.lambda_a), ("B", recipe.lambda_b)) if not on}
        absent |= {"loss/identity_A", "loss/identity_B"} if not recipe.lambda_identity else set()
        assert set(logs) == set(expected) - absent
        for name, value in logs.items():
            torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    assert older or not recipe.pool_size
    for domain, images in pools.items():
        if images:
            torch.testing.assert_close(state.buffers[f"pool_{domain}_images"], torch.stack(images), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "fields",
    [{}, {"gan_mode": "wgangp", "lambda_a": 8.0}, {"lambda_b": 0.0, "lambda_gan": 2.0, "pool_size": 0}],
    ids=["lsgan", "wgangp", "forward"],
)
def test_three_steps_in_turns_equal_the_torch_code_in_stock_pytorch(fields):
    """Every net by its own Adam, in the order G to B, D of B, G to A, D of A."""
    recipe = tiny(**{"optimizers": "four", "pool_size": 2, "ngf": 2, "ndf": 4, "lr": 1e-3, "crop_size": 24, **fields})
    state = doubled(recipe)
    G = {"B": residual_g(3, 3, 2, 6).double(), "A": residual_g(3, 3, 2, 6).double()}  # by what it paints
    D = {domain: patch_d(3, 4, 2).double() for domain in "AB"}
    sides = [(G["B"], state.G.AtoB), (G["A"], state.G.BtoA), (D["A"], state.D.A), (D["B"], state.D.B)]
    pairs = [tensors for plain, net in sides for tensors in beside(plain, net)]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    opts = {net: torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999)) for net in (*G.values(), *D.values())}
    loss_of_D, loss_of_G = LOSSES[recipe.gan_mode]
    cycle = {"A": recipe.lambda_a, "B": recipe.lambda_b}
    pools = {"A": [], "B": []}

    def descend(net, loss):
        opts[net].zero_grad()
        loss.backward(inputs=list(net.parameters()))
        opts[net].step()

    for i in range(3):
        A, B = pair(recipe, seed=i, dtype=torch.float64)
        real = {"A": A, "B": B}
        draws = {x: words(state.rng, recipe_module._POOL_STREAMS[x], 2 * len(A)).tolist() for x in "AB"}
        alphas = {x: words(state.rng, recipe_module._PENALTY_STREAMS[x], len(A)) / 2**32 for x in "AB"}
        logs = cyclegan.step(state, recipe, Batch(A, B))

        expected = {}
        for begin, end in ("AB", "BA"):
            fake = G[end](real[begin])
            gan = recipe.lambda_gan * loss_of_G(D[end](fake))
            forth = cycle[begin] * (G[begin](fake) - real[begin]).abs().mean()
            same = recipe.lambda_identity * cycle[end] * (G[end](real[end]) - real[end]).abs().mean()
            back = cycle[end] * (G[end](G[begin](real[end]).detach()) - real[end]).abs().mean()
            descend(G[end], gan + forth + same + back)
            expected |= {f"loss/G_{end}": gan, f"loss/cycle_{begin}": forth, f"loss/identity_{end}": same}

            fake = fake.detach()
            if recipe.pool_size:
                fake, _ = pooled(pools[end], recipe.pool_size, fake, draws[end])
            loss = loss_of_D(D[end](real[end]), D[end](fake))
            if recipe.gan_mode == "wgangp":
                between = torch.lerp(fake, real[end], alphas[end].double().view(-1, 1, 1, 1)).requires_grad_()
                (slope,) = torch.autograd.grad(D[end](between).sum(), between, create_graph=True)
                loss = loss + 10 * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
            descend(D[end], loss)
            expected[f"loss/D_{end}"] = loss
        expected["loss/G"] = sum(value for name, value in expected.items() if "D" not in name)
        expected["loss/D"] = expected["loss/D_A"] + expected["loss/D_B"]

        gone = {f"loss/{kind}_{x}" for kind in ("cycle", "identity") for x in "AB" if not cycle[x]}
        assert set(logs) >= set(expected) - gone
        assert not gone & set(logs)
        for name in set(expected) - gone:
            torch.testing.assert_close(logs[name].double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


@pytest.mark.parametrize("fields", [{"norm": "batch"}, {"dropout_p": 0.5}, {"ema_half_life_images": 4.0}])
def test_in_turns_the_first_generator_moves_as_in_a_pair(fields):
    recipe = tiny(ngf=2, ndf=2, **fields)
    first = {}
    for optimizers in ("pair", "four"):
        state = cyclegan.build(dataclasses.replace(recipe, optimizers=optimizers), "cpu")
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        cyclegan.step(state, dataclasses.replace(recipe, optimizers=optimizers), pair(recipe))
        after = state.tensors()
        assert all(torch.equal(tensor, before[name]) == dead(name) for name, tensor in after.items())
        first[optimizers] = {name: value for name, value in after.items() if ".AtoB." in name and "running" not in name}
    names = [name for name in first["pair"] if not name.startswith("opt")]
    assert len(names) >= 30
    for name in names:
        torch.testing.assert_close(first["four"][name], first["pair"][name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("size", "lambda_identity", "expected"),
    [(256, 0.5, 939.609), (256, 0.0, 643.533), (128, 0.5, 169.157), (128, 0.0, 116.881)],
)
def test_multiplications_of_one_step(size, lambda_identity, expected, monkeypatch):
    recipe = cyclegan.resolve(Recipe(load_size=size, crop_size=size, lambda_identity=lambda_identity))

    def update(state, name, loss):
        loss.backward(inputs=list(state.nets[name].parameters()))

    monkeypatch.setattr(recipe_module, "update", update)
    monkeypatch.setattr(recipe_module, "end_step_", lambda state, recipe: None)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        G, D = recipe_module.generator(recipe), recipe_module.discriminator(recipe)
        buffers = {"rng": torch.empty(2, dtype=torch.int64)}
        for domain in "AB":
            for part, tensor in pool.empty(50, (3, size, size), device="meta").items():
                buffers[f"pool_{domain}_{part}"] = tensor
        state = State(nets={"G": G, "D": D}, opts={}, buffers=buffers)
        cyclegan.step(state, recipe, Batch(*torch.empty(2, 1, 3, size, size)))
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=5e-4)  # no gradient that nobody wants


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_identity_in_one_batch_is_identity_in_two(norm, monkeypatch):
    recipe = tiny(norm=norm, ngf=2, ndf=2)
    together, logs = trained(recipe)

    def apart(G, image, own, mode):
        return G(image, mode), G(own, mode)

    monkeypatch.setattr(recipe_module, "_paint", apart)
    separate, separate_logs = trained(recipe)
    assert logs[0] == pytest.approx(separate_logs[0], rel=1e-9)
    for name, tensor in together.tensors().items():
        torch.testing.assert_close(tensor, separate.tensors()[name], rtol=0, atol=1e-9, msg=name)


def test_one_adam_for_both_nets_is_one_for_each():
    recipe = tiny(ngf=2, ndf=2)
    state, _ = trained(recipe)
    assert {name: len(list(net.children())) for name, net in state.nets.items()} == {"G": 2, "D": 2}
    assert state.opts.keys() == {"G", "D"}


def test_logs_have_the_letter_of_their_domain():
    recipe = tiny()
    state, (A, B) = cyclegan.build(recipe, "cpu"), pair(recipe)
    look = Mode(statistics="batch")
    with torch.no_grad():
        fake_A, fake_B = state.G.BtoA(B, look), state.G.AtoB(A, look)
        expected = {
            "loss/G_A": ((state.D.A(fake_A) - 1) ** 2).mean(),
            "loss/G_B": ((state.D.B(fake_B) - 1) ** 2).mean(),
            "loss/cycle_A": 10 * (state.G.BtoA(fake_B) - A).abs().mean(),
            "loss/identity_A": 5 * (state.G.BtoA(A) - A).abs().mean(),
            "logit/real_A": state.D.A(A).mean(),
            "logit/fake_B": state.D.B(fake_B).mean(),
        }
    logs = cyclegan.step(state, recipe, Batch(A, B))
    letters = {f"{kind}_{x}" for x in "AB" for kind in ("G", "cycle", "identity", "D")}
    logits = {f"logit/{side}_{x}" for x in "AB" for side in ("real", "fake")}
    assert set(logs) == {"loss/G", "loss/D"} | {f"loss/{name}" for name in letters} | logits
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())
    for name, value in expected.items():
        torch.testing.assert_close(logs[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected_d", "expected_g"),
    [("lsgan", 0.5, 1.0), ("vanilla", 0.693147, 0.693147), ("softplus", 1.386294, 0.693147), ("wgangp", 10.0, 0.0)],
)
def test_losses_of_discriminators_that_say_nothing(mode, expected_d, expected_g):
    recipe = tiny(gan_mode=mode, lr=0.0, ngf=2, ndf=2)
    state = cyclegan.build(recipe, "cpu")
    for D in (state.D.A, state.D.B):
        nn.init.zeros_(D.head.weight)
    logs = cyclegan.step(state, recipe, pair(recipe))
    assert float(logs["loss/D"]) == pytest.approx(2 * expected_d, abs=1e-5)
    for domain in "AB":
        assert float(logs[f"loss/D_{domain}"]) == pytest.approx(expected_d, abs=1e-5)
        assert float(logs[f"loss/G_{domain}"]) == pytest.approx(expected_g, abs=1e-5)


# What a step does, and what it leaves out


def dead(name):
    """A convolution's bias in front of a norm: it gets no gradient, and neither it nor its moments move."""
    if name.startswith(("net.D", "opt.D")):
        without_norm = (".blocks.0.",)
    else:
        without_norm = (".downs.0.", ".downs.4.")  # the ends of a U-Net's encoder at 32 pixels
    return ".conv.bias" in name and not any(part in name for part in without_norm)


def test_a_step_moves_all_nets_and_keeps_every_address():
    recipe = tiny(ema_half_life_images=4.0)
    state = cyclegan.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    cyclegan.step(state, recipe, pair(recipe))
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert torch.equal(tensor, before[name][1]) == dead(name), name
    assert state.rng.tolist() == [0, 1]
    assert state.pool_A_count == state.pool_B_count == recipe.batch


def test_the_pool_may_be_off():
    recipe = tiny(pool_size=0, ngf=2, ndf=2)
    state = cyclegan.build(recipe, "cpu")
    assert state.buffers.keys() == {"rng"}
    assert all(value.isfinite() for value in cyclegan.step(state, recipe, pair(recipe)).values())


def test_a_gradient_penalty_leaves_running_statistics_alone():
    running = []
    for mode in ("wgangp", "softplus"):
        recipe = tiny(gan_mode=mode, norm="batch", lr=0.0, ngf=2, ndf=2)
        state = cyclegan.build(recipe, "cpu")
        cyclegan.step(state, recipe, pair(recipe))
        running.append([tensor for name, tensor in state.tensors().items() if ".running_" in name])
    assert all(torch.equal(a, b) for a, b in zip(*running, strict=True))


def test_discriminators_are_shown_older_pictures():
    fields = {"ngf": 2, "ndf": 2, "lr": 0.0}
    fakes = {size: [row["logit/fake_A"] for row in trained(tiny(pool_size=size, **fields), 6)[1]] for size in (0, 4)}
    assert fakes[0][:2] == fakes[4][:2]  # 4 pictures fill it
    assert fakes[0][2:] != fakes[4][2:]


@pytest.mark.parametrize(
    ("preset", "fields", "passes", "batches", "absent"),
    [
        ("paper", {}, 4, 6, set()),
        ("cycle-only", {}, 4, 4, {"identity_A", "identity_B"}),
        ("gan-only", {}, 2, 2, {"identity_A", "identity_B", "cycle_A", "cycle_B"}),
        ("forward", {}, 3, 3, {"identity_A", "identity_B", "cycle_B"}),
        ("backward", {}, 3, 3, {"identity_A", "identity_B", "cycle_A"}),
        ("forward", {"lambda_identity": 0.5}, 3, 4, {"identity_B", "cycle_B"}),
        ("backward", {"lambda_identity": 0.5}, 3, 4, {"identity_A", "cycle_A"}),
    ],
)
def test_parts_of_the_objective(preset, fields, passes, batches, absent):
    weights = {name: value for name, value in PRESETS[preset].items() if name.startswith("lambda_")} | fields
    recipe = tiny(**weights, ngf=2, ndf=2)
    state = cyclegan.build(recipe, "cpu")
    seen = []
    for G in (state.G.AtoB, state.G.BtoA):
        G.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    logs = cyclegan.step(state, recipe, pair(recipe))
    assert len(seen) == passes
    assert sum(seen) == batches * recipe.batch
    every = {f"{kind}_{x}" for x in "AB" for kind in ("G", "cycle", "identity")}
    assert {name for name in every if f"loss/{name}" not in logs} == absent
    total = sum(logs[f"loss/{name}"] for name in every - absent)
    torch.testing.assert_close(logs["loss/G"], total)
    assert (logs["loss/G_A"] == 0) == (preset == "cycle-only")


def test_weights_of_the_losses():
    few = {"ngf": 2, "ndf": 2}
    plain = tiny(**few)
    heavy = tiny(lambda_gan=2.0, lambda_a=20.0, lambda_b=30.0, lambda_identity=0.1, **few)
    (_, (a,)), (_, (b,)) = trained(plain), trained(heavy)
    factors = {"G_A": 2, "G_B": 2, "cycle_A": 2, "cycle_B": 3, "identity_A": 0.4, "identity_B": 0.6}
    for name, factor in factors.items():
        assert b[f"loss/{name}"] == pytest.approx(factor * a[f"loss/{name}"], rel=1e-6), name


def test_dropout_draws_its_own_masks_in_each_net_and_pass():
    recipe = tiny(dropout_p=0.5)
    runs = []
    for offset in (0, 0, 1):
        state = cyclegan.build(recipe, "cpu")
        state.rng[1] += offset
        runs.append(float(cyclegan.step(state, recipe, pair(recipe))["loss/cycle_A"]))
    assert runs[0] == runs[1] != runs[2]
    streams = [m.rng_stream for m in state.G.modules() if getattr(m, "dropout_p", 0.0)]
    assert len(streams) == len(set(streams)) == 12
    assert max(streams) < min([*recipe_module._PENALTY_STREAMS.values(), *recipe_module._POOL_STREAMS.values()])

    seen = []
    state.G.AtoB.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].rng.clone()))
    cyclegan.step(state, recipe, pair(recipe))
    there, back = (words(rng, 1, 8) for rng in seen)
    assert not torch.equal(there, back)


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("fields", [{}, {"norm": "batch"}, {"dropout_p": 0.5}], ids=["instance", "batch", "dropout"])
def test_a_step_in_16_bits_is_near_and_its_pictures_are_not_in_16_bits(fields):
    rows, types = {}, {}
    for amp in (False, True):
        recipe = tiny(amp=amp, **fields)
        state, types[amp] = cyclegan.build(recipe, "cpu"), []
        for module in (state.G.AtoB, state.G.AtoB.blocks[2]):
            module.register_forward_hook(
                lambda _, inputs, outputs, seen=types[amp]: seen.extend(
                    t.dtype for t in (*inputs, outputs) if isinstance(t, torch.Tensor)
                )
            )
        batches = [pair(recipe, seed=i) for i in range(2)]
        rows[amp] = [{k: float(v) for k, v in cyclegan.step(state, recipe, b).items()} for b in batches]
    assert set(types[False]) == {torch.float32}
    per_pass = [torch.bfloat16] * 2 + [torch.float32] * 2  # the block's inputs, then the generator's ends
    assert types[True] == 4 * per_pass
    for exact, low in zip(rows[False], rows[True], strict=True):
        assert low == pytest.approx(exact, rel=0.05, abs=0.02)


# Variants


VARIANTS = {
    "batch": {"norm": "batch"},
    "affine": {"in_affine": True},
    "nine blocks": {"generator": "resnet_9"},
    "dropout": {"dropout_p": 0.5},
    "pixel D": {"n_layers_d": 0, "norm": "batch"},
    "three-layer D": {"n_layers_d": 3},
    "wgangp": {"gan_mode": "wgangp"},
    "kaiming": {"init": "kaiming"},
    "grey to colour": {"input_channels": 1, "output_channels": 3, "lambda_identity": 0.0},
    "in turns": {"optimizers": "four"},
    "unet": {"generator": "unet", "dropout_p": 0.5},
    "shallow unet": {"generator": "unet", "levels": 3, "norm": "batch"},
    "zeros": {"padding": "zeros"},
    "replicate, relu": {"padding": "replicate", "sum_relu": True, "in_affine": True},
    "one TensorFlow port": {"generator": "resnet_9", "in_affine": True, "init": "truncated", "sum_relu": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_is_used(name):
    fields = VARIANTS[name]
    channels = fields.get("input_channels", 3), fields.get("output_channels", 3)
    recipe = cyclegan.resolve(Recipe(**{**TINY, "ngf": 2, "ndf": 2, **fields}), Facts(channels))
    state = cyclegan.build(recipe, "cpu")
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    A, B = (torch.rand(2, c, 32, 32) * 2 - 1 for c in channels)
    logs = cyclegan.step(state, recipe, Batch(A, B))
    assert all(value.isfinite() for value in logs.values())
    for tensor_name, tensor in state.tensors().items():
        if recipe.gan_mode == "wgangp" and ".head.bias" in tensor_name and ".D." in tensor_name:
            continue  # its gradients from real and fake cancel, but for rounding
        assert torch.equal(tensor, before[tensor_name]) == dead(tensor_name), tensor_name
    assert cyclegan.translate(state.G, recipe, A).shape == B.shape
    assert cyclegan.translate(state.G, recipe, B, direction="BtoA").shape == A.shape
    assert all(value.isfinite() for value in cyclegan.measure(state.nets, recipe, Batch(A, B)).values())


@pytest.mark.parametrize("fields", [{}, {"norm": "batch"}, {"in_affine": True}], ids=["instance", "batch", "affine"])
def test_ref_and_native_agree(fields, monkeypatch):
    if not _native.available():
        pytest.skip(_native.why_missing())
    recipe = tiny(**fields)
    G = cyclegan.build(recipe, "cpu").G.double()
    image, results = pair(recipe, dtype=torch.float64).A, []
    for impl in ("ref", "native"):
        with monkeypatch.context() as patch:
            patch.setattr(ops, "norm_act", functools.partial(ops.norm_act, impl=impl))
            painted = G.AtoB(image)
            results.append((painted, *torch.autograd.grad(painted.square().sum(), [G.AtoB.stem.conv.weight])))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


# Use


def test_use_depends_on_nothing_but_the_picture():
    for fields in ({}, {"norm": "batch"}, {"norm": "batch", "test_bn": "running"}, {"dropout_p": 0.5}):
        recipe = tiny(ngf=4, ndf=4, **fields)
        state, (A, _) = cyclegan.build(recipe, "cpu"), pair(recipe, n=3)
        cyclegan.step(state, recipe, pair(recipe))
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        whole = cyclegan.translate(state.G, recipe, A)
        alone = cyclegan.translate(state.G, recipe, A[1:2], torch.tensor([9, 9]))
        torch.testing.assert_close(alone, whole[1:2], rtol=0, atol=1e-5)
        assert whole.abs().max() <= 1
        assert not whole.requires_grad
        back = cyclegan.translate(state.G, recipe, A, direction="BtoA")
        assert not torch.equal(back, whole)
        assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    with pytest.raises(UserError, match="--direction must be AtoB or BtoA, got 'both'"):
        cyclegan.translate(state.G, recipe, A, direction="both")


def test_what_people_and_the_measure_see():
    recipe = tiny(ngf=2, ndf=2)
    state, batch = cyclegan.build(recipe, "cpu"), pair(recipe)
    A, B = batch
    fake_B = cyclegan.translate(state.G, recipe, A)
    fake_A = cyclegan.translate(state.G, recipe, B, direction="BtoA")
    cycled_A = cyclegan.translate(state.G, recipe, fake_B, direction="BtoA")
    cycled_B = cyclegan.translate(state.G, recipe, fake_A)
    columns = cyclegan.sample(state.G, recipe, batch)
    assert list(columns) == ["A", "A to B", "back to A", "B", "B to A", "back to B"]
    for column, expected in zip(columns.values(), (A, fake_B, cycled_A, B, fake_A, cycled_B), strict=True):
        assert torch.equal(column, expected)

    measured = {name: float(value) for name, value in cyclegan.measure(state.nets, recipe, batch).items()}
    grey = {"cycle_l1_A": (cycled_A, A), "cycle_l1_B": (cycled_B, B), "change_A": (fake_B, A), "change_B": (fake_A, B)}
    grey = {name: 127.5 * float((x - y).abs().mean()) for name, (x, y) in grey.items()}
    mean = (grey["cycle_l1_A"] + grey["cycle_l1_B"]) / 2
    assert measured == pytest.approx({"cycle_l1": mean, **grey}, rel=1e-5)
    assert next(iter(measured)) == "cycle_l1"


def test_an_example_has_the_shapes_of_a_batch():
    recipe = Recipe(**{**TINY, "batch": 3, "lambda_identity": 0.0, "ngf": 2, "ndf": 2})
    recipe = cyclegan.resolve(recipe, Facts((1, 3)))
    A, B = cyclegan.example(recipe)
    assert (A.device.type, A.shape, B.shape) == ("meta", (3, 1, 32, 32), (3, 3, 32, 32))
    assert B.is_contiguous(memory_format=torch.channels_last)
    batch = Batch(*(image.zero_() for image in cyclegan.example(recipe, "cpu")))
    assert cyclegan.step(cyclegan.build(recipe, "cpu"), recipe, batch)["loss/D"].isfinite()


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    recipe = cyclegan.resolve(Recipe(**PRESETS[preset]))
    assert recipe.generator in ("resnet_6", "resnet_9")
    assert (recipe.input_channels, recipe.output_channels) == (3, 3)
    assert cyclegan.resolve(recipe) == recipe


def test_generators_that_follow_from_the_size():
    assert cyclegan.resolve(Recipe(generator="unet", crop_size=96)).levels == 5
    assert cyclegan.resolve(Recipe(generator="unet", crop_size=96, levels=3)).levels == 3
    with torch.device("meta"):
        assert recipe_module.generator(Recipe(generator="unet_128", crop_size=128)).multiple == 128
        assert recipe_module.generator(Recipe(crop_size=128)).multiple == 4


def test_the_paper_is_the_paper():
    recipe = cyclegan.resolve(Recipe(**PRESETS["paper"]))
    expected = {
        **{"load_size": 286, "crop_size": 256, "flip": True, "generator": "resnet_9", "ngf": 64, "ndf": 64},
        **{"n_layers_d": 3, "norm": "instance", "in_affine": False, "dropout_p": 0.0, "init": "normal"},
        **{"gan_mode": "lsgan", "pool_size": 50, "lambda_gan": 1.0, "lambda_a": 10.0, "lambda_b": 10.0},
        **{"lambda_identity": 0.5, "d_loss_scale": 0.5, "batch": 1, "epochs": 100, "decay_epochs": 100},
        **{"schedule": "linear", "lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "weight_decay": 0.0, "init_gain": 0.02},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected


def test_ablations_differ_from_the_paper_in_weights_and_size_alone():
    for name in ("cycle-only", "gan-only", "forward", "backward"):
        recipe = Recipe(**PRESETS[name])
        changed = {f.name for f in dataclasses.fields(recipe) if getattr(recipe, f.name) != f.default}
        assert changed <= {"load_size", "crop_size", "lambda_identity", "lambda_gan", "lambda_a", "lambda_b"}
        assert recipe.lambda_identity == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 250}, "--crop-size must be a multiple of 4 such as 248 or 252, got 250"),
        ({"crop_size": 4}, "--crop-size must be at least 8"),
        ({"crop_size": 300}, "--load-size must be at least --crop-size 300"),
        ({"n_layers_d": 7}, "--n-layers-d must be at most 6"),
        ({"n_layers_d": 6, "crop_size": 128}, "a crop size of at least 192, or fewer layers"),
        ({"generator": "vit"}, "--generator must be one of auto, resnet_6, resnet_9, unet_128, unet_256, unet, got"),
        ({"generator": "unet_256", "crop_size": 128}, "a multiple of 256 such as 256 or 256 for --generator unet_256"),
        ({"generator": "unet", "crop_size": 40}, "a multiple of 16 such as 32 or 48 for --generator unet, got 40"),
        ({"generator": "unet", "crop_size": 40, "levels": 4}, "a multiple of 16 such as 32 or 48"),
        ({"generator": "unet", "levels": 1}, "--levels must be at least 2, or 0"),
        ({"levels": 4}, "--levels 4 is for --generator unet, not resnet_9"),
        ({"generator": "unet", "padding": "zeros"}, "--padding and --sum-relu are for residual generators"),
        ({"optimizers": "three"}, "--optimizers must be one of pair, four"),
        ({"gan_mode": "hinge"}, "--gan-mode must be one of"),
        ({"dropout_p": 1.0}, r"--dropout-p must be in \[0, 1\)"),
        ({"pool_size": -1}, "--pool-size must be at least 0"),
        ({"lambda_gan": 0.0, "lambda_a": 0.0, "lambda_b": 0.0}, "there is nothing to train G with"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--input-channels is 4, but the data has 3"):
        cyclegan.resolve(Recipe(input_channels=4), Facts())
    with pytest.raises(UserError, match="--lambda-identity needs as many channels in A as in B, got 1 and 3"):
        cyclegan.resolve(Recipe(), Facts((1, 3)))
    assert cyclegan.resolve(Recipe(lambda_identity=0.0), Facts((1, 3))).input_channels == 1


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = cyclegan.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = cyclegan.build(tiny(), "cpu").tensors(), cyclegan.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = "net.G.AtoB.stem.conv.weight"
    assert not torch.equal(first[weight], other[weight])
    assert not torch.equal(first[weight], first["net.G.BtoA.stem.conv.weight"])
    assert first[weight].is_contiguous(memory_format=torch.channels_last)


# On a GPU
