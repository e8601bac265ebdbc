"""The loop round a step: feed, graph, log, save, resume. Knows no model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from pygan import checkpoint, device, heldout, log, optim, pictures, resume
from pygan import recipe as recipes
from pygan.errors import Diverged, UserError, say
from pygan.graph import GraphedStep, Step
from pygan.nn import full_precision
from pygan.recipe import BaseRecipe
from pygan.rundir import METRICS, RECIPE, SCORES, RunDir, read_metrics, write_atomic
from pygan.state import State

_OUT_OF_MEMORY = re.compile("DefaultCPUAllocator|Storage size calculation|not enough memory")  # of torch on a CPU
LOG_EVERY_S = 2.0  # reading the losses is the only wait for a GPU


@dataclass(frozen=True)
class Session:
    """What is asked of this call and is no part of the recipe."""

    run: Path | None = None  # None: runs/<gan>/<preset>, going on with an unfinished one of the same recipe
    resume: str = "auto"  # "auto" or "never"
    device: str = "auto"
    max_steps: int | None = None  # stop, saved, at this step of the run
    dry_run: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)  # recipe fields named on the command line


@dataclass
class _Run:
    """What the acts below share while a run is trained."""

    gan: ModuleType
    name: str
    recipe: BaseRecipe
    dir: RunDir
    feed: Any
    held_out: Any
    state: State
    dtype: torch.dtype
    best: tuple[float, int] | None = None  # held-out L1 of checkpoints/best in grey levels, and its images seen
    data: str = ""  # fingerprint of the pictures
    log: log.Log = field(init=False)

    @property
    def go_on(self) -> str:
        return f"pygan train {self.name} --run {self.dir.path}"


def train(gan: ModuleType, preset: str | None, session: Session) -> int:
    """Train, or go on training. Returns the exit code: 0 when done, or when stopped with everything saved.

    gan: a folder of `pygan.gans` (Recipe, PRESETS, resolve, build, batches, step, sample, generator); preset: a row of
    its table, None: "demo" on a CPU and "fast" on a GPU. Errors: UserError (nothing is lost), Diverged.
    """
    try:
        with _signals() as came:
            return _session(gan, preset, session, came)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        what = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise UserError(
            f"{what} has too little memory for this; lower --batch, --crop-size or --ngf, or add --amp"
        ) from error


def _session(gan: ModuleType, preset: str | None, session: Session, came: list[str]) -> int:
    """`train` but for signals, whose names appear in `came`, and the end of memory."""
    out, name = log.console(), gan.__name__.rpartition(".")[2]
    where, place = device.choose(session.device), device.place()
    if preset is None and not resume.is_run(session.run):
        preset = "fast" if where.type == "cuda" else "demo"
        out.print(f"no --preset given: taking '{preset}' for {device.describe(where)}", markup=False)
    path, asked, saved = resume.choose(gan, name, preset, session.run, session.resume, session.given)
    recipe = saved or asked
    device.make_deterministic(where, recipe.deterministic)
    dtype, note = device.precision(recipe, where)
    if note:
        out.print(note, markup=False)

    with contextlib.ExitStack() as stack:
        feed = stack.enter_context(gan.batches(recipe, "train", where, place.rank, place.world))
        recipe = saved or gan.resolve(recipe, feed.source.channels, feed.source.natural_direction)
        held_out = stack.enter_context(gan.batches(recipe, "held-out", where))
        if recipe.batch > _total_images(recipe, feed):
            raise UserError(
                f"--batch {recipe.batch} is more than the {_total_images(recipe, feed)} images of all epochs"
            )
        if session.dry_run:
            for key, value in recipes.to_dict(recipe).items():
                out.print(f"{key:26}{value}", markup=False)
            run = _Run(gan, name, recipe, RunDir(path), feed, held_out, gan.build(recipe, where), dtype)
            _introduce(out, run, None)
            out.print("dry run: nothing was written", markup=False)
            return 0
        run_dir = stack.enter_context(contextlib.closing(RunDir(path).open()))
        if saved is None:
            resume.write_recipe(run_dir, {"gan": name, "preset": preset}, asked, recipe)
        state = gan.build(recipe, where)
        state.buffers["watch"] = torch.zeros(2, dtype=torch.int64, device=where)  # {steps, first step that diverged}
        run = _Run(gan, name, recipe, run_dir, feed, held_out, state, dtype, data=_fingerprint(feed, held_out))
        found = _resume(run)
        _introduce(out, run, found)
        if found is not None and found.facts.get("finished") is True:
            out.print(f"{path} is finished; to train anew choose another --run", markup=False)
            return 0
        if session.max_steps is not None and state.steps >= session.max_steps:
            out.print(f"{path} is at step {state.steps} already; nothing to do for --max-steps {session.max_steps}")
            return 0
        _write(run, _open_log)
        stack.callback(run.log.close)
        return _loop(run, place.world, session, came)


def _open_log(run: _Run) -> None:
    """Begin to record rows. Errors: OSError."""
    run.log = log.Log(
        run.dir,
        total_images=_total_images(run.recipe, run.feed),
        images_seen=run.state.images_seen,
        tensorboard=run.recipe.tensorboard,
    )


def _total_images(recipe: BaseRecipe, feed: Any) -> int:
    return (recipe.epochs + recipe.decay_epochs) * feed.n_items


def _introduce(out: Console, run: _Run, found: checkpoint.Found | None) -> None:
    """Say what is about to happen: data, networks, device, and where from."""
    state, images = run.state, _total_images(run.recipe, run.feed)
    counts = ", ".join(f"{k} {sum(p.numel() for p in net.parameters()):,}" for k, net in state.nets.items())
    lines = [
        f"data       {run.feed.describe()}; held out: {run.held_out.n_items}",
        f"networks   {counts} parameters",
        f"device     {device.describe(state.device)}, {device.describe_precision(run.dtype, state.device)}",
        f"training   {images:,} images in batches of {run.recipe.batch}",
        f"run        {run.dir.path} (the whole recipe is in {RECIPE})",
    ]
    if found is not None:
        lines.append(f"resuming   {found.folder} at {state.images_seen:,} images, step {state.steps:,}")
    for line in lines:
        out.print(line, markup=False)


def _loop(run: _Run, world: int, session: Session, came: list[str]) -> int:
    """Steps until the end, a limit or a signal; rows, grids and checkpoints on the way."""
    recipe, state, total = run.recipe, run.state, _total_images(run.recipe, run.feed)
    per_step, began, step = recipe.batch * world, time.monotonic(), None
    last_row = began
    rates = {name: opt.lr for name, opt in state.opts.items()}
    while state.images_seen < total:
        try:
            batch = run.feed.address(state.images_seen)
        except UserError:  # a picture vanished or was changed: keep what has been learned
            if not int(state.watch[1]):  # never a state that has diverged
                _write(run, _save, finished=False, judge=False)
            raise
        epoch = state.images_seen // run.feed.n_items + 1
        factor = optim.lr_factor(recipe.schedule, epoch, recipe.epochs, recipe.decay_epochs)
        for opt_name, opt in state.opts.items():
            opt.set_lr_(rates[opt_name] * factor)
        step = step or _make_step(run, batch)
        logs = step(batch)
        before = state.images_seen
        state.images_seen += per_step
        state.steps += 1

        last = state.images_seen >= total
        why = "" if last else _why_stop(recipe, session, state.steps, began, came)
        if last or why or _row_due(recipe, before, state.images_seen, last_row):
            last_row = time.monotonic()
            _write(run, _row, logs, batch, epoch, recipe.lr * factor)
        if last or _due(recipe.sample_every_images, before, state.images_seen):
            _write(run, _sample)
        if last or why or _due(recipe.checkpoint_every_images, before, state.images_seen):
            _stop_if_diverged(run, logs, batch)
            _write(run, _save, finished=last, judge=not came)  # a signal waits for nobody: no measuring
            if _due(recipe.keep_every_images, before, state.images_seen):
                _write(run, _keep, f"images-{state.images_seen:09d}")
        if why:
            if not came:
                _write(run, _conclude)
            run.log.say(f"stopped by {why} and saved at {state.images_seen} images; go on with: {run.go_on}")
            return 0
    _write(run, _conclude)
    return 0


def _why_stop(recipe: BaseRecipe, session: Session, steps: int, began: float, came: list[str]) -> str:
    """What ends this session before the end of training; "" if nothing does."""
    if came:
        return came[0]
    if recipe.max_minutes > 0 and time.monotonic() - began > 60 * recipe.max_minutes:
        return f"--max-minutes {recipe.max_minutes:g}"
    if session.max_steps is not None and steps >= session.max_steps:
        return f"--max-steps {session.max_steps}"
    return ""


def _write(run: _Run, act: Callable[..., None], *args: Any, **options: Any) -> None:
    """Do something that writes into the run directory. Errors: UserError if that fails; nothing earlier is lost."""
    try:
        act(run, *args, **options)
    except OSError as error:
        raise UserError(_cannot_write(run, error)) from error


def _make_step(run: _Run, batch: Any) -> Step:
    """One training step as a function of the batch; on a GPU as one CUDA graph."""
    step = _plain_step(run)
    if run.state.device.type != "cuda" or run.recipe.graph == "off":
        return step
    run.log.say("capturing the step as a CUDA graph")
    return GraphedStep(step, run.state, batch)


def _plain_step(run: _Run) -> Step:
    """The GAN's step on the batch of an address, watched."""

    def step(address: Any) -> dict[str, Tensor]:
        logs = run.gan.step(run.state, run.recipe, run.feed.batch(address))
        _watch(run.state.watch, logs)
        return logs

    return step


@torch.no_grad()
def _watch(watch: Tensor, logs: Mapping[str, Tensor]) -> None:
    """Count the step, and note the first one with a NaN or Inf in a loss. On the device: nobody waits."""
    watch[0] += 1
    bad = ~torch.stack([value.detach().float() for value in logs.values()]).isfinite().all()
    watch[1] = torch.where(bad & (watch[1] == 0), watch[0], watch[1])


def _due(every: int, before: int, now: int) -> bool:
    """Has a multiple of `every` images been passed between two steps?"""
    return every > 0 and before // every < now // every


def _row_due(recipe: BaseRecipe, before: int, now: int, last_row: float) -> bool:
    if recipe.log_every_images:
        return _due(recipe.log_every_images, before, now)
    return time.monotonic() - last_row >= LOG_EVERY_S


def _row(run: _Run, logs: Mapping[str, Tensor], batch: Any, epoch: int, lr: float) -> None:
    """Read the losses (the one wait), record them, and stop if one of them is no number. Errors: Diverged, OSError."""
    _stop_if_diverged(run, logs, batch)
    run.log.row(run.state.images_seen, run.state.steps, _read(logs), {"epoch": epoch, "lr": lr})


def _read(logs: Mapping[str, Tensor]) -> dict[str, float]:
    """All logs as Python numbers, in one transfer."""
    values = torch.stack([value.detach().float() for value in logs.values()]).tolist()
    return dict(zip(logs, values, strict=True))


def _stop_if_diverged(run: _Run, logs: Mapping[str, Tensor], batch: Any) -> None:
    """Errors: Diverged, if any step so far had a NaN or Inf in a loss; so no such state is ever saved."""
    if first := int(run.state.watch[1]):
        raise Diverged(_diverged(run, first, _read(logs), batch))


def _diverged(run: _Run, first: int, values: Mapping[str, float], batch: Any) -> str:
    """What a user needs to know about a NaN: when, where, what is left, what people do."""
    bad = ", ".join(name for name, value in values.items() if not np.isfinite(value)) or "a loss"
    kept = checkpoint.find(run.dir.checkpoints)
    left = f"{kept[0].folder} at {kept[0].images_seen} images is kept" if kept else "there is no checkpoint yet"
    return (
        f"{bad} became NaN or infinite at step {first}, first seen in {_first_bad_module(run, batch)}; {left}. "
        "Start a new --run with a lower --lr, or without --amp"
    )


def _first_bad_module(run: _Run, batch: Any) -> str:
    """Run the step once more and name the first module, in the order of the computation, whose output is no number."""
    found: list[str] = []
    hooks = []
    for net_name, net in run.state.nets.items():
        for module_name, module in net.named_modules():
            path = f"{net_name}.{module_name}".rstrip(".")

            def hook(_module: nn.Module, _inputs: Any, output: Any, path: str = path) -> None:
                tensors = output if isinstance(output, tuple) else (output,)
                if any(torch.is_tensor(t) and not t.isfinite().all() for t in tensors):
                    found.append(path)

            hooks.append(module.register_forward_hook(hook))
    _plain_step(run)(batch)
    for handle in hooks:
        handle.remove()
    return f"module {found[0]}" if found else "the loss itself"


def _sample(run: _Run) -> None:
    """A grid of fixed held-out items: a file and a TensorBoard picture. Errors: OSError."""
    batches = heldout.batches(run.held_out, run.recipe.sample_images)
    parts = [pictures.columns(batch, _predict(run, batch)) for batch in batches]
    sheet = pictures.grid({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    run.dir.samples.mkdir(exist_ok=True)
    write_atomic(run.dir.samples / f"images-{run.state.images_seen:09d}.png", pictures.to_png(sheet))
    run.log.picture("samples", np.asarray(sheet), run.state.images_seen)


def _predict(run: _Run, batch: Any) -> Tensor:
    """The generator's images (those of its average if it keeps one) of a held-out batch, in full precision."""
    averaged = run.state.ema_G
    with full_precision():
        return run.gan.sample(run.state.G if averaged is None else averaged, run.recipe, batch.A)


def _scores(run: _Run, most: int) -> heldout.Scores:
    return heldout.score(lambda batch: _predict(run, batch), run.held_out, most)


def _save(run: _Run, *, finished: bool, judge: bool) -> None:
    """Write `last`, and keep it as `best` if the held-out L1 has never been lower. Errors: OSError."""
    better = False
    if judge:
        l1 = _scores(run, run.recipe.eval_images)["l1"]
        if better := run.best is None or l1 < run.best[0]:
            run.best = (l1, run.state.images_seen)
    run.log.flush()
    extra = {"finished": finished, "best": run.best, "data": run.data, "threads": torch.get_num_threads()}
    checkpoint.save(run.dir.checkpoints, run.state, {"gan": run.name, "recipe": recipes.to_dict(run.recipe)}, extra)
    if better:
        _keep(run, "best")


def _keep(run: _Run, name: str) -> None:
    checkpoint.keep(run.dir.checkpoints, name)


def _resume(run: _Run) -> checkpoint.Found | None:
    """Restore the newest usable checkpoint into the state; None in a new run. Errors: UserError if the data changed."""
    found = checkpoint.load_newest(run.dir.checkpoints, run.state)
    if found is None:
        if read_metrics(run.dir.path):
            say(f"{run.dir.path} has no checkpoint: beginning again at its start")
        return None
    if found.facts.get("data", run.data) != run.data:
        raise UserError(
            f"{run.dir.path} was trained on other pictures than {run.feed.source.describe()}; "
            "restore them, name their new place with --data, or choose another --run"
        )
    was, now = found.facts.get("threads"), torch.get_num_threads()
    if run.state.device.type == "cpu" and was != now:
        say(f"the run used {was} threads so far, now {now}: from here on sums differ in their last bits")
    match found.facts.get("best"):
        case [float() as l1, int() as images]:
            run.best = (l1, images)
            kept = next((f.images_seen for f in checkpoint.find(run.dir.checkpoints) if f.folder.name == "best"), None)
            if images == found.images_seen != kept and found.folder.name == "last":
                _write(run, _keep, "best")  # killed between `last` and `best`
    return found


def _fingerprint(*feeds: Any) -> str:
    """A short name for the pictures of some feeds: their names in order, and the sizes of their files."""
    digest = hashlib.sha256()
    for feed in feeds:
        for i, name in enumerate(feed.source.names()):
            sizes = [path.stat().st_size for path in feed.source.files(i)]
            digest.update(f"{name!r} {sizes}\n".encode())
    return digest.hexdigest()[:16]


def _conclude(run: _Run) -> None:
    """The final table, and where everything lies. Errors: OSError."""
    most = min(run.held_out.n_items, 500)
    table = {f"{run.name} (this run)": _scores(run, most), **heldout.baselines(run.feed, run.held_out, most)}
    run.log.close()
    facts = {"images": run.state.images_seen, "held_out": most, "scores": table}
    write_atomic(run.dir.path / SCORES, (json.dumps(facts, indent=2) + "\n").encode())
    run.log.out.print(log.scores_table(f"{most} held-out pairs", table))
    for what, where in {
        "samples": max(run.dir.samples.glob("images-*.png"), default="none yet"),
        "weights": run.dir.checkpoints / "last",
        "best by held-out L1": run.dir.checkpoints / "best",
        "metrics": run.dir.path / METRICS,
        "use it": f"pygan translate {run.dir.path} PICTURE... -o DIR",
    }.items():
        run.log.say(f"{what:20} {where}")


def _cannot_write(run: _Run, error: OSError) -> str:
    kept = checkpoint.find(run.dir.checkpoints)
    left = f"{kept[0].folder} at {kept[0].images_seen} images is intact" if kept else "no checkpoint was written yet"
    reason = error.strerror or str(error)
    return f"cannot write into {run.dir.path} ({reason}); {left}. Make room, then go on with: {run.go_on}"


@contextlib.contextmanager
def _signals() -> Iterator[list[str]]:
    """A list that holds the name of SIGINT or SIGTERM once one has come. A second one stops at once, unsaved."""
    came: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():  # a library user's thread: no signals there
        yield came
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
