"""A network of the user's, from a TorchScript or ONNX file.

Both are programs of tensor operations: TorchScript is run by torch's own interpreter, and neither imports nor calls
Python. A pickled module (torch.save of a network) is not taken, for loading one runs whatever it holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pygan.errors import UserError
from pygan.features.kind import RANGES, Features, digest, in_range, resized, rgb, to_bytes

_PROBE = 64  # pixels of the picture that a network is tried on where no size is known


class Network:
    """(n, 3, h, w) in [-1, 1] -> the network's outputs, one or more tensors (n, ...), on the device.

    size: pixels, 0: as its file says, else as the pictures are; values: one of `RANGES`. Errors: UserError.
    """

    def __init__(self, path: Path, device: torch.device, size: int = 0, values: str = "signed") -> None:
        if values not in RANGES:
            raise UserError(f"--network-range must be one of {', '.join(RANGES)}, got {values!r}")
        self.path, self.device, self.values = path, device, values
        self.size: tuple[int, int] | None = (size, size) if size else None
        self.dtype = torch.float32
        self.name, self.sha256 = path.name, digest(path)
        self._run = self._onnx() if path.suffix.lower() == ".onnx" else self._script()

    @property
    def facts(self) -> dict:
        """What a report has to say about it."""
        size = f"{self.size[0]}x{self.size[1]}" if self.size else "as the pictures are"
        kind = "ONNX" if self.path.suffix.lower() == ".onnx" else "TorchScript"
        return {"kind": kind, "file": str(self.path), "sha256": self.sha256, "size": size, "values": self.values}

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        images = rgb(images).to(self.device)
        if self.size:
            images = resized(images, self.size)
        values = to_bytes(images) if self.dtype == torch.uint8 else in_range(images, self.values).to(self.dtype)
        return self.run(values)

    @torch.no_grad()
    def run(self, values: Tensor) -> tuple[Tensor, ...]:
        """What the network makes of a tensor that is as it wants it. Errors: UserError."""
        try:
            outputs = self._run(values.contiguous())
        except (RuntimeError, ValueError, NotImplementedError, MemoryError) as error:
            first = (str(error).strip().splitlines() or [""])[-1][:160]
            raise UserError(
                f"{self.path} does not take pictures {list(values.shape)} of {str(values.dtype)[6:]} ({first}); "
                "say what it takes with --network-size and --network-range"
            ) from error
        outputs = tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
        if not outputs or not all(torch.is_tensor(o) and o.dim() and len(o) == len(values) for o in outputs):
            raise UserError(f"{self.path}: a tensor (n, ...) for n pictures is expected as output, or several")
        return outputs

    def _script(self) -> Callable[[Tensor], object]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch has newer formats; this one stays readable
                net = torch.jit.load(self.path, map_location=self.device)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{self.path} is no TorchScript (torch.jit.script(net).save(FILE) makes one) and not named .onnx"
            ) from error
        return net.eval()

    def _onnx(self) -> Callable[[Tensor], object]:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{self.path}: ONNX needs onnxruntime: pip install '.[metrics]' in pygan's checkout"
            ) from error
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if self.device.type == "cuda" else None
        providers = [p for p in providers or ["CPUExecutionProvider"] if p in onnxruntime.get_available_providers()]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # its exceptions have no base class of their own
            raise UserError(f"{self.path} is damaged or no ONNX network") from error
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (3, None, *_names(inputs[0])):
            shapes = ", ".join(str(one.shape) for one in inputs)
            raise UserError(f"{self.path}: one input (n, 3, h, w) is expected, got {shapes}")
        height, width = inputs[0].shape[2:]
        if isinstance(height, int) and isinstance(width, int):
            if self.size not in (None, (height, width)):
                raise UserError(f"{self.path} takes {height}x{width} pixels: leave --network-size out")
            self.size = (height, width)
        fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else 0
        types = {"tensor(uint8)": torch.uint8, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}
        self.dtype = types.get(inputs[0].type, torch.float32)

        def run(values: Tensor) -> tuple[Tensor, ...]:
            array = values.cpu().numpy()
            parts = []
            for first in range(0, len(array), fixed or len(array)):
                try:
                    parts.append(session.run(None, {inputs[0].name: array[first : first + (fixed or len(array))]}))
                except Exception as error:
                    raise ValueError(str(error)) from error
            return tuple(torch.cat([torch.from_numpy(p[k]) for p in parts]) for k in range(len(parts[0])))

        return run


def features(path: Path, device: torch.device, size: int, values: str) -> Features:
    """Its first output, flattened, as features (n, d); a second one (n, classes), where there is one, as logits."""
    net = Network(path, device, size, values)

    def compute(images: Tensor) -> tuple[Tensor, Tensor | None]:
        outputs = net(images)
        two = len(outputs) > 1 and outputs[1].dim() == 2
        return outputs[0].reshape(len(images), -1).float(), outputs[1] if two else None

    with torch.no_grad():
        first, logits = compute(torch.zeros(1, 3, *(net.size or (_PROBE, _PROBE))))
    name = f"{net.name} ({net.sha256})"
    return Features(name, first.shape[1], compute, net.facts, has_logits=logits is not None)


def _names(one: object) -> tuple[object, ...]:
    """What stands in the place of the channels where they are named, not numbered."""
    channels = one.shape[1]
    return (channels,) if isinstance(channels, str) else ()
