"""norm_act: the native operators against the specification, the specification against torch, and every argument.

Tests marked `native` need the compiled library; the rest test the specification.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from pygan.ops import _native
from pygan.ops.joined import joined
from pygan.ops.norm_act import ACTS, NORMS, norm_act, norm_act_ref
from pygan.ops.philox import keep_mask

native = pytest.mark.skipif(not _native.available(), reason=f"needs the native library: {_native.why_missing()}")
IMPLS = [pytest.param("native", marks=native), "ref"]
DEVICES = [pytest.param("cpu", marks=native), pytest.param("cuda", marks=pytest.mark.cuda)]
RNG = torch.tensor([0x1234567890ABCDE, 5])
# (n, c, h, w): 16-byte channels; odd channels; a single value per channel; enough rows for several blocks
SHAPES = [(4, 8, 5, 3), (2, 3, 7, 5), (1, 5, 1, 1), (2, 24, 48, 40)]
CASES = [
    {},
    {"act": "leaky_relu", "skip_act": "relu"},
    {"act": "relu", "groups": 2},
    {"act": "elu", "skip_act": "none", "norm": "instance"},
    {"act": "relu", "skip_act": "elu", "norm": "none"},
    {"act": "leaky_relu", "slope": 0.01, "dropout_p": 0.4, "rng": RNG, "rng_stream": 3, "skip_act": "leaky_relu"},
    {"act": "none", "norm": "instance", "dropout_p": 0.5, "rng": RNG, "eps": 1e-3},
]


def name_of(case):
    return "-".join(str(v) for k, v in case.items() if k != "rng") or "plain"


def inputs(shape=(4, 6, 4, 3), dtype=torch.float64, device="cpu", seed=0):
    """x far from zero mean in one channel, weight, bias."""
    g = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    x = torch.randn(n, c, h, w, generator=g, dtype=torch.float64)
    x[:, -1] += 3
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = x.to(device, dtype).to(memory_format=torch.channels_last)
    weight = (1 + 0.3 * torch.randn(c, generator=g, dtype=torch.float64)).to(device, wide)
    bias = (0.5 * torch.randn(c, generator=g, dtype=torch.float64)).to(device, wide)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


def gradients(result, sources, seed=1):
    g = torch.Generator().manual_seed(seed)
    grads = [torch.randn(y.shape, generator=g, dtype=torch.float64).to(y) for y in outputs(result)]
    return torch.autograd.grad(outputs(result), sources, grads)


def fits(case, shape):
    return shape[0] % case.get("groups", 1) == 0


# --- values and gradients ---------------------------------------------------------------------------------------------


@native
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_native_equals_reference(case, shape, dtype):
    """Against the specification in float64 on the same (rounded) inputs."""
    if not fits(case, shape):
        pytest.skip("the groups do not divide this batch")
    sources = inputs(shape, dtype)
    exact = [t.detach().double().requires_grad_() for t in sources]
    got, want = norm_act(*sources, impl="native", **case), norm_act_ref(*exact, **case)
    values = zip(outputs(got), outputs(want), strict=True)
    grads = zip(gradients(got, sources), gradients(want, exact), strict=True)
    # float32 sums of up to 3840 values; bfloat16 rounds what goes in and comes out, at 8 bits
    rtol, atol = {torch.float64: (1e-10, 1e-10), torch.float32: (2e-5, 2e-5), torch.bfloat16: (1e-2, 1e-2)}[dtype]
    for a, b in values:
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol)
    for a, b in grads:
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a.double() / scale, b / scale, rtol=rtol, atol=atol)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_gradcheck_twice(case, impl):
    sources = inputs((2, 3, 3, 2))

    def f(x, weight, bias):
        return norm_act(x, weight, bias, impl=impl, **case)

    assert gradcheck(f, sources)
    assert gradgradcheck(f, sources)


@native
@pytest.mark.parametrize("missing", ["x", "weight", "bias", "affine"])
def test_gradcheck_of_a_part(missing):
    """Whatever does not require grad, or is absent, leaves the other gradients right."""
    x, weight, bias = inputs((2, 3, 3, 2))
    sources = {"x": x, "weight": weight, "bias": bias}
    constants = dict.fromkeys(("weight", "bias")) if missing == "affine" else {missing: sources[missing].detach()}
    for name in constants:
        del sources[name]

    def f(*tensors):
        named = dict(zip(sources, tensors, strict=True)) | constants
        return norm_act(named["x"], named["weight"], named["bias"], act="elu", skip_act="leaky_relu", impl="native")

    assert gradcheck(f, tuple(sources.values()))
    assert gradgradcheck(f, tuple(sources.values()))


@native
def test_third_derivative():
    sources = inputs((2, 2, 2, 2))

    def thrice(impl):
        y = norm_act(*sources, act="elu", impl=impl)
        (dx,) = torch.autograd.grad(y.pow(2).sum(), sources[:1], create_graph=True)
        (ddx,) = torch.autograd.grad(dx.pow(2).sum(), sources[:1], create_graph=True)
        return torch.autograd.grad(ddx.pow(2).sum(), sources)

    for a, b in zip(thrice("native"), thrice("ref"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("used", [0, 1])
def test_one_output_without_gradient(used, impl):
    """The gradient of y alone and of s alone, where the other never reaches a loss."""
    sources = inputs()
    case = {"act": "leaky_relu", "skip_act": "relu"}
    y = norm_act(*sources, impl=impl, **case)[used]
    want = norm_act_ref(*sources, act=("leaky_relu", "relu")[used])
    for a, b in zip(gradients(y, sources), gradients(want, sources), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@native
def test_gradient_of_any_layout():
    """The gradient of a sum is one number broadcast; that of an NCHW consumer is contiguous."""
    sources = inputs()
    want = gradients(norm_act_ref(*sources, act="elu"), sources)
    y = norm_act(*sources, act="elu", impl="native")
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).contiguous()
    for a, b in zip(torch.autograd.grad(y, sources, g, retain_graph=True), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    ones = torch.autograd.grad(y, sources, torch.ones_like(y), retain_graph=True)
    for a, b in zip(torch.autograd.grad(y.sum(), sources), ones, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_reference_is_torch():
    """The specification itself against torch's BatchNorm, InstanceNorm and activations."""
    x, weight, bias = inputs()
    batch = F.batch_norm(x, None, None, weight, bias, training=True, eps=1e-3)
    y, s = norm_act_ref(x, weight, bias, eps=1e-3, act="leaky_relu", slope=0.1, skip_act="relu")
    torch.testing.assert_close(y, F.leaky_relu(batch, 0.1))
    torch.testing.assert_close(s, F.relu(batch))
    torch.testing.assert_close(
        norm_act_ref(x, weight, bias, norm="instance", act="elu"),
        F.elu(F.instance_norm(x, None, None, weight, bias)),
    )
    affine = x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    torch.testing.assert_close(norm_act_ref(x, weight, bias, norm="none"), affine)
    assert torch.equal(norm_act_ref(x, norm="none", act="relu"), F.relu(x))


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6, 16, 4, 4), (6, 5, 20, 30)])
def test_groups_are_separate_calls(impl, dtype, shape):
    """Bit for bit: values, running statistics, dx; the parameter gradients are the sums over the calls."""
    x, weight, bias = inputs(shape, dtype)
    running = [torch.zeros(shape[1]), torch.ones(shape[1])]
    apart = [t.clone() for t in running]
    options = {"act": "leaky_relu", "skip_act": "relu", "impl": impl}
    together = norm_act(x, weight, bias, groups=3, running_mean=running[0], running_var=running[1], **options)
    calls = [norm_act(p, weight, bias, running_mean=apart[0], running_var=apart[1], **options) for p in x.chunk(3)]
    for a, parts in zip(together, zip(*calls, strict=True), strict=True):
        assert torch.equal(a, torch.cat(parts))
    assert torch.equal(running[0], apart[0])
    assert torch.equal(running[1], apart[1])
    dx, dweight, dbias = torch.autograd.grad(together[0].float().square().sum(), (x, weight, bias))
    separate = [torch.autograd.grad(y.float().square().sum(), (x, weight, bias)) for y, _ in calls]
    assert torch.equal(dx, sum(d[0] for d in separate))
    torch.testing.assert_close(dweight, sum(d[1] for d in separate))
    torch.testing.assert_close(dbias, sum(d[2] for d in separate))


@pytest.mark.parametrize("impl", IMPLS)
def test_instance_norm_is_batch_norm_of_each_sample(impl):
    sources = inputs()
    instance = norm_act(*sources, norm="instance", act="relu", impl=impl)
    grouped = norm_act(*sources, norm="batch", groups=4, act="relu", impl=impl)
    torch.testing.assert_close(instance, grouped, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(instance, sources), gradients(grouped, sources), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("momentum", [0.1, 0.01, 1.0], ids=["torch", "keras", "last"])
def test_running_statistics_are_those_of_batchnorm2d(impl, momentum):
    x, weight, bias = inputs(dtype=torch.float32)
    torch_norm = torch.nn.BatchNorm2d(6, eps=1e-3, momentum=momentum)
    running = {"running_mean": torch.zeros(6), "running_var": torch.ones(6)}
    options = {"eps": 1e-3, "momentum": momentum, "impl": impl, **running}
    for step in range(3):
        norm_act(x + step, weight, bias, **options)
        torch_norm(x + step)
    torch.testing.assert_close(running["running_mean"], torch_norm.running_mean)
    torch.testing.assert_close(running["running_var"], torch_norm.running_var)

    before = [t.clone() for t in running.values()]
    y = norm_act(x, weight, bias, act="relu", use_running=True, **options)
    want = F.relu(F.batch_norm(x, *before, weight, bias, training=False, eps=1e-3))
    torch.testing.assert_close(y, want)
    assert all(torch.equal(a, b) for a, b in zip(before, running.values(), strict=True))


@native
def test_gradients_with_running_statistics():
    sources = inputs()
    running = {"running_mean": torch.randn(6).double(), "running_var": torch.rand(6).double() + 0.5}

    def f(x, weight, bias):
        return norm_act(x, weight, bias, act="leaky_relu", use_running=True, impl="native", **running)

    assert gradcheck(f, sources)
    assert gradgradcheck(f, sources)


@pytest.mark.parametrize("impl", IMPLS)
def test_one_value_per_channel(impl):
    """BatchNorm of a 1x1 map at batch 1: variance 0, so y = act(bias), dx = 0, and nothing is NaN."""
    x, weight, bias = inputs((1, 16, 1, 1), torch.float32)
    running = [torch.zeros(16), torch.ones(16)]
    y = norm_act(x, weight, bias, act="relu", running_mean=running[0], running_var=running[1], impl=impl)
    assert torch.equal(y.flatten(), bias.relu())
    dx, dweight, _ = gradients(y, (x, weight, bias))
    assert torch.equal(dx, torch.zeros_like(dx))
    assert torch.equal(dweight, torch.zeros_like(dweight))
    torch.testing.assert_close(running[0], 0.1 * x.detach().flatten())
    torch.testing.assert_close(running[1], torch.full((16,), 0.9))


@native
def test_large_mean_keeps_its_precision():
    """Mean 1000, spread 1: sums of x^2 in float32 would lose the variance."""
    x = (torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0)) + 1000).to(
        memory_format=torch.channels_last
    )
    torch.testing.assert_close(norm_act(x, impl="native").double(), norm_act_ref(x.double()), rtol=1e-4, atol=1e-4)


@native
def test_any_number_of_threads_gives_the_same_bits():
    x, weight, bias = inputs((2, 64, 48, 48), torch.float32)
    before = torch.get_num_threads()

    def once(threads):
        torch.set_num_threads(threads)
        y = norm_act(x, weight, bias, act="relu", impl="native")
        return (y, *gradients(y, (x, weight, bias)))

    try:
        assert all(torch.equal(a, b) for a, b in zip(once(1), once(3), strict=True))
    finally:
        torch.set_num_threads(before)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(2, 16, 5, 3), (3, 5, 7, 3)])
def test_dropout_mask(impl, shape):
    """Dropped exactly where keep_mask says; what is kept is divided by 1 - p; backward draws the same mask."""
    p, stream = 0.3, 4
    x = torch.rand(shape).add_(1).to(memory_format=torch.channels_last).requires_grad_()
    y = norm_act(x, norm="none", dropout_p=p, rng=RNG, rng_stream=stream, impl=impl)
    keep = keep_mask(shape, p, RNG, stream)
    assert torch.equal(y != 0, keep)
    torch.testing.assert_close(y[keep], x[keep] / (1 - p))
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, keep / (1 - p))


@native
def test_dropout_differs_between_layers_and_steps():
    x = torch.ones(1, 64, 8, 8).to(memory_format=torch.channels_last)
    draws = [
        norm_act(x, norm="none", dropout_p=0.5, rng=torch.tensor([1, offset]), rng_stream=stream, impl="native")
        for offset, stream in itertools.product(range(3), range(3))
    ]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(draws, 2))
    assert abs(torch.cat(draws).ne(0).double().mean() - 0.5) < 4 * 0.5 / (9 * 4096) ** 0.5


@native
def test_rng_must_not_move_before_backward():
    rng = RNG.clone()
    x = torch.ones(1, 4, 2, 2).to(memory_format=torch.channels_last).requires_grad_()
    y = norm_act(x, norm="none", dropout_p=0.5, rng=rng, impl="native")
    rng[1] += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("c", [8, 3])
def test_slices_are_written_and_nothing_else(impl, c):
    x, weight, bias = inputs((2, c, 4, 5), torch.float32)
    first, second = (torch.full((2, 3 * c, 4, 5), 7.0).to(memory_format=torch.channels_last) for _ in range(2))
    out, skip_out = first[:, c : 2 * c], second[:, 2 * c :]
    case = {"act": "leaky_relu", "skip_act": "relu", "impl": impl}
    y, s = norm_act(x, weight, bias, out=out, skip_out=skip_out, **case)
    want = norm_act(x, weight, bias, **case)
    assert y.data_ptr() == out.data_ptr()
    assert s.data_ptr() == skip_out.data_ptr()
    assert torch.equal(y, want[0])
    assert torch.equal(s, want[1])
    assert torch.equal(first[:, c : 2 * c], want[0])
    assert (first[:, :c] == 7).all()
    assert (first[:, 2 * c :] == 7).all()
    assert (second[:, : 2 * c] == 7).all()
    for a, b in zip(gradients((y, s), (x, weight, bias)), gradients(want, (x, weight, bias)), strict=True):
        assert torch.equal(a, b)


@native
def test_input_and_gradient_slices():
    """x read from a slice, and dy arriving as one from a concatenation."""
    buffer = torch.randn(2, 20, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    x = buffer[:, 4:12]
    y = norm_act(x, act="relu", impl="native")
    assert torch.equal(y, norm_act(x.contiguous(memory_format=torch.channels_last), act="relu", impl="native"))
    weights = torch.randn(2, 10, 4, 4)
    (got,) = torch.autograd.grad((torch.cat((y, x[:, :2]), 1) * weights).sum(), buffer)
    want = torch.cat((norm_act_ref(x, act="relu"), x[:, :2]), 1)
    torch.testing.assert_close(got, torch.autograd.grad((want * weights).sum(), buffer)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_concat_buffer_in_a_small_unet(impl):
    """Encoder writes its skip, decoder its head, the next layer reads both: same numbers as copies and torch.cat."""
    x, weight, bias = inputs((2, 6, 4, 4))
    kernel = torch.randn(6, 6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def net(in_place):
        buffer = torch.empty(2, 12, 4, 4, dtype=x.dtype).to(memory_format=torch.channels_last) if in_place else None
        slots = {"skip_out": buffer[:, 6:]} if in_place else {}
        y, s = norm_act(x, weight, bias, act="leaky_relu", skip_act="relu", impl=impl, **slots)
        y = F.conv2d(y, kernel, padding=1)
        y = norm_act(y, act="relu", impl=impl, out=buffer[:, :6] if in_place else None)
        both = joined(y, s, buffer)
        assert not in_place or both.data_ptr() == buffer.data_ptr()
        return both

    plain, free = net(in_place=False), net(in_place=True)
    assert torch.equal(plain, free)
    for a, b in zip(*(gradients(y, (x, weight, bias)) for y in (plain, free)), strict=True):
        assert torch.equal(a, b)


@native
def test_overwriting_what_backward_needs_is_an_error():
    buffer = torch.empty(1, 4, 3, 3).to(memory_format=torch.channels_last)
    x = torch.randn(1, 4, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    square = norm_act(x, out=buffer, impl="native") ** 2  # keeps y for backward
    norm_act(x, out=buffer, impl="native")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.sum().backward()


@pytest.mark.parametrize("impl", IMPLS)
def test_inference_mode(impl):
    x, weight, bias = inputs(dtype=torch.float32)
    want = norm_act(x, weight, bias, act="relu", impl=impl)
    with torch.inference_mode():
        buffer = torch.zeros(4, 12, 4, 3).to(memory_format=torch.channels_last)
        y = norm_act(x, weight, bias, act="relu", out=buffer[:, :6], impl=impl)
        both = joined(y, buffer[:, 6:], buffer)
    assert torch.equal(both[:, :6], want)
    assert both.data_ptr() == buffer.data_ptr()


# --- residual and padding ---------------------------------------------------------------------------------------------

# What each case has beside x; pads up to the whole map less one pixel, masks with and without the residual.
SPATIAL = [
    {"pad": 1, "norm": "instance", "act": "relu"},
    {"pad": 1, "norm": "instance", "residual": True, "skip_act": "none"},
    {"norm": "instance", "residual": True},
    {"pad": 2, "residual": True, "act": "leaky_relu", "skip_act": "leaky_relu", "groups": 2},
    {"pad": 3, "residual": True, "act": "relu", "skip_act": "elu", "dropout_p": 0.4, "rng": RNG, "rng_stream": 1},
    {"pad": 3, "norm": "none", "act": "elu"},
    {"norm": "none", "residual": True, "act": "relu", "skip_act": "leaky_relu"},
]
# (n, c, h, w): the smallest map that takes pad 3; 16-byte channels; enough rows for several blocks
SPATIAL_SHAPES = [(2, 3, 4, 4), (4, 8, 5, 9), (2, 24, 40, 33)]


def reflect(t, pad):
    return F.pad(t, (pad,) * 4, mode="reflect") if pad > 0 else t


def laid(t, layout):
    """The same numbers as the interior of a larger map, as a slice of channels, or packed."""
    n, c, h, w = t.shape
    if layout == "packed":
        return t.contiguous(memory_format=torch.channels_last)
    room = (n, c, h + 4, w + 2) if layout == "interior" else (n, 3 * c, h, w)
    whole = torch.full(room, float("nan"), dtype=t.dtype, device=t.device).to(memory_format=torch.channels_last)
    view = whole[:, :, 2:-2, 1:-1] if layout == "interior" else whole[:, c : 2 * c]
    return view.copy_(t)


def spatial_inputs(case, shape, dtype=torch.float64, device="cpu", layout="packed"):
    """x, weight, bias and, where the case has one, residual in the given layout; and the options."""
    sources = list(inputs(shape, dtype, device))
    options = {k: v.to(device) if k == "rng" else v for k, v in case.items() if k != "residual"}
    if case.get("residual"):
        g = torch.Generator().manual_seed(7)
        residual = torch.randn(shape, generator=g, dtype=torch.float64).to(device, dtype)
        sources.append(laid(residual, layout).requires_grad_())
    return sources, options


def spatial(sources, options, **more):
    x, weight, bias, *residual = sources
    return norm_act(x, weight, bias, residual=residual[0] if residual else None, **options, **more)


@pytest.mark.parametrize("case", SPATIAL, ids=name_of)
def test_spatial_reference_is_torch(case):
    """Sum and F.pad around the same call without them."""
    sources, options = spatial_inputs(case, (2, 3, 4, 6))
    x, weight, bias, *residual = sources
    acts = {"act": options.pop("act", "none"), "skip_act": options.pop("skip_act", None)}
    pad = options.pop("pad", 0)
    u = sum(residual, norm_act_ref(x, weight, bias, **options))
    want = [reflect(norm_act_ref(u, norm="none", act=acts["act"]), pad)]
    if acts["skip_act"]:
        want.append(norm_act_ref(u, norm="none", act=acts["skip_act"]))
    got = spatial(sources, options, **acts, pad=pad, impl="ref")
    for a, b in zip(outputs(got), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(got, sources), gradients(tuple(want), sources), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@native
@pytest.mark.parametrize("shape", SPATIAL_SHAPES)
@pytest.mark.parametrize("case", SPATIAL, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["packed", "interior", "slice"])
def test_spatial_native_equals_reference(case, shape, dtype, layout):
    sources, options = spatial_inputs(case, shape, dtype, layout=layout)
    exact = [t.detach().double().requires_grad_() for t in sources]
    got, want = spatial(sources, options, impl="native"), spatial(exact, options, impl="ref")
    rtol, atol = {torch.float64: (1e-10, 1e-10), torch.float32: (2e-5, 2e-5), torch.bfloat16: (1e-2, 1e-2)}[dtype]
    for a, b in zip(outputs(got), outputs(want), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol)
    for a, b in zip(gradients(got, sources), gradients(want, exact), strict=True):
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a.double() / scale, b / scale, rtol=rtol, atol=atol)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", SPATIAL, ids=name_of)
def test_spatial_gradcheck_twice(case, impl):
    sources, options = spatial_inputs(case, (2, 2, 4, 5) if case.get("pad", 0) > 2 else (2, 2, 3, 4))

    def f(*sources):
        return spatial(sources, options, impl=impl)

    assert gradcheck(f, tuple(sources))
    assert gradgradcheck(f, tuple(sources))


@native
@pytest.mark.parametrize("act", ["none", "relu"])
def test_spatial_gradcheck_of_a_part(act):
    """The residual alone, and everything but the residual."""
    x, weight, bias = inputs((2, 2, 3, 4))
    residual = torch.randn_like(x).detach().requires_grad_()

    def of_residual(residual):
        return norm_act(x.detach(), residual=residual, pad=1, act=act, impl="native")

    def of_others(x, weight, bias):
        return norm_act(x, weight, bias, residual=residual.detach(), act=act, pad=1, impl="native")

    for f, sources in ((of_residual, (residual,)), (of_others, (x, weight, bias))):
        assert gradcheck(f, sources)
        assert gradgradcheck(f, sources)


@pytest.mark.parametrize("impl", IMPLS)
def test_s_is_the_interior_of_y(impl):
    """Where both are the same numbers they are the same memory, with gradients of their own."""
    sources = inputs((2, 8, 5, 4))
    case = {"norm": "instance", "act": "relu", "skip_act": "relu", "pad": 2}
    y, s = norm_act(*sources, **case, impl=impl)
    interior = y[:, :, 2:-2, 2:-2]
    assert (s.data_ptr(), s.stride(), s.shape) == (interior.data_ptr(), interior.stride(), sources[0].shape)
    buffer = torch.full((2, 16, 5, 4), 7.0, dtype=torch.float64).to(memory_format=torch.channels_last)
    _, own = norm_act(*sources, **case, skip_out=buffer[:, 8:], impl=impl)
    assert own.data_ptr() == buffer[:, 8:].data_ptr()
    assert torch.equal(own, s)
    assert (buffer[:, :8] == 7).all()
    _, other = norm_act(*sources, **case | {"skip_act": "leaky_relu"}, impl=impl)
    assert other.untyped_storage().data_ptr() != y.untyped_storage().data_ptr()
    for used, pad in ((0, 2), (1, 0)):
        got = gradients(norm_act(*sources, **case, impl=impl)[used], sources)
        want = gradients(reflect(norm_act_ref(*sources, norm="instance", act="relu"), pad), sources)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_blocks_of_a_resnet(impl):
    """conv, norm, relu, conv, norm, sum, twice: padding is stored by the op in front, the sum read from inside it."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 7, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    kernels = [torch.randn(8, 8, 3, 3, dtype=torch.float64).mul(0.1).requires_grad_() for _ in range(4)]

    def plain():
        s = F.relu(F.instance_norm(x))
        for k in range(0, 4, 2):
            z = F.relu(F.instance_norm(F.conv2d(reflect(s, 1), kernels[k])))
            s = s + F.instance_norm(F.conv2d(reflect(z, 1), kernels[k + 1]))
        return s

    def ours():
        common = {"norm": "instance", "impl": impl}
        y, s = norm_act(x, act="relu", skip_act="relu", pad=1, **common)
        for k in range(0, 4, 2):
            z = norm_act(F.conv2d(y, kernels[k]), act="relu", pad=1, **common)
            last = k == 2
            out = norm_act(F.conv2d(z, kernels[k + 1]), residual=s, **common, pad=0 if last else 1,
                           skip_act=None if last else "none")  # fmt: skip
            y, s = (None, out) if last else out
        return s

    torch.testing.assert_close(ours(), plain(), rtol=1e-10, atol=1e-10)
    sources = (x, *kernels)
    for a, b in zip(gradients(ours(), sources), gradients(plain(), sources), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 8, 6, 5), (2, 5, 7, 4), (2, 16, 32, 32)])
def test_layout_does_not_change_a_bit(shape, dtype, device):
    """x, dy and ds inside larger maps, a padded store and a residual of zeros: the numbers of the packed call."""
    sources = inputs(shape, dtype, device)
    case = {"groups": 2, "act": "leaky_relu", "skip_act": "relu", "impl": "native"}
    grads = [torch.randn(shape, device=device).to(dtype) for _ in range(2)]
    y, s = norm_act(*sources, **case)
    want = (y, s, *torch.autograd.grad((y, s), sources, [laid(g, "packed") for g in grads]))
    for layout in ("interior", "slice"):
        x = laid(sources[0].detach(), layout).requires_grad_()
        y, s = norm_act(x, *sources[1:], **case)
        got = (y, s, *torch.autograd.grad((y, s), (x, *sources[1:]), [laid(g, layout) for g in grads]))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    y, s = norm_act(*sources, residual=torch.zeros_like(sources[0]), pad=1, **case)
    assert torch.equal(s, want[1])
    assert torch.equal(y, reflect(want[0], 1))
    inside = laid(F.pad(grads[0], (1,) * 4), "packed")  # nothing comes back from the reflections
    assert all(
        torch.equal(a, b)
        for a, b in zip(torch.autograd.grad((y, s), sources, (inside, laid(grads[1], "packed"))), want[2:], strict=True)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pad", [1, 2, 3])
def test_folded_gradient_is_rounded_once(pad, device):
    """A corner of a map of pad + 1 pixels collects up to nine gradients: added in float32, then rounded to bfloat16."""
    side = pad + 1
    x = torch.zeros(1, 8, side, side, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    x.requires_grad_()
    y = norm_act(x, norm="none", pad=pad, impl="native")
    dy = laid(torch.rand(y.shape, device=device).add_(1).bfloat16(), "packed")
    exact = x.detach().double().requires_grad_()
    (want,) = torch.autograd.grad(reflect(exact, pad), exact, dy.double())
    assert torch.equal(torch.autograd.grad(y, x, dy)[0], want.float().bfloat16())


@native
def test_residual_without_channels_side_by_side_is_refused(monkeypatch, capsys):
    x = inputs((2, 3, 4, 4), torch.float32)[0].detach()
    monkeypatch.setattr("pygan.errors._said", set())
    residual = torch.randn(2, 3, 4, 4)
    y = norm_act(x, residual=residual, norm="none")
    assert torch.equal(y, x + residual)
    assert capsys.readouterr().err.count("residual is not channels_last") == 1
    with pytest.raises(ValueError, match="impl='native', but residual is not channels_last"):
        norm_act(x, residual=residual, impl="native")


# --- special numbers and modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("norm", NORMS)
def test_nan_stays_visible(impl, act, norm):
    x = torch.randn(2, 8, 3, 3).to(memory_format=torch.channels_last)
    x[1, 2, 1, 1] = float("nan")
    y, s = norm_act(x, norm=norm, act=act, skip_act=act, impl=impl)
    nan = torch.zeros(2, 8, dtype=torch.bool)
    nan[1 if norm != "batch" else slice(None), 2] = True
    for out in (y, s):
        assert torch.equal(out.isnan().flatten(2).any(2), nan)
        assert out[1, 2, 1, 1].isnan()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_infinity_and_zero_are_those_of_torch(impl, act, dtype):
    numbers = [float("inf"), -float("inf"), 0.0, -0.0, -1e-30, 3.3895e38]
    x = torch.tensor(numbers).view(1, 6, 1, 1).to(dtype).requires_grad_()
    y = norm_act(x, norm="none", act=act, impl=impl)
    want = {"none": lambda x: x, "relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2), "elu": F.elu}[act](x)
    torch.testing.assert_close(y, want)
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, torch.autograd.grad((want + 0).sum(), x)[0])


@pytest.mark.parametrize("impl", IMPLS)
def test_under_autocast(impl):
    """A bfloat16 x from a convolution beside float32 parameters, inside and outside autocast alike."""
    x, weight, bias = inputs(dtype=torch.bfloat16)
    want = norm_act(x, weight, bias, act="relu", impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm_act(x, weight, bias, act="relu", impl=impl)
        grads = gradients(y, (x, weight, bias))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, want)
    for a, b in zip(grads, gradients(want, (x, weight, bias)), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@native
def test_auto_is_native_here_and_falls_back_aloud(monkeypatch, capsys):
    x, weight, bias = inputs(dtype=torch.float32)
    assert norm_act(x, weight, bias).grad_fn.name() == "_NormActBackward"
    monkeypatch.setattr("pygan.errors._said", set())
    contiguous = x.detach().contiguous()
    for _ in range(2):
        y = norm_act(contiguous, weight, bias)
    assert capsys.readouterr().err.count("x is not channels_last") == 1
    torch.testing.assert_close(y, norm_act(x, weight, bias), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="impl='native', but x is not channels_last"):
        norm_act(contiguous, impl="native")
    with pytest.raises(ValueError, match=r"no cpu kernel for torch\.float16"):
        norm_act(x.half(), impl="native")


# --- the operators themselves -----------------------------------------------------------------------------------------

OPTIONS = {
    "norm": "batch", "groups": 2, "eps": 1e-5, "act": "leaky_relu", "skip_act": "relu", "slope": 0.2,
    "dropout_p": 0.25, "rng_stream": 1, "use_running": False, "pad": 2,
}  # fmt: skip


def operator_inputs(dtype=torch.float32, device="cpu"):
    x, weight, bias = (t.detach() for t in inputs(dtype=dtype, device=device))
    y, s = (
        torch.zeros(4, 6, 4 + 2 * pad, 3 + 2 * pad, dtype=dtype, device=device).to(memory_format=torch.channels_last)
        for pad in (OPTIONS["pad"], 0)
    )
    residual = torch.randn_like(x)
    running = torch.zeros_like(weight), torch.ones_like(weight)
    return x, weight, bias, RNG.to(device), *running, y, s, residual


@native
@pytest.mark.parametrize("optional", ["all", "none"])
def test_opcheck_forward(optional):
    args = operator_inputs()
    x, s = args[0], args[-2]
    options = OPTIONS | {"momentum": 0.1}
    if optional == "none":
        args = (x, None, None, None, None, None, s, None, None)
        options |= {"skip_act": None, "dropout_p": 0.0, "norm": "none", "groups": 1, "pad": 0}
    torch.library.opcheck(torch.ops.pygan.norm_act.default, args, options)


@native
@pytest.mark.parametrize("optional", ["all", "none"])
def test_opcheck_backward(optional):
    x, weight, bias, rng, _, _, y, s, residual = operator_inputs()
    mean, rstd = torch.ops.pygan.norm_act(x, weight, bias, rng, None, None, y, s, residual, **OPTIONS, momentum=0.1)
    dy, ds = torch.randn_like(y), torch.randn_like(s)
    options = OPTIONS | {"need_dx": True, "need_dresidual": True}
    args = [dy, ds, x, weight, bias, mean, rstd, rng, residual]
    if optional == "none":
        args = [ds, None, x, None, None, mean[:0], rstd[:0], None, None]
        options |= {"skip_act": None, "dropout_p": 0.0, "norm": "none", "groups": 1, "pad": 0}
        options |= {"need_dresidual": False}
    for t in (*args[:5], args[-1]):
        if t is not None:
            t.requires_grad_()
    torch.library.opcheck(torch.ops.pygan.norm_act_backward.default, tuple(args), options)


# --- bad arguments ----------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 4, 4)
BAD = [
    (TypeError, "x must be a tensor, got list", {"x": [1.0]}),
    (ValueError, r"x must have shape \(n, c, h, w\)", {"x": torch.zeros(2, 3)}),
    (ValueError, "not be empty", {"x": torch.zeros(0, 3, 4, 4)}),
    (TypeError, "x must be float32", {"x": torch.zeros(2, 3, 4, 4, dtype=torch.int32)}),
    (ValueError, "norm must be one of", {"norm": "layer"}),
    (ValueError, "act must be one of", {"act": "tanh"}),
    (ValueError, "skip_act must be None or one of", {"skip_act": "tanh"}),
    (ValueError, "impl must be one of", {"impl": "cuda"}),
    (ValueError, "groups must divide the batch of 2, got 3", {"groups": 3}),
    (ValueError, "groups must divide the batch of 2, got 0", {"groups": 0}),
    (ValueError, "groups = 2 is for norm 'batch'", {"groups": 2, "norm": "instance"}),
    (ValueError, "eps must be at least 0", {"eps": -1e-5}),
    (ValueError, r"dropout_p must lie in \[0, 1\), got 1", {"dropout_p": 1.0}),
    (ValueError, "momentum .* must lie in", {"momentum": 1.5}),
    (TypeError, "weight must be a tensor or None, got float", {"weight": 1.0}),
    (ValueError, r"bias must have shape \(x.size\(1\),\) = \[3\], got \[4\]", {"bias": torch.zeros(4)}),
    (TypeError, "weight must be torch.float32 beside an x of torch.float32", {"weight": torch.zeros(3).double()}),
    (ValueError, "weight must be on the device of x, cpu, got meta", {"weight": torch.zeros(3, device="meta")}),
    (ValueError, "bias must be contiguous", {"bias": torch.zeros(6)[::2]}),
    (ValueError, "running_mean and running_var come together", {"running_mean": torch.zeros(3)}),
    (
        ValueError,
        "running statistics are for norm 'batch'",
        {"norm": "instance", "running_mean": torch.zeros(3), "running_var": torch.zeros(3)},
    ),
    (ValueError, "use_running needs", {"use_running": True}),
    (TypeError, "dropout_p > 0 needs rng", {"dropout_p": 0.5}),
    (ValueError, "rng must be int64 of shape", {"dropout_p": 0.5, "rng": torch.zeros(2)}),
    (ValueError, "skip_out is given, but no skip_act", {"skip_out": torch.zeros(2, 3, 4, 4)}),
    (ValueError, "pad must be a whole number from 0 to 3, got 4", {"pad": 4}),
    (ValueError, "pad must be a whole number from 0 to 3, got 0.5", {"pad": 0.5}),
    (ValueError, "reflection by pad = 3 needs more than 3 rows", {"x": torch.zeros(2, 3, 3, 9), "pad": 3}),
    (ValueError, "out is for pad 0", {"pad": 1, "out": X}),
    (TypeError, "residual must be a tensor or None", {"residual": 1.0}),
    (
        ValueError,
        r"residual must be like x, .* got torch.float32 \[2, 3, 4, 5\]",
        {"residual": torch.zeros(2, 3, 4, 5)},
    ),
    (ValueError, "residual must be like x", {"residual": X.bfloat16()}),
    (ValueError, r"out must be like x, .* got torch.float32 \[2, 3, 4, 5\]", {"out": torch.zeros(2, 3, 4, 5)}),
    (ValueError, "out must be like x", {"out": torch.zeros(2, 3, 4, 4).bfloat16()}),
    (ValueError, "out must be channels_last", {"out": torch.zeros(2, 3, 4, 4)}),
    (TypeError, "out must be a tensor or None", {"out": 3}),
    (
        ValueError,
        "out is overwritten and must not require grad",
        {"out": X.to(memory_format=torch.channels_last).requires_grad_()},
    ),
]


@pytest.mark.parametrize(("kind", "message", "change"), BAD)
def test_bad_arguments_by_name(kind, message, change):
    arguments = {"x": X, **change}
    with pytest.raises(kind, match="norm_act: .*" + message):
        norm_act(arguments.pop("x"), **arguments)


@native
@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("weight must have shape", {"weight": torch.zeros(5)}),
        ("weight has the wrong dtype", {"weight": torch.zeros(6).double()}),
        ("x must be channels_last", {"x": torch.zeros(4, 6, 4, 3)}),
        ("y must have the shape of x", {"y": torch.zeros(4, 6, 4, 3)}),
        ("y must be channels_last", {"y": torch.zeros(4, 6, 8, 7)}),
        ("y must be channels_last", {"y": torch.zeros(4, 6, 9, 9).to(memory_format=torch.channels_last)[..., :8, :7]}),
        ("residual must have the shape of x", {"residual": torch.zeros(4, 6, 4, 4)}),
        ("residual must have the dtype of x", {"residual": torch.zeros(4, 6, 4, 3).double()}),
        ("residual must be channels_last", {"residual": torch.zeros(4, 6, 4, 3)}),
        (
            "residual must be channels_last",
            {"residual": torch.zeros(4, 6, 1, 3).to(memory_format=torch.channels_last).expand(-1, -1, 4, -1)},
        ),
        ("reflection by pad = 3 needs more than 3", {"pad": 3}),
        ("reflection by pad = -1", {"pad": -1}),
        ("groups = 3 must divide", {"groups": 3}),
        ("norm must be batch, instance or none", {"norm": "layer"}),
        ("act must be none, relu, leaky_relu or elu", {"act": "tanh"}),
        ("dropout needs rng", {"rng": None}),
        ("s and skip_act come together", {"s": None}),
        ("running_mean and running_var come together", {"running_var": None}),
    ],
)
def test_the_operator_checks_too(message, change):
    """The raw operator is callable by anyone: it must refuse, never read out of bounds."""
    names = ("x", "weight", "bias", "rng", "running_mean", "running_var", "y", "s", "residual")
    arguments = dict(zip(names, operator_inputs(), strict=True)) | OPTIONS | {"momentum": 0.1} | change
    tensors = [arguments.pop(name) for name in names]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.pygan.norm_act(*tensors, **arguments)


# --- on a GPU ---------------------------------------------------------------------------------------------------------

CUDA_SHAPES = [(4, 64, 16, 16), (2, 64, 64, 64), (2, 6, 30, 29), (1, 512, 1, 1), (2, 136, 33, 31)]


@pytest.mark.cuda
@pytest.mark.parametrize("shape", CUDA_SHAPES)
@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_against_float64(case, shape, dtype):
    """Against the specification in float64 on the same inputs, from poisoned outputs."""
    if not fits(case, shape):
        pytest.skip("the groups do not divide this batch")
    assert _native.has_cuda_kernels(), "a machine with a GPU must have the CUDA kernels"
    sources = inputs(shape, dtype, "cuda")
    exact = [t.detach().double().requires_grad_() for t in sources]
    case = case | {"rng": RNG.cuda()} if "rng" in case else case
    slots = {"out": torch.full_like(sources[0].detach(), float("nan"))}
    if "skip_act" in case:
        slots["skip_out"] = torch.full_like(sources[0].detach(), float("nan"))
    got, want = norm_act(*sources, impl="native", **case, **slots), norm_act_ref(*exact, **case)
    rtol, atol = {torch.float32: (5e-5, 5e-5), torch.bfloat16: (1e-2, 1e-2), torch.float16: (2e-3, 2e-3)}[dtype]
    for a, b in zip(outputs(got), outputs(want), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol)
    # where z is 0 but for rounding, float32 may stand on the other side of an activation's kink: no gradient there
    z = norm_act_ref(*exact, **case | {"act": "none", "skip_act": None}).detach()
    bent = (z != 0) & (z.abs() < 1e-5)
    grads = [torch.randn(shape, dtype=torch.float64, device="cuda").to(dtype) for _ in outputs(got)]
    grads = [grad.masked_fill(bent, 0) for grad in grads]
    got = torch.autograd.grad(outputs(got), sources, grads)
    want = torch.autograd.grad(outputs(want), exact, [g.double() for g in grads])
    for a, b in zip(got, want, strict=True):
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a.double() / scale, b / scale, rtol=rtol, atol=atol)


@pytest.mark.cuda
@pytest.mark.parametrize("c", [64, 5])
def test_cuda_slices_groups_and_running_statistics(c):
    x, weight, bias = inputs((4, c, 40, 40), torch.float32, "cuda")
    buffer = torch.full((4, 3 * c, 40, 40), 7.0, device="cuda").to(memory_format=torch.channels_last)
    running, apart = ([torch.zeros(c, device="cuda"), torch.ones(c, device="cuda")] for _ in range(2))
    case = {"act": "leaky_relu", "impl": "native"}
    y = norm_act(x, weight, bias, groups=2, running_mean=running[0], running_var=running[1],
                 out=buffer[:, c : 2 * c], **case)  # fmt: skip
    calls = [norm_act(p, weight, bias, running_mean=apart[0], running_var=apart[1], **case) for p in x.chunk(2)]
    assert (buffer[:, :c] == 7).all()
    assert (buffer[:, 2 * c :] == 7).all()
    # the slice may take another path than the packed tensors (alignment), so: the same bits from a packed call
    packed = norm_act(x, weight, bias, groups=2, **case)
    assert torch.equal(packed, torch.cat(calls))
    torch.testing.assert_close(y, packed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(running, apart, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
def test_cuda_nan_and_mask():
    x = torch.rand(2, 64, 9, 9, device="cuda").add_(1).to(memory_format=torch.channels_last)
    rng = RNG.cuda()
    y = norm_act(x, norm="none", dropout_p=0.3, rng=rng, rng_stream=2, impl="native")
    assert torch.equal(y != 0, keep_mask(tuple(x.shape), 0.3, rng, 2))
    assert torch.equal(y.cpu() != 0, keep_mask(tuple(x.shape), 0.3, RNG, 2))
    x[0, 3, 4, 4] = float("nan")
    for norm in NORMS:
        assert norm_act(x, norm=norm, act="relu", impl="native")[0, 3, 4, 4].isnan()


@pytest.mark.cuda
def test_cuda_graph_replay_is_eager_bit_for_bit(capture):
    """Forward and backward captured once and replayed on changing data: counters and workspace survive."""
    x, weight, bias = inputs((4, 64, 48, 48), torch.bfloat16, "cuda")
    dy, ds = (torch.randn_like(x).detach() for _ in range(2))
    running = [torch.zeros(64, device="cuda"), torch.ones(64, device="cuda")]
    rng = RNG.cuda()

    def step():
        y, s = norm_act(x, weight, bias, groups=2, act="leaky_relu", skip_act="relu", dropout_p=0.5, rng=rng,
                        running_mean=running[0], running_var=running[1], impl="native")  # fmt: skip
        return (y, s, *torch.autograd.grad((y, s), (x, weight, bias), (dy, ds)))

    graph, captured = capture(step)
    for _ in range(5):
        with torch.no_grad():
            x.copy_(torch.randn_like(x))
            rng[1] += 1
        start = [t.clone() for t in running]
        graph.replay()
        replayed = [t.clone() for t in (*captured, *running)]
        for t, before in zip(running, start, strict=True):
            t.copy_(before)
        eager = (*step(), *running)
        assert all(torch.equal(a, b) for a, b in zip(replayed, eager, strict=True))


# the layers of a ResNet generator at 256x256, the smallest map that takes pad 3, odd maps and channels
CUDA_SPATIAL_SHAPES = [(1, 256, 64, 64), (2, 128, 128, 128), (2, 64, 24, 24), (4, 8, 4, 4), (2, 6, 33, 29)]


@pytest.mark.cuda
@pytest.mark.parametrize("shape", CUDA_SPATIAL_SHAPES)
@pytest.mark.parametrize("case", SPATIAL, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["packed", "interior"])
def test_cuda_spatial_against_float64(case, shape, dtype, layout):
    sources, options = spatial_inputs(case, shape, dtype, "cuda", layout)
    exact = [t.detach().double().requires_grad_() for t in sources]
    # the memory that y, s and the gradients are about to get is full of NaN
    for _ in range(4):
        torch.full((shape[0], shape[1], shape[2] + 6, shape[3] + 6), float("nan"), dtype=dtype, device="cuda")
    got, want = spatial(sources, options, impl="native"), spatial(exact, options, impl="ref")
    rtol, atol = {torch.float32: (5e-5, 5e-5), torch.bfloat16: (1e-2, 1e-2), torch.float16: (2e-3, 2e-3)}[dtype]
    for a, b in zip(outputs(got), outputs(want), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol)
    # no gradient where u is 0 but for rounding (test_cuda_against_float64), nor at what mirrors such a pixel
    u = spatial(exact, options | {"act": "none", "skip_act": None, "pad": 0}, impl="ref").detach()
    bent = ((u != 0) & (u.abs() < 1e-5)).double()
    masks = [reflect(bent, options.get("pad", 0)), bent]
    grads = [torch.randn(y.shape, dtype=torch.float64, device="cuda").to(dtype) for y in outputs(got)]
    grads = [laid(g.masked_fill(m > 0, 0), "packed") for g, m in zip(grads, masks, strict=False)]
    got = torch.autograd.grad(outputs(got), sources, grads)
    want = torch.autograd.grad(outputs(want), exact, [g.double() for g in grads])
    for a, b in zip(got, want, strict=True):
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a.double() / scale, b / scale, rtol=rtol, atol=atol)


@pytest.mark.cuda
def test_cuda_resnet_block_replays_bit_for_bit(capture):
    """Two blocks' worth of padded stores and residual sums, eager twice and captured: one set of bits."""
    x, z = (inputs((2, 64, 64, 64), torch.bfloat16, "cuda", seed)[0] for seed in range(2))
    dy = torch.randn(2, 64, 66, 66, device="cuda").bfloat16().to(memory_format=torch.channels_last)
    common = {"norm": "instance", "impl": "native"}

    def step():
        first, s = norm_act(x, act="relu", skip_act="relu", pad=1, **common)
        y, s = norm_act(z, residual=s, pad=1, skip_act="none", **common)
        return first, y, *torch.autograd.grad((y, s, first), (x, z), (dy, dy[:, :, 1:-1, 1:-1], dy))

    graph, captured = capture(step)
    for _ in range(3):
        with torch.no_grad():
            x.copy_(torch.randn_like(x))
        graph.replay()
        replayed = [t.clone() for t in captured]
        for _ in range(2):
            assert all(torch.equal(a, b) for a, b in zip(replayed, step(), strict=True))


@pytest.mark.cuda
def test_cuda_opcheck():
    args = operator_inputs(device="cuda")
    torch.library.opcheck(torch.ops.pygan.norm_act.default, args, OPTIONS | {"momentum": 0.1})
