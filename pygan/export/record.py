"""A network as a file: ONNX, TorchScript, PT2. Each is recorded from `network.Recorded`, never written by hand."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

from pygan.errors import UserError
from pygan.export.network import BATCH, Form

OPSET = 18
OUTPUT = "output"  # name of the images that an ONNX file gives
EXTRA = "pygan.json"  # the metadata inside a TorchScript or PT2 file


def to_onnx(form: Form, metadata: Mapping[str, str], path: Path) -> None:
    """An ONNX file of the standard operators of OPSET. Errors: UserError if the package for it is missing.

    By the exporter that traces: the one behind torch.export takes ten times as long for the same operators.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError("--to onnx needs the package onnx; pip install '.[export]' in pygan's checkout") from error
    _contiguous_(form.module)
    buffer = io.BytesIO()
    with _silence(), _bits_of_masks(), torch.no_grad():
        torch.onnx.export(
            form.module,
            form.examples(),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[one.name for one in form.inputs],
            output_names=[OUTPUT],
            dynamic_axes={
                name: {i: size for i, size in enumerate(shape) if isinstance(size, str)}
                for name, shape in (*((one.name, one.shape) for one in form.inputs), (OUTPUT, form.output))
            },
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.doc_string = ""  # paths of source files
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version = "pygan", metadata["pygan_version"]
    onnx.checker.check_model(model, full_check=True)
    foreign = {node.domain for node in model.graph.node} - {""}
    if foreign or model.functions:
        raise RuntimeError(f"the exported graph has operators that are not standard ones: {foreign or 'functions'}")
    path.write_bytes(model.SerializeToString())


def to_pt2(form: Form, metadata: Mapping[str, str], path: Path) -> None:
    """A file of torch.export, whose graph has PyTorch's own operators alone."""
    with _silence():
        program = _program(form)
        program.example_inputs = None
        for module in program.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
                node.meta.pop("stack_trace", None)  # paths of source files
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={EXTRA: json.dumps(dict(metadata))})
    path.write_bytes(buffer.getvalue())


def to_torchscript(form: Form, metadata: Mapping[str, str], path: Path) -> None:
    """A traced TorchScript file."""
    with _silence(), torch.no_grad():
        traced = torch.jit.trace(form.module, form.examples(), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, _extra_files={EXTRA: json.dumps(dict(metadata)).encode()})
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w") as file:
        for member in whole.infolist():
            if not member.filename.endswith(".debug_pkl"):  # source code, and the paths of its files
                file.writestr(member, whole.read(member))


def _program(form: Form) -> ExportedProgram:
    """The network as torch.export records it, for the sizes that are free."""
    free: dict[str, Any] = {}
    step = form.multiple
    for name in form.free:
        least = 1 if name == BATCH else -(-max(form.card.least, 1) // step)
        # Heights are written as a multiple of something, so that every level of a net is known to be whole.
        whole = Dim(f"{name}_blocks" if name != BATCH and step > 1 else name, min=least)
        free[name] = step * whole if name != BATCH and step > 1 else whole
    shapes = [{i: free[s] for i, s in enumerate(one.shape) if isinstance(s, str)} or None for one in form.inputs]
    with _silence(), torch.no_grad():
        return torch.export.export(form.module, form.examples(), dynamic_shapes=(tuple(shapes),), strict=False)


@contextlib.contextmanager
def _bits_of_masks() -> Iterator[None]:
    """Inside, two operators of `mask` on whole numbers are exported as what ONNX has for them.

    Exclusive or is not in torch's table. What is shifted to the right is never negative there: a division, without the
    power of two in floats that the table computes at every call.
    """

    def shifted(g: Any, x: Any, by: Any) -> Any:
        return g.op("Div", x, g.op("Constant", value_t=torch.tensor(2 ** int(by.node().t("value")))))

    symbols = {"aten::__xor_": lambda g, a, b: g.op("BitwiseXor", a, b), "aten::__rshift_": shifted}
    for name, symbol in symbols.items():
        torch.onnx.register_custom_op_symbolic(name, symbol, OPSET)
    try:
        yield
    finally:
        for name in symbols:
            torch.onnx.unregister_custom_op_symbolic(name, OPSET)


def _contiguous_(module: nn.Module) -> None:
    """Weights in the order in which ONNX stores them."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.contiguous()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what exporters tell their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


WRITERS = {"onnx": to_onnx, "torchscript": to_torchscript, "pt2": to_pt2}
