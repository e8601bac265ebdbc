import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from pygan.ops.l1_loss import l1_loss, l1_loss_ref

IMPLS = ("native", "ref")
# more than one chunk of the sum, and no multiple of any vector length
SHAPES = [(1,), (3, 5), (2, 3, 7, 5), (2, 3, 61, 43)]


def pair(shape, dtype=torch.float64, device="cpu"):
    a, b = (torch.randn(shape, device=device).to(dtype) for _ in range(2))
    a.view(-1)[0] = b.view(-1)[0]  # one difference is exactly 0
    return a.requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_formula(shape, impl):
    a, b = pair(shape)
    loss = l1_loss(a, b, weight=2.5, impl=impl)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, 2.5 * F.l1_loss(a, b))
    grads = torch.autograd.grad(3 * loss, (a, b))
    expected = torch.sign(a - b).detach() * 7.5 / a.numel()
    torch.testing.assert_close(grads, (expected, -expected))
    assert grads[0].view(-1)[0] == 0


@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
    ],
)
@pytest.mark.parametrize("needs", ["a", "b", "both"])
def test_native_dtypes(dtype_a, dtype_b, needs):
    a, b = torch.randn(2, 3, 61, 43).to(dtype_a), torch.randn(2, 3, 61, 43).to(dtype_b)
    wanted = [t.requires_grad_() for name, t in (("a", a), ("b", b)) if needs in (name, "both")]
    loss = l1_loss(a, b, weight=100.0, impl="native")
    exact = l1_loss_ref(a.double(), b.double(), weight=100.0)
    assert loss.dtype == (torch.float64 if dtype_a == torch.float64 else torch.float32)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    for t, grad, expected in zip(
        wanted, torch.autograd.grad(loss, wanted), torch.autograd.grad(exact, wanted), strict=True
    ):
        assert grad.dtype == t.dtype
        torch.testing.assert_close(grad, expected, rtol=torch.finfo(dtype_a).eps, atol=0)


@pytest.mark.parametrize("impl", IMPLS)
def test_any_number_of_derivatives(impl):
    a, b = pair((3, 4))
    with torch.no_grad():
        a.view(-1)[0] += 0.5  # away from the kink
    assert gradcheck(lambda a, b: l1_loss(a, b, weight=1.5, impl=impl), (a, b))
    assert gradgradcheck(lambda a, b: l1_loss(a, b, weight=1.5, impl=impl), (a, b))


def test_layouts():
    a, b = pair((2, 3, 8, 6))
    nhwc = {"memory_format": torch.channels_last}
    views = [
        (a, b),
        (a.contiguous(**nhwc), b.contiguous(**nhwc)),
        (a.contiguous(**nhwc), b),
        (a, b.contiguous(**nhwc)),
        (a[:, 1:], b[:, 1:].contiguous(**nhwc)),
        (a[..., ::2], b[..., ::2]),
        (a[1:], b[:1].expand(1, 3, 8, 6)),
    ]
    for x, y in views:
        native, ref = (l1_loss(x, y, impl=impl) for impl in IMPLS)
        torch.testing.assert_close(native, ref)
        torch.testing.assert_close(torch.autograd.grad(native, (a, b)), torch.autograd.grad(ref, (a, b)))


def test_gradient_keeps_the_layout():
    a, b = (torch.randn(2, 3, 8, 6).contiguous(memory_format=torch.channels_last) for _ in range(2))
    a.requires_grad_()
    (grad,) = torch.autograd.grad(l1_loss(a, b, impl="native"), a)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_stay_visible(bad, impl):
    a, b = torch.randn(4, 5), torch.randn(4, 5)
    a[2, 3] = bad
    loss = l1_loss(a, b, impl=impl)
    assert loss.isnan() if math.isnan(bad) else loss == math.inf


def test_mean_of_many_values():
    a, b = torch.full((1 << 21,), 0.1), torch.zeros(1 << 21)
    assert l1_loss(a, b, impl="native").item() == a[0].item()  # a running float32 sum would be off by 1e-3


def test_incoming_gradient_and_kept_graph():
    a, b = pair((4, 5), torch.float32)
    loss = l1_loss(a, b, impl="native")
    (unit,) = torch.autograd.grad(loss, a, retain_graph=True)
    (first,) = torch.autograd.grad(3 * loss, a, retain_graph=True)
    kept = first.clone()
    second, of_b = torch.autograd.grad(65536 * loss, (a, b))
    assert torch.equal(first, kept)
    torch.testing.assert_close(first, 3 * unit)
    assert torch.equal(second, 65536 * unit)
    assert torch.equal(of_b, -second)


def test_opcheck():
    op = torch.ops.pygan.l1_loss.default
    a, b = pair((2, 3, 4, 5), torch.float32)
    a, b = a.detach(), b.detach()
    torch.library.opcheck(op, (a, b, 2.0, 1.0, True))
    a, b = (t.contiguous(memory_format=torch.channels_last) for t in (a, b))
    torch.library.opcheck(op, (a.bfloat16(), b, 2.0, 1.0, True))
    torch.library.opcheck(op, (a, b, 2.0, 1.0, False))
    torch.library.opcheck(torch.ops.pygan.l1_loss_backward_.default, (a, torch.tensor(2.0), 0.5))


def test_compiles_without_a_graph_break():
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    target = torch.randn(4, 3, 5, 5)

    def loss(x):
        return l1_loss(x * 2, target, impl="native") * 3

    results = []
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        value = function(x)
        results.append((value, *torch.autograd.grad(value, x)))
    torch.testing.assert_close(*results)


def test_same_bits_for_any_number_of_threads():
    a, b = pair((4, 3, 64, 64), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            loss = l1_loss(a, b, impl="native")
            results.append((loss, *torch.autograd.grad(3 * loss, (a, b))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (torch.zeros(3), torch.zeros(4), {}, r"a and b must have the same shape, got \[3\] and \[4\]"),
        (torch.zeros(3), torch.zeros(3).int(), {}, "a and b must hold floats"),
        (torch.zeros(0), torch.zeros(0), {}, "a and b must hold floats, at least one"),
        (torch.zeros(3), torch.zeros(3, device="meta"), {}, "a and b must be on the same device"),
        (torch.zeros(3), torch.zeros(3), {"impl": "fast"}, "impl must be 'auto', 'native' or 'ref'"),
    ],
)
def test_errors(a, b, options, message):
    with pytest.raises(ValueError, match=f"l1_loss: {message}"):
        l1_loss(a, b, **options)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3).half(), torch.zeros(3).half(), "a must be float32, bfloat16 or float64"),
        (torch.zeros(3), torch.zeros(3).bfloat16(), "a and b must have the same dtype"),
        (torch.zeros(3, 2), torch.zeros(2, 3), r"a and b must have the same shape, got \[3, 2\] and \[2, 3\]"),
        (torch.zeros(2, 3), torch.zeros(3, 2).t(), "a and b must have the same memory format"),
        (torch.zeros(4)[::2], torch.zeros(4)[::2], "a must be contiguous or channels_last"),
    ],
)
def test_errors_of_the_native_op(a, b, message):
    with pytest.raises(RuntimeError, match=f"l1_loss: {message}"):
        torch.ops.pygan.l1_loss(a, b, 1.0, 1.0, True)


# ---- on a GPU


def poison():
    """NaN in the memory that the next allocations get."""
    for size in (64, 1 << 14, 1 << 20):
        torch.full((size,), math.nan, device="cuda")


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
@pytest.mark.parametrize("shape", [*SHAPES, (16, 3, 256, 256)])
def test_cuda_equals_float64(shape, dtype_a, dtype_b):
    a, b = (torch.randn(shape, device="cuda").to(dtype) for dtype in (dtype_a, dtype_b))
    a.view(-1)[0] = b.view(-1)[0] = 0.5
    a.requires_grad_()
    exact = l1_loss_ref(a.double(), b.double(), weight=100.0)
    (expected,) = torch.autograd.grad(1024 * exact, a)
    poison()
    loss = l1_loss(a, b, weight=100.0, impl="native")
    torch.testing.assert_close(loss.double(), exact, rtol=2e-6, atol=0)
    (grad,) = torch.autograd.grad(1024 * loss, a)
    assert grad.dtype == dtype_a
    torch.testing.assert_close(grad, expected, rtol=2 * torch.finfo(dtype_a).eps, atol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("start", [(1, 0), (0, 1), (4, 8)])
def test_cuda_unaligned(start):
    a, b = (torch.randn(1000, device="cuda", dtype=torch.bfloat16)[s : s + 900] for s in start)
    a.requires_grad_()
    loss, exact = l1_loss(a, b, impl="native"), l1_loss_ref(a.double(), b.double())
    torch.testing.assert_close(loss.double(), exact, rtol=2e-6, atol=0)
    grads = [torch.autograd.grad(value, a)[0] for value in (loss, exact)]
    torch.testing.assert_close(*grads, rtol=0.01, atol=0)


@pytest.mark.cuda
def test_cuda_graph_equals_eager_bit_for_bit(capture):
    a = torch.randn(4, 3, 256, 256, device="cuda").contiguous(memory_format=torch.channels_last)
    a, b = a.bfloat16().requires_grad_(), torch.randn_like(a)

    def step():
        loss = l1_loss(a, b, weight=100.0, impl="native")
        return loss, *torch.autograd.grad(3 * loss, a)

    graph, captured = capture(step)
    for _ in range(3):
        with torch.no_grad():
            a.copy_(torch.randn_like(a))
        eager = [value.clone() for value in step()]
        for value in captured:
            value.detach().fill_(math.nan)
        graph.replay()
        assert all(torch.equal(x, y) for x, y in zip(captured, eager, strict=True))
