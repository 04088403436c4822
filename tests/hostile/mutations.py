"""Seeded mutations of valid files: of the values in a json or YAML tree, of bytes, and of checkpoints."""

import copy
import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        -(2**64),
        10**40,
        0.5,
        -0.0,
        1e-300,
        1e300,
        float("nan"),
        float("inf"),
    ),
    *("", "0", "1.5", "nan", "x" * 300, "é数🦒", "\0", "\ud800", "a\nb", "../x", "/etc/passwd", "1e999", "9" * 5000),
    *([], {}, [[]], [{}], [None], {"a": 1}, {"size": [1, 1], "counts": []}, [0, 0, 1, 1], [[1, 2, 3, 4, 5, 6]]),
    *({"size": [20, 28], "counts": "00"}, {"size": [20, 28], "counts": [-1, 561]}, {"size": [], "counts": "\xff" * 9}),
)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in a tree with each of its keys."""
    rest = [tree]
    while rest:
        node = rest.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            if isinstance(node[key], dict | list):
                rest.append(node[key])


def mutate_tree(rng: random.Random, tree: Any, keys: tuple[str, ...] = ()) -> Any:
    """Return a tree of dicts and lists with one to four changes: values replaced, removed, repeated, renamed, moved."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            break
        node, key = rng.choice(places)
        change = rng.randrange(7)
        if change == 0:
            del node[key]
        elif change == 1 and isinstance(node, list):
            node.insert(rng.randrange(len(node) + 1), copy.deepcopy(node[key]))
        elif change == 2 and isinstance(node, dict):
            node[rng.choice(("", "id", "x", str(key).upper(), *keys))] = node.pop(key)
        elif change == 3:
            other, other_key = rng.choice(places)
            node[key] = copy.deepcopy(other[other_key])
        elif change == 4 and type(node[key]) in (int, float):
            node[key] = rng.choice((-node[key], node[key] * 1000, node[key] / 7, str(node[key]), [node[key]]))
        elif change == 5 and isinstance(node[key], str):
            node[key] = mutate_text(rng, node[key])
        else:
            node[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return tree


def mutate_text(rng: random.Random, text: str) -> str:
    """Return a text with a character changed, removed or added."""
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(("", "x", "\0", "é", "9", "~", '"', "\\")) + text[at + rng.randrange(2) :]


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return bytes of which some are changed, or a part is removed, repeated or replaced."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        if not data:
            break
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 100))
        change = rng.randrange(6)
        if change == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[at : at + length] = rng.randbytes(length)
        elif change == 2:
            del data[at : at + length]
        elif change == 3:
            data[at:at] = data[at : at + length]
        elif change == 4:
            data[at : at + length] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"(", b"-1", b"[", b"."))
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def mutate_json(rng: random.Random, valid: Any) -> bytes:
    """Return the bytes of a mutated json."""
    content = json.dumps(mutate_tree(rng, valid)).encode()
    return mutate_bytes(rng, content) if rng.random() < 0.15 else content


def mutate_checkpoint(rng: random.Random, valid: dict[str, Any]) -> tuple[str, bytes]:
    """Return a suffix and the bytes of a mutated checkpoint."""
    content = valid if rng.random() < 0.4 else _mutate_weights(rng, valid)
    writers: tuple[tuple[str, Callable[[dict[str, Any]], bytes]], ...] = (
        (".pth", _as_zip),
        (".pth", _as_legacy),
        (".pkl", _as_pickle),
        (".safetensors", _as_safetensors),
    )
    suffix, write = rng.choice(writers)
    try:
        data = write(content)
    except Exception:  # what the format cannot hold
        suffix, data = ".pth", _as_zip(valid)
    if content is not valid and rng.random() < 0.7:
        return suffix, data
    if suffix == ".pth" and data.startswith(b"PK") and rng.random() < 0.5:
        return suffix, _mutate_entry(rng, data)
    return suffix, mutate_bytes(rng, data)


def _mutate_weights(rng: random.Random, valid: dict[str, Any]) -> dict[str, Any]:
    content = {**mutate_tree(rng, {k: v for k, v in valid.items() if k != "model"}), "model": dict(valid["model"])}
    weights = content["model"]
    for key in rng.sample(sorted(weights), k=min(2, len(weights))):
        value = weights.pop(key)
        odd = (
            *(
                value[:0],
                value.double(),
                value.half(),
                value.to(torch.int64),
                value.flatten(),
                value[None],
                value * 1e30,
            ),
            *(value.expand(2, *value.shape), value.t() if value.ndim == 2 else value, value.bool(), value + 1j),
            *(
                value * float("nan"),
                value.to_sparse(),
                torch.tensor(1.0),
                rng.choice(ODD_VALUES),
                [value],
                {"a": value},
            ),
        )
        new_key: Any = rng.choice((key, key, key, "", key + ".x", "module." + key, 5, None, (1,), "é\0", "\ud800"))
        weights[new_key] = rng.choice(odd)
    if rng.random() < 0.2:
        content[rng.choice(("model", "state_dict", "meta", "trainer", "optimizer", "iteration"))] = rng.choice(
            ODD_VALUES
        )
    return content


def _as_zip(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _as_legacy(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _as_pickle(content: dict[str, Any]) -> bytes:
    arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in content["model"].items()}
    return pickle.dumps({**content, "model": arrays, "__author__": "x"})


def _as_safetensors(content: dict[str, Any]) -> bytes:
    tensors = {k: v.contiguous() for k, v in content["model"].items()}
    plain = {k: v for k, v in content.items() if k != "model"}
    return save(tensors, {"format": "pt", "centermask_solo": json.dumps(plain)})


def _mutate_entry(rng: random.Random, data: bytes) -> bytes:
    """Return a zip archive of which one member has mutated bytes, is missing, or is there twice."""
    source, file = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    names = source.namelist()
    chosen, change = rng.choice(names), rng.randrange(4)
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as target:
        for name in names:
            content = source.read(name)
            if name == chosen and change < 2:
                content = mutate_bytes(rng, content)
            if name != chosen or change != 2:
                target.writestr(name, content)
            if name == chosen and change == 3:
                target.writestr(name + "x", content)
    return file.getvalue()


def mutate_yaml(rng: random.Random, valid: dict[str, Any], dump: Callable[[Any], str]) -> bytes:
    """Return the bytes of a mutated YAML file."""
    keys = ("MODEL", "SOLVER", "_BASE_", "NUM_CLASSES", "VERSION", "DATASETS")
    odd = ("&a [*a]", "!!binary x", "!!set {a}", "2001-99-99", "!!int x", "<<: 5", "? [a]", "*b", "!x 5", "0o9", "%TAG")
    text = dump(mutate_tree(rng, valid, keys))
    if rng.random() < 0.2:
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = f"{lines[at].split(':')[0]}: {rng.choice(odd)}"
        text = "\n".join(lines)
    content = text.encode("utf-8", "surrogatepass")
    return mutate_bytes(rng, content) if rng.random() < 0.2 else content


def mutate_image(rng: random.Random) -> tuple[str, bytes]:
    """Return a suffix and the bytes of a mutated image of a random format."""
    forms = (("PNG", "RGB"), ("PNG", "I;16"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("GIF", "P"), ("BMP", "RGB"))
    form, mode = rng.choice((*forms, ("TIFF", "F"), ("TIFF", "RGB"), ("WEBP", "RGBA"), ("PPM", "RGB"), ("PNG", "LA")))
    pixels = np.frombuffer(rng.randbytes(16 * 12), np.uint8).reshape(12, 16)
    image = Image.fromarray(pixels.astype(np.uint16) if mode == "I;16" else pixels)
    image = image if mode == "I;16" else image.convert(mode)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = rng.randrange(12)
    options = {"exif": exif} if form in ("JPEG", "PNG", "WEBP") else {}
    image.save(file, form, **options)
    data = mutate_bytes(rng, file.getvalue())
    if form == "PNG" and rng.random() < 0.2:  # a header that claims another size
        data = data[:16] + struct.pack(">II", rng.choice((0, 1, 60_000)), rng.choice((0, 1, 60_000))) + data[24:]
    return f".{form.lower()}", data
