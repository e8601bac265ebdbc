"""Work beside the rest: in turn where there is nothing to overlap, and on other streams on a GPU."""

import pytest
import torch

from pygan import streams


def test_without_overlap_everything_runs_in_turn():
    order = []
    assert streams.side_by_side(lambda: order.append("f") or 1, lambda: order.append("g") or 2) == (1, 2)
    with streams.beside(torch.zeros(1)):
        order.append("beside")
    streams.join(torch.device("cpu"))
    streams.finish(torch.device("cpu"))
    assert order == ["f", "g", "beside"]
    with streams.overlapping():
        assert not streams.overlaps(torch.zeros(1))


@pytest.mark.cuda
def test_what_runs_beside_is_there_after_join():
    x = torch.ones(1 << 24, device="cuda")
    here = torch.cuda.current_stream()
    with streams.overlapping():
        assert streams.overlaps(x)
        for _ in range(20):
            x.mul_(1.0001)
            with streams.beside(x):
                assert torch.cuda.current_stream() != here
                y = x * 2
            streams.join(x.device)
            assert torch.equal(y, x * 2)


@pytest.mark.cuda
def test_two_networks_beside_each_other_give_the_gradients_of_two_in_turn():
    torch.manual_seed(0)
    a, b = (torch.nn.Conv2d(3, 8, 3, padding=1).cuda() for _ in "ab")
    x = torch.rand(4, 3, 64, 64, device="cuda")
    gradients = []
    for overlap in (False, True):
        with streams.overlapping(overlap):
            y, z = streams.side_by_side(lambda: a(x).tanh(), lambda: b(x).tanh())
            (y * z).sum().backward()
            streams.finish(x.device)
        gradients.append([p.grad.clone() for net in (a, b) for p in net.parameters()])
        a.zero_grad(), b.zero_grad()
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
