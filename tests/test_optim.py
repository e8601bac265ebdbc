"""Adam steps of one net at a time, with and without a loss scale; averages; the table of learning rates."""

import pytest
import torch
from torch import nn

from pygan.optim import adam, ema_, end_step_, lr_factor, set_lr_, update
from pygan.recipe import BaseRecipe
from pygan.state import State


def state_of(recipe, scale=None):
    torch.manual_seed(0)
    nets = {"G": nn.Linear(3, 4), "D": nn.Linear(4, 1)}
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    return State(
        nets=nets,
        opts={name: adam(net, recipe) for name, net in nets.items()},
        buffers={"rng": torch.tensor([7, 0])},
        scaler=scaler,
    )


def loss_of(state, x):
    return state.D(torch.tanh(state.G(x))).square().mean()


def test_update_moves_one_net_and_gives_no_gradient_to_the_other():
    state, x = state_of(BaseRecipe(lr=0.1)), torch.rand(5, 3)
    before = {name: net.weight.clone() for name, net in state.nets.items()}
    update(state, "G", loss_of(state, x))
    assert not torch.equal(state.G.weight, before["G"])
    assert torch.equal(state.D.weight, before["D"])
    assert state.D.weight.grad is None
    update(state, "D", loss_of(state, x))
    assert not torch.equal(state.D.weight, before["D"])


def test_adam_is_adam():
    recipe = BaseRecipe(lr=0.01, beta1=0.3, beta2=0.9, weight_decay=0.1)
    state, x = state_of(recipe), torch.rand(5, 3)
    weight = state.G.weight.detach().double().clone()
    m = v = torch.zeros_like(weight)
    for t in range(1, 4):
        loss = loss_of(state, x)
        gradient = torch.autograd.grad(loss, state.G.weight, retain_graph=True)[0].double() + 0.1 * weight
        m, v = 0.3 * m + 0.7 * gradient, 0.9 * v + 0.1 * gradient**2
        weight = weight - 0.01 * (m / (1 - 0.3**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-8)
        update(state, "G", loss)
    torch.testing.assert_close(state.G.weight.detach().double(), weight, rtol=0, atol=1e-6)


def test_gradients_do_not_pile_up():
    state, x = state_of(BaseRecipe()), torch.rand(5, 3)
    for _ in range(2):
        update(state, "G", loss_of(state, x))
        expected = torch.autograd.grad(loss_of(state, x), state.G.weight)[0]
    update(state, "G", loss_of(state, x))
    torch.testing.assert_close(state.G.weight.grad, expected)


def test_a_loss_scale_changes_nothing_but_an_overflow_is_skipped():
    recipe, x = BaseRecipe(lr=0.1), torch.rand(5, 3)
    plain, scaled = state_of(recipe), state_of(recipe, scale=2.0**14)
    for state in (plain, scaled):
        for _ in range(3):
            for name in ("D", "G"):
                update(state, name, loss_of(state, x))
            end_step_(state, recipe)
    for name in ("G", "D"):
        torch.testing.assert_close(scaled.nets[name].weight, plain.nets[name].weight, rtol=1e-5, atol=1e-6)
    assert float(scaled.scaler.get_scale()) == 2.0**14

    before = {name: tensor.clone() for name, tensor in scaled.tensors().items()}
    update(scaled, "D", loss_of(scaled, x) * float("inf"))
    update(scaled, "G", loss_of(scaled, x))
    end_step_(scaled, recipe)
    assert torch.equal(scaled.D.weight, before["net.D.weight"])
    assert torch.equal(scaled.rest()["opt.D.weight.step"], before["opt.D.weight.step"])
    assert not torch.equal(scaled.G.weight, before["net.G.weight"])
    assert float(scaled.scaler.get_scale()) == 2.0**13


def test_the_end_of_a_step_advances_the_random_numbers_in_place():
    state = state_of(BaseRecipe())
    address = state.rng.data_ptr()
    end_step_(state, BaseRecipe())
    assert state.rng.tolist() == [7, 1]
    assert state.rng.data_ptr() == address


def test_half_of_an_average_is_left_after_its_half_life():
    average, net = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(average.weight, 8.0)
    nn.init.constant_(net.weight, 0.0)
    net.running_mean.fill_(4.0)
    net.num_batches_tracked.fill_(5)
    for _ in range(6):
        ema_(average, net, half_life_images=8.0, batch=4)  # 24 images: three half-lives
    torch.testing.assert_close(average.weight.detach(), torch.full((2,), 1.0))
    torch.testing.assert_close(average.running_mean, torch.full((2,), 3.5))
    assert int(average.num_batches_tracked) == 5


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("linear", (1, 0.990099, 0.980198, 0.504950, 0.009901)),
        ("linear_jy_old", (0.990099, 0.980198, 0.970297, 0.495050, 0)),
        ("linear_torch7", (1, 1, 0.99, 0.51, 0.01)),
        ("const", (1, 1, 1, 1, 1)),
    ],
)
def test_learning_rates_of_100_and_100_epochs(schedule, factors):
    for epoch, factor in zip((100, 101, 102, 150, 200), factors, strict=True):
        assert lr_factor(schedule, epoch, 100, 100) == pytest.approx(factor, abs=5e-7)
    assert lr_factor(schedule, 1, 100, 100) == 1.0
    assert lr_factor(schedule, 5, 5, 0) == (0.0 if schedule == "linear_jy_old" else 1.0)


def test_unknown_schedules_and_epochs():
    with pytest.raises(ValueError, match="schedule must be linear"):
        lr_factor("cosine", 1, 1, 1)
    with pytest.raises(ValueError, match="epoch counts from 1"):
        lr_factor("linear", 0, 1, 1)


def test_set_lr():
    opt = adam(nn.Linear(2, 2), BaseRecipe(), lr=0.5)
    assert opt.param_groups[0]["lr"] == 0.5
    set_lr_(opt, 0.25)
    assert opt.param_groups[0]["lr"] == 0.25


@pytest.mark.cuda
def test_on_cuda_the_learning_rate_is_a_tensor_that_stays_where_it_is():
    opt = adam(nn.Linear(2, 2).cuda(), BaseRecipe(lr=0.5))
    rate = opt.param_groups[0]["lr"]
    set_lr_(opt, 0.25)
    assert opt.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25
