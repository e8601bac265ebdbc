"""loss_sum against separate losses: what D and G of pix2pix are updated by, forward and backward.

Logits of the 70 x 70 PatchGAN, (n, 1, 30, 30), and images (n, 3, 256, 256) (14 x 14 and 128 x 128 on a CPU, the
demo's), channels_last. bfloat16 rows have logits in bfloat16; images stay float32, as in a training step. D judges 2n
samples with one term; G has two, its GAN loss and the L1 loss. `together` is loss_sum's kernel with the unit seed,
`separate` are the kernels of gan_loss and l1_loss and a sum, `ref` is plain PyTorch. Every row first compares with
float64 on the inputs that it then times. On a GPU a row is 20 repetitions in one CUDA graph, which take inputs of four
sets in turn.

    pytest benchmarks/bench_loss_sum.py --benchmark-json=out.json
"""

import itertools

import pytest
import torch

from benchmarks.timing import DEVICE, DTYPES, record
from pygan.ops import _native
from pygan.ops.gan_loss import gan_loss
from pygan.ops.l1_loss import l1_loss
from pygan.ops.loss_sum import L1Term, gan_term, l1_term, loss_sum, loss_sum_ref, unit_seed

PATCH, IMAGE = (30, 256) if DEVICE == "cuda" else (14, 128)
SETS = 4


def draw(n, dtype):
    """Leaves and targets of one set."""
    nhwc = {"memory_format": torch.channels_last}
    logits = torch.randn(n, 1, PATCH, PATCH, device=DEVICE).to(dtype).requires_grad_()
    fake, real = (torch.rand(n, 3, IMAGE, IMAGE, device=DEVICE).mul(2).sub(1).contiguous(**nhwc) for _ in range(2))
    return logits, fake.requires_grad_(), real


def terms_of(side, logits, fake, real):
    """Terms and the leaves they reach."""
    if side == "D":
        return [gan_term(logits, mode="vanilla", side="D", n_real=logits.shape[0] // 2)], [logits]
    return [gan_term(logits, mode="vanilla", side="G"), l1_term(fake, real, weight=100.0)], [logits, fake]


def separate(terms):
    total = None
    for term in terms:
        if isinstance(term, L1Term):
            loss = l1_loss(term.a, term.b, weight=term.weight, impl="native")
        else:
            loss = gan_loss(
                term.logits, mode=term.mode, side=term.side, n_real=term.n_real, weight=term.weight, impl="native"
            ).loss
        total = loss if total is None else total + loss
    return total


@pytest.mark.parametrize("way", ["together", "separate", "ref"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["D", "G"])
@pytest.mark.parametrize("n", [1, 16, 64] if DEVICE == "cuda" else [1, 4])
def test_step(benchmark, n, side, dtype, way):
    if way != "ref" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    sets = [draw(2 * n if side == "D" else n, DTYPES[dtype]) for _ in range(SETS)]
    turns = itertools.cycle(sets)
    seed = unit_seed(DEVICE)

    def step():
        terms, leaves = terms_of(side, *next(turns))
        if way == "separate":
            total = separate(terms)
        else:
            total = loss_sum(*terms, impl="native" if way == "together" else "ref").total
        return total, *torch.autograd.grad(total, leaves, seed)

    for logits, fake, real in sets:
        terms, leaves = terms_of(side, logits.double(), fake.double(), real.double())
        exact = loss_sum_ref(*terms).total
        expected = exact, *torch.autograd.grad(exact, leaves)
        for value, reference in zip(step(), expected, strict=True):
            tolerance = {"rtol": 4 * torch.finfo(value.dtype).eps, "atol": 1e-6, "check_dtype": False}
            torch.testing.assert_close(value, reference, **tolerance)
    # the contract: logits, fake and real once, the gradients once
    logits, fake, real = sets[0]
    moved = 2 * logits.numel() * logits.element_size() + (side == "G") * 3 * fake.numel() * fake.element_size()
    record(benchmark, f"loss_sum {side} {dtype} {n}x3x{IMAGE}x{IMAGE}", step, moved=moved)
