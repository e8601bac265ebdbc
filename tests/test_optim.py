"""Adam steps of one net at a time, working copies, loss scale, averages; the table of learning rates."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from pygan import nn as blocks
from pygan import optim, streams
from pygan.nn import Conv, ConvNormAct, Linear, NormAct, full_precision
from pygan.optim import Adam, adam, average_buffers_, end_step_, lr_factor, update
from pygan.recipe import BaseRecipe
from pygan.state import State


def state_of(recipe, scale=None, low=None):
    torch.manual_seed(0)
    nets = {"G": Linear(3, 4), "D": Linear(4, 1)}
    buffers = {"rng": torch.tensor([7, 0])}
    if scale is not None:
        buffers |= {"loss_scale": torch.tensor(scale), "loss_scale_growth": torch.zeros((), dtype=torch.int32)}
    numbers = {"lr": recipe.lr, "betas": (recipe.beta1, recipe.beta2), "weight_decay": recipe.weight_decay}
    return State(nets=nets, opts={k: Adam(net, **numbers, low=low) for k, net in nets.items()}, buffers=buffers)


def loss_of(state, x):
    return state.D(torch.tanh(state.G(x))).float().square().mean()


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
    state, x = state_of(BaseRecipe(lr=0.0, beta1=0.0)), torch.rand(5, 3)
    for _ in range(3):
        update(state, "G", loss_of(state, x))
        assert state.G.weight.grad is None
    expected = torch.autograd.grad(loss_of(state, x), state.G.weight)[0]
    torch.testing.assert_close(state.rest()["opt.G.weight.exp_avg"], expected)


def test_parameters_lie_side_by_side_in_the_memory_order_they_had():
    net = ConvNormAct(Conv(3, 8, kernel=3), NormAct(8, norm="batch", act="relu"))
    net.conv.to(memory_format=torch.channels_last)
    before = {name: (p.detach().clone(), p.stride()) for name, p in net.named_parameters()}
    opt = Adam(net, lr=0.1, betas=(0.5, 0.9))
    storages = {p.untyped_storage().data_ptr() for p in net.parameters()}
    assert len(storages) == 1
    for name, param in net.named_parameters():
        assert torch.equal(param, before[name][0])
        assert param.stride() == before[name][1]
        assert param.data_ptr() % 64 == 0
        assert opt.tensors()[f"{name}.exp_avg"].stride() == param.stride()


def test_a_parameter_without_a_gradient_stays_as_it_is():
    net = ConvNormAct(Conv(3, 8, kernel=3), NormAct(8, norm="batch", act="relu"))  # whose bias the norm hides
    nn.init.ones_(net.conv.bias)
    state = State(
        nets={"G": net},
        opts={"G": Adam(net, lr=0.1, betas=(0.5, 0.9), weight_decay=0.1)},
        buffers={"rng": torch.tensor([0, 0])},
    )
    update(state, "G", net(torch.rand(2, 3, 6, 6)).square().mean())
    assert torch.equal(net.conv.bias, torch.ones(8))
    assert int(state.rest()["opt.G.step"]) == 1


def test_working_copies_are_what_is_computed_with_and_are_the_rounded_weights():
    state, x = state_of(BaseRecipe(lr=0.1), low=torch.bfloat16), torch.rand(5, 3)
    G = state.G
    assert torch.equal(G.low.weight, G.weight.bfloat16())
    assert G(x).dtype == torch.bfloat16
    with full_precision():
        assert torch.equal(G(x), nn.functional.linear(x, G.weight, G.bias))
    for _ in range(3):
        before = G.weight.detach().clone()
        update(state, "G", loss_of(state, x))
        assert G.weight.dtype == torch.float32
        assert not torch.equal(G.weight, before)
        assert torch.equal(G.low.weight, G.weight.bfloat16())
        assert torch.equal(G.low.bias, G.bias.bfloat16())
        assert G.weight.grad is None
        assert G.low.weight.grad is None


def test_a_norm_has_no_working_copy():
    net = ConvNormAct(Conv(3, 8, kernel=3), NormAct(8, norm="batch", act="relu"))
    opt = Adam(net, lr=0.1, betas=(0.5, 0.9), low=torch.bfloat16)
    assert [leaf.dtype for leaf in opt.leaves()] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


def test_a_copy_of_a_net_has_no_working_copies():
    state = state_of(BaseRecipe(), low=torch.bfloat16)
    assert state.G.low is not None
    assert copy.deepcopy(state.G).low is None


def test_working_copies_follow_a_restored_state():
    state = state_of(BaseRecipe(), low=torch.bfloat16)
    with torch.no_grad():
        state.tensors()["net.G.weight"].fill_(0.5)
    state.refresh_()
    assert torch.equal(state.G.low.weight, torch.full((4, 3), 0.5, dtype=torch.bfloat16))


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
    assert float(scaled.loss_scale) == 2.0**14
    assert int(scaled.loss_scale_growth) == 3

    before = {name: tensor.clone() for name, tensor in scaled.tensors().items()}
    update(scaled, "D", loss_of(scaled, x) * float("inf"))
    update(scaled, "G", loss_of(scaled, x))
    end_step_(scaled, recipe)
    assert torch.equal(scaled.D.weight, before["net.D.weight"])
    assert int(scaled.rest()["opt.D.step"]) == int(before["opt.D.step"]) == 3
    assert int(scaled.rest()["opt.G.step"]) == 4
    assert not torch.equal(scaled.G.weight, before["net.G.weight"])
    assert float(scaled.loss_scale) == 2.0**13
    assert int(scaled.loss_scale_growth) == 0
    update(scaled, "D", loss_of(scaled, x))
    assert not torch.equal(scaled.D.weight, before["net.D.weight"])


def test_weights_that_move_beside_the_backward_pass_move_alike(monkeypatch):
    """The way of a GPU, on a CPU: an update as soon as enough gradients are there."""
    calls = []

    @contextlib.contextmanager
    def note(*used):
        calls.append(len(used))
        yield

    recipe = BaseRecipe(lr=0.1)
    inputs = torch.rand(2, 3, 8, 8)

    def run():
        torch.manual_seed(0)
        net = nn.Sequential(*(ConvNormAct(Conv(3, 3, kernel=3), NormAct(3, norm="batch", act="relu")) for _ in "abc"))
        state = State(nets={"G": net}, opts={"G": adam(net, recipe)}, buffers={"rng": torch.tensor([0, 0])})
        for _ in range(3):
            update(state, "G", net(inputs).square().mean())
            end_step_(state, recipe)
        return {name: tensor.clone() for name, tensor in state.tensors().items()}

    expected = run()
    monkeypatch.setattr(streams, "overlaps", lambda x: True)
    monkeypatch.setattr(streams, "beside", note)
    monkeypatch.setattr(optim, "_BUCKET", 81)
    got = run()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert len(calls) > 3


def test_the_end_of_a_step_advances_the_random_numbers_in_place():
    state = state_of(BaseRecipe())
    address = state.rng.data_ptr()
    end_step_(state, BaseRecipe())
    assert state.rng.tolist() == [7, 1]
    assert state.rng.data_ptr() == address


def test_half_of_an_average_is_left_after_its_half_life():
    recipe = BaseRecipe(lr=0.0, ema_half_life_images=8.0, batch=4)
    net = Linear(2, 2)
    average = copy.deepcopy(net).requires_grad_(False)
    nn.init.constant_(average.weight, 8.0)
    nn.init.constant_(net.weight, 0.0)
    state = State(
        nets={"G": net},
        opts={"G": adam(net, recipe, average=average)},
        ema={"G": average},
        buffers={"rng": torch.tensor([0, 0])},
    )
    for _ in range(6):  # 24 images: three half-lives
        update(state, "G", net(torch.rand(3, 2)).sum())
        end_step_(state, recipe)
    torch.testing.assert_close(average.weight, torch.full((2, 2), 1.0))


def test_running_statistics_are_averaged_too():
    average, net = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    net.running_mean.fill_(4.0)
    net.num_batches_tracked.fill_(5)
    for _ in range(3):
        average_buffers_(average, net, 0.5)
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


def test_the_learning_rate_is_set_where_it_is():
    state, x = state_of(BaseRecipe(lr=0.5)), torch.rand(5, 3)
    opt = state.opt_G
    assert opt.lr == 0.5
    opt.set_lr_(0.0)
    assert opt.lr == 0.0
    before = state.G.weight.clone()
    update(state, "G", loss_of(state, x))
    assert torch.equal(state.G.weight, before)


def test_a_factor_on_the_device_scales_the_learning_rate():
    # With a beta1 of 0 the first step is lr * sign of the gradient, whatever the gradient.
    state, x = state_of(BaseRecipe(lr=0.5, beta1=0.0)), torch.rand(5, 3)
    opt, factor = state.opt_G, torch.tensor(0.25)

    def moved():
        before = state.G.bias.detach().clone()
        opt.tensors()["step"].zero_()
        for name, tensor in opt.tensors().items():
            if name != "step":
                tensor.zero_()
        update(state, "G", loss_of(state, x))
        return (state.G.bias.detach() - before).abs()

    opt.scale_lr_(factor)
    torch.testing.assert_close(moved(), torch.full((4,), 0.125), rtol=1e-3, atol=0)
    assert opt.lr == 0.5
    opt.set_lr_(0.5)  # nothing new: the factor stays
    torch.testing.assert_close(moved(), torch.full((4,), 0.125), rtol=1e-3, atol=0)
    opt.set_lr_(0.1)
    torch.testing.assert_close(moved(), torch.full((4,), 0.1), rtol=1e-3, atol=0)
    opt.scale_lr_(factor)
    torch.testing.assert_close(moved(), torch.full((4,), 0.025), rtol=1e-3, atol=0)


def test_gradients_of_other_leaves_come_from_the_same_backward_pass():
    state = state_of(BaseRecipe(lr=0.1))
    x = torch.rand(5, 3).requires_grad_()
    (expected,) = torch.autograd.grad(loss_of(state, x), x)
    plain = state_of(BaseRecipe(lr=0.1))
    update(plain, "G", loss_of(plain, x.detach()))
    update(state, "G", loss_of(state, x), also=[x])
    assert torch.equal(x.grad, expected)
    assert torch.equal(state.G.weight, plain.G.weight)


def test_full_precision_ends_with_its_block():
    assert not blocks.is_full_precision()
    with contextlib.suppress(ZeroDivisionError), full_precision():
        assert blocks.is_full_precision()
        raise ZeroDivisionError
    assert not blocks.is_full_precision()
