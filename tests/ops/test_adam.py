import math

import pytest
import torch

from pygan.ops.adam import adam_, find_inf_, loss_scale_update_

IMPLS = ("native", "ref")
# shapes, one of them no multiple of any vector length, one larger than what a thread of the twin takes at least
SHAPES = [(5, 3, 4, 4), (7,), (64, 8, 3, 3), (1,), (40000,), (3, 2, 1, 5)]
VARIANTS = {
    "plain": {},
    "L2": {"weight_decay": 0.1},
    "AdamW": {"weight_decay": 0.1, "decoupled": True},
    "no momentum": {"betas": (0.0, 0.9)},
    "slow": {"betas": (0.9, 0.99), "eps": 1e-3},
}


def hyper_of(lr=2e-4, betas=(0.5, 0.999), dtype=torch.float64, device="cpu"):
    return torch.tensor([lr, *betas], dtype=dtype, device=device)


def offsets_of(shapes, gap=8):
    """Where each tensor begins, at least `gap` values after the one before, and the total."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(-(-(end + gap) // 8) * 8)
        end = offsets[-1] + math.prod(shape)
    return offsets, end + gap


def problem(shapes=SHAPES, dtype=torch.float32, grads=None, low=None, device="cpu", seed=0):
    """Flat tensors with a past, gradients of the given dtypes in turn, and offsets: keyword arguments of adam_."""
    generator = torch.Generator().manual_seed(seed)
    grads = grads or (dtype,)
    offsets, total = offsets_of(shapes)

    def normal(shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    flat = {
        "param": normal(total),
        "exp_avg": normal(total) * 0.1,
        "exp_avg_sq": normal(total).square() * 0.01,
        "ema": normal(total),
    }
    flat = {name: t.to(device) for name, t in flat.items()}
    if low is not None:
        flat["low"] = torch.full((total,), math.nan, dtype=low, device=device)
    return flat | {
        "grads": [normal(shape).to(grads[i % len(grads)]).to(device) for i, shape in enumerate(shapes)],
        "offsets": offsets,
        "hyper": hyper_of(device=device),
        "step": torch.tensor(7, device=device),
        "eps": 1e-8,
        "ema_weight": 0.01,
    }


def copy_of(arguments):
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}


def after(arguments, **options):
    """The arguments after a step on copies of them."""
    new = copy_of(arguments | options)
    impl = new.pop("impl", "auto")
    adam_(**new, impl=impl)
    return new


def flats(arguments):
    return {k: arguments[k] for k in ("param", "exp_avg", "exp_avg_sq", "ema", "low") if arguments.get(k) is not None}


def assert_same_bits(a, b):
    for name in flats(a):
        assert torch.equal(a[name].nan_to_num(nan=123.0), b[name].nan_to_num(nan=123.0)), name


def assert_close(actual, expected, tolerance):
    """Relative norm of the difference."""
    error = (actual.double() - expected.double()).norm() / expected.double().norm()
    assert error <= tolerance, f"{error} > {tolerance}"


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hundred_steps_of_torch_optim(variant, dtype, impl):
    options = {"eps": 1e-8, "betas": (0.5, 0.999), "weight_decay": 0.0} | VARIANTS[variant]
    decoupled = options.pop("decoupled", False)
    torch.manual_seed(0)
    offsets, total = offsets_of(SHAPES)
    param = torch.randn(total, dtype=dtype)
    state = {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
    params = [
        param[offset : offset + math.prod(shape)].double().clone().requires_grad_()
        for shape, offset in zip(SHAPES, offsets, strict=True)
    ]
    opt = (torch.optim.AdamW if decoupled else torch.optim.Adam)(params, lr=1e-3, **options)
    hyper = hyper_of(1e-3, options.pop("betas"))
    for t in range(100):
        grads = [torch.randn(shape, dtype=dtype) * 10 ** (i - 4) for i, shape in enumerate(SHAPES)]
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad.double().flatten()
        opt.step()
        step = torch.tensor(t)
        adam_(
            param,
            **state,
            grads=grads,
            offsets=offsets,
            hyper=hyper,
            step=step,
            decoupled=decoupled,
            impl=impl,
            **options,
        )
        assert step == t
    for p, offset in zip(params, offsets, strict=True):
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        here = slice(offset, offset + p.numel())
        assert_close(param[here], p.detach(), tolerance)
        for name, flat in state.items():
            assert_close(flat[here], opt.state[p][name], tolerance)


@pytest.mark.parametrize("impl", IMPLS)
def test_float32_hyper_is_taken_as_it_is(impl):
    arguments = problem([(40000,)], torch.float64)
    rounded = hyper_of(dtype=torch.float32)
    exact, actual = after(arguments, hyper=rounded.double(), impl="ref"), after(arguments, hyper=rounded, impl=impl)
    assert_close(actual["exp_avg_sq"], exact["exp_avg_sq"], 1e-12)
    assert_close(actual["param"], exact["param"], 1e-12)


@pytest.mark.parametrize("step", [0, 1, 100, 10**9])
@pytest.mark.parametrize("impl", IMPLS)
def test_bias_corrections(step, impl):
    arguments = problem([(40,)], torch.float64) | {"step": torch.tensor(step), "hyper": hyper_of(0.1, (0.9, 0.999999))}
    arguments["param"].zero_()
    new = after(arguments, impl=impl)
    at = slice(arguments["offsets"][0], arguments["offsets"][0] + 40)
    t = step + 1
    # 1 - 0.999999^2 loses 3e-11 of its value when it is computed as written
    corrections = [-math.expm1(t * math.log(beta)) for beta in (0.9, 0.999999)]
    m, v = new["exp_avg"][at], new["exp_avg_sq"][at]
    expected = -0.1 / corrections[0] * m / (v.sqrt() / math.sqrt(corrections[1]) + 1e-8)
    torch.testing.assert_close(new["param"][at], expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("impl", IMPLS)
def test_betas_of_zero_take_the_gradient_itself(impl):
    arguments = problem([(40,)]) | {"hyper": hyper_of(betas=(0.0, 0.0))}
    arguments["exp_avg"].fill_(1e8)
    arguments["exp_avg_sq"].fill_(1e8)
    new = after(arguments, impl=impl)
    at, grad = slice(arguments["offsets"][0], arguments["offsets"][0] + 40), arguments["grads"][0]
    assert torch.equal(new["exp_avg"][at], grad)
    assert torch.equal(new["exp_avg_sq"][at], grad * grad)


@pytest.mark.parametrize("low", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grads", [(torch.float32,), (torch.bfloat16,), (torch.float32, torch.float16, torch.bfloat16)])
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}, {"ema": None}]
)
def test_native_equals_the_reference(options, grads, low):
    arguments = problem(grads=grads, low=low) | {"scale": torch.tensor(3.0), "found_inf": torch.tensor(0.0)} | options
    native, ref = (after(arguments, impl=impl) for impl in IMPLS)
    untouched = torch.ones_like(arguments["param"], dtype=torch.bool)
    for grad, offset in zip(arguments["grads"], arguments["offsets"], strict=True):
        untouched[offset : offset + grad.numel()] = False
    for name, old in flats(arguments).items():
        assert torch.equal(native[name][untouched].nan_to_num(), old[untouched].nan_to_num()), name
        if name != "low":
            assert_close(native[name][~untouched], ref[name][~untouched], 1e-6)
    if low is not None:
        for new in (native, ref):
            assert torch.equal(new["low"][~untouched], new["param"][~untouched].to(low))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", ["scale", "ema", "low", "weight_decay", "decoupled"])
def test_every_option_does_something(name, impl):
    values = {"scale": torch.tensor(64.0), "weight_decay": 0.5, "low": torch.bfloat16}
    arguments = problem(low=torch.bfloat16)
    with_it, without = dict(arguments), dict(arguments)
    if name in ("ema", "low"):
        without[name] = None
    else:
        with_it[name] = values.get(name, True)
        if name == "decoupled":
            with_it["weight_decay"] = without["weight_decay"] = 0.5
    with_it, without = after(with_it, impl=impl), after(without, impl=impl)
    if name in ("ema", "low"):
        assert not torch.equal(with_it[name], arguments[name])
        assert torch.equal(with_it["param"], without["param"])
    else:
        assert not torch.equal(with_it["param"], without["param"])


@pytest.mark.parametrize("impl", IMPLS)
def test_the_scale_divides_the_gradients(impl):
    arguments = problem()
    scaled = {"grads": [grad * 1024 for grad in arguments["grads"]], "scale": torch.tensor(1024.0)}
    assert_same_bits(after(arguments | scaled, impl=impl), after(arguments, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_pair_in_memory_order(impl):
    shape = (6, 4, 3, 5)
    arguments = problem([shape])
    grad = arguments["grads"][0]
    expected = after(arguments | {"grads": [grad.flatten()]}, impl=impl)
    orders = [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2), (1, 0, 3, 2)]
    for order in orders:
        back = [order.index(d) for d in range(4)]
        view = grad.flatten().view([shape[d] for d in order]).permute(back)
        assert view.shape == shape
        assert_same_bits(after(arguments | {"grads": [view]}, impl=impl), expected)


@pytest.mark.parametrize("impl", IMPLS)
def test_buckets_do_not_matter(impl):
    arguments = problem(low=torch.bfloat16)
    whole = after(arguments, impl=impl)
    pieces = copy_of(arguments)
    for some in ([4, 1], [0], [], [5, 3, 2]):
        picked = {key: [arguments[key][i] for i in some] for key in ("grads", "offsets")}
        adam_(**pieces | picked, impl=impl)
    assert_same_bits(pieces, whole)


def test_same_bits_for_any_number_of_threads_and_again():
    arguments = problem([(300_001,), (70_000,)], grads=(torch.bfloat16,), low=torch.bfloat16)
    arguments["grads"][1][123] = math.nan
    threads, results, found = torch.get_num_threads(), [], []
    try:
        for n in (1, 2, 3, 1):
            torch.set_num_threads(n)
            results.append(after(arguments, impl="native"))
            found.append(torch.zeros(()))
            find_inf_(arguments["grads"], found[-1], impl="native")
    finally:
        torch.set_num_threads(threads)
    assert all(value == 1 for value in found)
    for other in results[1:]:
        assert_same_bits(results[0], other)


def test_an_element_does_not_depend_on_its_place():
    """A vectorised loop and its rest must round alike."""
    arguments = problem([(1001,)])
    whole, offset = after(arguments, impl="native"), arguments["offsets"][0]
    for start in range(0, 1001, 8):
        part = {"grads": [arguments["grads"][0][start : start + 3]], "offsets": [offset + start]}
        here = slice(offset + start, offset + min(start + 3, 1001))
        assert torch.equal(after(arguments | part, impl="native")["param"][here], whole["param"][here])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_gradient_shows(bad, impl):
    arguments = problem([(40,)], low=torch.bfloat16)
    arguments["grads"][0][3] = bad
    new, at = after(arguments, impl=impl), arguments["offsets"][0] + 3
    assert all(not flat[at].isfinite() for flat in flats(new).values())
    assert new["param"].isfinite().sum() == new["param"].numel() - 1


@pytest.mark.parametrize("impl", IMPLS)
def test_an_overflow_shows_with_the_next_step(impl):
    arguments = problem([(40,)])
    arguments["grads"][0][3] = 1e30
    new = after(arguments, impl=impl)
    arguments["grads"][0][3] = 0.1
    new = after(new, grads=arguments["grads"], impl=impl)
    assert new["param"][arguments["offsets"][0] + 3].isnan()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("found", [1.0, -2.0, math.nan, math.inf])
def test_nothing_changes_where_infinities_were_found(found, impl):
    arguments = problem(low=torch.bfloat16) | {"found_inf": torch.tensor(found), "scale": torch.tensor(2.0)}
    arguments["grads"][0].view(-1)[3] = math.inf
    assert_same_bits(after(arguments, impl=impl), arguments)


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_to_do(impl):
    arguments = problem([(8,), (0,), (8,)])
    new = after(arguments, impl=impl)
    assert not torch.equal(new["param"], arguments["param"])
    assert_same_bits(after(arguments | {"grads": [], "offsets": []}, impl=impl), arguments)


# ---- the loss scale


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [(0, 0), (1, 39_999), (2, 3)])
def test_find_inf(at, bad, dtype, impl):
    grads = [torch.randn(5, 3), torch.randn(40000), torch.randn(1, 4, 2, 2)]
    largest = torch.finfo(dtype).max
    grads = [grad.to(dtype) for grad in grads]
    grads[0][1, 1], grads[1][7] = largest, -largest
    found = torch.zeros(())
    find_inf_(grads, found, impl=impl)
    assert found == 0
    grads[at[0]].view(-1)[at[1]] = bad
    find_inf_(grads, found, impl=impl)
    assert found == 1
    find_inf_([torch.zeros(3)], found, impl=impl)
    assert found == 1  # never cleared


@pytest.mark.parametrize("impl", IMPLS)
def test_find_inf_in_any_layout(impl):
    found = torch.zeros(())
    grad = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    find_inf_([grad, torch.zeros(0)], found, impl=impl)
    assert found == 0
    grad[1, 2, 3, 3] = math.inf
    find_inf_([grad], found, impl=impl)
    assert found == 1


@pytest.mark.parametrize("impl", IMPLS)
def test_loss_scale_moves_as_a_grad_scaler(impl):
    growth, backoff, interval = 4.0, 0.25, 3
    scale, tracker = torch.tensor(2.0**10), torch.tensor(0, dtype=torch.int32)
    expected = scale.clone(), tracker.clone()
    for found in (0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, math.inf):
        found_inf = torch.tensor(float(found))
        torch._amp_update_scale_(*expected, found_inf, growth, backoff, interval)
        loss_scale_update_(scale, tracker, found_inf, growth=growth, backoff=backoff, interval=interval, impl=impl)
        assert (scale, tracker) == expected
        assert found_inf == 0


@pytest.mark.parametrize("impl", IMPLS)
def test_the_defaults_are_those_of_a_grad_scaler(impl):
    scaler = torch.amp.GradScaler("cpu")
    for tracker, found in ((1998, 0.0), (1999, 0.0), (5, 1.0)):
        state = torch.tensor(65536.0), torch.tensor(tracker, dtype=torch.int32)
        expected = [t.clone() for t in state]
        numbers = scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()
        torch._amp_update_scale_(*expected, torch.tensor(found), *numbers)
        loss_scale_update_(*state, torch.tensor(found), impl=impl)
        assert state == tuple(expected)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_loss_scale_never_becomes_infinite(impl):
    scale, tracker = torch.tensor(3e38), torch.tensor(4, dtype=torch.int32)
    loss_scale_update_(scale, tracker, torch.zeros(()), interval=5, impl=impl)
    assert (scale, tracker) == (torch.tensor(3e38), torch.tensor(0))


# ---- the native ops


def positional(arguments):
    names = ["param", "exp_avg", "exp_avg_sq", "grads", "offsets", "hyper", "step", "eps", "weight_decay", "decoupled"]
    names += ["low", "ema", "ema_weight", "scale", "found_inf"]
    defaults = {"weight_decay": 0.0, "decoupled": False, "low": None, "scale": None, "found_inf": None}
    return tuple((defaults | arguments)[name] for name in names)


def test_opcheck():
    op, small = torch.ops.pygan.adam_.default, [(5, 3), (7,)]
    torch.library.opcheck(op, positional(problem(small)))
    everything = {"scale": torch.tensor(3.0), "found_inf": torch.zeros(()), "weight_decay": 0.1, "decoupled": True}
    torch.library.opcheck(op, positional(problem(small, grads=(torch.bfloat16,), low=torch.bfloat16) | everything))
    torch.library.opcheck(op, positional(problem(small) | {"ema": None}))
    torch.library.opcheck(torch.ops.pygan.find_inf_.default, ([torch.ones(3), torch.ones(4) / 0], torch.zeros(())))
    state = torch.tensor(2.0), torch.tensor(3, dtype=torch.int32), torch.zeros(())
    torch.library.opcheck(torch.ops.pygan.loss_scale_update_.default, (*state, 2.0, 0.5, 4))


def test_compiles_without_a_graph_break():
    arguments = problem([(5, 3), (7,)], low=torch.bfloat16) | {"found_inf": torch.zeros(()), "scale": torch.ones(())}

    def step(arguments):
        find_inf_(arguments["grads"], arguments["found_inf"], impl="native")
        adam_(**arguments, impl="native")
        return arguments["param"] * 2

    eager, compiled = copy_of(arguments), copy_of(arguments)
    expected = step(eager)
    assert torch.equal(torch.compile(step, backend="aot_eager", fullgraph=True)(compiled), expected)
    assert_same_bits(eager, compiled)


FLAT = torch.zeros(32)
ERRORS = [
    ({"exp_avg": torch.zeros(31)}, r"exp_avg must be contiguous"),
    ({"exp_avg_sq": torch.zeros(32).double()}, r"exp_avg_sq must"),
    ({"ema": torch.zeros(64)[::2]}, r"ema must be contiguous"),
    ({"low": torch.zeros(32)}, r"low must be"),
    ({"low": torch.zeros(31).bfloat16()}, r"low must be contiguous"),
    ({"hyper": torch.zeros(2)}, r"hyper must be"),
    ({"hyper": torch.zeros(3).half()}, r"hyper must be"),
    ({"step": torch.tensor(1.0)}, r"step must be one"),
    ({"step": torch.tensor([1, 2])}, r"step must be one"),
    ({"scale": torch.tensor(1.0).double()}, r"scale must be one"),
    ({"found_inf": torch.tensor(1)}, r"found_inf must be one"),
    ({"offsets": [0]}, r"offsets must hold one number for each of"),
    ({"offsets": [0, 12]}, r"offsets\[1\] must be a multiple of 8"),
    ({"offsets": [-8, 8]}, r"offsets\[0\] must be a multiple of 8"),
    ({"offsets": [0, 32]}, r"offsets\[1\] must be a multiple of 8 that leaves room for 3 of 32"),
    ({"offsets": [0, 0]}, r"the slice.*overlap"),
    ({"offsets": [8, 0], "grads": [torch.zeros(3), torch.zeros(9)]}, r"the slice.*overlap"),
    ({"grads": [torch.zeros(3), torch.zeros(6)[::2]]}, r"grads\[1\] must fill one run of memory"),
    ({"grads": [torch.zeros(3), torch.zeros(1).expand(3)]}, r"grads\[1\] must fill one run of memory"),
    ({"grads": [torch.zeros(3).double(), torch.zeros(3)]}, r"grads\[0\] must be"),
    ({"grads": [torch.zeros(3).int(), torch.zeros(3)]}, r"grads\[0\] must be"),
]


def small_problem():
    state = {name: FLAT.clone() for name in ("param", "exp_avg", "exp_avg_sq", "ema")}
    rest = {"grads": [torch.zeros(3), torch.zeros(3)], "offsets": [0, 8], "hyper": hyper_of(), "eps": 1e-8}
    return state | rest | {"step": torch.tensor(0), "ema_weight": 0.1}


@pytest.mark.parametrize(("wrong", "message"), ERRORS)
def test_errors_of_both_doors(wrong, message):
    with pytest.raises(ValueError, match=f"adam_: {message}"):
        adam_(**small_problem() | wrong)
    with pytest.raises(RuntimeError, match=f"adam_: {message}"):
        torch.ops.pygan.adam_(*positional(small_problem() | wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"param": torch.zeros(4, 8)}, r"param must be contiguous float32 or float64 of shape \(N,\)"),
        ({"param": torch.zeros(32).half()}, "param must be contiguous float32 or float64"),
        ({"ema": torch.zeros(32, device="meta")}, "ema must be contiguous"),
        ({"eps": -1.0}, "eps and weight_decay must be at least 0"),
        ({"ema_weight": 1.5}, "ema_weight between 0 and 1"),
        ({"weight_decay": math.nan}, "eps and weight_decay must be at least 0"),
        ({"grads": torch.zeros(2, 3)}, "grads must be a sequence of tensors"),
        ({"impl": "fast"}, "impl must be 'auto', 'native' or 'ref'"),
    ],
)
def test_errors(wrong, message):
    with pytest.raises(ValueError, match=f"adam_: .*{message}"):
        adam_(**small_problem() | wrong)


@pytest.mark.parametrize("name", ["param", "exp_avg", "exp_avg_sq", "ema"])
def test_the_native_op_wants_flat_tensors_at_16_bytes(name):
    arguments = small_problem() | {name: torch.zeros(33)[1:]}
    with pytest.raises(RuntimeError, match=f"adam_: {name} must begin at a multiple of 16 bytes"):
        torch.ops.pygan.adam_(*positional(arguments))


def test_errors_of_the_loss_scale():
    one, tracker = torch.ones(()), torch.zeros((), dtype=torch.int32)
    with pytest.raises(ValueError, match="find_inf_: found_inf must be one"):
        find_inf_([one], torch.zeros(2))
    with pytest.raises(ValueError, match=r"find_inf_: grads\[1\] must fill one run"):
        find_inf_([one, torch.zeros(4)[::2]], one)
    with pytest.raises(RuntimeError, match=r"find_inf_: grads\[0\] must fill one run"):
        torch.ops.pygan.find_inf_([torch.zeros(4)[::2]], one)
    for bad in ((tracker, tracker, one), (one, one, one), (one, tracker, tracker)):
        with pytest.raises(ValueError, match=r"loss_scale_update_: .* must be one"):
            loss_scale_update_(*bad)
        with pytest.raises(RuntimeError, match=r"loss_scale_update_: .* must be one"):
            torch.ops.pygan.loss_scale_update_(*bad, 2.0, 0.5, 4)
    for numbers in ({"growth": 1.0}, {"backoff": 1.0}, {"interval": 0}):
        with pytest.raises(ValueError, match="loss_scale_update_: growth must be"):
            loss_scale_update_(one, tracker, one, **numbers)


# ---- on a GPU

BIG = [(64, 6, 4, 4), (64,), (512, 1024, 4, 4), (3,), (1,), (129,), (256, 128, 4, 4)]  # blocks of several rounds
MANY = [(1 + 37 * i % 300,) for i in range(250)]  # several launches


@pytest.mark.cuda
@pytest.mark.parametrize("shapes", [SHAPES, MANY, BIG], ids=["small", "many", "big"])
@pytest.mark.parametrize("low", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grads", [(torch.float32,), (torch.bfloat16,), (torch.float32, torch.float16, torch.bfloat16)])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "decoupled": True}, {"weight_decay": 0.1, "ema": None}])
def test_cuda_equals_float64(options, grads, low, shapes):
    arguments = problem(shapes, grads=grads, low=low, device="cuda") | {"scale": torch.tensor(3.0, device="cuda")}
    arguments = arguments | {"found_inf": torch.zeros((), device="cuda")} | options
    exact = copy_of(arguments) | {"low": None}
    for name in flats(exact):
        exact[name] = exact[name].double()
    adam_(**exact, impl="ref")
    new = after(arguments, impl="native")
    untouched = torch.ones_like(arguments["param"], dtype=torch.bool)
    for grad, offset in zip(arguments["grads"], arguments["offsets"], strict=True):
        untouched[offset : offset + grad.numel()] = False
    for name, old in flats(arguments).items():
        assert torch.equal(new[name][untouched].nan_to_num(), old[untouched].nan_to_num()), name
        if name != "low":
            torch.testing.assert_close(new[name][~untouched].double(), exact[name][~untouched], rtol=1e-5, atol=1e-6)
            assert_close(new[name][~untouched], exact[name][~untouched], 1e-6)
    if low is not None:
        assert torch.equal(new["low"][~untouched], new["param"][~untouched].to(low))
    assert_same_bits(after(arguments, impl="native"), new)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("start", [1, 2, 3, 4])
def test_cuda_unaligned_gradients(start, dtype):
    arguments = problem([(5001,)], device="cuda")
    grad = arguments["grads"][0].to(dtype)
    moved = torch.zeros(5001 + start, dtype=dtype, device="cuda")[start:]
    moved.copy_(grad)
    assert_same_bits(*(after(arguments | {"grads": [g]}, impl="native") for g in (grad, moved)))
    found = torch.zeros((), device="cuda")
    find_inf_([moved], found, impl="native")
    assert found == 0
    moved[-1] = math.nan
    find_inf_([moved], found, impl="native")
    assert found == 1


@pytest.mark.cuda
def test_cuda_buckets_do_not_matter():
    arguments = problem(BIG, grads=(torch.bfloat16,), low=torch.bfloat16, device="cuda")
    whole, pieces = after(arguments, impl="native"), copy_of(arguments)
    for i in reversed(range(len(BIG))):
        adam_(**pieces | {key: [arguments[key][i]] for key in ("grads", "offsets")}, impl="native")
    assert_same_bits(pieces, whole)


@pytest.mark.cuda
@pytest.mark.parametrize("found", [1.0, math.nan])
def test_cuda_nothing_changes_where_infinities_were_found(found):
    arguments = problem(MANY, low=torch.float16, device="cuda") | {"found_inf": torch.tensor(found, device="cuda")}
    assert_same_bits(after(arguments, impl="native"), arguments)


@pytest.mark.cuda
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shapes", [MANY, BIG], ids=["many", "big"])
def test_cuda_bad_gradients_are_found_and_show(shapes, dtype, bad):
    arguments = problem(shapes, grads=(dtype,), device="cuda")
    found = torch.zeros((), device="cuda")
    find_inf_(arguments["grads"], found, impl="native")
    assert found == 0
    for i in (0, len(shapes) // 2, len(shapes) - 1):
        arguments["grads"][i].view(-1)[-1] = bad
        found.zero_()
        find_inf_(arguments["grads"], found, impl="native")
        assert found == 1
        new = after(arguments, impl="native")
        end = arguments["offsets"][i] + arguments["grads"][i].numel()
        assert not new["param"][end - 1].isfinite()
        arguments["grads"][i].view(-1)[-1] = 0.5


@pytest.mark.cuda
def test_cuda_loss_scale():
    states = [(torch.tensor(1024.0, device=d), torch.zeros((), dtype=torch.int32, device=d)) for d in ("cpu", "cuda")]
    for found in (0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0):
        for scale, tracker in states:
            found_inf = torch.tensor(float(found), device=scale.device)
            loss_scale_update_(scale, tracker, found_inf, interval=3, impl="native")
            assert found_inf == 0
        assert [float(t) for t in states[0]] == [float(t) for t in states[1]]


@pytest.mark.cuda
def test_cuda_graph_equals_eager_bit_for_bit(capture):
    first = problem(MANY, grads=(torch.float16, torch.float32), low=torch.float16, device="cuda")
    first |= {"scale": torch.tensor(4.0, device="cuda"), "found_inf": torch.zeros((), device="cuda")}
    tracker = torch.zeros((), dtype=torch.int32, device="cuda")

    def step(arguments, tracker):
        find_inf_(arguments["grads"], arguments["found_inf"], impl="native")
        adam_(**arguments, impl="native")
        arguments["step"].add_((arguments["found_inf"] == 0).to(torch.int64))
        loss_scale_update_(arguments["scale"], tracker, arguments["found_inf"], interval=2, impl="native")

    graphed, eager = copy_of(first), copy_of(first)  # they share the gradients
    trackers = tracker.clone(), tracker.clone()
    graph, _ = capture(lambda: step(graphed, trackers[0]))
    for name, value in first.items():  # what the warm-up changed
        if isinstance(value, torch.Tensor):
            graphed[name].copy_(value)
    trackers[0].zero_()
    for t in range(6):
        for grad in first["grads"]:
            grad.normal_()
        if t == 3:
            first["grads"][100][0] = math.inf
        graph.replay()
        step(eager, trackers[1])
        assert_same_bits(graphed, eager)
        assert graphed["step"] == eager["step"]
        assert graphed["scale"] == eager["scale"]
        assert torch.equal(*trackers)
    assert eager["step"] == 7 + 5
