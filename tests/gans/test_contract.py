"""What every GAN folder must be able to do. A new GAN is tested by being there."""

import inspect

import pytest
import torch

from pygan import checkpoint, gans, kernels, outputs
from pygan import recipe as recipes
from pygan.errors import UserError


def tiny(gan, **fields):
    """(resolved recipe, training feed) of the tiny preset on the CPU."""
    recipe = gans.phases(gan, gan.Recipe(**{**gan.PRESETS["tiny"], **fields}))[0]
    feed = gan.batches(recipe, "train", torch.device("cpu"))
    return gan.resolve(recipe, feed.facts), feed


def train(gan, recipe, feed, state, steps):
    losses = []
    for _ in range(steps):
        logs = gan.step(state, recipe, feed.get(state.images_seen))
        state.images_seen += gans.images_per_step(gan, recipe)
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


def test_a_step_shows_what_it_painted(gan):
    recipe, feed = tiny(gan)
    state = gan.build(recipe, "cpu")
    assert state.shown == {}
    train(gan, recipe, feed, state, 1)
    shown = state.shown
    assert shown["fake"].shape[0] >= 1
    assert "target" in shown or "real" in shown
    for name, images in shown.items():
        kind, _, way = name.partition("_")
        assert kind in ("input", "fake", "target", "real")
        assert way in ("", "A")
        assert images.dim() == 4
        assert not images.requires_grad
        assert images.abs().max() <= 1 + 1e-6 or kind == "fake"
    for way in {name.partition("_")[2] for name in shown}:
        end = f"_{way}" if way else ""
        beside = shown.get(f"target{end}", shown.get(f"real{end}"))
        assert beside.shape[1:] == shown[f"fake{end}"].shape[1:]


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
    columns, again = (gan.sample(state.G, recipe, batch) for _ in range(2))
    assert columns
    for name, images in columns.items():
        assert images.shape[0] == batch[0].shape[0]
        assert images.abs().max() <= 1
        assert torch.equal(images, again[name])
    other = gan.sample(state.G, recipe, batch, torch.tensor([5, 5]))
    assert other.keys() == columns.keys()
    assert same(before, snapshot(state))


def test_measures_are_finite_and_leave_the_state_alone(gan):
    recipe, feed = tiny(gan)
    state = gan.build(recipe, "cpu")
    before = snapshot(state)
    with torch.no_grad():
        measured = gan.measure(state.nets, recipe, feed.get(0))
    assert measured
    assert all(value.dim() == 0 and value.isfinite() for value in measured.values())
    assert same(before, snapshot(state))


def test_pictures_out_of_nothing_follow_the_random_numbers(gan):
    recipe, feed = tiny(gan)
    if outputs.paints_from_pictures(gan, recipe):
        return
    G = gan.build(recipe, "cpu").G
    more = {"text": feed.get(0).text[:1].expand(3, -1)} if "text" in inspect.signature(gan.generate).parameters else {}
    a, b, c = (gan.generate(G, recipe, 3, torch.tensor(rng), **more) for rng in ([1, 0], [1, 0], [2, 0]))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape[0] == 3
    assert a.abs().max() <= 1
    assert not torch.equal(a[0], a[1])


def test_noise_that_is_given_makes_the_pictures_that_are_drawn(gan):
    recipe, feed = tiny(gan)
    if not hasattr(gan, "latent") or outputs.paints_from_pictures(gan, recipe):
        assert not hasattr(gan, "generate") or outputs.paints_from_pictures(gan, recipe)
        return
    G, rng = gan.build(recipe, "cpu").G, torch.tensor([3, 0])
    more = {"text": feed.get(0).text[:1].expand(3, -1)} if "text" in inspect.signature(gan.generate).parameters else {}
    z = gan.latent(recipe, rng, 3)
    assert z.shape[0] == 3
    assert gan.prior(recipe) in ("normal", "uniform")
    assert (z.abs().max() <= 1) == (gan.prior(recipe) == "uniform")
    drawn = gan.generate(G, recipe, 3, rng, **more)
    assert torch.equal(gan.generate(G, recipe, 3, z=z, **more), drawn)
    other = gan.generate(G, recipe, 3, rng, z=z.flip(0), **more)
    torch.testing.assert_close(other, drawn.flip(0))


def test_codes_of_a_walk_are_what_labels_paint(gan):
    if not hasattr(gan, "codes"):
        return
    recipe, feed = tiny(gan)
    G, batch, names = gan.build(recipe, "cpu").G, feed.get(0), feed.facts.labels
    stops = gan.codes(recipe, names[:2])
    assert [name for name, _ in stops] == list(names[:2])
    for name, code in stops:
        painted = gan.translate(G, recipe, batch.image, code=code)
        assert torch.equal(painted, gan.translate(G, recipe, batch.image, to=name))
    columns = gan.sample(G, recipe, batch)
    for name, code in gan.codes(recipe, batch=batch)[1:]:
        assert torch.equal(gan.translate(G, recipe, batch.image, code=code), columns[name])
    with pytest.raises(UserError, match="two stops"):
        gan.codes(recipe, names[:1])


def test_a_translation_takes_other_sizes(gan):
    if not hasattr(gan, "translate"):
        assert hasattr(gan, "generate")
        return
    recipe, feed = tiny(gan)
    feed.close()
    G = gan.build(recipe, "cpu").G
    size = 8 * G.multiple
    options = {"to": feed.facts.labels[0]} if "to" in inspect.signature(gan.translate).parameters else {}
    image = gan.translate(G, recipe, torch.zeros(2, recipe.input_channels, size, 2 * size), **options)
    channels = getattr(recipe, "output_channels", recipe.input_channels)
    assert image.shape == (2, channels, size, 2 * size)
    assert image.abs().max() <= 1


def test_an_example_is_like_a_batch(gan):
    recipe, feed = tiny(gan)
    batch, example = feed.get(0), gan.example(recipe)
    assert type(example) is type(batch)
    assert [tensor.shape for tensor in example] == [tensor.shape for tensor in batch]
    assert {tensor.device.type for tensor in example} == {"meta"}
    state = gan.build(recipe, "meta")
    for opt in state.opts:
        state.opts[opt] = kernels.Still()
    gan.step(state, recipe, example)


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_every_phase_has_its_data_and_a_step(gan, split):
    _, feed = tiny(gan)
    feed.close()
    before = None
    whole = gan.resolve(gan.Recipe(**gan.PRESETS["tiny"]), feed.facts)
    for phase in gans.phases(gan, whole):
        state = gan.build(phase, "cpu")
        if before is not None:
            gan.inherit_(state, before.nets)
            state.refresh_()
        with gan.batches(phase, split, "cpu") as feed:
            logs = gan.step(state, phase, feed.get(0))
        assert {"loss/G", "loss/D"} <= logs.keys()
        gan.generator(phase).load_state_dict(state.G.state_dict())
        before = state


def test_a_saved_recipe_builds_the_same_generator(gan):
    recipe, feed = tiny(gan)
    feed.close()
    again = recipes.from_dict(gan.Recipe, recipes.to_dict(recipe), "here")
    state = gan.build(recipe, "cpu")
    gan.generator(again).load_state_dict(state.G.state_dict())


def test_outputs_of_every_way_can_be_judged(gan):
    recipe, feed = tiny(gan)
    G = gan.build(recipe, "cpu").G
    batch = feed.get(0)
    assert outputs.ways(gan, recipe)
    for way in outputs.ways(gan, recipe):
        found = outputs.of(gan, recipe, G, batch, way=way)
        assert found.fake.shape[0] == batch[0].shape[0]
        assert found.fake.shape[1:] == found.real.shape[1:]
        assert found.fake.abs().max() <= 1
        assert not found.paired or found.real.shape == found.fake.shape
        assert found.input is None or found.input.shape[0] == found.fake.shape[0]
    with pytest.raises(UserError, match="sideways"):
        outputs.of(gan, recipe, G, batch, way="sideways")
