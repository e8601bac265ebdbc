"""GAN-INT-CLS: counts of its networks, the step against the equations in stock PyTorch, how G is used."""

import functools

import pytest
import stock
import torch
import torch.nn.functional as F
from stock import bce, counts, noise, on_meta
from torch import nn

from pygan import metrics
from pygan.data import CaptionedWrong, Facts
from pygan.errors import UserError
from pygan.gans import gan_int_cls
from pygan.gans.gan_int_cls import PRESETS, Recipe
from pygan.gans.gan_int_cls import recipe as recipe_module
from pygan.nn import Mode
from pygan.ops.philox import normal

TINY = {**PRESETS["tiny"], "text_dim": 12}
ON_A_GPU = {
    "plain": {"cls_weight": 0.0, "int_weight": 0.0},
    "64 wide in fp16": {"amp": True, "amp_dtype": "fp16", "ngf": 64},
}
doubled = functools.partial(stock.doubled, gan_int_cls)
captioned = functools.partial(noise, gan_int_cls)


def tiny(**fields):
    return gan_int_cls.resolve(Recipe(**{**TINY, **fields}))


# The networks


def test_parameter_counts():
    assert counts(gan_int_cls.generator, Recipe())[0] == 18_909_699
    assert counts(recipe_module.discriminator, Recipe())[0] == 4_032_321


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_sizes_by_levels(size):
    recipe = Recipe(load_size=size, crop_size=size, ngf=4, ndf=4)
    G, D = on_meta(gan_int_cls.generator, recipe), on_meta(recipe_module.discriminator, recipe)
    z, text = torch.empty(2, 100, device="meta"), torch.empty(2, 1024, device="meta")
    image = G(z, text)
    assert image.shape == (2, 3, size, size)
    assert D(image, text).shape == (2, 1, 1, 1)


# The step, against stock PyTorch


class Plus(nn.Module):
    """x + body(x)."""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return x + self.body(x)


def bottleneck(c, act):
    inner = c // 4
    return Plus(
        *(nn.Conv2d(c, inner, 1, bias=False), nn.BatchNorm2d(inner), act()),
        *(nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), act()),
        *(nn.Conv2d(inner, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)),
    )


def leaky():
    return nn.LeakyReLU(0.2)


class PlainG(nn.Module):
    """G for 32 pixels with widths 8, of stock layers. A bias that a norm takes away again is left out."""

    def __init__(self, text_dim, nt, nz):
        super().__init__()
        self.text = nn.Sequential(nn.Linear(text_dim, nt), leaky())
        self.net = nn.Sequential(
            *(nn.ConvTranspose2d(nz + nt, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32)),
            *(bottleneck(32, nn.ReLU), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16)),
            *(bottleneck(16, nn.ReLU), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, z, text):
        return self.net(torch.cat([z, self.text(text)], 1)[:, :, None, None])


class PlainD(nn.Module):
    """D for 32 pixels with widths 8, of stock layers."""

    def __init__(self, text_dim, nt):
        super().__init__()
        self.image = nn.Sequential(
            *(nn.Conv2d(3, 8, 4, 2, 1), leaky()),
            *(nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16)),
            *(nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32)),
            *(bottleneck(32, leaky), leaky()),
        )
        self.text = nn.Sequential(nn.Linear(text_dim, nt, bias=False), nn.BatchNorm1d(nt), leaky())
        self.both = nn.Sequential(
            *(nn.Conv2d(32 + nt, 32, 1, bias=False), nn.BatchNorm2d(32), leaky()),
            nn.Conv2d(32, 1, 4),
            nn.Flatten(0),
        )

    def forward(self, image, text):
        tiled = self.text(text)[:, :, None, None].expand(-1, -1, 4, 4)
        return self.both(torch.cat([self.image(image), tiled], 1))


LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def beside(plain, net):
    """((tensor of a stock net, the same one of ours) ..., biases of ours that a norm hides)."""
    layers = [[module for module in one.modules() if isinstance(module, LAYERS)] for one in (plain, net)]
    pairs, hidden = [], []
    for own, theirs in zip(*layers, strict=True):
        pairs.append((own.weight, theirs.weight))
        if own.bias is None:
            hidden.append(theirs.bias)
        else:
            pairs.append((own.bias, theirs.bias))
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    theirs = [module for module in net.modules() if getattr(module, "running_mean", None) is not None]
    for own, their in zip(norms, theirs, strict=True):
        pairs += [(getattr(own, k), getattr(their, k)) for k in ("weight", "bias", "running_mean", "running_var")]
    return pairs, hidden


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cls_weight": 0.0, "int_weight": 0.0},
        {"int_weight": 0.0},
        {"cls_weight": 0.0},
        {"cls_weight": 0.25, "int_weight": 0.5, "int_beta": 0.3},
    ],
    ids=["GAN-INT-CLS", "GAN", "GAN-CLS", "GAN-INT", "other weights"],
)
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(load_size=32, crop_size=32, lr=1e-3, batch=6, **fields)
    state = doubled(recipe)
    G, D = PlainG(12, 8, 4).double(), PlainD(12, 8).double()
    pairs, hidden = (one + other for one, other in zip(beside(G, state.G), beside(D, state.D), strict=True))
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999), foreach=False) for net in (G, D))
    w, v, beta = recipe.cls_weight, recipe.int_weight, recipe.int_beta

    for i in range(3):
        batch = captioned(recipe, seed=i, dtype=torch.float64)
        text = batch.text
        z_D = normal(state.rng, recipe_module._D_STREAM, (6, 4), dtype=torch.float64)
        z_G = normal(state.rng, recipe_module._G_STREAM, (9 if v else 6, 4), dtype=torch.float64)
        logs = gan_int_cls.step(state, recipe, batch)

        opt_D.zero_grad()
        said_real = D(batch.image, text)
        expected = {"loss/D_real": bce(said_real, 1.0), "logit/real": said_real.mean()}
        loss_D = expected["loss/D_real"]
        if w:
            said_wrong = D(batch.wrong, text)
            expected |= {"loss/D_wrong": bce(said_wrong, 0.0), "logit/wrong": said_wrong.mean()}
            loss_D = loss_D + w * expected["loss/D_wrong"]
        said_fake = D(G(z_D, text).detach(), text)
        expected |= {"loss/D_fake": bce(said_fake, 0.0), "logit/fake": said_fake.mean()}
        loss_D = loss_D + (1 - w) * expected["loss/D_fake"]
        loss_D.backward()
        opt_D.step()

        opt_G.zero_grad()
        texts = torch.cat([text, beta * text[:3] + (1 - beta) * text[3:]]) if v else text
        said = D(G(z_G, texts), texts)
        each = F.binary_cross_entropy_with_logits(said, torch.ones_like(said), reduction="none")
        weights = torch.tensor([1.0] * 6 + [v] * (len(each) - 6))
        loss_G = (weights * each).mean()
        loss_G.backward()
        opt_G.step()
        expected |= {"loss/G": loss_G, "loss/D": loss_D, "loss/G_text": each[:6].mean()}
        if v:
            expected["loss/G_int"] = each[6:].mean()

        assert set(logs) == set(expected)
        for name, value in logs.items():
            torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    assert len(hidden) == 9 + 7  # of G and of D
    assert not any(bias.any() for bias in hidden)


def test_parts_follow_the_switches():
    shown = {}
    for preset in ("gan", "gan-cls", "gan-int", "gan-int-cls"):
        recipe = tiny(**PRESETS[preset])
        state, sizes = gan_int_cls.build(recipe, "cpu"), []
        for net in (state.G, state.D):
            net.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        logs = gan_int_cls.step(state, recipe, captioned(recipe))
        shown[preset] = (sizes, "loss/D_wrong" in logs, "loss/G_int" in logs)
    # G for D, D, G, D of a batch of 4
    assert shown == {
        "gan": ([4, 8, 4, 4], False, False),
        "gan-cls": ([4, 12, 4, 4], True, False),
        "gan-int": ([4, 8, 6, 6], False, True),
        "gan-int-cls": ([4, 12, 6, 6], True, True),
    }


def test_wrong_pictures_push_d_the_other_way():
    """A D that is shown the same pictures as right and as wrong cannot do better than chance on them."""
    recipe = tiny(lr=0.0)
    state, batch = gan_int_cls.build(recipe, "cpu"), captioned(recipe)
    logs = gan_int_cls.step(state, recipe, batch._replace(wrong=batch.image))
    torch.testing.assert_close(logs["logit/wrong"], logs["logit/real"])
    expected = logs["loss/D_real"] + 0.5 * logs["loss/D_wrong"] + 0.5 * logs["loss/D_fake"]
    torch.testing.assert_close(logs["loss/D"], expected)


def test_a_step_moves_all_nets_and_keeps_every_address():
    recipe = tiny(ema_half_life_images=4.0)
    state = gan_int_cls.build(recipe, "cpu")
    hidden = {f"net.G.{p}.bias" for p in ("blocks.0.conv", "blocks.2.conv")}
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = gan_int_cls.step(state, recipe, captioned(recipe))
    still = {name for name, tensor in state.tensors().items() if torch.equal(tensor, before[name][1])}
    assert all(tensor.data_ptr() == before[name][0] for name, tensor in state.tensors().items())
    assert hidden < still
    assert all(".conv.bias" in name or ".text.linear.bias" in name for name in still)
    assert not {"net.G.head.bias", "net.D.head.bias", "net.D.downs.0.conv.bias", "net.G.text.linear.bias"} & still
    assert state.rng.tolist() == [0, 1]
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())


@pytest.mark.usefixtures("low_precision")
def test_a_step_in_16_bits_is_near():
    rows = {}
    for amp in (False, True):
        recipe = tiny(amp=amp)
        state = gan_int_cls.build(recipe, "cpu")
        rows[amp] = [gan_int_cls.step(state, recipe, captioned(recipe, seed=i)) for i in range(2)]
        assert any(leaf.dtype == torch.bfloat16 for leaf in state.opt_G.leaves()) == amp
    for full, low in zip(rows[False], rows[True], strict=True):
        assert all(value.dtype == torch.float32 for value in low.values())
        for name, value in low.items():
            torch.testing.assert_close(value, full[name], rtol=0.05, atol=0.05, msg=name)


@pytest.mark.parametrize(("epoch", "factor"), [(1, 1.0), (99, 1.0), (100, 0.5), (199, 0.5), (200, 0.25), (600, 2**-6)])
def test_learning_rates_halve_as_in_the_code_of_the_paper(epoch, factor):
    assert gan_int_cls.lr_factor(Recipe(), epoch, 0) == factor
    assert gan_int_cls.lr_factor(Recipe(schedule="const"), epoch, 0) == 1.0


# Use


def test_generated_pictures_follow_the_seed_and_their_text():
    recipe = tiny()
    state, batch = gan_int_cls.build(recipe, "cpu"), captioned(recipe)
    gan_int_cls.step(state, recipe, batch)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    images = gan_int_cls.generate(state.G, recipe, 4, text=batch.text)
    assert images.shape == (4, 3, 16, 16)
    assert images.abs().max() <= 1
    assert not images.requires_grad
    assert torch.equal(images, gan_int_cls.generate(state.G, recipe, 4, text=batch.text))
    assert not torch.equal(images, gan_int_cls.generate(state.G, recipe, 4, torch.tensor([9, 9]), text=batch.text))
    swapped = gan_int_cls.generate(state.G, recipe, 4, text=torch.cat((batch.text[:3], batch.text[:1])))
    torch.testing.assert_close(swapped[:3], images[:3], rtol=0, atol=1e-6)
    assert not torch.allclose(swapped[3], images[3], atol=1e-5)
    columns = gan_int_cls.sample(state.G, recipe, batch)
    assert torch.equal(columns["output"], images)
    assert torch.equal(columns["target"], batch.image)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    with pytest.raises(ValueError, match=r"text must have shape \(n, d\) with n = 3, got \[4, 12\]"):
        gan_int_cls.generate(state.G, recipe, 3, text=batch.text)


def test_measures_of_a_batch():
    recipe = tiny()
    state, batch = gan_int_cls.build(recipe, "cpu"), captioned(recipe)
    row = gan_int_cls.measure(state.nets, recipe, batch)
    assert list(row) == ["colour_l1", "logit/real", "logit/fake"]
    fake = gan_int_cls.generate(state.G, recipe, 4, text=batch.text)
    assert torch.equal(row["colour_l1"], metrics.colour_l1(fake, batch.image))
    with torch.no_grad():
        said = state.D(fake, batch.text, Mode(statistics="running")).mean()
    torch.testing.assert_close(row["logit/fake"], said)


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    facts = Facts(channels=(1,), text_dim=256)
    recipe = gan_int_cls.resolve(Recipe(**PRESETS[preset]), facts)
    assert (recipe.channels, recipe.text_dim) == (1, 256)
    assert gan_int_cls.resolve(recipe, facts) == recipe
    batch = gan_int_cls.example(recipe)
    assert batch.image.shape == (recipe.batch, 1, recipe.crop_size, recipe.crop_size)
    assert batch.text.shape == (recipe.batch, 256)
    assert isinstance(batch, CaptionedWrong) == (recipe.cls_weight > 0)


def test_the_paper_is_the_code_of_the_paper():
    recipe = gan_int_cls.resolve(Recipe(**PRESETS["paper"]))
    expected = {
        **{"batch": 64, "epochs": 600, "decay_epochs": 0, "lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "z_dim": 100},
        **{"schedule": "halving", "halve_every": 100, "load_size": 76, "crop_size": 64, "flip": True, "ngf": 128},
        **{"ndf": 64, "text_dim": 1024, "c_dim": 128, "cls_weight": 0.5, "int_weight": 1.0, "int_beta": 0.5},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 48}, "--crop-size must be a power of two such as 32 or 64, got 48"),
        ({"crop_size": 128}, "--load-size must be at least --crop-size 128, got 76"),
        ({"cls_weight": 1.5}, r"--cls-weight must be in \[0, 1\], got 1.5"),
        ({"int_beta": -0.5}, r"--int-beta must be in \[0, 1\]"),
        ({"int_weight": -1.0}, "--int-weight must be at least 0"),
        ({"halve_every": 0}, "--halve-every must be at least 1"),
        ({"batch": 1}, "--batch must be at least 2 to interpolate between texts, got 1; or set --int-weight 0"),
        ({"captions_per_image": "two"}, "--captions-per-image must be one of one, mean4"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_what_the_data_does_not_have():
    with pytest.raises(UserError, match="--text-dim is 1024, but the data has 256; leave the flag out"):
        gan_int_cls.resolve(Recipe(text_dim=1024), Facts(text_dim=256))
    with pytest.raises(UserError, match="--channels is 1, but the data has 3"):
        gan_int_cls.resolve(Recipe(channels=1), Facts())


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = gan_int_cls.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = gan_int_cls.build(tiny(), "cpu").tensors(), gan_int_cls.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.G.head.weight"], other["net.G.head.weight"])


# On a GPU
