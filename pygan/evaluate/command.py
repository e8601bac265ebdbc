"""`pygan evaluate`: its flags, and the way from a run directory to evaluation.json and a table."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags. What they hold is checked by `run`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="other data, all of it with --split all (default: the run's own)",
    )
    parser.add_argument(
        "--metrics",
        metavar="LIST",
        help="of fid, kid, is, lpips, ssim, psnr, l1, gradient_correlation, segmentation (default: all there can be)",
    )
    parser.add_argument(
        "--split",
        choices=("held-out", "train", "all"),
        default="held-out",
        help="the real pictures; many papers compare with those of training (default: held-out)",
    )
    parser.add_argument(
        "-n",
        "--number",
        type=int,
        metavar="N",
        help="pictures from noise, else items used (default: as many as there are)",
    )
    parser.add_argument("--way", metavar="LIST", help="directions or labels (default: all)")
    parser.add_argument("--checkpoint", default="last", metavar="NAME", help="last, best or a kept one (default: last)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of noise, subsets and splits (default: 0)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="pictures at once (default: 16 images)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where the numbers go (default: RUN/evaluation.json)"
    )

    networks = parser.add_argument_group(
        "networks that measure",
        "A network of your own is a TorchScript (.pt, .pth, .ts) or ONNX file. It gets pictures (n, 3, h, w) and gives "
        "features (n, d), flattened if need be, and as a second output logits (n, classes) if it has them. It is named "
        "in the result, with the first digits of its SHA-256.",
    )
    networks.add_argument(
        "--features", metavar="NET", help="of FID, KID: inception, inception:FILE or a network (default: inception)"
    )
    networks.add_argument("--logits", metavar="NET", help="of the Inception score (default: those of --features)")
    networks.add_argument("--lpips", metavar="NET", help="alex, vgg, alex:FILE, vgg:FILE or a network (default: alex)")
    networks.add_argument(
        "--network-size",
        type=int,
        default=0,
        metavar="N",
        help="resize to this for a network of your own (default: not)",
    )
    networks.add_argument(
        "--network-range",
        choices=("signed", "unit", "bytes", "imagenet"),
        default="signed",
        help="what it takes: [-1, 1], [0, 1], 0..255, or [0, 1] standardised as for ImageNet (default: signed)",
    )
    networks.add_argument(
        "--drop-first-class", action="store_true", help="leave out the first logit: background, in StackGAN's networks"
    )
    networks.add_argument("--kid-subsets", type=int, default=100, metavar="N", help="subsets of KID (default: 100)")
    networks.add_argument(
        "--kid-subset-size", type=int, default=1000, metavar="N", help="pictures of each (default: 1000 images)"
    )
    networks.add_argument(
        "--kid-kept", type=int, default=10_000, metavar="N", help="features kept of each kind (default: 10000 images)"
    )
    networks.add_argument("--splits", type=int, default=10, metavar="N", help="of the Inception score (default: 10)")

    classes = parser.add_argument_group("class maps")
    classes.add_argument(
        "--palette",
        metavar="NAME",
        help="facades, cityscapes, or a file of lines `r g b [name]` (default: by the colours)",
    )
    classes.add_argument("--ignore-absent", action="store_true", help="means over the classes that are there only")
    classes.add_argument(
        "--segmenter",
        type=Path,
        metavar="FILE",
        help="network that reads classes in painted photos: logits (n, k, h, w) or ids (n, h, w); the FCN score",
    )
    classes.add_argument(
        "--segmenter-input",
        choices=("signed", "unit", "bytes", "imagenet", "bgr-mean"),
        default="signed",
        help="what it takes; bgr-mean: that of the FCN-8s of pix2pix (default: signed)",
    )
    classes.add_argument(
        "--segmenter-size", metavar="HxW", help="resize photos to this first, as 1024x2048 (default: as they are)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write, show. Returns the exit code; 130 if interrupted, with nothing written. Errors: UserError."""
    from pygan.errors import say
    from pygan.evaluate import asked, whole

    try:
        return whole.evaluate(asked.of_flags(args))
    except KeyboardInterrupt:
        say("interrupted; no evaluation was written, and one that was there is as it was")
        return 130
