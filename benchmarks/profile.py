"""Where the time of a step goes: `python -m benchmarks.profile p1`, or with `--way "compile graph"`.

Per step and class of work: launches, time, bytes and what that makes in GB/s; then the GPU's busy time, the gaps, and
the kernels that took longest. On a CPU the same by operator (time is each operator's own).

Time comes from torch.profiler (a replayed graph is seen kernel by kernel), the class from the name of a kernel or of an
operator. Bytes are estimates: an ungraphed step is run under a recorder that adds up, for every operator, each tensor
that goes in and each that comes out once. For pygan's operators that is the byte bound of their contracts, with one
read of what may be read twice; for PyTorch's it leaves out temporaries. Of compiled code no bytes are known.
"""

import argparse
import dataclasses
import itertools
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import cases, side_by_side, timing

# The first that fits, by a part of the name of a kernel or of an operator in lower case.
CLASSES = {
    "optimizer": r"adam|multi_tensor_apply|foreach|lerp|addcmul|addcdiv|::sqrt|find_inf|loss_scale_update|optimizer",
    "loss": r"loss|mse_|binary_cross|log_sigmoid",
    "norm": r"norm|bn_fw|bn_bw|welford",
    "copy, cast": r"memcpy|memset|copy|clone|catarray|::cat\b|nchwtonhwc|nhwctonchw|fill|zero_|zeros|ones_like"
    r"|reflection_pad|constant_pad|crop_flip|::index|::exchange",
    "convolution": r"conv|cudnn|xmma|gemm|cutlass|wgrad|dgrad|fprop|thin_|::addmm|::mm\b",
    "pointwise": r"elementwise|triton_poi|upsample|relu|tanh|sigmoid|dropout|threshold|philox"
    r"|::(add|sub|mul|div|abs|neg|sgn|where|bernoulli|rand)",
}
OTHER = "other"
_WRITTEN_ONLY = {"out", "skip_out", "low"}  # arguments of pygan's operators that are written and not read
_PURE_WRITES = {"copy_", "fill_", "zero_", "_foreach_zero_", "_foreach_copy_"}


def class_of(name):
    """The class of a kernel or an operator."""
    name = name.lower()
    if name.startswith("autograd::"):
        return OTHER  # the engine's own time round an operator
    fits = [kind for kind, pattern in CLASSES.items() if re.search(pattern, name)]
    if name.startswith("triton_"):  # named after all that is fused in it, and the convolution never is
        fits = [kind for kind in fits if kind != "convolution"] or ["pointwise"]
    return fits[0] if fits else OTHER


@dataclasses.dataclass
class Kernel:
    """One launch: microseconds."""

    name: str
    start: float
    duration: float


def kernels(trace):
    """The kernels and copies of a Chrome trace, in the order in which they began."""
    found = [
        Kernel(event["name"], event["ts"], event["dur"])
        for event in trace["traceEvents"]
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
    ]
    return sorted(found, key=lambda kernel: kernel.start)


def busy_and_gaps(found):
    """Microseconds in which at least one kernel ran, and in which none did between the first and the last."""
    busy, end = 0.0, found[0].start
    for kernel in found:
        finish = kernel.start + kernel.duration
        busy += max(0.0, finish - max(end, kernel.start))
        end = max(end, finish)
    return busy, end - found[0].start - busy


class Traffic(TorchDispatchMode):
    """Adds up the bytes of the operators that pass by: `bytes` by class."""

    def __init__(self):
        super().__init__()
        self.bytes, self.calls = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (_is_view(func) or name.startswith(("empty", "new_empty", "_unsafe_view"))):
            kind = class_of(f"{func.namespace}::{name}")
            self.bytes[kind] += traffic(func, args, kwargs or {}, out)
            self.calls[kind] += 1
        return out


def _is_view(func):
    """Does it only hand out memory that is there?"""
    return any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)


def traffic(func, args, kwargs, out):
    """Bytes of one call: what is read and what is written, each tensor once."""
    arguments = func._schema.arguments
    given = dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
    seen, total = set(), 0
    for argument in arguments:
        written = argument.alias_info is not None and argument.alias_info.is_write
        only_written = written and (
            func.overloadpacket.__name__ in _PURE_WRITES
            or (func.namespace == "pygan" and argument.name in _WRITTEN_ONLY)
        )
        for tensor in _tensors(given.get(argument.name)):
            seen.add(tensor.data_ptr())
            total += _nbytes(tensor) * (2 if written and not only_written else 1)
    return total + sum(_nbytes(tensor) for tensor in _tensors(out) if tensor.data_ptr() not in seen)


def _tensors(value):
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _nbytes(tensor):
    """Of what is really there: an expanded tensor is as small as its memory."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def recorded_traffic(case, way, device):
    """`Traffic` of one ungraphed step, or None for compiled code."""
    if way.compiled:
        return None
    step = cases.build(case, dataclasses.replace(way, graph=False), device)
    data = itertools.cycle(cases.batches(case, way, device, 2))
    step(next(data))
    with Traffic() as seen:
        step(next(data))
    return seen


def profiled(run, device, steps):
    """({class: [launches, microseconds]}, {name: [launches, microseconds]}, busy, gaps) per step; CPU: no gaps."""
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if device == "cuda" else activity.CPU]) as profiler:
        for _ in range(steps):
            run()
        if device == "cuda":
            torch.cuda.synchronize()
    by_name, busy, gaps = {}, None, None
    if device == "cuda":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(path))
            found = kernels(json.loads(path.read_text()))
        if not found:
            raise SystemExit("the profiler saw no kernel: is another one attached to this GPU?")
        busy, gaps = (us / steps for us in busy_and_gaps(found))
        events = [(kernel.name, 1, kernel.duration) for kernel in found]
    else:
        events = [(event.key, event.count, event.self_cpu_time_total) for event in profiler.key_averages()]
    for name, count, us in events:
        entry = by_name.setdefault(name, [0.0, 0.0])
        entry[0] += count / steps
        entry[1] += us / steps
    by_class = {kind: [0.0, 0.0] for kind in (*CLASSES, OTHER)}
    for name, (count, us) in by_name.items():
        entry = by_class[class_of(name)]
        entry[0] += count
        entry[1] += us
    return by_class, by_name, busy, gaps


def report(by_class, by_name, busy, gaps, moved, *, top):
    """The lines to print."""
    total = sum(us for _, us in by_class.values())
    unit = "operators" if busy is None else "launches"
    lines = [f"{'class':12} {unit:>9} {'us':>10} {'share':>6} {'MB, est.':>10} {'GB/s':>6}"]
    for kind, (count, us) in by_class.items():
        amount = None if moved is None else moved.bytes[kind]
        megabytes = "–" if amount is None else f"{amount / 1e6:.1f}"
        rate = f"{amount / us / 1e3:.1f}" if amount and us else "–"
        lines.append(f"{kind:12} {count:9.0f} {us:10.1f} {us / total:6.1%} {megabytes:>10} {rate:>6}")
    lines.append(f"{'all':12} {sum(count for count, _ in by_class.values()):9.0f} {total:10.1f}")
    if busy is not None:
        lines.append(f"GPU busy {busy:.1f} us per step (kernels side by side counted once), gaps {gaps:.1f} us")
    lines += ["", f"longest, us per step ({unit}):"]
    for name, (count, us) in sorted(by_name.items(), key=lambda item: -item[1][1])[:top]:
        lines.append(f"{us:10.1f} {count:6.0f}  {class_of(name):12} {name[:120]}")
    return lines


def main(argv=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("case", choices=tuple(cases.CASES))
    parser.add_argument(
        "--way", choices=tuple(cases.WAYS), help="default: pygan, or where --amp gains nothing, float32"
    )
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps to average over (default: 5)")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="names to list (default: 20)")
    args = parser.parse_args(argv)
    device = timing.DEVICE
    name = args.way or ("pygan" if cases.bf16_is_fast(device) else "pygan float32")
    case, way = cases.CASES[args.case], cases.WAYS[name]
    if reason := cases.why_not(way, device):
        raise SystemExit(f"{name}: {reason}")
    moved = recorded_traffic(case, way, device)
    run = side_by_side.Runner(case, way, device)
    ms = timing.ms_per_call(run, 20 if device == "cuda" else args.steps, device)
    by_class, by_name, busy, gaps = profiled(run, device, args.steps)
    print(f"{args.case}, {name}: {ms:.3f} ms per step without the profiler")
    print("\n".join(report(by_class, by_name, busy, gaps, moved, top=args.top)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
