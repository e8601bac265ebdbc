"""small_conv: the native operators against the specification, the specification against torch, and every argument.

On a CPU "native" is the twin of the kernels. Tests marked `native` need the compiled library.
"""

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from pygan import streams
from pygan.ops import _native
from pygan.ops._autograd import gradients_for
from pygan.ops._beside import check_taken, forget_uses
from pygan.ops._impl import compiled
from pygan.ops.norm_act import norm_act, norm_act_ref
from pygan.ops.small_conv import FUSED_ROWS, small_conv, small_conv_ref, small_conv_why_not

native = pytest.mark.skipif(not compiled("small_conv"), reason=f"needs the native library: {_native.why_missing()}")
IMPLS = [pytest.param("native", marks=native), "ref"]
NHWC = {"memory_format": torch.channels_last}
RNG = torch.tensor([0x1234567890ABCDE, 5])
# (n, h, w) of the small map, its channels, those of the large one
SHAPES = [(1, 1, 1, 4, 3), (2, 2, 2, 3, 8), (4, 1, 3, 5, 2), (2, 4, 2, 8, 6), (2, 8, 8, 6, 4)]
CASES = [
    {"act": "leaky_relu", "skip_act": "relu"},
    {"act": "relu", "groups": 2},
    {"act": "elu", "skip_act": "none", "norm": "instance"},
    {"act": "relu", "skip_act": "elu", "norm": "none", "with_bias": True},
    {"act": "leaky_relu", "slope": 0.01, "dropout_p": 0.4, "rng": RNG, "rng_stream": 3, "skip_act": "leaky_relu"},
]
# of the raw operator
OPTIONS = {
    "norm": "batch", "groups": 2, "eps": 1e-5, "act": "leaky_relu", "skip_act": "relu", "slope": 0.2,
    "dropout_p": 0.25, "rng_stream": 1, "momentum": 0.1, "use_running": False,
}  # fmt: skip
both_ways = pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])


def name_of(case):
    return "-".join(str(v) for k, v in case.items() if k != "rng") or "plain"


def inputs(shape=(2, 2, 2, 3, 4), *, transposed, dtype=torch.float64, device="cpu", seed=0):
    """x, weight, norm_weight, norm_bias and bias of one layer."""
    n, h, w, cs, cl = shape
    g = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(size, generator=g, dtype=torch.float64)

    x = draw(n, cs, h, w) if transposed else draw(n, cl, 2 * h, 2 * w)
    weight = draw(cs, cl, 4, 4) / (4 * math.sqrt(x.shape[1]))
    c = cl if transposed else cs
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = [
        x.to(device, dtype).contiguous(**NHWC),
        weight.to(device, dtype).contiguous(**NHWC),
        (1 + 0.3 * draw(c)).to(device, wide),
        (0.5 * draw(c)).to(device, wide),
        draw(c).to(device, dtype),
    ]
    return [t.requires_grad_() for t in tensors]


def run(f, tensors, case, **options):
    """The outputs of f, small_conv or small_conv_ref, as a tuple."""
    x, weight, norm_weight, norm_bias, bias = tensors
    case = {**case, **options}
    result = f(x, weight, norm_weight, norm_bias, bias=bias if case.pop("with_bias", False) else None, **case)
    return result if isinstance(result, tuple) else (result,)


def sources(tensors, case):
    return tensors if case.get("with_bias") else tensors[:4]


def seeds(outputs, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(y.shape, generator=g, dtype=torch.float64).to(y) for y in outputs]


def fits(case, shape):
    return shape[0] % case.get("groups", 1) == 0


# --- values and gradients ---------------------------------------------------------------------------------------------


@both_ways
def test_reference_is_torch(transposed):
    x, weight, norm_weight, norm_bias, bias = inputs((3, 2, 4, 5, 6), transposed=transposed)
    conv = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    layer = conv(x.shape[1], len(bias), 4, stride=2, padding=1).double()
    layer.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
    z = F.batch_norm(layer(x), None, None, norm_weight, norm_bias, training=True, eps=1e-3)
    y, s = small_conv_ref(x, weight, norm_weight, norm_bias, bias=bias, transposed=transposed, eps=1e-3,
                          act="leaky_relu", slope=0.1, skip_act="relu")  # fmt: skip
    torch.testing.assert_close(y, F.leaky_relu(z, 0.1))
    torch.testing.assert_close(s, F.relu(z))


@native
@both_ways
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_native_equals_reference(case, shape, transposed, dtype):
    """Against float64 on the same rounded inputs; z is rounded to the dtype in between, as the contract has it."""
    if not fits(case, shape):
        pytest.skip("the groups do not divide this batch")
    tensors = inputs(shape, transposed=transposed, dtype=dtype)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    got = run(small_conv, tensors, case, transposed=transposed, impl="native")

    x, weight, norm_weight, norm_bias, bias = exact
    conv = F.conv_transpose2d if transposed else F.conv2d
    z = conv(x, weight, bias if case.get("with_bias") else None, stride=2, padding=1)
    rounded = z.detach().to(dtype).double().requires_grad_()
    options = {k: v for k, v in case.items() if k != "with_bias"}
    want = norm_act_ref(rounded, norm_weight, norm_bias, **options)
    want = want if isinstance(want, tuple) else (want,)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == dtype
        assert a.is_contiguous(**NHWC)
        torch.testing.assert_close(a.double(), b, rtol=torch.finfo(dtype).eps, atol=2e-6 if dtype != z.dtype else 1e-10)

    if shape == SHAPES[0] and case.get("norm") != "none":
        return  # one value per channel and group: gradients are 0 but for rounding, which rstd = 300 makes large
    grads = seeds(got)
    got = torch.autograd.grad(got, sources(tensors, case), grads)
    dz, *dnorm = torch.autograd.grad(want, (rounded, norm_weight, norm_bias), [g.double() for g in grads])
    dz = dz.to(dtype).double()  # rounded as well
    dconv = torch.autograd.grad(z, (x, weight, bias) if case.get("with_bias") else (x, weight), dz)
    bound = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 4e-3}[dtype]
    for a, b in zip(got, (*dconv[:2], *dnorm, *dconv[2:]), strict=True):
        assert (a.double() - b).norm() <= bound * b.norm() + 1e-12


@native
@both_ways
@pytest.mark.parametrize("shape", SHAPES)
def test_the_products_are_exact_up_to_rounding(shape, transposed):
    """In float32: relative norm 1e-6 of z, dx and dw."""
    x, weight, *_, bias = [t.detach() for t in inputs(shape, transposed=transposed, dtype=torch.float32)]
    z = raw(x, weight, transposed=transposed, bias=bias)
    conv = F.conv_transpose2d if transposed else F.conv2d
    exact = [t.double().requires_grad_() for t in (x, weight)]
    want = conv(*exact, bias.double(), stride=2, padding=1)
    dz = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)).contiguous(**NHWC)
    dx = torch.ops.pygan.small_conv_dx(dz, weight, transposed=transposed)
    dw = torch.ops.pygan.small_conv_dw(dz, x, transposed=transposed)
    for a, b in zip((z, dx, dw), (want, *torch.autograd.grad(want, exact, dz.double())), strict=True):
        assert (a.double() - b).norm() <= 1e-6 * b.norm()
        assert a.shape == b.shape
        assert a.is_contiguous(**NHWC)


def raw(x, weight, *, transposed, bias=None):
    """z, from the operator without norm and activation."""
    options = {**OPTIONS, "norm": "none", "groups": 1, "act": "none", "skip_act": None, "dropout_p": 0.0}
    return torch.ops.pygan.small_conv(x, weight, bias, *[None] * 7, transposed=transposed, **options)[0]


@both_ways
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_gradcheck_twice(case, impl, transposed):
    tensors = inputs((2, 1, 2, 2, 2), transposed=transposed)

    def f(*some):
        return run(small_conv, [*some, *tensors[len(some) :]], case, transposed=transposed, impl=impl)

    assert gradcheck(f, sources(tensors, case))
    assert gradgradcheck(f, sources(tensors, case))


@native
@both_ways
def test_gradients_with_running_statistics(transposed):
    tensors = inputs((1, 2, 1, 2, 2), transposed=transposed)
    running = {"running_mean": torch.randn(2).double(), "running_var": torch.rand(2).double() + 0.5}
    case = {"act": "leaky_relu", "use_running": True, "with_bias": True, **running}

    def f(*some):
        return run(small_conv, some, case, transposed=transposed, impl="native")

    assert gradcheck(f, tensors)
    assert gradgradcheck(f, tensors)


@native
@both_ways
@pytest.mark.parametrize("missing", ["x", "weight", "norm_weight", "norm_bias", "bias"])
def test_gradients_of_a_part(missing, transposed):
    """What does not require grad gets none, and the others are what they were."""
    names = ["x", "weight", "norm_weight", "norm_bias", "bias"]
    tensors = dict(zip(names, inputs(transposed=transposed), strict=True))
    case = {"act": "elu", "norm": "none", "with_bias": True, "transposed": transposed, "impl": "native"}
    outputs = run(small_conv, tensors.values(), case)
    want = dict(zip(names, torch.autograd.grad(outputs, list(tensors.values()), seeds(outputs)), strict=True))
    part = tensors | {missing: tensors[missing].detach()}
    outputs = run(small_conv, part.values(), case)
    rest = [name for name in names if name != missing]
    for name, a in zip(rest, torch.autograd.grad(outputs, [part[n] for n in rest], seeds(outputs)), strict=True):
        assert torch.equal(a, want[name])


@native
@both_ways
def test_no_gradient_for_a_weight_that_nobody_asks_for(transposed):
    """As `gradients_for` says; a weight that is no leaf leads to one, and always gets its gradient."""
    x, weight, *_ = inputs(transposed=transposed)
    y = small_conv(x, weight, transposed=transposed, impl="native")
    with gradients_for([x]):
        y.backward(torch.ones_like(y))
    assert weight.grad is None
    assert x.grad is not None
    y = small_conv(x, weight * 1, transposed=transposed, impl="native")
    with gradients_for([x]):
        y.square().sum().backward()
    assert weight.grad is not None


@native
@both_ways
@pytest.mark.parametrize("shape", [(2, 2, 2, 3, 4), (3, 14, 14, 2, 2)], ids=["fused", "many rows"])
def test_weight_gradients_go_beside_the_rest(shape, transposed, monkeypatch):
    """Those of leaves that were used once, where work overlaps; with the same result, which autograd takes as it is."""
    x, weight, *_ = inputs(shape, transposed=transposed)
    small_conv(x, weight, transposed=transposed, impl="native").square().sum().backward()
    want, weight.grad, went = weight.grad, None, []

    @contextlib.contextmanager
    def note(*used):
        went.append(used[0].shape)
        yield

    monkeypatch.setattr(streams, "overlaps", lambda t: True)
    monkeypatch.setattr(streams, "beside", note)
    try:
        y = small_conv(x, weight, transposed=transposed, impl="native")
        y.square().sum().backward(inputs=[weight])
        assert went == [weight.shape]
        check_taken(weight)
        torch.testing.assert_close(weight.grad, want)
        forget_uses()
        one, two = (small_conv(x, weight, transposed=transposed, impl="native") for _ in range(2))
        (one.square().sum() + two.square().sum()).backward(inputs=[weight])
        forget_uses()
        small_conv(x, weight * 1, transposed=transposed, impl="native").square().sum().backward(inputs=[weight])
        assert went == [weight.shape]
    finally:
        forget_uses()


@native
@both_ways
@pytest.mark.parametrize("used", [0, 1])
def test_one_output_without_gradient(used, transposed):
    tensors = inputs(transposed=transposed)
    case = {"act": "leaky_relu", "skip_act": "relu"}
    y = run(small_conv, tensors, case, transposed=transposed, impl="native")[used]
    (want,) = run(small_conv_ref, tensors, {"act": ("leaky_relu", "relu")[used]}, transposed=transposed)
    grads = [torch.autograd.grad(v, tensors[:4], seeds([v])) for v in (y, want)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


# --- it is norm_act of a convolution ----------------------------------------------------------------------------------


@native
@both_ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", [*CASES, {"act": "relu", "running": True, "groups": 2}], ids=name_of)
def test_bits_are_those_of_norm_act(case, dtype, transposed):
    """y, s and the running statistics are norm_act's of the rounded z, its random mask included."""
    tensors = inputs((2, 4, 4, 8, 8), transposed=transposed, dtype=dtype)
    case = dict(case)
    moves = case.pop("running", False)
    running = [torch.rand(8), torch.rand(8)] if moves else [None, None]
    apart = [None if t is None else t.clone() for t in running]
    bias = tensors[4].detach() if case.get("with_bias") else None
    z = raw(tensors[0].detach(), tensors[1].detach(), transposed=transposed, bias=bias)
    got = run(small_conv, tensors, case, transposed=transposed, impl="native",
              running_mean=running[0], running_var=running[1])  # fmt: skip
    case.pop("with_bias", None)
    want = norm_act(z, *tensors[2:4], running_mean=apart[0], running_var=apart[1], impl="native", **case)
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        assert torch.equal(a, b)
    if moves:
        assert torch.equal(running[0], apart[0])
        assert torch.equal(running[1], apart[1])


@both_ways
@pytest.mark.parametrize("impl", IMPLS)
def test_groups_are_separate_calls(impl, transposed):
    x, weight, norm_weight, norm_bias, _ = inputs((6, 2, 2, 4, 4), transposed=transposed)
    options = {"transposed": transposed, "act": "leaky_relu", "impl": impl}
    together = small_conv(x, weight, norm_weight, norm_bias, groups=3, **options)
    calls = [small_conv(part, weight, norm_weight, norm_bias, **options) for part in x.chunk(3)]
    torch.testing.assert_close(together, torch.cat(calls), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_one_value_per_channel(impl):
    """BatchNorm of one value: variance 0, so y = act(norm_bias), and nothing is NaN."""
    x, weight, norm_weight, norm_bias, _ = inputs((1, 1, 1, 4, 6), transposed=False, dtype=torch.float32)
    y = small_conv(x, weight, norm_weight, norm_bias, transposed=False, act="relu", impl=impl)
    assert torch.equal(y.flatten(), norm_bias.relu())
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.zeros_like(dx))


@native
@pytest.mark.parametrize(("transposed", "shape"), [(False, (3, 14, 14, 2, 3)), (True, (3, 8, 8, 3, 2))])
def test_the_norm_of_many_rows_is_a_launch_of_its_own(transposed, shape):
    tensors = inputs(shape, transposed=transposed)
    case = {"act": "leaky_relu", "skip_act": "relu", "groups": 3, "with_bias": True, "transposed": transposed}
    got, want = run(small_conv, tensors, case, impl="native"), run(small_conv_ref, tensors, case)
    assert got[0][:, 0].numel() > FUSED_ROWS
    assert got[0].grad_fn.name() == "_NormActBackward"
    grads = [torch.autograd.grad(v, tensors, seeds(v), create_graph=True) for v in (got, want)]
    for a, b in zip((*got, *grads[0]), (*want, *grads[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    plain = torch.autograd.grad(run(small_conv, tensors, case, impl="native"), tensors, seeds(got))
    for a, b in zip(plain, grads[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@both_ways
@pytest.mark.parametrize("impl", IMPLS)
def test_slices_are_written_and_nothing_else(impl, transposed):
    """y and s into channel slices; x from one."""
    tensors = inputs((2, 2, 2, 8, 8), transposed=transposed, dtype=torch.float32)
    case = {"act": "leaky_relu", "skip_act": "relu", "transposed": transposed, "impl": impl}
    want = run(small_conv, tensors, case)
    first, second = (torch.full((2, 24, *want[0].shape[2:]), 7.0).contiguous(**NHWC) for _ in range(2))
    out, skip_out = first[:, 8:16], second[:, 16:]
    wide = torch.cat([torch.zeros_like(tensors[0])[:, :4], tensors[0]], 1).contiguous(**NHWC)
    got = run(small_conv, [wide[:, 4:], *tensors[1:]], case, out=out, skip_out=skip_out)
    for a, b, slot in zip(got, want, (out, skip_out), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(slot, b)
        assert a.data_ptr() == slot.data_ptr()
    assert (first[:, :8] == 7).all()
    assert (first[:, 16:] == 7).all()
    assert (second[:, :16] == 7).all()
    grads = [torch.autograd.grad(v, tensors[:4], seeds(v)) for v in (got, want)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@native
@both_ways
def test_other_memory_orders_are_copied_aloud(transposed, monkeypatch, capsys):
    x, weight, *_ = inputs((2, 2, 2, 4, 6), transposed=transposed)
    want = small_conv(x, weight, transposed=transposed, impl="native")
    monkeypatch.setattr("pygan.errors._said", set())
    for _ in range(2):
        y = small_conv(x.detach().contiguous(), weight.detach().contiguous(), transposed=transposed, impl="native")
    assert torch.equal(y, want)
    assert capsys.readouterr().err.count("small_conv copies") == 2  # x and weight, once each


@native
def test_the_gradient_of_the_weight_lies_as_the_weight():
    x, weight, *_ = inputs(transposed=False)
    y = small_conv(x, weight, transposed=False, impl="native")
    y.sum().backward()
    assert weight.grad.stride() == weight.stride()


@both_ways
def test_auto_on_a_cpu_is_the_library(transposed, capsys):
    tensors = inputs(transposed=transposed, dtype=torch.float32)
    y = small_conv(*tensors[:4], transposed=transposed, act="relu")
    assert y.grad_fn.name() != "_SmallConvBackward"
    torch.testing.assert_close(y, small_conv_ref(*tensors[:4], transposed=transposed, act="relu"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("impl", [*IMPLS, "auto"])
def test_inference_mode(impl):
    tensors = inputs(transposed=True, dtype=torch.float32)
    want = small_conv(*tensors[:4], transposed=True, act="relu", impl=impl)
    with torch.inference_mode():
        buffer = torch.zeros(2, 12, 4, 4).contiguous(**NHWC)
        y = small_conv(*tensors[:4], transposed=True, act="relu", out=buffer[:, 4:8], impl=impl)
    assert torch.equal(y, want)
    assert torch.equal(buffer[:, 4:8], want)


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "weight", "transposed"),
    [
        ((1, 512, 2, 2), (512, 512, 4, 4), False),  # e8 of the U-Net for 256x256
        ((4, 512, 16, 16), (512, 512, 4, 4), False),
        ((1, 256, 32, 32), (512, 256, 4, 4), False),
        ((1, 512, 1, 1), (512, 512, 4, 4), True),  # d1
        ((1, 1024, 16, 16), (1024, 256, 4, 4), True),
        ((8, 1024, 4, 4), (1024, 512, 4, 4), True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_the_kernels_take(x, weight, transposed, dtype):
    assert small_conv_why_not(x, weight, transposed=transposed, dtype=dtype, device_type="cuda") == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device_type": "cpu"}, "small_conv is for CUDA, not cpu"),
        ({"dtype": torch.float32}, "for bfloat16 and float16, not float32"),
        ({"weight_shape": (512, 512, 3, 3)}, "for 4x4 kernels of stride 2"),
        ({"stride": 1}, "for 4x4 kernels of stride 2"),
        ({"pad_mode": "reflect"}, "for 4x4 kernels of stride 2"),
        ({"output_padding": 1}, "for 4x4 kernels of stride 2"),
        ({"weight_shape": (512, 96, 4, 4)}, "multiples of 64 channels, got 512 and 96"),
        ({"x_shape": (1, 512, 5, 4)}, "an even map, got 5x4"),
        ({"x_shape": (1, 512, 64, 64)}, "map of 32x32 > 16x16"),
        ({"x_shape": (1, 512, 32, 32), "transposed": True}, "map of 32x32 > 16x16"),
        ({"x_shape": (2, 512, 32, 32)}, "2048 rows > 1024"),
        ({"x_shape": (9, 512, 2, 2)}, "batch of 9 > 8"),
    ],
)
def test_what_they_do_not_take(change, reason):
    layer = {"x_shape": (1, 512, 8, 8), "weight_shape": (512, 512, 4, 4), "transposed": False}
    layer |= {"dtype": torch.bfloat16, "device_type": "cuda"}
    assert small_conv_why_not(**layer) == ""
    assert reason in small_conv_why_not(**layer | change)


# --- the operators themselves -----------------------------------------------------------------------------------------


def operator_inputs(transposed, dtype=torch.float32, device="cpu", shape=(2, 2, 2, 4, 6)):
    tensors = inputs(shape, transposed=transposed, dtype=dtype, device=device)
    x, weight, norm_weight, norm_bias, bias = (t.detach() for t in tensors)
    n, h, w, cs, cl = shape
    size = (n, cl, 4 * h // 2, 4 * w // 2) if transposed else (n, cs, h, w)
    y, s = (torch.zeros(size, dtype=dtype, device=device).contiguous(**NHWC) for _ in range(2))
    running = torch.zeros_like(norm_weight), torch.ones_like(norm_weight)
    return x, weight, bias, norm_weight, norm_bias, RNG.to(device), *running, y, s


@native
@both_ways
@pytest.mark.parametrize("optional", ["all", "none", "z"])
def test_opcheck(optional, transposed):
    args, options = operator_inputs(transposed), {**OPTIONS, "transposed": transposed}
    if optional != "all":
        args = (*args[:2], *[None] * 6, args[8] if optional == "none" else None, None)
        options |= {"skip_act": None, "dropout_p": 0.0, "norm": "none", "groups": 1}
    torch.library.opcheck(torch.ops.pygan.small_conv.default, args, options)


@native
@both_ways
def test_opcheck_of_the_gradients(transposed):
    x, weight, *_, dz, _ = operator_inputs(transposed)
    torch.library.opcheck(torch.ops.pygan.small_conv_dx.default, (dz, weight), {"transposed": transposed})
    torch.library.opcheck(torch.ops.pygan.small_conv_dw.default, (dz, x), {"transposed": transposed})


# --- bad arguments ----------------------------------------------------------------------------------------------------

BAD = [
    (TypeError, "x must be a tensor, got list", {"x": [1.0]}),
    (TypeError, "weight must be a tensor, got NoneType", {"weight": None}),
    (ValueError, r"x must have shape \(n, c, h, w\) and not be empty", {"x": torch.zeros(2, 3)}),
    (TypeError, "x must be float32", {"x": torch.zeros(2, 3, 4, 4, dtype=torch.int32)}),
    (ValueError, r"weight must have shape \[o, 3, 4, 4\]", {"weight": torch.zeros(5, 4, 4, 4)}),
    (ValueError, r"weight must have shape \[3, o, 4, 4\]", {"transposed": True}),
    (TypeError, "weight must be float32 beside an x of float32", {"weight": torch.zeros(5, 3, 4, 4).double()}),
    (ValueError, "x must be at least 2x2", {"x": torch.zeros(2, 3, 1, 4)}),
    (ValueError, "norm must be one of", {"norm": "layer"}),
    (ValueError, "act must be one of", {"act": "tanh"}),
    (ValueError, "skip_act must be None or one of", {"skip_act": "tanh"}),
    (ValueError, "impl must be 'auto', 'native' or 'ref'", {"impl": "cuda"}),
    (ValueError, "groups must divide the batch of 2, got 3", {"groups": 3}),
    (ValueError, "groups = 2 is for norm 'batch'", {"groups": 2, "norm": "instance"}),
    (ValueError, "eps must be at least 0", {"eps": -1e-5}),
    (ValueError, r"dropout_p must lie in \[0, 1\), got 1", {"dropout_p": 1.0}),
    (ValueError, "momentum .* must lie in", {"momentum": 1.5}),
    (TypeError, "norm_weight must be a tensor or None, got float", {"norm_weight": 1.0}),
    (ValueError, r"norm_bias must be contiguous of shape \[5\], got \[4\]", {"norm_bias": torch.zeros(4)}),
    (TypeError, "norm_weight must be float32 beside", {"norm_weight": torch.zeros(5).double()}),
    (ValueError, "bias must be on the device of x, cpu, got meta", {"bias": torch.zeros(5, device="meta")}),
    (ValueError, "running_mean and running_var come together", {"running_mean": torch.zeros(5)}),
    (ValueError, "use_running needs", {"use_running": True}),
    (TypeError, "dropout_p > 0 needs rng", {"dropout_p": 0.5}),
    (TypeError, "rng must be int64", {"dropout_p": 0.5, "rng": torch.zeros(2)}),
    (ValueError, "skip_out is given, but no skip_act", {"skip_out": torch.zeros(2, 5, 2, 2)}),
    (ValueError, r"out must be \[2, 5, 2, 2\] in channels_last", {"out": torch.zeros(2, 5, 2, 3)}),
    (ValueError, r"out must be \[2, 5, 2, 2\] in channels_last", {"out": torch.zeros(2, 5, 2, 2)}),
    (ValueError, "out is overwritten", {"out": torch.zeros(2, 5, 2, 2).contiguous(**NHWC).requires_grad_()}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message", "change"), BAD)
def test_bad_arguments_by_name(kind, message, change):
    arguments = {"x": torch.zeros(2, 3, 4, 4), "weight": torch.zeros(5, 3, 4, 4), "transposed": False, "impl": "ref"}
    arguments |= change
    with pytest.raises(kind, match="small_conv: .*" + message):
        small_conv(arguments.pop("x"), arguments.pop("weight"), **arguments)


@native
def test_the_native_operator_needs_an_even_map():
    x, weight = torch.zeros(1, 3, 5, 4), torch.zeros(2, 3, 4, 4)
    assert small_conv(x, weight, transposed=False, impl="ref").shape == (1, 2, 2, 2)
    with pytest.raises(ValueError, match="needs an even map, got \\[1, 3, 5, 4\\]"):
        small_conv(x, weight, transposed=False, impl="native")


@native
@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"weight must have shape \(o, c, 4, 4\) with c = 6", {"weight": torch.zeros(4, 5, 4, 4).contiguous(**NHWC)}),
        ("weight must be channels_last", {"weight": torch.zeros(4, 6, 4, 4)}),
        ("weight must be dense", {"weight": torch.zeros(4, 8, 4, 4).contiguous(**NHWC)[:, :6]}),
        ("weight must have the dtype of x", {"weight": torch.zeros(4, 6, 4, 4).double().contiguous(**NHWC)}),
        ("x must have an even height and width", {"x": torch.zeros(2, 6, 3, 4).contiguous(**NHWC)}),
        ("norm_weight must have shape", {"norm_weight": torch.zeros(5)}),
        ("bias must be contiguous of shape", {"bias": torch.zeros(5)}),
        ("y must have the shape of the result", {"y": torch.zeros(2, 6, 2, 2)}),
        ("s and skip_act come together", {"s": None}),
        ("without y there is no s and no norm", {"y": None}),
        ("running_mean and running_var come together", {"running_var": None}),
        ("dropout needs rng", {"rng": None}),
        ("groups = 3 must divide", {"groups": 3}),
        ("norm must be batch, instance or none", {"norm": "layer"}),
        ("act must be none, relu, leaky_relu or elu", {"act": "tanh"}),
    ],
)
def test_the_operator_checks_too(message, change):
    """The raw operator is callable by anyone: it must refuse, never read out of bounds."""
    names = ("x", "weight", "bias", "norm_weight", "norm_bias", "rng", "running_mean", "running_var", "y", "s")
    arguments = dict(zip(names, operator_inputs(False), strict=True)) | OPTIONS | {"transposed": False} | change
    tensors = [arguments.pop(name) for name in names]
    with pytest.raises(RuntimeError, match="small_conv: " + message):
        torch.ops.pygan.small_conv(*tensors, **arguments)


@native
def test_the_gradient_operators_check_too():
    x, weight, *_, dz, _ = operator_inputs(False)
    with pytest.raises(RuntimeError, match=r"dz .* is not the result of an x of shape"):
        torch.ops.pygan.small_conv_dw(dz, x, transposed=True)
    with pytest.raises(RuntimeError, match=r"weight must have shape \(c, o, 4, 4\) with c = 4 as dz"):
        torch.ops.pygan.small_conv_dx(dz, weight[:3], transposed=False)


# --- on a GPU ---------------------------------------------------------------------------------------------------------

# (n, h, w) of the small map, its channels, those of the large one: the deep layers of the U-Net, and odd ones
LAYERS = [
    (False, (1, 1, 1, 512, 512)), (False, (4, 2, 2, 512, 512)), (False, (1, 8, 8, 512, 512)),
    (False, (1, 16, 16, 512, 256)), (False, (4, 8, 8, 512, 512)), (False, (3, 3, 5, 128, 64)),
    (True, (1, 1, 1, 512, 512)), (True, (2, 2, 2, 1024, 512)), (True, (1, 4, 4, 1024, 512)),
    (True, (4, 8, 8, 1024, 512)), (True, (1, 16, 16, 1024, 256)), (True, (8, 1, 3, 64, 192)),
]  # fmt: skip


def close_to(got, want, dtype):
    """Rounding to the dtype, of sums in float32 whose terms may be larger than they are."""
    scale = want.abs().max().item()
    torch.testing.assert_close(got.double(), want, rtol=torch.finfo(dtype).eps, atol=2e-5 * max(scale, 1.0))


@pytest.mark.cuda
@pytest.mark.parametrize(("transposed", "shape"), LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cuda_products_against_float64(transposed, shape, dtype):
    assert compiled("small_conv", "CUDA"), "a machine with a GPU must have the CUDA kernels"
    tensors = inputs(shape, transposed=transposed, dtype=dtype, device="cuda")
    x, weight, *_, bias = (t.detach() for t in tensors)
    z = raw(x, weight, transposed=transposed, bias=bias)
    conv = F.conv_transpose2d if transposed else F.conv2d
    exact = [t.double().requires_grad_() for t in (x, weight)]
    want = conv(*exact, bias.double(), stride=2, padding=1)
    dz = torch.randn_like(z)
    torch.full((1 << 23,), math.nan, device="cuda")  # the next allocations get this memory
    dx = torch.ops.pygan.small_conv_dx(dz, weight, transposed=transposed)
    dw = torch.ops.pygan.small_conv_dw(dz, x, transposed=transposed)
    for a, b in zip((z, dx, dw), (want, *torch.autograd.grad(want, exact, dz.double())), strict=True):
        assert a.shape == b.shape
        close_to(a, b.detach(), dtype)


@pytest.mark.cuda
@pytest.mark.parametrize(("transposed", "shape"), LAYERS)
@pytest.mark.parametrize("case", [*CASES, {"act": "relu", "norm": "batch", "running": True}], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cuda_is_norm_act_of_its_z(case, transposed, shape, dtype):
    """From poisoned outputs in slices; statistics, masks, running statistics and both stores."""
    if not fits(case, shape):
        pytest.skip("the groups do not divide this batch")
    tensors = inputs(shape, transposed=transposed, dtype=dtype, device="cuda")
    case = {**case, "rng": RNG.cuda()} if "rng" in case else dict(case)
    moves = case.pop("running", False)
    c = len(tensors[4])
    running, apart = ([torch.zeros(c, device="cuda"), torch.ones(c, device="cuda")] for _ in range(2))
    bias = tensors[4].detach() if case.get("with_bias") else None
    z = raw(tensors[0].detach(), tensors[1].detach(), transposed=transposed, bias=bias)
    buffers = [torch.full((z.shape[0], 2 * c, *z.shape[2:]), math.nan, dtype=dtype, device="cuda").contiguous(**NHWC)
               for _ in range(2)]  # fmt: skip
    slots = {"out": buffers[0][:, :c]} | ({"skip_out": buffers[1][:, c:]} if "skip_act" in case else {})
    stats = {"running_mean": running[0], "running_var": running[1]} if moves else {}
    got = run(small_conv, tensors, case, transposed=transposed, impl="native", **slots, **stats)
    case.pop("with_bias", None)
    exact = [t.detach().double() for t in (z, *tensors[2:4])]
    stats = {"running_mean": apart[0].double(), "running_var": apart[1].double()} if moves else {}
    want = norm_act_ref(*exact, **case, **stats)
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=torch.finfo(dtype).eps, atol=1e-4)
    assert sum(int(buffer.isnan().sum()) for buffer in buffers) == sum(b.numel() for b in buffers) - sum(
        a.numel() for a in got
    )
    if moves:
        for a, b in zip(running, stats.values(), strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
@both_ways
def test_cuda_graph_equals_eager_bit_for_bit(capture, transposed):
    """Forward and backward, captured once and replayed on changing data; and eager reruns."""
    shape = (2, 4, 4, 512, 256)
    tensors = inputs(shape, transposed=transposed, dtype=torch.bfloat16, device="cuda")
    c = len(tensors[4])
    running = [torch.zeros(c, device="cuda"), torch.ones(c, device="cuda")]
    rng = RNG.cuda()
    case = {"act": "leaky_relu", "skip_act": "relu", "dropout_p": 0.5, "rng": rng, "groups": 2, "impl": "native"}

    def step():
        y, s = run(small_conv, tensors, case, transposed=transposed, running_mean=running[0], running_var=running[1])
        return (y, s, *torch.autograd.grad((y, s), tensors[:4], (torch.ones_like(y), torch.ones_like(s))))

    graph, captured = capture(step)
    for _ in range(5):
        with torch.no_grad():
            tensors[0].copy_(torch.randn_like(tensors[0]))
            rng[1] += 1
        start = [t.clone() for t in running]
        graph.replay()
        replayed = [t.clone() for t in (*captured, *running)]
        for _ in range(3):
            for t, before in zip(running, start, strict=True):
                t.copy_(before)
            assert all(torch.equal(a, b) for a, b in zip(replayed, (*step(), *running), strict=True))


@pytest.mark.cuda
@both_ways
def test_cuda_gradients_end_to_end(transposed):
    """Against the reference in float64 where the rounding of z and dz is small beside the sums."""
    tensors = inputs((2, 4, 4, 256, 128), transposed=transposed, dtype=torch.float16, device="cuda")
    exact = [t.detach().double().requires_grad_() for t in tensors]
    case = {"act": "elu", "skip_act": "elu", "transposed": transposed}
    got, want = run(small_conv, tensors, case, impl="native"), run(small_conv_ref, exact, case)
    grads = seeds(got)
    got = torch.autograd.grad(got, tensors[:4], grads)
    want = torch.autograd.grad(want, exact[:4], [g.double() for g in grads])
    for a, b in zip(got, want, strict=True):
        assert (a.double() - b).norm() <= 3e-3 * b.norm()


@pytest.mark.cuda
def test_cuda_auto_takes_the_kernels_where_they_fit(monkeypatch, capsys):
    x, weight, *_ = inputs((1, 4, 4, 64, 64), transposed=False, dtype=torch.bfloat16, device="cuda")
    assert small_conv(x, weight, transposed=False).grad_fn.name() == "_SmallConvBackward"
    monkeypatch.setattr("pygan.errors._said", set())
    y = small_conv(x.float(), weight.float(), transposed=False)
    assert y.dtype == torch.float32
    assert "small_conv is for bfloat16 and float16, not float32" in capsys.readouterr().err
    with pytest.raises(ValueError, match="impl='native', but small_conv is for bfloat16"):
        small_conv(x.float(), weight.float(), transposed=False, impl="native")
    # not aligned to 16 bytes
    wide = torch.randn(1, 68, 8, 8, device="cuda", dtype=torch.bfloat16).contiguous(**NHWC)
    torch.testing.assert_close(
        small_conv(wide[:, 4:], weight, transposed=False, impl="native"),
        small_conv(wide[:, 4:].clone(**NHWC), weight, transposed=False, impl="native"),
        rtol=0,
        atol=0,
    )


@pytest.mark.cuda
@both_ways
def test_cuda_opcheck(transposed):
    args = operator_inputs(transposed, torch.bfloat16, "cuda", (2, 2, 2, 64, 64))
    options = {**OPTIONS, "transposed": transposed}
    torch.library.opcheck(torch.ops.pygan.small_conv.default, args, options)
    x, weight, *_, dz, _ = args
    torch.library.opcheck(torch.ops.pygan.small_conv_dx.default, (dz, weight), {"transposed": transposed})
    torch.library.opcheck(torch.ops.pygan.small_conv_dw.default, (dz, x), {"transposed": transposed})
