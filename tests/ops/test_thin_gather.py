import math

import pytest
import torch
import torch.nn.functional as F

from pygan.ops.thin_gather import MODES, thin_gather, thin_gather_ref, thin_size_of

NHWC = {"memory_format": torch.channels_last}
KERNEL = {"stride2": 4, "reflect": 7, "zero_adjoint": 4, "reflect_adjoint": 7}
# (mode, n, ck, ct, hk, wk, thin_size): odd sizes, the smallest ones, thin pixels beyond twice the thick ones
SHAPES = [
    ("stride2", 2, 5, 3, 4, 6, None),
    ("stride2", 1, 8, 6, 1, 1, None),
    ("stride2", 2, 3, 8, 3, 5, (7, 10)),
    ("reflect", 2, 5, 3, 9, 11, None),
    ("reflect", 1, 4, 1, 4, 5, None),
    ("zero_adjoint", 2, 6, 1, 5, 7, None),
    ("zero_adjoint", 1, 3, 3, 2, 2, None),
    ("reflect_adjoint", 2, 5, 3, 8, 10, None),
    ("reflect_adjoint", 1, 4, 2, 4, 4, None),
]


def operands(mode, n, ck, ct, hk, wk, dtype=torch.float64, device="cpu"):
    """k, a weight in its PyTorch shape and a bias; values that a sum of thousands keeps near 1."""
    k = torch.randn(n, ck, hk, wk, device=device).to(dtype).contiguous(**NHWC)
    pair = (ck, ct) if mode in ("stride2", "reflect") else (ct, ck)
    weight = torch.randn(*pair, KERNEL[mode], KERNEL[mode], device=device) / math.sqrt(ck * KERNEL[mode] ** 2)
    return k, weight.to(dtype).contiguous(**NHWC), torch.randn(ct, device=device)


@pytest.mark.parametrize(("mode", "n", "ck", "ct", "hk", "wk", "size"), SHAPES)
def test_reference_is_the_transpose_of_the_other_way(mode, n, ck, ct, hk, wk, size):
    k, weight, _ = operands(mode, n, ck, ct, hk, wk)
    ht, wt = size or thin_size_of(mode, (hk, wk))
    t = torch.randn(n, ct, ht, wt, dtype=torch.float64, requires_grad=True)
    if mode == "stride2":
        spread = F.conv2d(t, weight, stride=2, padding=1)
    elif mode == "reflect":
        spread = F.conv2d(F.pad(t, (3, 3, 3, 3), mode="reflect"), weight)
    elif mode == "zero_adjoint":
        spread = F.conv_transpose2d(t, weight, padding=1)
    else:
        k.requires_grad_()
        gathered = F.conv2d(F.pad(k, (3, 3, 3, 3), mode="reflect"), weight)
        (spread,) = torch.autograd.grad(gathered, k, t, create_graph=True)
    assert spread.shape == k.shape
    (expected,) = torch.autograd.grad(spread, t, k)
    actual = thin_gather_ref(k, weight, mode=mode, thin_size=size)
    torch.testing.assert_close(actual.detach(), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("mode", "n", "ck", "ct", "hk", "wk", "size"), [s for s in SHAPES if s[0] == "stride2" or s[3] < 5]
)
def test_native_equals_the_reference(mode, n, ck, ct, hk, wk, size, dtype):
    k, weight, bias = operands(mode, n, ck, ct, hk, wk, dtype)
    bias = bias.to(dtype)
    options = {"mode": mode, "thin_size": size}
    for with_bias, act, out_dtype in ((None, "none", None), (bias, "tanh", None), (bias, "none", torch.float32)):
        if out_dtype is not None and dtype == torch.float64:
            continue
        exact = thin_gather_ref(
            k.double(), weight.double(), None if with_bias is None else bias.double(), act=act, **options
        )
        actual = thin_gather(k, weight, with_bias, act=act, out_dtype=out_dtype, **options)
        assert actual.dtype == (out_dtype or dtype)
        assert actual.is_contiguous(**NHWC)
        rtol = 2.0**-8 if actual.dtype == torch.bfloat16 else 1e-6 if dtype != torch.float64 else 1e-12
        torch.testing.assert_close(actual.double(), exact, rtol=rtol, atol=1e-9)
        reference = thin_gather_ref(k, weight, with_bias, act=act, out_dtype=out_dtype, **options)
        assert reference.dtype == actual.dtype
        if actual.dtype != torch.bfloat16:
            error = (actual - reference).norm() / reference.norm()
            assert error <= 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_layouts(mode):
    """Slices, weights of another memory format, and results written into a slice change nothing but places."""
    k, weight, bias = operands(mode, 2, 6, 3, 5, 6, torch.float32)
    expected = thin_gather(k, weight, bias, mode=mode)
    wide = torch.randn(2, 10, 5, 6).contiguous(**NHWC)
    wide[:, 2:8] = k
    assert torch.equal(thin_gather(wide[:, 2:8], weight.contiguous(), bias, mode=mode), expected)
    nchw = torch.empty_like(expected, memory_format=torch.contiguous_format)
    assert thin_gather(k, weight, bias, mode=mode, out=nchw) is nchw
    assert torch.equal(nchw, expected)
    n, c, h, w = expected.shape
    pair = torch.zeros(n, 2 * c, h, w).contiguous(**NHWC)
    thin_gather(k, weight, bias, mode=mode, out=pair[:, c:])
    assert torch.equal(pair[:, c:], expected)
    assert pair[:, :c].count_nonzero() == 0


@pytest.mark.parametrize("mode", MODES)
def test_nan_and_inf_pass(mode):
    k, weight, _ = operands(mode, 1, 4, 1, 6, 6, torch.float32)
    k[0, 1, 2, 2] = math.nan
    t = thin_gather(k, weight, mode=mode)
    assert t.isnan().any()
    assert torch.equal(t.isnan(), thin_gather_ref(k, weight, mode=mode).isnan())


def test_opcheck():
    for mode in MODES:
        k, weight, bias = operands(mode, 2, 4, 2, 4, 5, torch.float32)
        t = thin_gather(k, weight, mode=mode)
        for b, act in ((bias, "tanh"), (None, "none")):
            torch.library.opcheck(torch.ops.pygan.thin_gather.default, (k, weight, b, t, mode, act))


def test_same_bits_for_any_number_of_threads():
    k, weight, bias = operands("reflect_adjoint", 5, 8, 3, 9, 9, torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(thin_gather(k, weight, bias, mode="reflect_adjoint"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "same"}, "mode must be stride2, reflect, zero_adjoint or reflect_adjoint, got 'same'"),
        ({"act": "relu"}, "act must be none or tanh, got 'relu'"),
        ({"weight": torch.zeros(4, 3, 4, 4)}, r"weight must have shape \[6, 3, 4, 4\], got \[4, 3, 4, 4\]"),
        ({"weight": torch.zeros(6, 3, 4, 4).bfloat16()}, "weight must have the dtype of k"),
        ({"k": torch.zeros(2, 6, 5, 5)}, "k must be channels_last"),
        ({"bias": torch.zeros(2)}, r"bias must have shape \[3\], got \[2\]"),
        ({"bias": torch.zeros(3).double()}, "bias has the wrong dtype"),
        ({"t": torch.zeros(2, 3, 12, 10)}, r"t \[2, 3, 12, 10\] and k \[2, 6, 5, 5\] do not belong together"),
        ({"t": torch.zeros(2, 3, 10, 10).bfloat16()}, "t must have the dtype of k or be float32"),
    ],
)
def test_errors_of_the_native_op(change, message):
    given = {
        "k": torch.zeros(2, 6, 5, 5).contiguous(**NHWC),
        "weight": torch.zeros(6, 3, 4, 4),
        "bias": None,
        "t": torch.zeros(2, 3, 10, 10),
        "mode": "stride2",
        "act": "none",
        **change,
    }
    with pytest.raises(RuntimeError, match=f"thin_gather: {message}"):
        torch.ops.pygan.thin_gather.default(
            given["k"], given["weight"], given["bias"], given["t"], given["mode"], given["act"]
        )


# ---- on a GPU

# the layers of speed.md, smaller where only the size differs, and every branch of the kernel: splits, passes, slices
CUDA_SHAPES = [
    ("stride2", 2, 128, 3, 64, 64, None),
    ("stride2", 1, 128, 3, 128, 128, None),
    ("stride2", 3, 64, 6, 33, 20, (67, 40)),
    ("stride2", 2, 320, 8, 5, 9, None),
    ("reflect", 1, 64, 3, 256, 256, None),
    ("reflect", 2, 64, 3, 33, 20, None),
    ("reflect", 2, 128, 1, 9, 70, None),
    ("reflect", 1, 64, 2, 4, 5, None),
    ("zero_adjoint", 1, 512, 1, 31, 31, None),
    ("zero_adjoint", 16, 512, 1, 31, 31, None),
    ("zero_adjoint", 2, 192, 4, 33, 20, None),
    ("zero_adjoint", 2, 64, 1, 2, 2, None),
    ("reflect_adjoint", 1, 64, 3, 256, 256, None),
    ("reflect_adjoint", 2, 64, 3, 33, 20, None),
    ("reflect_adjoint", 2, 256, 4, 9, 70, None),
    ("reflect_adjoint", 1, 64, 1, 4, 5, None),
]


def poison():
    """NaN in the memory that the next allocations get."""
    for size in (64, 1 << 14, 1 << 20):
        torch.full((size,), math.nan, device="cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("mode", "n", "ck", "ct", "hk", "wk", "size"), CUDA_SHAPES)
def test_cuda_equals_float64(mode, n, ck, ct, hk, wk, size, dtype):
    k, weight, bias = operands(mode, n, ck, ct, hk, wk, dtype, "cuda")
    options = {"mode": mode, "thin_size": size}
    bound = thin_gather_ref(k.double().abs(), weight.double().abs(), **options)  # the sizes of what is summed
    for w in (weight, weight.contiguous()):
        for b, act, out_dtype in (
            (None, "none", torch.float32),
            (bias, "tanh", torch.float32),
            (bias, "none", None),
            (bias.to(dtype), "tanh", None),
        ):
            exact = thin_gather_ref(k.double(), weight.double(), None if b is None else b.double(), act=act, **options)
            poison()
            actual = thin_gather(k, w, b, act=act, out_dtype=out_dtype, **options)
            assert actual.dtype == (out_dtype or dtype)
            rounding = 0.0 if out_dtype is not None else torch.finfo(dtype).eps / 2
            error = (actual.double() - exact).abs()
            assert bool((error <= 2e-6 * (bound + 1) + rounding * exact.abs()).all()), (error / (bound + 1)).max()


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
def test_cuda_slices(mode):
    k, weight, bias = operands(mode, 2, 64, 3, 20, 21, torch.bfloat16, "cuda")
    expected = thin_gather(k, weight, bias, mode=mode)
    wide = torch.full((2, 136, 20, 21), math.nan, dtype=torch.bfloat16, device="cuda").contiguous(**NHWC)
    wide[:, 72:] = k
    pair = torch.full((2, 6, *expected.shape[2:]), 7.0, dtype=torch.bfloat16, device="cuda").contiguous(**NHWC)
    thin_gather(wide[:, 72:], weight, bias, mode=mode, out=pair[:, 3:])
    assert torch.equal(pair[:, 3:], expected)
    assert bool((pair[:, :3] == 7).all())


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
def test_cuda_sample_does_not_depend_on_the_batch(mode):
    k, weight, bias = operands(mode, 40, 64, 3, 40, 33, torch.bfloat16, "cuda")
    together = thin_gather(k, weight, bias, mode=mode, out_dtype=torch.float32)
    for i in (0, 39):
        alone = thin_gather(k[i : i + 1], weight, bias, mode=mode, out_dtype=torch.float32)
        assert torch.equal(alone, together[i : i + 1])


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
def test_cuda_graph_equals_eager_bit_for_bit(mode, capture):
    k, weight, bias = operands(mode, 2, 64, 3, 64, 64, torch.bfloat16, "cuda")

    def step():
        return thin_gather(k, weight, bias, mode=mode, act="tanh", out_dtype=torch.float32)

    graph, captured = capture(step)
    for _ in range(3):
        k.copy_(torch.randn_like(k))
        eager = step().clone()
        assert torch.equal(step(), eager)
        captured.fill_(math.nan)
        graph.replay()
        assert torch.equal(captured, eager)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k.float(), "k must be bfloat16 or float16 on CUDA"),
        (lambda k: k[:, :32], "k must have a multiple of 64 channels on CUDA, got 32"),
        (lambda k: torch.cat((k, k), 1)[:, 4:68], "k must begin at a multiple of 8 channels"),
    ],
)
def test_cuda_errors(change, message):
    k = change(torch.zeros(1, 64, 8, 8, dtype=torch.bfloat16, device="cuda").contiguous(**NHWC))
    weight = torch.zeros(3, k.shape[1], 7, 7, dtype=k.dtype, device="cuda")
    with pytest.raises(RuntimeError, match=f"thin_gather: {message}"):
        thin_gather(k, weight, mode="reflect_adjoint")
