"""The recipe of a run from a network."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from pygan.data import Facts
from pygan.errors import UserError
from pygan.imports.asked import Asked
from pygan.imports.layers import swapped
from pygan.imports.network import Network, recognise
from pygan.recipe import BaseRecipe


def pix2pix(gan: ModuleType, network: Network, asked: Asked) -> tuple[BaseRecipe, dict[str, Network]]:
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


def cyclegan(gan: ModuleType, network: Network, asked: Asked) -> tuple[BaseRecipe, dict[str, Network]]:
    _need(network, "cyclegan", ("unet", "resnet"))
    parts = {"AtoB.": network}
    if asked.back is not None:
        parts["BtoA."] = back = recognise(asked.back, asked)
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
        parts = {prefix: replace(part, layers=tuple(swapped(part.layers))) for prefix, part in parts.items()}
    return gan.resolve(recipe, Facts(channels=network.channels)), parts


def stargan(gan: ModuleType, network: Network, asked: Asked) -> tuple[BaseRecipe, dict[str, Network]]:
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


MAKE = {"pix2pix": pix2pix, "cyclegan": cyclegan, "stargan": stargan}  # (recipe, {prefix in G: network}) of a GAN
