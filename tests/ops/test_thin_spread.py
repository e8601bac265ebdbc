"""The operators pygan::thin_spread and pygan::thin_wgrad by themselves; the layers made of them: test_thin_conv.py."""

import math

import pytest
import torch
import torch.nn.functional as F

import pygan.ops.thin_conv  # noqa: F401 - loads the library, registers the fake kernels

MODES = ("stride2", "reflect", "zero_adjoint", "reflect_adjoint")
KERNEL = {"stride2": 4, "reflect": 7, "zero_adjoint": 4, "reflect_adjoint": 7}
# thick sizes: the smallest, odd ones
SIZES = {
    "stride2": [(1, 1), (5, 3)],
    "reflect": [(4, 4), (5, 9)],
    "zero_adjoint": [(2, 2), (5, 9)],
    "reflect_adjoint": [(4, 4), (5, 9), (8, 7)],
}
CASES = [(mode, size) for mode in MODES for size in SIZES[mode]]


def thin_size(mode, size, odd=0):
    return tuple({"stride2": 2 * s + odd, "zero_adjoint": s - 1}.get(mode, s) for s in size)


def convolve(x, weight, mode):
    """The convolution that the mode is, or is the transpose of."""
    if mode == "stride2":
        return F.conv2d(x, weight, stride=2, padding=1)
    if mode == "zero_adjoint":
        return F.conv2d(x, weight, padding=1)
    return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), weight)


def spread(t, weight, mode, size):
    """thin -> thick in float64, by PyTorch."""
    t, weight = t.double(), weight.double()
    if mode in ("stride2", "reflect"):
        return convolve(t, weight, mode)
    x = torch.zeros(t.shape[0], weight.shape[1], *size, dtype=t.dtype, device=t.device, requires_grad=True)
    return torch.autograd.grad(convolve(x, weight, mode), x, t)[0]


def wgrad(t, k, mode):
    """The gradient of the weight in float64, by PyTorch."""
    t, k = t.double(), k.double()
    inputs, outputs = (t, k) if mode in ("stride2", "reflect") else (k, t)
    shape = (outputs.shape[1], inputs.shape[1], KERNEL[mode], KERNEL[mode])
    weight = torch.zeros(shape, dtype=t.dtype, device=t.device, requires_grad=True)
    return torch.autograd.grad(convolve(inputs, weight, mode), weight, outputs)[0]


def draw(*shape, dtype=torch.float64, device="cpu"):
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)


def tensors(mode, size, *, n=2, ct=3, ck=4, dtype=torch.float64, t_dtype=None, device="cpu", odd=0):
    """t, weight, bias and an output full of NaN."""
    kernel = KERNEL[mode]
    shape = (ck, ct) if mode in ("stride2", "reflect") else (ct, ck)
    t = draw(n, ct, *thin_size(mode, size, odd), dtype=t_dtype or dtype, device=device)
    weight = draw(*shape, kernel, kernel, dtype=dtype, device=device)
    bias = torch.randn(ck, device=device).to(dtype)
    return t, weight, bias, torch.full_like(draw(n, ck, *size, dtype=dtype, device=device), math.nan)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ct", [1, 3, 4])
@pytest.mark.parametrize(("mode", "size"), CASES)
def test_spread(mode, size, ct, dtype):
    t, weight, bias, y = tensors(mode, size, ct=ct, dtype=dtype, odd=ct % 2)
    s = torch.full_like(y, math.nan)
    torch.ops.pygan.thin_spread(t, weight, bias, y, s, mode, "leaky_relu", "relu", 0.2)
    z = spread(t, weight, mode, size) + bias.double().view(1, -1, 1, 1)
    rounding = {"rtol": torch.finfo(dtype).eps, "atol": 1e-7 if dtype == torch.float32 else 1e-12}
    torch.testing.assert_close(y.double(), F.leaky_relu(z, 0.2), **rounding)
    torch.testing.assert_close(s.double(), F.relu(z), **rounding)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ct", [1, 3, 4])
@pytest.mark.parametrize(("mode", "size"), CASES)
def test_wgrad(mode, size, ct, dtype):
    t, weight, bias, k = tensors(mode, size, ct=ct, dtype=dtype, odd=ct % 2)
    k.copy_(torch.randn_like(k))
    expected = (wgrad(t, k, mode), k.double().sum((0, 2, 3)), t.double().sum((0, 2, 3)))
    rounding = {"rtol": torch.finfo(dtype).eps, "atol": 1e-6 if dtype == torch.float32 else 1e-11}
    for like in (weight, weight.contiguous()):
        found = torch.full_like(like, math.nan), torch.full_like(bias, math.nan), bias.new_full((ct,), math.nan)
        torch.ops.pygan.thin_wgrad(t, k, *found, mode)
        for value, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(value.double(), reference, **rounding)


@pytest.mark.parametrize("mode", MODES)
def test_float32_beside_bfloat16(mode):
    size = SIZES[mode][1]
    t, weight, bias, y = tensors(mode, size, dtype=torch.bfloat16, t_dtype=torch.float32)
    torch.ops.pygan.thin_spread(t, weight, bias.float(), y, None, mode, "none", None, 1.0)
    z = spread(t.bfloat16(), weight, mode, size) + bias.double().view(1, -1, 1, 1)
    torch.testing.assert_close(y.double(), z, rtol=torch.finfo(y.dtype).eps, atol=1e-12)
    dweight = torch.empty_like(weight, dtype=torch.float32)
    torch.ops.pygan.thin_wgrad(t, y, dweight, None, None, mode)
    torch.testing.assert_close(dweight.double(), wgrad(t.bfloat16(), y, mode), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_any_strides(mode):
    size = SIZES[mode][1]
    t, weight, _, y = tensors(mode, size)
    expected = spread(t, weight, mode, size)
    buffer = torch.zeros(2, 9, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    for thin in (t, t.contiguous(), torch.cat([t, t], 1)[:, 3:], t.transpose(2, 3).contiguous().transpose(2, 3)):
        for out in (y, buffer[:, 2:6]):
            torch.ops.pygan.thin_spread(thin, weight, None, out, None, mode, "none", None, 1.0)
            torch.testing.assert_close(out, expected)
    assert buffer[:, :2].count_nonzero() == buffer[:, 6:].count_nonzero() == 0


@pytest.mark.parametrize("mode", MODES)
def test_spread_and_gather_are_transposes(mode):
    size = SIZES[mode][1]
    t, weight, _, y = tensors(mode, size, odd=1)
    k, back = torch.randn_like(y), torch.empty_like(t)
    torch.ops.pygan.thin_spread(t, weight, None, y, None, mode, "none", None, 1.0)
    torch.ops.pygan.thin_gather(k, weight, None, back, mode, "none")
    torch.testing.assert_close((y * k).sum(), (t * back).sum())


@pytest.mark.parametrize("act", ["none", "relu", "leaky_relu"])
def test_nan_and_inf_stay_visible(act):
    t, weight, bias, y = tensors("stride2", (4, 4), dtype=torch.float32)
    bias[0], bias[1], bias[2] = math.nan, math.inf, -math.inf
    torch.ops.pygan.thin_spread(t, weight, bias, y, None, "stride2", act, None, 0.2)
    assert y[:, 0].isnan().all()
    assert (y[:, 1] == math.inf).all()
    assert (y[:, 2] == (0 if act == "relu" else -math.inf)).all()
    assert y[:, 3].isfinite().all()


def test_same_bits_for_any_number_of_threads():
    t, weight, bias, k = tensors("stride2", (9, 7), dtype=torch.float32)
    k.copy_(torch.randn_like(k))
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            y, dweight, dbias = torch.empty_like(k), torch.empty_like(weight), torch.empty_like(bias)
            torch.ops.pygan.thin_spread(t, weight, bias, y, None, "stride2", "relu", None, 0.2)
            torch.ops.pygan.thin_wgrad(t, k, dweight, dbias, None, "stride2")
            results.append((y, dweight, dbias))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_opcheck(mode):
    size = SIZES[mode][1]
    t, weight, bias, y = tensors(mode, size, dtype=torch.float32)
    y.zero_()
    s = torch.zeros_like(y)
    torch.library.opcheck(torch.ops.pygan.thin_spread.default, (t, weight, bias, y, s, mode, "relu", "none", 0.2))
    torch.library.opcheck(torch.ops.pygan.thin_spread.default, (t, weight, None, y, None, mode, "none", None, 0.2))
    torch.library.opcheck(torch.ops.pygan.thin_wgrad.default, (t, y, weight, bias, t.new_zeros(3), mode))
    torch.library.opcheck(torch.ops.pygan.thin_wgrad.default, (t, y, weight, None, None, mode))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "stride3"}, "mode must be stride2, reflect, zero_adjoint or reflect_adjoint, got 'stride3'"),
        ({"t": torch.zeros(1, 8, 8)}, r"t must have shape \(n, c, h, w\) and not be empty, got \[1, 8, 8\]"),
        ({"t": draw(1, 3, 8, 10)}, r"t \[1, 3, 8, 10\] and y \[1, 4, 4, 4\] do not belong together in mode 'stride2'"),
        ({"t": draw(2, 3, 8, 8)}, r"t \[2, 3, 8, 8\] and y \[1, 4, 4, 4\] do not belong together"),
        (
            {"t": draw(1, 9, 8, 8), "weight": draw(4, 9, 4, 4)},
            "t must have at most 8 channels in mode 'stride2', got 9",
        ),
        ({"weight": draw(4, 3, 4, 5)}, r"weight must have shape \[4, 3, 4, 4\], got \[4, 3, 4, 5\]"),
        ({"weight": draw(4, 3, 4, 4).float()}, "weight must have the dtype of y"),
        ({"t": draw(1, 3, 8, 8).float()}, "t must have the dtype of y or be float32"),
        ({"bias": torch.zeros(3).double()}, r"bias must have shape \[4\] and be contiguous, got \[3\]"),
        ({"y": torch.zeros(1, 4, 4, 4).double()}, "y must be channels_last"),
        ({"s": draw(1, 4, 4, 4)}, "s and skip_act come together"),
        ({"s": draw(1, 4, 4, 5), "skip_act": "relu"}, r"s must have the shape, dtype and device of y, \[1, 4, 4, 4\]"),
        ({"act": "tanh"}, "act must be none, relu or leaky_relu, got 'tanh'"),
        ({"s": draw(1, 4, 4, 4), "skip_act": "elu"}, "skip_act must be none, relu or leaky_relu, got 'elu'"),
    ],
)
def test_errors(change, message):
    call = {
        "t": draw(1, 3, 8, 8),
        "weight": draw(4, 3, 4, 4),
        "bias": None,
        "y": draw(1, 4, 4, 4),
        "s": None,
        "mode": "stride2",
        "act": "none",
        "skip_act": None,
        "slope": 0.2,
    }
    with pytest.raises(RuntimeError, match=f"thin_spread: {message}"):
        torch.ops.pygan.thin_spread(*(call | change).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dweight": draw(3, 4, 4, 4)}, r"dweight must have shape \[4, 3, 4, 4\], got \[3, 4, 4, 4\]"),
        ({"dweight": draw(4, 3, 4, 4).bfloat16()}, "dweight must have the dtype of k or be float32"),
        ({"k_sum": torch.zeros(3).double()}, r"k_sum must have shape \[4\] and be contiguous, got \[3\]"),
        ({"k_sum": torch.zeros(4)}, "k_sum must have the dtype of the thick tensor or be float32"),
        ({"t_sum": torch.zeros(4).double()}, r"t_sum must have shape \[3\] and be contiguous, got \[4\]"),
    ],
)
def test_errors_of_wgrad(change, message):
    call = {
        "t": draw(1, 3, 8, 8),
        "k": draw(1, 4, 4, 4),
        "dweight": draw(4, 3, 4, 4),
        "k_sum": None,
        "t_sum": None,
        "mode": "stride2",
    }
    with pytest.raises(RuntimeError, match=f"thin_wgrad: {message}"):
        torch.ops.pygan.thin_wgrad(*(call | change).values())


# ---- on a GPU: no GPU has run these yet


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("mode", "n", "ct", "ck", "size"),
    [
        ("stride2", 2, 3, 64, (128, 128)),
        ("stride2", 1, 6, 128, (33, 65)),
        ("stride2", 3, 7, 64, (1, 1)),
        ("reflect", 2, 3, 64, (256, 256)),
        ("reflect", 1, 1, 128, (17, 35)),
        ("zero_adjoint", 4, 1, 512, (31, 31)),
        ("zero_adjoint", 1, 3, 64, (2, 70)),
        ("reflect_adjoint", 2, 3, 64, (256, 256)),
        ("reflect_adjoint", 1, 3, 128, (5, 33)),
    ],
)
def test_cuda_equals_float64(mode, n, ct, ck, size, dtype):
    torch.manual_seed(0)
    options = {"n": n, "ct": ct, "ck": ck, "dtype": dtype, "t_dtype": torch.float32, "device": "cuda"}
    t, weight, bias, y = tensors(mode, size, **options)
    torch.ops.pygan.thin_spread(t, weight, bias.float(), y, None, mode, "none", None, 1.0)
    z = spread(t.to(dtype), weight, mode, size) + bias.double().view(1, -1, 1, 1)
    size_of_sums = spread(t.to(dtype).abs(), weight.abs(), mode, size)
    assert ((y.double() - z).abs() <= torch.finfo(dtype).eps * z.abs() + 1e-5 * size_of_sums).all()
    again = torch.full_like(y, math.nan)
    torch.ops.pygan.thin_spread(t, weight, bias.float(), again, None, mode, "none", None, 1.0)
    assert torch.equal(y, again)

    k = torch.randn_like(y)
    expected = (wgrad(t.to(dtype), k, mode), k.double().sum((0, 2, 3)), t.to(dtype).double().sum((0, 2, 3)))
    for out_dtype in (dtype, torch.float32):
        found = [
            torch.full_like(weight, math.nan, dtype=out_dtype),
            None if mode == "reflect_adjoint" else bias.new_full((ck,), math.nan, dtype=out_dtype),
            None if mode == "reflect" else bias.new_full((ct,), math.nan, dtype=out_dtype),
        ]
        torch.ops.pygan.thin_wgrad(t, k, *found, mode)
        for value, reference in zip(found, expected, strict=True):
            if value is not None:
                error, eps = (value.double() - reference).norm(), torch.finfo(out_dtype).eps
                assert error <= max(eps, 1e-4) * reference.norm()
        again = torch.full_like(found[0], math.nan)
        torch.ops.pygan.thin_wgrad(t, k, again, None, None, mode)
        assert torch.equal(found[0], again)


@pytest.mark.cuda
def test_cuda_refuses_what_the_kernels_cannot_take():
    t, weight, _, y = tensors("stride2", (4, 4), ck=64, dtype=torch.bfloat16, device="cuda")
    buffer = torch.zeros(2, 70, 4, 4, dtype=torch.bfloat16, device="cuda").contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="y must begin at a multiple of 8 channels and have a pitch of such"):
        torch.ops.pygan.thin_spread(t, weight, None, buffer[:, :64], None, "stride2", "none", None, 1.0)
    with pytest.raises(RuntimeError, match="y must have a multiple of 64 channels on CUDA, got 48"):
        torch.ops.pygan.thin_spread(t, weight[:48], None, y[:, :48], None, "stride2", "none", None, 1.0)
    with pytest.raises(RuntimeError, match="y must be bfloat16 or float16 on CUDA"):
        torch.ops.pygan.thin_spread(t.float(), weight.float(), None, y.float(), None, "stride2", "none", None, 1.0)
