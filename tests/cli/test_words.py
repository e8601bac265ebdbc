"""What a newcomer types and reads: verbs, flags and names that are nearly right, and every --help."""

import contextlib
import io
import re
import signal
import sys

import pytest

from pygan import __main__ as program
from pygan import gans
from pygan.__main__ import main

VERBS = ("train", "import", "sample", "translate", "export", "serve", "plan", "evaluate", "report", "compare")
VERBS += ("study", "quiz", "data", "doctor")
PAGES = [[], *([verb] for verb in VERBS), ["data", "make"], ["data", "check"], ["study", "skips"], ["study", "patch"]]
PAGES += [["study", "lambda"], ["plan", "cyclegan"], *(["train", name] for name in gans.names())]


def page(words):
    """What `pygan WORDS --help` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    return out.getvalue()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("trian pix2pix", "argument VERB: invalid choice: 'trian' (did you mean train?) (see `pygan --help`)"),
        ("train pix2pixx", "'pix2pixx' (did you mean pix2pix?) (see `pygan train --help`)"),
        ("train cycle-gan", "'cycle-gan' (did you mean cyclegan?)"),
        ("plan Pix2Pix", "'Pix2Pix' (did you mean pix2pix?) (see `pygan plan --help`)"),
        ("study skps", "'skps' (did you mean skips?)"),
        ("import x --as pixpix", "'pixpix' (did you mean pix2pix?)"),
        ("doctor --kernels pixpix", "(did you mean pix2pix?)"),
        ("train pix2pix --lamda-l1 3", "--lamda-l1 3 (did you mean --lambda-l1?) (see `pygan train pix2pix --help`)"),
        ("train pix2pix --lamda_l1=3", "--lamda-l1=3 (did you mean --lambda-l1?)"),
        ("plan pix2pix --withn 3h", "(did you mean --within?) (see `pygan plan pix2pix --help`)"),
        ("translate run in -o out --tiles", "--tiles (did you mean --tile?) (see `pygan translate --help`)"),
        ("data make facades DIR --sise 3", "--sise 3 (did you mean --size?) (see `pygan data make --help`)"),
        ("doctor --kernel pix2pix", "--kernel (did you mean --kernels?)"),  # was a traceback: half a flag was taken
        ("train --max-steps 3 pix2pix", "the GAN comes before the flags: pygan train GAN --max-steps ..."),
        ("plan --fit 3GB pix2pix", "the GAN comes before the flags: pygan plan GAN --fit ..."),
        ("sing", "(choose from 'train', 'import'"),  # nothing is near: all there are
    ],
)
def test_a_word_that_is_nearly_right_is_answered_with_the_right_one(words, meant, capsys):
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert meant in err
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("words", [*PAGES, ["doctor", "--kernels", "pix2pix"]], ids="-".join)
def test_help_fits_the_terminal(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    longest = max(page(words).splitlines(), key=len)
    assert len(longest) <= 80, longest


def test_help_on_a_wide_terminal_has_lines_that_an_eye_can_follow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert 80 < max(map(len, page(["evaluate"]).splitlines())) <= 112


@pytest.mark.parametrize("words", PAGES, ids="-".join)
def test_every_flag_says_what_it_is(words, monkeypatch):
    """Not only its default: `-o FILE  (default: ...)` leaves the reader to guess."""
    monkeypatch.setenv("COLUMNS", "500")
    text = page(words)
    flags = re.findall(r"^  (-\S[^\n]*?)(?:  +|\n {4,})(\S[^\n]*)?$", text, re.MULTILINE)
    assert flags
    mute = [flag for flag, said in flags if not said or said.startswith("(default")]
    assert not mute


def test_all_verbs_and_gans_are_listed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words, names in (([], VERBS), (["train"], gans.names()), (["plan"], gans.names())):
        found = re.findall(r"^    (\w+)(?:  +\S|$)", page(words), re.MULTILINE)
        assert found == list(names)


def test_without_a_word_the_verbs_are_shown(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert all(f"    {verb}" in out for verb in VERBS)
    assert err == "pygan: error: the following arguments are required: VERB (see `pygan --help`)\n"


@pytest.mark.parametrize("ends", [lambda: 130, lambda: (_ for _ in ()).throw(KeyboardInterrupt)])
def test_a_second_interrupt_finds_a_program_that_ends(monkeypatch, ends):
    """It would be a traceback out of Python's last acts. Of a caller's process nothing is changed."""
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(program, "_run", lambda argv: ends())
    monkeypatch.setattr(sys, "argv", ["pygan", "report", "run"])
    try:
        assert main(["report", "run"]) == 130
        assert signal.getsignal(signal.SIGINT) is before
        assert main() == 130
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
