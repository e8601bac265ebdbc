"""The loop round a step: feed, graph, log, save, resume. Knows no model."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from pygan import checkpoint, gans, heldout, log, optim, pictures, resume, signals, watch
from pygan import device as devices
from pygan import recipe as recipes
from pygan.errors import Diverged, UserError, say
from pygan.graph import GraphedStep, Step
from pygan.heap import Heap
from pygan.judge import Judge
from pygan.nn import full_precision
from pygan.recipe import BaseRecipe
from pygan.rundir import METRICS, RECIPE, SCORES, RunDir, as_path, read_metrics, write_atomic
from pygan.state import State

LOG_EVERY_S = 2.0  # reading the losses is the only wait for a GPU
_AGAIN_S = 60.0  # how long steps are gone over again to see where a NaN appeared first


@dataclass(frozen=True)
class _Session:
    """What is asked of this call, of which only `recipe`, `preset` and `given` are about the recipe."""

    recipe: BaseRecipe | None  # the recipe of a new run; None: the preset's, with `given` on top
    preset: str | None
    run: Path | None  # None: runs/<gan>/<preset>, going on with an unfinished one of the same recipe
    resume: str
    device: str
    max_steps: int | None  # stop, saved, at this step of the run
    dry_run: bool
    go_on: str  # the command that goes on, "": that of the run
    given: Mapping[str, Any]  # recipe fields that were named one by one


@dataclass
class _Run:
    """What the acts below share while one phase of a run is trained; most GANs have one phase."""

    gan: ModuleType
    name: str
    recipe: BaseRecipe
    dir: RunDir
    feed: Any
    held_out: Any
    state: State
    dtype: torch.dtype
    phase: int  # from 0
    phases: int  # how many there are
    first: int  # images seen before this phase
    end: int  # images seen when it is over
    total: int  # images of all phases
    data: str = ""  # fingerprint of the pictures
    best: tuple[float, int] | None = None  # yardstick of checkpoints/best, and its images seen
    rates: dict[str, float] = field(default_factory=dict)  # learning rates at the beginning, by optimizer
    log: log.Log | None = None
    judge: Judge | None = None
    watch: watch.Watch | None = None  # None: --no-diagnose
    go_on: str = ""  # the command that goes on with it


def train(
    recipe: BaseRecipe | str,
    *,
    preset: str | None = None,
    run: str | Path | None = None,
    resume: str = "auto",
    device: str = "auto",
    max_steps: int | None = None,
    dry_run: bool = False,
    go_on: str = "",
    **fields: Any,
) -> Path:
    """Train a GAN, or go on training it; this is what `pygan train` calls. Returns the run directory.

    Args:
        recipe: the `Recipe` of a GAN (`from pygan.gans.pix2pix import Recipe`), or the name of a GAN: then its `preset`
            with `fields` on top.
        preset: a row of the GAN's presets; None: the run's own recipe where there is a run, else "demo" on a CPU and
            "fast" on a GPU where it has one. Beside a recipe only the name that a new run directory gets.
        run: run directory; None: runs/GAN/PRESET, going on with an unfinished one of the same recipe.
        resume: "auto", go on with the run that is there, if it has this recipe; or "never".
        device: "auto", "cpu", "cuda", or one GPU of several as "cuda:1".
        max_steps: stop, saved, at this step of the run.
        dry_run: say what would be done, and write nothing.
        go_on: the command that is named where training stops before its end; "": `pygan train` with the run.
        fields: fields of the recipe by name, as `lambda_l1=10.0`.

    SIGINT and SIGTERM stop it, saved; the same call goes on, bit for bit. In another than the main thread signals are
    left alone.

    Raises:
        UserError: what cannot be done, in one line; nothing is lost.
        Diverged: a loss became NaN or infinite; the last checkpoint is kept.
    """
    if max_steps is not None and (type(max_steps) is not int or max_steps < 1):
        raise UserError(f"--max-steps must be a whole number, at least 1, got {max_steps!r}")
    if resume not in ("auto", "never"):
        raise UserError(f"--resume must be auto or never, got {resume!r}")
    if preset is not None and (not isinstance(preset, str) or preset == ".." or {"/", "\0"} & set(preset)):
        raise UserError(f"--preset must be a name, got {preset!r}")
    if isinstance(recipe, str):
        gan, whole = gans.load(recipe), None
    else:
        gan, whole = gans.of(recipe), recipe
    known = gan.Recipe.__dataclass_fields__
    if unknown := sorted(set(fields) - set(known)):
        raise UserError(f"{gans.name_of(gan)} has no recipe field {unknown[0]!r}; `pygan train --help` lists them")
    fields = plain(fields)
    if whole is not None:
        whole = replace(whole, **plain(recipes.to_dict(whole)) | fields)
    where = None if run is None else as_path(run, "--run")
    if where is not None and where.is_file():  # said before pictures are prepared, not behind them
        raise UserError(f"{where} is a file; choose another place with --run")
    session = _Session(whole, preset, where, resume, device, max_steps, dry_run, go_on, fields)
    try:
        with _signals() as came:
            return _session(gan, session, came)
    except (MemoryError, RuntimeError) as error:
        if not (what := devices.out_of_memory(error)):
            raise
        raise UserError(
            f"{what} has too little memory for this; lower --batch, --crop-size or --ngf, or add --amp; "
            f"`pygan plan {gans.name_of(gan)} --fit SIZE` says what would fit"
        ) from error


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as words and numbers of Python: numpy's as those, and whole paths to what is there, so that the run
    can be used from anywhere.
    """
    found = {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}
    for name in ("data", "data_2", "stage1", "vgg_weights", "text_encoder"):
        value = found.get(name)
        if isinstance(value, Path):
            found[name] = value = str(value)
        if not value or not isinstance(value, str) or (name == "text_encoder" and value in ("auto", "hashing")):
            continue  # names, whatever there is beside
        if Path(value).exists():
            found[name] = str(Path(value).resolve())
    return found


def _session(gan: ModuleType, session: _Session, came: list[str]) -> Path:
    """`train` but for signals, whose names appear in `came`, and the end of memory."""
    out, name = log.console(), gans.name_of(gan)
    where, place = devices.choose(session.device), devices.place()
    preset = session.preset or ("recipe" if session.recipe is not None else None)
    if preset is None and not resume.is_run(session.run):
        preset = "fast" if where.type == "cuda" and "fast" in gan.PRESETS else "demo"
        out.print(f"no --preset given: taking '{preset}' for {devices.describe(where)}", markup=False)
    path, asked, saved = resume.choose(gan, name, preset, session.run, session.resume, session.given, session.recipe)
    recipe = saved or asked
    devices.make_deterministic(where, recipe.deterministic)
    dtype, note = devices.precision(recipe, where)
    if note:
        out.print(note, markup=False)

    began, run = time.monotonic(), None
    with contextlib.ExitStack() as stack:
        run_dir, found = RunDir(path), None
        if saved is not None and not session.dry_run:
            stack.enter_context(contextlib.closing(run_dir.open()))
            found = _newest(run_dir)
        phase = found.facts.get("phase", 0) if found else 0
        while True:
            with contextlib.ExitStack() as feeds:
                new = saved is None and run is None
                feed = feeds.enter_context(_feed(gan, recipe, phase, "train", where, place))
                if new:
                    recipe = gan.resolve(recipe, feed.facts)
                held_out = feeds.enter_context(_feed(gan, recipe, phase, "held-out", where, devices.Place()))
                before, run = run, _open(gan, name, recipe, phase, run_dir, feed, held_out, where, dtype, place.world)
                run.go_on = session.go_on or shlex.join(["pygan", "train", name, "--run", str(path)])
                run.judge = feeds.enter_context(contextlib.closing(Judge(gan, run.recipe, held_out, where)))
                run.judge.check(_nets(run))
                if session.dry_run:
                    _show(out, run, recipe)
                    return path
                if new:
                    stack.enter_context(contextlib.closing(run_dir.open()))
                    resume.write_recipe(run_dir, {"gan": name, "preset": preset}, asked, recipe)
                    found = _newest(run_dir)
                if before is not None:
                    _inherit(run, before)
                    _write(run, _begin_to_watch)
                    _introduce(out, run, None)
                elif _take_up(out, run, found, session, told=not new):
                    stack.callback(run.log.close)
                else:
                    return path
                if before is not None:
                    del before
                    gc.collect()  # nets and optimizers refer to each other
                if _loop(run, place.world, session, came, began) or run.end == run.total:
                    return path
            phase += 1


def _feed(
    gan: ModuleType, recipe: BaseRecipe, phase: int, split: str, where: torch.device, place: devices.Place
) -> Any:
    """The feed of a split in a phase."""
    return gan.batches(gans.phases(gan, recipe)[phase], split, where, place.rank, place.world)


def _show(out: Console, run: _Run, recipe: BaseRecipe) -> None:
    """What `--dry-run` says."""
    for key, value in recipes.to_dict(recipe).items():
        out.print(f"{key:26}{value}", markup=False)
    _introduce(out, run, None)
    out.print("dry run: nothing was written", markup=False)


def _take_up(out: Console, run: _Run, found: checkpoint.Found | None, session: _Session, *, told: bool) -> bool:
    """Bring a run to where its newest checkpoint is, and open its log. Returns False if there is nothing to do.

    told: the run was there before, and may have been told where its data is now.
    """
    if found is not None:
        _resume(run, found)
    if told:
        _write(run, _note_places, session.given)
    _introduce(out, run, found)
    path, most = run.dir.path, session.max_steps
    if found is not None and found.facts.get("finished") is True:
        out.print(f"{path} is finished; to train anew choose another --run", markup=False)
        return False
    if most is not None and run.state.steps >= most:
        out.print(f"{path} is at step {run.state.steps} already; nothing to do for --max-steps {most}")
        return False
    _write(run, _open_log)
    _write(run, _note_session)
    return True


def _open(
    gan: ModuleType,
    name: str,
    recipe: BaseRecipe,
    phase: int,
    run_dir: RunDir,
    feed: Any,
    held_out: Any,
    where: torch.device,
    dtype: torch.dtype,
    world: int,
) -> _Run:
    """A phase of a run at its beginning. Errors: UserError if it is too short for a step."""
    phases = gans.phases(gan, recipe)
    lengths = [_images(gan, one, feed, world) for one in phases]
    now = phases[phase]
    per_step = gans.images_per_step(gan, now) * world
    if per_step > lengths[phase]:
        raise UserError(f"--batch {now.batch} is more than the {lengths[phase]} images of all epochs")
    for one, images in zip(phases, lengths, strict=True):
        _check_rate(gan, one, images, feed.n_items, world)
    state = gan.build(now, where)
    state.buffers["watch"] = torch.zeros(2, dtype=torch.int64, device=where)  # {steps, first step that diverged}
    first = sum(lengths[:phase])
    state.images_seen = first
    return _Run(
        gan,
        name,
        now,
        run_dir,
        feed,
        held_out,
        state,
        dtype,
        phase,
        len(phases),
        first,
        first + lengths[phase],
        sum(lengths),
        data=_fingerprint(feed, held_out),
    )


def _move(run: _Run, first: int) -> None:
    """Let the phase begin at that many images seen: the one before ended at a whole step, a little behind its end."""
    by = first - run.first
    run.first, run.end, run.total = run.first + by, run.end + by, run.total + by


def _images(gan: ModuleType, recipe: BaseRecipe, feed: Any, world: int) -> int:
    """Images of a whole phase."""
    if recipe.steps:
        return recipe.steps * gans.images_per_step(gan, recipe) * world
    return (recipe.epochs + recipe.decay_epochs) * feed.n_items


def _check_rate(gan: ModuleType, recipe: BaseRecipe, images: int, n_items: int, world: int) -> None:
    """Errors: UserError if --steps goes on for an epoch or more after the learning rate has come down to 0."""
    whole = images // n_items  # epochs, of which a schedule may end with one at 0
    per_step = gans.images_per_step(gan, recipe) * world
    if recipe.steps and whole > 1 and _lr_factor(gan, recipe, whole - 1, (whole - 1) * n_items // per_step) == 0:
        raise UserError(
            f"--steps {recipe.steps} are {whole} epochs, but the learning rate is 0 long before: after --epochs "
            f"{recipe.epochs} and --decay-epochs {recipe.decay_epochs}; make them longer, or take fewer steps"
        )


def _inherit(run: _Run, before: _Run) -> None:
    """Begin a phase with what the one before it has learned."""
    averaged = {name: before.state.ema.get(name, net) for name, net in before.state.nets.items()}
    run.gan.inherit_(run.state, averaged)
    run.state.refresh_()
    run.state.images_seen, run.state.steps = before.state.images_seen, before.state.steps
    run.state.watch[0] = before.state.steps
    run.log = before.log
    _move(run, run.state.images_seen)


def _open_log(run: _Run) -> None:
    """Begin to record rows. Errors: OSError."""
    run.log = log.Log(
        run.dir,
        total_images=run.total,
        images_seen=run.state.images_seen,
        tensorboard=run.recipe.tensorboard,
    )


def _note_session(run: _Run) -> None:
    """Write down where this session runs, and begin to watch the run. Errors: OSError."""
    watch.note_environment(run.dir, run.state.device, run.dtype, run.state.images_seen)
    _begin_to_watch(run)


def _begin_to_watch(run: _Run) -> None:
    if run.recipe.diagnose:
        run.watch = watch.Watch(run.dir, run.name, run.recipe, run.state.images_seen)


def _introduce(out: Console, run: _Run, found: checkpoint.Found | None) -> None:
    """Say what is about to happen: data, networks, device, and where from."""
    state, images = run.state, run.end - run.first
    counts = ", ".join(f"{k} {sum(p.numel() for p in net.parameters()):,}" for k, net in state.nets.items())
    batch = gans.images_per_step(run.gan, run.recipe)
    lines = [
        f"data       {run.feed.describe()}; held out: {run.held_out.n_items}",
        f"networks   {counts} parameters",
        f"device     {devices.describe(state.device)}, {devices.describe_precision(run.dtype, state.device)}",
        f"training   {images:,} images in batches of {batch}",
        f"run        {run.dir.path} (the whole recipe is in {RECIPE})",
    ]
    if images < run.total:
        lines.insert(3, f"phase      {run.phase + 1} of {run.phases}")
    if found is not None:
        lines.append(f"resuming   {found.folder} at {state.images_seen:,} images, step {state.steps:,}")
    for line in lines:
        out.print(line, markup=False)


def _loop(run: _Run, world: int, session: _Session, came: list[str], began: float) -> bool:
    """Steps until the end of a phase, a limit or a signal; rows, grids and checkpoints on the way.

    Returns True if training stops here, False if the phase is over.
    """
    recipe, state = run.recipe, run.state
    per_step, step = gans.images_per_step(run.gan, recipe) * world, None
    last_row = time.monotonic()
    heap = Heap() if state.device.type == "cpu" else None
    run.rates = {name: opt.lr for name, opt in state.opts.items()}
    while state.images_seen < run.end:
        here = state.images_seen - run.first
        try:
            batch = run.feed.address(here)
        except UserError:  # a picture vanished or was changed: keep what has been learned
            if not int(state.watch[1]):  # never a state that has diverged
                _write(run, _save, finished=False, better=False)
            raise
        epoch, factor = _set_rates_(run, here, per_step)
        step = step or _make_step(run, batch)
        logs = step(batch)
        before = state.images_seen
        state.images_seen += per_step
        state.steps += 1
        if heap is not None:
            heap.end_of_round()

        over = state.images_seen >= run.end
        last = over and run.end == run.total
        why = "" if last else _why_stop(recipe, session, state.steps, began, came)
        saves = over or _due(recipe.checkpoint_every_images, before, state.images_seen)
        told = over or _due(recipe.eval_every_images or recipe.checkpoint_every_images, before, state.images_seen)
        found, better = {}, False
        if (told or why) and not came:  # a signal waits for nobody: no measuring
            _stop_if_diverged(run, logs, batch)
            found, better = _evaluate(run)
        if told or why or _row_due(recipe, before, state.images_seen, last_row):
            last_row = time.monotonic()
            # An evaluation only because training stops here would not be in the rows of a run that goes on.
            _write(run, _row, logs, batch, epoch, recipe.lr * factor, found if told else {})
        if over or _due(recipe.sample_every_images, before, state.images_seen):
            _stop_if_diverged(run, logs, batch)
            _write(run, _sample)
        if saves or why or better:
            _stop_if_diverged(run, logs, batch)
            _write(run, _save, finished=last, better=better)
            if _due(recipe.keep_every_images, before, state.images_seen):
                _write(run, _keep, f"images-{state.images_seen:09d}")
        if why:
            if not came:
                _write(run, _conclude)
            run.log.say(f"stopped by {why} and saved at {state.images_seen} images; go on with: {run.go_on}")
            return True
    if run.end == run.total:
        _write(run, _conclude)
    return False


def _set_rates_(run: _Run, here: int, per_step: int) -> tuple[int, float]:
    """Set the learning rates of the step at `here` images of the phase. Returns its epoch, and the factor of them."""
    epoch = here // run.feed.n_items + 1
    factor = _lr_factor(run.gan, run.recipe, epoch, here // per_step)
    for name, opt in run.state.opts.items():
        opt.set_lr_(run.rates[name] * factor)
    return epoch, factor


def _lr_factor(gan: ModuleType, recipe: BaseRecipe, epoch: int, step: int) -> float:
    """What to multiply the learning rate by; epoch from 1, step from 0, both of the recipe's phase."""
    if hasattr(gan, "lr_factor"):
        return gan.lr_factor(recipe, epoch, step)
    return optim.lr_factor(recipe.schedule, epoch, recipe.epochs, recipe.decay_epochs)


def _why_stop(recipe: BaseRecipe, session: _Session, steps: int, began: float, came: list[str]) -> str:
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


def _row(run: _Run, logs: Mapping[str, Tensor], batch: Any, epoch: int, lr: float, scores: Mapping[str, float]) -> None:
    """Read the losses (the one wait) and what the pictures of the step look like, record them with the scores of an
    evaluation, say what goes wrong, and stop if a loss is no number. Errors: Diverged, OSError.
    """
    _stop_if_diverged(run, logs, batch)
    vitals = run.watch.vitals(run.state) if run.watch else {}
    values = _read({**logs, **vitals}) | scores
    row = run.log.row(run.state.images_seen, run.state.steps, values, {"epoch": epoch, "lr": lr})
    for line in run.watch.see(row) if run.watch else ():
        run.log.say(line)


def _read(logs: Mapping[str, Tensor]) -> dict[str, float]:
    """All logs as Python numbers, in one transfer."""
    values = torch.stack([value.detach().float() for value in logs.values()]).tolist()
    return dict(zip(logs, values, strict=True))


def _stop_if_diverged(run: _Run, logs: Mapping[str, Tensor], batch: Any) -> None:
    """Errors: Diverged, if any step so far had a NaN or Inf in a loss; so no such state is ever saved."""
    if first := int(run.state.watch[1]):
        images, steps = run.state.images_seen, run.state.steps
        line = _diverged(run, first, _read(logs), batch)
        _write(run, _note_diverged, images, steps, first, line)
        raise Diverged(line)


def _diverged(run: _Run, first: int, values: Mapping[str, float], batch: Any) -> str:
    """What a user needs to know about a NaN: when, where, what is left, what people do."""
    kept = checkpoint.find(run.dir.checkpoints)
    left = f"{kept[0].folder} at {kept[0].images_seen} images is kept" if kept else "there is no checkpoint yet"
    # By now the optimizers have carried it everywhere: what tells is the step in which it appeared.
    steps, (later, _) = run.state.steps, _bad_module(run, batch)
    where = f"first seen in {later}" if steps == first else f"seen in {later} at step {steps}"
    if steps != first and (found := _go_over_again(run, first)):
        where, values = f"first seen in {found[0]}", found[1]
    bad = ", ".join(name for name, value in values.items() if not np.isfinite(value)) or "a loss"
    return (
        f"{bad} became NaN or infinite at step {first}, {where}; {left}. "
        "Start a new --run with a lower --lr, or without --amp"
    )


def _note_diverged(run: _Run, images: int, steps: int, first: int, line: str) -> None:
    watch.note_diverged(run.dir, images, steps, first, line)


def _go_over_again(run: _Run, first: int) -> tuple[str, dict[str, float]] | None:
    """Train from the newest checkpoint to step `first` again: (the first bad module there, the logs of the step).

    None if that takes too long, or does not come out the same. The state is another one afterwards.
    """
    per_step, began = gans.images_per_step(run.gan, run.recipe) * devices.place().world, time.monotonic()
    try:
        if not _rewind(run, first):
            return None
        state, step = run.state, _plain_step(run)
        run.log.say(f"a loss is no number: training from step {state.steps} to {first} again, to see where it began")
        while time.monotonic() - began < _AGAIN_S:
            batch = run.feed.address(state.images_seen - run.first)
            _set_rates_(run, state.images_seen - run.first, per_step)
            if state.steps == first - 1:
                found = _bad_module(run, batch)
                return found if int(state.watch[1]) == first else None
            step(batch)
            state.images_seen += per_step
            state.steps += 1
    except (UserError, OSError, RuntimeError):  # pictures or a checkpoint gone, too little memory
        pass
    return None


def _rewind(run: _Run, first: int) -> bool:
    """Bring the state to the newest checkpoint before step `first`, or to the beginning. False if that cannot be."""
    for found in checkpoint.find(run.dir.checkpoints):
        if found.facts["steps"] < first and found.facts.get("phase", 0) == run.phase:
            checkpoint.restore(found, run.state)
            return True
    if run.phase:
        return False  # began with what another phase had learned
    buffers = run.state.buffers
    run.state = run.gan.build(run.recipe, run.state.device)
    run.state.buffers["watch"] = torch.zeros_like(buffers["watch"])
    return True


def _bad_module(run: _Run, batch: Any) -> tuple[str, dict[str, float]]:
    """Run a step: (the first module, in the order of the computation, whose output is no number; its logs)."""
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
    logs = _read(_plain_step(run)(batch))
    for handle in hooks:
        handle.remove()
    return f"module {found[0]}" if found else "the loss itself", logs


def _sample(run: _Run) -> None:
    """A grid of fixed held-out items: a file and a TensorBoard picture. Errors: OSError."""
    net = _nets(run)["G"]
    parts = []
    with full_precision(), torch.no_grad():
        for batch in heldout.batches(run.held_out, run.recipe.sample_images):
            parts.append(pictures.columns(run.gan.sample(net, run.recipe, batch)))
    sheet = pictures.grid(pictures.joined(parts))
    run.dir.samples.mkdir(exist_ok=True)
    write_atomic(run.dir.samples / f"images-{run.state.images_seen:09d}.png", pictures.to_png(sheet))
    run.log.picture("samples", np.asarray(sheet), run.state.images_seen)


def _nets(run: _Run) -> dict[str, nn.Module]:
    """All nets by name, a net's average in its place where it has one."""
    return run.state.nets | run.state.ema


def _evaluate(run: _Run) -> tuple[heldout.Scores, bool]:
    """Measure held-out and training items: (what the rows are to say of it, is it the best so far?)."""
    nets, most = _nets(run), run.recipe.eval_images
    scores = run.judge.scores(nets, most)
    yardstick = run.judge.yardstick(scores)
    if better := np.isfinite(yardstick) and (run.best is None or yardstick < run.best[0]):
        run.best = (yardstick, run.state.images_seen)
    try:
        seen = run.judge.of_training_items(nets, most)
    except UserError as reason:  # a picture vanished or was changed; training may not need it any more
        say(f"training items are not measured: {reason}")
        seen = {}
    named = {f"held_out/{name}": value for name, value in scores.items()}
    return named | {f"train/{name}": value for name, value in seen.items()}, better


def _save(run: _Run, *, finished: bool, better: bool) -> None:
    """Write `last`, and keep it as `best` too if it is. Errors: OSError."""
    run.log.flush()
    extra = {"finished": finished, "best": run.best, "data": run.data, "threads": torch.get_num_threads()}
    extra |= {"phase": run.phase, "phase_first": run.first, "best_by": run.recipe.best_by}
    checkpoint.save(run.dir.checkpoints, run.state, {"gan": run.name, "recipe": recipes.to_dict(run.recipe)}, extra)
    if better:
        _keep(run, "best")


def _keep(run: _Run, name: str) -> None:
    checkpoint.keep(run.dir.checkpoints, name)


def _newest(run_dir: RunDir) -> checkpoint.Found | None:
    """The checkpoint to go on from; None in a new run. Errors: UserError if there are some and none is usable."""
    found = checkpoint.newest(run_dir.checkpoints)
    if found is None and read_metrics(run_dir.path):
        say(f"{run_dir.path} has no checkpoint: beginning again at its start")
    return found


def _resume(run: _Run, found: checkpoint.Found) -> None:
    """Restore a checkpoint into the state. Errors: UserError if the data changed."""
    checkpoint.restore(found, run.state)
    _move(run, found.facts.get("phase_first", run.first))
    if found.facts.get("data", run.data) != run.data:
        raise UserError(
            f"{run.dir.path} was trained on other pictures than {run.feed.sources[0].describe()}; "
            "restore them, name their new place with --data, or choose another --run"
        )
    was, now = found.facts.get("threads"), torch.get_num_threads()
    if run.state.device.type == "cpu" and was != now:
        say(f"the run used {was} threads so far, now {now}: from here on sums differ in their last bits")
    if (by := found.facts.get("best_by", "")) != run.recipe.best_by:
        names = " before, ".join(
            f"by {name}" if name else "by the GAN's first metric" for name in (by, run.recipe.best_by)
        )
        say(f"checkpoints/best was chosen {names} now: it is chosen anew")
        return
    match found.facts.get("best"):
        case [float() as yardstick, int() as images]:
            run.best = (yardstick, images)
            kept = next((f.images_seen for f in checkpoint.find(run.dir.checkpoints) if f.folder.name == "best"), None)
            if images == found.images_seen != kept and found.folder.name == "last":
                _write(run, _keep, "best")  # killed between `last` and `best`


def _note_places(run: _Run, given: Mapping[str, Any]) -> None:
    resume.note_places(run.dir, given)


def _fingerprint(*feeds: Any) -> str:
    """A short name for the sets of some feeds: names in order, sizes of files, and all that is known of the items."""
    digest = hashlib.sha256()
    for source in (source for feed in feeds for source in feed.sources):
        for i, name in enumerate(source.names()):
            sizes = [path.stat().st_size for path in source.files(i)]
            digest.update(f"{name!r} {sizes}\n".encode())
        for name, values in sorted(source.facts.items()):
            digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def _conclude(run: _Run) -> None:
    """The final table, and where everything lies. Errors: OSError."""
    most = min(run.held_out.n_items, 500)
    table = {f"{run.name} (this run)": run.judge.scores(_nets(run), most)}
    if hasattr(run.gan, "baselines"):
        training = heldout.batches(run.feed, run.feed.n_items)
        for name, measure in run.gan.baselines(run.recipe, training).items():
            table[name] = heldout.means(measure, run.held_out, most)
    run.log.close()
    facts = {"images": run.state.images_seen, "held_out": most, "scores": table}
    write_atomic(run.dir.path / SCORES, (json.dumps(facts, indent=2) + "\n").encode())
    run.log.out.print(log.scores_table(f"{most} held-out items", table))
    yardstick = run.recipe.best_by or next(iter(next(iter(table.values()))))
    use = "translate {} PICTURE... -o DIR" if hasattr(run.gan, "translate") else "sample {} -o PICTURE.png"
    for what, where in {
        "samples": max(run.dir.samples.glob("images-*.png"), default="none yet"),
        "weights": run.dir.checkpoints / "last",
        f"best by {yardstick}": run.dir.checkpoints / "best",
        "metrics": run.dir.path / METRICS,
        "use it": f"pygan {use.format(run.dir.path)}",
    }.items():
        run.log.say(f"{what:20} {where}")


def _cannot_write(run: _Run, error: OSError) -> str:
    kept = checkpoint.find(run.dir.checkpoints)
    left = f"{kept[0].folder} at {kept[0].images_seen} images is intact" if kept else "no checkpoint was written yet"
    reason = error.strerror or str(error)
    reason += f": {error.filename}" if error.filename and error.errno == errno.EISDIR else ""
    return f"cannot write into {run.dir.path} ({reason}); {left}. Make room, then go on with: {run.go_on}"


@contextlib.contextmanager
def _signals() -> Iterator[list[str]]:
    """A list that holds the name of SIGINT or SIGTERM once one has come. A second one stops at once, unsaved."""
    came: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number).name)

    with signals.handled(note, *signals.STOPS):
        yield came
