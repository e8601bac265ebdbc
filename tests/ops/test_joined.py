"""joined: a concatenation that is free when the parts already lie side by side."""

import pytest
import torch

from pygan.ops.joined import joined


def parts(c1=3, c2=4, **options):
    buffer = torch.randn(2, c1 + c2, 5, 6, **options).to(memory_format=torch.channels_last)
    return buffer[:, :c1], buffer[:, c1:], buffer


def test_slices_of_the_buffer_are_not_copied():
    head, tail, buffer = parts()
    out = joined(head, tail, buffer)
    assert out.data_ptr() == buffer.data_ptr()
    assert torch.equal(out, torch.cat((head, tail), 1))


@pytest.mark.parametrize("case", ["no buffer", "elsewhere", "swapped", "one elsewhere", "larger buffer"])
def test_other_parts_are_concatenated(case):
    head, tail, buffer = parts(4, 4)
    if case == "no buffer":
        buffer = None
    elif case == "elsewhere":
        head, tail = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    elif case == "swapped":
        head, tail = tail, head
    elif case == "one elsewhere":
        tail = tail.clone()
    else:
        head = buffer[:, :3]
    out = joined(head, tail, buffer)
    assert torch.equal(out, torch.cat((head, tail), 1))
    assert buffer is None or out.data_ptr() != buffer.data_ptr()


@pytest.mark.parametrize("with_buffer", [True, False])
def test_gradients_are_the_two_slices_twice(with_buffer):
    head, tail, buffer = parts(dtype=torch.float64)
    x1, x2 = head.clone().requires_grad_(), tail.clone().requires_grad_()

    def through(x1, x2):
        slots = buffer.clone(memory_format=torch.channels_last)
        a, b = _Write.apply(x1, slots[:, :3]), _Write.apply(x2, slots[:, 3:])
        return joined(a, b, slots if with_buffer else None)

    assert torch.autograd.gradcheck(through, (x1, x2))
    assert torch.autograd.gradgradcheck(lambda a, b: through(a, b).pow(2), (x1, x2))
    g = torch.randn_like(buffer)
    d1, d2 = torch.autograd.grad(through(x1, x2), (x1, x2), g)
    assert torch.equal(d1, g[:, :3])
    assert torch.equal(d2, g[:, 3:])


class _Write(torch.autograd.Function):
    """What norm_act does with `out`: a value with a history, in the memory of a slice."""

    @staticmethod
    def forward(ctx, value, slot):
        return slot.copy_(value).detach()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def test_a_part_without_gradient():
    head, tail, buffer = parts()
    leaf = torch.randn(2, 3, 5, 6, requires_grad=True)
    out = joined(_Write.apply(leaf, head), tail, buffer)
    out.sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(leaf))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="joined: head and tail must be"):
        joined(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 4, 4))
