"""Does training make each GAN better? `python -m benchmarks.learning [--gans began,stargan] [--minutes 10]`

Each GAN is trained by the real command (`pygan train GAN --preset demo`) on its built-in set, on the CPU, and its own
yardstick is taken of a checkpoint after ten steps and of the last. A row per yardstick goes to
results/learning.jsonl with the margin that it had to improve by, a picture of what the GAN makes in the end to
docs/pictures/; README's table is written from the rows. Where a yardstick needs eyes, they are a small classifier that
is trained here, on real pictures of another set of the same rules (seed 1; the GANs see seed 0), and whose own accuracy
on held-out pictures is recorded.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import record
from pygan import checkpoint, gans, heldout
from pygan import recipe as recipes
from pygan.data import faces, seasons, shapes
from pygan.rundir import read_facts

EYES_SEED = 1  # the classifiers learn from this set, the GANs from set 0
EYES_PICTURES, EYES_HELD_OUT, EYES_STEPS = 3000, 500, 500
MOST = 256  # held-out items that a yardstick is taken of
SAMPLES = 500  # pictures for a distance between distributions


# --- eyes -------------------------------------------------------------------------------------------------------------


class Eyes(nn.Module):
    """A small classifier: (n, 3, size, size) in [-1, 1] -> logits (n, outputs)."""

    def __init__(self, outputs):
        super().__init__()
        layers, c = [], 3
        for c_next in (32, 64, 128, 128):
            layers += [nn.Conv2d(c, c_next, 3, 2, 1), nn.BatchNorm2d(c_next), nn.ReLU()]
            c = c_next
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(c, outputs)

    def features(self, x):
        """(n, 128)."""
        return self.trunk(x).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


def _face(index, size):
    return faces.face_picture(EYES_SEED, index, size)


def _season(index, size):
    """A summer, a winter, or colours of either without a picture: label (is a summer, is a winter)."""
    winter = index % 2 == 1
    first = seasons.FIRST_WINTER if winter else 0
    pixels = seasons.season_picture(EYES_SEED, first + index, size, "AB"[winter])
    if index % 4 < 2:
        return pixels, np.array([not winter, winter])
    draw = np.random.Generator(np.random.Philox(index))
    kind = draw.integers(3)
    if kind == 0:  # its pixels in any order
        pixels = draw.permutation(pixels.reshape(-1, 3)).reshape(pixels.shape)
    elif kind == 1:  # a small piece of it, again and again
        y, x = draw.integers(size - 8, size=2)
        pixels = np.tile(pixels[y : y + 8, x : x + 8], (size // 8, size // 8, 1))
    else:  # its mean colour, with noise
        noise = draw.normal(0, draw.uniform(5, 80), pixels.shape)
        pixels = np.clip(pixels.mean((0, 1)) + noise, 0, 255).astype(np.uint8)
    return pixels, np.array([False, False])


WORDS = (*shapes.KINDS, *shapes.COLOURS, *(f"on {name}" for name in shapes.BACKGROUNDS))


def _said(facts):
    """uint8 (words): which kinds, colours and backgrounds are in a scene or a sentence."""
    there = {word for kind, colour, _ in facts.shapes for word in (kind, colour)} | {f"on {facts.background}"}
    return np.array([word in there for word in WORDS], dtype=np.uint8)


def _shapes(index, size):
    pixels, scene = shapes.shapes_picture(EYES_SEED, index, size)
    return pixels, _said(shapes.facts(scene))


@functools.cache
def eyes(draw, size):
    """(trained classifier of what `draw(index, size)` labels, its accuracy over all labels of held-out pictures)."""
    torch.manual_seed(0)
    drawn = [draw(i, size) for i in range(EYES_PICTURES + EYES_HELD_OUT)]
    x = torch.from_numpy(np.stack([pixels for pixels, _ in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    y = torch.from_numpy(np.stack([label for _, label in drawn])).float()
    net = Eyes(y.shape[1])
    opt = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(EYES_STEPS):
        for group in opt.param_groups:
            group["lr"] = 2e-3 * (1 - step / EYES_STEPS)
        chosen = torch.randint(EYES_PICTURES, (64,))
        loss = F.binary_cross_entropy_with_logits(net(x[chosen]), y[chosen])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval().requires_grad_(False)
    held_out = net(x[EYES_PICTURES:]) > 0
    return net, float((held_out == (y[EYES_PICTURES:] > 0)).float().mean())


# --- the yardsticks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """A GAN of a run at a checkpoint: its nets (averaged where it averages), its recipe, its held-out feed."""

    gan: object
    recipe: object
    nets: dict
    feed: object

    def batches(self):
        return heldout.batches(self.feed, MOST)

    def rng(self, seed=0):
        return torch.tensor([seed, 0])


def load(run, folder):
    """The nets of a checkpoint of a run."""
    facts = read_facts(run)
    gan = gans.load(facts["gan"])
    (found,) = (found for found in checkpoint.find(run / "checkpoints") if found.folder.name == folder)
    recipe = recipes.from_dict(gan.Recipe, facts["recipe"], str(run))
    recipe = replace(gans.phases(gan, recipe)[found.facts["phase"]], feed="auto", eval_images=MOST)
    state = gan.build(recipe, "cpu")
    state.buffers["watch"] = torch.zeros(2, dtype=torch.int64)
    checkpoint.restore(found, state)
    return Learned(gan, recipe, state.nets | state.ema, gan.batches(recipe, "held-out", "cpu")), found.images_seen


def measured(name):
    """A yardstick that the GAN's own `measure` takes."""

    def take(learned, _):
        scores = heldout.means(
            lambda batch: learned.gan.measure(learned.nets, learned.recipe, batch, learned.rng()), learned.feed, MOST
        )
        return scores[name]

    return take


def domain_accuracy(learned, net):
    """Part of translated pictures, both ways, that the classifier takes for pictures of the domain they were to be of.

    It knows three things apart: summers, winters, and the colours of either without a picture.
    """
    right = total = 0
    for batch in learned.batches():
        for picture, direction, wanted in ((batch.A, "AtoB", [0, 1]), (batch.B, "BtoA", [1, 0])):
            painted = learned.gan.translate(learned.nets["G"], learned.recipe, picture, direction=direction)
            right += int(((net(painted) > 0) == torch.tensor(wanted, dtype=torch.bool)).all(1).sum())
            total += len(picture)
    return right / total


def changed_accuracy(learned, net):
    """Part of faces that, painted with one label changed, show that label to the classifier as it was asked for."""
    names = learned.recipe.labels.split(",")
    right = total = 0
    for batch in learned.batches():
        for i, name in enumerate(names):
            target = batch.label.clone()
            if name in faces.HAIR:
                target[:, [names.index(other) for other in names if other in faces.HAIR]] = 0.0
                target[:, i] = 1.0
            else:
                target[:, i] = 1.0 - target[:, i]
            differs = target[:, i] != batch.label[:, i]
            if not differs.any():
                continue
            painted = learned.nets["G"](batch.image[differs], target[differs])
            seen = net(painted)[:, faces.ATTRIBUTES.index(name)] > 0
            right += int((seen == (target[differs, i] > 0)).sum())
            total += int(differs.sum())
    return right / total


def said_is_seen(learned, net, words=None):
    """F1 of what the classifier sees in painted pictures against what captions say; words: of the first so many."""
    source = learned.feed.sources[0]
    both = either = first = 0
    for batch in learned.batches():
        n = batch.text.shape[0]
        captions = [source.captions[source.facts["text_range"][i % len(source), 0]] for i in range(first, first + n)]
        said = torch.from_numpy(np.stack([_said(shapes.parse(caption)) for caption in captions])) > 0
        painted = learned.gan.generate(learned.nets["G"], learned.recipe, n, learned.rng(first), text=batch.text)
        painted = F.interpolate(painted, EYES_SIZE["stackgan"], mode="bilinear")
        seen = net(painted) > 0
        said, seen = said[:, :words], seen[:, :words]
        both += int((said & seen).sum())
        either += int(seen.sum()) + int(said.sum())
        first += n
    return 2 * both / max(1, either)


def kinds_and_colours(learned, net):
    """`said_is_seen` of the shapes alone."""
    return said_is_seen(learned, net, words=len(shapes.KINDS) + len(shapes.COLOURS))


def kernel_distance(a, b):
    """Unbiased squared MMD with (a.b/d + 1)^3 of features (n, d) (Binkowski et al. 2018), in float64."""
    a, b, d = a.double(), b.double(), a.shape[1]
    aa, bb, ab = ((p @ q.T / d + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    return float((aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1)) - 2 * ab.mean())


def feature_kid(learned, net):
    """Kernel distance between painted and real pictures on the classifier's features."""
    size = learned.recipe.crop_size
    real = np.stack([faces.face_picture(EYES_SEED, i, size)[0] for i in range(10_000, 10_000 + SAMPLES)])
    real = torch.from_numpy(real).permute(0, 3, 1, 2).float() / 127.5 - 1
    painted = learned.gan.generate(learned.nets["G"], learned.recipe, SAMPLES, learned.rng())
    return kernel_distance(net.features(painted), net.features(real))


@dataclass(frozen=True)
class Yardstick:
    """What is taken of a checkpoint, and by how much it must improve: `factor` times the first, or `plus` added."""

    name: str
    take: object
    draw: object = None  # what the classifier learns, None: needs none
    factor: float | None = None
    plus: float | None = None

    def held(self, first, last):
        return last <= self.factor * first if self.factor is not None else last >= first + self.plus

    @property
    def margin(self):
        return f"at most {self.factor:g} x the first" if self.factor is not None else f"at least {self.plus:g} more"


EYES_SIZE = {"cyclegan": 64, "stackgan": 64, "stargan": 32, "dcgan": 32, "ebgan": 32}
YARDSTICKS = {
    "cyclegan": (
        Yardstick("cycle L1 (grey levels)", measured("cycle_l1"), factor=0.7),
        Yardstick("translations taken for their domain", domain_accuracy, _season, plus=0.3),
    ),
    "began": (Yardstick("M", measured("M"), factor=0.6),),
    "ebgan": (Yardstick("KID on small features", feature_kid, _face, factor=0.5),),
    "dcgan": (Yardstick("KID on small features", feature_kid, _face, factor=0.5),),
    "stackgan": (
        Yardstick("colours and kinds as said (F1)", kinds_and_colours, _shapes, plus=0.2),
        Yardstick("kinds, colours, backgrounds as said (F1)", said_is_seen, _shapes, plus=0.2),
    ),
    "stargan": (Yardstick("changed labels seen", changed_accuracy, _face, plus=0.2),),
}


# --- training ---------------------------------------------------------------------------------------------------------


def train(name, run, minutes):
    """The real command, stopped once after its first steps to keep what it is then as checkpoints/first.

    Returns what a row says of it: minutes and device; of a run that was trained before and kept, those of then.
    """
    took = run / "took.json"
    if took.exists():
        return json.loads(took.read_text())
    command = [sys.executable, "-m", "pygan", "train", name, "--preset", "demo", "--run", str(run), "--device", "cpu"]
    command += ["--no-tensorboard", "--max-minutes", f"{minutes}"]
    began = time.monotonic()
    subprocess.run([*command, "--max-steps", str(FIRST_STEPS)], check=True)
    shutil.copytree(run / "checkpoints" / "last", run / "checkpoints" / "first")
    subprocess.run(command, check=True)
    spent = {"minutes": round((time.monotonic() - began) / 60, 2), "device": record.facts()["device"]}
    took.write_text(json.dumps(spent))
    return spent


PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
SHOWN = dict.fromkeys(("began", "ebgan", "dcgan"), 36)  # pictures in the grid, of the others rows
FIRST_STEPS = 10
BUDGET_MINUTES = 10.0


def judge(name, minutes, folder):
    """Train one GAN and record a row for each of its yardsticks. Returns whether all held."""
    run = folder / name
    spent = train(name, run, minutes)
    (first, first_images), (last, last_images) = load(run, "first"), load(run, "last")
    rows, ok = [], True
    for yardstick in YARDSTICKS[name]:
        net, accuracy = eyes(yardstick.draw, EYES_SIZE[name]) if yardstick.draw else (None, None)
        with torch.inference_mode():
            values = [yardstick.take(learned, net) for learned in (first, last)]
        held = bool(yardstick.held(*values))
        ok &= held
        rows.append(
            record.facts()
            | {
                "gan": name, "preset": "demo", "yardstick": yardstick.name, "margin": yardstick.margin, "held": held,
                "first": values[0], "last": values[1], "first_images": first_images, "last_images": last_images,
                "classifier_accuracy": accuracy,
            }
            | spent
        )  # fmt: skip
        print(f"{name}: {yardstick.name} {values[0]:.4g} -> {values[1]:.4g} ({yardstick.margin}): {held}", flush=True)
    record.append("learning", rows)
    picture = PICTURES / f"{name}.png"
    sample = [sys.executable, "-m", "pygan", "sample", str(run), "-o", str(picture), "--device", "cpu"]
    subprocess.run([*sample, "-n", str(SHOWN.get(name, 6))], check=True)
    return ok


def main(argv=None):
    """Returns the exit code: 0 if every yardstick held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.partition("\n")[0])
    parser.add_argument("--gans", default=",".join(YARDSTICKS), help="which (default: all)")
    parser.add_argument("--minutes", type=float, default=BUDGET_MINUTES, help="of training each (default: 10)")
    parser.add_argument(
        "--keep",
        type=Path,
        help="leave the runs here, and judge those again that are (default: deleted)",
    )
    args = parser.parse_args(argv)
    names = args.gans.split(",")
    if unknown := [name for name in names if name not in YARDSTICKS]:
        raise SystemExit(f"unknown GAN {unknown[0]!r}: choose from {', '.join(YARDSTICKS)}")
    folder = args.keep or Path(tempfile.mkdtemp())
    os.makedirs(folder, exist_ok=True)
    try:
        held = [judge(name, args.minutes, folder) for name in names]
    finally:
        if args.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
