"""The device, the precision and the place among processes that a run gets."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass

import torch

from pygan.errors import UserError
from pygan.recipe import BaseRecipe

# What torch says on a CPU; the last is its answer to an extension.
_NO_MEMORY = re.compile("DefaultCPUAllocator|Storage size calculation|not enough memory|aten::new_empty")
# What the driver and its libraries say of a GPU, past torch's own allocator.
_NO_GPU_MEMORY = re.compile("CUDA (error: )?out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Place:
    """One of `world` processes that share a run; rank 0 writes the files."""

    rank: int = 0
    world: int = 1


def place() -> Place:
    """This process among its siblings. Errors: UserError under torchrun, since gradients are not yet exchanged."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != 1:
        raise UserError(f"WORLD_SIZE is {world}, but pygan trains in one process so far; start it without torchrun")
    return Place()


def choose(name: str) -> torch.device:
    """A device by its name: auto, cpu, cuda, or cuda:1 for one GPU of several.

    Errors: UserError for another name, and if a GPU is asked for and torch cannot use it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, number = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (colon and not number.isdecimal()):
        raise UserError(f"--device must be auto, cpu, cuda, or one GPU as cuda:0, got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        reason = "this torch was built without CUDA" if torch.version.cuda is None else "torch sees no GPU here"
        raise UserError(f"--device cuda: {reason}; use --device cpu, or see `pygan doctor`")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there are {torch.cuda.device_count()} GPUs here, counted from 0")
    return torch.device(f"cuda:{int(number)}" if kind == "cuda" and number else kind)


def current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside, a GPU is the current one: streams and CUDA graphs are made there, whatever their tensors lie on."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def out_of_memory(error: BaseException) -> str:
    """Whose memory an error says is too small, "the GPU" or "this machine"; "" if it says something else."""
    on_gpu = isinstance(error, RuntimeError) and _NO_GPU_MEMORY.search(str(error))
    if on_gpu or isinstance(error, torch.OutOfMemoryError):
        return "the GPU"
    short = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)))
    return "this machine" if short else ""


def describe(device: torch.device) -> str:
    """What a user calls the device: "CPU, 2 threads", or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() != 1 else ''}"


def precision(recipe: BaseRecipe, device: torch.device) -> tuple[torch.dtype, str]:
    """The type that convolutions compute in, and a line that says so where it is not what was asked for ("" else).

    `--amp` is a wish for speed: on a GPU it is bf16 where the hardware has it (compute capability 8.0 and later), on a
    CPU only where bf16 is faster than float32: where the processor multiplies bf16 itself (AVX-512 BF16 or AMX).
    Elsewhere the products are computed in float32 anyway, and the casts come on top.
    """
    if not recipe.amp:
        return torch.float32, ""
    if device.type == "cuda":
        if recipe.amp_dtype == "fp16":
            return torch.float16, ""
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, ""
        return torch.float32, "--amp: this GPU has no bf16; staying in float32 (try --amp-dtype fp16)"
    if recipe.amp_dtype == "bf16" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16, ""
    return torch.float32, f"--amp: {recipe.amp_dtype} is not faster than float32 on this CPU; staying in float32"


def describe_precision(dtype: torch.dtype, device: torch.device) -> str:
    """What the convolutions compute in: "bfloat16", "float32", or "float32, convolutions in TF32" as PyTorch's default
    is on a GPU (10 bits of mantissa in the products).
    """
    name = str(dtype).removeprefix("torch.")
    tf32 = device.type == "cuda" and dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    return f"{name}, convolutions in TF32" if tf32 else name


def make_deterministic(device: torch.device, deterministic: bool) -> None:
    """On a GPU: fixed algorithms if asked for (slower), else the fastest cuDNN finds. On a CPU nothing changes."""
    if device.type != "cuda":
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # all of it is written before it is read
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
