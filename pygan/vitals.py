"""Vital signs of a training, measured on the device from what a step left behind: its pictures and Adam's moments.

`Vitals.measure` is called when a row of metrics is due, after a step, and never inside one. It waits for nothing: what
it returns goes to the host with the losses, in the one transfer of the row. What the numbers mean is in `diagnosis`.
"""

from __future__ import annotations

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.state import State

MOST = 8  # pictures of a step that are looked at
THUMB = 16  # pixels: what is compared between pictures is their colours on such a grid
MEMORY = 16  # thumbnails that diversity is measured over: several rows, where batches are small
_ENOUGH = 8  # thumbnails, before it is
_TILE = 16  # pixels: a checkerboard is looked for in tiles, in phase within each
_GREY = 127.5  # grey levels of 255 in 1 of [-1, 1]


class Vitals:
    """Lives as long as a session trains a phase; remembers thumbnails of the last rows. No part of a checkpoint."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[Tensor]] = {}  # by the name of what was shown

    @torch.no_grad()
    def measure(self, state: State) -> dict[str, Tensor]:
        """0-d float32 tensors on the device of `state`, by their keys in metrics.jsonl.

        Of each optimizer, RMS over its net: `vital/grad_G` (of the mean gradient of the last steps) and
        `vital/grad_G_first_to_last` (of the first layer to the last, each in units of its weights).
        Of the pictures that the step showed, what G painted beside real ones (`_real`); a second way ends in _A:

        - `vital/saturation`, `_real`: share of values within 1 % of black or white
        - `vital/contrast`, `_real`: standard deviation within a picture of 16x16 pixels, grey levels
        - `vital/checkerboard_2`, `_4`, and with `_real`: RMS amplitude of patterns that repeat every 2 or 4 pixels,
          grey levels
        - `vital/colour`: correlation of the colours with those of the target, where there is one;
          `vital/colour_input`: of the brightness with that of the input, where there is no target, and beside it
          `vital/colour_chance`: that of real pictures with inputs that they have nothing to do with
        - `vital/diversity_fake`, `_real`, `_input`: RMS distance between two pictures of the last rows at 16x16 pixels,
          grey levels; not before there are 8 of them
        """
        found: dict[str, Tensor] = {}
        for name, opt in state.opts.items():
            gradient, weight = opt.layer_rms()
            relative = gradient / weight.clamp_min(torch.finfo(torch.float32).tiny)
            found[f"vital/grad_{name}"] = gradient.square().mean().sqrt()
            found[f"vital/grad_{name}_first_to_last"] = relative[0] / relative[-1].clamp_min(1e-30)
        for way in ("", "_A"):
            shown = {name: state.shown.get(name + way) for name in ("fake", "real", "target", "input")}
            if shown["fake"] is not None:
                found |= {key + way: value for key, value in self._of_pictures(way, **shown).items()}
        return {key: value.float() for key, value in found.items()}

    def _of_pictures(
        self,
        way: str,
        fake: Tensor,
        real: Tensor | None,
        target: Tensor | None,
        input: Tensor | None,  # noqa: A002
    ) -> dict[str, Tensor]:
        """What `measure` says of the pictures of a way, (n, c, h, w) in [-1, 1]; its keys without the way."""
        found, thumbs = {}, {}
        beside = target if target is not None else real
        pictures = {"fake": fake, "real": beside, "input": input}
        for name, picture in pictures.items():
            if picture is None:
                continue
            seen = picture[:MOST].float()
            thumbs[name] = F.adaptive_avg_pool2d(seen, THUMB)  # (n, c, 16, 16)
            if (distance := self._diversity(name + way, thumbs[name])) is not None:
                found[f"vital/diversity_{name}"] = distance
            if name == "input":
                continue
            end = "" if name == "fake" else "_real"
            found[f"vital/saturation{end}"] = (seen.abs() > 0.99).float().mean()
            found[f"vital/contrast{end}"] = thumbs[name].flatten(1).std(dim=1).mean() * _GREY
            for period, amplitude in checkerboards(seen).items():
                found[f"vital/checkerboard_{period}{end}"] = amplitude * _GREY
        if target is not None:
            found["vital/colour"] = _correlation(thumbs["fake"], thumbs["real"])
        elif input is not None:
            grey = {name: thumb.mean(dim=1, keepdim=True) for name, thumb in thumbs.items()}
            found["vital/colour_input"] = _correlation(grey["fake"], grey["input"])
            if beside is not None and beside is not input:
                found["vital/colour_chance"] = _correlation(grey["input"], grey["real"])
        return found

    def _diversity(self, name: str, thumbs: Tensor) -> Tensor | None:
        """Remember thumbnails (n, c, 16, 16); the RMS distance between two of the last ones, None if they are few."""
        seen = self._seen.setdefault(name, deque())
        if seen and seen[0].shape[1:] != thumbs.shape[1:]:
            seen.clear()
        seen.append(thumbs)
        while sum(map(len, seen)) - len(seen[0]) >= MEMORY:
            seen.popleft()
        every = torch.cat(tuple(seen)).flatten(1)  # (m, c 16 16)
        if len(every) < _ENOUGH:
            return None
        # The mean square of the distance between two of m is twice their variance.
        return every.var(dim=0).mean().mul(2).sqrt() * _GREY


def checkerboards(x: Tensor) -> dict[int, Tensor]:
    """{period in pixels: RMS amplitude, 0-d} of the patterns that strided transposed convolutions leave in pictures x.

    x: (n, c, h, w) float. The pattern of period 2 is stripes across, stripes down, or a checkerboard of single pixels,
    in the same phase all over a tile of 16x16 pixels (Odena et al. 2016); that of 4 is the same at half the size. A
    checkerboard of amplitude a gives a; what an edge, a ramp or noise gives is small. Too small pictures give nothing.
    """
    found = {}
    for period in (2, 4):
        tile = min(_TILE, *(side // 2 * 2 for side in x.shape[-2:]))
        if tile < 4:
            break
        ticks = torch.arange(tile, device=x.device)
        window = torch.sin((ticks + 0.5) * (torch.pi / tile)).square()
        smooth = window / window.sum()
        waves = torch.stack((smooth, smooth * (1 - 2 * (ticks % 2))))  # (2, tile): mean, and every second pixel
        h, w = (side // tile * tile for side in x.shape[-2:])
        tiles = x[..., :h, :w].unflatten(-1, (-1, tile)).unflatten(-3, (-1, tile))  # (n, c, h / t, t, w / t, t)
        across = tiles @ waves.T  # (n, c, h / t, t, w / t, 2)
        both = torch.einsum("ncitjq,pt->ncijpq", across, waves)
        energy = both.square().sum(dim=(-2, -1)) - both[..., 0, 0].square()
        found[period] = energy.clamp_min(0.0).mean().sqrt()
        x = F.avg_pool2d(x, 2) if min(x.shape[-2:]) > 1 else x
    return found


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """0-d, in [-1, 1]: of what differs from each picture's mean, in (n, c, h, w) and (n', c', h, w); flat: 0."""
    a, b = a[: len(b)], b[: len(a)]
    if a.shape[1] != b.shape[1]:
        a, b = a.mean(dim=1, keepdim=True), b.mean(dim=1, keepdim=True)
    a, b = (x - x.mean(dim=(1, 2, 3), keepdim=True) for x in (a, b))
    size = (a.square().sum() * b.square().sum()).sqrt()
    return (a * b).sum() / size.clamp_min(1e-12)
