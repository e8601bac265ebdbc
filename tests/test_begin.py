"""What a run begins with."""

import dataclasses

import pytest
import torch
from torch import nn

from pygan.begin import new_state
from pygan.recipe import BaseRecipe


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(2, 3), nn.Linear(3, 2)


MAKE = {"G": lambda recipe: Pair(), "D": lambda recipe: nn.Linear(2, 1)}


def begin_(net, generator):
    for tensor in net.parameters():
        tensor.uniform_(generator=generator)


def recipe(**change):
    return dataclasses.replace(BaseRecipe(seed=7), **change)


def test_weights_are_one_sequence_of_the_recipes_seed():
    state = new_state(recipe(), "cpu", MAKE, begin_)
    expected = torch.rand(20, generator=torch.Generator().manual_seed(7))
    weights = torch.cat([param.detach().flatten() for net in (state.G, state.D) for param in net.parameters()])
    assert torch.equal(weights, expected)
    assert state.rng.tolist() == [7, 0]
    assert list(state.opts) == ["G", "D"]
    assert state.ema == {}


def test_an_average_begins_as_its_net_and_has_no_gradients():
    state = new_state(recipe(ema_half_life_images=3.0), "cpu", MAKE, begin_)
    pairs = list(zip(state.ema_G.parameters(), state.G.parameters(), strict=True))
    assert all(torch.equal(average, param) and average.data_ptr() != param.data_ptr() for average, param in pairs)
    assert [(average.requires_grad, param.requires_grad) for average, param in pairs] == [(False, True)] * 4


@pytest.mark.parametrize("half_life", [0.0, 3.0])
def test_children_apart_have_optimizers_and_averages_of_their_own(half_life):
    make = {"G": MAKE["G"], "D": MAKE["G"]}
    state = new_state(recipe(ema_half_life_images=half_life), "cpu", make, begin_, apart=True)
    assert list(state.opts) == ["G_one", "G_other", "D_one", "D_other"]
    assert [len(opt.leaves()) for opt in state.opts.values()] == [2, 2, 2, 2]
    begun = state.G.one.weight.clone()
    state.opt_G_one.update(state.G.one(torch.ones(1, 2)).sum(), None)
    step = state.G.one.weight - begun
    assert (step < 0).all()
    if half_life:
        followed = state.ema_G.one.weight - begun
        torch.testing.assert_close(followed, step * (1 - 0.5 ** (1 / half_life)), rtol=1e-2, atol=1e-6)


def test_a_meta_device_needs_no_values():
    def refuse(net, generator):
        raise AssertionError("called")

    state = new_state(recipe(ema_half_life_images=3.0), "meta", MAKE, refuse)
    assert {tensor.device.type for tensor in state.tensors().values()} == {"meta"}
    with pytest.raises(AssertionError, match="called"):
        new_state(recipe(), "cpu", MAKE, refuse)


def test_own_buffers_stand_beside_the_random_numbers():
    count = torch.zeros(())
    state = new_state(recipe(), "cpu", MAKE, begin_, buffers={"count": count})
    assert state.count is count
    assert list(state.buffers) == ["rng", "count"]
