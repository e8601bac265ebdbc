"""Files of every format, depth and number of channels: what is read, what is written, and what is refused."""

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pygan import pixels
from pygan.data import images
from pygan.errors import UserError
from pygan.pixels import containers, ifd
from pygan.pixels.picture import Picture

H, W = 19, 23


def noise(channels, dtype=np.uint8, h=H, w=W, seed=0):
    """(h, w, channels) of a type, floats from 0 to 1."""
    drawn = np.random.default_rng(seed).random((h, w, channels))
    if np.dtype(dtype).kind == "f":
        return drawn.astype(dtype)
    return np.rint(drawn * np.iinfo(dtype).max).astype(dtype)


def pillow(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tif(array, **options):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(buffer, array, **{"metadata": None, "photometric": "minisblack", **options})
    return buffer.getvalue()


def png(header, raw, *more, end=True):
    """A PNG of (width, height, depth, colour type, interlace) and its bytes before compression."""
    w, h, depth, colour, interlace = header
    parts = [(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)), *more]
    parts += [(b"IDAT", zlib.compress(raw))] + [(b"IEND", b"")] * end
    chunks = (struct.pack(">I", len(x)) + k + x + struct.pack(">I", zlib.crc32(k + x)) for k, x in parts)
    return containers.PNG + b"".join(chunks)


def rows(array):
    """Bytes of a PNG's rows, each with filter 0."""
    stored = array.astype(array.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in stored)


def assert_one_line(error, name):
    assert "\n" not in str(error)
    assert name in str(error)


# What is written is read again, bit for bit.


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("png", np.uint8), ("png", np.uint16), ("webp", np.uint8),
        ("tiff", np.uint8), ("tiff", np.uint16), ("tiff", np.float32),
    ],
)  # fmt: skip
def test_what_is_written_without_loss_is_read_again(kind, dtype, channels, alpha):
    both = noise(channels + alpha, dtype)
    picture = Picture(both[:, :, :channels], both[:, :, channels] if alpha else None)
    again = pixels.read(pixels.encode(picture, kind))
    expected = pixels.with_channels(picture.pixels, 3) if kind == "webp" else picture.pixels
    assert again.pixels.dtype == dtype
    np.testing.assert_array_equal(again.pixels, expected)
    if alpha:
        np.testing.assert_array_equal(again.alpha, picture.alpha)
    else:
        assert again.alpha is None


@pytest.mark.parametrize("kind", ["tiff", "npy"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_number_of_channels_is_kept(kind, channels, dtype):
    values = noise(channels, dtype)
    again = pixels.read(pixels.encode(Picture(values), kind))
    assert again.alpha is None
    assert again.pixels.dtype == dtype
    np.testing.assert_array_equal(again.pixels, values)


def test_five_channels_and_alpha_are_kept_by_a_tiff():
    values = noise(6, np.uint16)
    again = pixels.read(pixels.encode(Picture(values[:, :, :5], values[:, :, 5]), "tiff"))
    np.testing.assert_array_equal(again.pixels, values[:, :, :5])
    np.testing.assert_array_equal(again.alpha, values[:, :, 5])


def test_others_read_what_is_written():
    """A judge that is not ours: OpenCV for 16-bit PNG, tifffile for TIFF, Pillow for JPEG."""
    deep = noise(4, np.uint16)
    file = pixels.encode(Picture(deep[:, :, :3], deep[:, :, 3]), "png")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(file, np.uint8), -1)[:, :, [2, 1, 0, 3]], deep)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(pixels.encode(Picture(deep), "tiff"))), deep)
    soft = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    with Image.open(io.BytesIO(pixels.encode(Picture(soft), "jpg"))) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - soft).max() < 8
    lossy = [len(pixels.encode(Picture(noise(3)), "jpg", quality=q)) for q in (10, 95)]
    assert lossy[0] < lossy[1] / 2


@pytest.mark.parametrize(
    ("kind", "picture", "says"),
    [
        ("jpg", Picture(noise(3, np.uint16)), "cannot hold 16 bits"),
        ("jpg", Picture(noise(3), noise(1)[:, :, 0]), "cannot hold transparency"),
        ("webp", Picture(noise(3, np.uint16)), "cannot hold 16 bits"),
        ("png", Picture(noise(3, np.float32)), "cannot hold float"),
        ("png", Picture(noise(5)), "cannot hold 5 channels"),
        ("webp", Picture(np.zeros((2, 16400, 3), np.uint8)), "16400x2"),
        ("gif", Picture(noise(3)), "png, jpg, webp, tiff, npy"),
    ],
)
def test_a_kind_that_cannot_hold_a_picture_says_so(kind, picture, says):
    with pytest.raises(UserError, match=says):
        pixels.encode(picture, kind)


def test_the_kind_of_its_own_is_png_where_that_fits():
    assert pixels.kind_for(np.uint16, 3, alpha=True) == "png"
    assert pixels.kind_for(np.float32, 3, alpha=False) == "tiff"
    assert pixels.kind_for(np.uint8, 12, alpha=False) == "tiff"


# What other programs write.


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_eight_bits_are_what_they_were(kind, mode):
    """The pixels that training sees of the same file, from before there was anything but 8 bits."""
    if (kind, mode) == ("GIF", "CMYK"):
        pytest.skip("Pillow writes none")
    image = Image.fromarray(noise(3)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(noise(1, seed=1)[:, :, 0]))
    try:
        file = pillow(image, kind)
    except OSError:
        pytest.skip(f"Pillow writes no {kind} of mode {mode}")
    got = pixels.read(file)
    with Image.open(io.BytesIO(file)) as opened:
        expected = np.asarray(images.eight_bit(opened, 3)).astype(int)
    laid = pixels.with_channels(pixels.on_white(got), 3).astype(int)
    assert np.abs(laid - expected).max() <= (1 if got.alpha is not None else 0)


def test_palettes_keep_their_indices_and_grey_its_alpha():
    image = Image.fromarray(noise(3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=9)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(pixels.read(pillow(image, kind)).indices, np.asarray(image))
    both = noise(2)
    got = pixels.read(pillow(Image.fromarray(both, "LA")))
    np.testing.assert_array_equal(got.pixels, both[:, :, :1])
    np.testing.assert_array_equal(got.alpha, both[:, :, 1])


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("filtered", [False, True])
def test_sixteen_bit_png_is_not_cut_to_eight(colour, channels, filtered):
    values = noise(channels, np.uint16)
    if filtered and colour in (0, 2, 6):  # libpng chooses among all filters
        bgr = {0: values[:, :, 0], 2: values[:, :, ::-1], 6: values[:, :, [2, 1, 0, 3]] if channels == 4 else None}
        file = cv2.imencode(".png", np.ascontiguousarray(bgr[colour]))[1].tobytes()
    else:
        file = png((W, H, 16, colour, 0), rows(values))
    got = pixels.read(file)
    np.testing.assert_array_equal(got.pixels, values[:, :, : 1 if colour in (0, 4) else 3])
    if colour >= 4:
        np.testing.assert_array_equal(got.alpha, values[:, :, -1])


def test_a_transparent_colour_of_sixteen_bits_is_exact():
    values = noise(3, np.uint16)
    values[0, 0] = (1, 2, 3)
    values[0, 1] = (1, 2, 4)
    got = pixels.read(png((W, H, 16, 2, 0), rows(values), (b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    np.testing.assert_array_equal(got.pixels, values)
    assert got.alpha[0, 0] == 0
    assert (got.alpha.ravel()[1:] == 65535).all()
    grey = noise(1, np.uint16)
    grey[3, 3] = 77
    got = pixels.read(png((W, H, 16, 0, 0), rows(grey), (b"tRNS", struct.pack(">H", 77))))
    np.testing.assert_array_equal(got.alpha == 0, grey[:, :, 0] == 77)


def test_interlaced_sixteen_bits():
    values = noise(3, np.uint16, 8, 8)
    raw = b""
    for top, down, left, right in ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)):  # fmt: skip  # noqa: E501
        raw += rows(values[top::down, left::right])
    np.testing.assert_array_equal(pixels.read(png((8, 8, 16, 2, 1), raw)).pixels, values)
    with pytest.raises(UserError, match="cut short"):
        pixels.read(png((8, 8, 16, 2, 1), raw[:-10]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "how",
    [
        {}, {"planarconfig": "contig"}, {"planarconfig": "separate"}, {"tile": (16, 16)},
        {"tile": (16, 16), "planarconfig": "separate"}, {"compression": "zlib"}, {"rowsperstrip": 5},
        {"compression": "zlib", "rowsperstrip": 4, "planarconfig": "separate"}, {"rowsperstrip": 1},
        {"compression": "zlib", "predictor": True}, {"bigtiff": True},
        {"compression": "zlib", "predictor": True, "tile": (16, 16)},
    ],
    ids=str,
)  # fmt: skip
def test_tiff_of_every_layout(how, dtype, order):
    values = noise(5, dtype)
    how = {"planarconfig": "contig", **how}
    laid = np.ascontiguousarray(values.transpose(2, 0, 1)) if how["planarconfig"] == "separate" else values
    try:
        file = tif(laid, byteorder=order, extrasamples=["unspecified"] * 4, **how)
    except (ValueError, NotImplementedError, KeyError, AttributeError) as error:
        pytest.skip(f"tifffile alone does not write it: {error}")
    got = pixels.read(file)
    assert got.alpha is None
    assert got.pixels.dtype == (dtype if np.dtype(dtype).kind == "u" else np.float32)
    np.testing.assert_array_equal(got.pixels, values.astype(got.pixels.dtype))


@pytest.mark.parametrize("compression", [1, 5, 8, 32946, 32773])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_tiff_that_libtiff_compressed(compression, channels, dtype):
    """OpenCV writes with a predictor: of differences for whole numbers, of bytes for floats."""
    values = noise(channels, dtype)
    order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
    for predictor in (1, 2, 3):
        if predictor == 3 and dtype != np.float32:
            continue
        options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
        ok, file = cv2.imencode(".tif", np.ascontiguousarray(values[:, :, order]), options)
        assert ok
        got = pixels.read(file.tobytes())
        np.testing.assert_array_equal(got.pixels, values[:, :, :3])
        if channels == 4:
            np.testing.assert_array_equal(got.alpha, values[:, :, 3])


@pytest.mark.parametrize("kind", ["tiff_lzw", "jpeg", "tiff_adobe_deflate", "group4", "packbits", None])
def test_tiff_that_pillow_compressed(kind):
    for mode in ("1", "L", "RGB", "RGBA", "CMYK", "P"):
        image = Image.fromarray(noise(3)).convert(mode)
        try:
            file = pillow(image, "TIFF", compression=kind)
        except (OSError, ValueError):
            continue
        with Image.open(io.BytesIO(file)) as opened:
            expected = np.asarray(images.eight_bit(opened, 3))
        np.testing.assert_array_equal(pixels.with_channels(pixels.on_white(pixels.read(file)), 3), expected)


def test_what_alpha_is_the_file_says():
    values = noise(4, np.uint16)
    values[:, :, :3] = (values[:, :, :3].astype(np.uint64) * values[:, :, 3:] // 65535).astype(np.uint16)
    named = {"photometric": "rgb", "planarconfig": "contig"}
    beside = pixels.read(tif(values, extrasamples=["unassalpha"], **named))
    np.testing.assert_array_equal(beside.alpha, values[:, :, 3])
    np.testing.assert_array_equal(beside.pixels, values[:, :, :3])
    multiplied = pixels.read(tif(values, extrasamples=["assocalpha"], **named))
    again = np.rint(multiplied.pixels.astype(float) * multiplied.alpha[:, :, None] / 65535)
    assert np.abs(again - values[:, :, :3]).max() <= 1
    infrared = pixels.read(tif(values, extrasamples=["unspecified"], **named))
    assert infrared.alpha is None
    np.testing.assert_array_equal(infrared.pixels, values)


def test_white_may_be_zero_in_a_tiff():
    values = noise(1, np.uint16)
    got = pixels.read(tif(values[:, :, 0], photometric="miniswhite"))
    np.testing.assert_array_equal(got.pixels, 65535 - values)


def test_of_several_pages_the_first(capsys):
    first, second = noise(1, np.uint16), noise(1, np.uint16, seed=1)
    file = tif(np.stack([first[:, :, 0], second[:, :, 0]]))
    np.testing.assert_array_equal(pixels.read(file, name="pages.tif").pixels, first)
    assert "pages.tif has several pages" in capsys.readouterr().err


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png8", "png16", "webp", "tif8", "tif16", "tiff32", "tif12"])
def test_every_picture_is_upright(kind, turn):
    """As Pillow turns the same values where it can hold them, else as it turns their first channel's rank."""
    exif = Image.Exif()
    exif[ifd.ORIENTATION] = turn
    values = {"png16": noise(3, np.uint16), "tif16": noise(3, np.uint16), "tiff32": noise(3, np.float32)}
    given = values.get(kind, noise(12 if kind == "tif12" else 3))
    if kind == "jpg":
        given = np.tile(np.linspace(0, 255, 24).astype(np.uint8)[:, None, None], (1, 16, 3))
        file = pillow(Image.fromarray(given), "JPEG", quality=100, exif=exif)
    elif kind in ("png8", "webp"):
        file = pillow(Image.fromarray(given), kind[:4].strip("8").upper(), exif=exif, lossless=True)
    elif kind == "png16":
        file = png((W, H, 16, 2, 0), rows(given), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    else:
        file = tif(given, planarconfig="contig", photometric="minisblack" if kind == "tif12" else "rgb",
                   extratags=[(ifd.ORIENTATION, 3, 1, turn, True)])  # fmt: skip
    place = Image.fromarray(np.arange(given.shape[0] * given.shape[1], dtype=np.int32).reshape(given.shape[:2]))
    steps = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
             7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
    turned = np.asarray(place.transpose(Image.Transpose[steps[turn]]) if turn > 1 else place)
    expected = given.reshape(-1, given.shape[2])[turned]
    got = pixels.read(file).pixels
    assert got.shape == expected.shape
    assert np.abs(got.astype(float) - expected).max() <= (4 if kind == "jpg" else 0)


def test_sixteen_bit_ppm_and_floats_of_pfm():
    values = noise(3, np.uint16)
    file = b"P6\n# a comment\n%d %d\n65535\n" % (W, H) + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(pixels.read(file).pixels, values)
    twelve = (values >> 4).astype(">u2")
    got = pixels.read(b"P6 %d %d 4095\n" % (W, H) + twelve.tobytes()).pixels
    assert np.abs(got - np.rint(twelve.astype(float) * 65535 / 4095)).max() <= 1
    with pytest.raises(UserError, match="cut short"):
        pixels.read(file[:-1])


def test_whole_numbers_of_more_bits_stay_if_they_fit():
    values = noise(1, np.uint16)[:, :, 0]
    np.testing.assert_array_equal(pixels.read(tif(values.astype(np.int32))).pixels[:, :, 0], values)
    with pytest.raises(UserError, match="no fixed range"):
        pixels.read(tif(values.astype(np.int32) * 70000))
    np.testing.assert_array_equal(pixels.of_image(Image.fromarray(values)).pixels[:, :, 0], values)


# Floats.


def test_floats_beyond_one_ask_for_their_range():
    values = noise(3, np.float32) * 1000
    with pytest.raises(UserError, match=r"--float-range LO,HI"):
        pixels.read(tif(values, photometric="rgb"), name="x.tif")
    got = pixels.read(tif(values, photometric="rgb"), float_range=(0.0, 1000.0))
    np.testing.assert_allclose(got.pixels, values / 1000, atol=1e-6)
    got = pixels.read(tif(values, photometric="rgb"), float_range=(250.0, 750.0))
    assert (got.pixels.min(), got.pixels.max()) == (0, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_is_refused(bad):
    values = noise(3, np.float32)
    values[3, 4, 1] = bad
    for file in (tif(values, photometric="rgb"), npy(values)):
        for float_range in (None, (0.0, 1.0)):
            with pytest.raises(UserError, match="NaN or infinite"):
                pixels.read(file, float_range=float_range)


# NumPy files.


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("order", ["C", "F", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, bool])
@pytest.mark.parametrize("channels", [0, 1, 3, 12])
def test_npy_of_every_type(dtype, channels, order):
    values = noise(max(channels, 1), np.uint8 if dtype is bool else dtype)
    values = values > 127 if dtype is bool else values
    values = values if channels else values[:, :, 0]
    stored = np.asfortranarray(values) if order == "F" else values
    stored = stored.astype(stored.dtype.newbyteorder(">")) if order == ">" else stored
    got = pixels.read(npy(stored)).pixels
    assert got.shape == (H, W, max(channels, 1))
    expected = values * np.uint8(255) if dtype is bool else values.astype(got.dtype)
    np.testing.assert_array_equal(got, expected.reshape(got.shape))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 4), np.int64), "no fixed range"),
        (np.zeros((4, 4), complex), "no fixed range"),
        (np.array([["a"]]), "no fixed range"),
        (np.zeros((4,)), "is no picture"),
        (np.zeros((1, 2, 3, 4)), "is no picture"),
        (np.zeros((0, 4)), "is no picture"),
        (np.array([[{}]], dtype=object), "no fixed range"),
        (np.zeros((4, 4), [("a", "u1")]), "no fixed range"),
    ],
)
def test_npy_that_is_no_picture(array, says):
    with pytest.raises(UserError, match=says):
        pixels.read(npy(array, allow_pickle=True))


def test_an_npy_that_lies_about_its_size_is_refused_before_anything_is_allocated():
    good = npy(np.zeros((4, 4), np.uint8))
    for file in (good[:-1], good + b"x", good.replace(b"(4, 4)", b"(9, 9)"), good[:20], b"\x93NUMPY\xff\xff"):
        with pytest.raises(UserError, match="cannot read"):
            pixels.read(file)
    huge = good.replace(b"(4, 4), }                      ", b"(99999999999, 99999999999), }  ")
    assert huge != good
    with pytest.raises(UserError, match="bytes of values belong"):
        pixels.read(huge)
    with pytest.raises(UserError, match="more than 8 pixels"):
        pixels.read(good, most_pixels=8)
    with pytest.raises(UserError, match="of 12 channels"):
        pixels.read(npy(np.zeros((4, 4, 12), np.uint8)), most_pixels=16)


# What is cut short, damaged or hostile.


def files():
    """One of each kind, by name."""
    image, deep = Image.fromarray(noise(3)), noise(3, np.uint16)
    return {
        "png": pillow(image), "png16": pixels.encode(Picture(deep)), "jpg": pillow(image, "JPEG"),
        "progressive.jpg": pillow(image, "JPEG", progressive=True), "webp": pillow(image, "WEBP"),
        "gif": pillow(image, "GIF"), "bmp": pillow(image, "BMP"), "ppm": pillow(image, "PPM"),
        "jp2": pillow(image, "JPEG2000"), "tif": pillow(image, "TIFF"), "tif16": tif(deep, photometric="rgb"),
        "deflated.tif": pixels.encode(Picture(deep), "tiff"), "npy": npy(deep),
        "lzw.tif": cv2.imencode(".tif", deep)[1].tobytes(), "lzw8.tif": pillow(image, "TIFF", compression="tiff_lzw"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(files()))
def test_a_file_that_is_cut_short_is_refused(kind, capfd):
    whole = files()[kind]
    read = pixels.read(whole)
    assert read.size == (H, W)
    for length in sorted({len(whole) * k // 40 for k in range(40)} | {len(whole) - k for k in (1, 2, 3, 9, 13)}):
        try:
            got = pixels.read(whole[:length], name="x")
        except UserError as error:
            assert_one_line(error, "x")
        else:  # a directory or a mark behind the pixels may be lost, but no pixel
            np.testing.assert_array_equal(got.pixels, read.pixels)
    assert not capfd.readouterr().err  # no decoder talks beside us


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_was_cut_and_closed_is_refused(progressive):
    """libjpeg fills what is missing with grey and says nothing that Pillow would hand on."""
    for mode in ("L", "RGB"):
        image = Image.fromarray(noise(3, h=64, w=64)).convert(mode)
        whole = pillow(image, "JPEG", progressive=progressive)
        assert pixels.read(whole).size == (64, 64)
        scan = whole.index(b"\xff\xda") + 14
        for part in (0.01, 0.1, 0.5) if progressive else (0.01, 0.1, 0.5, 0.9):
            with pytest.raises(UserError, match="cut short"):
                pixels.read(whole[: scan + int((len(whole) - scan) * part)] + b"\xff\xd9")


def test_a_jpeg_that_ends_in_grey_is_read():
    grey = np.full((64, 64, 3), 128, np.uint8)
    grey[:20] = noise(3, h=20, w=64)
    assert pixels.read(pillow(Image.fromarray(grey), "JPEG")).size == (64, 64)
    assert pixels.read(pillow(Image.fromarray(grey[30:]), "JPEG", progressive=True)).size == (34, 64)


def test_a_png_with_a_wrong_checksum_is_refused():
    for kind in ("png", "png16"):
        whole = bytearray(files()[kind])
        whole[whole.index(b"IDAT") + 8] ^= 1
        with pytest.raises(UserError, match="checksum of its IDAT"):
            pixels.read(bytes(whole))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_whose_data_are_too_few_is_refused(depth):
    raw = rows(noise(3, np.uint8 if depth == 8 else np.uint16))
    assert pixels.read(png((W, H, depth, 2, 0), raw)).size == (H, W)
    for fewer in (raw[:-1], raw[: len(raw) // 2], b""):
        with pytest.raises(UserError, match="cannot read"):
            pixels.read(png((W, H, depth, 2, 0), fewer))


def test_sizes_are_looked_at_before_decoding():
    bombs = {
        "png": png((60000, 60000, 8, 2, 0), b""),
        "png16": png((60000, 60000, 16, 2, 0), b""),
    }
    for name, file in bombs.items():
        with pytest.raises(UserError, match="60000x60000 pixels: more than"):
            pixels.read(file, name=name)
    for kind, file in files().items():
        with pytest.raises(UserError, match="more than 100 pixels"):
            pixels.read(file, most_pixels=100, name=kind)
    for file in (pillow(Image.new("L", (1, 30))), npy(np.zeros((1, 30)))):
        with pytest.raises(UserError, match="at least 2x2"):
            pixels.read(file)


def test_the_limit_is_the_one_that_is_asked_for(monkeypatch):
    """Neither that of training nor Pillow's, which is of a whole process: tiles go beyond both."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", H * W // 3)
    for kind, file in files().items():
        if kind != "webp":  # whose decoder asks Pillow's limit itself
            assert pixels.read(file, name=kind).size == (H, W)
    side = 9500
    assert side * side > images.MAX_PIXELS
    large = npy(np.zeros((side, side), np.uint8))
    with pytest.raises(UserError, match="more than 89,478,485 pixels"):
        pixels.read(large)
    assert pixels.read(large, most_pixels=side * side).size == (side, side)


def test_tiles_that_are_larger_than_their_picture_are_counted():
    values = noise(1, np.uint8, h=20, w=16)[:, :, 0]
    file = bytearray(tif(values, compression="zlib", tile=(16, 16)))
    at = _entry(file, 322)
    file[at : at + 12] = struct.pack("<HHII", 322, 4, 1, 1 << 22)  # one tile is not too large, both are
    with pytest.raises(UserError, match="4194304x32 pixels: more than"):
        pixels.read(bytes(file))


def test_a_strip_that_would_fill_the_memory_is_unpacked_no_further_than_the_picture():
    values = noise(1, np.uint16)[:, :, 0]
    whole = tif(values, compression="zlib")
    found = ifd.first(whole)
    bomb = zlib.compress(values.tobytes() + bytes(300_000_000))
    (old,) = found.integers(279)
    file = bytearray(whole + bomb)
    for tag, value in ((273, len(whole)), (279, len(bomb))):
        at = _entry(file, tag)
        file[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    assert old != len(bomb)
    import tracemalloc

    tracemalloc.start()
    try:
        got = pixels.read(bytes(file)).pixels[:, :, 0]
    except UserError:
        got = None
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    if got is not None:
        np.testing.assert_array_equal(got, values)


def _entry(file, tag):
    """Where the entry of a tag is in the first directory of a little-endian TIFF."""
    start = struct.unpack_from("<I", file, 4)[0]
    count = struct.unpack_from("<H", file, start)[0]
    return next(k for k in range(start + 2, start + 2 + 12 * count, 12) if struct.unpack_from("<H", file, k)[0] == tag)


def test_tags_that_share_bytes_are_refused():
    """65,535 tags of all the file each: Pillow would copy them, here 6 GB."""
    body = bytes(100_000)
    entries = b"".join(struct.pack("<HHII", 40000 + k % 20000, 7, len(body), 8) for k in range(65535))
    hostile = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", 65535) + entries + bytes(4)
    with pytest.raises(UserError, match="reaches beyond the file"):
        pixels.read(hostile)
    # And in EXIF data, which nobody needs to see a picture
    exif = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 5000)
    exif += b"".join(struct.pack("<HHII", k, 7, 60000, 8) for k in range(5000))
    plain = pillow(Image.fromarray(noise(3)), "JPEG")
    jpeg = plain[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif + plain[2:]
    np.testing.assert_array_equal(pixels.read(jpeg).pixels, pixels.read(plain).pixels)


def test_texts_are_never_unpacked():
    bomb = b"a\0\0" + zlib.compress(bytes(50_000_000))
    values = noise(3)
    file = png((W, H, 8, 2, 0), rows(values), *[(b"zTXt", bomb)] * 20, (b"iCCP", bomb))
    np.testing.assert_array_equal(pixels.read(file).pixels, values)
    deep = noise(3, np.uint16)
    file = png((W, H, 16, 2, 0), rows(deep), *[(b"zTXt", bomb)] * 20, (b"iCCP", bomb))
    np.testing.assert_array_equal(pixels.read(file).pixels, deep)


def test_a_jpeg_of_scans_without_end_is_refused():
    whole = pillow(Image.fromarray(noise(3)), "JPEG", progressive=True)
    parts = list(containers.jpeg_parts(whole))
    scan = next(whole[begin:end] for marker, begin, end in reversed(parts) if marker == 0xDA)
    with pytest.raises(UserError, match="scans"):
        pixels.read(whole[:-2] + scan * 200 + whole[-2:])


@pytest.mark.parametrize("data", [b"", b"\0", b"no picture at all", b"\xff\xd8\xff", b"II*\0", b"RIFF0000WEBP", b"BM",
                                  b"GIF89a", containers.PNG, b"P6 ", b"%!PS-Adobe-3.0 EPSF-3.0\n"])  # fmt: skip
def test_what_is_no_picture_is_one_line(data):
    with pytest.raises(UserError, match="cannot read it"):
        pixels.read(data, name="it")


def test_random_bytes_behind_every_mark_are_one_line(capfd):
    rng = np.random.default_rng(5)
    for kind, whole in files().items():
        for _ in range(40):
            bad = bytearray(whole)
            for at in rng.integers(0, len(bad), 3):
                bad[at] = rng.integers(256)
            try:
                pixels.read(bytes(bad), name=kind)
            except UserError as error:
                assert_one_line(error, kind)
        with pytest.raises(UserError):
            pixels.read(whole[:12] + rng.bytes(300), name=kind)
    capfd.readouterr()


def test_only_ordinary_files_are_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    for path, says in (
        (tmp_path / "pipe.png", "no ordinary file"),
        (tmp_path, "directory"),
        (tmp_path / "x", "no such"),
    ):
        with pytest.raises(UserError, match=says):
            pixels.read(path)


def test_threads_read_the_same():
    whole = list(files().items()) * 4
    expected = {kind: pixels.read(file).pixels for kind, file in whole}
    with ThreadPoolExecutor(8) as pool:
        for (kind, _), got in zip(whole, pool.map(lambda one: pixels.read(one[1]).pixels, whole), strict=True):
            np.testing.assert_array_equal(got, expected[kind])


def test_libtiff_prints_nothing_of_its_own(capfd):
    """What is wrong with a file is one line of pygan's, and no other."""
    random, buffer = np.random.default_rng(0), io.BytesIO()
    noise = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "TIFF", compression="tiff_lzw")
    refused = 0
    for _ in range(40):
        damaged = bytearray(buffer.getvalue())
        damaged[50:60] = random.integers(0, 256, 10, dtype=np.uint8).tobytes()
        with contextlib.suppress(UserError):
            pixels.read(bytes(damaged))
            continue
        refused += 1
    assert refused > 0
    assert capfd.readouterr() == ("", "")
