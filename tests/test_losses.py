"""The gradient penalty against its equation for critics whose slope is known."""

import pytest
import torch
from torch import nn

from pygan.losses import gradient_penalty


def test_a_linear_critic_has_the_slope_of_its_weights():
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64)  # of norm 5
    real, fake = (torch.rand(6, 2, dtype=torch.float64) for _ in "rf")
    penalty = gradient_penalty(lambda x: x @ weight, real, fake, torch.rand(6))
    assert float(penalty.detach()) == pytest.approx(16.0, abs=1e-12)


def test_the_slope_is_taken_between_fake_and_real():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().flatten(1).sum(1)  # slope 2 |x|

    real, fake = torch.full((3, 1, 2, 2), 1.0), torch.full((3, 1, 2, 2), 0.0)
    alpha = torch.tensor([0.0, 0.25, 1.0])
    penalty = gradient_penalty(critic, real, fake, alpha)
    torch.testing.assert_close(seen[0], alpha.view(3, 1, 1, 1).expand(3, 1, 2, 2))
    assert float(penalty.detach()) == pytest.approx(float(((4 * alpha - 1) ** 2).mean()))


def test_patch_logits_are_summed():
    slope = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(slope.weight, 2.0)
    x = torch.rand(2, 1, 3, 3)
    penalty = gradient_penalty(slope, x, x, torch.zeros(2))  # 9 pixels of slope 2: norm 6
    assert float(penalty.detach()) == pytest.approx(25.0, rel=1e-5)


def test_the_penalty_teaches_the_critic_and_nobody_else():
    critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)).double()
    real = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    fake = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(2)
    gradient_penalty(critic, real, fake, alpha).backward()
    assert real.grad is None
    assert fake.grad is None
    weight, step = critic[0].weight, 1e-6
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            weight[0, 0, 0, 0] += sign * step
            with torch.enable_grad():
                values.append(float(gradient_penalty(critic, real, fake, alpha).detach()))
            weight[0, 0, 0, 0] -= sign * step
    assert float(weight.grad[0, 0, 0, 0]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_arguments_are_named():
    x = torch.rand(2, 1, 3, 3)
    with pytest.raises(ValueError, match="fake must have the shape of real"):
        gradient_penalty(torch.sum, x, x[:1], torch.rand(2))
    with pytest.raises(ValueError, match="alpha must have shape"):
        gradient_penalty(torch.sum, x, x, torch.rand(3))
