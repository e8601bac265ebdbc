"""What every GAN folder must be able to do. A new GAN is tested by being there."""

import pytest
import torch

from pygan import checkpoint, gans
from pygan import recipe as recipes


def tiny(gan, **fields):
    """(resolved recipe, training feed) of the tiny preset on the CPU."""
    recipe = gan.Recipe(**{**gan.PRESETS["tiny"], **fields})
    feed = gan.batches(recipe, "train", torch.device("cpu"))
    return gan.resolve(recipe, feed.source.channels, feed.source.natural_direction), feed


def train(gan, recipe, feed, state, steps):
    losses = []
    for _ in range(steps):
        logs = gan.step(state, recipe, feed.get(state.images_seen))
        state.images_seen += recipe.batch
        state.steps += 1
        losses.append({name: value.item() for name, value in logs.items()})
    return losses


def snapshot(state):
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(params=gans.names())
def gan(request):
    return gans.load(request.param)


def test_it_has_its_names_and_presets(gan):
    assert {"paper", "tiny"} <= gan.PRESETS.keys()
    for values in gan.PRESETS.values():
        gan.Recipe(**values)
    for name in ("resolve", "build", "batches", "step", "sample", "generator"):
        assert callable(getattr(gan, name))
    assert gans.title(gan.__name__.rpartition(".")[2])


def test_weights_follow_the_seed(gan):
    recipe, feed = tiny(gan)
    a, b, other = gan.build(recipe, "cpu"), gan.build(recipe, "cpu"), gan.build(tiny(gan, seed=1)[0], "cpu")
    feed.close()
    assert same(snapshot(a), snapshot(b))
    assert not same(snapshot(a), snapshot(other))


def test_a_step_changes_every_net_and_reports_finite_numbers(gan):
    recipe, feed = tiny(gan)
    state = gan.build(recipe, "cpu")
    before = snapshot(state)
    (logs,) = train(gan, recipe, feed, state, 1)
    after = snapshot(state)
    assert all(torch.isfinite(torch.tensor(value)) for value in logs.values())
    for name in state.nets:
        assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(f"net.{name}."))
    assert state.rng[1] > before["buffer.rng"][1]


@pytest.mark.parametrize("ema", [0.0, 8.0])
def test_a_resumed_run_goes_on_bit_for_bit(gan, tmp_path, ema):
    recipe, feed = tiny(gan, ema_half_life_images=ema)
    whole = gan.build(recipe, "cpu")
    first = train(gan, recipe, feed, whole, 2)
    checkpoint.save(tmp_path, whole, {"gan": "x", "recipe": recipes.to_dict(recipe)}, {})
    rest = train(gan, recipe, feed, whole, 3)
    resumed = gan.build(tiny(gan, seed=9, ema_half_life_images=ema)[0], "cpu")
    checkpoint.load_newest(tmp_path, resumed)
    assert train(gan, recipe, feed, resumed, 3) == rest
    assert first != rest[:2]
    assert same(snapshot(whole), snapshot(resumed))


def test_a_sample_leaves_the_state_alone(gan):
    recipe, feed = tiny(gan)
    state = gan.build(recipe, "cpu")
    before = snapshot(state)
    batch = feed.get(0)
    images = gan.sample(state.G, recipe, batch.A)
    assert images.shape[0] == batch.A.shape[0]
    assert images.abs().max() <= 1
    assert same(before, snapshot(state))


def test_a_saved_recipe_builds_the_same_generator(gan):
    recipe, feed = tiny(gan)
    feed.close()
    again = recipes.from_dict(gan.Recipe, recipes.to_dict(recipe), "here")
    state = gan.build(recipe, "cpu")
    gan.generator(again).load_state_dict(state.G.state_dict())
