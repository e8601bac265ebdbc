"""The pool of generated pictures against a plain loop, picture by picture."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pygan import pool
from pygan.ops.philox import words
from pygan.state import State

SHAPE = (2, 3, 5)


def numbered(first, n, shape=SHAPE, device="cpu"):
    """n pictures, each of one value of its own."""
    values = torch.arange(first, first + n, dtype=torch.float32, device=device).view(n, 1, 1, 1)
    return (values + torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device) / 2).contiguous(
        memory_format=torch.channels_last
    )


class PlainPool:
    """The published rule with the same draws."""

    def __init__(self, size):
        self.size, self.images = size, []

    def exchange(self, fresh, rng, stream):
        draws = words(rng, stream, 2 * len(fresh)).tolist()
        returned = []
        for image, chance, place in zip(fresh, draws[0::2], draws[1::2], strict=True):
            if len(self.images) < self.size:
                self.images.append(image)
                returned.append(image)
            elif chance / 2**32 > 0.5:
                slot = place * self.size // 2**32
                returned.append(self.images[slot])
                self.images[slot] = image
            else:
                returned.append(image)
        return torch.stack(returned)


def run(size, batch, steps, device="cpu", shape=SHAPE, seed=7):
    """What comes back in each step, and the pool at the end."""
    own = pool.empty(size, shape, device=device)
    rng = torch.tensor([seed, 0], device=device)
    returned = []
    for i in range(steps):
        returned.append(pool.exchange_(**own, fresh=numbered(i * batch, batch, shape, device), rng=rng, stream=3))
        rng[1] += 1
    return returned, own


@pytest.mark.parametrize("batch", [1, 2, 4, 9])
@pytest.mark.parametrize("size", [1, 2, 6, 50])
def test_it_is_the_plain_loop(size, batch):
    steps = 100 // batch + 20
    returned, own = run(size, batch, steps)
    plain, rng = PlainPool(size), torch.tensor([7, 0])
    for i in range(steps):
        assert torch.equal(returned[i], plain.exchange(numbered(i * batch, batch), rng, 3)), i
        rng[1] += 1
    assert torch.equal(own["images"], torch.stack(plain.images))
    assert own["count"] == size


def test_the_first_come_back_and_then_half_are_older():
    returned, own = run(50, 50, 41, shape=(1, 1, 1))
    ids = torch.cat(returned).flatten().int().tolist()
    assert ids[:50] == list(range(50))
    ages = [i - back for i, back in enumerate(ids)][50:]
    assert min(ages) == 0
    older = [age for age in ages if age]
    assert 0.46 < len(older) / len(ages) < 0.54
    assert 85 < sum(older) / len(older) < 115  # a slot waits for one of 50 with a chance of 1/2 a step
    assert own["count"] == 50


def test_a_batch_may_be_larger_than_the_pool_and_meets_its_own_pictures():
    returned, _ = run(2, 8, 6)
    ids = [[int(image.min()) for image in images] for images in returned]
    assert ids[0][:2] == [0, 1]
    same_batch = [back // 8 == i and back != i * 8 + j for i, row in enumerate(ids) for j, back in enumerate(row)]
    assert any(same_batch)


def test_the_count_ends_at_the_size():
    counts, own, rng = [], pool.empty(5, SHAPE, device="cpu"), torch.tensor([7, 0])
    for i in range(4):
        pool.exchange_(**own, fresh=numbered(2 * i, 2), rng=rng, stream=3)
        counts.append(own["count"].item())
    assert counts == [2, 4, 5, 5]


def test_what_comes_back_is_channels_last_and_its_own_memory():
    own = pool.empty(2, SHAPE, device="cpu", dtype=torch.float64)
    assert own["images"].is_contiguous(memory_format=torch.channels_last)
    fresh = numbered(0, 2).double().contiguous()
    returned = pool.exchange_(**own, fresh=fresh, rng=torch.tensor([0, 0]), stream=0)
    assert returned.is_contiguous(memory_format=torch.channels_last)
    assert returned.dtype == torch.float64
    returned.zero_()
    assert torch.equal(own["images"], fresh)
    assert fresh.abs().sum() > 0


def test_streams_and_offsets_draw_their_own():
    full = {"images": numbered(0, 8), "count": torch.tensor(8)}

    def ids(seed, offset, stream):
        own = {name: tensor.clone() for name, tensor in full.items()}
        rng = torch.tensor([seed, offset])
        return pool.exchange_(**own, fresh=numbered(100, 16), rng=rng, stream=stream)[:, 0, 0, 0].tolist()

    draws = [ids(0, 0, 0), ids(1, 0, 0), ids(0, 1, 0), ids(0, 0, 1)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])
    assert ids(0, 0, 0) == draws[0]


def test_the_state_carries_it():
    def state():
        buffers = pool.empty(3, SHAPE, device="cpu", prefix="pool_")
        buffers["rng"] = torch.tensor([5, 0])
        return State(nets={"G": nn.Linear(1, 1)}, opts={}, buffers=buffers)

    def go_on(state, steps, first):
        back = []
        for i in range(steps):
            parts = {"images": state.pool_images, "count": state.pool_count}
            back.append(pool.exchange_(**parts, fresh=numbered(first + i, 1), rng=state.rng, stream=0))
            state.rng[1] += 1
        return torch.cat(back)

    whole, resumed = state(), state()
    go_on(whole, 5, 0)
    with torch.no_grad():
        for name, tensor in resumed.tensors().items():
            tensor.copy_(whole.tensors()[name])
    assert torch.equal(go_on(whole, 20, 5), go_on(resumed, 20, 5))
    assert torch.equal(whole.pool_images, resumed.pool_images)


@pytest.mark.parametrize("batch", [1, 4])
def test_it_is_few_launches(batch):
    """Operations that are no views, beside the draws: on a GPU each of them is a kernel in the graph of a step."""

    class Count(TorchDispatchMode):
        kernels = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.kernels += not func.is_view
            return func(*args, **(kwargs or {}))

    own, fresh, rng = pool.empty(6, SHAPE, device="cpu"), numbered(0, batch), torch.tensor([7, 0])
    with Count() as whole:
        pool.exchange_(**own, fresh=fresh, rng=rng, stream=3)
    with Count() as draws:
        words(rng, 3, 2 * batch)
    assert 0 < whole.kernels - draws.kernels <= 22


def test_it_has_no_history():
    own = pool.empty(1, SHAPE, device="cpu")
    fresh = numbered(0, 2).requires_grad_()
    assert not pool.exchange_(**own, fresh=fresh, rng=torch.tensor([0, 0]), stream=0).requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fresh": torch.zeros(2, 2, 3, 4)}, r"fresh must have shape \(n, 2, 3, 5\) with n > 0, got \[2, 2, 3, 4\]"),
        ({"fresh": torch.zeros(0, *SHAPE)}, "with n > 0"),
        ({"fresh": torch.zeros(1, *SHAPE, dtype=torch.float64)}, "fresh must be torch.float32 on cpu like images"),
        ({"count": torch.zeros(1, dtype=torch.int64)}, r"count must be an int64 of shape \[\]"),
        ({"images": torch.zeros(4, *SHAPE)}, "images must be channels_last"),
    ],
)
def test_mistakes_are_named(change, message):
    given = {**pool.empty(4, SHAPE, device="cpu"), "fresh": numbered(0, 1), **change}
    with pytest.raises(ValueError, match=message):
        pool.exchange_(**given, rng=torch.tensor([0, 0]), stream=0)


def test_an_empty_pool_has_room():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        pool.empty(0, SHAPE, device="cpu")


@pytest.mark.cuda
@pytest.mark.parametrize("batch", [1, 4])
def test_on_cuda_it_is_the_plain_loop_too_and_never_waits(batch):
    expected, expected_pool = run(6, batch, 20)
    torch.cuda.synchronize()
    own = pool.empty(6, SHAPE, device="cuda")
    rng, one = torch.tensor([7, 0], device="cuda"), torch.tensor([0, 1], device="cuda")
    pictures = [numbered(i * batch, batch, device="cuda") for i in range(20)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        returned = []
        for fresh in pictures:
            returned.append(pool.exchange_(**own, fresh=fresh, rng=rng, stream=3))
            rng += one
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, returned, strict=True))
    assert torch.equal(expected_pool["images"], own["images"].cpu())


@pytest.mark.cuda
def test_a_cuda_graph_holds_it(capture):
    own = pool.empty(6, SHAPE, device="cuda")
    fresh, rng = numbered(0, 2, device="cuda"), torch.tensor([7, 0], device="cuda")
    graph, returned = capture(lambda: pool.exchange_(**own, fresh=fresh, rng=rng, stream=3))
    own["count"].zero_()
    expected, expected_pool = run(6, 2, 20)
    for i in range(20):
        fresh.copy_(numbered(2 * i, 2, device="cuda"))
        graph.replay()
        assert torch.equal(returned.cpu(), expected[i])
        rng[1] += 1
    assert torch.equal(expected_pool["images"], own["images"].cpu())
