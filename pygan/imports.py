"""Networks that other programs trained, as run directories of this one.

Understood are generators of the widely used PyTorch port of CycleGAN and pix2pix (`*_net_G.pth`, U-Net or ResNet) and
of StarGAN's own code (`*-G.ckpt`). A file is read as tensors alone; no object in it is ever made.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from pygan import checkpoint, gans, log, resume
from pygan import recipe as recipes
from pygan.data import Facts
from pygan.errors import UserError
from pygan.recipe import BaseRecipe
from pygan.resume import ROOT
from pygan.rundir import RunDir
from pygan.state import State

PEERS = ("pix2pix", "cyclegan", "stargan")  # the GANs that networks can be imported as
_PORT = "the PyTorch CycleGAN/pix2pix port"
_DISCRIMINATORS = {
    "patch": f"a PatchGAN discriminator of {_PORT}",
    "pixel": f"a pixel discriminator of {_PORT}",
    "stargan D": "a discriminator of StarGAN's code",
}
_MAGIC = {
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"ustar": "a tar archive: unpack it first",
}
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Asked:
    """What the command line says of a network that its file may not tell. Empty or None: nothing."""

    back: Path | None = None  # cyclegan: the file of the network that goes from B to A
    norm: str = ""  # "batch" or "instance"
    dropout: bool | None = None  # has G dropout?
    eval: bool = False  # use running statistics and no dropout, as the port's --eval
    labels: str = ""  # stargan: names of the labels, and of those of a second data set
    labels_2: str = ""


class Layer(NamedTuple):
    """A convolution of the peer's network, the norm behind it, and the same block of ours."""

    conv: str
    norm: str  # "": none
    ours: str
    alone: bool = False  # our convolution stands by itself, not in a block with a norm
    swap: bool = False  # input channels: those of the encoder come first


@dataclass(frozen=True)
class Network:
    """A generator that was recognised."""

    file: Path
    kind: str  # "unet", "resnet" or "stargan"
    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    depth: int  # halvings of a U-Net, blocks of the others
    norm: str = "instance"
    affine: bool = False
    biases: bool = False  # in front of the norms
    dropout: bool | None = None  # None: the file does not say
    channels: tuple[int, int] = field(default=(3, 3))  # of input and output; labels are counted with the input
    width: int = 64  # channels of the first convolution

    def __str__(self) -> str:
        words = {"unet": f"a U-Net generator of {self.depth} levels", "resnet": f"a ResNet generator of {self.depth}"}
        if self.kind == "stargan":
            return f"a StarGAN generator of {self.depth} blocks and {self.channels[0] - self.channels[1]} label planes"
        return words[self.kind] + (" blocks" if self.kind == "resnet" else "") + f" ({self.norm} norm)"


def import_network(file: Path, name: str, run: Path | None, asked: Asked) -> int:
    """Make a run of GAN `name` from the generator in `file`. Returns the exit code.

    run: the directory, None: runs/NAME/<file's name>. Errors: UserError, one line: what the file is instead, or what it
    does not say and which flag would.
    """
    if name not in PEERS:
        raise UserError(f"--as must be one of {', '.join(PEERS)}, got {name!r}")
    _check_asked(name, asked)
    network = _recognise(file, asked)
    gan = gans.load(name)
    make = {"pix2pix": _pix2pix, "cyclegan": _cyclegan, "stargan": _stargan}[name]
    recipe, parts = make(gan, network, asked)
    path = run or ROOT / name / file.stem
    with torch.device("meta"):
        G = gan.generator(recipe)
    G.to_empty(device="cpu")
    live, count = G.state_dict(), 0
    for tensor in live.values():
        tensor.zero_()
    for prefix, part in parts.items():
        below = {key.removeprefix(prefix): value for key, value in live.items() if key.startswith(prefix)}
        _copy_into(below, _ours(part), part)
        count += sum(tensor.numel() for tensor in below.values())
    facts = {"gan": name, "preset": "imported", "imported": [part.file.name for part in parts.values()]}
    with closing(RunDir(path).open()) as run_dir:
        if resume.is_run(path):
            raise UserError(f"{path} already holds a run; choose another --run")
        try:
            header = {"gan": name, "recipe": recipes.to_dict(recipe)}
            # "finished": its D and moments are not there to train on with.
            checkpoint.save(run_dir.checkpoints, State(nets={"G": G}, opts={}), header, {"finished": True})
        except OSError as error:
            raise UserError(f"cannot write into {path} ({error.strerror}); choose another --run") from error
        resume.write_recipe(run_dir, facts, recipe, recipe)
    log.console().print(
        f"imported {file}, {network}, {count:,} values, into {path}; use it: pygan translate {path} PICTURES -o DIR",
        markup=False,
    )
    return 0


def _check_asked(name: str, asked: Asked) -> None:
    """Flags that say nothing about this GAN are a mistake."""
    if asked.back is not None and name != "cyclegan":
        raise UserError(f"--back is for --as cyclegan, which has a network for each direction, not {name}")
    for flag, value in (("--labels", asked.labels), ("--labels-2", asked.labels_2)):
        if value and name != "stargan":
            raise UserError(f"{flag} is for --as stargan, not {name}")
    if name == "stargan":
        given = (("--norm", asked.norm), ("--dropout", asked.dropout is not None), ("--eval", asked.eval))
        for flag, value in given:
            if value:
                raise UserError(f"{flag} says nothing about a StarGAN generator; leave it out")


# --- the recipe of a run from a network ---------------------------------------------------------------------------


def _pix2pix(gan: ModuleType, network: Network, asked: Asked) -> tuple[BaseRecipe, dict[str, Network]]:
    _need(network, "pix2pix", ("unet",))
    dropout = network.dropout if asked.dropout is None else asked.dropout
    if dropout is None and asked.eval:
        dropout = False  # never used
    if dropout is None:
        raise UserError(
            f"{network.file} does not say whether its U-Net has dropout: add --dropout (what the port does unless told "
            "otherwise) or --no-dropout"
        )
    size = 2**network.depth
    recipe = gan.Recipe(
        direction="AtoB",
        load_size=size,
        crop_size=size,
        generator="unet",
        upsample="deconv",
        levels=network.depth,
        ngf=network.width,
        concat="encoder_first",
        dropout_levels="jy" if dropout else "none",
        norm=network.norm,
        in_affine=network.norm == "instance" and network.affine,
        bias="all" if network.norm == "batch" and network.biases else "auto",
        test_dropout=dropout and not asked.eval,
        test_bn="running" if asked.eval else "batch",
    )
    return gan.resolve(recipe, Facts(channels=network.channels)), {"": network}


def _cyclegan(gan: ModuleType, network: Network, asked: Asked) -> tuple[BaseRecipe, dict[str, Network]]:
    _need(network, "cyclegan", ("unet", "resnet"))
    parts = {"AtoB.": network}
    if asked.back is not None:
        parts["BtoA."] = back = _recognise(asked.back, asked)
        here = (network.kind, network.depth, network.norm, network.affine, network.width, network.channels)
        if here != (back.kind, back.depth, back.norm, back.affine, back.width, back.channels[::-1]):
            raise UserError(f"--back {asked.back} is {back}, which is not the way back of {network.file}, {network}")
    unet = network.kind == "unet"
    if not unet and network.depth not in (6, 9):
        raise UserError(f"{network.file} is {network}; understood are 6 and 9 blocks")
    size = 2**network.depth if unet else 256 if network.depth == 9 else 128
    recipe = gan.Recipe(
        load_size=size,
        crop_size=size,
        generator="unet" if unet else f"resnet_{network.depth}",
        levels=network.depth if unet else 0,
        ngf=network.width,
        dropout_p=0.5 if network.dropout or asked.dropout else 0.0,
        norm=network.norm,
        in_affine=network.norm == "instance" and network.affine,
        lambda_identity=0.5 if network.channels[0] == network.channels[1] else 0.0,
        test_bn="running" if asked.eval else "batch",
        learned="AtoB" if asked.back is None else "both",
    )
    if unet:  # ours has the decoder's channels first
        parts = {
            prefix: Network(**{**vars(part), "layers": tuple(_swapped(part.layers))}) for prefix, part in parts.items()
        }
    return gan.resolve(recipe, Facts(channels=network.channels)), parts


def _stargan(gan: ModuleType, network: Network, asked: Asked) -> tuple[BaseRecipe, dict[str, Network]]:
    _need(network, "stargan", ("stargan",))
    planes = network.channels[0] - network.channels[1]
    labels, labels_2 = asked.labels, asked.labels_2
    known = {5: (gan.CELEBA, ""), 8: (gan.RAFD, ""), 15: (gan.CELEBA, gan.RAFD)}  # of the authors' own runs
    if not labels and planes in known:
        labels, labels_2 = known[planes]
    counts = [len(text.split(",")) for text in (labels, labels_2) if text]
    expected = sum(counts) + (2 if labels_2 else 0)  # two data sets have a mask besides
    if expected != planes:
        raise UserError(
            f"{network.file} has {planes} label planes"
            + (f", --labels and --labels-2 name {expected}" if labels else "; name them: --labels NAME,NAME,...")
        )
    recipe = gan.Recipe(
        labels=labels,
        labels_2=labels_2,
        cls_mode="single" if labels == gan.RAFD else "multi",
        cls_mode_2="single" if labels_2 else "auto",
        ngf=network.width,
        blocks=network.depth,
    )
    return gan.resolve(recipe, Facts(channels=(network.channels[1],))), {"": network}


def _need(network: Network, name: str, kinds: tuple[str, ...]) -> None:
    if network.kind not in kinds:
        better = {"unet": "pix2pix", "resnet": "cyclegan", "stargan": "stargan"}[network.kind]
        raise UserError(f"{network.file} is {network}, which --as {name} has not; import it --as {better}")


# --- which network a file holds -----------------------------------------------------------------------------------


def _recognise(file: Path, asked: Asked) -> Network:
    """Errors: UserError, what the file is instead."""
    tensors = _read(file)

    def kernel(key: str) -> int:
        weight = tensors.get(key)
        return weight.shape[2] if weight is not None and weight.dim() == 4 else 0

    if kernel("model.model.0.weight") == 4:
        depth = max(_levels(tensors), default=1)
        layers = tuple(_unet_layers(depth))
        return _port(file, "unet", tensors, layers, depth, asked)
    if kernel("model.1.weight") == 7:
        depth, dropout = _blocks(tensors, file)
        layers = tuple(_resnet_layers(depth, dropout))
        return _port(file, "resnet", tensors, layers, depth, asked, dropout)
    if kernel("main.0.weight") == 7:
        depth = sum(bool(re.fullmatch(r"main\.\d+\.main\.0\.weight", key)) for key in tensors)
        layers = tuple(_stargan_layers(depth))
        network = Network(file, "stargan", tensors, layers, depth, affine=True)
        return _with_sizes(network)
    kind = ""
    if kernel("model.0.weight") == 4:
        kind = "patch"
    elif kernel("net.0.weight") == 1:
        kind = "pixel"
    elif kernel("main.0.weight") == 4 and "conv1.weight" in tensors:
        kind = "stargan D"
    if kind:
        raise UserError(f"{file} is {_DISCRIMINATORS[kind]}, no generator; import the file of its G")
    key = next(iter(tensors))
    raise UserError(
        f"{file} is no network that is understood ({len(tensors)} tensors, the first {key!r} of shape "
        f"{list(tensors[key].shape)}): a *_net_G.pth of {_PORT} or a *-G.ckpt of StarGAN's code is"
    )


def _levels(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    for key in tensors:
        if match := re.fullmatch(r"model\.model\.1((?:\.model\.3)*)\.model\.1\.weight", key):
            yield 2 + len(match[1]) // len(".model.3")


def _unet_layers(levels: int) -> Iterator[Layer]:
    """The port's nested blocks, each `model` of which is down, the block inside it, up."""
    yield Layer("model.model.0", "", "downs.0")
    inside = "model.model.1.model"
    for level in range(2, levels):
        yield Layer(f"{inside}.1", f"{inside}.2", f"downs.{level - 1}")
        yield Layer(f"{inside}.5", f"{inside}.6", f"ups.{levels - level}")
        inside += ".3.model"
    yield Layer(f"{inside}.1", "", f"downs.{levels - 1}")
    yield Layer(f"{inside}.3", f"{inside}.4", "ups.0")
    yield Layer("model.model.3", "", "head", alone=True)


def _swapped(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """Transposed convolutions behind a concat: all but the innermost."""
    for layer in layers:
        joined = layer.ours == "head" or (layer.ours.startswith("ups.") and layer.ours != "ups.0")
        yield layer._replace(swap=joined)


def _blocks(tensors: Mapping[str, Tensor], file: Path) -> tuple[int, bool]:
    """(how many residual blocks, do they have dropout). Errors: UserError for blocks without reflected borders."""
    found = {key.split(".")[1] for key in tensors if re.match(r"model\.\d+\.conv_block\.", key)}
    if "model.10.conv_block.0.weight" in tensors:
        raise UserError(f"{file} is a ResNet generator of {_PORT} with padding by zeros, which is not understood")
    return len(found), "model.10.conv_block.6.weight" in tensors and "model.10.conv_block.5.weight" not in tensors


def _resnet_layers(blocks: int, dropout: bool) -> Iterator[Layer]:
    yield Layer("model.1", "model.2", "stem")
    yield Layer("model.4", "model.5", "down_1")
    yield Layer("model.7", "model.8", "down_2")
    second = 6 if dropout else 5  # behind pad, conv, norm, ReLU, dropout, pad
    for i in range(blocks):
        block = f"model.{10 + i}.conv_block"
        yield Layer(f"{block}.1", f"{block}.2", f"blocks.{i}.first")
        yield Layer(f"{block}.{second}", f"{block}.{second + 1}", f"blocks.{i}.second")
    n = 10 + blocks
    yield Layer(f"model.{n}", f"model.{n + 1}", "up_1")
    yield Layer(f"model.{n + 3}", f"model.{n + 4}", "up_2")
    yield Layer(f"model.{n + 7}", "", "head", alone=True)


def _stargan_layers(blocks: int) -> Iterator[Layer]:
    for i, ours in enumerate(("stem", "down_1", "down_2")):
        yield Layer(f"main.{3 * i}", f"main.{3 * i + 1}", ours)
    for i in range(blocks):
        block = f"main.{9 + i}.main"
        yield Layer(f"{block}.0", f"{block}.1", f"blocks.{i}.first")
        yield Layer(f"{block}.3", f"{block}.4", f"blocks.{i}.second")
    n = 9 + blocks
    yield Layer(f"main.{n}", f"main.{n + 1}", "up_1")
    yield Layer(f"main.{n + 3}", f"main.{n + 4}", "up_2")
    yield Layer(f"main.{n + 6}", "", "head", alone=True)


def _port(
    file: Path,
    kind: str,
    tensors: Mapping[str, Tensor],
    layers: tuple[Layer, ...],
    depth: int,
    asked: Asked,
    dropout: bool | None = None,
) -> Network:
    """A generator of the port, whose norm and dropout are found in its tensors or in what is asked."""
    normed = next(layer for layer in layers if layer.norm)
    scaled, running = f"{normed.norm}.weight" in tensors, f"{normed.norm}.running_mean" in tensors
    biases = f"{normed.conv}.bias" in tensors
    if scaled and running and biases:  # BatchNorm behind biases, or InstanceNorm with everything
        norm = asked.norm
        if not norm:
            raise UserError(f"{file} does not say which norm its network has: add --norm batch or --norm instance")
    elif scaled and running:
        norm = "batch"
    elif scaled or biases:  # old versions of the port kept running statistics of InstanceNorm and never used them
        norm = "instance"
    else:
        raise UserError(f"{file} is a generator of {_PORT} without norms, which is not understood")
    if asked.norm not in ("", norm):
        raise UserError(f"--norm is {asked.norm}, but the network in {file} has {norm} norm; leave the flag out")
    if dropout is not None and asked.dropout not in (None, dropout):
        word = "has" if dropout else "has no"
        raise UserError(f"the network in {file} {word} dropout; leave --dropout and --no-dropout out")
    network = Network(file, kind, tensors, layers, depth, norm=norm, affine=scaled, biases=biases, dropout=dropout)
    return _with_sizes(network)


def _with_sizes(network: Network) -> Network:
    """The network with its channels. Errors: UserError if a layer is missing or has another shape than its kind."""
    first, last = network.layers[0], network.layers[-1]
    for layer in network.layers:
        weight = network.tensors.get(f"{layer.conv}.weight")
        if weight is None or weight.dim() != 4:
            raise UserError(f"{network.file} is {network}, but its {layer.conv}.weight is missing or no convolution")
    stem, head = network.tensors[f"{first.conv}.weight"], network.tensors[f"{last.conv}.weight"]
    out = head.shape[1 if network.kind == "unet" else 0]  # transposed in a U-Net
    return Network(**{**vars(network), "channels": (stem.shape[1], out), "width": stem.shape[0]})


# --- tensors ------------------------------------------------------------------------------------------------------


def _ours(network: Network) -> dict[str, Tensor]:
    """The tensors by our names. Errors: UserError for tensors that such a network does not have."""
    left, ours = dict(network.tensors), {}
    for layer in network.layers:
        conv = layer.ours if layer.alone else f"{layer.ours}.conv"
        for key in ("weight", "bias"):
            value = left.pop(f"{layer.conv}.{key}", None)
            if value is not None:
                ours[f"{conv}.{key}"] = _swap(value) if layer.swap and key == "weight" else value
        for key in ("weight", "bias", *_BUFFERS) if layer.norm else ():
            value = left.pop(f"{layer.norm}.{key}", None)
            kept = key not in _BUFFERS or (network.norm == "batch" and key != "num_batches_tracked")
            if value is not None and kept:
                ours[f"{layer.ours}.norm_act.{key}"] = value
    if left:
        raise UserError(f"{network.file} looks like {network}, but has a tensor {min(left)!r} that such a one has not")
    return ours


def _swap(weight: Tensor) -> Tensor:
    """Both halves of the input channels of a transposed convolution, (i, o, kh, kw), in the other order."""
    first, second = weight.chunk(2)
    return torch.cat((second, first))


@torch.no_grad()
def _copy_into(live: dict[str, Tensor], found: dict[str, Tensor], network: Network) -> None:
    """Errors: UserError naming the first misfit, or a value that is no number."""
    if missing := sorted(live.keys() ^ found.keys()):
        raise UserError(f"{network.file} looks like {network}, but {missing[0]} is in only one of it and its kind")
    for key, tensor in live.items():
        value = found[key]
        if value.shape != tensor.shape:
            raise UserError(
                f"{network.file} looks like {network}, but {key} has shape {list(value.shape)}, "
                f"expected {list(tensor.shape)}"
            )
        if not value.isfinite().all():
            raise UserError(f"{network.file} holds NaN or infinite values in {key}: its training had diverged")
        tensor.copy_(value)


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a saved state_dict by their names. Errors: UserError, what the file is instead."""
    _check_format(file)
    try:
        found = checkpoint.read_torch(file)
    except pickle.UnpicklingError as error:
        if match := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{file} holds Python objects ({match[1]}), which are never loaded because that runs code: "
                "where it comes from, save the state_dict() of G instead"
            ) from error
        raise UserError(f"{file} is not a PyTorch checkpoint, or is damaged") from error
    except checkpoint.Damaged as reason:
        raise UserError(f"{file} is damaged or not a PyTorch checkpoint ({reason})") from reason
    if not isinstance(found, dict):
        raise UserError(f"{file} holds {_article(type(found).__name__)}, not the state_dict of a network")
    strange = [key for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange or not found:
        inside = ", ".join(map(str, list(found)[:4])) or "nothing"
        raise UserError(f"{file} is not the state_dict of a network alone, it holds {inside}: save that of G by itself")
    wrapped = all(key.startswith("module.") for key in found)  # by DataParallel
    return {key.removeprefix("module.") if wrapped else key: value for key, value in found.items()}


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _check_format(file: Path) -> None:
    """Errors: UserError naming what a file is that cannot be a PyTorch checkpoint."""
    if file.is_dir():
        raise UserError(f"{file} is a folder: name the file of a generator in it, such as latest_net_G.pth")
    try:
        with open(file, "rb") as stream:
            head = stream.read(512)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}") from error
    what = ""
    if not head:
        what = "empty"
    elif len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < file.stat().st_size:
        what = "a safetensors file; a checkpoint as PyTorch saves it (.pth, .ckpt) is understood"
    elif head[:4] == b"PK\x03\x04":
        what = _what_zip(file)
    elif head[:1] != b"\x80":  # a pickle
        what = next((text for magic, text in _MAGIC.items() if head.startswith(magic) or head[257:262] == magic), "")
        what = what or _what_text(head)
    if what:
        raise UserError(f"{file} is {what}")


def _what_zip(file: Path) -> str:
    """What a zip archive is, "" for a PyTorch checkpoint."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        return "a damaged archive or checkpoint: copy or download it again"
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript program, which would run code when loaded: save the state_dict() of G instead"
    return (
        "" if any(name.endswith("data.pkl") for name in names) else "a zip archive without a PyTorch checkpoint in it"
    )


def _what_text(head: bytes) -> str:
    if re.match(rb"\s*<(!doctype|html)", head, re.IGNORECASE):
        return "a web page: the download did not give the file itself"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "text, not a PyTorch checkpoint"
    return "not a PyTorch checkpoint"
