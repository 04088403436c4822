import errno
import io
import os
import pickle
import re
import stat

import pytest
import torch
from PIL import Image

from centermask_solo.utils import files
from centermask_solo.utils.errors import ConfigError
from centermask_solo.utils.files import atomic_write, claim_file, claim_folder, make_folder, remove_temporary_files


@pytest.mark.parametrize("durable", [True, False])
def test_writes_text_and_bytes_into_a_new_folder(tmp_path, durable):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path, durable=durable) as file:
        file.write("é")
    assert path.read_bytes() == "é".encode()
    with atomic_write(path, "wb", durable=durable) as file:
        file.write(b"\0")
    assert path.read_bytes() == b"\0"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_error_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    with pytest.raises(FileNotFoundError, match="absent"), atomic_write(path), open(tmp_path / "absent"):
        pass  # an error of reading is not one of writing
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


WRITERS = {
    "text": ("w", lambda file: file.write("new " * 9)),
    "more than a buffer": ("w", lambda file: file.write("new " * 99_999)),
    "pickle": ("wb", lambda file: pickle.dump(list(range(99_999)), file)),
    "checkpoint": ("wb", lambda file: torch.save({"a": torch.zeros(99_999)}, file)),
    "picture": ("wb", lambda file: Image.new("RGB", (500, 500)).save(file, format="PNG")),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path, monkeypatch, writer):
    class FullDisk(files._Raw):
        def __init__(self, descriptor, mode):
            os.close(descriptor)
            super().__init__("/dev/full", "wb")

    if not os.path.exists("/dev/full"):

        def write(self, data):
            self.failure = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self.failure

        FullDisk = type("FullDisk", (files._Raw,), {"write": write})
    monkeypatch.setattr(files, "_Raw", FullDisk)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path = tmp_path / "file"
    path.write_text("old")
    mode, write_to = WRITERS[writer]
    message = re.escape(f"{path} cannot be written (No space left on device): free some space")
    with pytest.raises(ConfigError, match=message), atomic_write(path, mode) as file:
        write_to(file)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_encoders_write_through_the_file(tmp_path):
    """Otherwise a full disk would be noticed by none of them in the same way."""
    with atomic_write(tmp_path / "a", "wb") as file, pytest.raises(io.UnsupportedOperation):
        file.fileno()


def test_names_as_long_as_names_may_be(tmp_path):
    for name in ("a" * 255, "é" * 127):
        with atomic_write(tmp_path / name) as file:
            file.write(name)
        assert (tmp_path / name).read_text() == name


def test_what_is_no_ordinary_file_is_not_replaced(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be written \(it is a folder\)"), atomic_write(tmp_path):
        pass
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="not an ordinary file"), atomic_write(tmp_path / "pipe"):
            pass
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("function", ["mkstemp", "replace"])
def test_a_folder_without_rights_is_one_line(tmp_path, monkeypatch, function):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    monkeypatch.setattr({"mkstemp": files.tempfile, "replace": os}[function], function, refuse)
    message = r"a\.txt cannot be written \(Permission denied\)"
    with pytest.raises(ConfigError, match=message), atomic_write(tmp_path / "a.txt") as file:
        file.write("new")
    assert os.listdir(tmp_path) == []


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


def test_temporary_files_are_known_by_their_names(tmp_path):
    kept = ["model.pth", ".hidden.tmp", "a.abcdefgh.tmp", ".cache.ABCDEFGH.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    left = []
    for name in ("model_final.pth", "a" * 255):
        with pytest.raises(RuntimeError), atomic_write(tmp_path / name):
            (temporary,) = {*os.listdir(tmp_path)} - {*kept, *left}
            left.append(temporary)
            (tmp_path / temporary).rename(tmp_path / "moved")
            raise RuntimeError
        (tmp_path / "moved").rename(tmp_path / temporary)
    assert remove_temporary_files(tmp_path) == sorted(left)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    assert remove_temporary_files(tmp_path / "absent") == []


def test_an_output_file_is_no_input_and_does_not_exist(tmp_path):
    (tmp_path / "in.json").touch()
    (tmp_path / "link.json").symlink_to(tmp_path / "in.json")
    os.link(tmp_path / "in.json", tmp_path / "twin.json")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("in.json", "link.json", "twin.json", "folder/in.json"):
        with pytest.raises(ConfigError, match=f"{name} is an input, which would be lost"):
            claim_file(tmp_path / name, [tmp_path / "other.json", tmp_path / "in.json"], overwrite=True)
    claim_file(tmp_path / "out.json", [tmp_path / "in.json"])
    (tmp_path / "out.json").touch()
    with pytest.raises(ConfigError, match=r"out\.json exists already: choose another name, or replace it with --over"):
        claim_file(tmp_path / "out.json", [tmp_path / "in.json"])
    claim_file(tmp_path / "out.json", [tmp_path / "in.json"], overwrite=True)
    with pytest.raises(ConfigError, match=r"cannot be written \(it is a folder\): choose another path"):
        claim_file(tmp_path, overwrite=True)


def test_an_output_folder_has_neither_inputs_nor_other_results(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    inputs = [tmp_path / "images" / "1.png"]
    for name in ("images", "link"):
        with pytest.raises(ConfigError, match=r"the input .*images/1\.png is in the output folder .*: choose another"):
            claim_folder(tmp_path / name, ["*.json"], inputs, overwrite=True)
    with pytest.raises(ConfigError, match=r"the input .*images is in the output folder"):
        claim_folder(tmp_path / "link", ["*.json"], [tmp_path / "images"], overwrite=True)
    for name in (".", "images/out", "images_out", "new"):
        claim_folder(tmp_path / name, ["*.json"], inputs)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").touch()
    claim_folder(tmp_path / "new", ["*.json"], inputs)
    (tmp_path / "new" / "a.json").touch()
    with pytest.raises(ConfigError, match=r"new holds the results of another run, such as a\.json: choose another"):
        claim_folder(tmp_path / "new", ["*.jpg", "*.json"], inputs)
    claim_folder(tmp_path / "new", ["*.json"], inputs, overwrite=True)
