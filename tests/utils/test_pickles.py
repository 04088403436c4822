"""Arrays and plain values are unpickled; nothing that could run code is."""

import io
import pickle
from collections import OrderedDict
from datetime import date

import numpy as np
import pytest

from centermask_solo.utils.pickles import DAMAGED, Inert, UnsafePickleError, load_arrays

CONTENT = OrderedDict(a=np.arange(6.0).reshape(2, 3), b=[np.float32(2), np.zeros(0)], c=(1, "x", None, b"\xff"))


class RunsCode:
    def __reduce__(self):
        return (print, ("code of the file has run",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_of_every_protocol(protocol):
    content = load_arrays(io.BytesIO(pickle.dumps(CONTENT, protocol)))
    assert content.keys() == CONTENT.keys()
    assert np.array_equal(content["a"], CONTENT["a"])
    assert content["b"][0] == 2 and content["b"][1].shape == (0,)
    assert content["c"][:3] == (1, "x", None)


@pytest.mark.parametrize("core", ["core", "_core"])
def test_both_names_of_numpys_modules(core):
    data = pickle.dumps(np.arange(3), 2)
    renamed = data.replace(b"numpy._core.", f"numpy.{core}.".encode()).replace(
        b"numpy.core.", b"numpy.%b." % core.encode()
    )
    assert load_arrays(io.BytesIO(renamed)).tolist() == [0, 1, 2]


def test_code_does_not_run(capsys):
    with pytest.raises(UnsafePickleError, match=r"^it holds a \w+\.print$"):
        load_arrays(io.BytesIO(pickle.dumps({"x": RunsCode()})))
    assert capsys.readouterr().out == ""


def test_the_caller_may_allow_more():
    data = pickle.dumps(date(2020, 1, 2))
    assert isinstance(load_arrays(io.BytesIO(data)), Inert)
    assert load_arrays(io.BytesIO(data), {("datetime", "date")}) == date(2020, 1, 2)


def opcodes(*parts: bytes) -> io.BytesIO:
    return io.BytesIO(b"\x80\x02" + b"".join(parts) + b".")


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
HOSTILE = {
    "an object array over the bytes of the file": np.array([None, {}], dtype=object),
    "an array of structures": np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
    "an array of text": np.array(["a", "b"]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", HOSTILE.values(), ids=HOSTILE)
def test_arrays_of_anything_but_numbers_are_refused(array, protocol):
    with pytest.raises(pickle.UnpicklingError, match=r"instead of numbers"):
        load_arrays(io.BytesIO(pickle.dumps({"x": array}, protocol)))


@pytest.mark.parametrize(
    "file",
    [
        opcodes(b"cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR"),  # ndarray((2**31 - 1,))
        opcodes(b"c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR"),  # bytes(2**31 - 1)
        opcodes(b"N", b"r\xff\xff\xff\x7f"),  # a place in the memo that Python would allocate
        opcodes(b"B\xff\xff\xff\x7f"),  # a length beyond the end
        opcodes(ARRAY, b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\n(U\x02f4tR\x89U\x04abcdtb"),  # shape beyond the data
        opcodes(b"(" * 100_000),
        opcodes(b"]" * 2000, b"a" * 1999),  # nested
    ],
    ids=["ndarray", "bytes", "memo", "length", "shape", "marks", "nested"],
)
def test_a_small_file_takes_little_memory(file):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DAMAGED):
        load_arrays(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_memory_that_is_shared_counts_each_time():
    data = b"\0" * 10_000
    arrays = [np.frombuffer(data, "u1") for _ in range(3)]
    shared = pickle.dumps(arrays[:1] * 3)
    assert [x.nbytes for x in load_arrays(io.BytesIO(shared))] == [10_000] * 3
    array = ARRAY + b"(K\x01M\x10\x27\x85cnumpy\ndtype\n(U\x02u1tR\x89h\x01tb"
    many = io.BytesIO(b"\x80\x02B\x10\x27\0\0" + data + b"q\x010(" + array * 50 + b"l.")
    with pytest.raises(pickle.UnpicklingError, match="larger than the file"):
        load_arrays(many)


def test_a_list_that_holds_itself_ends():
    content: list = [np.arange(3)]
    content.append(content)
    assert load_arrays(io.BytesIO(pickle.dumps(content)))[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["?", "i1", "<u2", ">u2", "<f2", ">f4", "f8", "c8"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_numbers_of_any_type_and_order(dtype, protocol):
    array = np.asfortranarray((np.arange(12) % 7).reshape(3, 4).astype(dtype))
    got = load_arrays(io.BytesIO(pickle.dumps({"x": array, "y": array[1, 2]}, protocol)))
    assert got["x"].dtype == array.dtype and np.array_equal(got["x"], array) and got["x"].flags.writeable
    assert got["y"] == array[1, 2]
