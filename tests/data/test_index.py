"""Every file is checked once, again when it changes, and bad ones are named."""

import os

import pytest

from pygan.data import index
from pygan.data.index import cache_file, examine, good_files, index_files, list_images
from pygan.errors import UserError


@pytest.fixture
def counted(monkeypatch):
    """The paths that were really opened."""
    seen = []
    monkeypatch.setattr(index, "examine", lambda path: seen.append(path) or examine(path))
    return seen


@pytest.fixture
def folder(tmp_path, picture):
    root = tmp_path / "set"
    for i in range(4):
        picture(root / f"{i}.png", seed=i)
    return root


def test_a_second_look_opens_nothing(folder, counted):
    first = index_files(folder, list_images(folder))
    assert len(counted) == 4
    assert index_files(folder, list_images(folder)) == first
    assert len(counted) == 4
    entry = first[folder / "0.png"]
    assert (entry.format, entry.mode, entry.width, entry.height, entry.bits) == ("PNG", "RGB", 64, 32, 8)


def test_a_changed_file_is_looked_at_again(folder, counted, picture):
    index_files(folder, list_images(folder))
    counted.clear()
    picture(folder / "1.png", width=48, seed=9)
    os.utime(folder / "2.png", ns=(1, 1))  # touched
    entries = index_files(folder, list_images(folder))
    assert sorted(counted) == [folder / "1.png", folder / "2.png"]
    assert entries[folder / "1.png"].width == 48


def test_bad_files_are_looked_at_again_every_time(folder, counted, picture):
    (folder / "4.png").write_bytes(b"")
    index_files(folder, list_images(folder))
    counted.clear()
    assert index_files(folder, list_images(folder))[folder / "4.png"].why == "empty file (0 bytes)"
    assert counted == [folder / "4.png"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "of another version", "files": {}}'])
def test_a_damaged_cache_is_made_anew(folder, counted, content):
    index_files(folder, list_images(folder))
    cache_file(folder).write_text(content)
    counted.clear()
    index_files(folder, list_images(folder))
    assert len(counted) == 4
    index_files(folder, list_images(folder))
    assert len(counted) == 4


def test_an_unwritable_cache_is_survived_with_one_line(folder, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert len(index_files(folder, list_images(folder))) == 4
    assert capsys.readouterr().err.count("cannot keep the picture index") == 1


def test_what_counts_as_a_picture(folder, picture):
    picture(folder / "deep" / "er" / "5.JPG")
    (folder / "notes.txt").write_text("no picture")
    (folder / "._0.png").write_bytes(b"a file manager's")
    (folder / ".hidden").mkdir()
    picture(folder / ".hidden" / "6.png")
    (folder / "deep" / "loop").symlink_to(folder)
    names = [str(p.relative_to(folder)) for p in list_images(folder)]
    assert names == ["0.png", "1.png", "2.png", "3.png", "deep/er/5.JPG"]


def test_bad_files_stop_unless_skipped(folder, capsys):
    for i in range(5):
        (folder / f"bad{i}.jpg").write_bytes(b"")
    entries = index_files(folder, list_images(folder))
    with pytest.raises(UserError) as caught:
        good_files(folder, entries, skip_bad=False)
    line = str(caught.value)
    assert "5 of 9 pictures" in line
    assert "bad0.jpg (empty file (0 bytes)), bad1.jpg" in line
    assert "and 2 more" in line
    assert "pygan data check" in line
    assert "--skip-bad" in line
    assert "\n" not in line
    assert good_files(folder, entries, skip_bad=True) == {folder / f"{i}.png" for i in range(4)}
    assert "5 of 9 pictures" in capsys.readouterr().err
