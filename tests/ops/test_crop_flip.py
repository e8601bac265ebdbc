import numpy as np
import pytest
import torch

from pygan.data.feeds import normalise
from pygan.ops.crop_flip import check_draws, crop_flip, crop_flip_ref

IMPLS = ("native", "ref")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# items, h, w, c, crop: whole vectors, odd rows, one pixel, no room to move
SHAPES = [(5, 36, 40, 3, 32), (4, 13, 11, 3, 11), (3, 9, 9, 1, 8), (2, 8, 16, 4, 8), (3, 5, 7, 2, 1), (1, 6, 6, 3, 6)]


def a_set(items, h, w, c, device="cpu"):
    """Pictures that hold every value of a byte, where there is room for it."""
    pixels = (torch.arange(items * h * w * c) * 97 + 13 * torch.randint(0, 256, (1,))) % 256
    return pixels.to(torch.uint8).view(items, h, w, c).to(device)


def draw_for(pixels, n, crop):
    """n draws, among them both corners and both directions."""
    items, h, w, _ = pixels.shape
    most = torch.tensor([items, h - crop + 1, w - crop + 1, 2])
    draws = (torch.rand(n, 4) * most).int()
    draws[0] = 0
    draws[-1] = most - 1
    return draws.to(pixels.device)


def windows(pixels, draws, crop):
    """By hand: uint8 (n, crop, crop, c)."""
    pixels, cut = pixels.cpu().numpy(), []
    for item, top, left, flip in draws.tolist():
        window = pixels[item, top : top + crop, left : left + crop]
        cut.append(window[:, ::-1] if flip else window)
    return torch.from_numpy(np.stack(cut))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_formula(shape, impl, dtype):
    *size, crop = shape
    pixels = a_set(*size)
    draws = draw_for(pixels, 7, crop)
    (got,) = crop_flip([pixels], [draws], crop, dtype=dtype, impl=impl)
    cut = windows(pixels, draws, crop)
    assert torch.equal(got, normalise(cut).to(dtype))  # bit for bit
    exact = cut.double().permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=2 * torch.finfo(dtype).eps)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert got.dtype == dtype


@pytest.mark.parametrize("impl", IMPLS)
def test_ends_of_the_range(impl):
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    draws = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 1]], dtype=torch.int32)
    assert crop_flip([pixels], [draws], 1, impl=impl)[0].flatten().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("impl", IMPLS)
def test_several_sets_share_a_draw_or_have_their_own(impl):
    sets = [a_set(4, 12, 12, 3), a_set(4, 12, 12, 1), a_set(6, 10, 15, 4), a_set(2, 9, 9, 2)]
    shared, own = draw_for(sets[0], 5, 8), draw_for(sets[3], 2, 8)
    draws = [shared, shared, draw_for(sets[2], 3, 8), own]
    for pixels, draw, got in zip(sets, draws, crop_flip(sets, draws, 8, impl=impl), strict=True):
        assert torch.equal(got, normalise(windows(pixels, draw, 8)))


@pytest.mark.parametrize("impl", IMPLS)
def test_out_is_written_in_place(impl):
    sets = [a_set(4, 12, 12, 3), a_set(4, 12, 12, 1)]
    draws = [draw_for(sets[0], 5, 8)] * 2
    out = [
        torch.full((5, c, 8, 8), torch.nan, dtype=torch.bfloat16).to(memory_format=torch.channels_last) for c in (3, 1)
    ]
    got = crop_flip(sets, draws, 8, dtype=torch.bfloat16, out=out, impl=impl)
    assert all(a is b for a, b in zip(got, out, strict=True))
    expected = crop_flip_ref(sets, draws, 8, dtype=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_to_draw(impl):
    draws = torch.zeros(0, 4, dtype=torch.int32)
    assert crop_flip([a_set(2, 8, 8, 3)], [draws], 8, impl=impl)[0].shape == (0, 3, 8, 8)


MISFITS = [(5, 0, 0, 0), (-1, 0, 0, 0), (0, 5, 0, 0), (0, -1, 0, 0), (0, 0, 9, 0), (0, 0, -1, 0), (0, 0, 0, 2)]
MISFITS += [(0, 0, 0, -1), (2**31 - 1, 2**31 - 1, 2**31 - 1, 1), (-(2**31), -(2**31), -(2**31), 0)]


@pytest.mark.parametrize("misfit", MISFITS)
def test_draws_in_main_memory_are_checked(misfit):
    pixels = a_set(5, 36, 40, 3)
    draws = torch.tensor([(4, 4, 8, 1), misfit, misfit], dtype=torch.int32)
    item, top, left, flip = misfit
    message = (
        f"crop_flip: draw 1 {{item {item}, top {top}, left {left}, flip {flip}}} does not fit a set of 5 pictures of "
        "36 x 40 pixels, crop_size 32"
    )
    for call in (lambda: crop_flip([pixels], [draws], 32), lambda: check_draws(draws, pixels.shape, 32)):
        with pytest.raises(ValueError, match="crop_flip: draw 1") as error:
            call()
        assert str(error.value) == message
    check_draws(draws[:1], pixels.shape, 32)


def test_a_draw_that_does_not_fit_is_nan_and_reads_nothing():
    """What a GPU does, where nobody can look at the draws: kernel and reference agree, and the neighbours are right."""
    pixels = a_set(5, 36, 40, 3)
    draws = torch.tensor([(4, 4, 8, 1), *MISFITS, (0, 0, 0, 0)], dtype=torch.int32)
    (expected,) = crop_flip_ref([pixels], [draws], 32)
    got = torch.empty_like(expected)
    torch.ops.pygan.crop_flip([pixels], [draws], 32, [got])
    for value in (expected, got):
        assert value[1:-1].isnan().all()
        assert torch.equal(value[[0, -1]], normalise(windows(pixels, draws[[0, -1]], 32)))


def test_an_empty_set_is_nan():
    pixels, draws = torch.empty(0, 8, 8, 3, dtype=torch.uint8), torch.zeros(2, 4, dtype=torch.int32)
    (expected,) = crop_flip_ref([pixels], [draws], 8)
    got = torch.zeros_like(expected)
    torch.ops.pygan.crop_flip([pixels], [draws], 8, [got])
    assert expected.isnan().all()
    assert got.isnan().all()


def test_same_bits_for_any_number_of_threads():
    pixels = a_set(3, 300, 300, 3)
    draws = draw_for(pixels, 4, 256)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(crop_flip([pixels], [draws], 256, impl="native")[0])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_opcheck():
    sets = [a_set(4, 12, 12, 3), a_set(4, 12, 12, 1)]
    draws = [draw_for(pixels, 5, 8) for pixels in sets]
    out = [torch.empty(5, c, 8, 8).to(memory_format=torch.channels_last) for c in (3, 1)]
    torch.library.opcheck(torch.ops.pygan.crop_flip.default, (sets, draws, 8, out))


GOOD = {"sets": [torch.zeros(2, 8, 9, 3, dtype=torch.uint8)], "draws": [torch.zeros(2, 4, dtype=torch.int32)]}
GOOD["crop_size"] = 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": []}, "sets must be a sequence of 1 to 4 tensors"),
        ({"sets": GOOD["sets"] * 5}, "sets must be a sequence of 1 to 4 tensors"),
        ({"sets": GOOD["sets"][0]}, "sets must be a sequence"),
        ({"draws": GOOD["draws"][0]}, "draws must be a sequence of 1 tensors"),
        ({"draws": GOOD["draws"] * 2}, "draws must be a sequence of 1 tensors"),
        ({"crop_size": 0}, "crop_size must be at least 1, got 0"),
        ({"crop_size": 9}, r"sets\[0\] must have pictures of at least 9 x 9 pixels, got \[2, 8, 9, 3\]"),
        ({"sets": [torch.zeros(2, 8, 9, 3)]}, r"sets\[0\] must be contiguous uint8.*got torch.float32 \[2, 8, 9, 3\]"),
        ({"sets": [GOOD["sets"][0][:, :, 1:]]}, r"sets\[0\] must be contiguous uint8"),
        ({"draws": [torch.zeros(2, 4, dtype=torch.int64)]}, r"draws\[0\] must be contiguous int32 of shape \(n, 4\)"),
        ({"draws": [torch.zeros(2, 3, dtype=torch.int32)]}, r"draws\[0\] must be contiguous int32.*got.*\[2, 3\]"),
        ({"draws": [GOOD["draws"][0].to("meta")]}, "sets and draws must be on one device"),
        ({"dtype": torch.float64}, "dtype must be float32, bfloat16 or float16, got torch.float64"),
        ({"out": [torch.empty(2, 3, 8, 8)]}, r"out\[0\] must be channels_last of shape.*\[2, 3, 8, 8\]"),
        ({"out": []}, "out must be a sequence of 1 tensors"),
        (
            {"out": [torch.empty(2, 3, 8, 8, memory_format=torch.channels_last)], "dtype": torch.bfloat16},
            r"out\[0\] must be torch.bfloat16 on cpu, got torch.float32",
        ),
        ({"impl": "fast"}, "impl must be 'auto', 'native' or 'ref'"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=f"crop_flip: {message}"):
        crop_flip(**GOOD | changes)


NHWC = {"memory_format": torch.channels_last}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": []}, "sets must hold 1 to 4 tensors, got 0"),
        ({"draws": []}, "draws and out must hold one tensor for each of the 1 sets, got 0 and 1"),
        ({"crop_size": 0}, "crop_size must be at least 1"),
        ({"crop_size": 9}, r"sets\[0\] must have pictures of at least 9 x 9"),
        ({"sets": [torch.zeros(2, 8, 9, 3).int()]}, r"sets\[0\] must be contiguous uint8"),
        ({"draws": [torch.zeros(2, 4)]}, r"draws\[0\] must be contiguous int32"),
        ({"out": [torch.empty(2, 3, 8, 8)]}, r"out\[0\] must be channels_last"),
        ({"out": [torch.empty(2, 4, 8, 8, **NHWC)[:, :3]]}, r"out\[0\] must be channels_last without gaps"),
        ({"out": [torch.empty(3, 3, 8, 8, **NHWC)]}, r"out\[0\] must have shape .* = \[2, 3, 8, 8\], got \[3, 3, 8, 8"),
        ({"out": [torch.empty(2, 3, 8, 8, **NHWC).double()]}, "out must be float32, bfloat16 or float16"),
    ],
)
def test_errors_of_the_native_op(changes, message):
    arguments = GOOD | {"out": [torch.empty(2, 3, 8, 8, **NHWC)]} | changes
    with pytest.raises(RuntimeError, match=f"crop_flip: {message}"):
        torch.ops.pygan.crop_flip(*(arguments[name] for name in ("sets", "draws", "crop_size", "out")))


# ---- on a GPU


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (9, 286, 286, 3, 256), (9, 286, 286, 1, 255)])
def test_cuda_equals_the_cpu_bit_for_bit(shape, dtype):
    *size, crop = shape
    sets = [a_set(*size), a_set(*size)]
    draws = [draw_for(pixels, 7, crop) for pixels in sets]
    out = [torch.full((7, size[3], crop, crop), torch.nan, dtype=dtype, device="cuda").to(**NHWC) for _ in sets]
    got = crop_flip([s.cuda() for s in sets], [d.cuda() for d in draws], crop, dtype=dtype, out=out, impl="native")
    for pixels, draw, value in zip(sets, draws, got, strict=True):
        assert torch.equal(value.cpu(), normalise(windows(pixels, draw, crop)).to(dtype))
    again = crop_flip([s.cuda() for s in sets], [d.cuda() for d in draws], crop, dtype=dtype, impl="ref")
    assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))


@pytest.mark.cuda
def test_cuda_set_of_more_than_two_to_the_31_bytes():
    pixels = torch.zeros(11500, 256, 256, 3, dtype=torch.uint8, device="cuda")  # 2.1 GiB
    pixels[-1] = a_set(1, 256, 256, 3)[0]
    draws = torch.tensor([[len(pixels) - 1, 0, 0, 1]], dtype=torch.int32, device="cuda")
    (got,) = crop_flip([pixels], [draws], 256, impl="native")
    assert torch.equal(got[0], normalise(pixels[-1:].flip(2))[0])


@pytest.mark.cuda
@pytest.mark.parametrize("impl", IMPLS)
def test_cuda_a_draw_that_does_not_fit_is_nan(impl):
    pixels = a_set(5, 36, 40, 3)
    draws = torch.tensor([(4, 4, 8, 1), *MISFITS, (0, 0, 0, 0)], dtype=torch.int32)
    (got,) = crop_flip([pixels.cuda()], [draws.cuda()], 32, impl=impl)
    torch.testing.assert_close(got.cpu(), crop_flip_ref([pixels], [draws], 32)[0], rtol=0, atol=0, equal_nan=True)


@pytest.mark.cuda
def test_cuda_graph_reads_the_draws_of_each_replay(capture):
    sets = [a_set(20, 286, 286, 3, "cuda"), a_set(20, 286, 286, 1, "cuda")]
    static = draw_for(sets[0], 4, 256)
    graph, captured = capture(lambda: crop_flip(sets, [static, static], 256, impl="native"))
    for _ in range(3):
        static.copy_(draw_for(sets[0], 4, 256))
        eager = crop_flip(sets, [static, static], 256, impl="native")
        for value in captured:
            value.fill_(torch.nan)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))
