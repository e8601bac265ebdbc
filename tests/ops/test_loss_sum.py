import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from pygan.ops.gan_loss import MODES, SIDES, GanLoss, gan_loss
from pygan.ops.l1_loss import l1_loss
from pygan.ops.loss_sum import gan_term, l1_term, loss_sum, loss_sum_ref, unit_seed

module = importlib.import_module("pygan.ops.loss_sum")  # pygan.ops has the function of that name
IMPLS = ("native", "ref")
CASES = [(mode, side) for mode in MODES for side in SIDES]
NHWC = {"memory_format": torch.channels_last}


def options_of(mode, side, n, device="cpu"):
    """Arguments under which every part of the formula counts."""
    k = torch.tensor(0.3, device=device) if (mode, side) == ("began", "D") else None
    return {"mode": mode, "side": side, "n_real": n // 3 if side == "D" else 0, "weight": 1.7, "margin": 0.8, "k": k}


def leaf(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(shape, device=device).to(dtype).requires_grad_()


def flat(parts):
    """The values of all parts in one list."""
    return [value for part in parts for value in (part if isinstance(part, GanLoss) else (part,))]


class Calls(TorchDispatchMode):
    """The operators that run inside, and what they return."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen.append((function, result))
        return result

    def named(self, name):
        return [result for function, result in self.seen if function.overloadpacket is getattr(torch.ops.pygan, name)]


# ---- values and gradients


@pytest.mark.parametrize("impl", IMPLS)
def test_formula(impl):
    """The generator of pix2pix, with PyTorch's own losses."""
    logits, fake, target = (leaf(*shape, dtype=torch.float64) for shape in ((3, 1, 6, 6), (3, 3, 8, 8), (3, 3, 8, 8)))
    total, (fooled, distance) = loss_sum(
        gan_term(logits, mode="vanilla", side="G"), l1_term(fake, target, weight=100.0), impl=impl
    )
    bce = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    l1 = F.l1_loss(fake, target)
    assert total.shape == distance.shape == ()
    assert total.dtype == torch.float64
    torch.testing.assert_close(total, bce + 100 * l1)
    torch.testing.assert_close(fooled.loss, bce.detach())
    torch.testing.assert_close(fooled.logit_fake, logits.mean().detach())
    torch.testing.assert_close(distance, 100 * l1.detach())
    assert not any(value.requires_grad for value in flat([fooled, distance]))
    leaves = logits, fake, target
    torch.testing.assert_close(torch.autograd.grad(3 * total, leaves), torch.autograd.grad(3 * bce + 300 * l1, leaves))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("first", range(0, len(CASES), 7))
def test_native_has_the_bits_of_the_single_losses(first, dtype):
    n, cases = 5, CASES[first : first + 7]
    logits = [(3 * torch.randn(n, 1, 31, 37)).to(dtype).requires_grad_() for _ in cases]  # several chunks of the sum
    fake, target = leaf(2, 3, 61, 43, dtype=dtype), torch.randn(2, 3, 61, 43)
    options = [options_of(mode, side, n) for mode, side in cases]
    terms = [gan_term(d, **o) for d, o in zip(logits, options, strict=True)]
    terms.insert(2, l1_term(fake, target, weight=100.0))
    total, parts = loss_sum(*terms, impl="native")

    singles = [gan_loss(d, **o, impl="native") for d, o in zip(logits, options, strict=True)]
    singles.insert(2, l1_loss(fake, target, weight=100.0, impl="native"))
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(flat(parts), flat(singles), strict=True))
    losses = [single.loss if isinstance(single, GanLoss) else single for single in singles]
    expected = losses[0]
    for loss in losses[1:]:
        expected = expected + loss
    assert torch.equal(total, expected)
    leaves = [*logits, fake]
    for a, b in zip(torch.autograd.grad(total, leaves), torch.autograd.grad(expected, leaves), strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_native_equals_the_reference(dtype):
    logits, fake, target = leaf(6, 1, 30, 30, dtype=dtype), leaf(3, 3, 64, 64, dtype=dtype), torch.randn(3, 3, 64, 64)

    def terms(logits, fake, target):
        return gan_term(logits, mode="hinge", side="D", n_real=2), l1_term(fake, target, weight=10.0)

    total, parts = loss_sum(*terms(logits, fake, target), impl="native")
    exact = loss_sum_ref(*terms(logits.double(), fake.double(), target.double()))
    torch.testing.assert_close(total.double(), exact.total, rtol=1e-6, atol=0)
    for value, expected in zip(flat(parts), flat(exact.parts), strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    grads = (torch.autograd.grad(value, (logits, fake)) for value in (total, exact.total))
    for grad, expected in zip(*grads, strict=True):
        torch.testing.assert_close(grad, expected, rtol=torch.finfo(dtype).eps, atol=0)


def test_auto_on_the_cpu_has_the_bits_of_the_single_losses():
    for size in (6, 90):  # below and above the sizes from which PyTorch is faster
        logits, fake, target = leaf(2, 1, size, size), leaf(1, 3, size, size), torch.randn(1, 3, size, size)
        total, parts = loss_sum(gan_term(logits, mode="vanilla", side="D", n_real=1), l1_term(fake, target))
        judged, distance = gan_loss(logits, mode="vanilla", side="D", n_real=1), l1_loss(fake, target)
        assert torch.equal(total, judged.loss + distance)
        assert all(torch.equal(a, b) for a, b in zip(flat(parts), [*judged, distance], strict=True))
        assert not any(value.requires_grad for value in flat(parts))


@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
    ],
)
@pytest.mark.parametrize("needs", ["a", "b", "both"])
def test_dtypes_and_gradients_of_l1(dtype_a, dtype_b, needs):
    a, b = torch.randn(2, 3, 9, 7).to(dtype_a), torch.randn(2, 3, 9, 7).to(dtype_b)
    wanted = [t.requires_grad_() for name, t in (("a", a), ("b", b)) if needs in (name, "both")]
    twice = [l1_term(a, b, weight=2.0), l1_term(b, a, weight=3.0)]
    total = loss_sum(*twice, impl="native").total
    exact = loss_sum_ref(*twice).total
    assert total.dtype == exact.dtype
    torch.testing.assert_close(total, exact)
    for t, grad, expected in zip(
        wanted, torch.autograd.grad(total, wanted), torch.autograd.grad(exact, wanted), strict=True
    ):
        assert grad.dtype == t.dtype
        torch.testing.assert_close(grad, expected, rtol=2 * torch.finfo(torch.bfloat16).eps, atol=0)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_tensor_in_several_terms(impl):
    x, target = leaf(4, 3, 5, 5, dtype=torch.float64), torch.randn(4, 3, 5, 5, dtype=torch.float64)

    def terms():
        return (
            gan_term(x, mode="lsgan", side="D", n_real=2),
            l1_term(x, target),
            gan_term(x, mode="wgangp", side="G", weight=0.5),
            l1_term(x, x),
        )

    (grad,) = torch.autograd.grad(loss_sum(*terms(), impl=impl).total, x)
    separate = gan_loss(x, mode="lsgan", side="D", n_real=2, impl="ref").loss + l1_loss(x, target, impl="ref")
    separate = separate + gan_loss(x, mode="wgangp", side="G", weight=0.5, impl="ref").loss
    torch.testing.assert_close(grad, torch.autograd.grad(separate, x)[0])


def test_each_began_term_has_its_own_k():
    energies, ks = [torch.rand(4, 3) for _ in range(3)], [torch.tensor(0.2), torch.tensor([0.9])]
    terms = [gan_term(e, mode="began", side="D", n_real=2, k=k) for e, k in zip(energies, ks, strict=False)]
    terms.insert(1, gan_term(energies[2], mode="began", side="G"))
    torch.testing.assert_close(loss_sum(*terms, impl="native"), loss_sum(*terms, impl="ref"))


def test_any_layout():
    image = leaf(2, 3, 8, 6)
    for x in (image, image.contiguous(**NHWC), image[:, 1:], image[..., ::2], image.transpose(2, 3)):
        terms = gan_term(x, mode="softplus", side="D", n_real=1), l1_term(x, torch.randn(x.shape).contiguous(**NHWC))
        native, ref = (loss_sum(*terms, impl=impl) for impl in IMPLS)
        torch.testing.assert_close(native, ref)
        torch.testing.assert_close(*(torch.autograd.grad(value.total, image) for value in (native, ref)))


def test_gradient_keeps_the_layout():
    fake = torch.randn(2, 3, 8, 6).contiguous(**NHWC).requires_grad_()
    total = loss_sum(l1_term(fake, torch.zeros(2, 3, 8, 6).contiguous(**NHWC)), impl="native").total
    assert torch.autograd.grad(total, fake)[0].is_contiguous(**NHWC)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_inf_stay_visible(bad, impl):
    logits, fake = torch.randn(4, 1, 3, 3), torch.randn(2, 3)
    fake[0, 1] = bad
    total, (judged, distance) = loss_sum(
        gan_term(logits, mode="vanilla", side="D", n_real=2), l1_term(fake, torch.zeros(2, 3)), impl=impl
    )
    assert judged.loss.isfinite()
    assert not distance.isfinite()
    assert not total.isfinite()


def test_same_bits_for_any_number_of_threads():
    logits, fake, target = leaf(64, 1, 30, 30), leaf(4, 3, 64, 64), torch.randn(4, 3, 64, 64)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            total, parts = loss_sum(
                gan_term(logits, mode="vanilla", side="D", n_real=20), l1_term(fake, target), impl="native"
            )
            results.append([total, *flat(parts), *torch.autograd.grad(3 * total, (logits, fake))])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


# ---- backward


def three_terms(logits, fake, target):
    return (
        gan_term(logits, mode="vanilla", side="D", n_real=2),
        gan_term(logits.detach(), mode="lsgan", side="G"),  # for the logs alone
        l1_term(fake, target, weight=100.0),
    )


def test_unit_seed_is_one_and_always_the_same():
    seed = unit_seed("cpu")
    assert seed.item() == 1.0
    assert seed.shape == ()
    assert seed.dtype == torch.float32
    assert unit_seed(torch.device("cpu")) is seed
    with torch.inference_mode():
        assert unit_seed("cpu") is seed


def test_a_seed_without_a_value_is_not_kept(monkeypatch):
    """Else a step that was walked on fake tensors would leave its seed to real ones, which would learn nothing."""
    monkeypatch.setattr(module, "_units", {})
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert type(unit_seed("cpu")) is FakeTensor
    assert type(unit_seed("cpu")) is torch.Tensor
    assert float(unit_seed("cpu")) == 1.0
    with FakeTensorMode(allow_non_fake_inputs=True):  # and what is there already serves everybody
        assert type(unit_seed("cpu")) is torch.Tensor


def test_backward_from_the_unit_seed_runs_nothing():
    logits, fake, target = leaf(4, 1, 5, 5), leaf(2, 3, 9, 9), torch.randn(2, 3, 9, 9)
    total = loss_sum(*three_terms(logits, fake, target), impl="native").total
    expected = torch.autograd.grad(
        3 * loss_sum(*three_terms(logits, fake, target), impl="native").total, (logits, fake)
    )
    penalty = logits.square().mean()
    with Calls() as forward:
        again = loss_sum(*three_terms(logits, fake, target), impl="native").total
    with Calls() as backward:
        grads = torch.autograd.grad(total, (logits, fake), unit_seed("cpu"))
        through_a_sum = torch.autograd.grad(again + 10 * penalty, fake, unit_seed("cpu"), retain_graph=False)
    names = {function.overloadpacket for function, _ in backward.seen}
    assert not names & {torch.ops.pygan.gan_loss_backward_, torch.ops.pygan.l1_loss_backward_, torch.ops.aten.clone}
    torch.testing.assert_close([3 * grad for grad in grads], list(expected))
    assert torch.equal(through_a_sum[0], grads[1])
    written = [grad.data_ptr() for grad in forward.named("loss_sum")[0][3]]
    assert through_a_sum[0].data_ptr() == written[2]  # the very memory that the forward wrote


def test_another_seed_scales():
    logits, fake, target = leaf(4, 1, 5, 5), leaf(2, 3, 9, 9), torch.randn(2, 3, 9, 9)

    def grads(seed):
        total = loss_sum(*three_terms(logits, fake, target), impl="native").total
        return torch.autograd.grad(total, (logits, fake), seed)

    unit = grads(unit_seed("cpu"))
    for factor in (1.0, 0.0, 65536.0):
        for grad, one in zip(grads(torch.tensor(factor)), unit, strict=True):
            assert torch.equal(grad, factor * one)
    assert all(torch.equal(a, b) for a, b in zip(grads(None), unit, strict=True))


def test_a_seed_that_was_written_into_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_units", {})
    unit_seed("cpu").fill_(2.0)
    with pytest.raises(RuntimeError, match="unit_seed: somebody has written into the seed of cpu"):
        unit_seed("cpu")
    logits = leaf(4, 3)
    with pytest.raises(RuntimeError, match="unit_seed: somebody has written"):
        loss_sum(gan_term(logits, mode="lsgan", side="G"), impl="native").total.backward(module._units[logits.device])


@pytest.mark.parametrize("seed", [None, "unit"])
def test_backward_twice_over_a_kept_graph(seed):
    logits, fake, target = leaf(4, 1, 5, 5), leaf(2, 3, 9, 9), torch.randn(2, 3, 9, 9)
    total = loss_sum(*three_terms(logits, fake, target), impl="native").total
    seed = unit_seed("cpu") if seed else torch.tensor(3.0)
    first = torch.autograd.grad(total, (logits, fake), seed, retain_graph=True)
    before = [grad.clone() for grad in first]
    second = torch.autograd.grad(total, (logits, fake), seed, retain_graph=True)
    for grad in first:
        grad.fill_(math.nan)  # it is the caller's
    third = torch.autograd.grad(total, (logits, fake), seed)
    assert all(torch.equal(a, b) for grads in (second, third) for a, b in zip(grads, before, strict=True))


def test_gradients_accumulate_without_touching_each_other():
    logits = leaf(4, 3)
    for expected in (1, 2, 3):
        total = loss_sum(gan_term(logits, mode="softplus", side="D", n_real=2), impl="native").total
        total.backward(unit_seed("cpu"))
        if expected == 1:
            first = logits.grad.clone()
        torch.testing.assert_close(logits.grad, expected * first)


def test_only_wanted_gradients_are_written():
    logits, fake, target = leaf(4, 1, 5, 5), leaf(2, 3, 9, 9), torch.randn(2, 3, 9, 9)

    def written():
        with Calls() as calls:
            total, parts = loss_sum(*three_terms(logits, fake, target), impl="native")
        return [grad.numel() for grad in calls.named("loss_sum")[0][3]], total, parts

    numbers, total, parts = written()
    assert numbers == [100, 0, 486]
    with torch.no_grad():
        numbers, silent, silent_parts = written()
    assert numbers == [0, 0, 0]
    assert not silent.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(flat([total, *parts]), flat([silent, *silent_parts]), strict=True))


def test_gradcheck():
    logits = 0.3 * torch.arange(1, 25, dtype=torch.float64).view(4, 1, 2, 3) - 3.17  # no logit on a kink
    a, b = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    b = torch.where((a - b).abs() < 0.1, b + 0.5, b)

    def total(logits, a, b):
        d = gan_term(logits, mode="hinge", side="D", n_real=2, weight=1.7)
        g = gan_term(logits, mode="vanilla", side="G")
        return loss_sum(d, l1_term(a, b, weight=1.5), g, impl="native").total

    assert gradcheck(total, tuple(t.requires_grad_() for t in (logits, a, b)))


@pytest.mark.parametrize("impl", IMPLS)
def test_second_derivative_of_l1_is_zero(impl):
    a, b = leaf(3, 4, dtype=torch.float64), leaf(3, 4, dtype=torch.float64)
    logits = torch.randn(4, 3, dtype=torch.float64)  # a GAN term without a gradient does not matter

    def total(a, b):
        return loss_sum(gan_term(logits, mode="lsgan", side="G"), l1_term(a, b, weight=1.5), impl=impl).total

    assert gradgradcheck(total, (a, b))


def test_second_derivative_of_a_gan_loss_is_refused():
    logits = leaf(4, 3)
    total = loss_sum(gan_term(logits, mode="vanilla", side="D", n_real=2), impl="native").total
    with pytest.raises(RuntimeError, match="loss_sum has no second derivative of a gan_term"):
        torch.autograd.grad(total, logits, create_graph=True)
    assert gradgradcheck(
        lambda d: loss_sum(gan_term(d, mode="vanilla", side="D", n_real=2), impl="ref").total,
        leaf(4, 3, dtype=torch.float64),
    )


# ---- the op


def raw(terms, want_grad=True):
    """Arguments of the native op for terms that need no preparation."""
    l1s = [isinstance(term, module.L1Term) for term in terms]
    columns = [
        [-1 if l1 else MODES.index(term.mode) for term, l1 in zip(terms, l1s, strict=True)],
        [0 if l1 else SIDES.index(term.side) for term, l1 in zip(terms, l1s, strict=True)],
        [0 if l1 else term.n_real for term, l1 in zip(terms, l1s, strict=True)],
        [term.weight for term in terms],
        [0.0 if l1 else term.margin for term, l1 in zip(terms, l1s, strict=True)],
        [1.0] * len(terms),
        [int(want_grad)] * len(terms),
    ]
    b = [term.b for term, l1 in zip(terms, l1s, strict=True) if l1]
    k = [term.k for term, l1 in zip(terms, l1s, strict=True) if not l1 and term.k is not None]
    return [term[0] for term in terms], b, k, *columns


def test_opcheck():
    logits, fake = torch.randn(4, 2, 3, 3), torch.randn(2, 3, 4, 5).contiguous(**NHWC)
    terms = [
        gan_term(logits, mode="vanilla", side="D", n_real=2),
        l1_term(fake.bfloat16(), torch.randn_like(fake), weight=10.0),
        gan_term(logits.contiguous(**NHWC), mode="began", side="D", n_real=1, k=torch.tensor(0.5)),
    ]
    op = torch.ops.pygan.loss_sum.default
    torch.library.opcheck(op, raw(terms))
    torch.library.opcheck(op, raw(terms, want_grad=False))
    torch.library.opcheck(op, raw([l1_term(fake.double(), torch.randn_like(fake).double())]))


def test_compiles_without_a_graph_break():
    x, target = leaf(4, 3, 5, 5), torch.randn(4, 3, 5, 5)

    def loss(x):
        terms = gan_term(x * 2, mode="lsgan", side="D", n_real=2), l1_term(x, target, weight=3.0)
        total, (judged, _) = loss_sum(*terms, impl="native")
        return total * 3, judged.logit_fake

    results = []
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        value, logit = function(x)
        results.append((value, logit, *torch.autograd.grad(value, x)))
    torch.testing.assert_close(*results)


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
        (torch.zeros(4), {**D, "mode": "began", "k": torch.zeros(2)}, "k must be one float32 value"),
    ],
)
def test_errors_of_gan_term(logits, options, message):
    with pytest.raises(ValueError, match=f"gan_term: {message}"):
        gan_term(logits, **options)
    with pytest.raises(ValueError, match=f"gan_loss: {message}"):  # the words of gan_loss
        gan_loss(logits, **options)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3), torch.zeros(4), r"a and b must have the same shape, got \[3\] and \[4\]"),
        (torch.zeros(3), torch.zeros(3).int(), "a and b must hold floats"),
        (torch.zeros(0), torch.zeros(0), "a and b must hold floats, at least one"),
        (torch.zeros(3), torch.zeros(3, device="meta"), "a and b must be on the same device"),
    ],
)
def test_errors_of_l1_term(a, b, message):
    with pytest.raises(ValueError, match=f"l1_term: {message}"):
        l1_term(a, b)
    with pytest.raises(ValueError, match=f"l1_loss: {message}"):
        l1_loss(a, b)


TERM = l1_term(torch.zeros(3), torch.ones(3))


@pytest.mark.parametrize(
    ("terms", "impl", "message"),
    [
        ([], "auto", "there must be 1 to 8 terms, got 0"),
        ([TERM] * 9, "auto", "there must be 1 to 8 terms, got 9"),
        ([TERM, torch.zeros(3)], "auto", "term 1 must come from gan_term or l1_term, got Tensor"),
        (
            [TERM, l1_term(*(torch.zeros(3, device="meta"),) * 2)],
            "auto",
            "all terms must be on one device, got cpu, meta",
        ),
        ([TERM, l1_term(torch.zeros(3).double(), torch.ones(3))], "auto", "float64 terms go with float64 terms alone"),
        ([TERM, l1_term(torch.zeros(3), torch.ones(3).double())], "auto", "float64 terms go with float64 terms alone"),
        ([TERM], "fast", "impl must be 'auto', 'native' or 'ref'"),
    ],
)
def test_errors(terms, impl, message):
    with pytest.raises(ValueError, match=f"loss_sum: {message}"):
        loss_sum(*terms, impl=impl)


def changed(**changes):
    """Arguments of the native op for one GAN term and one L1 term, some of them replaced."""
    names = ("a", "b", "k", "mode", "side", "n_real", "weight", "margin", "unit", "want_grad")
    terms = [gan_term(torch.zeros(4, 3), **D), l1_term(torch.zeros(3), torch.ones(3))]
    return list((dict(zip(names, raw(terms), strict=True)) | changes).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": []}, "there must be 1 to 8 terms, got 0"),
        ({"weight": [1.0]}, "mode, side, n_real, weight, margin, unit and want_grad must have one entry for each of"),
        ({"mode": [7, -1]}, "term 0: unknown mode 7"),
        ({"n_real": [5, 0]}, "term 0: n_real must lie between"),
        ({"mode": [6, -1]}, "term 0: k must be given"),
        ({"k": [torch.zeros(())]}, "b and k hold more tensors than the terms take"),
        ({"b": []}, "term 1: b is missing"),
        ({"b": [torch.zeros(4)]}, r"term 1: a and b must have the same shape, got \[3\] and \[4\]"),
        ({"a": [torch.zeros(4, 6)[:, ::2], torch.zeros(3)]}, "term 0: logits must be contiguous or channels_last"),
        ({"a": [torch.zeros(4, 3).half(), torch.zeros(3)]}, "term 0: logits must be float32, bfloat16 or float64"),
        ({"a": [torch.zeros(4, 3), torch.zeros(3).double()]}, "term 1: float64 goes with float64 terms alone"),
    ],
)
def test_errors_of_the_native_op(changes, message):
    with pytest.raises(RuntimeError, match=f"loss_sum: {message}"):
        torch.ops.pygan.loss_sum(*changed(**changes))


# ---- on a GPU


def poison():
    """NaN in the memory that the next allocations get."""
    for size in (64, 1 << 14, 1 << 20):
        torch.full((size,), math.nan, device="cuda")


LOW = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("target_dtype", ["same", "float32"])
@pytest.mark.parametrize("n", [1, 16, 64])
def test_cuda_equals_float64(n, target_dtype, dtype):
    logits = (3 * torch.randn(2 * n, 1, 30, 30, device="cuda")).to(dtype).requires_grad_()
    fake = torch.randn(n, 3, 256, 256, device="cuda").contiguous(**NHWC).to(dtype).requires_grad_()
    target = torch.randn_like(fake, dtype=torch.float32).to(dtype if target_dtype == "same" else torch.float32)

    def terms(logits, fake, target):
        d = gan_term(logits, mode="vanilla", side="D", n_real=n, weight=1.7)
        return d, l1_term(fake, target, weight=100.0), gan_term(logits, mode="lsgan", side="G")

    exact = loss_sum_ref(*terms(logits.double(), fake.double(), target.double()))
    expected = torch.autograd.grad(1024 * exact.total, (logits, fake))
    poison()
    total, parts = loss_sum(*terms(logits, fake, target), impl="native")
    torch.testing.assert_close(total.double(), exact.total, rtol=1e-5, atol=1e-5)
    for value, reference in zip(flat(parts), flat(exact.parts), strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=1e-5, atol=1e-5)
    grads = torch.autograd.grad(total, (logits, fake), torch.tensor(1024.0, device="cuda"))
    for grad, reference in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        rounding = 2 * torch.finfo(dtype).eps * reference.abs().max().item()
        torch.testing.assert_close(grad, reference, rtol=4 * torch.finfo(dtype).eps, atol=rounding, check_dtype=False)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize(("mode", "side"), CASES)
def test_cuda_equals_the_single_losses(mode, side, dtype):
    options = options_of(mode, side, n=9, device="cuda")
    logits, fake = leaf(9, 1, 31, 37, dtype=dtype, device="cuda"), leaf(7, 3, 61, 43, dtype=dtype, device="cuda")
    target = torch.randn(7, 3, 61, 43, device="cuda")
    singles = gan_loss(logits, **options, impl="native"), l1_loss(fake, target, weight=100.0, impl="native")
    seed = torch.tensor(512.0, device="cuda")
    expected = torch.autograd.grad((singles[0].loss, singles[1]), (logits, fake), (seed, seed))
    poison()
    total, parts = loss_sum(gan_term(logits, **options), l1_term(fake, target, weight=100.0), impl="native")
    torch.testing.assert_close(total, singles[0].loss + singles[1], rtol=1e-6, atol=1e-6)
    for value, reference in zip(flat(parts), flat(singles), strict=True):
        torch.testing.assert_close(value, reference.detach(), rtol=1e-6, atol=1e-7)
    grads = torch.autograd.grad(total, (logits, fake), seed)
    for grad, reference in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, reference, rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_cuda_unaligned(offset):
    logits, a, b = (torch.randn(2000, device="cuda", dtype=torch.bfloat16)[offset:].requires_grad_() for _ in range(3))
    terms = gan_term(logits, mode="vanilla", side="D", n_real=700), l1_term(a, b.detach())
    result = loss_sum(*terms, impl="native").total
    exact = loss_sum(*terms, impl="ref").total
    torch.testing.assert_close(result, exact, rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(value, (logits, a)) for value in (result, exact)]
    torch.testing.assert_close(*grads, rtol=0.01, atol=1e-5)


@pytest.mark.cuda
def test_cuda_float16_keeps_small_gradients_under_a_loss_scale():
    fake = leaf(16, 3, 256, 256, dtype=torch.float16, device="cuda")  # a gradient of 3e-7 is 0 in float16
    logits = leaf(16, 1, 30, 30, dtype=torch.float16, device="cuda")
    terms = gan_term(logits, mode="lsgan", side="G"), l1_term(fake, torch.zeros_like(fake))
    scale = torch.tensor(65536.0, device="cuda")
    exact = loss_sum_ref(
        *(gan_term(logits.double(), mode="lsgan", side="G"), l1_term(fake.double(), fake.double() * 0))
    )
    expected = torch.autograd.grad(exact.total, (logits, fake), scale.double())
    grads = torch.autograd.grad(loss_sum(*terms, impl="native").total, (logits, fake), scale)
    assert grads[1].abs().max() > 0
    torch.testing.assert_close(list(grads), list(expected), rtol=2e-3, atol=1e-3, check_dtype=False)


@pytest.mark.cuda
def test_cuda_eight_terms_rerun_bit_for_bit():
    tensors = [leaf(3 + i, 1, 126, 126, device="cuda") for i in range(8)]
    terms = [gan_term(t, mode=MODES[i % 7], side="G") for i, t in enumerate(tensors[:6])]
    terms += [l1_term(t, t.detach().roll(1)) for t in tensors[6:]]

    def run():
        total, parts = loss_sum(*terms, impl="native")
        return [total, *flat(parts), *torch.autograd.grad(total, tensors, unit_seed("cuda"))]

    first = [value.clone() for value in run()]
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@pytest.mark.cuda
def test_cuda_graph_equals_eager_bit_for_bit(capture):
    logits, fake = leaf(64, 1, 30, 30, device="cuda"), leaf(4, 3, 256, 256, device="cuda")
    target, seed = torch.randn_like(fake), unit_seed("cuda")

    def step():
        terms = gan_term(logits, mode="vanilla", side="D", n_real=20), l1_term(fake, target, weight=100.0)
        total, parts = loss_sum(*terms, impl="native")
        return (total, *flat(parts), *torch.autograd.grad(total, (logits, fake), seed))

    graph, captured = capture(step)
    for _ in range(3):
        with torch.no_grad():
            logits.copy_(torch.randn_like(logits))
            fake.copy_(torch.randn_like(fake))
        eager = [value.clone() for value in step()]
        for value in captured:
            value.detach().fill_(math.nan)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))


@pytest.mark.cuda
def test_cuda_unit_seed_is_not_made_inside_a_capture(monkeypatch):
    monkeypatch.setattr(module, "_units", {})
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="unit_seed: call it once before the capture"), torch.cuda.graph(graph):
        unit_seed("cuda")
