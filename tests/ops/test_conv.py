"""The library's convolution with its weight gradient beside the rest, and the rule that chooses a path."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

from pygan import streams
from pygan.ops import _beside, conv
from pygan.ops._autograd import gradients_for, wants
from pygan.ops._beside import check_taken, forget_uses
from pygan.ops.conv import Geometry, convolution

GEOMETRIES = [
    Geometry(stride=2, padding=1),
    Geometry(stride=1, padding=1),
    Geometry(stride=2, padding=1, transposed=True),
    Geometry(stride=2, padding=1, transposed=True, output_padding=1),
]


@pytest.fixture
def beside(monkeypatch):
    """Take the overlapping path on a CPU; the list tells what went to the side stream."""
    went = []

    @contextlib.contextmanager
    def note(*used):
        went.append(used[0].shape)
        yield

    monkeypatch.setattr(streams, "overlaps", lambda x: True)
    monkeypatch.setattr(streams, "beside", note)
    _beside._uses.clear()
    yield went
    _beside._uses.clear()
    _beside._beside.clear()


def problem(geometry, dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 5, 6, dtype=dtype, generator=draws).requires_grad_()
    shape = (3, 4, 4, 4) if geometry.transposed else (4, 3, 4, 4)
    weight = (torch.rand(shape, dtype=dtype, generator=draws) - 0.5).requires_grad_()
    return x, weight, torch.rand(4, dtype=dtype, generator=draws).requires_grad_()


def stock(x, weight, bias, g):
    if g.transposed:
        return F.conv_transpose2d(x, weight, bias, g.stride, g.padding, g.output_padding)
    return F.conv2d(x, weight, bias, g.stride, g.padding)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_the_library_convolution(beside, geometry, with_bias):
    x, weight, bias = problem(geometry)
    inputs = [x, weight, bias] if with_bias else [x, weight]
    y = convolution(x, weight, bias if with_bias else None, geometry)
    expected = stock(x, weight, bias if with_bias else None, geometry)
    assert torch.equal(y, expected)
    assert y.shape[2:] == tuple(geometry.out_size(size, 4) for size in (5, 6))
    seed = torch.rand_like(y)
    for got, want in zip(
        torch.autograd.grad(y, inputs, seed), torch.autograd.grad(expected, inputs, seed), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert beside == [weight.shape]


@pytest.mark.parametrize("geometry", GEOMETRIES[:3])
def test_it_can_be_differentiated_twice(beside, geometry):
    x, weight, bias = problem(geometry)

    def f(x, weight, bias):
        return convolution(x, weight, bias, geometry)

    assert torch.autograd.gradcheck(f, (x, weight, bias))
    assert torch.autograd.gradgradcheck(f, (x, weight, bias))


def test_a_weight_that_is_used_twice_stays_on_the_main_stream(beside):
    x, weight, _ = problem(GEOMETRIES[1])
    y = convolution(x, weight, None, GEOMETRIES[1]).sum() + convolution(2 * x, weight, None, GEOMETRIES[1]).sum()
    y.backward()
    assert beside == []
    torch.testing.assert_close(
        weight.grad, 3 * torch.autograd.grad(stock(x, weight, None, GEOMETRIES[1]).sum(), weight)[0]
    )
    forget_uses()
    convolution(x, weight, None, GEOMETRIES[1]).sum().backward()
    assert beside == [weight.shape]


def test_a_large_weight_gradient_stays_on_the_main_stream(beside, monkeypatch):
    monkeypatch.setattr(_beside, "MOST_FLOPS", 1.0)
    x, weight, _ = problem(GEOMETRIES[0])
    convolution(x, weight, None, GEOMETRIES[0]).sum().backward()
    assert beside == []
    assert weight.grad is not None


def test_gradients_that_nobody_wants_are_not_computed(beside):
    x, weight, _ = problem(GEOMETRIES[0])
    y = convolution(x, weight, None, GEOMETRIES[0]).sum()
    with gradients_for([x]):
        assert wants(x)
        assert not wants(weight)
        y.backward(inputs=[x])
    assert x.grad is not None
    assert beside == []
    assert wants(weight)


def test_autograd_takes_the_gradient_as_it_is_and_a_copy_is_an_error(beside):
    x, weight, _ = problem(GEOMETRIES[0], torch.float32)
    weight = weight.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    weight.register_post_accumulate_grad_hook(lambda leaf: None)
    convolution(x, weight, None, GEOMETRIES[0]).sum().backward(inputs=[weight])
    assert weight.grad.stride() == weight.stride()
    check_taken(weight)
    forget_uses()
    convolution(x, weight, None, GEOMETRIES[0]).sum().backward(inputs=[weight])  # added to the gradient that is there
    with pytest.raises(RuntimeError, match="copied before it was complete"):
        check_taken(weight)


def shapes(c_in, c_out, size, *, kernel=4, transposed=False, n=1):
    return (n, c_in, size, size), (c_in, c_out, kernel, kernel) if transposed else (c_out, c_in, kernel, kernel)


def chosen(x_shape, weight_shape, geometry, **more):
    options = {"dtype": torch.bfloat16, "device_type": "cuda"} | more
    return conv.path(x_shape, weight_shape, geometry, **options)


def test_the_wide_middle_is_the_librarys():
    assert chosen(*shapes(256, 256, 64, kernel=3), Geometry(padding=1)).name == "library"
    found = chosen(*shapes(64, 128, 128, n=16), Geometry(stride=2, padding=1))
    assert found.name == "library"
    assert found.why


def test_reasons_for_the_library_are_named():
    stem = (*shapes(3, 64, 256), Geometry(stride=2, padding=1))
    assert chosen(*stem).name == "thin"
    deep = (*shapes(512, 512, 4), Geometry(stride=2, padding=1))
    assert chosen(*deep).name == "small"
    assert "float32" in chosen(*deep, dtype=torch.float32).why
    assert "batch" in chosen(*shapes(512, 512, 4, n=64), Geometry(stride=2, padding=1)).why
    assert "kernels library" in chosen(*stem, own=False).why
    assert "cpu" in chosen(*stem, device_type="cpu").why
    assert "float32" in chosen(*stem, dtype=torch.float32).why
