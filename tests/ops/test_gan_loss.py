import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from pygan.ops.gan_loss import MODES, SIDES, gan_loss, gan_loss_ref

IMPLS = ("native", "ref")
CASES = [(mode, side) for mode in MODES for side in SIDES]


def options_of(mode, side, n, device="cpu"):
    """Arguments under which every part of the formula counts."""
    k = torch.tensor(0.3, device=device) if (mode, side) == ("began", "D") else None
    return {"mode": mode, "side": side, "n_real": n // 3 if side == "D" else 0, "weight": 1.7, "margin": 0.8, "k": k}


def textbook(d, mode, side, n_real, weight, margin, k):
    """The formulas of the papers, with torch's own losses where it has them: (loss, real, fake)."""
    real, fake = d[:n_real], d[n_real:]
    bce = F.binary_cross_entropy_with_logits
    if side == "G":
        value = {
            "vanilla": lambda: bce(fake, torch.ones_like(fake)),
            "softplus": lambda: bce(fake, torch.ones_like(fake)),
            "lsgan": lambda: F.mse_loss(fake, torch.ones_like(fake)),
            "wgangp": lambda: -fake.mean(),
            "hinge": lambda: -fake.mean(),
            "energy": lambda: fake.mean(),
            "began": lambda: fake.mean(),
        }[mode]()
        return weight * value, None, value
    r, f = {
        "vanilla": lambda: (bce(real, torch.ones_like(real)), bce(fake, torch.zeros_like(fake))),
        "softplus": lambda: (bce(real, torch.ones_like(real)), bce(fake, torch.zeros_like(fake))),
        "lsgan": lambda: (F.mse_loss(real, torch.ones_like(real)), F.mse_loss(fake, torch.zeros_like(fake))),
        "wgangp": lambda: (-real.mean(), fake.mean()),
        "hinge": lambda: ((1 - real).clamp(min=0).mean(), (1 + fake).clamp(min=0).mean()),
        "energy": lambda: (real.mean(), (margin - fake).clamp(min=0).mean()),
        "began": lambda: (real.mean(), fake.mean()),
    }[mode]()
    if mode in ("vanilla", "lsgan"):
        return weight * (r + f) / 2, r, f
    return weight * (r - k * f if mode == "began" else r + f), r, f


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("mode", "side"), CASES)
def test_formula(mode, side, impl):
    logits = torch.randn(6, 1, 5, 3, dtype=torch.float64, requires_grad=True)
    options = options_of(mode, side, n=6)
    result = gan_loss(logits, **options, impl=impl)
    loss, real, fake = textbook(logits, **options)
    n_real = options["n_real"]
    assert result.loss.shape == ()
    assert result.loss.dtype == torch.float64
    torch.testing.assert_close(result.loss, loss, check_dtype=False)
    torch.testing.assert_close(result.real, logits.new_zeros(()) if real is None else real.detach())
    torch.testing.assert_close(result.fake, fake.detach())
    torch.testing.assert_close(result.logit_real, logits[:n_real].mean() if n_real else logits.new_zeros(()))
    torch.testing.assert_close(result.logit_fake, logits[n_real:].mean())
    assert [value.requires_grad for value in result] == [True, False, False, False, False]
    (grad,) = torch.autograd.grad(result.loss, logits)
    torch.testing.assert_close(grad, torch.autograd.grad(loss, logits)[0])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("mode", "loss_d", "loss_g"),
    [
        ("vanilla", math.log(2), math.log(2)),
        ("lsgan", 0.5, 1.0),
        ("softplus", 2 * math.log(2), math.log(2)),
        ("wgangp", 0.0, 0.0),
        ("hinge", 2.0, 0.0),
        ("energy", 1.0, 0.0),
        ("began", 0.0, 0.0),
    ],
)
def test_all_logits_zero(mode, loss_d, loss_g, impl):
    k = torch.tensor(0.5) if mode == "began" else None
    zeros = torch.zeros(4, 1, 3, 3)
    d = gan_loss(zeros, mode=mode, side="D", n_real=2, k=k, impl=impl).loss
    g = gan_loss(zeros, mode=mode, side="G", impl=impl).loss
    assert d.item() == pytest.approx(loss_d, abs=1e-6)
    assert g.item() == pytest.approx(loss_g, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("mode", "side"), CASES)
def test_native_lower_precision(mode, side, dtype):
    logits = (3 * torch.randn(5, 1, 31, 37)).to(dtype).requires_grad_()  # more than one chunk of the sum
    options = options_of(mode, side, n=5)
    result = gan_loss(logits, **options, impl="native")
    exact = gan_loss_ref(logits.double(), **options)
    for value, expected in zip(result, exact, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=2e-6)
    (grad,) = torch.autograd.grad(result.loss * 2.5, logits)
    (expected,) = torch.autograd.grad(exact.loss * 2.5, logits)
    assert grad.dtype == dtype
    rounding = torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(grad, expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=rounding)


@pytest.mark.parametrize(("mode", "side"), CASES)
def test_gradcheck(mode, side):
    logits = 0.3 * torch.arange(1, 25, dtype=torch.float64).view(4, 1, 2, 3) - 3.17  # no logit on a kink
    logits = logits.requires_grad_()
    options = {**options_of(mode, side, n=4), "impl": "native"}
    assert gradcheck(lambda x: gan_loss(x, **options).loss, (logits,))


@pytest.mark.parametrize(
    "logits",
    [
        torch.randn(7),
        torch.randn(4, 3, 5, 2),
        torch.randn(4, 3, 5, 2).contiguous(memory_format=torch.channels_last),
        torch.randn(4, 1, 6, 5)[:, :, ::2],
        torch.randn(3, 4).t(),
        torch.randn(8, 1, 3, 3)[3:],
        torch.randn(1).expand(4, 2),
    ],
    ids=["vector", "contiguous", "channels_last", "strided", "transposed", "offset", "expanded"],
)
def test_any_layout(logits):
    logits = logits.double().detach().requires_grad_()
    options = options_of("vanilla", "D", n=logits.shape[0])
    native, ref = (gan_loss(logits, **options, impl=impl) for impl in IMPLS)
    torch.testing.assert_close(native, ref)
    grads = [torch.autograd.grad(result.loss, logits)[0] for result in (native, ref)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("n_real", [0, 4])
def test_one_class_batch_of_d(n_real, impl):
    logits = torch.randn(4, 3)
    result = gan_loss(logits, mode="softplus", side="D", n_real=n_real, impl=impl)
    assert (result.real == 0) == (n_real == 0)
    assert (result.fake == 0) == (n_real == 4)
    torch.testing.assert_close(result.loss, F.softplus(logits if n_real == 0 else -logits).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("mode", ["vanilla", "softplus"])
def test_extreme_logits(mode, impl, dtype):
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4], dtype=dtype, requires_grad=True)
    result = gan_loss(logits, mode=mode, side="D", n_real=2, impl=impl)
    magnitude = logits.detach().abs()[0].item()
    assert result.real.item() == result.fake.item() == magnitude / 2
    (grad,) = torch.autograd.grad(result.loss, logits)
    slope = 0.25 if mode == "vanilla" else 0.5
    assert grad.tolist() == [-slope, 0.0, 0.0, slope]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("mode", "side"), CASES)
def test_nan_and_inf_stay_visible(mode, side, impl):
    options = options_of(mode, side, n=6)
    logits = torch.randn(6, 1, 4, 4)
    for bad in (math.nan, math.inf, -math.inf):
        poisoned = logits.clone()
        poisoned[:, 0, 1, 2] = bad
        result = gan_loss(poisoned, **options, impl=impl)
        assert not result.logit_fake.isfinite()
        if math.isnan(bad):
            assert result.loss.isnan()
            assert result.fake.isnan()
        elif mode in ("lsgan", "wgangp", "began"):
            assert not result.loss.isfinite()


def test_mean_of_many_large_logits():
    logits = (1e4 + torch.randn(64, 1, 30, 30)).float()
    result = gan_loss(logits, mode="wgangp", side="D", n_real=32, impl="native")
    exact = gan_loss_ref(logits.double(), mode="wgangp", side="D", n_real=32)
    assert abs(result.loss.item() - exact.loss.item()) < 1e-6
    assert result.logit_real.item() == exact.logit_real.float().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_incoming_gradient(dtype):
    logits = torch.randn(4, 1, 5, 5, dtype=dtype, requires_grad=True)

    def grad(scale):
        loss = gan_loss(logits, mode="lsgan", side="D", n_real=2, impl="native").loss
        return torch.autograd.grad(loss * scale, logits)[0]

    assert torch.equal(grad(1024.0), 1024 * grad(1.0))
    assert torch.equal(grad(0.0), torch.zeros_like(logits))


def test_backward_twice_over_a_kept_graph():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = gan_loss(logits, mode="vanilla", side="D", n_real=2, impl="native").loss
    (first,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    before = first.clone()
    (second,) = torch.autograd.grad(5 * loss, logits)
    assert torch.equal(first, before)
    torch.testing.assert_close(second, first * 5 / 3)


def test_gradient_does_not_reach_what_the_first_pass_returned():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = gan_loss(logits, mode="vanilla", side="D", n_real=2, impl="native").loss
    loss.backward()
    kept = logits.grad
    before = kept.clone()
    (2 * gan_loss(logits, mode="vanilla", side="D", n_real=2, impl="native").loss).backward()
    torch.testing.assert_close(logits.grad, 3 * before)


def test_second_derivative_is_refused():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = gan_loss(logits, mode="vanilla", side="D", n_real=2, impl="native").loss
    with pytest.raises(RuntimeError, match="gan_loss has no second derivative"):
        torch.autograd.grad(loss, logits, create_graph=True)


def test_k_is_read_when_the_loss_is_taken():
    energies, k = torch.rand(4, 3), torch.tensor(0.0)
    losses = []
    for value in (0.0, 0.7):
        k.fill_(value)
        losses.append(gan_loss(energies, mode="began", side="D", n_real=2, k=k, impl="native"))
    torch.testing.assert_close(losses[1].loss, losses[0].loss - 0.7 * losses[0].fake)


def test_opcheck():
    op = torch.ops.pygan.gan_loss.default
    logits = torch.randn(4, 1, 3, 3)
    torch.library.opcheck(op, (logits, MODES.index("vanilla"), 0, 2, 1.0, 1.0, None, 1.0, True))
    nhwc = torch.randn(4, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(op, (nhwc, MODES.index("began"), 0, 2, 1.0, 1.0, torch.tensor(0.5), 1.0, True))
    torch.library.opcheck(op, (logits.double(), MODES.index("hinge"), 1, 0, 1.0, 1.0, None, 1.0, False))
    torch.library.opcheck(torch.ops.pygan.gan_loss_backward_.default, (torch.randn(4, 3), torch.tensor(2.0), 0.5))


def test_compiles_without_a_graph_break():
    logits = torch.randn(4, 3, 5, 5, requires_grad=True)

    def loss(x):
        return gan_loss(x * 2, mode="lsgan", side="D", n_real=2, impl="native").loss * 3

    results = []
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        value = function(logits)
        results.append((value, *torch.autograd.grad(value, logits)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("mode", ["vanilla", "lsgan"])
def test_same_bits_for_any_number_of_threads(mode):
    logits = torch.randn(64, 1, 30, 30, requires_grad=True)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            result = gan_loss(logits, mode=mode, side="D", n_real=20, impl="native")
            results.append((*result, *torch.autograd.grad(result.loss, logits)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


D = {"mode": "vanilla", "side": "D", "n_real": 2}


@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        (torch.zeros(4), {**D, "mode": "bce"}, "mode must be one of vanilla, lsgan.*got 'bce'"),
        (torch.zeros(4), {**D, "side": "d"}, "side must be 'D' or 'G', got 'd'"),
        (torch.zeros(4), {"mode": "vanilla", "side": "D"}, "side 'D' needs n_real"),
        (torch.zeros(4), {**D, "n_real": 5}, "n_real must be between 0 and the 4 samples of logits, got 5"),
        (torch.zeros(4), {**D, "side": "G"}, "n_real must be 0 for side 'G', got 2"),
        (torch.zeros(4, dtype=torch.int64), D, "logits must be floats"),
        (torch.zeros(0, 3), D, "logits must be floats of shape"),
        (torch.zeros(4), {**D, "mode": "began"}, "k belongs to mode 'began' of side 'D', got k=None"),
        (torch.zeros(4), {**D, "k": torch.zeros(())}, "k belongs to mode 'began'"),
        (torch.zeros(4), {**D, "mode": "began", "k": torch.zeros(2)}, "k must be one float32 value"),
        (torch.zeros(4), {**D, "mode": "began", "k": torch.zeros((), dtype=torch.float64)}, "k must be one float32"),
        (torch.zeros(4), {**D, "impl": "cuda"}, "impl must be 'auto', 'native' or 'ref', got 'cuda'"),
    ],
)
def test_errors(logits, options, message):
    with pytest.raises(ValueError, match=f"gan_loss: {message}"):
        gan_loss(logits, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4).half(), 0, 0, 2, 1.0, 1.0, None, 1.0, True), "logits must be float32, bfloat16 or float64"),
        ((torch.zeros(4, 6)[:, ::2], 0, 0, 2, 1.0, 1.0, None, 1.0, True), "logits must be contiguous"),
        ((torch.zeros(4), 7, 0, 2, 1.0, 1.0, None, 1.0, True), "unknown mode 7"),
        ((torch.zeros(4), 0, 0, 5, 1.0, 1.0, None, 1.0, True), "n_real must lie between"),
        ((torch.zeros(4), 6, 0, 2, 1.0, 1.0, None, 1.0, True), "k must be given"),
    ],
)
def test_errors_of_the_native_op(arguments, message):
    with pytest.raises(RuntimeError, match=f"gan_loss: {message}"):
        torch.ops.pygan.gan_loss(*arguments)


def test_no_gradient_is_written_without_grad_mode():
    logits = torch.randn(4, 3, requires_grad=True)
    with torch.no_grad():
        assert not gan_loss(logits, **D, impl="native").loss.requires_grad
    assert torch.ops.pygan.gan_loss(logits.detach(), 0, 0, 2, 1.0, 1.0, None, 1.0, False)[2].numel() == 0


# ---- on a GPU


def poison():
    """NaN in the memory that the next allocations get."""
    for size in (64, 1 << 14, 1 << 20):
        torch.full((size,), math.nan, device="cuda")


SHAPES = [(2, 1, 30, 30), (128, 1, 30, 30), (6, 1, 5, 3), (7,), (64, 1, 126, 126)]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("mode", "side"), CASES)
def test_cuda_equals_float64(mode, side, shape, dtype):
    logits = (3 * torch.randn(shape, device="cuda")).to(dtype).requires_grad_()
    options = options_of(mode, side, n=shape[0], device="cuda")
    exact = gan_loss_ref(logits.double(), **options)
    (expected,) = torch.autograd.grad(exact.loss * 1024, logits)
    poison()
    result = gan_loss(logits, **options, impl="native")
    for value, reference in zip(result, exact, strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=1e-5, atol=1e-5, check_dtype=False)
    (grad,) = torch.autograd.grad(result.loss * 1024, logits)
    rounding = torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(grad, expected, rtol=4 * torch.finfo(dtype).eps, atol=rounding)


@pytest.mark.cuda
@pytest.mark.parametrize("offset", [1, 3])
def test_cuda_unaligned(offset):
    logits = torch.randn(9, 5, device="cuda", dtype=torch.bfloat16)[offset:].requires_grad_()
    options = options_of("vanilla", "D", n=logits.shape[0], device="cuda")
    result, exact = gan_loss(logits, **options, impl="native"), gan_loss_ref(logits.double(), **options)
    torch.testing.assert_close(result.loss.double(), exact.loss, rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(loss, logits)[0] for loss in (result.loss, exact.loss)]
    torch.testing.assert_close(*grads, rtol=0.01, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["vanilla", "wgangp"])
def test_cuda_extreme_and_nan(mode):
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4], device="cuda")
    assert gan_loss(logits, mode=mode, side="D", n_real=2, impl="native").loss.isfinite()
    logits[1] = math.nan
    assert gan_loss(logits, mode=mode, side="D", n_real=2, impl="native").loss.isnan()


@pytest.mark.cuda
def test_cuda_graph_equals_eager_bit_for_bit(capture):
    static = torch.randn(64, 1, 30, 30, device="cuda", dtype=torch.bfloat16).requires_grad_()

    def step():
        d = gan_loss(static, mode="vanilla", side="D", n_real=20, impl="native")
        g = gan_loss(static, mode="lsgan", side="G", impl="native")
        return (*d, *g, *torch.autograd.grad(d.loss + 3 * g.loss, static))

    graph, captured = capture(step)
    for _ in range(3):
        with torch.no_grad():
            static.copy_(torch.randn_like(static))
        eager = [value.clone() for value in step()]
        for value in captured:
            value.detach().fill_(math.nan)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))
