"""Arrays on disk: what is kept, within a limit, and what a damaged file does."""

import logging

import numpy as np
import pytest

from centermask_solo.utils.array_cache import SUFFIX, ArrayCache
from centermask_solo.utils.errors import ConfigError

ARRAY = np.arange(12, dtype=np.float16).reshape(3, 4)  # 24 bytes, and 128 of NumPy's header


def files(folder):
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_what_is_kept_is_found_in_another_run(tmp_path):
    first = ArrayCache(tmp_path / "cache", 1000)
    assert first.get("a") is None and first.put("a", ARRAY)
    second = ArrayCache(tmp_path / "cache", 1000)
    found = second.get("a")
    assert found.dtype == np.float16 and np.array_equal(found, ARRAY)
    assert (first.misses, first.hits, second.misses, second.hits) == (1, 0, 0, 1)
    assert second.bytes == first.bytes == files(tmp_path / "cache")[0].stat().st_size


def test_names_may_be_paths_and_arrays_empty(tmp_path):
    cache = ArrayCache(tmp_path, 1000)
    assert cache.put("../images/a b.jpg (3, 4)", np.zeros((0, 5), np.float32))
    assert cache.get("../images/a b.jpg (3, 4)").shape == (0, 5)
    assert len(files(tmp_path)) == 1


def test_the_limit_is_never_exceeded(tmp_path, caplog):
    cache = ArrayCache(tmp_path, 400)
    with caplog.at_level(logging.WARNING):
        assert [cache.put(name, ARRAY) for name in "abcd"] == [True, True, False, False]
    assert cache.bytes == sum(path.stat().st_size for path in files(tmp_path)) <= 400
    assert cache.get("a") is not None and cache.get("c") is None
    assert len([x for x in caplog.messages if "it has reached its limit" in x]) == 1
    assert cache.put("a", ARRAY[:1])  # in place of a larger one
    assert cache.bytes == sum(path.stat().st_size for path in files(tmp_path))


def test_the_arrays_of_an_earlier_run_count(tmp_path):
    ArrayCache(tmp_path, 400).put("a", ARRAY)
    again = ArrayCache(tmp_path, 200)
    assert again.bytes > 0 and not again.put("b", ARRAY) and again.get("a") is not None


def test_no_limit_no_files(tmp_path, caplog):
    cache = ArrayCache(tmp_path / "never", 0)
    assert not cache.put("a", ARRAY) and cache.get("a") is None
    assert not (tmp_path / "never").exists() and not caplog.messages


def flip_last_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


DAMAGES = {"cut": lambda x: x[:-5], "empty": lambda x: b"", "one bit": flip_last_bit, "other": lambda x: b"PK" * 90}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_counts_as_missing_and_is_replaced(tmp_path, caplog, damage):
    cache = ArrayCache(tmp_path, 1000)
    cache.put("a", ARRAY)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    cache = ArrayCache(tmp_path, 1000)
    with caplog.at_level(logging.WARNING):
        assert cache.get("a") is None
    assert f"{path} is damaged" in caplog.text
    assert cache.put("a", ARRAY) and np.array_equal(cache.get("a"), ARRAY)
    assert cache.bytes == path.stat().st_size


def test_a_pickle_is_not_loaded(tmp_path):
    cache = ArrayCache(tmp_path, 10_000)
    with pytest.raises(ValueError, match="allow_pickle"):
        cache.put("a", np.array([{}], dtype=object))


def test_a_full_disk_ends_nothing(tmp_path, monkeypatch, caplog):
    cache = ArrayCache(tmp_path, 1000)

    def no_space(*args, **kwargs):
        raise ConfigError("no space left")

    monkeypatch.setattr("centermask_solo.utils.array_cache.atomic_write", no_space)
    with caplog.at_level(logging.WARNING):
        assert not cache.put("a", ARRAY)
    assert "no space left" in caplog.text and cache.bytes == 0
