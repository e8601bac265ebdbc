"""Exported files: what they compute is what the run computes, and what is no such file is told from one."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch

from pygan import apply, export, exported, gans, use
from pygan.data import Facts
from pygan.errors import UserError
from pygan.export import mask, network, prove, record
from pygan.exported import archive, facts, onnx_file, pt2_graph
from pygan.nn import NormAct, place_
from pygan.ops import philox
from pygan.pixels import Picture

FREE = network.Asked(dynamic=True)
FIXED = network.Asked()


def trained(name, facts=Facts(), **fields):  # noqa: B008
    """A network of a GAN's tiny preset with weights as after training: norms and running statistics that moved."""
    gan = gans.load(name)
    recipe = gan.resolve(gan.Recipe(**{**gan.PRESETS["tiny"], **fields}), facts)
    torch.manual_seed(0)
    net = gan.generator(recipe)
    for module in net.modules():
        if isinstance(module, NormAct):
            if module.weight is not None:
                module.weight.data.normal_(1, 0.3)
                module.bias.data.normal_(0, 0.3)
            if module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 2)
    return use.Trained(gan, recipe, place_(net, "cpu").requires_grad_(False), 1000, torch.device("cpu"))


@pytest.fixture(autouse=True)
def made_up_inputs(monkeypatch):
    """No data set is drawn: a proof compares on made-up inputs, as where the run's data is gone."""

    def gone(*_args):
        raise UserError("no data")

    monkeypatch.setattr(prove.given, "held_out", gone)


def write(one, kind, path, asked=FIXED):
    """A file of that kind, and the form that it was recorded from."""
    form = network.form(one, asked)
    semantics = "frozen" if asked.frozen else "kept"
    record.WRITERS[kind](form, facts.write(form.card, semantics=semantics, precision="float32", kind=kind), path)
    return form


def proven(one, kind, path, asked=FIXED, tolerance=prove.TOLERANCE):
    form = write(one, kind, path, asked)
    made = exported.load(path, "cpu")
    return form, made, prove.prove([form], made, path, tolerance)


# --- parity -----------------------------------------------------------------------------------------------------------

STILL = {"test_dropout": False}  # dropout's many small operators take most of the time
TRANSLATING = {
    "pix2pix": ("pix2pix", {}),
    "pix2pix-nearest-running": ("pix2pix", {"upsample": "nearest", "test_bn": "running", "test_dropout": False}),
    "pix2pix-instance-no-skips": ("pix2pix", {"norm": "instance", "in_affine": True, "skips": "none", **STILL}),
    "pix2pix-none": ("pix2pix", {"norm": "none", "skips": "1,3", "concat": "encoder_first", **STILL}),
    "pix2pix-keras": ("pix2pix", {"generator": "keras_unet", "bias": "all", **STILL}),
    "pix2pix-keras-deconv": ("pix2pix", {"generator": "keras_unet", "upsample": "deconv", **STILL}),
    "pix2pix-chainer": ("pix2pix", {"generator": "chainer", "dropout_levels": "2"}),
    "cyclegan": ("cyclegan", {}),
    "cyclegan-unet-batch": ("cyclegan", {"generator": "unet", "norm": "batch"}),
    "cyclegan-replicate": ("cyclegan", {"padding": "replicate", "sum_relu": True}),
    "stargan": ("stargan", {}),
    "simgan": ("simgan", {}),
    "simgan-paper": ("simgan", {"form": "paper", "batch": 6}),
    "feature_gan": ("feature_gan", {}),
    "bigan": ("bigan", {}),
}
FROM_NOISE = {
    "began": ("began", {}),
    "began-skips": ("began", {"skips": True, "residuals": True, "tanh": True}),
    "ebgan": ("ebgan", {}),
    "dcgan": ("dcgan", {}),
    "dcgan-own": ("dcgan", {"test_bn": "batch"}),
    "dcgan-dense": ("dcgan", {"arch": "do"}),
    "cogan": ("cogan", {}),
    "cogan-mnist": ("cogan", {"form": "mnist", "crop_size": 28}),
    "bigan-ali": ("bigan", {"form": "ali"}),
    "gan_int_cls": ("gan_int_cls", {}),
    "gawwn-box": ("gawwn", {}),
    "gawwn-keypoints": ("gawwn", {"where": "keypoints"}),
    "stackgan": ("stackgan", {}),
    "stackgan-tf-2": ("stackgan", {"arch": "tf", "stage": "2"}),
}


def test_every_gan_is_here():
    assert {name for name, _ in (TRANSLATING | FROM_NOISE).values()} == set(gans.names())


@pytest.mark.parametrize("case", TRANSLATING)
def test_onnx_equals_the_run_at_other_sizes_and_batches(case, tmp_path):
    name, fields = TRANSLATING[case]
    _, made, proof = proven(trained(name, **fields), "onnx", tmp_path / "G.onnx", FREE)
    assert len({shape[0] for shape in proof.shapes}) == 3
    assert len({shape[1:] for shape in proof.shapes}) == 3
    options = {"to": made.card.options["to"][0]} if "to" in made.card.options else {}
    assert made.translate(*_anything(made), **options).std() > 0.01  # the images say something


@pytest.mark.parametrize("case", FROM_NOISE)
def test_onnx_from_noise_equals_the_run_at_other_batches(case, tmp_path):
    name, fields = FROM_NOISE[case]
    _, made, proof = proven(trained(name, **fields), "onnx", tmp_path / "G.onnx")
    assert proof.shapes == ((1,), (2,), (3,))
    more = {"text": torch.zeros((2, made.card.text))} if made.card.text else {}
    assert made.generate(2, made.rng(3), **more).std() > 0.01


def _anything(made, n=1):
    way = made.card.direction({})
    side = -(-32 // made.card.multiple) * made.card.multiple
    image = torch.rand((n, made.card.channels[way][0], side, side), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return image, made.rng(5)


@pytest.mark.parametrize("name", ["cyclegan", "bigan"])
def test_the_other_direction(name, tmp_path):
    asked = network.Asked(direction="BtoA")
    form, made, _ = proven(trained(name), "onnx", tmp_path / "G.onnx", asked)
    assert made.card.options["direction"] == ("BtoA",)
    assert list(made.card.channels) == ["BtoA"]
    there = trained(name).translate(form.examples()[0], direction="AtoB")
    assert (made.translate(form.examples()[0]) - there).abs().max() > 0.01
    with pytest.raises(UserError, match="--direction AtoB"):
        made.translate(form.examples()[0], direction="AtoB")


def test_a_reconstruction_instead_of_noise(tmp_path):
    one = trained("bigan", form="ali")
    _, made, _ = proven(one, "onnx", tmp_path / "G.onnx", network.Asked(what="translate", dynamic=True))
    assert made.card.acts == ("translate",)
    with pytest.raises(UserError, match="makes none from noise"):
        made.generate(1)


def test_a_search_is_in_no_file():
    with pytest.raises(UserError, match="a search that no file can hold"):
        network.form(trained("cogan"), network.Asked(what="translate"))


LITTLE = {"ngf": 4, "dropout_levels": "2"}  # a pix2pix with one layer of dropout


@pytest.mark.parametrize(
    ("case", "asked"),
    [
        ("pix2pix-chainer", FREE),
        ("stargan", FREE),
        ("pix2pix-nearest-running", FIXED),
        ("gawwn-box", FIXED),
        ("began", FIXED),
    ],
)
def test_torchscript_equals_the_run(case, asked, tmp_path):
    name, fields = (TRANSLATING | FROM_NOISE)[case]
    proven(trained(name, **fields), "torchscript", tmp_path / "G.pt", asked)


@pytest.mark.parametrize(
    ("case", "fields", "asked"),
    [("stargan", {}, FREE), ("pix2pix", {"ngf": 4, "dropout_levels": "2"}, network.Asked(batch=2))],
)
def test_pt2_equals_the_run(case, fields, asked, tmp_path):
    """Any size and batch; and the many operators of dropout, at one."""
    proven(trained(case, **fields), "pt2", tmp_path / "G.pt2", asked)
    program = torch.export.load(tmp_path / "G.pt2")
    assert not any("pygan" in str(node.target) for node in program.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize("name", ["cyclegan", "stackgan", "pix2pix"])
def test_safetensors_are_the_run_bit_for_bit(name, tmp_path):
    one = trained(name)
    path = tmp_path / "G.safetensors"
    export.write_safetensors(one, path)
    made = exported.load(path, "cpu")
    assert made.card == one.card
    assert prove.prove(network.every(one, FIXED), made, tmp_path, 1e-30).largest == 0
    before = path.read_bytes()
    export.write_safetensors(one, path)
    assert path.read_bytes() == before  # the library alone writes its keys in any order


def test_half_weights(tmp_path):
    one = trained("pix2pix", **LITTLE)
    half = dataclasses.replace(FREE, half=True)
    proven(one, "onnx", tmp_path / "half.onnx", half, prove.HALF_TOLERANCE)
    proven(one, "torchscript", tmp_path / "half.pt", half, prove.HALF_TOLERANCE)
    model = onnx.load(tmp_path / "half.onnx")
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert types == {"image": onnx.TensorProto.FLOAT, "seed": onnx.TensorProto.INT64, "output": onnx.TensorProto.FLOAT}
    assert {x.data_type for x in model.graph.initializer if len(x.dims) == 4} == {onnx.TensorProto.FLOAT16}
    export.write_safetensors(one, tmp_path / "half.safetensors", half=True)
    made = exported.load(tmp_path / "half.safetensors", "cpu")
    difference = prove.prove(network.every(one, FIXED), made, tmp_path, prove.HALF_TOLERANCE).largest
    assert difference > 0
    export.write_safetensors(one, tmp_path / "whole.safetensors")
    half, whole = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole"))
    assert half < 0.6 * whole


def test_a_network_that_differs_is_found(tmp_path):
    one = trained("simgan")
    form, made, _ = proven(one, "onnx", tmp_path / "G.onnx")
    one.net.head.bias.add_(0.001)
    with pytest.raises(prove.Differs, match=r"differs from the run by 0\.00\d+ .*tolerance of 0\.0001"):
        prove.prove([form], made, tmp_path, prove.TOLERANCE)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rng", [(0, 0), (1, 2), ((1 << 40) + 7, (1 << 33) + 5), ((1 << 63) - 1, (1 << 32) - 1)])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 8, 5, 3)])
def test_masks_are_pygans_own(rng, shape):
    rng = torch.tensor(rng)
    for p, stream in ((0.5, 1), (0.3, (1 << 32) - 1)):
        expected = philox.keep_mask(shape, p, rng, stream)
        assert torch.equal(mask.keep_mask(shape, p, rng, stream), expected)


def test_masks_are_the_same_in_onnx_runtime():
    class Mask(torch.nn.Module):
        def forward(self, x, rng):
            return mask.keep_mask(tuple(x.shape), 0.3, rng, (1 << 31) + 9).float()

    buffer = io.BytesIO()
    examples = torch.zeros((2, 8, 4, 4)), torch.tensor([1, 2])
    with record._silence(), record._bits_of_masks():
        torch.onnx.export(
            Mask(), examples, buffer, dynamo=False, opset_version=record.OPSET, input_names=["x", "rng"],
            dynamic_axes={"x": {i: str(i) for i in range(4)}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(buffer.getvalue())
    for rng in ((3, 4), ((1 << 40) + 7, (1 << 33) + 5), ((1 << 63) - 1, 0)):
        shape = (3, 5, 7, 6)
        (found,) = session.run(None, {"x": np.zeros(shape, np.float32), "rng": np.array(rng)})
        expected = philox.keep_mask(shape, 0.3, torch.tensor(rng), (1 << 31) + 9)
        assert np.array_equal(found > 0, expected.numpy())


def test_the_seed_decides_and_freezing_takes_it_away(tmp_path):
    one = trained("pix2pix", **LITTLE)
    _, kept, _ = proven(one, "onnx", tmp_path / "kept.onnx")
    _, frozen, _ = proven(one, "onnx", tmp_path / "frozen.onnx", network.Asked(frozen=True))
    image = _anything(kept)[0]
    first, again, other = (kept.translate(image, kept.rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01
    assert torch.equal(frozen.translate(image, frozen.rng(1)), frozen.translate(image, frozen.rng(2)))
    assert kept.card.chance
    assert kept.card.statistics == "own"
    assert not frozen.card.chance
    assert frozen.card.statistics == "running"
    told = {p.key: p.value for p in onnx.load(tmp_path / "frozen.onnx").metadata_props}
    assert told["semantics"] == "frozen"
    assert told["dropout"] == "off"
    assert told["batch_statistics"] == "running ones"


def test_no_picture_depends_on_its_neighbours(tmp_path):
    _, made, _ = proven(trained("pix2pix", test_dropout=False), "onnx", tmp_path / "G.onnx")
    image, _ = _anything(made, n=3)
    torch.testing.assert_close(made.translate(image)[1:2], made.translate(image[1:2]), atol=1e-5, rtol=0)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_onnx_has_standard_operators_and_no_warnings(tmp_path, capfd):
    write(trained("pix2pix", **LITTLE), "onnx", tmp_path / "G.onnx", FREE)
    model = onnx.load(tmp_path / "G.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", record.OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert not any(node.doc_string for node in model.graph.node)
    assert os.getcwd().encode() not in (tmp_path / "G.onnx").read_bytes()
    capfd.readouterr()
    session = onnxruntime.InferenceSession(str(tmp_path / "G.onnx"), providers=["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")
    assert [one.shape for one in session.get_inputs()] == [["batch", 3, "height", "width"], [2]]


def test_onnx_takes_as_many_threads_as_torch(files, monkeypatch):
    asked, session = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda data, options, **more: asked.append(options) or session(data, options)
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    exported.load(files / "G.onnx", "cpu")
    assert asked[0].intra_op_num_threads == 3


def test_what_a_file_says(tmp_path):
    one = trained("cyclegan", data="/home/somebody/pictures")
    said = {}
    for kind, name in (("onnx", "G.onnx"), ("torchscript", "G.pt")):
        form = write(one, kind, tmp_path / name)
        made = exported.load(tmp_path / name, "cpu")
        assert dataclasses.replace(made.card, recipe={}) == dataclasses.replace(form.card, recipe={})
        assert made.card.size == (32, 32)
        assert made.card.recipe["data"] == "pictures"
        said[kind] = facts.write(form.card, semantics="kept", precision="float32", kind=kind)
    told = {p.key: p.value for p in onnx.load(tmp_path / "G.onnx").metadata_props}
    assert told == said["onnx"]
    assert told["range"].startswith("-1 to 1")
    assert told["layout"] == "NCHW"
    assert told["direction"] == "AtoB"
    assert told["size"].startswith("32 x 32")
    assert told["multiple"] == "4"
    assert "reflection" in told["padding"]
    with zipfile.ZipFile(tmp_path / "G.pt") as whole:
        member = next(name for name in whole.namelist() if name.endswith("extra/pygan.json"))
        assert json.loads(whole.read(member)) == said["torchscript"]


def told_by(name, facts_of_data=Facts(), asked=FREE, **fields):  # noqa: B008
    """What a file says of a network."""
    card = network.form(trained(name, facts_of_data, **fields), asked).card
    return facts.write(card, semantics="kept", precision="float32", kind="onnx")


def test_what_is_made_of_pixels_is_said_for_those_without_pygan():
    lab = Facts(channels=(1, 2))
    forward = told_by("pix2pix", lab, direction="AtoB", input_transform="lab", **LITTLE)
    back = told_by("pix2pix", lab, direction="BtoA", input_transform="lab", **LITTLE)
    assert forward["input_channels"] == "1: lightness"
    assert forward["prepare"].startswith("lightness")
    assert forward["shows"].startswith("a / 110 and b / 110")
    assert (forward["direction"], back["direction"]) == ("AtoB", "BtoA")
    assert back["input_channels"] == "2: a, b of Lab"
    assert back["prepare"].startswith("a and b of CIE Lab")
    assert back["shows"].startswith("lightness")
    edges = told_by("pix2pix", Facts(channels=(1, 3)), direction="BtoA", input_transform="canny", **LITTLE)
    assert edges["prepare"] == "as they are"
    assert all(told["depth"].startswith("8 bits") for told in (forward, back, edges))
    labels = told_by("pix2pix", Facts(channels=(12, 3)), direction="AtoB", **LITTLE)
    assert labels["prepare"].startswith("a map of labels")
    assert labels["shows"] == "pixels"
    assert labels["depth"].startswith("any")
    planes = json.loads(labels["planes"])
    assert len(planes) == 12
    assert planes["window"] == "#0055ff"
    assert "planes" not in edges


def test_codes_are_told_for_those_without_pygan():
    one = trained("stargan")
    told = told_by("stargan")
    codes = {name: torch.tensor([code]) for name, code in json.loads(told["codes"]).items()}
    assert ", ".join(codes) == told["labels"]
    first, second = list(codes)[:2]
    image = torch.rand((1, 3, 16, 16))
    for to, code in ((first, codes[first]), (f"{first},{second}", torch.maximum(codes[first], codes[second]))):
        assert torch.equal(one.translate(image, code=code), one.translate(image, to=to))
    assert "several labels" in told["code"]
    assert "of one label" in told_by("stargan", cls_mode="single")["code"]


def test_noise_and_places_are_told_for_those_without_pygan():
    box = told_by("gawwn", asked=FIXED)
    assert box["noise_distribution"].startswith("normal")
    assert box["where"].startswith("box: x, y, width, height")
    assert json.loads(box["usual_where"]) == [0.125, 0.125, 0.75, 0.75]
    assert box["text"] == "an embedding of 1024 values, by the encoder of the training (auto)"
    points = told_by("gawwn", asked=FIXED, where="keypoints")
    assert points["where"].split()[1] == "points:"
    assert told_by("began", asked=FIXED)["noise_distribution"].startswith("uniform")


@pytest.mark.parametrize("half", [False, True])
def test_that_a_search_is_not_proven_is_told(half, tmp_path):
    """CoGAN's generator is compared; what its search finds by rounded weights is another thing."""
    export.write_safetensors(trained("cogan"), tmp_path / "G.safetensors", half=half)
    export.write_safetensors(trained("pix2pix", **STILL), tmp_path / "other.safetensors", half=half)
    with safetensors.safe_open(tmp_path / "G.safetensors", framework="pt") as file:
        told = file.metadata()["translation"]
    assert told.startswith("a search")
    assert ("there is no tolerance" in told) == half
    with safetensors.safe_open(tmp_path / "other.safetensors", framework="pt") as file:
        assert "translation" not in file.metadata()


def test_data_that_became_other_data_is_not_compared_on(tmp_path, monkeypatch, capsys):
    one = trained("gawwn", Facts(channels=(3,), text_dim=64))
    other = trained("gawwn", Facts(channels=(3,), text_dim=32))
    items = other.gan.example(other.recipe, "cpu")
    monkeypatch.setattr(prove.given, "held_out", lambda *_: iter([items]))
    assert prove.batch_of(other, tmp_path, 1)[1]
    batch, held_out = prove.batch_of(one, tmp_path, 1)
    assert not held_out
    assert batch.text.shape[1] == 64
    assert "is other than what the network was trained with. The file is compared on made-up" in capsys.readouterr().err


def test_only_weights_that_are_used_are_in_a_file(tmp_path):
    one = trained("cyclegan")
    write(one, "torchscript", tmp_path / "G.pt")
    used = sum(p.numel() for p in one.net.AtoB.parameters()) * 4
    assert used < (tmp_path / "G.pt").stat().st_size < 1.5 * used + 100_000
    found = torch.jit.load(tmp_path / "G.pt").state_dict()
    assert sum(x.numel() for x in found.values()) * 4 <= used


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_pictures_of_a_size_that_a_file_does_not_take(kind, tmp_path):
    path = tmp_path / ("G.onnx" if kind == "onnx" else "G.pt")
    write(trained("simgan"), kind, path)
    made = exported.load(path, "cpu")
    with pytest.raises(UserError, match=r"takes pictures of 32x32 pixels alone, got 36x32 .*--dynamic"):
        made.translate(torch.zeros((1, 3, 36, 32)))
    with pytest.raises(UserError, match="takes pictures of 3 channels, got 1"):
        made.translate(torch.zeros((1, 1, 32, 32)))
    with pytest.raises(UserError, match="makes none from noise"):
        made.generate(1)


def test_a_fixed_number_of_pictures(tmp_path):
    one = trained("simgan")
    _, made, _ = proven(one, "onnx", tmp_path / "G.onnx", network.Asked(batch=4))
    image, _ = _anything(made, n=6)
    for n in (1, 4, 6):
        torch.testing.assert_close(made.translate(image[:n]), one.translate(image[:n]), atol=1e-4, rtol=0)
    dropping = trained("pix2pix", **LITTLE)
    _, drops, _ = proven(dropping, "onnx", tmp_path / "drops.onnx", network.Asked(batch=2))
    image, rng = _anything(drops, n=3)
    torch.testing.assert_close(drops.translate(image[:1], rng), dropping.translate(image[:1], rng), atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="2 at once"):
        drops.translate(image, rng)


def test_a_fixed_number_whose_statistics_are_those_of_a_call(tmp_path):
    """What fills up a call would be in the statistics of all, and calls in turn have each their own."""
    one = trained("dcgan", test_bn="batch")
    _, made, _ = proven(one, "torchscript", tmp_path / "G.pt", network.Asked(batch=2))
    torch.testing.assert_close(made.generate(2), one.generate(2), atol=1e-4, rtol=0)
    for n in (1, 3, 4):
        with pytest.raises(UserError, match=r"2 at once .*without --batch"):
            made.generate(n)


@pytest.mark.parametrize("transform", ["none", "canny", "lab"])
def test_pictures_go_through_a_file_as_through_the_run(transform, tmp_path):
    channels = {"lab": (1, 2), "canny": (1, 3), "none": (3, 3)}[transform]
    one = trained("pix2pix", Facts(channels=channels), direction="AtoB", input_transform=transform, **LITTLE)
    write(one, "onnx", tmp_path / "G.onnx", FREE)
    made = exported.load(tmp_path / "G.onnx", "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    alpha = np.full((45, 61), 100, np.uint8)
    for picture in (Picture(pixels), Picture(pixels.astype(np.uint16) * 257, alpha.astype(np.uint16))):
        (expected,), (got,) = (apply.translated(x, [picture], seed=3) for x in (one, made))
        assert got.pixels.dtype == picture.pixels.dtype
        assert got.size == picture.size
        step = 1 if picture.pixels.dtype == np.uint8 else 8
        assert np.abs(got.pixels.astype(int) - expected.pixels.astype(int)).max() <= step


def test_labels_by_their_names(tmp_path):
    one = trained("stargan")
    write(one, "onnx", tmp_path / "G.onnx", FREE)
    made = exported.load(tmp_path / "G.onnx", "cpu")
    names = made.card.options["to"]
    image, _ = _anything(made)
    for to in (names[0], names[-1]):
        torch.testing.assert_close(made.translate(image, to=to), one.translate(image, to=to), atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="does not know 'Ghost'"):
        made.translate(image, to="Ghost")
    with pytest.raises(UserError, match="--to is missing"):
        made.translate(image)


def test_noise_is_drawn_as_the_run_draws_it(tmp_path):
    for case in ("dcgan", "gawwn-box"):
        name, fields = FROM_NOISE[case]
        one = trained(name, **fields)
        write(one, "onnx", tmp_path / "G.onnx")
        made = exported.load(tmp_path / "G.onnx", "cpu")
        more = {"text": torch.randn((3, made.card.text))} if made.card.text else {}
        for rng in (one.rng(9), None):  # where: the GAN's own, where none is given
            torch.testing.assert_close(made.generate(3, rng, **more), one.generate(3, rng, **more), atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="what a text says"):
        made.generate(1)


# --- what is no such file ---------------------------------------------------------------------------------------------


class Payload:
    """A pickle that leaves a file behind where it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as whole:
        for name, data in members.items():
            whole.writestr(name, data)


def _rewritten(source, target, change):
    with zipfile.ZipFile(source) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    change(members)
    _zip(target, members)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One good file of each kind, small."""
    folder = tmp_path_factory.mktemp("files")
    one = trained("ebgan")
    write(one, "onnx", folder / "G.onnx")
    write(one, "torchscript", folder / "G.pt")
    write(one, "pt2", folder / "G.pt2")
    export.write_safetensors(one, folder / "G.safetensors")
    return folder


ENDINGS = ("onnx", "pt", "pt2", "safetensors")


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_files_are_one_line(files, ending, tmp_path):
    good = (files / f"G.{ending}").read_bytes()
    exported.load(files / f"G.{ending}", "cpu")
    path = tmp_path / f"bad.{ending}"
    rng = np.random.default_rng(0)
    for data in (b"", b"\0" * 100, rng.bytes(5000), good[: len(good) // 2], good[:-30], b"PK\x03\x04" + rng.bytes(99)):
        path.write_bytes(data)
        _refused(path)
    for _ in range(12):  # bits that flip: either a line, or a network that still paints
        data = bytearray(good)
        for at in rng.integers(0, len(data), 20):
            data[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            assert exported.load(path, "cpu").generate(1).shape == (1, 3, 16, 16)


def _refused(path, match="G|bad|plain"):
    with pytest.raises(UserError, match=match) as caught:
        exported.load(path, "cpu")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_are_not_exported(tmp_path):
    _refused(tmp_path / "missing.onnx", "neither a run directory nor a file")
    (tmp_path / "picture.png").write_bytes(b"x")
    _refused(tmp_path / "picture.png", "no exported network")
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    _refused(tmp_path / "foreign.safetensors", "says nothing of its network")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "foreign.onnx")
    _refused(tmp_path / "foreign.onnx", "says nothing of its network")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "foreign.pt")
    _refused(tmp_path / "foreign.pt", "says nothing of its network")


def test_pickles_are_not_opened(files, tmp_path):
    mark = tmp_path / "opened"
    torch.save(Payload(mark), tmp_path / "saved.pt")
    _refused(tmp_path / "saved.pt", "a pickle, which could run anything")
    (tmp_path / "plain.ts").write_bytes(pickle.dumps(Payload(mark)))
    _refused(tmp_path / "plain.ts")

    def with_pickle(members):
        name = next(name for name in members if name.endswith("model_weights_config.json"))
        config = json.loads(members[name])
        next(iter(config["config"].values()))["use_pickle"] = True
        members[name] = json.dumps(config).encode()
        weight = name.replace("model_weights_config.json", next(iter(config["config"].values()))["path_name"])
        members[weight] = pickle.dumps(Payload(mark))

    _rewritten(files / "G.pt2", tmp_path / "weights.pt2", with_pickle)
    _refused(tmp_path / "weights.pt2", "names a pickle")

    def with_inputs(members):
        name = next(name for name in members if name.endswith("sample_inputs/model.pt"))
        members[name] = pickle.dumps(Payload(mark))

    _rewritten(files / "G.pt2", tmp_path / "inputs.pt2", with_inputs)
    _refused(tmp_path / "inputs.pt2", "may be a pickle")

    def with_target(members):
        name = next(name for name in members if name.endswith("models/model.json"))
        members[name] = members[name].replace(b"torch.ops.aten.elu.default", b"torch.serialization.os.mkdir")
        assert b"os.mkdir" in members[name]

    _rewritten(files / "G.pt2", tmp_path / "target.pt2", with_target)
    _refused(tmp_path / "target.pt2", "its graph says target 'torch.serialization.os.mkdir'")
    assert not mark.exists()


@pytest.mark.parametrize("ending", ["pt", "pt2"])
def test_what_unpacks_to_more_than_its_size_is_not_opened(ending, files, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_MOST_TEXT", 1 << 17)
    exported.load(files / f"G.{ending}", "cpu")
    path = tmp_path / f"bad.{ending}"
    path.write_bytes((files / f"G.{ending}").read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        folder = file.namelist()[0].partition("/")[0]
        for k in range(3):  # none of them is too much by itself
            file.writestr(f"{folder}/code/{k}.py", bytes(60_000))
    _refused(path, "unpacks to far more than its size")

    path.write_bytes((files / f"G.{ending}").read_bytes())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"{folder}/data/1000", bytes(100_000))
        for k in range(9):  # the same bytes under other names
            again = copy.copy(file.filelist[-1])
            again.filename = f"{folder}/data/{1001 + k}"
            file.filelist.append(again)
    _refused(path, "unpacks to far more than its size")


RUNS = "__import__('os').mkdir(%r)"  # what sizes, guards and names of inputs are let say becomes Python


def _say_size(model, code):
    for tensor in model["graph_module"]["graph"]["tensor_values"].values():
        tensor["sizes"][0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 1}}}


def _say_guard(model, code):
    model["guards_code"] = [f"{code} is None"]


def _say_name(model, code):
    graph = model["graph_module"]["graph"]
    name = graph["inputs"][-1]["as_tensor"]["name"]
    changed = json.loads(json.dumps(graph).replace(json.dumps(name), json.dumps(f"x={code.replace('.', 'DOT')}")))
    model["graph_module"]["graph"] = changed


def _say_operator(model, code):
    argument = {"name": "x", "arg": {"as_operator": "torch.serialization.os.mkdir"}, "kind": 1}
    model["graph_module"]["graph"]["nodes"][0]["inputs"].append(argument)


def _say_type(model, code):
    signature = model["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.tuple", "collections.namedtuple")


def _say_range(model, code):
    model["range_constraints"][code] = {"min_val": 1, "max_val": 2}


@pytest.mark.parametrize("say", [_say_size, _say_guard, _say_name, _say_operator, _say_type, _say_range])
def test_graphs_that_say_python_are_not_opened(say, files, tmp_path):
    mark = tmp_path / "run"

    def changed(members):
        name = next(name for name in members if name.endswith("models/model.json"))
        model = json.loads(members[name])
        say(model, RUNS % str(mark))
        members[name] = json.dumps(model).encode()

    _rewritten(files / "G.pt2", tmp_path / "bad.pt2", changed)
    _refused(tmp_path / "bad.pt2", "its graph says .*, which none of pygan does; export it again")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("key", "word", "known"),
    [
        ("expr_str", "Add(Mul(Integer(4), Symbol('s39', positive=True, integer=True)), Integer(6))", True),
        ("expr_str", "4*s39 + 6", True),
        ("expr_str", "2**s39", False),
        ("expr_str", "s1.func", False),
        ("expr_str", "Lambda(1)", False),
        ("guards_code", "max(1, 32*(L['inputs'][0].size()[3] // 64)) != 4", True),
        ("guards_code", "L['inputs'][0].to('meta')", False),
        ("guards_code", "9**9**9", False),
        ("target", "torch.ops.aten.conv2d.default", True),
        ("target", "torch.ops.aten.from_file.default", False),
        ("target", "torch.ops.inductor.x", False),
        ("name", "add_1", True),
        ("name", "a b", False),
    ],
)
def test_words_of_a_graph(key, word, known):
    assert (pt2_graph.strange(json.dumps({"nodes": [{key: word}]}).encode()) == "") == known


def test_files_do_not_say_where_they_were_made(files):
    """Sources, and the folders of this machine that they lie in."""
    for ending in ENDINGS:
        data = (files / f"G.{ending}").read_bytes()
        assert b"pygan/nets" not in data.replace(b"__torch__/pygan/nets", b"")
        assert str(Path(export.__file__).parent.parent).encode() not in data


def test_torchscript_that_does_more_than_compute_is_not_opened(tmp_path):
    class Writes(torch.nn.Module):
        def __init__(self, path):
            super().__init__()
            self.path = path

        def forward(self, z):
            torch.save(z, self.path)
            return z

    table = facts.write(trained("ebgan").card, semantics="kept", precision="float32", kind="torchscript")
    script = torch.jit.script(Writes(str(tmp_path / "written")))
    torch.jit.save(script, tmp_path / "writes.pt", _extra_files={"pygan.json": json.dumps(table)})
    _refused(tmp_path / "writes.pt", "has save in it")


@pytest.mark.parametrize(
    "code",
    [
        'torch.from_file("{}", True, 4)',
        'torch.from_file ("{}", True, 4)',
        'torch .from_file("{}", True, 4)',
        '(torch\n.from_file\n("{}", True, 4))',
        '(torch.# (\nfrom_file("{}", True, 4))',
        'ops.aten.from_file("{}", True, 4)',
        'ops .aten. from_file("{}", True, 4)',
        "torch .zeros([4])",  # harmless, but nothing that `pygan export` wrote
        "0\n    while torch.lt(more, 2):\n      more = torch.mul(more, 1)\n    more = 1",
    ],
)
def test_torchscript_that_is_written_another_way_is_not_opened(code, files, tmp_path):
    with zipfile.ZipFile(files / "G.pt") as whole:
        (name,) = (one for one in whole.namelist() if re.search(r"/export/network\b.*\.py$", one))

    def changed(members):
        text = members[name].decode()
        start = text.index("    net = self.net\n")
        members[name] = f"{text[:start]}    more = {code.format(tmp_path / 'made')}\n{text[start:]}".encode()
        return members

    path = tmp_path / "bad.pt"
    _rewritten(files / "G.pt", path, changed)
    torch.jit.load(str(path))  # it is TorchScript
    _refused(path, "is not opened: .* in it, which no network of pygan does")
    assert not (tmp_path / "made").exists()


class Breaking(torch.nn.Module):
    def forward(self, *inputs):
        (z,) = inputs
        place = (z[0, :1] > 5).long() * 1000  # there is none
        return z.index_select(1, place)[:, :, None, None].expand(-1, 3, 16, 16)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2"])
def test_graphs_that_break_while_they_compute_are_one_line(kind, tmp_path, capfd):
    form = network.form(trained("dcgan"), network.Asked(batch=1))
    form = dataclasses.replace(form, module=Breaking())
    path = tmp_path / f"G{export.ENDINGS[kind]}"
    record.WRITERS[kind](form, facts.write(form.card, semantics="kept", precision="float32", kind=kind), path)
    made = exported.load(path, "cpu")
    assert made.generate(1, z=torch.zeros((1, form.card.z))).shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match="cannot be computed with") as caught:
        made.generate(1, z=torch.full((1, form.card.z), 10.0))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_weights_elsewhere_are_found_however_they_are_written():
    for tag in (b"\n", b"\x8a\x00", b"\x8a\x80\x80\x00"):
        for length in (b"\x08", b"\x88\x00", b"\x88\x80\x00"):
            entry = tag + length + b"location"
            assert onnx.StringStringEntryProto.FromString(entry).key == "location"
            assert onnx_file._ELSEWHERE.search(b"before" + entry)
    assert not onnx_file._ELSEWHERE.search(b"the location of it")


def test_loops_in_onnx_are_not_opened(files, tmp_path):
    """They may have no end; nothing that is recorded has one."""
    make = onnx.helper
    passed = [make.make_tensor_value_info(name, onnx.TensorProto.BOOL, []) for name in ("go", "goes_on")]
    count = make.make_tensor_value_info("count", onnx.TensorProto.INT64, [])
    body = make.make_graph([make.make_node("Identity", ["go"], ["goes_on"])], "body", [count, passed[0]], passed[1:])
    model = onnx.load(files / "G.onnx")
    model.graph.node.append(make.make_node("Loop", ["", ""], [], body=body))
    onnx.save(model, tmp_path / "bad.onnx")
    _refused(tmp_path / "bad.onnx", "there are loops in it")


def test_weights_of_another_file_are_not_read(tmp_path):
    form = write(trained("ebgan"), "onnx", tmp_path / "G.onnx")
    assert form.inputs
    model = onnx.load(tmp_path / "G.onnx")
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    _refused(tmp_path / "outside.onnx", "from other files")


def test_cards_that_say_nonsense(files, tmp_path):
    card = trained("ebgan").card.to_dict()
    wrong = {
        "not JSON": "{",
        "no table": "[]",
        "does not say what": json.dumps({"gan": "ebgan"}),
        "which this version of pygan does not know": json.dumps(card | {"gan": "../../etc"}),
        "does not know": json.dumps(card | {"recipe": card["recipe"] | {"ghost": 1}}),
        "counts": json.dumps(card | {"multiple": "4"}),
        "something else of 'prepare'": json.dumps(card | {"prepare": "magic"}),
        "something else of 'statistics'": json.dumps(card | {"statistics": "other"}),
        "asks for what": json.dumps(card | {"asks": ["text", "\n"]}),
        "not words": json.dumps(card | {"options": {"to": ["a\nb"]}}),
        "says of nothing": json.dumps(card | {"acts": ["dance"]}),
        "which channels": json.dumps(card | {"acts": ["translate"]}),
        "differs": json.dumps(card | {"recipe": card["recipe"] | {"n": 9}}),
        "z_dim": json.dumps(card | {"recipe": card["recipe"] | {"z_dim": "many"}}),
    }
    tensors = safetensors.torch.load_file(files / "G.safetensors")
    for match, value in wrong.items():
        path = tmp_path / "wrong.safetensors"
        safetensors.torch.save_file(tensors, path, metadata={"pygan": value})
        _refused(path, match)


def test_missing_packages_are_named(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime.*pip install '\.\[export\]' in pygan's checkout"):
        exported.load(files / "G.onnx", "cpu")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"package onnx; pip install '\.\[export\]' in pygan's checkout"):
        write(trained("ebgan"), "onnx", tmp_path / "G.onnx")


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(
    ("available", "why"),
    [
        (["CPUExecutionProvider"], "pip install onnxruntime-gpu"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "does not start"),  # with libraries of another version
    ],
)
def test_an_onnx_file_beside_a_gpu_that_onnx_runtime_cannot_use(files, available, why, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    for device in ("auto", "cuda"):
        assert exported.load(files / "G.onnx", device).device.type == "cpu"
    said = capsys.readouterr().err
    assert said.count("G.onnx runs on the CPU") == 1
    assert why in said


def test_an_onnx_file_on_one_gpu_of_several(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    where, ((name, options), _) = onnx_file._place(Path("x"), "cuda:1", [onnx_file._CUDA])
    assert (where, name, options["device_id"]) == (torch.device("cuda:1"), "CUDAExecutionProvider", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # this torch has no CUDA, that onnxruntime has
    assert onnx_file._place(Path("x"), "auto", [onnx_file._CUDA]) == (torch.device("cpu"), ["CPUExecutionProvider"])


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["pix2pix", "gawwn"])
def test_files_on_a_gpu(name, tmp_path):
    """What a GPU computes is what the CPU does, within TF32's digits; a file that is bound to the CPU runs there."""
    one = trained(name, **(LITTLE if name == "pix2pix" else {}))
    for kind, ending in (("onnx", "onnx"), ("torchscript", "pt"), ("pt2", "pt2")):
        form = write(one, kind, tmp_path / f"G.{ending}")
        prove.prove([form], exported.load(tmp_path / f"G.{ending}", "cuda"), tmp_path, 2e-2)


def test_files_take_their_place_beside_runs(files):
    for ending in ENDINGS:
        found = use.network(files / f"G.{ending}", device="cpu")
        assert found.card.gan == "ebgan"
        assert found.generate(2).shape == (2, 3, 16, 16)
