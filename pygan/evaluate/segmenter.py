"""Scores of class maps: painted ones against their targets, and what a user's network reads in painted photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan import segmentation
from pygan.errors import UserError
from pygan.features.kind import to_bytes
from pygan.features.network import Network
from pygan.outputs import Outputs
from pygan.segmentation import Palette

INPUTS = ("signed", "unit", "bytes", "imagenet", "bgr-mean")
"""What a segmentation network expects: as `features.RANGES`, or blue, green, red in 0..255 less the mean of the
Cityscapes photos, as the FCN-8s of the pix2pix paper."""
_BGR_MEAN = (72.78044, 83.21195, 73.45286)


@dataclass(frozen=True)
class Segmenter:
    """A network from photos to class logits (n, k, h, w) or class ids (n, h, w). size: pixels (h, w), None: any."""

    net: Network
    inputs: str
    size: tuple[int, int] | None

    def __call__(self, images: Tensor, classes: int) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> int64 (n, h', w') on the CPU, at the network's size. Errors: UserError."""
        if self.size:
            images = F.interpolate(images.float(), self.size, mode="bilinear", align_corners=False)
        if self.inputs == "bgr-mean":
            values = to_bytes(images.to(self.net.device)).float().flip(1)
            output = self.net.run(values - values.new_tensor(_BGR_MEAN).view(1, 3, 1, 1))[0]
        else:
            output = self.net(images)[0]
        if output.dim() == 4 and output.shape[1] == 1:
            output = output[:, 0]
        found = output.argmax(dim=1) if output.dim() == 4 else output.round().long()
        if output.dim() not in (3, 4) or int(found.max()) >= classes or int(found.min()) < 0:
            raise UserError(
                f"{self.net.path}: logits (n, {classes}, h, w) or ids (n, h, w) below {classes} are expected, got "
                f"{list(output.shape)} up to class {int(found.max())}; the palette names the classes: --palette"
            )
        return found.cpu()

    @property
    def facts(self) -> dict[str, Any]:
        """What a report has to say about it."""
        size = "x".join(map(str, self.size)) if self.size else self.net.facts["size"]
        return self.net.facts | {"values": self.inputs, "size": size}


def load(path: Path, device: torch.device, inputs: str, size: tuple[int, int] | None) -> Segmenter:
    """The network in a TorchScript or ONNX file. Errors: UserError."""
    if not path.is_file():
        raise UserError(f"--segmenter {path}: no such network; give a TorchScript or ONNX file")
    return Segmenter(Network(path, device, 0, "bytes" if inputs == "bgr-mean" else inputs), inputs, size)


class LabelScores:
    """The histograms of a way. outputs: the palette of what is painted, where class maps are; inputs: of what is given,
    where the segmenter is to read it in the pictures painted from it.
    """

    def __init__(
        self,
        outputs: Palette | None,
        inputs: Palette | None = None,
        segmenter: Segmenter | None = None,
        *,
        ignore_absent: bool = False,
    ) -> None:
        self._outputs, self._inputs, self._segmenter = outputs, inputs, segmenter
        self._ignore_absent = ignore_absent
        self._hists: dict[str, tuple[Tensor, Palette]] = {}

    def add(self, out: Outputs) -> None:
        """Take in a batch. Errors: UserError."""
        if self._outputs is not None and out.paired and len(out.fake) == len(out.real):
            truth = segmentation.ids(out.real, self._outputs, truth=True)
            self._count("segmentation", self._outputs, truth, segmentation.ids(out.fake, self._outputs))
        if self._segmenter is not None and self._inputs is not None and len(out.input):
            truth = segmentation.ids(out.input, self._inputs, truth=True)
            photos = {"fcn": out.fake}
            if out.paired and len(out.real) == len(out.input):
                photos["fcn_of_real"] = out.real
            for name, images in photos.items():
                guess = self._segmenter(images.expand(-1, 3, -1, -1), len(self._inputs.colours))
                # The paper compares at the size of the full labels: the truth is enlarged, the guess as it is.
                large = F.interpolate(truth[:, None].float(), guess.shape[1:], mode="nearest")[:, 0].long()
                self._count(name, self._inputs, large, guess)

    def _count(self, name: str, palette: Palette, truth: Tensor, guess: Tensor) -> None:
        hist = segmentation.histogram(truth, guess, len(palette.colours))
        before = self._hists.get(name)
        self._hists[name] = (hist if before is None else before[0] + hist, palette)

    def result(self) -> dict[str, dict[str, Any]]:
        """{"segmentation/pixel_accuracy": {"value": ...}, ...}; the IoU says that of each class too."""
        found = {}
        for name, (hist, palette) in self._hists.items():
            values = segmentation.scores(hist, ignore_absent=self._ignore_absent)
            found |= {f"{name}/{key}": {"value": value} for key, value in values.items()}
            each = segmentation.class_ious(hist).tolist()
            of_classes = dict(zip(palette.classes, each, strict=True))
            found[f"{name}/class_iou"] |= {"palette": palette.name, "of_classes": of_classes}
        return found
