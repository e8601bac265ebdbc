"""The Inception network of the FID, as torch-fidelity has it, with weights from a file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from pygan.errors import UserError
from pygan.features.kind import Features, as_file, digest, to_bytes, weights

_PACKAGE, _MODULE = "torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"


def load(file: Path | None, device: torch.device) -> Features:
    """2048 pool features and the logits without bias (1008), of pictures resized to 299 as TensorFlow 1 does it.

    file: its weights; None: where the library keeps them. Errors: UserError.
    """
    module = extractor()
    name = module.URL_INCEPTION_V3.rpartition("/")[2]
    path = file or Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise UserError(
            f"the weights of Inception are not at {path}; fetch {module.URL_INCEPTION_V3} to there, or name its place: "
            "--features inception:FILE (or give a network of your own: --features FILE)"
        )
    state = weights(path, f"{name} of torch-fidelity")
    try:
        net = module.FeatureExtractorInceptionV3("pygan", ["2048", "logits_unbiased"], as_file(state))
    except RuntimeError as error:  # names or shapes that do not fit
        raise UserError(f"{path} are not the weights of the FID Inception; give {name} of torch-fidelity") from error
    net = net.to(device)

    def compute(images: Tensor) -> tuple[Tensor, Tensor]:
        return net(to_bytes(images).to(device))

    facts = {"kind": "Inception (torch-fidelity)", "file": str(path), "sha256": digest(path), "layer": "pool, 2048"}
    return Features("Inception", 2048, compute, facts, has_logits=True)


def extractor() -> ModuleType:
    """torch-fidelity's module of the network. Errors: UserError where the library is missing."""
    try:
        with importable():
            return importlib.import_module(_MODULE)
    except ImportError as error:
        raise UserError(
            "Inception needs torch-fidelity: pip install '.[metrics]' in pygan's checkout (or give a network of your "
            "own: --features FILE)"
        ) from error


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Inside, modules of torch-fidelity can be imported even where the package cannot.

    Its package imports torchvision, which the module of Inception does not need and which many a CPU install lacks.
    There an empty package with the same path stands in its place meanwhile, so that only what is asked for is imported.
    """
    try:
        importlib.import_module(_PACKAGE)
        spec = None
    except ImportError:
        spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:  # it is there and works, or it is not there
        yield
        return
    package = types.ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[_PACKAGE] = package
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
