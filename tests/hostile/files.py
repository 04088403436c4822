"""Files as they should not be: each made from a valid file's content, under a name with its suffix."""

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CODE = 'MODEL:\n  WEIGHTS: !!python/object/apply:os.system ["touch {}"]\n'
HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 99\n"


class Hostile(NamedTuple):
    """A kind of file.

    Attributes:
        kind: Column of the table.
        name: What is special about it.
        make: Returns the path of such a file, made in a folder from a suffix and the content of a valid file.
        works: Whether it is used as if nothing was special.
    """

    kind: str
    name: str
    make: Callable[[Path, str, bytes], str]
    works: bool = False


def named(name: str) -> Callable[[Path, str, bytes], str]:
    """Valid content under a name."""
    return lambda folder, suffix, content: _write(folder / f"{name}{suffix}", content)


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path, str, bytes], str]:
    """Another content under a plain name."""
    return lambda folder, suffix, content: _write(folder / f"culprit{suffix}", change(content))


def _write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def _linked(target: str) -> Callable[[Path, str, bytes], str]:
    def make(folder: Path, suffix: str, content: bytes) -> str:
        path = folder / f"culprit{suffix}"
        path.symlink_to(target.format(suffix=suffix))
        _write(folder / f"target{suffix}", content)
        return str(path)

    return make


def _absent(folder: Path, suffix: str, content: bytes) -> str:
    return str(folder / f"culprit{suffix}")


def _below_a_file(folder: Path, suffix: str, content: bytes) -> str:
    return _write(folder / f"culprit{suffix}", content) + f"/x{suffix}"


def _folder(folder: Path, suffix: str, content: bytes) -> str:
    (folder / f"culprit{suffix}").mkdir()
    return str(folder / f"culprit{suffix}")


def _pipe(folder: Path, suffix: str, content: bytes) -> str:
    os.mkfifo(folder / f"culprit{suffix}")
    return str(folder / f"culprit{suffix}")


def _sparse(folder: Path, suffix: str, content: bytes) -> str:
    path = _write(folder / f"culprit{suffix}", content)
    os.truncate(path, 2**40)
    return path


def _denied(folder: Path, suffix: str, content: bytes) -> str:
    path = _write(folder / f"culprit{suffix}", content)
    os.chmod(path, 0)
    return path


def _noise(content: bytes) -> bytes:
    return np.random.default_rng(1).bytes(2000)


def _image(content: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4)).save(file, "PNG")
    return file.getvalue()


# Of every command that reads a file
ANY = [
    Hostile("missing", "absent", _absent),
    Hostile("missing", "below a file", _below_a_file),
    Hostile("missing", "long name", lambda f, s, c: str(f / ("culprit" + "x" * 300 + s))),
    Hostile("directory", "directory", _folder),
    Hostile("special", "pipe", _pipe),
    Hostile("special", "link to nothing", _linked("nothing")),
    Hostile("special", "link to itself", _linked("culprit{suffix}")),
    Hostile("special", "link", _linked("target{suffix}"), works=True),
    Hostile("special", "link to a file that fails", _linked("/proc/self/mem")),
    Hostile("special", "link to a terabyte of zeros", _sparse),
    Hostile("name", "bytes that are not UTF-8", named(os.fsdecode(b"caf\xe9")), works=True),
    Hostile("name", "several scripts", named("données 数据 🦒"), works=True),
    Hostile("name", "spaces and quotes", named('it\'s a "b" $(c) %s {0}'), works=True),
    Hostile("name", "line break", named("a\nb"), works=True),
    Hostile("content", "empty", changed(lambda content: b"")),
    Hostile("content", "noise", changed(_noise)),
    Hostile("content", "zeros", changed(lambda content: bytes(1000))),
    Hostile("content", "web page", changed(lambda content: HTML)),
    Hostile("content", "pointer of Git LFS", changed(lambda content: LFS)),
    Hostile("content", "compressed", changed(gzip.compress)),
    Hostile("content", "code", changed(lambda content: b"import os\nos.system('true')\n")),
    *(
        Hostile("truncated", f"{percent} %", changed(lambda content, p=percent: content[: len(content) * p // 100]))
        for percent in (2, 50, 95)
    ),
]
if os.geteuid():
    ANY.append(Hostile("special", "without rights", _denied))

# Of commands that read text
TEXT = [
    Hostile("encoding", "UTF-16", changed(lambda content: content.decode().encode("utf-16"))),
    Hostile(
        "encoding", "Latin-1", changed(lambda content: content.replace(b"cat", b"caf\xe9").replace(b"2", b"\xe9", 1))
    ),
    Hostile(
        "encoding", "zero bytes", changed(lambda content: content.replace(b"\n", b"\0").replace(b" ", b"\0") + b"\0")
    ),
    Hostile("nested", "lists", changed(lambda content: b"[" * 100_000)),
    Hostile("nested", "lists that end", changed(lambda content: b"[" * 100_000 + b"]" * 100_000)),
    Hostile("wrong type", "number", changed(lambda content: b"5")),
    Hostile("wrong type", "text", changed(lambda content: b'"words"')),
    Hostile("wrong type", "null", changed(lambda content: b"null")),
    Hostile("wrong type", "list of lists", changed(lambda content: b"[[[]]]")),
    Hostile("wrong type", "image", changed(_image)),
]
