import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from pygan.ops.thin_conv import thin_conv, thin_conv_ref, thin_conv_why_not

IMPLS = ("native", "ref")
# name: (c_in, c_out, kernel, options): the layers of speed.md, narrow
LAYERS = {
    "stem": (3, 8, 4, {"stride": 2, "padding": 1}),
    "pair": (6, 8, 4, {"stride": 2, "padding": 1}),
    "full": (4, 8, 4, {"stride": 2, "padding": 1}),
    "image": (8, 3, 4, {"stride": 2, "padding": 1, "transposed": True}),
    "logit": (8, 1, 4, {"stride": 1, "padding": 1}),
    "stem7": (3, 8, 7, {"stride": 1, "padding": 3, "pad_mode": "reflect"}),
    "head7": (8, 3, 7, {"stride": 1, "padding": 3, "pad_mode": "reflect"}),
}
SIZES = [(4, 4), (5, 9), (10, 7)]


def inputs(layer, n=2, h=5, w=9, *, dtype=torch.float64, device="cpu", wide=1):
    """x, weight, bias and the options of a layer; `wide` times as many channels on the thick side."""
    c_in, c_out, kernel, options = LAYERS[layer]
    c_in, c_out = (c * wide if c == 8 else c for c in (c_in, c_out))
    nhwc = {"memory_format": torch.channels_last}
    shape = (c_in, c_out) if options.get("transposed") else (c_out, c_in)
    scale = 1 / math.sqrt(c_in * kernel * kernel)
    x = torch.randn(n, c_in, h, w, device=device).to(dtype).contiguous(**nhwc)
    weight = (torch.randn(*shape, kernel, kernel, device=device) * scale).to(dtype).contiguous(**nhwc)
    bias = torch.randn(c_out, device=device).to(dtype)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), options


def plain(x, weight, bias, *, stride, padding, pad_mode="zeros", transposed=False):
    """The layer as a user writes it."""
    if transposed:
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    if pad_mode == "reflect":
        return F.conv2d(F.pad(x, (padding,) * 4, mode="reflect"), weight, bias, stride)
    return F.conv2d(x, weight, bias, stride, padding)


def is_thick_out(layer):
    return LAYERS[layer][1] == 8


def acts_of(layer):
    """(act, skip_act) that the kernels have for the output of a layer."""
    if is_thick_out(layer):
        return [("none", None), ("leaky_relu", "relu"), ("relu", None)]
    return [("none", None), ("tanh", None)]


CASES = [(layer, *acts) for layer in LAYERS for acts in acts_of(layer)]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("layer", "act", "skip_act"), CASES)
def test_formula(layer, act, skip_act, size, impl):
    x, weight, bias, options = inputs(layer, h=size[0], w=size[1])
    of = {"none": lambda z: z, "relu": F.relu, "leaky_relu": lambda z: F.leaky_relu(z, 0.2), "tanh": torch.tanh}
    z = plain(x, weight, bias, **options)
    expected = (of[act](z),) if skip_act is None else (of[act](z), of[skip_act](z))
    found = thin_conv(x, weight, bias, **options, act=act, skip_act=skip_act, impl=impl)
    found = (found,) if skip_act is None else found
    for value, reference in zip(found, expected, strict=True):
        assert value.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(value, reference)
    grads = [torch.randn_like(value) for value in expected]
    torch.testing.assert_close(
        torch.autograd.grad(found, (x, weight, bias), grads), torch.autograd.grad(expected, (x, weight, bias), grads)
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("layer", "act", "skip_act"), CASES)
def test_first_and_second_derivative(layer, act, skip_act, impl):
    torch.manual_seed(1)
    x, weight, bias, options = inputs(layer, n=1, h=4, w=5)
    w_small = weight.detach()[:2, :1].clone().requires_grad_()  # all taps of two channels; the whole weight is slow

    def layer_of(x, w_small, bias):
        w = torch.cat([torch.cat([w_small, weight.detach()[:2, 1:]], 1), weight.detach()[2:]])
        return thin_conv(x, w, bias, **options, act=act, skip_act=skip_act, impl=impl)

    assert gradcheck(layer_of, (x, w_small, bias), fast_mode=True)
    assert gradgradcheck(layer_of, (x, w_small, bias), fast_mode=True)


def test_gradient_penalty_through_the_first_layer():
    x, weight, bias, options = inputs("pair")

    def penalty(impl):
        y = thin_conv(x, weight, bias, **options, act="leaky_relu", impl=impl)
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad((grad.flatten(1).norm(dim=1) - 1).square().sum(), (weight, bias))

    torch.testing.assert_close(penalty("native"), penalty("ref"))


@pytest.mark.parametrize("layer", LAYERS)
def test_only_what_is_asked_for(layer):
    x, weight, bias, options = inputs(layer)
    for wanted in ((x,), (weight,), (bias,), (weight, bias)):
        for t in (x, weight, bias):
            t.requires_grad_(any(t is other for other in wanted))
        y, expected = thin_conv(x, weight, bias, **options, impl="native"), plain(x, weight, bias, **options)
        g = torch.randn_like(y)
        torch.testing.assert_close(torch.autograd.grad(y, wanted, g), torch.autograd.grad(expected, wanted, g))


def test_one_gradient_may_not_come():
    x, weight, bias, options = inputs("stem")
    for used in (0, 1):
        grads = []
        for impl in IMPLS:
            value = thin_conv(x, weight, bias, **options, act="leaky_relu", skip_act="relu", impl=impl)[used]
            grads.append(torch.autograd.grad(value.square().sum(), (x, weight, bias)))
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
def test_bfloat16(layer, x_dtype):
    """Within the rounding of its inputs and outputs of the same numbers in float64."""
    x, weight, bias, options = inputs(layer, dtype=torch.bfloat16)
    x = x.detach().to(x_dtype).requires_grad_()
    out_dtype = None if is_thick_out(layer) else torch.float32
    act = "leaky_relu" if is_thick_out(layer) else "tanh"
    y = thin_conv(x, weight, bias, **options, act=act, out_dtype=out_dtype, impl="native")
    wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    exact = thin_conv_ref(*wide, **options, act=act)
    assert y.dtype == (torch.bfloat16 if is_thick_out(layer) else torch.float32)
    eps = torch.finfo(y.dtype).eps
    torch.testing.assert_close(y.double(), exact, rtol=eps, atol=eps)
    g = torch.randn_like(y)
    grads = torch.autograd.grad(y, (x, weight, bias), g)
    for grad, reference, t in zip(grads, torch.autograd.grad(exact, wide, g.double()), (x, weight, bias), strict=True):
        assert grad.dtype == t.dtype
        assert (grad.double() - reference).norm() <= 2e-2 * reference.norm()


@pytest.mark.parametrize("layer", ["stem", "image"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_float32_bias_keeps_its_dtype(layer, dtype):
    x, weight, _, options = inputs(layer, dtype=dtype)
    bias = torch.randn(weight.shape[1 if layer == "image" else 0], requires_grad=True)
    y = thin_conv(x, weight, bias, **options, impl="native")
    expected = plain(x.double(), weight.double(), bias.double(), **options)
    torch.testing.assert_close(y.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
    g = torch.randn_like(y)
    dbias, dweight = torch.autograd.grad(y, (bias, weight), g)
    assert (dbias.dtype, dweight.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(dbias.double(), g.double().sum((0, 2, 3)), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_slots_of_a_larger_buffer(impl):
    x, weight, bias, options = inputs("stem", h=8, w=6)
    buffer = torch.full((2, 24, 4, 3), math.nan, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    y, s = thin_conv(
        x,
        weight,
        bias,
        **options,
        act="leaky_relu",
        skip_act="relu",
        out=buffer[:, 16:],
        skip_out=buffer[:, 4:12],
        impl=impl,
    )
    assert y.data_ptr() == buffer[:, 16:].data_ptr()
    assert s.data_ptr() == buffer[:, 4:12].data_ptr()
    expected = thin_conv_ref(x, weight, bias, **options, act="leaky_relu", skip_act="relu")
    torch.testing.assert_close((y, s), expected)
    assert buffer[:, :4].isnan().all()
    assert buffer[:, 12:16].isnan().all()
    g = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, (x, weight), g, retain_graph=True), torch.autograd.grad(expected[0], (x, weight), g)
    )


def test_a_slot_that_was_overwritten_is_not_read_again():
    x, weight, bias, options = inputs("stem", h=8, w=6)
    buffer = torch.empty(2, 8, 4, 3, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    first = thin_conv(x, weight, bias, **options, act="relu", out=buffer, impl="native")
    thin_conv(2 * x, weight, bias, **options, act="relu", out=buffer, impl="native")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()


@pytest.mark.parametrize("layer", LAYERS)
def test_layouts(layer, capsys, monkeypatch):
    monkeypatch.setattr("pygan.errors._said", set())
    x, weight, bias, options = inputs(layer)
    expected = plain(x, weight, bias, **options)
    thick_in = not is_thick_out(layer)
    wide = torch.randn(2, x.shape[1] + 5, 5, 9, dtype=x.dtype).contiguous(memory_format=torch.channels_last)
    wide[:, 2 : 2 + x.shape[1]] = x.detach()
    for same in (x.detach().contiguous(), wide[:, 2 : 2 + x.shape[1]], x.detach()):
        for w in (weight, weight.contiguous()):
            y = thin_conv(same, w, bias, **options, impl="native")
            torch.testing.assert_close(y, expected)
            (dw,) = torch.autograd.grad(y, w, torch.ones_like(y))
            assert dw.stride() == w.stride()
    said = capsys.readouterr().err
    assert ("thin_conv copies x on every call" in said) == thick_in


def test_impl_auto_on_a_cpu_is_the_reference():
    x, weight, bias, options = inputs("stem", dtype=torch.float32)
    y = thin_conv(x, weight, bias, **options)
    assert torch.equal(y, thin_conv_ref(x, weight, bias, **options))


def test_other_geometries_are_plain_pytorch():
    x, weight, bias, _ = inputs("stem")
    with pytest.raises(ValueError, match="impl='native', but no kernel for a 4x4 convolution 3 -> 8 of stride 1 and"):
        thin_conv(x, weight, bias, stride=1, padding=2, impl="native")
    y = thin_conv(x, weight, bias, stride=1, padding=2, act="elu")
    torch.testing.assert_close(y, F.elu(F.conv2d(x, weight, bias, padding=2)))
    with pytest.raises(ValueError, match="impl='native', but there is no kernel with act 'elu' for this side"):
        thin_conv(x, weight, bias, stride=2, padding=1, act="elu", impl="native")


@pytest.mark.parametrize("layer", LAYERS)
def test_why_not_says_nothing_of_the_layers_it_is_for(layer):
    x, weight, _, options = inputs(layer, h=16, w=16, wide=8)
    options = {"pad_mode": "zeros", "transposed": False} | options
    for dtype in (torch.bfloat16, torch.float16):
        assert thin_conv_why_not(x.shape, weight.shape, **options, dtype=dtype, device_type="cuda") == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": torch.float32}, "float32: the library's convolution"),
        ({"device_type": "cpu"}, "cpu: the library's convolution"),
        ({"weight_shape": (48, 3, 4, 4)}, "a multiple of 64 up to 512 channels on the thick side, got 48"),
        ({"weight_shape": (576, 3, 4, 4)}, "a multiple of 64 up to 512 channels on the thick side, got 576"),
        ({"weight_shape": (64, 9, 4, 4)}, "takes 1 to 8 channels on the thin side here, got 9"),
        ({"weight_shape": (64, 5, 7, 7), "stride": 1, "padding": 3, "pad_mode": "reflect"}, "takes 1 to 4 channels"),
        ({"weight_shape": (64, 3, 4, 5)}, "no kernel for a 4x5 convolution 3 -> 64 of stride 2 and padding 1 zeros"),
        ({"stride": 1}, "no kernel for a 4x4 convolution 3 -> 64 of stride 1 and padding 1 zeros"),
        ({"transposed": True, "weight_shape": (3, 64, 4, 4)}, "no kernel for a 4x4 transposed convolution 3 -> 64"),
        ({"x_shape": (1, 3, 1, 8)}, "a map of 1x8 is smaller than 2x2"),
    ],
)
def test_why_not(change, reason):
    layer = {
        "x_shape": (1, 3, 16, 16),
        "weight_shape": (64, 3, 4, 4),
        "stride": 2,
        "padding": 1,
        "pad_mode": "zeros",
        "transposed": False,
        "dtype": torch.bfloat16,
        "device_type": "cuda",
    } | change
    assert reason in thin_conv_why_not(layer.pop("x_shape"), layer.pop("weight_shape"), **layer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 8, 8)}, r"x must hold floats of shape \(n, c, h, w\), got torch.float32 \[3, 8, 8\]"),
        ({"x": torch.zeros(1, 4, 8, 8)}, r"x must have the 3 channels of weight \[8, 3, 4, 4\], got 4"),
        ({"x": torch.zeros(1, 3, 1, 1)}, r"a map of \[1, 3, 1, 1\] is too small for the weight"),
        ({"weight": torch.zeros(8, 3, 4)}, "weight must hold floats of shape"),
        ({"bias": torch.zeros(3)}, r"bias must have shape \[8\], got \[3\]"),
        ({"bias": torch.zeros(8, device="meta")}, "bias must be on the device of x, cpu, got meta"),
        ({"act": "gelu"}, "act must be one of"),
        ({"skip_act": "gelu"}, "skip_act must be one of"),
        ({"slope": -0.1}, "slope must be at least 0, got -0.1"),
        ({"pad_mode": "replicate"}, "pad_mode must be 'zeros' or 'reflect', got 'replicate'"),
        ({"pad_mode": "reflect", "padding": 8}, "reflection by 8 is for convolutions of larger maps"),
        ({"skip_out": torch.zeros(1, 8, 4, 4)}, "skip_out is given, but no skip_act"),
        (
            {"out": torch.zeros(1, 8, 4, 5)},
            r"out must be torch.float32 \[1, 8, 4, 4\] on cpu, got torch.float32 \[1, 8, 4, 5\]",
        ),
        ({"out": torch.zeros(1, 8, 4, 4)}, "out must be channels_last"),
        ({"impl": "fast"}, "impl must be 'auto', 'native' or 'ref'"),
        ({"impl": "native", "out_dtype": torch.bfloat16}, "the thick side has the dtype of the weight"),
        ({"impl": "native", "act": "tanh"}, "there is no kernel with act 'tanh' for this side"),
    ],
)
def test_errors(change, message):
    arguments = {"x": torch.zeros(1, 3, 8, 8), "weight": torch.zeros(8, 3, 4, 4), "stride": 2, "padding": 1} | change
    with pytest.raises(ValueError, match=f"thin_conv: .*{message}"):
        thin_conv(arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias", None), **arguments)


def test_compiles_without_a_graph_break():
    x, weight, bias, options = inputs("stem", dtype=torch.float32)

    def loss(x, weight):
        return thin_conv(2 * x, weight, bias, **options, act="leaky_relu", impl="native").square().mean()

    results = []
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        value = function(x, weight)
        results.append((value, *torch.autograd.grad(value, (x, weight))))
    torch.testing.assert_close(*results)


# ---- on a GPU: no GPU has run these yet

# layer, n, size of the input, times 8 channels on the thick side: odd sizes, several channel groups, several tiles
CUDA_CASES = [
    ("stem", 2, (64, 64), 8),
    ("stem", 1, (35, 131), 16),
    ("pair", 3, (66, 34), 8),
    ("full", 1, (16, 16), 8),
    ("image", 2, (33, 17), 16),
    ("image", 1, (64, 64), 8),
    ("logit", 2, (31, 31), 64),
    ("logit", 1, (5, 70), 8),
    ("stem7", 2, (64, 64), 8),
    ("stem7", 1, (37, 21), 8),
    ("head7", 2, (64, 64), 8),
    ("head7", 1, (4, 5), 8),
    ("head7", 1, (19, 67), 8),
]


def poison():
    """NaN in the memory that the next allocations get."""
    for size in (1 << 12, 1 << 18, 1 << 24):
        torch.full((size,), math.nan, device="cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("thin_dtype", ["float32", "low"])
@pytest.mark.parametrize(("layer", "n", "size", "wide"), CUDA_CASES)
def test_cuda_equals_float64(layer, n, size, wide, dtype, thin_dtype):
    torch.manual_seed(0)
    x, weight, bias, options = inputs(layer, n, *size, dtype=dtype, device="cuda", wide=wide)
    thick_out = is_thick_out(layer)
    if thick_out and thin_dtype == "float32":
        x = x.detach().float().requires_grad_()
    out_dtype = torch.float32 if thin_dtype == "float32" and not thick_out else None
    epilogue = {"act": "leaky_relu", "skip_act": "relu"} if thick_out else {"act": "tanh"}
    wide_inputs = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    exact = thin_conv_ref(*wide_inputs, **options, **epilogue)
    exact = exact if thick_out else (exact,)
    poison()
    found = thin_conv(x, weight, bias, **options, **epilogue, out_dtype=out_dtype, impl="native")
    found = found if thick_out else (found,)
    for value, reference in zip(found, exact, strict=True):
        eps = torch.finfo(value.dtype).eps
        torch.testing.assert_close(value.double(), reference, rtol=2 * eps, atol=max(eps, 1e-5))
    grads = [torch.randn_like(value) for value in found]
    poison()
    got = torch.autograd.grad(found, (x, weight, bias), grads)
    expected = torch.autograd.grad(exact, wide_inputs, [g.double() for g in grads])
    for grad, reference, t in zip(got, expected, (x, weight, bias), strict=True):
        assert grad.dtype == t.dtype
        bound = 4 * torch.finfo(dtype).eps  # the incoming gradient is rounded to 16 bits, and so is the result
        assert (grad.double() - reference).norm() <= bound * reference.norm()


@pytest.mark.cuda
@pytest.mark.parametrize("layer", LAYERS)
def test_cuda_graph_equals_eager_bit_for_bit(layer, capture):
    x, weight, bias, options = inputs(layer, 2, 64, 48, dtype=torch.bfloat16, device="cuda", wide=8)
    act = "leaky_relu" if is_thick_out(layer) else "tanh"
    g = torch.randn_like(plain(x, weight, bias, **options))

    def step():
        y = thin_conv(x, weight, bias, **options, act=act, impl="native")
        return y, *torch.autograd.grad(y, (x, weight, bias), g)

    graph, captured = capture(step)
    for _ in range(3):
        with torch.no_grad():
            x.copy_(torch.randn_like(x))
        eager = [value.clone() for value in step()]
        again = [value.clone() for value in step()]
        for value in captured:
            value.detach().fill_(math.nan)
        graph.replay()
        for a, b, c in zip(captured, eager, again, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(b, c)


@pytest.mark.cuda
def test_cuda_auto_takes_the_kernels_and_says_when_not(capsys, monkeypatch):
    monkeypatch.setattr("pygan.errors._said", set())
    x, weight, bias, options = inputs("stem", 1, 16, 16, dtype=torch.bfloat16, device="cuda", wide=8)
    assert torch.equal(thin_conv(x, weight, bias, **options), thin_conv(x, weight, bias, **options, impl="native"))
    assert capsys.readouterr().err == ""
    x, weight, bias = x.float(), weight.float(), bias.float()
    torch.testing.assert_close(thin_conv(x, weight, bias, **options), plain(x, weight, bias, **options))
    assert "thin_conv runs in plain PyTorch: float32: the library's convolution" in capsys.readouterr().err
