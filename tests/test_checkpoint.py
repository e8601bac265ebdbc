"""A checkpoint is written whole or not at all, checked when read, and never lost."""

import json
import os
import resource

import pytest
import torch
from torch import nn

from pygan import checkpoint
from pygan.errors import UserError
from pygan.optim import Adam, update
from pygan.state import State


def make_state(seed=0):
    torch.manual_seed(seed)
    G = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    D = nn.Linear(4, 1)
    opts = {name: Adam(net, lr=1e-3, betas=(0.9, 0.999)) for name, net in (("G", G), ("D", D))}
    return State(nets={"G": G, "D": D}, opts=opts, buffers={"rng": torch.tensor([seed, 0])})


def train(state, images=4):
    x = torch.rand(2, 3, 8, 8)
    update(state, "G", state.G(x).square().mean())
    update(state, "D", state.D(torch.rand(2, 4)).mean())
    state.rng[1] += 1
    state.images_seen += images
    state.steps += 1


def snapshot(state):
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def save(folder, state):
    return checkpoint.save(folder, state, {"gan": "test", "recipe": {}}, {"finished": False, "best": None})


def test_a_state_comes_back_bit_for_bit_and_stays_where_it_is(tmp_path):
    state = make_state()
    train(state)
    save(tmp_path, state)
    before = snapshot(state)
    other = make_state(seed=1)
    addresses = {name: tensor.data_ptr() for name, tensor in other.tensors().items()}
    found = checkpoint.load_newest(tmp_path, other)
    assert (found.images_seen, other.images_seen, other.steps) == (4, 4, 1)
    assert same(snapshot(other), before)
    assert {name: tensor.data_ptr() for name, tensor in other.tensors().items()} == addresses
    assert other.G[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_going_on_equals_never_having_stopped(tmp_path):
    whole, half = make_state(), make_state()
    torch.manual_seed(5)
    train(whole)
    train(whole)
    torch.manual_seed(5)
    train(half)
    save(tmp_path, half)
    resumed = make_state(seed=3)
    checkpoint.load_newest(tmp_path, resumed)
    torch.manual_seed(5)
    torch.rand(2, 3, 8, 8), torch.rand(2, 4)  # what the first half drew
    train(resumed)
    assert same(snapshot(whole), snapshot(resumed))


def test_nets_carry_the_recipe_and_nothing_is_pickled(tmp_path):
    last = save(tmp_path, make_state())
    assert {file.name for file in last.iterdir()} == {
        "G.safetensors",
        "D.safetensors",
        "state.safetensors",
        "manifest.json",
    }
    from safetensors import safe_open

    with safe_open(last / "G.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["pygan"]) == {"gan": "test", "recipe": {}}
    for file in last.glob("*.safetensors"):
        assert b"\x80\x02" not in file.read_bytes()[:2]


@pytest.mark.parametrize("how", ["flip a bit", "cut short", "delete", "no manifest", "manifest cut short"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capfd, how):
    state = make_state()
    train(state)
    save(tmp_path, state)
    first = snapshot(state)
    train(state)
    last = save(tmp_path, state)
    victim = last / ("manifest.json" if "manifest" in how else "G.safetensors")
    data = bytearray(victim.read_bytes())
    if how == "flip a bit":
        data[-3] ^= 1
        victim.unlink()
        victim.write_bytes(data)
    elif "cut short" in how:
        victim.unlink()
        victim.write_bytes(data[: len(data) // 2])
    else:
        victim.unlink()
    other = make_state(seed=1)
    found = checkpoint.load_newest(tmp_path, other)
    said = capfd.readouterr().err
    assert (found.folder.name, other.images_seen) == ("previous", 4)
    assert same(snapshot(other), first)
    assert "is damaged" in said
    assert "going on from" in said


def test_the_same_state_is_the_same_bytes(tmp_path):
    folders = [save(tmp_path / name, make_state()) for name in "abcd"]
    for name in ("G.safetensors", "D.safetensors", "state.safetensors"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_every_checkpoint_damaged_is_one_line(tmp_path):
    last = save(tmp_path, make_state())
    (last / "state.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        checkpoint.load_newest(tmp_path, make_state())


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpoint.load_newest(tmp_path / "none", make_state()) is None


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    state = make_state()
    train(state)
    last = save(tmp_path, state)
    last.rename(tmp_path / "next")  # complete, but the rename to `last` never came
    other = make_state(seed=1)
    found = checkpoint.load_newest(tmp_path, other)
    assert (found.images_seen, found.folder.name) == (4, "last")
    assert not (tmp_path / "next").exists()
    train(state)
    save(tmp_path, state)  # and the next save is not in the way of it
    assert checkpoint.load_newest(tmp_path, other).images_seen == 8


def test_an_unfinished_write_is_not_taken_for_a_checkpoint(tmp_path):
    state = make_state()
    train(state)
    save(tmp_path, state)
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "G.safetensors").write_bytes(b"half of it")
    assert checkpoint.load_newest(tmp_path, make_state()).folder.name == "last"


def test_a_full_disk_leaves_earlier_checkpoints_alone(tmp_path):
    state = make_state()
    train(state)
    save(tmp_path, state)
    before = snapshot(state)
    train(state)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, not a signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limit[1]))
    try:
        with pytest.raises(OSError, match=r"."):
            save(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "next").exists()
    other = make_state(seed=1)
    assert checkpoint.load_newest(tmp_path, other).images_seen == 4
    assert same(snapshot(other), before)


def test_kept_checkpoints_share_the_files(tmp_path):
    state = make_state()
    save(tmp_path, state)
    kept = checkpoint.keep(tmp_path, "best")
    assert os.stat(kept / "G.safetensors").st_ino == os.stat(tmp_path / "last" / "G.safetensors").st_ino
    train(state)
    save(tmp_path, state)
    checkpoint.check(next(found for found in checkpoint.find(tmp_path) if found.folder == kept))


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path):
    save(tmp_path, make_state())
    other = make_state()
    other.nets["D"] = nn.Linear(5, 1)
    with pytest.raises(UserError, match=r"D.safetensors does not fit this recipe: 'weight' has shape \[1, 4\]"):
        checkpoint.load_newest(tmp_path, other)
