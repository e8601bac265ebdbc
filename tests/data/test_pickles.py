"""Pickles are read as Python would read plain data in them, and nothing in them is ever run."""

import pickle
import pickletools
import struct
import time
import tracemalloc

import numpy as np
import pytest

from pygan.data.pickles import load_pickle
from pygan.errors import UserError

PLAIN = {
    "numbers": [0, 1, -1, 255, 256, 65535, -(2**31), 2**40, -(2**80), 0.5, -1e300, float("inf")],
    "words": ["", "a", "äöü €", b"", b"\x00\xff\n", "two\nlines"],
    "nested": ([], (), {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [None, True, False], {"a": {"b": [1]}}),
    "arrays": [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">f4"),
        np.zeros((0, 5), dtype=np.float16),
        np.array(7, dtype=np.int64),
        np.array([True, False]),
        np.array([b"ab", b"c"]),
        np.array(["ab", "ä"]),
    ],
    "scalars": [np.float32(1.5), np.int16(-3), np.uint8(200)],
}


def same(left, right):
    if isinstance(right, np.ndarray):
        return type(left) is np.ndarray and left.dtype == right.dtype.newbyteorder("=") and np.array_equal(left, right)
    if isinstance(right, dict):
        return type(left) is dict and list(left) == list(right) and all(same(left[k], right[k]) for k in right)
    if isinstance(right, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.fixture
def read(tmp_path):
    """A function from the bytes of a pickle to what is read from a file of them."""

    def load(content):
        path = tmp_path / "x.pickle"
        path.write_bytes(content)
        return load_pickle(path)

    return load


@pytest.fixture
def refusal(read):
    """A function from the bytes of a pickle to the one line that it is refused with."""

    def refuse(content):
        with pytest.raises(UserError) as caught:
            read(content)
        assert "\n" not in str(caught.value)
        assert "x.pickle" in str(caught.value)
        return str(caught.value)

    return refuse


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol(read, protocol):
    assert same(read(pickle.dumps(PLAIN, protocol=protocol)), PLAIN)


def test_arrays_of_objects_become_lists(read):
    inner = np.arange(3.0)
    ragged = np.empty(2, dtype=object)
    ragged[:] = [inner, ["x"]]
    found = read(pickle.dumps(ragged, protocol=2))
    assert type(found) is list
    assert same(found, [inner, ["x"]])


def test_what_is_shared_stays_shared(read):
    array = np.arange(4)
    found = read(pickle.dumps([array, array, {"again": [array]}]))
    assert found[0] is found[1] is found[2]["again"][0]


# What Python 2 wrote: text as bytes (S, T and U), arrays with their pixels in such text.


def python_2_array(array, binary):
    """The instructions for one array as Python 2's cPickle wrote them, protocol 2 (binary) or 0."""
    data = array.tobytes()
    shape = "".join(f"I{n}\n" for n in array.shape).encode()
    code = array.dtype.str[1:].encode()
    if binary:
        text = lambda b: b"U" + bytes([len(b)]) + b if len(b) < 256 else b"T" + struct.pack("<i", len(b)) + b  # noqa: E731
    else:
        text = lambda b: b"S" + repr(b)[1:].encode() + b"\n"  # noqa: E731
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + text(b"b") + b"tR(I1\n(" + shape + b"t"
        + b"cnumpy\ndtype\n(" + text(code) + b"I0\nI1\ntR(I3\n" + text(b"|" if array.itemsize == 1 else b"<")
        + b"NNNI-1\nI-1\nI0\ntb" + b"I00\n" + text(data) + b"tb"
    )  # fmt: skip


@pytest.mark.parametrize("binary", [False, True])
def test_what_python_2_wrote(read, binary):
    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    numbers = np.linspace(-1, 1, 300, dtype=np.float32).reshape(10, 30)
    text = b"T\x03\x00\x00\x00caf" if binary else b"S'caf\\xe9'\n"
    parts = (python_2_array(pixels, binary), python_2_array(numbers, binary), text, b"L12L\n", b"I01\n")
    content = (b"\x80\x02" if binary else b"") + b"(l" + b"".join(part + b"a" for part in parts)
    assert same(read(content + b"."), [pixels, numbers, "caf" if binary else "café", 12, True])
    if binary:  # the instructions above are what Python itself understands
        assert same(pickle.loads(content + b".", encoding="latin1"), read(content + b"."))


# -- nothing is run ---------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def planted(tmp_path):
    import os
    import subprocess

    marker = tmp_path / "was-run"
    return marker, {
        "os.system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(exec, f"open({str(marker)!r}, 'w')"),
        "open": Call(open, str(marker), "w"),
        "subprocess": Call(subprocess.check_call, ["touch", str(marker)]),
        "getattr": Call(getattr, [], "append"),
        "import": Call(__import__, "os"),
        "numpy.load": Call(np.load, str(marker)),
        "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {marker}"))),
    }


NAMES = ["os.system", "eval", "exec", "open", "subprocess", "getattr", "import", "numpy.load", "pickle.loads"]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_called(tmp_path, refusal, name, protocol):
    marker, calls = planted(tmp_path)
    line = refusal(pickle.dumps([1, {"images": calls[name]}], protocol=protocol))
    assert "is refused: it names" in line
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"(cos\nsystem\nS'true'\nR.",  # wrong order of the stack, still a name
        b"cposix\nsystem\n(S'true'\ntR.",
        b"\x8c\x05posix\x8c\x06system\x93(S'true'\ntR.",
        b"cnumpy.f2py\nrun_main\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\ndtype.__class__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.names\x93.",
        b"ccollections\nOrderedDict\n)R.",
        b"ccopy_reg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
        b"c__builtin__\nobject\n.",
    ],
)
def test_only_the_names_of_arrays_are_known(refusal, content):
    assert "is refused: it names" in refusal(content)


@pytest.mark.parametrize(
    "code",
    [b"i", b"o", b"P", b"Q", b"\x81", b"\x92", b"\x82", b"\x83", b"\x84", b"\x8f", b"\x90", b"\x91", b"\x97", b"\x98"],
)
def test_instructions_that_make_objects_are_unknown(refusal, code):
    """INST, OBJ, PERSID, BINPERSID, NEWOBJ, NEWOBJ_EX, EXT1, EXT2, EXT4, sets and buffers out of band."""
    assert code.decode("latin-1") in {op.code for op in pickletools.opcodes}
    assert "none that plain data needs" in refusal(b"(cnumpy\nndarray\n)" + code + b"os\nsystem\n0000.")


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\ndtype\n}S'__setstate__'\nI1\nsb.",  # attributes of what is named
        b"cnumpy\nndarray\n(N}S'x'\nI1\nstb.",
        b"]}S'append'\nI1\nsb.",  # of a list
        b"cnumpy\nndarray\n(I5\ntR.",  # ndarray itself is not called
        b"cnumpy\nndarray\n.",
        b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",  # without a state
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\ntR.",
        b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(S'f4,O'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(S'S99999999999'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n((lS'x'\naI0\nI1\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"c_codecs\nencode\n(V\\u20ac\nS'latin1'\ntR.",
        b"cbuiltins\nbytes\n(I1000000000000\ntR.",
        b"cbuiltins\nlist\n((lI1\natR.",
    ],
)
def test_tricks_with_what_is_known(refusal, content):
    assert "no pickle of pictures or text, or damaged" in refusal(content)


def array_state(shape, code, order, data, more=b"NNNI-1\nI-1\nI0\n"):
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + shape + b"cnumpy\ndtype\n(S'"
        + code + b"'\nI0\nI1\ntR(I3\nS'" + order + b"'\n" + more + b"tbI00\n" + data + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        array_state(b"(I1000000000000\nt", b"f8", b"<", b"S'abc'\n"),
        array_state(b"(I-1\nt", b"u1", b"|", b"S'abc'\n"),
        array_state(b"(I2\nt", b"u1", b"|", b"S'abc'\n"),
        array_state(b"(" + b"I1\n" * 40 + b"t", b"u1", b"|", b"S'a'\n"),
        array_state(b"I3\n", b"u1", b"|", b"S'abc'\n"),
        array_state(b"(I3\nt", b"u1", b"?", b"S'abc'\n"),
        array_state(b"(I3\nt", b"u1", b"|", b"S'abc'\n").replace(b"ndarray", b"dtype"),  # of another class
        array_state(b"(I3\nt", b"u1", b"|", b"(lI1\na"),
        array_state(b"(I1\nt", b"O", b"|", b"S'12345678'\n"),  # addresses instead of objects
        array_state(b"(I2\nt", b"O", b"|", b"(lI1\na"),
        array_state(b"(I1\nt", b"U1", b"<", b"S'\\xff\\xff\\xff\\xff'\n"),
        array_state(b"(I3\nt", b"u1", b"|", b"S'abc'\n", b"N(S'f'\nt(dI-1\nI-1\nI0\n"),
    ],
)
def test_arrays_that_are_not_what_they_say(refusal, content):
    assert "damaged" in refusal(content)


def test_the_state_helper_makes_a_good_array(read):
    assert same(read(array_state(b"(I3\nt", b"u1", b"|", b"S'abc'\n")), np.frombuffer(b"abc", dtype=np.uint8))


# -- nothing grows ----------------------------------------------------------------------------------------------------


def peak_mib(refusal, content):
    tracemalloc.start()
    started = time.monotonic()
    try:
        refusal(content)
        return tracemalloc.get_traced_memory()[1] / 2**20, time.monotonic() - started
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"T\xff\xff\xff\x7f" + b"x" * 100,
        b"B\xff\xff\xff\xff" + b"x" * 100,
        b"\x8e" + b"\xff" * 8 + b"x",
        b"\x96" + b"\x00" * 5 + b"\x10\x00\x00",
        b"\x8d" + b"\xff" * 7 + b"\x7f",
        b"T\xff\xff\xff\xff.",
        b"I" + b"9" * 500_000 + b"\n.",
        b"r\xff\xff\xff\xff.",
        b"j\xff\xff\xff\xff.",
        b"(" * 100_000,
    ],
)
def test_sizes_that_are_not_there(refusal, content):
    mib, seconds = peak_mib(refusal, content)
    assert mib < 8
    assert seconds < 5


def test_a_small_file_cannot_become_many_arrays(refusal):
    """One text of 1 MB, made into an array of another byte order a thousand times: a gigabyte, if it were let."""
    size = 1 << 20
    kind = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb"
    one = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I%d\ntg1\nI00\ng0\ntba" % (
        size // 8
    )
    content = b"T" + struct.pack("<i", size) + b"\0" * size + b"p0\n0" + kind + b"p1\n0(l" + one * 1000 + b"."
    mib, _ = peak_mib(refusal, content)
    assert mib < 32


def test_a_tree_of_references_stays_small(read):
    """Lists of the same list twice, 60 deep: 2^60 leaves for whoever copies them one by one."""
    content = b"]p0\n" + b"".join(b"(lg%d\nag%d\nap%d\n" % (k, k, k + 1) for k in range(60)) + b"."
    found, depth = read(content), 0
    while found:
        assert found[0] is found[1]
        found, depth = found[0], depth + 1
    assert depth == 60


@pytest.mark.parametrize("content", [b"]p0\ng0\na.", b"(dp0\nS'a'\ng0\ns.", b"(lp0\n(g0\nta."])
def test_what_contains_itself(refusal, content):
    assert "contains itself" in refusal(content)


def test_an_array_that_contains_itself(refusal):
    content = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntRp0\n(I1\n(I1\ntcnumpy\ndtype\n(S'O'\nI0\n"
        b"I1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n(lg0\natb."
    )
    assert "contains itself" in refusal(content)


def test_deep_nesting(read):
    found, depth = read(b"]" * 50_000 + b"a" * 49_999 + b"."), 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 49_999


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_truncated_anywhere(refusal, protocol):
    content = pickle.dumps(PLAIN, protocol=protocol)
    for end in range(1, len(content) - 1, 7):
        assert "damaged" in refusal(content[:end])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_random_damage_is_data_or_one_line(tmp_path, protocol):
    """Whatever a byte becomes, the result is plain data or a UserError: no other exception, no call."""
    good = pickle.dumps(PLAIN, protocol=protocol)
    random = np.random.Generator(np.random.Philox(protocol))
    path, refused = tmp_path / "x.pickle", 0
    for _ in range(400):
        content = bytearray(good)
        for place in random.integers(0, len(good), random.integers(1, 4)):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            load_pickle(path)
        except UserError:
            refused += 1
    assert refused > 80


@pytest.mark.parametrize(
    "content",
    [b".", b"0.", b"a.", b"]a.", b"t.", b"I1\nI2\ns.", b"}]I1\ns.", b"}I1\nI2\ns.", b"(I1\nd.", b"g7\n.", b"h\x05.",
     b"\x80\x09.", b"Ix\n.", b"Fx\n.", b"Sabc\n.", b"S'\\x'\n.", b"V\\u12\n.", b"X\x02\0\0\0\xff\xff.", b"hello",
     b"\xff" * 50, b"R.", b"b.", b"I1\nI1\nb.", b"(."],
)  # fmt: skip
def test_nonsense(refusal, content):
    assert "damaged" in refusal(content)


def test_empty_missing_and_folder(tmp_path):
    (tmp_path / "empty.pickle").write_bytes(b"")
    for name, words in (("empty.pickle", "is empty"), ("none.pickle", "no such file"), (".", "cannot read")):
        with pytest.raises(UserError, match=words):
            load_pickle(tmp_path / name)
