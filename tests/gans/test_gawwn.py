"""GAWWN: places on a grid, counts of its networks, the step against the equations in stock PyTorch, how G is used."""

import functools
import itertools

import pytest
import stock
import torch
import torch.nn.functional as F
from stock import bce, on_meta
from torch import nn

from pygan.data import Facts, LocatedCaptioned
from pygan.errors import UserError
from pygan.gans import gawwn
from pygan.gans.gawwn import PRESETS, Recipe, place
from pygan.gans.gawwn import recipe as recipe_module
from pygan.nn import Mode
from pygan.ops.philox import normal

TINY = {**PRESETS["tiny"], "text_dim": 12}
WHERE = ("box", "keypoints")
ON_A_GPU = {
    "wider": {"ngf": 16, "ndf": 16},
    "key points": {"where": "keypoints", "ngf": 16, "ndf": 16},
    "key points in fp16": {"where": "keypoints", "ngf": 16, "ndf": 16, "amp": True, "amp_dtype": "fp16"},
}
doubled = functools.partial(stock.doubled, gawwn)


def tiny(**fields):
    points = {"keypoints": 3} if fields.get("where") == "keypoints" else {}
    return gawwn.resolve(Recipe(**{**TINY, **points, **fields}))


def places(recipe, n, draws, dtype):
    """Boxes inside of the picture, at least a third of it; or points, every other one to be seen."""
    if recipe.where == "box":
        side = 0.35 + 0.6 * torch.rand((n, 2), generator=draws, dtype=dtype)
        return torch.cat((torch.rand((n, 2), generator=draws, dtype=dtype) * (1 - side), side), dim=1)
    where = torch.rand((n, recipe.keypoints, 3), generator=draws, dtype=dtype)
    where[..., 2] = (where[..., 2] > 0.5).to(dtype)
    return where


def located(recipe, seed=0, dtype=torch.float32, device="cpu"):
    draws = torch.Generator().manual_seed(seed)
    shape = (recipe.batch, recipe.channels, recipe.crop_size, recipe.crop_size)
    image, wrong = (
        (torch.rand(shape, generator=draws, dtype=dtype) * 2 - 1)
        .to(device)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    text = torch.randn((recipe.batch, recipe.text_dim), generator=draws, dtype=dtype).to(device)
    return LocatedCaptioned(image, wrong, text, places(recipe, recipe.batch, draws, dtype).to(device))


# Places


def theta(box, *, inverse):
    """The affine matrices (n, 2, 3) of the paper's transformer: picture to box, or back."""
    scale, shift = box[:, 2:], 2 * (box[:, :2] + box[:, 2:] / 2) - 1
    if inverse:
        scale, shift = 1 / scale, -shift / scale
    return torch.cat((torch.diag_embed(scale), shift[:, :, None]), dim=2)


def transformed(x, box, *, inverse):
    """x (n, c, 16, 16) sampled bilinearly on an affine grid, zeros outside."""
    grid = F.affine_grid(theta(box, inverse=inverse), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("inverse", [False, True], ids=["crop", "paste"])
def test_separable_sampling_is_the_spatial_transformer(inverse):
    draws = torch.Generator().manual_seed(0)
    box = places(tiny(), 20, draws, torch.float64)
    box[0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    box[1] = torch.tensor([0.3, 0.4, 1 / 16, 2 / 16])
    box[2] = torch.tensor([-0.2, 0.5, 0.6, 0.8])  # partly outside
    x = torch.randn((20, 5, 16, 16), generator=draws, dtype=torch.float64, requires_grad=True)
    expected = transformed(x, box, inverse=inverse)
    by = (place.paste if inverse else place.crop)(box)
    ours = place.resample(x, by)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    seed = torch.randn(ours.shape, generator=draws, dtype=torch.float64)
    gradients = [torch.autograd.grad(y, x, seed)[0] for y in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours[0], x[0].detach(), rtol=0, atol=1e-12)  # the whole picture stays as it is
    ones = transformed(torch.ones_like(x[:, :1]), box, inverse=inverse)
    torch.testing.assert_close(place.covered(by), ones.detach(), rtol=0, atol=1e-12)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    low = place.resample(x.detach().to(torch.bfloat16), by)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), ours, rtol=0.02, atol=0.02)


def test_a_box_of_whole_cells_is_covered_exactly():
    covered = place.covered(place.paste(torch.tensor([[0.25, 0.5, 0.5, 0.25]])))  # columns 4..11, rows 8..11
    expected = torch.zeros(1, 1, 16, 16)
    expected[:, :, 8:12, 4:12] = 1
    torch.testing.assert_close(covered, expected, rtol=0, atol=1e-6)
    nothing = place.resample(torch.ones(1, 2, 16, 16), place.paste(torch.tensor([[0.5, 0.5, 0.0, 0.0]])))
    assert nothing.isfinite().all()
    assert nothing.sum() > 0  # no thinner than a cell


def test_maps_of_key_points():
    points = torch.tensor([[[0.0, 0.0, 1.0], [0.99, 0.51, 1.0], [1.0, 1.0, 1.0], [0.5, 0.5, 0.0]]])
    maps = place.point_maps(points)
    assert maps.shape == (1, 4, 16, 16)
    assert maps.dtype == torch.float32
    assert maps.nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 8, 15], [0, 2, 15, 15]]  # n, point, row, column


# The networks, and the step, of stock PyTorch


def leaky():
    return nn.LeakyReLU(0.2)


def conv(c, c_next, kernel, stride, padding, act):
    layers = [nn.Conv2d(c, c_next, kernel, stride, padding, bias=False), nn.BatchNorm2d(c_next)]
    return nn.Sequential(*layers, *([act()] if act else []))


def deconv(c, c_next, act, stride=2, padding=1):
    layers = [nn.ConvTranspose2d(c, c_next, 4, stride, padding, bias=False), nn.BatchNorm2d(c_next)]
    return nn.Sequential(*layers, *([act()] if act else []))


def dense(c, c_next, act):
    return nn.Sequential(nn.Linear(c, c_next, bias=False), nn.BatchNorm1d(c_next), act())


class Bottleneck(nn.Module):
    def __init__(self, c):
        super().__init__()
        body = conv(c, c // 4, 1, 1, 0, nn.ReLU), conv(c // 4, c // 4, 3, 1, 1, nn.ReLU), conv(c // 4, c, 3, 1, 1, None)
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return F.relu(x + self.body(x))


def tiled(t, size):
    return t[:, :, None, None].expand(-1, -1, size, size)


class PlainBoxG(nn.Module):
    """widths: of the maps from 32 pixels on."""

    def __init__(self, d, nz, w, widths):
        super().__init__()
        self.text, self.noise_global, self.noise_local = nn.Linear(d, 4 * w), nn.Linear(nz, 4 * w), nn.Linear(nz, 4 * w)
        self.where = nn.Sequential(
            conv(4 * w, 4 * w, 4, 2, 1, nn.ReLU),
            conv(4 * w, 4 * w, 4, 2, 1, nn.ReLU),
            conv(4 * w, 4 * w, 4, 1, 0, nn.ReLU),
            nn.Flatten(),
        )
        self.whole = nn.Sequential(
            deconv(8 * w, 8 * w, nn.ReLU, 1, 0), deconv(8 * w, 4 * w, nn.ReLU), deconv(4 * w, 2 * w, nn.ReLU)
        )
        self.part = nn.Sequential(
            *(deconv(8 * w, 8 * w, None, 1, 0), Bottleneck(8 * w)),
            *(deconv(8 * w, 4 * w, None), Bottleneck(4 * w), deconv(4 * w, 2 * w, None)),
        )
        self.mix = conv(4 * w, 2 * w, 3, 1, 1, nn.ReLU)
        maps = [2 * w, *widths]
        self.ups = nn.Sequential(*(deconv(a, b, nn.ReLU) for a, b in itertools.pairwise(maps)))
        self.head = nn.Sequential(nn.ConvTranspose2d(maps[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, z, text, box):
        said = self.text(text)
        there = self.where(transformed(tiled(said, 16).contiguous(), box, inverse=True))
        whole = self.whole(torch.cat([F.relu(self.noise_global(z)), there], 1)[:, :, None, None])
        part = self.part(F.relu(torch.cat([self.noise_local(z), said], 1))[:, :, None, None])
        part = F.relu(transformed(part, box, inverse=True))
        return self.head(self.ups(self.mix(torch.cat([whole, part], 1))))


def plain_maps(points):
    """A loop over all points."""
    maps = torch.zeros(*points.shape[:2], 16, 16, dtype=points.dtype)
    for i, of_picture in enumerate(points.tolist()):
        for j, (x, y, seen) in enumerate(of_picture):
            if seen:
                maps[i, j, min(15, int(y * 16)), min(15, int(x * 16))] = 1
    return maps


class PlainPointG(nn.Module):
    def __init__(self, d, nz, w, widths, points):
        super().__init__()
        self.text, self.noise = nn.Linear(d, 4 * w), nn.Linear(nz, 4 * w)
        self.for_part, self.for_whole = dense(8 * w, 4 * w, nn.ReLU), dense(8 * w, 4 * w, nn.ReLU)
        self.where = nn.Sequential(
            conv(points, w, 4, 2, 1, nn.ReLU),
            conv(w, 2 * w, 4, 2, 1, nn.ReLU),
            conv(2 * w, 4 * w, 4, 1, 0, nn.ReLU),
            nn.Flatten(),
        )
        self.whole = nn.Sequential(
            deconv(8 * w, 4 * w, nn.ReLU, 1, 0), deconv(4 * w, 2 * w, nn.ReLU), deconv(2 * w, w, nn.ReLU)
        )
        self.part = conv(4 * w, 4 * w, 3, 1, 1, nn.ReLU)
        self.mix = nn.Sequential(
            conv(5 * w + points, 4 * w, 3, 1, 1, nn.ReLU), conv(4 * w, 4 * w, 3, 1, 1, None), Bottleneck(4 * w)
        )
        maps = [4 * w, *widths]
        self.ups = nn.Sequential(*(deconv(a, b, nn.ReLU) for a, b in itertools.pairwise(maps)))
        self.head = nn.Sequential(nn.ConvTranspose2d(maps[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, z, text, points):
        maps = plain_maps(points)
        both = F.relu(torch.cat([self.noise(z), self.text(text)], 1))
        whole = self.whole(torch.cat([self.for_whole(both), self.where(maps)], 1)[:, :, None, None])
        anywhere = maps.sum(1, keepdim=True).clamp(0, 1)
        part = self.part(tiled(self.for_part(both), 16) * anywhere)
        return self.head(self.ups(self.mix(torch.cat([whole, part, maps], 1))))


class PlainD(nn.Module):
    def __init__(self, d, nt, w, halvings, points, norm):
        super().__init__()
        self.points = points
        trunk, c = [], 3
        for _ in range(halvings - 1):
            trunk += [nn.Conv2d(c, w, 4, 2, 1), leaky()]
            c = w
        self.image = nn.Sequential(*trunk, conv(c, 2 * w, 4, 2, 1, leaky), conv(2 * w, 2 * w, 3, 1, 1, leaky))
        self.text = nn.Sequential(nn.Linear(d, nt), leaky())
        self.join = conv(2 * w + nt, 2 * w, 3, 1, 1, leaky)
        self.part = nn.Sequential(conv(2 * w + points, 2 * w, 1, 1, 0, leaky), nn.Conv2d(2 * w, w, 1))
        self.whole = nn.Sequential(conv(2 * w, 4 * w, 4, 2, 1, leaky), conv(4 * w, 8 * w, 4, 2, 1, leaky))
        beside = nt if points else w
        last = conv(4 * w, w, 4, 1, 0, leaky) if norm else nn.Sequential(nn.Conv2d(4 * w, w, 4), leaky())
        self.both = nn.Sequential(conv(8 * w + beside, 4 * w, 1, 1, 0, leaky), last)
        both = dense(2 * w, w, leaky) if norm else nn.Sequential(nn.Linear(2 * w, w), leaky())
        self.out = nn.Sequential(both, nn.Linear(w, 1), nn.Flatten(0))
        if not points:
            self.where = nn.Sequential(conv(nt, 4 * w, 4, 2, 1, nn.ReLU), conv(4 * w, w, 4, 2, 1, nn.ReLU))

    def forward(self, image, text, where):
        features, said = self.image(image), self.text(text)
        part = self.join(torch.cat([features, tiled(said, 16)], 1))
        if self.points:
            maps = plain_maps(where)
            part = torch.cat([part * maps.sum(1, keepdim=True).clamp(0, 1), maps], 1)
            beside = tiled(said, 4)
        else:
            part = transformed(part, where, inverse=False)
            beside = self.where(transformed(tiled(said, 16).contiguous(), where, inverse=True))
        part = F.leaky_relu(self.part(part).mean((2, 3)), 0.2)
        whole = self.both(torch.cat([self.whole(features), beside], 1)).flatten(1)
        return self.out(torch.cat([part, whole], 1))


def plain_nets(recipe):
    """G and D as the paper's section 4 and the authors' layers have them."""
    w, points = recipe.ngf, recipe.keypoints
    narrow = {64: [w], 128: [w, w // 4]}[recipe.crop_size]
    wide = {64: [2 * w], 128: [2 * w, w]}[recipe.crop_size]
    halvings = len(narrow) + 1
    D = PlainD(recipe.text_dim, recipe.c_dim, recipe.ndf, halvings, points, recipe.d_vector_norm)
    if recipe.where == "box":
        return PlainBoxG(recipe.text_dim, recipe.z_dim, w, narrow), D
    return PlainPointG(recipe.text_dim, recipe.z_dim, w, wide, points), D


@pytest.mark.parametrize(
    ("where", "of_g", "of_d"), [("box", 73_537_859, 16_759_169), ("keypoints", 26_465_539, 14_664_577)]
)
def test_parameter_counts(where, of_g, of_d):
    recipe = gawwn.resolve(Recipe(where=where))
    with torch.device("meta"):
        plain = plain_nets(recipe)
    ours = on_meta(gawwn.generator, recipe), on_meta(recipe_module.discriminator, recipe)
    for net, own, count in zip(ours, plain, (of_g, of_d), strict=True):
        assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in own.parameters()) == count


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_sizes_by_levels(where, size):
    recipe = gawwn.resolve(Recipe(load_size=size, crop_size=size, ngf=4, ndf=4, where=where))
    G, D = on_meta(gawwn.generator, recipe), on_meta(recipe_module.discriminator, recipe)
    batch = gawwn.example(recipe)
    image = G(torch.empty(16, 100, device="meta"), batch.text, batch.where)
    assert image.shape == (16, 3, size, size)
    assert D(image, batch.text, batch.where).shape == (16, 1, 1, 1)


LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def beside(plain, net):
    """[(tensor of a stock net, the same one of ours)]."""
    pairs = []
    for own, theirs in zip(named(plain), named(net), strict=True):
        pairs += list(zip(own, theirs, strict=True))
    return pairs


def named(net):
    """Tensors of each layer and norm, in the order of the attributes, which is the same in both nets."""
    for module in net.modules():
        if isinstance(module, LAYERS):
            yield [module.weight] if module.bias is None else [module.weight, module.bias]
        elif getattr(module, "running_mean", None) is not None:
            yield [module.weight, module.bias, module.running_mean, module.running_var]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"where": "keypoints"},
        {"cls_weight": 0.25, "wrong": "image"},
        {"cls_weight": 0.0, "where": "keypoints"},
        {"d_vector_norm": False},
    ],
    ids=["box", "keypoints", "wrong pictures", "no wrong pairs", "no norm of vectors"],
)
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(load_size=64, crop_size=64, **fields)
    state = doubled(recipe)
    G, D = (net.double() for net in plain_nets(recipe))
    pairs = beside(G, state.G) + beside(D, state.D)
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=False) for net in (G, D))
    w = recipe.cls_weight

    for i in range(3):
        image, wrong, text, where = batch = located(recipe, seed=i, dtype=torch.float64)
        z = normal(state.rng, recipe_module._STREAM, (4, 4), dtype=torch.float64)
        logs = gawwn.step(state, recipe, batch)

        opt_D.zero_grad()
        fake = G(z, text, where)
        said_real = D(image, text, where)
        expected = {"loss/D_real": bce(said_real, 1.0), "logit/real": said_real.mean()}
        loss_D = expected["loss/D_real"]
        if w:
            next_text = torch.stack([text[3], text[0], text[1], text[2]])
            said_wrong = D(image, next_text, where) if recipe.wrong == "text" else D(wrong, text, where)
            expected |= {"loss/D_wrong": bce(said_wrong, 0.0), "logit/wrong": said_wrong.mean()}
            loss_D = loss_D + w * expected["loss/D_wrong"]
        said_fake = D(fake.detach(), text, where)
        expected |= {"loss/D_fake": bce(said_fake, 0.0), "logit/fake": said_fake.mean()}
        loss_D = loss_D + (1 - w) * expected["loss/D_fake"]
        loss_D.backward()
        opt_D.step()

        opt_G.zero_grad()
        loss_G = bce(D(fake, text, where), 1.0)
        loss_G.backward()
        opt_G.step()
        expected |= {"loss/G": loss_G, "loss/D": loss_D}

        assert set(logs) == set(expected)
        for name, value in logs.items():
            torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


# What a step does


@pytest.mark.parametrize("where", WHERE)
def test_a_step_moves_all_nets_and_keeps_every_address(where):
    recipe = tiny(where=where, ema_half_life_images=4.0)
    state = gawwn.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = gawwn.step(state, recipe, located(recipe))
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert not torch.equal(tensor, before[name][1]), name
    assert state.rng.tolist() == [0, 1]
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("where", WHERE)
def test_a_step_in_16_bits_is_near(where):
    rows = {}
    for amp in (False, True):
        recipe = tiny(amp=amp, where=where)
        state = gawwn.build(recipe, "cpu")
        rows[amp] = [gawwn.step(state, recipe, located(recipe, seed=i)) for i in range(2)]
        assert any(leaf.dtype == torch.bfloat16 for leaf in state.opt_G.leaves()) == amp
    for full, low in zip(rows[False], rows[True], strict=True):
        assert all(value.dtype == torch.float32 for value in low.values())
        for name, value in low.items():
            torch.testing.assert_close(value, full[name], rtol=0.05, atol=0.05, msg=name)


def test_learning_rates_halve_as_in_the_code_of_the_paper():
    assert [gawwn.lr_factor(Recipe(), epoch, 0) for epoch in (1, 99, 100, 200, 600)] == [1, 1, 0.5, 0.25, 2**-6]
    assert gawwn.lr_factor(Recipe(schedule="const"), 600, 0) == 1


# Use


@pytest.mark.parametrize("where", WHERE)
def test_generated_pictures_follow_seed_text_and_place(where):
    recipe = tiny(where=where, init_gain=0.2)  # so large that each input shows
    state, batch = gawwn.build(recipe, "cpu"), located(recipe)
    gawwn.step(state, recipe, batch)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    given = {"text": batch.text, "where": batch.where}
    images = gawwn.generate(state.G, recipe, 4, **given)
    assert images.shape == (4, 3, 32, 32)
    assert images.abs().max() <= 1
    assert not images.requires_grad
    assert torch.equal(images, gawwn.generate(state.G, recipe, 4, **given))
    assert not torch.equal(images, gawwn.generate(state.G, recipe, 4, torch.tensor([9, 9]), **given))
    for name, value in given.items():
        swapped = gawwn.generate(state.G, recipe, 4, **{**given, name: torch.cat((value[:3], value[:1]))})
        torch.testing.assert_close(swapped[:3], images[:3], rtol=0, atol=1e-5)
        assert not torch.allclose(swapped[3], images[3], atol=1e-3), name
    anywhere = gawwn.generate(state.G, recipe, 4, text=batch.text)
    usual = torch.tensor([[0.125, 0.125, 0.75, 0.75]] * 4) if where == "box" else torch.zeros(4, 3, 3)
    assert torch.equal(anywhere, gawwn.generate(state.G, recipe, 4, text=batch.text, where=usual))
    columns = gawwn.sample(state.G, recipe, batch)
    assert list(columns) == ["input", "output", "target"]
    assert all(column.shape == images.shape for column in columns.values())
    assert torch.equal(columns["output"], images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    with pytest.raises(ValueError, match=r"text must have shape \(n, d\) with n = 3, got \[4, 12\]"):
        gawwn.generate(state.G, recipe, 3, text=batch.text)
    with pytest.raises(ValueError, match=r"where must have shape .*, got \[2, 4\]"):
        gawwn.generate(state.G, recipe, 4, text=batch.text, where=torch.zeros(2, 4))


def test_places_as_pictures():
    box = gawwn.sample(
        gawwn.build(tiny(), "cpu").G, tiny(), located(tiny())._replace(where=torch.tensor([[0.25, 0.5, 0.5, 0.25]] * 4))
    )["input"]
    expected = torch.full((4, 3, 32, 32), -1.0)
    expected[:, :, 16:24, 8:24] = 1.0
    assert torch.equal(box, expected)
    recipe = tiny(where="keypoints")
    points = recipe_module.draw(recipe, torch.tensor([[[0.1, 0.9, 1.0], [0.5, 0.5, 0.0], [0.1, 0.9, 1.0]]]))
    assert (points == 1).nonzero()[:, 2:].unique(dim=0).tolist() == [[28, 2], [28, 3], [29, 2], [29, 3]]


@pytest.mark.parametrize("where", WHERE)
def test_measures_of_a_batch(where):
    recipe = tiny(where=where)
    state, batch = gawwn.build(recipe, "cpu"), located(recipe)
    row = gawwn.measure(state.nets, recipe, batch)
    assert list(row) == ["colour_l1", "logit/real", "logit/fake"]
    fake = gawwn.generate(state.G, recipe, 4, text=batch.text, where=batch.where)
    blocks = [image.view(4, 3, 8, 4, 8, 4).mean((3, 5)) for image in (fake, batch.image)]
    torch.testing.assert_close(row["colour_l1"], (blocks[0] - blocks[1]).abs().mean() * 127.5)
    with torch.no_grad():
        said = state.D(fake, batch.text, batch.where, Mode(statistics="running")).mean()
    torch.testing.assert_close(row["logit/fake"], said)


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    recipe = Recipe(**PRESETS[preset])
    facts = Facts(channels=(1,), text_dim=256, where=(4,) if recipe.where == "box" else (5, 3))
    recipe = gawwn.resolve(recipe, facts)
    assert (recipe.channels, recipe.text_dim) == (1, 256)
    assert recipe.keypoints == (5 if recipe.where == "keypoints" else 0)
    assert gawwn.resolve(recipe, facts) == recipe
    batch = gawwn.example(recipe)
    assert batch.image.shape == batch.wrong.shape == (recipe.batch, 1, recipe.crop_size, recipe.crop_size)
    assert batch.where.shape == (recipe.batch, *facts.where)


def test_the_paper_is_the_code_of_the_paper():
    recipe = gawwn.resolve(Recipe(**PRESETS["paper"]))
    expected = {
        **{"batch": 16, "epochs": 600, "decay_epochs": 0, "lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "z_dim": 100},
        **{"schedule": "halving", "halve_every": 100, "load_size": 150, "crop_size": 128, "flip": True, "ngf": 128},
        **{"ndf": 128, "text_dim": 1024, "c_dim": 128, "cls_weight": 0.5, "captions_per_image": "mean4"},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert gawwn.resolve(Recipe(**PRESETS["keypoints"])).keypoints == 15


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 48}, "--crop-size must be a power of two such as 32 or 64, got 48"),
        ({"crop_size": 16}, "--crop-size must be at least 32"),
        ({"crop_size": 256}, "--load-size must be at least --crop-size 256, got 150"),
        ({"cls_weight": 1.5}, r"--cls-weight must be in \[0, 1\], got 1.5"),
        ({"where": "here"}, "--where must be one of box, keypoints"),
        ({"keypoints": 15}, "--keypoints 15 is for --where keypoints, not --where box"),
        ({"batch": 1}, "--batch must be at least 2 for texts of other pictures, got 1; or take --wrong image"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_what_the_data_does_not_have():
    with pytest.raises(UserError, match="--keypoints is 15, but the data has 5; leave the flag out"):
        gawwn.resolve(Recipe(where="keypoints", keypoints=15), Facts(where=(5, 3)))
    with pytest.raises(UserError, match="--text-dim is 1024, but the data has 256"):
        gawwn.resolve(Recipe(text_dim=1024), Facts(text_dim=256, where=(4,)))


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = gawwn.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = gawwn.build(tiny(), "cpu").tensors(), gawwn.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.G.head.weight"], other["net.G.head.weight"])


# On a GPU
