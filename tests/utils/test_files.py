import os
import stat

import pytest

from centermask_solo.utils.files import atomic_write


def test_writes_text_and_bytes_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as file:
        file.write("é")
    assert path.read_bytes() == "é".encode()
    with atomic_write(path, "wb") as file:
        file.write(b"\0")
    assert path.read_bytes() == b"\0"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_error_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_has_the_permissions_of_an_ordinary_file(tmp_path):
    with atomic_write(tmp_path / "a"), open(tmp_path / "b", "w"):
        pass
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)
