"""Class maps: the exact small case, palettes, and where they come from."""

import numpy as np
import pytest
import torch

from pygan import segmentation
from pygan.data import facades
from pygan.errors import UserError
from pygan.segmentation import CITYSCAPES, FACADES, Palette


def painted(colours):
    """uint8 (h, w, 3) -> (1, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.asarray(colours, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def test_the_scores_of_the_specification():
    hist = torch.tensor([[3, 1], [2, 4]])
    scores = segmentation.scores(hist)
    assert scores["pixel_accuracy"] == pytest.approx(0.7, abs=1e-6)
    assert scores["class_accuracy"] == pytest.approx(0.708333, abs=1e-6)
    assert scores["class_iou"] == pytest.approx(0.535714, abs=1e-6)
    assert segmentation.class_ious(hist).tolist() == pytest.approx([0.5, 0.571429], abs=1e-6)


def test_an_absent_class_lowers_the_mean_unless_it_is_ignored():
    hist = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    counted, ignored = segmentation.scores(hist), segmentation.scores(hist, ignore_absent=True)
    assert counted["class_accuracy"] == pytest.approx(2 / 3 * 0.7083333)
    assert counted["class_iou"] == pytest.approx(2 / 3 * 0.5357143)
    assert ignored == segmentation.scores(hist[:2, :2])


def test_a_class_that_is_only_guessed_has_no_accuracy_but_an_iou():
    scores = segmentation.scores(torch.tensor([[3, 1], [0, 0]]), ignore_absent=True)
    assert scores["class_accuracy"] == pytest.approx(0.75)
    assert scores["class_iou"] == pytest.approx(0.375)


def test_nothing_at_all_is_zero():
    zero = torch.zeros(3, 3)
    assert (
        set(segmentation.scores(zero).values()) == set(segmentation.scores(zero, ignore_absent=True).values()) == {0.0}
    )


def test_rows_are_the_truth_and_ids_outside_do_not_count():
    truth = torch.tensor([[[0, 0, 0, 0, 1], [-1, 2, 255, 1, 1]]])
    guess = torch.tensor([[[0, 0, 0, 1, 0], [1, 0, 0, 0, 1]]])
    assert segmentation.histogram(truth, guess, 2).tolist() == [[3, 1], [2, 1]]
    with pytest.raises(ValueError, match=r"a guess is a class 0\.\.1"):
        segmentation.histogram(truth, guess + 1, 2)
    with pytest.raises(ValueError, match="one shape"):
        segmentation.histogram(truth, guess[:, :1], 2)


@pytest.mark.parametrize("palette", [FACADES, CITYSCAPES], ids=lambda palette: palette.name)
def test_every_colour_is_its_class_also_a_little_off(palette):
    colours = palette.colours.astype(int)[None]
    off = np.clip(colours + np.random.default_rng(0).integers(-4, 5, colours.shape), 0, 255)
    ids = list(range(len(palette.classes)))
    for table in (colours, off):
        assert segmentation.ids(painted(table), palette).flatten().tolist() == ids
        assert segmentation.ids(painted(table), palette, truth=True).flatten().tolist() == ids


def test_unlabelled_pixels_are_no_truth_but_a_guess_is_always_a_class():
    image = painted([[facades.PALETTE[0], facades.PALETTE[3]]])
    assert segmentation.ids(image, FACADES, truth=True).flatten().tolist() == [-1, 2]
    assert segmentation.ids(image, FACADES).flatten().tolist()[0] in range(12)


def test_planes_are_classes():
    planes = torch.full((1, 5, 2, 2), -1.0)
    planes[0, 3] = 1.0
    palette = segmentation.find([planes])
    assert palette.name == "label planes"
    assert segmentation.ids(planes, palette).unique().tolist() == [3]
    assert len(palette.classes) == 5


def test_palettes_are_found_by_their_colours():
    random = np.random.default_rng(0)
    house = painted(facades.PALETTE[random.integers(1, 13, (16, 16))])
    street = painted(CITYSCAPES.colours[random.integers(0, 19, (16, 16))])
    few = painted(np.array([(10, 20, 30), (200, 100, 0), (9, 9, 9)])[random.integers(0, 3, (16, 16))])
    photo = painted(random.integers(0, 256, (16, 16, 3)))
    assert segmentation.find([house]) is FACADES
    assert segmentation.find([street]) is CITYSCAPES
    own = segmentation.find([few[:, :, :8], few[:, :, 8:]])
    assert own.colours.tolist() == [[9, 9, 9], [10, 20, 30], [200, 100, 0]]
    assert segmentation.ids(few, own).unique().tolist() == [0, 1, 2]
    assert segmentation.find([photo]) is None
    assert segmentation.find([photo], FACADES) is None
    assert segmentation.find([torch.zeros(1, 3, 4, 4)]) is None  # one colour is no class map
    assert segmentation.find([]) is None
    assert segmentation.find([torch.zeros(1, 2, 4, 4)]) is None  # a and b of Lab


def test_a_palette_that_was_named_is_taken_where_jpeg_has_blurred_the_map():
    random = np.random.default_rng(0)
    clean = facades.PALETTE[random.integers(1, 13, (32, 32))].astype(int)
    blurred = painted(np.clip(clean + random.integers(-15, 16, clean.shape), 0, 255))
    assert segmentation.find([blurred]) is None
    assert segmentation.find([blurred], FACADES) is FACADES


def test_grey_class_maps():
    grey = torch.tensor([0, 127, 255]).view(1, 1, 1, 3) / 127.5 - 1
    own = segmentation.find([grey])
    assert own.colours.tolist() == [[0, 0, 0], [127, 127, 127], [255, 255, 255]]
    assert segmentation.ids(grey, own).flatten().tolist() == [0, 1, 2]


def test_a_palette_from_a_file(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("# roads\n128 64 128 road and track\n0, 0, 0 unlabelled\n\n70 70 70\n")
    palette = segmentation.read_palette(str(file))
    assert palette.classes == ("road and track", "1")
    assert palette.colours.tolist() == [[128, 64, 128], [70, 70, 70]]
    assert palette.unlabelled.tolist() == [[0, 0, 0]]
    assert segmentation.read_palette("facades") is FACADES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n3 4 5\n", "line 1"),
        ("1 2 3\n300 0 0\n", "line 2"),
        ("red 0 0\n", "line 1"),
        ("1 2 3 a\n", "two classes"),
        ("1 2 3 a\n1 2 3 b\n", "different colours"),
        ("", "two classes"),
    ],
)
def test_a_wrong_palette_is_refused_in_one_line(tmp_path, text, message):
    file = tmp_path / "p.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        segmentation.read_palette(str(file))
    assert "\n" not in str(error.value)


def test_a_palette_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(UserError, match="facades, cityscapes"):
        segmentation.read_palette(str(tmp_path / "none.txt"))
    file = tmp_path / "binary"
    file.write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="no text"):
        segmentation.read_palette(str(file))
    with pytest.raises(UserError, match="no text"):
        segmentation.read_palette(str(tmp_path))


def test_a_palette_is_a_plain_value():
    assert Palette("p", np.zeros((2, 3), np.uint8), ("a", "b")).unlabelled.shape == (0, 3)
