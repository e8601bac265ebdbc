"""adam_ against what a user writes in PyTorch: torch.optim.Adam(fused=True), the cast of the new weights, the average.

    pix2pix       the 54 M parameters of its generator in their real shapes (on a CPU: a quarter of the channels)
    small         400 tensors of 64 to 512 values, as norms have them
    find_inf      all gradients of the generator; beside it torch's pass over them, as GradScaler makes it

bfloat16 rows have 16-bit gradients and write working copies; torch's fused Adam wants float32 gradients, so its row
casts them first and the weights afterwards, as autocast does. Every row first compares with float64 on the inputs that
it then times. On a GPU a row is 20 repetitions in one CUDA graph, and gradients change from one to the next.

    pytest benchmarks/bench_adam.py --benchmark-json=out.json
"""

import itertools
import math

import pytest
import torch

from benchmarks.timing import DEVICE, DTYPES, record
from pygan.ops import _native
from pygan.ops.adam import adam_, adam_ref, find_inf_

LR, BETAS, EPS, STEPS = 2e-4, (0.5, 0.999), 1e-8, 3
EMA_WEIGHT = 1e-3


def unet(base):
    """Shapes of pix2pix' generator (Isola 2017): eight encoder and eight decoder convolutions, and their norms."""
    down = [(base, 3)] + [(base * min(8, 2**i), base * min(8, 2 ** (i - 1))) for i in range(1, 8)]
    up = [(8, 8), (16, 8), (16, 8), (16, 8), (16, 4), (8, 2), (4, 1)]
    up = [(i * base, o * base) for i, o in up] + [(2 * base, 3)]
    norms = [(o,) for o, _ in down[1:-1]] * 2 + [(o,) for _, o in up[:-1]] * 2
    return [(*pair, 4, 4) for pair in down + up] + norms


SHAPES = {
    "pix2pix": unet(64 if DEVICE == "cuda" else 16),
    "small": [(64 << i % 4,) for i in range(400)],
}


class Case:
    """A net on flat tensors, with gradients of three steps that take turns."""

    def __init__(self, shapes, dtype, *, average):
        torch.manual_seed(0)
        self.offsets, end = [], 0
        for shape in shapes:
            self.offsets.append(end)
            end += -(-math.prod(shape) // 16) * 16
        self.values = sum(math.prod(shape) for shape in shapes)
        self.shapes = shapes
        self.param = torch.randn(end, device=DEVICE)
        self.exp_avg, self.exp_avg_sq = torch.randn_like(self.param) * 1e-3, torch.rand_like(self.param) * 1e-6
        self.ema = self.param.clone() if average else None
        self.low = self.param.to(dtype) if dtype != torch.float32 else None
        self.all_grads = [[torch.randn(s, device=DEVICE).mul(1e-3).to(dtype) for s in shapes] for _ in range(3)]
        self.grads = itertools.cycle(self.all_grads)
        self.step = torch.tensor(STEPS, device=DEVICE)
        self.hyper = torch.tensor([LR, *BETAS], dtype=torch.float64, device=DEVICE)

    @property
    def bytes(self):
        """The contract: gradient once; weight and moments read and written; copy written; average read and written."""
        per_value = self.all_grads[0][0].element_size() + 24
        per_value += 0 if self.low is None else self.low.element_size()
        return self.values * (per_value + (0 if self.ema is None else 8))

    def slices(self, flat):
        """The tensors that lie in a flat one."""
        return [flat[o : o + math.prod(s)].view(s) for o, s in zip(self.offsets, self.shapes, strict=True)]

    def native(self):
        adam_(
            self.param,
            self.exp_avg,
            self.exp_avg_sq,
            next(self.grads),
            self.offsets,
            hyper=self.hyper,
            step=self.step,
            eps=EPS,
            low=self.low,
            ema=self.ema,
            ema_weight=EMA_WEIGHT,
            impl="native",
        )

    def expected(self):
        """{name: flat float64 tensor} after one step with the first gradients."""
        exact = {name: getattr(self, name).double() for name in ("param", "exp_avg", "exp_avg_sq")}
        ema = None if self.ema is None else self.ema.double()
        adam_ref(
            *exact.values(),
            [grad.double() for grad in self.all_grads[0]],
            self.offsets,
            hyper=self.hyper,
            step=self.step,
            eps=EPS,
            ema=ema,
            ema_weight=EMA_WEIGHT,
        )
        return exact | ({} if ema is None else {"ema": ema})

    def torch_step(self):
        """The same by torch.optim.Adam: a function, and the flat tensors that it changes live on in this case."""
        params = [p.requires_grad_() for p in self.slices(self.param)]
        moments = zip(self.slices(self.exp_avg), self.slices(self.exp_avg_sq), strict=True)
        opt = torch.optim.Adam(params, lr=LR, betas=BETAS, eps=EPS, fused=True, capturable=DEVICE == "cuda")
        for param, (exp_avg, exp_avg_sq) in zip(params, moments, strict=True):
            step = torch.tensor(float(STEPS), device=DEVICE)
            opt.state[param] = {"step": step, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        lows = None if self.low is None else self.slices(self.low)
        averages = None if self.ema is None else self.slices(self.ema)

        @torch.no_grad()
        def step():
            for param, grad in zip(params, next(self.grads), strict=True):
                param.grad = grad.float()
            opt.step()
            if lows is not None:
                torch._foreach_copy_(lows, params)
            if averages is not None:
                torch._foreach_lerp_(averages, params, EMA_WEIGHT)

        return step


def needs_native(impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())


@pytest.mark.parametrize("impl", ["native", "torch"])
@pytest.mark.parametrize("average", [False, True], ids=["", "ema"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", SHAPES)
def test_step(benchmark, net, dtype, average, impl):
    needs_native(impl)
    case = Case(SHAPES[net], DTYPES[dtype], average=average)
    expected = case.expected()
    step = case.native if impl == "native" else case.torch_step()
    step()
    for name, flat in expected.items():
        for actual, exact in zip(case.slices(getattr(case, name)), case.slices(flat), strict=True):
            torch.testing.assert_close(actual.detach().double(), exact, rtol=2e-5, atol=1e-7)
    if case.low is not None:
        for low, param in zip(case.slices(case.low), case.slices(case.param), strict=True):
            assert torch.equal(low, param.detach().to(low.dtype))
    record(benchmark, f"adam {net} {dtype}{' ema' if average else ''}", step, moved=case.bytes)


@pytest.mark.parametrize("impl", ["native", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_find_inf(benchmark, dtype, impl):
    needs_native(impl)
    case = Case(SHAPES["pix2pix"], DTYPES[dtype], average=False)
    found, one = torch.zeros((), device=DEVICE), torch.ones((), device=DEVICE)

    def step():
        grads = next(case.grads)
        if impl == "native":
            find_inf_(grads, found, impl="native")
        else:
            torch._amp_foreach_non_finite_check_and_unscale_(grads, found, one)

    for _ in case.all_grads:
        step()
    assert found == 0
    case.all_grads[1][3].view(-1)[-1] = math.inf
    for _ in case.all_grads:
        step()
    assert found == 1
    case.all_grads[1][3].view(-1)[-1] = 0.0
    record(benchmark, f"find_inf {dtype}", step, moved=case.values * DTYPES[dtype].itemsize)
