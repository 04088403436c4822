import os
import stat

import pytest

from centermask_solo.utils.errors import ConfigError
from centermask_solo.utils.files import atomic_write, make_folder


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


def test_a_folder_that_cannot_be_created_is_an_error_of_the_user(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(ConfigError, match=rf"the folder {folder} cannot be created \(.+\): choose another path"):
            make_folder(folder)
    with pytest.raises(ConfigError, match="cannot be created"), atomic_write(tmp_path / "file" / "c"):
        pass
