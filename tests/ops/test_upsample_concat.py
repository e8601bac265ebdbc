import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from pygan.ops.upsample_concat import merge_upsample_weight, upsample_concat, upsample_concat_ref, upsample_conv3x3

IMPLS = ("native", "ref")
# n, c1, c2 (0: no skip), h, w
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 2, 4, 5), (2, 16, 8, 3, 2), (1, 5, 0, 2, 3), (3, 8, 1, 1, 4), (2, 2, 3, 4, 1)]


def nhwc(*shape, dtype=torch.float64, device="cpu"):
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)


def inputs(n, c1, c2, h, w, **options):
    x = nhwc(n, c1, h, w, **options).requires_grad_()
    return x, nhwc(n, c2, 2 * h, 2 * w, **options).requires_grad_() if c2 else None


def gradients(y, x, skip, g):
    return torch.autograd.grad(y, [t for t in (x, skip) if t is not None], g)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_formula(shape, impl):
    x, skip = inputs(*shape)
    y = upsample_concat(x, skip, impl=impl)
    expected = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    if skip is not None:
        expected = torch.cat([expected, skip], dim=1)
    assert torch.equal(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    g = torch.randn_like(y)
    torch.testing.assert_close(gradients(y, x, skip, g), gradients(expected, x, skip, g))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_native_lower_precision(shape, dtype):
    x, skip = inputs(*shape, dtype=dtype)
    y = upsample_concat(x, skip, impl="native")
    assert torch.equal(y, upsample_concat_ref(x, skip))
    g = torch.randn_like(y)
    dx = gradients(y, x, skip, g)[0]
    n, c1, _, h, w = shape
    # four values summed in float32 and rounded once
    expected = g[:, :c1].double().reshape(n, c1, h, 2, w, 2).sum(dim=(3, 5)).to(dtype)
    torch.testing.assert_close(dx, expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_gradient_of_the_skip_is_a_view():
    x, skip = inputs(2, 3, 2, 4, 5)
    y = upsample_concat(x, skip, impl="native")
    g = torch.randn_like(y)
    _, dskip = gradients(y, x, skip, g)
    assert dskip.data_ptr() == g[:, 3:].data_ptr()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_first_and_second_derivative(shape, impl):
    x, skip = inputs(*shape)
    tensors = (x,) if skip is None else (x, skip)

    def squared(*tensors):  # not linear, so that the second derivative is not 0
        return upsample_concat(*tensors, *(() if len(tensors) == 2 else (None,)), impl=impl) ** 2

    assert gradcheck(squared, tensors)
    assert gradgradcheck(squared, tensors)


@pytest.mark.parametrize("needs", ["x", "skip"])
def test_one_side_only(needs):
    x, skip = inputs(2, 3, 2, 4, 5)
    (skip if needs == "x" else x).requires_grad_(False)
    wanted = x if needs == "x" else skip
    y, expected = upsample_concat(x, skip, impl="native"), upsample_concat_ref(x, skip)
    g = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, wanted, g), torch.autograd.grad(expected, wanted, g))


def test_channel_slices_are_read_in_place():
    buffer_x, buffer_skip = nhwc(2, 7, 4, 5), nhwc(2, 9, 8, 10)
    x, skip = buffer_x[:, 2:5], buffer_skip[:, 1:7]
    assert torch.equal(torch.ops.pygan.upsample_concat(x, skip), upsample_concat_ref(x, skip))
    g = nhwc(2, 9, 8, 10)[:, 3:8]
    expected = g.reshape(2, 5, 4, 2, 5, 2).sum(dim=(3, 5))
    torch.testing.assert_close(torch.ops.pygan.upsample_concat_backward(g), expected)


def test_other_layouts_are_copied_and_announced(capsys, monkeypatch):
    monkeypatch.setattr("pygan.errors._said", set())
    x, skip = torch.randn(2, 3, 4, 5), torch.randn(2, 2, 8, 10)
    for _ in range(2):
        assert torch.equal(upsample_concat(x, skip, impl="native"), upsample_concat_ref(x, skip))
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" on every call")[0] for line in said] == [
        "pygan: upsample_concat copies x",
        "pygan: upsample_concat copies skip",
    ]
    x.requires_grad_()
    y = upsample_concat(x, skip, impl="native")
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.full_like(x, 4.0))  # an expanded gradient
    y = upsample_concat(x, skip, impl="native")
    g = torch.randn(y.shape)  # an NCHW gradient
    expected = torch.autograd.grad(upsample_concat_ref(x, skip), x, g)
    torch.testing.assert_close(torch.autograd.grad(y, x, g), expected)


def test_opcheck():
    for shape in SHAPES[:4]:
        x, skip = inputs(*shape)
        torch.library.opcheck(torch.ops.pygan.upsample_concat.default, (x, skip))
    torch.library.opcheck(torch.ops.pygan.upsample_concat_backward.default, (nhwc(2, 3, 4, 6).requires_grad_(),))
    torch.library.opcheck(torch.ops.pygan.upsample_concat_backward.default, (nhwc(2, 5, 4, 6)[:, 1:4],))


def test_same_bits_for_any_number_of_threads():
    x, skip = inputs(2, 32, 32, 32, 32, dtype=torch.float32)
    g = nhwc(2, 64, 64, 64, dtype=torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            y = upsample_concat(x, skip, impl="native")
            results.append((y, *gradients(y, x, skip, g)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("x", "skip", "options", "message"),
    [
        (torch.zeros(3, 4, 4), None, {}, r"x must be floats of shape \(n, c, h, w\), got torch.float32 \[3, 4, 4\]"),
        (torch.zeros(1, 1, 2, 2).int(), None, {}, "x must be floats"),
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 4, 5), {}, r"skip must have shape \[1, c, 4, 4\]"),
        (torch.zeros(1, 3, 2, 2), torch.zeros(2, 3, 4, 4), {}, r"skip must have shape \[1, c, 4, 4\]"),
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 4, 4).bfloat16(), {}, "skip must be torch.float32 on cpu like x"),
        (torch.zeros(1, 3, 2, 2), None, {"impl": "fast"}, "impl must be 'auto', 'native' or 'ref', got 'fast'"),
    ],
)
def test_errors(x, skip, options, message):
    with pytest.raises(ValueError, match=f"upsample_concat: {message}"):
        upsample_concat(x, skip, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 4, 4), None), r"x must have shape \(n, c, h, w\)"),
        ((torch.zeros(1, 3, 2, 2), None), "x must be channels_last"),
        ((nhwc(1, 3, 2, 2), torch.zeros(1, 3, 4, 4).double()), "skip must be channels_last"),
        ((nhwc(1, 3, 2, 2), nhwc(1, 3, 4, 6)), "skip must have the shape of x with doubled height and width"),
        ((nhwc(1, 3, 2, 2), nhwc(1, 3, 4, 4).float()), "skip must have the dtype of x"),
        ((nhwc(1, 3, 2, 2).half(), None), "x must be float32, bfloat16 or float64 on the CPU"),
    ],
)
def test_errors_of_the_native_op(arguments, message):
    with pytest.raises(RuntimeError, match=f"upsample_concat: {message}"):
        torch.ops.pygan.upsample_concat(*arguments)
    with pytest.raises(RuntimeError, match="upsample_concat_backward: g must have an even height and width"):
        torch.ops.pygan.upsample_concat_backward(nhwc(1, 3, 3, 4))


# ---- upsample, then convolve, as one transposed convolution


def two_steps(x, weight, bias, pad_mode):
    up = F.interpolate(x, scale_factor=2, mode="nearest")
    mode = "constant" if pad_mode == "zeros" else "reflect"
    return F.conv2d(F.pad(up, (1, 1, 1, 1), mode=mode), weight, bias)


@pytest.mark.parametrize("pad_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_merged_convolution(pad_mode, size, with_bias):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True) if with_bias else None
    y, expected = upsample_conv3x3(x, weight, bias, pad_mode=pad_mode), two_steps(x, weight, bias, pad_mode)
    assert y.shape == (2, 4, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-13)
    g = torch.randn_like(y)
    tensors = [t for t in (x, weight, bias) if t is not None]
    grads, expected_grads = torch.autograd.grad(y, tensors, g), torch.autograd.grad(expected, tensors, g)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-13, atol=1e-13)


def test_merged_weight_is_linear_and_differentiable():
    a, b = (torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    merged = merge_upsample_weight(a)
    assert merged.shape == (3, 2, 4, 4)
    torch.testing.assert_close(merge_upsample_weight(2 * a - b), 2 * merged - merge_upsample_weight(b))
    # each of the 9 taps meets each of the 4 output parities once
    torch.testing.assert_close(merged.sum(dim=(2, 3)), 4 * a.sum(dim=(2, 3)).t())
    assert gradcheck(merge_upsample_weight, (a,))
    assert gradgradcheck(lambda x, w: upsample_conv3x3(x, w), (torch.randn(1, 3, 2, 2).double().requires_grad_(), a))


def test_skip_first_then_merge():
    x, skip = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 2, 4, 4, dtype=torch.float64)
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64)
    joined = torch.cat([x, skip], dim=1)
    torch.testing.assert_close(upsample_conv3x3(joined, weight), two_steps(joined, weight, None, "zeros"))


def test_merge_errors():
    with pytest.raises(ValueError, match=r"merge_upsample_weight: w3 must have shape \(o, i, 3, 3\), got \[2, 3"):
        merge_upsample_weight(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="upsample_conv3x3: pad_mode must be 'zeros' or 'reflect', got 'replicate'"):
        upsample_conv3x3(torch.zeros(1, 3, 2, 2), torch.zeros(2, 3, 3, 3), pad_mode="replicate")


# ---- on a GPU


def poison():
    """NaN in the memory that the next allocations get."""
    for size in (64, 1 << 14, 1 << 20):
        torch.full((size,), math.nan, device="cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [*SHAPES, (16, 128, 64, 64, 64), (2, 512, 512, 2, 2), (4, 64, 0, 32, 32)])
def test_cuda_equals_float64(shape, dtype):
    x, skip = inputs(*shape, dtype=dtype, device="cuda")
    poison()
    y = upsample_concat(x, skip, impl="native")
    assert torch.equal(y, upsample_concat_ref(x, skip))
    g = torch.randn_like(y)
    poison()
    grads = gradients(y, x, skip, g)
    n, c1, _, h, w = shape
    expected = g[:, :c1].double().reshape(n, c1, h, 2, w, 2).sum(dim=(3, 5)).to(dtype)
    torch.testing.assert_close(grads[0], expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
    if skip is not None:
        assert torch.equal(grads[1], g[:, c1:])


@pytest.mark.cuda
@pytest.mark.parametrize(("first", "last"), [(8, 24), (1, 9), (2, 17)])
def test_cuda_channel_slices(first, last):
    x = nhwc(2, 32, 6, 5, dtype=torch.bfloat16, device="cuda")[:, first:last]
    skip = nhwc(2, 24, 12, 10, dtype=torch.bfloat16, device="cuda")[:, 8:]
    assert torch.equal(torch.ops.pygan.upsample_concat(x, skip), upsample_concat_ref(x, skip))
    g = nhwc(2, 32, 12, 10, dtype=torch.bfloat16, device="cuda")[:, first:last]
    expected = g.double().reshape(2, last - first, 6, 2, 5, 2).sum(dim=(3, 5)).bfloat16()
    torch.testing.assert_close(torch.ops.pygan.upsample_concat_backward(g), expected, rtol=0.01, atol=1e-6)


@pytest.mark.cuda
def test_cuda_graph_equals_eager_bit_for_bit(capture):
    x, skip = inputs(4, 64, 32, 16, 16, dtype=torch.bfloat16, device="cuda")
    g = nhwc(4, 96, 32, 32, dtype=torch.bfloat16, device="cuda")

    def step():
        y = upsample_concat(x, skip, impl="native")
        return y, *gradients(y, x, skip, g)

    graph, captured = capture(step)
    for _ in range(3):
        with torch.no_grad():
            for t in (x, skip, g):
                t.copy_(torch.randn_like(t))
        eager = [value.clone() for value in step()]
        for value in captured[:2]:  # the third is a view of g
            value.detach().fill_(math.nan)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))
