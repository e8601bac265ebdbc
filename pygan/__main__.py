"""The command line: argv -> recipe -> one verb. Exit codes: 0 done, 2 the user's mistake, 1 ours."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from pygan import gans
from pygan.errors import Diverged, UserError, meant, say
from pygan.version import __version__

_INTERRUPTED = 130  # what every verb returns after Ctrl-C, as shells expect


class _Help(argparse.HelpFormatter):
    """As wide as the terminal, at most 110 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(110, shutil.get_terminal_size((112, 24)).columns - 2))

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment  # argparse forgets that names of verbs are indented


class _Parser(argparse.ArgumentParser):
    """Says a usage mistake in one line, with the word that may have been meant, and exits with 2.

    Flags are never guessed from their beginnings: what a command does must not change with the next flag.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"formatter_class": _Help, "allow_abbrev": False} | options))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        """Errors: UserError, of the verb that was given a flag which it does not know."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant(flag, self._option_string_actions)}")
        return found, unknown

    def error(self, message: str) -> None:
        if choice := re.fullmatch(r"(.*invalid choice: '?(.*?)'?) \(choose from (.*)\)", message):
            near = meant(choice[2], [word.strip("'") for word in choice[3].split(", ")])
            message = choice[1] + near if near else message  # one word in place of thirteen
        raise UserError(f"{message} (see `{self.prog} --help`)")


def _evaluate() -> ModuleType:
    from pygan import evaluate

    return evaluate


def _report() -> ModuleType:
    from pygan import report

    return report


def _compare() -> ModuleType:
    from pygan import compare

    return compare


def _study() -> ModuleType:
    from pygan import study

    return study


def _quiz() -> ModuleType:
    from pygan import quiz

    return quiz


def _translate() -> ModuleType:
    from pygan import translate

    return translate


def _export() -> ModuleType:
    from pygan import export

    return export


def _serve() -> ModuleType:
    from pygan import serve

    return serve


def _plan() -> ModuleType:
    from pygan import plan

    return plan


# Verbs whose module has `add_arguments(parser)` and `run(args) -> exit code`; it is only imported for its own verb.
_OWN_FLAGS = {
    "translate": ("put pictures of any size through a trained network", _translate),
    "export": ("make one file of a trained network: ONNX, TorchScript, safetensors, PT2, Hugging Face", _export),
    "serve": ("trained networks as a web page and an HTTP API", _serve),
    "plan": ("before training: its memory, time and disk, and what would make it fit", _plan),
    "evaluate": ("measure a trained network: FID, KID, Inception score, LPIPS, SSIM, segmentation, ...", _evaluate),
    "report": ("one page that shows a run: curves, samples over time, findings, metrics", _report),
    "compare": ("one page that shows runs side by side: what differs, curves, the same inputs through each", _compare),
    "study": ("train variants on equal budgets and say what the difference is: skips, lambda, patch", _study),
    "quiz": ("real or fake? the perceptual test of the papers, in a browser or as a picture", _quiz),
}


def _parser(verb: str, train_gan: str | None, doctor_gan: str | None = None) -> argparse.ArgumentParser:
    """The parser of all verbs. The flags of a recipe are only built for the GAN that is named."""
    parser = _Parser(prog="pygan", description="Trains, judges and serves the classic GANs.")
    parser.add_argument("--version", action="version", version=f"pygan {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    train = verbs.add_parser("train", help="train a GAN, or go on training")
    names = train.add_subparsers(dest="gan", metavar="GAN", required=True, parser_class=_Parser)
    for name in gans.names():
        module = gans.load(name) if name == train_gan else None
        one = names.add_parser(name, help=gans.title(name))
        if module is not None:
            one.usage = f"{one.prog} [--run DIR] [--preset NAME] [any flag below]"  # which are a hundred
            _train_flags(one, module)

    _import_flags(verbs.add_parser("import", help="make a run of a network that another program trained"))

    sample = verbs.add_parser("sample", help="write a grid of what a trained network makes")
    sample.add_argument("run", type=Path, metavar="RUN", help="run directory")
    sample.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the picture to write")
    sample.add_argument(
        "-n", "--number", type=int, metavar="N", help="items (default: 64 images from noise, else 8 images)"
    )
    sample.add_argument(
        "--text", action="append", default=[], metavar="SENTENCE", help="what is to be seen; may be given several times"
    )
    sample.add_argument("--interpolate", action="store_true", help="go from each --text to the next, same noise")
    _use_flags(sample)
    _walk_flags(sample)

    for name, (title, load) in _OWN_FLAGS.items():
        own = verbs.add_parser(name, help=title)
        if name == verb:
            load().add_arguments(own)

    data = verbs.add_parser("data", help="make or check training data")
    from pygan.data import command

    command.add_arguments(data.add_subparsers(dest="act", metavar="ACT", required=True, parser_class=_Parser))

    doctor = verbs.add_parser("doctor", help="what this machine lacks; or what went wrong in a run")
    doctor.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run directory (default: look at the machine)")
    doctor.add_argument("--json", action="store_true", help="the same as JSON")
    doctor.add_argument("--kernels", metavar="GAN", help="which kernel computes each layer of its step, and why")
    if doctor_gan:
        _kernel_flags(doctor, gans.load(doctor_gan))
    return parser


def _kernel_flags(parser: argparse.ArgumentParser, gan) -> None:
    from pygan.recipe import PRESETS_DIFFER, add_flags

    parser.usage = f"{parser.prog} [--json] [RUN], or --kernels GAN [any flag below]"
    table = parser.add_argument_group("with --kernels")
    table.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(gan.PRESETS)} (default: fast, else paper)")
    table.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda", help="where the step would run (default: cuda)"
    )
    # The recipe has a field of that name too (library or auto), which here would be the same flag twice.
    add_flags(parser.add_argument_group("the recipe", PRESETS_DIFFER), gan.Recipe, without=("kernels",))


def _train_flags(parser: argparse.ArgumentParser, gan) -> None:
    from pygan.recipe import PRESETS_DIFFER, add_flags

    session = parser.add_argument_group("this session")
    session.add_argument("--run", type=Path, metavar="DIR", help="run directory (default: runs/GAN/PRESET)")
    session.add_argument(
        "--preset",
        metavar="NAME",
        help=f"one of {', '.join(gan.PRESETS)} (default: demo on a CPU, fast on a GPU)",
    )
    session.add_argument(
        "--recipe", type=Path, metavar="FILE", help="a whole recipe in place of a preset, as `pygan plan` writes it"
    )
    session.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="go on with the run that is there, if it has this recipe (default: auto)",
    )
    session.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)"
    )
    session.add_argument("--max-steps", type=int, metavar="N", help="stop, saved, at this step (default: no limit)")
    session.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    add_flags(parser.add_argument_group("the recipe", PRESETS_DIFFER), gan.Recipe)


def _recipe_of(gan: str, file: Path):
    """The recipe that `pygan plan` wrote, or a run's recipe.json. Errors: UserError."""
    from pygan import recipe, rundir

    facts = rundir.read_recipe_file(file)
    if facts["gan"] != gan:
        raise UserError(f"{file} is a recipe of {facts['gan']}, not of {gan}; pygan train {facts['gan']} takes it")
    return recipe.from_dict(gans.load(gan).Recipe, facts["recipe"], str(file))


def _walk_flags(parser: argparse.ArgumentParser) -> None:
    walk = parser.add_argument_group("walks: FILE.png is a grid, FILE.gif and FILE.webp are animations")
    walk.add_argument(
        "--walk",
        nargs="?",
        const="auto",
        choices=("auto", "z", "text", "labels"),
        metavar="KIND",
        help="go through what it can make: z, its noise; text, from each --text to the next; labels, from each --to to "
        "the next (default: auto, what it has, text where there are several)",
    )
    walk.add_argument("--stops", type=int, metavar="N", help="points of noise on the way (default: 2, animations 4)")
    walk.add_argument("--steps", type=int, metavar="N", help="frames from one to the next (default: 8, animations 16)")
    walk.add_argument("--closed", action="store_true", help="come back to the first")
    walk.add_argument("--to", action="append", metavar="NAMES", help="labels of a stop: Male,Young (default: each)")
    walk.add_argument(
        "--input", action="append", type=Path, metavar="FILE", help="picture to give labels to (default: held-out ones)"
    )
    walk.add_argument("--fps", type=float, metavar="N", help="of an animation (default: 12 frames per second)")
    walk.add_argument("--quality", type=int, metavar="N", help="of a WebP, 1 to 100 (default: without loss)")
    walk.add_argument("--dither", action="store_true", help="hide the bands of a GIF's 256 colours by noise")
    near = parser.add_argument_group("neighbours")
    near.add_argument(
        "--neighbours",
        nargs="?",
        type=int,
        const=3,
        metavar="K",
        help="beside each picture the K training pictures that are nearest to it, by pixels and features (default: 3)",
    )
    near.add_argument(
        "--features",
        metavar="SPEC",
        help="inception, inception:FILE, hog, or a TorchScript or ONNX file (default: inception, without weights hog)",
    )


def _sample(args: argparse.Namespace) -> int:
    from pygan.sample import Animation, Walk, sample

    for flag in ("number", "neighbours"):
        if (value := getattr(args, flag)) is not None and value < 1:
            raise UserError(f"--{flag} must be at least 1, got {value}")
    walking = ("stops", "steps", "closed", "to", "input", "fps", "quality", "dither")
    lost = [flag for flag in walking if args.walk is None and getattr(args, flag) not in (None, False)]
    if lost:
        raise UserError(f"--{lost[0]} is of a walk: add --walk, or leave it out")
    if args.walk is not None and args.interpolate:
        raise UserError("--interpolate is --walk text of 8 pictures; leave one of them out")
    if args.features and args.neighbours is None:
        raise UserError("--features says how --neighbours are found: add that, or leave it out")
    if args.input and args.number is not None:
        raise UserError("--number has nothing to say where --input names the pictures; leave one of them out")
    if args.stops is not None and args.stops < 2:
        raise UserError(f"--stops must be at least 2, got {args.stops}")
    walk = None
    if args.walk is not None:
        walk = Walk(args.walk, args.stops or 0, args.steps, args.closed, tuple(args.to or ()), tuple(args.input or ()))
    return sample(
        args.run,
        args.output,
        number=args.number or 0,
        checkpoint=args.checkpoint,
        device=args.device,
        seed=args.seed,
        text=args.text,
        interpolate=args.interpolate,
        walk=walk,
        animation=Animation(12.0 if args.fps is None else args.fps, args.quality, args.dither),
        neighbours=args.neighbours or 0,
        features=args.features or "",
    )


def _import_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="*_net_G.pth or *-G.ckpt")
    parser.add_argument(
        "--as", dest="gan", choices=("pix2pix", "cyclegan", "stargan"), required=True, help="the GAN that it is of"
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="run directory (default: runs/GAN/FILE)")
    parser.add_argument("--back", type=Path, metavar="FILE", help="cyclegan: the network from B to A (default: none)")
    parser.add_argument("--norm", choices=("batch", "instance"), default="", help="where the file does not say it")
    parser.add_argument("--dropout", action=argparse.BooleanOptionalAction, help="where the file does not say it")
    parser.add_argument("--eval", action="store_true", help="use running statistics and no dropout")
    parser.add_argument("--labels", default="", metavar="NAMES", help="stargan: names of its labels, a list")
    parser.add_argument("--labels-2", default="", metavar="NAMES", help="stargan: those of its second data set")


def _use_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="last", metavar="NAME", help="last, best or a kept one (default: last)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of noise, and of dropout at test time (default: 0)"
    )


def _normal(argv: Sequence[str]) -> list[str]:
    """`--lambda_l1=10` -> `--lambda-l1=10`: other tools of this field spell flags with underscores."""
    end = argv.index("--") if "--" in argv else len(argv)  # what follows are names
    out = []
    for word in argv[:end]:
        name, equals, value = word.partition("=")
        out.append(name.replace("_", "-") + equals + value if name.startswith("--") else word)
    return [*out, *argv[end:]]


class _Stdout:
    """Standard output that can go away (`| head`, a full disk) without stopping what pygan is doing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def _try(self, act: str, *args: str) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, act)(*args)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # what is still buffered goes there
            self._stream = None


def _after(argv: Sequence[str], flag: str) -> str | None:
    """The value of `flag VALUE` or `flag=VALUE`, None without one."""
    for word, value in zip(argv, [*argv[1:], None], strict=True):
        name, equals, here = word.partition("=")
        if name == flag:
            return here if equals else value
    return None


def _run(argv: Sequence[str]) -> int:
    argv = _normal(argv)
    train_gan = argv[1] if argv[:1] == ["train"] and len(argv) > 1 else None
    verb = argv[0] if argv else ""
    if verb in ("train", "plan") and argv[1:] and argv[1].startswith("--") and argv[1] != "--help":
        raise UserError(f"the GAN comes before the flags: pygan {verb} GAN {argv[1]} ... (see `pygan {verb} --help`)")
    parser = _parser(verb, train_gan, _after(argv, "--kernels") if verb == "doctor" else None)
    if not argv:
        parser.print_help()
    args = parser.parse_args(argv)
    if args.verb in _OWN_FLAGS:
        return _OWN_FLAGS[args.verb][1]().run(args)
    if args.verb == "train":
        from pygan.loop import train

        fields = {
            name: value for name, value in vars(args).items() if name in gans.load(args.gan).Recipe.__dataclass_fields__
        }
        whole, preset = args.gan, args.preset
        if args.recipe is not None:
            if preset is not None:
                raise UserError("--recipe FILE and --preset both say what to train; leave one of them out")
            whole, preset = _recipe_of(args.gan, args.recipe), args.recipe.stem
        train(
            whole,
            preset=preset,
            run=args.run,
            resume=args.resume,
            device=args.device,
            max_steps=args.max_steps,
            dry_run=args.dry_run,
            **fields,
        )
        return 0
    if args.verb == "import":
        from pygan.imports import Asked, import_network

        asked = Asked(args.back, args.norm, args.dropout, args.eval, args.labels, args.labels_2)
        return import_network(args.file, args.gan, args.run, asked)
    if args.verb == "sample":
        return _sample(args)
    if args.verb == "data":
        from pygan.data import command

        return command.run(args)
    if args.run is not None and args.kernels:
        raise UserError(f"--kernels looks at a recipe and {args.run} is a run: leave one of them out")
    if args.kernels:
        from pygan import kernels

        gan = gans.load(args.kernels)
        recipe_fields = {field.name for field in dataclasses.fields(gan.Recipe)} - {"kernels"}
        given = {name: value for name, value in vars(args).items() if name in recipe_fields}
        return kernels.report(gan, args.kernels, args.preset, given, args.device)
    from pygan import doctor

    return doctor.run(as_json=args.json) if args.run is None else doctor.of_run(args.run, as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; never shows a traceback for a user's mistake."""
    code = _told(argv)
    if code == _INTERRUPTED and argv is None:  # the process ends: a second Ctrl-C would hit Python's own last acts
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _told(argv: Sequence[str] | None) -> int:
    """The exit code of one command; what went wrong is one line."""
    try:
        with contextlib.redirect_stdout(_Stdout(sys.stdout)):
            code = _run(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
            return code
    except UserError as error:
        say(f"error: {error}")
        return 2
    except Diverged as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        say(f"error: cannot use {error.filename} ({error.strerror}); choose another path")
        return 2
    except (MemoryError, RuntimeError) as error:  # where no command knows better
        from pygan.device import out_of_memory

        if not (where := out_of_memory(error)):
            raise
        say(
            f"error: {where} has too little memory for this; ask for fewer or smaller pictures, or for another --device"
        )
        return 2
    except KeyboardInterrupt:
        training = (sys.argv[1:] if argv is None else list(argv))[:1] == ["train"]
        kept = "nothing was saved since the last checkpoint, which is intact" if training else "what was done is kept"
        say(f"interrupted; {kept}")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
