"""A network applied to pictures: what its card says, sizes, depths, alpha, groups of one size."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pygan import apply, gans, use
from pygan.errors import UserError
from pygan.nn import pack_, place_
from pygan.pixels import Picture, to_depth
from pygan.recipe import make
from pygan.tiles import Tiling


def network(name, preset="tiny", **fields):
    gan = gans.load(name)
    recipe = gans.phases(gan, gan.resolve(make(gan.Recipe, gan.PRESETS, preset, {})))[-1]
    recipe = dataclasses.replace(recipe, **fields)
    torch.manual_seed(0)
    net = place_(gan.generator(recipe), "cpu").requires_grad_(False)
    return use.Trained(gan, recipe, net, 7, torch.device("cpu"))


def noise(height, width, channels=3, dtype=np.uint8, alpha=False):
    rng = np.random.default_rng(height * width)
    if dtype == np.float32:
        make_one = rng.random
    else:
        make_one = lambda shape: rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)  # noqa: E731
    pixels = make_one((height, width, channels)).astype(dtype)
    return Picture(pixels, make_one((height, width)).astype(dtype) if alpha else None)


@pytest.mark.parametrize("name", gans.names())
def test_a_card_survives_json(name):
    card = network(name).card
    again = use.Card.from_dict(json.loads(json.dumps(card.to_dict())), "a file")
    assert again.to_dict() == card.to_dict()
    assert (again.gan, again.acts, again.options) == (card.gan, card.acts, dict(card.options))
    assert hasattr(gans.load(name), "translate") == ("translate" in card.acts)
    assert "generate" in card.acts or "translate" in card.acts


def test_a_card_is_made_once_and_of_a_changed_network_anew():
    """Making one takes as long as some small networks do."""
    one = network("cyclegan")
    assert one.card is one.card
    assert dataclasses.replace(one, images_seen=8).card.images_seen == 8


@pytest.mark.parametrize("damage", [{}, {"gan": "x"}, {"channels": 3}, {"options": [1]}])
def test_a_damaged_card_is_one_line(damage):
    values = network("pix2pix").card.to_dict() | damage if damage.keys() - {"gan"} else damage
    with pytest.raises(UserError, match="export it again"):
        use.Card.from_dict(values, "a file")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_size_and_alpha_stay(dtype, channels):
    one = network("cyclegan")
    given = [noise(21, 34, channels, dtype, alpha=True), noise(8, 9, channels, dtype), noise(3, 50, channels, dtype)]
    made = apply.translated(one, given, options={"direction": "BtoA"})
    for picture, result in zip(given, made, strict=True):
        assert result.pixels.shape == (*picture.size, 3)
        assert result.pixels.dtype == dtype
        assert (result.alpha is None) == (picture.alpha is None)
        assert picture.alpha is None or np.array_equal(result.alpha, picture.alpha)


@pytest.mark.parametrize("name", ["cyclegan", "pix2pix", "simgan"])
def test_a_picture_does_not_depend_on_the_others(name):
    """pix2pix has dropout on in use, whose mask covers a batch, and statistics of BatchNorm, which do too."""
    one = network(name)
    given = [noise(32, 32), noise(32, 33), noise(32, 32), Picture(255 - noise(32, 32).pixels)]
    together = apply.translated(one, given, seed=3)
    for picture, result in zip(given, together, strict=True):
        (alone,) = apply.translated(one, [picture], seed=3)
        assert np.abs(alone.pixels.astype(int) - result.pixels.astype(int)).max() <= 1


def test_sixteen_bits_are_finer_than_eight():
    one = network("simgan")
    (fine,) = apply.translated(one, [Picture(noise(32, 32).pixels.astype(np.uint16) * 257)])
    (coarse,) = apply.translated(one, [noise(32, 32)])
    assert np.array_equal(np.rint(fine.pixels / 257).astype(np.uint8), coarse.pixels)
    assert len(np.unique(fine.pixels)) > 256


@pytest.mark.parametrize("tile", [None, Tiling(16)])
@pytest.mark.parametrize("depth", [np.uint16, np.float32])
def test_a_depth_that_is_asked_for_is_filled(depth, tile):
    """Not 256 levels of it, where the picture has 8 bits."""
    given = Picture(noise(32, 32).pixels, noise(32, 32, 1).pixels[:, :, 0])
    (made,) = apply.translated(network("simgan"), [given], tile=tile, depth=depth)
    assert made.pixels.dtype == made.alpha.dtype == depth
    assert len(np.unique(made.pixels)) > 256
    assert np.array_equal(made.alpha, to_depth(given.alpha, depth))


def test_a_picture_that_fits_into_a_tile_is_what_it_is_without():
    """To the last bit, though tiles are computed by a copy of the network whose weights are not packed."""
    one, tile = network("cyclegan"), 64
    pack_(one.net)
    given = [noise(side, tile, dtype=np.float32) for side in (tile, tile + 1)]
    fits, cut = (apply.translated(one, [picture], tile=Tiling(tile))[0].pixels for picture in given)
    assert np.array_equal(fits, apply.translated(one, given[:1])[0].pixels)
    assert not np.array_equal(cut, apply.translated(one, given[1:])[0].pixels)


def test_what_cannot_be_asked_is_named():
    with pytest.raises(UserError, match="translates nothing"):
        apply.check(network("dcgan"), {}, "it")
    with pytest.raises(UserError, match="--to is not something"):
        apply.check(network("pix2pix"), {"to": "Male"}, "it")
    with pytest.raises(UserError, match="--direction must be AtoB or BtoA"):
        apply.check(network("cyclegan"), {"direction": "up"}, "it")
    with pytest.raises(UserError, match="--to does not know"):
        apply.check(network("stargan"), {"to": "Blue"}, "it")
    with pytest.raises(UserError, match="picture 2: it has 4 channels, the network takes 3"):
        apply.translated(network("simgan"), [noise(9, 9), noise(9, 9, 4)])


def test_labels_go_in_as_planes():
    one = network("pix2pix", input_channels=12, direction="BtoA")
    assert one.card.prepare == "labels"
    ids = np.full((32, 32), 3, np.uint8)
    by_index = apply.network_input(one, Picture(ids[:, :, None]), {})
    assert by_index.shape == (1, 12, 32, 32)
    assert torch.equal(by_index[0].argmax(0), torch.full((32, 32), 2))
