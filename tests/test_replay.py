"""Replayed networks: the same bits on a GPU; on a CPU which shapes would be recorded, and how many are kept."""

import contextlib
import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pygan import apply, device, gans, graph, use
from pygan.nn import place_
from pygan.pixels import Picture
from pygan.recipe import make
from pygan.translate.replay import Replay


def network(name, device="cpu", **fields):
    gan = gans.load(name)
    recipe = gans.phases(gan, gan.resolve(make(gan.Recipe, gan.PRESETS, "tiny", {})))[-1]
    recipe = dataclasses.replace(recipe, **fields)
    torch.manual_seed(0)
    net = place_(gan.generator(recipe), torch.device(device)).requires_grad_(False)
    return use.Trained(gan, recipe, net, 7, torch.device(device))


def pictures(one, n, side=32, **options):
    channels = one.card.channels[one.card.direction(options)][0]
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(n * side)) * 2 - 1


class Counted(Replay):
    """Records nothing, and counts."""

    def __init__(self, one, **how):
        super().__init__(one, **how)
        self._records, self.recorded, self.replayed = True, [], []

    def _record(self, A, rng, options):
        self.recorded.append(tuple(A.shape))

        def replay(A, rng):
            self.replayed.append(tuple(A.shape))
            return self._network.translate(A, rng, **options)

        return replay


def test_a_shape_is_recorded_when_it_comes_again_and_few_are_kept():
    one = network("pix2pix")
    replayed = Counted(one, most=2)
    sizes = [32, 64, 32, 32, 64, 96, 96, 32, 64]
    for side in sizes:
        A = pictures(one, 1, side)
        assert torch.equal(replayed(A, one.rng(0)), one.translate(A, one.rng(0)))
    # When 96 is recorded 32 was not used for longest, so that goes; when 32 comes again, 64 goes.
    assert [shape[2] for shape in replayed.recorded] == [32, 64, 96, 32, 64]
    assert len(replayed.replayed) == len(sizes) - 3
    assert len(replayed._graphs) == 2


def test_options_and_chance_are_part_of_what_is_recorded():
    one = network("cyclegan")
    replayed = Counted(one)
    A = pictures(one, 1)
    for way in ("AtoB", "BtoA") * 2:
        assert torch.equal(replayed(A, direction=way), one.translate(A, direction=way))
    assert len(replayed.recorded) == 2
    replayed(A, one.rng(0), direction="AtoB")
    assert len(replayed.recorded) == 2  # without a seed and with one are not the same call


def test_what_cannot_be_recorded_stays_plain_and_says_so_once(capsys):
    one = network("pix2pix")

    class Refuses(Counted):
        def _record(self, A, rng, options):
            self.recorded.append(1)
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    replayed = Refuses(one)
    A = pictures(one, 1)
    for _ in range(4):
        assert torch.equal(replayed(A), one.translate(A))
    assert len(replayed.recorded) == 1
    assert capsys.readouterr().err.count("cannot be replayed") == 1


def test_a_shape_that_there_is_no_memory_to_record_stays_plain_alone(capsys):
    one = network("pix2pix")

    class Small(Counted):
        def _record(self, A, rng, options):
            if A.shape[2] > 32:
                self.recorded.append(tuple(A.shape))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super()._record(A, rng, options)

    replayed = Small(one)
    for side in (64, 64, 64, 32, 32, 64, 32):
        A = pictures(one, 1, side)
        assert torch.equal(replayed(A), one.translate(A))
    assert [shape[2] for shape in replayed.recorded] == [64, 32]
    assert [shape[2] for shape in replayed.replayed] == [32, 32]
    assert capsys.readouterr().err == ""


def test_graphs_go_where_the_memory_that_they_hold_is_needed():
    one = network("pix2pix")
    replayed = Counted(one)
    short = [RuntimeError("CUDA error: out of memory"), torch.OutOfMemoryError("CUDA out of memory.")]

    class Crowded:
        def translate(self, A, rng=None, **options):
            if A.shape[2] > 64 or (A.shape[2] > 32 and replayed._graphs):
                raise short[len(replayed._graphs) % 2]
            return one.translate(A, rng, **options)

    replayed._network = Crowded()
    for n, side in ((1, 32), (1, 32), (2, 32), (2, 32), (1, 64), (1, 32)):
        A = pictures(one, n, side)
        assert torch.equal(replayed(A), one.translate(A))
    assert replayed.recorded == [(1, 3, 32, 32), (2, 3, 32, 32), (1, 3, 32, 32)]
    with pytest.raises(RuntimeError, match="out of memory"):  # graphs or not
        replayed(pictures(one, 1, 96))


class Pretended:
    """What `Replay` and `GraphedStep` call of torch.cuda, with the rules that a GPU has. `calls`: in order."""

    def __init__(self, monkeypatch):
        self.calls, self.here, self.streams, self.fails = [], 0, ["default"], False
        for name in ("Stream", "CUDAGraph", "graph", "stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(device, "current", self.current)

    @contextlib.contextmanager
    def current(self, where):
        self.here += 1
        yield
        self.here -= 1

    def Stream(self):
        assert self.here, "a stream of whatever GPU is the current one"
        return type("Stream", (), {"wait_stream": lambda self, other: None})()

    def current_stream(self):
        return type("Stream", (), {"wait_stream": lambda self, other: None})()

    @contextlib.contextmanager
    def stream(self, stream):
        before = list(self.streams)
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams = before

    def CUDAGraph(self):
        assert self.here
        return type("Graph", (), {"replay": lambda graph: self.calls.append(("replay", self.here))})()

    @contextlib.contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        before = list(self.streams)
        self.streams.append(stream)
        self.calls.append(("record", capture_error_mode))
        try:
            yield
            if self.fails:
                raise ValueError("an operation that waits\nand more")
        except ValueError as error:  # PyTorch leaves its stream current then
            later = RuntimeError("CUDA error: operation failed due to a previous error during capture")
            later.__context__ = error
            raise later from None
        self.streams = before


def test_streams_and_graphs_are_of_the_gpu_of_the_network(monkeypatch):
    one = network("pix2pix")
    gpu, replayed = Pretended(monkeypatch), Replay(one)
    replayed._records = True
    A = pictures(one, 1)
    for _ in range(4):
        assert torch.equal(replayed(A), one.translate(A))
    assert gpu.calls == [("record", "thread_local"), *[("replay", 1)] * 3]
    assert gpu.here == 0
    assert gpu.streams == ["default"]


def test_a_training_step_is_recorded_and_replayed_on_the_gpu_of_its_state(monkeypatch):
    gpu = Pretended(monkeypatch)
    monkeypatch.setattr(graph, "current", gpu.current)
    gan = gans.load("dcgan")
    recipe = gan.resolve(make(gan.Recipe, gan.PRESETS, "tiny", {}))
    state, batch = gan.build(recipe, "cpu"), gan.example(recipe, "cpu")
    batch = type(batch)(*(tensor.zero_() for tensor in batch))
    step = graph.GraphedStep(lambda batch: gan.step(state, recipe, batch), state, batch, overlap=False)
    assert step(batch).keys() >= {"loss/G", "loss/D"}
    assert gpu.calls == [("record", "thread_local"), ("replay", 1)]
    assert gpu.here == 0


def test_where_recording_fails_the_stream_is_as_before(monkeypatch, capsys):
    one = network("pix2pix")
    gpu, replayed = Pretended(monkeypatch), Replay(one)
    gpu.fails = replayed._records = True
    A = pictures(one, 1)
    for _ in range(3):
        assert torch.equal(replayed(A), one.translate(A))
    assert gpu.streams == ["default"]
    line = "this network cannot be replayed, so each kernel is launched: an operation that waits\n"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pix2pix", "cogan"])
def test_on_a_cpu_and_for_a_search_nothing_is_recorded(name):
    one = network(name)
    replayed = Replay(one)
    assert not replayed._records
    A = pictures(one, 1)
    assert torch.equal(replayed.translate(A, one.rng(3)), one.translate(A, one.rng(3)))


CASES = [
    ("pix2pix", {}, {}), ("pix2pix", {"test_dropout": True}, {}), ("cyclegan", {}, {"direction": "BtoA"}),
    ("feature_gan", {}, {}), ("simgan", {}, {}), ("bigan", {}, {}), ("stargan", {}, {"to": "Male"}),
]  # fmt: skip


class Holds(TorchDispatchMode):
    """Inside, what no CUDA graph can hold is an error: data that come from Python, and values that are read."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.name() not in ("aten::lift_fresh", "aten::_local_scalar_dense"), func.name()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "fields", "options"), CASES)
def test_a_graph_can_hold_a_translation(name, fields, options):
    one = network(name, **fields)
    A, rng = pictures(one, 1, **options), one.rng(0)
    with torch.inference_mode(), Holds():
        one.translate(A, rng, **options)
    with pytest.raises(AssertionError, match="lift_fresh"), Holds():
        one.rng(0)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "fields", "options"), CASES)
def test_replayed_is_bit_equal_to_plain(name, fields, options):
    one = network(name, "cuda", **fields)
    replayed = Replay(one)
    with torch.inference_mode():
        for n, side, seed in [(1, 32, 0), (2, 64, 1), (1, 32, 2), (1, 32, 3), (2, 64, 4), (2, 64, 5), (1, 32, 6)]:
            A = pictures(one, n, side, **options)
            assert torch.equal(replayed(A, one.rng(seed), **options), one.translate(A, one.rng(seed), **options)), (
                f"batch of {n}, {side} pixels, seed {seed}"
            )
    assert len(replayed._graphs) == 2


@pytest.mark.cuda
def test_pictures_through_a_replayed_network_are_the_same():
    one = network("pix2pix", "cuda")
    replayed = Replay(one, most=1)
    values = (torch.rand(4, 40, 50, 3, generator=torch.Generator().manual_seed(1)) * 255).byte().numpy()
    given = [Picture(x) for x in values]
    expected = apply.translated(one, given)
    for _ in range(4):
        for a, b in zip(apply.translated(replayed, given), expected, strict=True):
            assert (a.pixels == b.pixels).all()


@pytest.mark.cuda
def test_graphs_that_go_give_their_memory_back():
    one = network("pix2pix", "cuda")
    replayed = Replay(one, most=2)
    used = []
    for side in (64, 96, 128, 160, 192, 224, 256, 96, 64):
        for _ in range(3):
            replayed(pictures(one, 1, side), one.rng(0))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        used.append(torch.cuda.memory_reserved())
    assert used[-1] <= max(used[:-1])
    assert len(replayed._graphs) == 2
