"""A plan before a training: the tensors of a step, the memory of a process, lengths, proposals."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from pygan import gans, plan
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.plan import data, fit, make, memory, show
from pygan.plan import measure as module_of_measure
from pygan.plan.measure import Measured, Phase, measure
from pygan.plan.walk import Follower, _gradients_told, _named, walk

CPU = torch.device("cpu")


def resolved(name, preset="tiny", **fields):
    gan = gans.load(name)
    return gan, gan.resolve(recipes.make(gan.Recipe, gan.PRESETS, preset, fields))


def followed(gan, recipe):
    """(bytes of the state by part, bytes of a step by part, operations) of a real step on the CPU."""
    follower = Follower()
    with follower:
        state = gan.build(recipe, "cpu")
        parts = _named(state, follower)
        batch = gan.example(recipe, "cpu")
        batch = type(batch)(*(one.zero_() for one in batch))
        with _gradients_told(state, follower):
            follower.call(batch, "batch")
            follower.begin()
            gan.step(state, recipe, batch)
    return parts, follower.peak_by_part(), follower.operations


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pix2pix", {}),
        ("pix2pix", {"ema_half_life_images": 10.0, "upsample": "nearest", "batch": 4}),
        ("cyclegan", {"batch": 1}),
        ("dcgan", {}),
        ("stargan", {"batch": 4}),
        ("began", {}),
    ],
)
def test_a_walk_finds_the_tensors_of_a_real_step(name, fields):
    gan, recipe = resolved(name, **fields)
    walked = walk(gan, recipe, "cpu")
    state, step, operations = followed(gan, recipe)
    assert walked.state == state
    # Losses may overwrite their gradients in a real step, which a walk does not know of: some KiB.
    assert sum(walked.step.values()) == pytest.approx(sum(step.values()), rel=0.03, abs=4096)
    assert walked.operations == pytest.approx(operations, rel=0.05, abs=8)
    assert not walked.unwalked


@pytest.mark.parametrize("name", gans.names())
def test_every_gan_can_be_walked(name):
    gan, recipe = resolved(name)
    for phase in gans.phases(gan, recipe):
        walked = walk(gan, phase, "cpu")
        count = sum(walked.parameters.values())
        assert count > 0
        assert walked.state["weights"] >= 4 * count
        assert walked.state["optimizer"] > 0
        assert walked.step["activations"] > 0
        assert walked.flops > 0
        assert walked.files > 12 * count * 0.5  # weights and moments of what is trained
        assert not walked.unwalked


def test_a_walk_grows_with_the_batch_and_says_what_is_larger():
    gan, recipe = resolved("cyclegan")
    one, four = (walk(gan, replace(recipe, batch=n), "cpu") for n in (1, 4))
    assert 3.5 < four.step["activations"] / one.step["activations"] < 4.2
    assert four.state == one.state
    assert four.flops == pytest.approx(4 * one.flops, rel=0.05)


def test_a_walk_computes_nothing():
    gan, recipe = resolved("pix2pix", preset="paper", batch=64)
    assert walk(gan, recipe, "cpu").step_bytes > 4 << 30  # of which this process takes nothing


_TRAIN = """
import sys
from pygan.__main__ import main
code = main(["train", *sys.argv[1:]])
print("peak", next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024)
sys.exit(code)
"""


def real_peak(name, flags, folder):
    command = [sys.executable, "-c", _TRAIN, name, *flags, "--device", "cpu", "--run", str(folder / "run")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(told.rpartition("peak ")[2])


@pytest.mark.parametrize(
    ("name", "preset", "fields"),
    [
        ("pix2pix", "demo", {"steps": 6, "batch": 4, "data_images": 24, "load_size": 72, "crop_size": 64}),
        ("cyclegan", "demo", {"steps": 4, "batch": 1, "data_images": 24}),
    ],
)
def test_memory_is_predicted_within_ten_percent(name, preset, fields, tmp_path):
    gan = gans.load(name)
    fields |= {"tensorboard": False}
    asked = recipes.make(gan.Recipe, gan.PRESETS, preset, fields)
    made = make.make(gan, asked, preset, CPU, seconds=3.0)
    flags = ["--preset", preset, "--no-tensorboard"]
    flags += [word for key, value in fields.items() if key != "tensorboard" for word in (recipes.flag(key), str(value))]
    real = real_peak(name, flags, tmp_path)
    assert made.peak == pytest.approx(real, rel=0.10)
    assert made.parts[0].memory.measured
    (part,) = made.parts
    computed = memory.of(part.walk, part.found, made.measured, None, "cpu", part.length.steps)
    assert computed.peak == pytest.approx(real, rel=0.10)  # by the walk alone
    assert not made.parts[0].phase.lacks
    assert made.total_s > made.parts[0].length.seconds["steps"] > 0


@pytest.fixture
def planned(monkeypatch):
    """A function that plans without a child process, as if a step had taken 1 s per image."""

    def never(*args, **options):
        return Measured(300 << 20, 2.0, 1)

    monkeypatch.setattr(make, "measure", never)

    def do(name, **fields):
        gan = gans.load(name)
        made = make.make(gan, recipes.make(gan.Recipe, gan.PRESETS, "tiny", fields), "tiny", CPU, measured=False)
        parts = []
        for part in made.parts:
            took = part.length.per_step * 1.0
            parts.append(
                replace(part, length=replace(part.length, step_s=took, seconds={"steps": took * part.length.steps}))
            )
        return gan, replace(made, parts=tuple(parts))

    return do


def test_lengths_are_those_of_the_training(planned):
    _, made = planned("pix2pix", keep_every_images=16)
    one = made.parts[0].length
    assert (one.images, one.steps, one.epochs, one.per_step) == (4 * 8, 16, 4.0, 2)
    assert one.checkpoints == 32 // 8
    assert one.kept == 3 + 2
    assert one.epoch_s == pytest.approx(8.0)
    assert made.total_s == pytest.approx(2.0 + 32.0)


def test_a_training_writes_as_often_as_is_planned(planned, tmp_path, monkeypatch):
    from pygan import checkpoint, judge, loop

    counts = {"save": 0, "scores": 0}

    def counting(owner, name):
        act = getattr(owner, name)

        def noted(*args, **options):
            counts[name] += 1
            return act(*args, **options)

        monkeypatch.setattr(owner, name, noted)

    fields = {"sample_every_images": 7, "checkpoint_every_images": 12, "tensorboard": False}
    _, made = planned("dcgan", **fields)
    (part,) = made.parts
    counting(checkpoint, "save")
    counting(judge.Judge, "scores")
    run = loop.train("dcgan", preset="tiny", run=tmp_path / "run", device="cpu", **fields)
    grids = len(list((run / "samples").glob("*.png")))
    assert grids == -(-part.length.images // 7)
    assert part.length.checkpoints == counts["save"] == counts["scores"] - 1  # one more for the final table
    files = {file.stat().st_ino: file.stat().st_size for file in (run / "checkpoints").rglob("*.safetensors")}
    assert 0.5 < sum(files.values()) / part.length.disk["checkpoints"] < 1.05


def test_what_is_measured_of_a_few_items_counts_for_one(monkeypatch, capsys):
    """Of a batch of which fewer are held out, no more are painted."""
    from pygan import pictures
    from pygan.plan import child

    monkeypatch.setattr(pictures, "to_png", lambda sheet: bytes(1000))
    gan, recipe = resolved("dcgan", batch=8)
    child._phase(gan, recipe, {"few": {"data_images": 16, "holdout": 0.125}, "ready": False}, CPU, 0, 0.01)
    told = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert told["feed"]["items"] == 16
    assert told["evaluation"]["png"] == 1000 / 2
    assert told["row"]["size"] > 30 * told["row"]["values"]


def test_a_small_set_holds_out_a_batch():
    gan, recipe = resolved("dcgan", batch=8, data_images=400)
    ((one, found),) = data.look(gan, recipe, CPU).of(gan, recipe)
    few = module_of_measure._of_phase(one, found)["few"]
    assert data.look(gan, replace(recipe, **few), CPU).found[0].held_out == 8


def test_pictures_of_a_resident_folder_are_decoded_before_a_step(tmp_path):
    from pygan.data.command import make as make_set
    from pygan.plan import child

    make_set("facades", tmp_path / "set", n=2, size="32", seed=0)
    gan, recipe = resolved("pix2pix", data=str(tmp_path / "set"))
    ((one, found),) = data.look(gan, recipe, CPU).of(gan, recipe)
    asked = module_of_measure._of_phase(one, found)
    assert not found.drawn
    assert asked["ready"]
    assert not module_of_measure._of_phase(one, replace(found, kind="pillow"))["ready"]
    seen = []

    class Feed:
        def address(self, images):
            seen.append(images)
            return images

    ready, each = (child._addresses(Feed(), 4, ready=ready) for ready in (True, False))
    assert [next(ready) for _ in range(7)] == [0, 4, 8, 0, 4, 8, 0]
    assert seen == [0, 4, 8]
    assert [next(each) for _ in range(4)] == [0, 4, 8, 12]


def test_each_split_is_decoded_where_it_fits(monkeypatch):
    from pygan.data import choice

    gan, recipe = resolved("dcgan", data_images=40)
    (all_of_it,) = data.look(gan, recipe, CPU).found
    assert all_of_it.kind == "resident"
    monkeypatch.setattr(choice, "memory_budget", lambda device: all_of_it.resident // 2)
    (found,) = data.look(gan, recipe, CPU).found
    assert found.kind == "pillow"
    assert 0 < found.resident == all_of_it.resident * found.held_out // (found.items + found.held_out)
    with pytest.raises(UserError, match="--feed pillow"):  # as the training will say
        data.look(gan, replace(recipe, feed="resident"), CPU)


def test_a_child_ends_with_whoever_asked_it():
    asked = {"gan": "dcgan", "device": "cpu", "seconds": 60, "tensorboard": False}
    _, recipe = resolved("dcgan")
    asked["phases"] = [{"recipe": recipes.to_dict(recipe), "few": {}, "ready": False}]
    command = [sys.executable, "-m", "pygan.plan.child"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdin.write(json.dumps(asked) + "\n")
    child.stdin.flush()
    assert json.loads(child.stdout.readline())["what"] == "baseline"
    child.stdin.close()
    rest = child.stdout.read()  # to its end
    child.stdout.close()
    assert child.wait(timeout=10) == 1
    assert "checkpoint" not in rest


def test_all_phases_are_planned(planned):
    _, made = planned("stackgan")
    assert len(made.parts) == len(gans.phases(gans.load("stackgan"), made.asked)) > 1
    assert made.peak == max(part.memory.peak for part in made.parts)


def test_what_is_not_measured_is_said(planned):
    gan, recipe = resolved("dcgan")
    made = make.make(gan, recipe, "tiny", CPU, measured=False)
    assert any("--no-measure" in note for note in made.notes)
    assert made.total_s is None
    text = "\n".join(show.table(made))
    assert "not measured" in text
    assert "computed, not measured" in text


def test_a_child_that_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(module_of_measure, "_START_S", 0.0)
    gan, recipe = resolved("dcgan")
    found = measure("dcgan", data.look(gan, recipe, CPU).of(gan, recipe), "cpu", seconds=0.01)
    assert "stopped after" in found.failed
    assert found.phases[0].step is None


def test_what_a_lone_first_step_is_worth_is_said(monkeypatch):
    gan, recipe = resolved("dcgan", max_minutes=0.01)
    phase = Phase(step=2.0, steps=1, cpu=1.0)
    monkeypatch.setattr(make, "measure", lambda *args, **options: Measured(300 << 20, 2.0, 1, (phase,)))
    made = make.make(gan, recipe, "tiny", CPU)
    (part,) = made.parts
    assert any("only the first step was measured" in note for note in made.notes)
    assert part.cpu_s == 1.0
    assert replace(part, length=replace(part.length, step_s=6.0)).cpu_s == 3.0  # of a larger batch
    assert made.total_s < made.whole_s
    assert "3 s (--max-minutes) of" in show.summary(made)


def test_words_that_look_like_flags_are_typed_so_that_they_are_none():
    gan, recipe = resolved("dcgan", data="-odd")
    words = show.command("dcgan", "tiny", recipe, gan.PRESETS, "cpu").split()
    assert "--data=-odd" in words


def test_more_than_there_is_memory_for_is_not_tried(planned, monkeypatch):
    monkeypatch.setattr(make, "free_bytes", lambda device: 1 << 20)
    gan, recipe = resolved("dcgan")
    made = make.make(gan, recipe, "tiny", CPU)
    assert any("not even one of batch 1" in note for note in made.notes)


def test_a_proposal_costs_no_quality_where_that_is_enough(planned):
    gan, made = planned("stargan", batch=16, n_critic=1, load_size=36, crop_size=32)
    limit = made.peak - (2 << 20)
    (first, *_) = fit.Fitter(gan, made, CPU, limit=limit, within=None).proposals()
    assert first.fits
    assert first.peak <= limit
    assert first.recipe.batch == 16
    assert first.recipe.crop_size == made.asked.crop_size
    assert first.recipe.recompute or first.recipe.amp or first.recipe.feed == "pillow"


def test_then_a_smaller_batch_and_smaller_pictures(planned):
    gan, made = planned("stargan", batch=16, n_critic=1, load_size=36, crop_size=32)
    search = fit.Fitter(gan, made, CPU, limit=None, within=None)
    recomputed = search.proposed(replace(made.asked, recompute=True, amp=True, feed="pillow"), ())
    found = fit.Fitter(gan, made, CPU, limit=recomputed.peak - (1 << 20), within=None).proposals()
    assert [one.recipe.batch < 16 or one.recipe.crop_size < 32 for one in found] == [True] * len(found)
    assert found[0].recipe.batch < 16
    assert found[0].recipe.crop_size == 32
    for one in found:
        type(one.recipe)(**recipes.to_dict(one.recipe))  # a real recipe


def test_recomputing_is_not_proposed_where_it_cannot_be(planned):
    gan, made = planned("dcgan", batch=8)
    search = fit.Fitter(gan, made, CPU, limit=1, within=None)
    assert search.proposals() == []
    assert not search.least().recipe.recompute


def test_fewer_epochs_for_less_time(planned):
    gan, made = planned("pix2pix")
    found = fit.Fitter(gan, made, CPU, limit=None, within=made.total_s / 1.8).proposals()
    shorter = next(one for one in found if one.recipe.crop_size == made.asked.crop_size)
    assert shorter.recipe.epochs + shorter.recipe.decay_epochs == 2
    assert shorter.total_s <= made.total_s / 1.8


def test_later_phases_are_shortened_too(planned):
    gan, made = planned("stackgan", steps=40, steps_2=60)
    found = fit.Fitter(gan, made, CPU, limit=None, within=made.total_s / 4).proposals()
    assert found
    assert all(0 < one.recipe.steps_2 < 60 for one in found if one.recipe.crop_size == made.asked.crop_size)
    assert all(one.total_s <= made.total_s / 4 for one in found)


def test_no_step_is_walked_twice_and_no_set_is_looked_at_twice(planned, monkeypatch):
    gan, made = planned("pix2pix", batch=4)
    seen, looked = [], []
    monkeypatch.setattr(
        fit, "walk", lambda gan, one, device: (seen.append(fit._but(one, "feed")), walk(gan, one, device))[1]
    )
    monkeypatch.setattr(data, "look", lambda *args, look=data.look: (looked.append(args[1]), look(*args))[1])
    search = fit.Fitter(gan, made, CPU, limit=made.peak - (3 << 20), within=made.total_s / 3)
    assert search.proposals()
    assert len(seen) == len(set(seen))
    assert len(looked) < len(search._seen)
    for recipe in search._seen:
        assert search._look(recipe) == data.look(gan, recipe, CPU).of(gan, recipe)


def test_what_was_measured_to_take_more_counts(planned):
    gan, made = planned("pix2pix", batch=8)
    limit = made.peak - (2 << 20)
    search = fit.Fitter(gan, made, CPU, limit=limit, within=None)
    first = search.proposals()[0]
    search.learn(first, limit + (1 << 20), None)
    assert all(one.recipe != first.recipe and one.peak <= limit for one in search.proposals())


@pytest.mark.parametrize(
    ("text", "size"), [("6GB", 6 * 10**9), ("512MB", 512 * 10**6), ("6GiB", 6 << 30), ("1.5g", 15 * 10**8)]
)
def test_sizes(text, size):
    assert plan.read_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "6 apples", "1e9", "inf", "9" * 400 + "GB"])
def test_sizes_that_are_none(text):
    with pytest.raises(UserError, match="--fit"):
        plan.read_size(text)


def test_what_a_smaller_batch_took_more_counts(planned):
    """A batch that is too slow to be measured is computed, and corrected by one that was."""
    _, made = planned("dcgan")
    (part,) = made.parts
    steps = part.length.steps
    computed = memory.of(part.walk, part.found, made.measured, None, "cpu", steps)
    for more in (50 << 20, -(50 << 20)):
        seen = Phase(step=0.1, steps=4, peak=computed.peak - memory.longer(steps, 4) + more, items=part.found.items)
        told = memory.corrected(computed, part.walk, part.found, made.measured, seen, "cpu", steps)
        assert told.peak - computed.peak == max(0, more)
        assert not told.measured


def test_times():
    assert [plan.read_time(text) for text in ("90s", "45min", "3h", "1.5d")] == [90, 2700, 10800, 129600]
    for text in ("3", "h", "-3h", "3 weeks", "0h"):
        with pytest.raises(UserError, match="--within"):
            plan.read_time(text)


def test_memory_of_a_gpu_is_what_tensors_took_and_the_process_beside_them():
    """Not what others have of it: the plan's own process among them."""
    gan, recipe = resolved("pix2pix")
    walked, found = walk(gan, recipe, "cpu"), data.look(gan, recipe, CPU).of(gan, recipe)[0][1]
    lines = [
        {"what": what, "seconds": 0.1, "cpu": 0.1} for what in ("build", "step", "row", "evaluation", "checkpoint")
    ]
    lines = [{"what": "feed", "open": 0.1, "items": found.items}, *lines]
    for k, line in enumerate(lines):
        line |= {"gpu_reserved": (900 + k) * memory.MIB, "gpu_beside": (5300 + k) * memory.MIB}
    phase = module_of_measure._phase(lines, 5000 * memory.MIB)
    assert phase.gpu == {"reserved": 905 * memory.MIB, "context": 305 * memory.MIB}
    told = memory.of(walked, found, None, phase, "cuda", 100)
    assert told.measured
    assert told.parts["context"] == 305 * memory.MIB
    assert told.peak == (905 + 305) * memory.MIB
    stopped = module_of_measure._phase(lines[:-1], 5000 * memory.MIB)  # its highest point may be still to come
    assert not memory.of(walked, found, None, stopped, "cuda", 100).measured
    assert module_of_measure._phase([{"what": "build", "seconds": 1.0}], 0).gpu == {}


def test_a_plan_is_judged_by_the_median_of_its_pairs():
    from benchmarks.plan import judged

    def pair(off, busy=False, memory=0.0):
        return {"memory_off": memory, "step_off": off, "cpu_off": off / 4, "busy": busy}

    assert judged([pair(0.14)], by_computing=False)["good"]
    assert not judged([pair(-0.16)], by_computing=False)["good"]
    assert judged([pair(0.5), pair(0.1), pair(-0.1)], by_computing=False)["good"]  # one of three met others
    assert not judged([pair(0.0), pair(0.2), pair(0.3)], by_computing=False)["good"]  # one good pair is no proof
    assert judged([pair(0.5, busy=True)], by_computing=False)["good"]  # by its computing time
    assert not judged([pair(0.8)], by_computing=True)["good"]
    assert not judged([pair(0.0, memory=0.11)], by_computing=True)["good"]
    assert judged([pair(0.5), pair(0.1), pair(-0.1)], by_computing=True)["step_off"] == 0.1


@pytest.mark.cuda
def test_on_a_gpu():
    gan, recipe = resolved("pix2pix", preset="demo")
    made = make.make(gan, recipe, "demo", torch.device("cuda"), seconds=4.0)
    assert made.parts[0].memory.measured
    computed = memory.of(made.parts[0].walk, made.parts[0].found, None, None, "cuda", made.parts[0].length.steps)
    assert json.dumps(make.to_json(made))
    assert computed.peak == pytest.approx(made.peak, rel=0.5)
