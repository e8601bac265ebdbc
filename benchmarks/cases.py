"""What is compared: the cases, the ways to train a step of one, and how a way is built.

A case is a GAN at a size, a width and a batch. A way is pygan, or a yardstick that a user can have without it. Every
way of a case begins with the same weights (drawn on the CPU from seed 0) and is called with the same batches.
"""

import dataclasses
import functools
import importlib
import shutil
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.plain import PlainPix2pix
from benchmarks.plain_cyclegan import PlainCycleGAN
from pygan import device as devices
from pygan.data import Batch
from pygan.gans import pix2pix
from pygan.graph import GraphedStep

WARM_UP = 3  # steps before a graph is captured
# Learning rates for the check of losses. At the papers' 2e-4 Adam's first steps, which are the sign of every gradient,
# let the rounding of gradients near 0 grow tenfold every few steps, until not even float32 follows float64.
CHECK_LR = {"pix2pix": 2e-5, "cyclegan": 2e-6}


@dataclass(frozen=True)
class Case:
    """size: pixels, width: channels of the first convolution, batch: images per step."""

    gan: str
    size: int
    width: int
    batch: int

    @property
    def blocks(self):
        """Residual blocks of CycleGAN's generators, as the paper has them."""
        return 6 if self.size <= 128 else 9


@dataclass(frozen=True)
class Way:
    """pygan: ours, else the yardstick; amp: bf16 (yardstick: channels_last, fused Adam too); kernels: of the recipe;
    overlap: of `GraphedStep`.
    """

    title: str
    pygan: bool = False
    amp: bool = True
    compiled: bool = False
    graph: bool = False
    kernels: str = "auto"
    overlap: bool = True

    @property
    def layout(self):
        """Of the pictures, as whoever takes this way would have them."""
        return torch.channels_last if self.pygan or self.amp else torch.contiguous_format


# p: pix2pix (U-Net, 70x70 PatchGAN), c: CycleGAN (two ResNets, LSGAN, identity, pool); the number is the batch.
CASES = {
    "p1": Case("pix2pix", 256, 64, 1),
    "p16": Case("pix2pix", 256, 64, 16),
    "p64": Case("pix2pix", 256, 64, 64),
    "c1": Case("cyclegan", 256, 64, 1),
    "c8": Case("cyclegan", 256, 64, 8),
    "p1@128": Case("pix2pix", 128, 64, 1),
    "p16@128": Case("pix2pix", 128, 64, 16),
    "p1@512": Case("pix2pix", 512, 64, 1),
    "p4@512": Case("pix2pix", 512, 64, 4),
    "p1@64": Case("pix2pix", 64, 16, 1),
    "c1@64": Case("cyclegan", 64, 8, 1),
    "demo": Case("pix2pix", 128, 32, 4),  # the size that the bare command trains on a CPU
}
DEFAULT_CASES = {"cpu": ("p1@64", "c1@64", "demo")}
DEFAULT_CASES["cuda"] = tuple(name for name in CASES if name not in DEFAULT_CASES["cpu"])

WAYS = {
    "eager": Way("PyTorch as it comes", amp=False),
    "amp": Way("PyTorch with bf16 autocast, channels_last and fused Adam"),
    "amp graph": Way("amp in a CUDA graph", graph=True),
    "compile": Way("torch.compile with channels_last, fused Adam and, where it is fast, bf16", compiled=True),
    "compile graph": Way("compile in a CUDA graph", compiled=True, graph=True),
    "pygan": Way("pygan --amp", pygan=True, graph=True),
    "pygan float32": Way("pygan in float32", pygan=True, amp=False, graph=True),
    "pygan no graph": Way("pygan --amp --graph off", pygan=True),
    "pygan library": Way("pygan --amp --kernels library", pygan=True, graph=True, kernels="library"),
    "pygan one stream": Way("pygan --amp, one kernel after the other", pygan=True, graph=True, overlap=False),
}
YARDSTICKS = tuple(name for name, way in WAYS.items() if not way.pygan)
DEFAULT_WAYS = {"cpu": ("eager", "amp", "compile", "pygan float32", "pygan"), "cuda": (*YARDSTICKS, "pygan")}


def why_not(way, device):
    """Why this machine cannot take this way; "" if it can."""
    if device == "cpu" and way.graph and not way.pygan:
        return "a CPU has no CUDA graphs"
    if way.amp and not way.compiled and not bf16_is_fast(device):
        return "bf16 is not faster than float32 on this machine"
    if way.compiled and device == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "torch.compile finds no C++ compiler"
    return ""


def bf16_is_fast(device):
    """Does `--amp` take bf16 here?"""
    recipe = pix2pix.Recipe(amp=True)
    return devices.precision(recipe, torch.device(device))[0] == torch.bfloat16


def batches(case, way, device, count=4):
    """`count` batches in the layout of the way: soft shapes and a little noise, never the same twice."""
    generator = torch.Generator().manual_seed(1)

    def images():
        coarse = torch.rand(case.batch, 3, case.size // 16, case.size // 16, generator=generator)
        soft = F.interpolate(coarse, size=(case.size, case.size), mode="bilinear")
        noise = torch.rand(case.batch, 3, case.size, case.size, generator=generator)
        images = (0.9 * soft + 0.1 * noise).mul(2).sub(1)
        return images.to(device).contiguous(memory_format=way.layout)

    return [Batch(images(), images()) for _ in range(count)]


def plain(case, device, *, check=False, **how):
    """The yardstick of a case, a `Plain`. check: as in `build`; how: of `Plain`."""
    if check:
        how |= {"lr": CHECK_LR[case.gan]}
    if case.gan == "pix2pix":
        return PlainPix2pix(case.size, device, width=case.width, dropout=0.0 if check else 0.5, **how)
    shape = {"width": case.width, "blocks": case.blocks, "pool": 0 if check else 50}
    return PlainCycleGAN(case.size, device, **shape, **how)


def build(case, way, device, *, check=False):
    """A function of a batch that trains one step and returns its losses by the names of pygan's logs, as tensors.

    check: without dropout and image pool and with CHECK_LR, so that all ways must lose the same.
    """
    torch.backends.cudnn.benchmark = True  # as `pygan train` has it
    make = ours if way.pygan else theirs
    return make(case, way, device, check=check)


def ours(case, way, device, *, check):
    """pygan's step as `pygan train` runs it. All that these benchmarks know of pygan's interfaces is in here."""
    gan = importlib.import_module(f"pygan.gans.{case.gan}")
    fields = {"load_size": case.size, "crop_size": case.size, "ngf": case.width, "ndf": case.width}
    fields |= {"batch": case.batch, "amp": way.amp}
    if check:
        fields |= {"lr": CHECK_LR[case.gan], **({"dropout_p": 0.0} if case.gan == "pix2pix" else {"pool_size": 0})}
    if way.kernels != "auto":
        fields["kernels"] = way.kernels
    recipe = gan.resolve(gan.Recipe(**fields))
    state = gan.build(recipe, device)
    for name, values in _first_weights(case).items():
        mine = list(state.nets[name].parameters())
        if [p.shape for p in mine] != [value.shape for value in values]:
            raise AssertionError(f"{name} of {case.gan} is another network than the yardstick's")
        with torch.no_grad():
            for p, value in zip(mine, values, strict=True):
                p.copy_(value)
    state.refresh_()

    def step(batch):
        return gan.step(state, recipe, batch)

    if way.graph and device == "cuda":
        return GraphedStep(step, state, batches(case, way, device, 1)[0], overlap=way.overlap)
    return step


@functools.lru_cache(maxsize=1)
def _first_weights(case):
    """{"G": [...], "D": [...]} on the CPU, in the order of `parameters()`."""
    return {name: [p.detach() for p in net.parameters()] for name, net in plain(case, "cpu").nets.items()}


def theirs(case, way, device, *, check):
    """The yardstick's step, the way it is said to be taken."""
    how = {"channels_last": way.layout == torch.channels_last, "fused": way.amp or None}
    low = way.amp and bf16_is_fast(device)  # where it is not, torch.compile is still worth a row
    model = plain(case, device, check=check, capturable=way.graph, **how)
    if way.compiled:
        model.compile_()
    # Inside a graph the cache of cast weights would outlive the capture, so it is off there.

    def step(batch):
        with torch.autocast(device, torch.bfloat16, enabled=low, cache_enabled=not way.graph):
            return model.step(*batch)

    return Replay(model, batches(case, way, device, 1)[0], step) if way.graph else step


class Replay:
    """The yardstick's step as a CUDA graph, its weights and moments as before the warm-up.

    step: a function of a batch that trains `model` by one step; None: the step as it is.
    """

    def __init__(self, model, batch, step=None):
        step = step or (lambda batch: model.step(*batch))
        self._batch = Batch(*(tensor.clone(memory_format=torch.preserve_format) for tensor in batch))
        live = [value for net in model.nets.values() for value in net.state_dict().values()]
        before = [value.detach().clone() for value in live]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            with torch.enable_grad():
                for _ in range(WARM_UP):
                    step(self._batch)
            for opt in model.opts.values():
                opt.zero_grad(set_to_none=True)
                for moments in opt.state.values():
                    for value in moments.values():
                        value.zero_()
            for value, first in zip(live, before, strict=True):
                value.copy_(first)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = step(self._batch)

    def __call__(self, batch):
        for static, tensor in zip(self._batch, batch, strict=True):
            static.copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._losses


def work_of(case):
    """What a step of this case is made of (`floor.Work`); nothing is computed."""
    from benchmarks import floor

    A, B = (torch.empty(case.batch, 3, case.size, case.size, device="meta") for _ in "AB")
    return floor.work(plain(case, "meta", check=True), A, B)


def described(case):
    """The fields of a row that say what was trained."""
    return dataclasses.asdict(case)
