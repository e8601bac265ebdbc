"""All scores of one way of a network, taken in one pass over its pictures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pygan import bootstrap, distributions, metrics, pictures
from pygan.errors import UserError
from pygan.evaluate.segmenter import LabelScores
from pygan.features import Features, Perceptual
from pygan.outputs import Outputs

SETS = ("fid", "kid", "is")  # of sets of pictures
PAIRS = ("lpips", "ssim", "psnr", "l1", "gradient_correlation")  # of a picture and its target
_OF_PIXELS = set(PAIRS) - {"lpips"}
METRICS = (*SETS, *PAIRS, "segmentation")

_FEW = 100  # pictures in a split of the Inception score
_MOST_FEATURES = 8192  # of a picture: the covariance of so many is 512 MiB, for each of the two sets
Scored = dict[str, dict[str, Any]]  # metric -> {"value": ..., and what belongs to it}


@dataclass(frozen=True)
class Tools:
    """The networks that measure. logits: of the Inception score; None for what is not there."""

    features: Features | None = None
    logits: Features | None = None
    lpips: Perceptual | None = None
    drop_first_class: bool = False  # logits of a class "background", as in StackGAN's classifiers
    kept: int = distributions.KEPT
    subsets: int = distributions.SUBSETS
    subset_size: int = distributions.SUBSET_SIZE
    splits: int = distributions.SPLITS


class WayScores:
    """Takes in batches of `Outputs`, and says how good they were; left_out and notes are there after `result`.

    wanted: of `METRICS`; fakes: how many pictures there will be; reals: how many at most; labels: how class maps are
    scored, if there are any.
    Errors: UserError, of `add` and `result` too.
    """

    def __init__(
        self,
        wanted: Collection[str],
        tools: Tools,
        fakes: int,
        reals: int,
        *,
        seed: int = 0,
        labels: LabelScores | None = None,
    ) -> None:
        self._wanted, self._tools, self._seed, self.labels = set(wanted), tools, seed, labels
        self._values: dict[str, list[float]] = {}
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []
        self.fakes = self.reals = 0
        dim = tools.features.dim if tools.features and {"fid", "kid"} & self._wanted else 0
        if dim > _MOST_FEATURES:
            raise UserError(
                f"{tools.features.name} gives {dim:,} features of a picture, at most {_MOST_FEATURES:,} can be "
                "compared; give a network that pools its maps to (n, d)"
            )
        self._fake, self._real = (distributions.Moments(dim) for _ in range(2))
        self._fake_kept, self._real_kept = (
            distributions.Reservoir(dim, most=min(tools.kept, most), seed=2 * seed + side)
            for side, most in enumerate((fakes, reals))
        )
        self._inception = (
            distributions.InceptionScore(fakes, splits=tools.splits, seed=seed)
            if "is" in wanted and tools.logits and fakes
            else None
        )

    def add(self, out: Outputs) -> None:
        """Take in a batch."""
        fake, real = _seen(out.fake, out.input), _seen(out.real, out.input)
        self.fakes, self.reals = self.fakes + len(fake), self.reals + len(real)
        try:
            self._add_sets(fake, real)
        except ValueError as error:
            network = self._tools.features or self._tools.logits
            raise UserError(f"{network.name}: {error}") from error
        if out.paired and len(fake) == len(real):
            self._add_pairs(out, fake, real)
        if self.labels is not None and len(fake):
            self.labels.add(out)

    def _add_sets(self, fake: Tensor, real: Tensor) -> None:
        tools, both = self._tools, {"fid", "kid"} & self._wanted and self._tools.features
        logits = None
        if both and len(real):
            features = tools.features(real)
            if "fid" in self._wanted:
                self._real.add(features)
            if "kid" in self._wanted:
                self._real_kept.add(features)
        if both and len(fake):
            features, logits = tools.features.with_logits(fake)
            if "fid" in self._wanted:
                self._fake.add(features)
            if "kid" in self._wanted:
                self._fake_kept.add(features)
        if self._inception and len(fake):
            if tools.logits is not tools.features or logits is None:
                features, logits = tools.logits.with_logits(fake)
                logits = features if logits is None else logits
            self._inception.add(logits[:, 1:] if tools.drop_first_class else logits)

    def _add_pairs(self, out: Outputs, fake: Tensor, real: Tensor) -> None:
        for i in range(len(fake) if self._wanted & _OF_PIXELS else 0):
            one = metrics.of_pairs(out.fake[i : i + 1], out.real[i : i + 1])
            for name in self._wanted & one.keys():
                self._values.setdefault(name, []).append(float(one[name]))
        if "lpips" in self._wanted and self._tools.lpips:
            distances = self._tools.lpips(fake, real).tolist()
            self._values.setdefault(self._tools.lpips.metric, []).extend(distances)

    def result(self) -> Scored:
        """Every score that could be had; `left_out` then says of the others why not."""
        found: Scored = {}
        tools, counts = self._tools, f"{self.fakes} generated and {self.reals} real pictures"
        for name in ("fid", "kid"):
            if name not in self._wanted or tools.features is None:
                continue
            if min(self.fakes, self.reals) < 2:
                self.left_out[name] = f"at least 2 pictures of both kinds are needed, there are {counts}"
            else:
                found[name] = self._fid() if name == "fid" else self._kid()
        if self._inception:
            score = self._inception.score()
            if self.fakes < _FEW * self._inception.splits:
                self.notes.append(f"Inception score: of fewer than {_FEW} pictures a split, where it is far too low")
            found["is"] = {"value": score.mean, "std": score.std, "splits": score.parts}
        for name in ("feature_distance", *PAIRS):
            if values := self._values.get(name):
                interval = bootstrap.of_mean(values)
                found[name] = {"value": interval.mean, "low": interval.low, "high": interval.high, "std": interval.std}
        if self.labels is not None and "segmentation" in self._wanted:
            found |= self.labels.result()
        return found

    def _fid(self) -> dict[str, Any]:
        least, dim = min(self.fakes, self.reals), self._tools.features.dim
        if least <= dim:
            self.notes.append(
                f"FID: of fewer pictures than its {dim:,} features, so too high by an unknown amount: compare it only "
                "with one of the same numbers of pictures"
            )
        return {"value": distributions.frechet(self._fake, self._real)}

    def _kid(self) -> dict[str, Any]:
        tools = self._tools
        fake, real = self._fake_kept.features, self._real_kept.features
        if max(self.fakes, self.reals) > tools.kept:
            self.notes.append(f"KID: of a fair choice of {tools.kept:,} pictures of a kind that has more (--kid-kept)")
        size = min(tools.subset_size, len(fake), len(real))
        kid = distributions.kid(fake, real, subsets=tools.subsets, subset_size=size, seed=self._seed)
        if size < tools.subset_size:
            how = "of all at once" if kid.parts == 1 else f"in subsets of {size:,}, all that one kind has"
            self.notes.append(f"KID: {how}, fewer than a subset of {tools.subset_size:,}")
        spread = {"std": kid.std} if kid.parts > 1 else {}
        return {"value": kid.mean, **spread, "subsets": kid.parts, "subset_size": size}


@torch.no_grad()
def _seen(images: Tensor, beside: Tensor | None) -> Tensor:
    """Pictures as people and networks see them: 1 or 3 channels."""
    if images.shape[1] == 2 and beside is not None and beside.shape[1] == 1:
        beside = beside[: len(images)]
        return pictures.as_rgb(images[: len(beside)].float(), beside.float())
    return pictures.as_rgb(images.float())
