"""Arrays and plain values are unpickled; nothing that could run code is."""

import io
import pickle
from collections import OrderedDict
from datetime import date

import numpy as np
import pytest

from centermask_solo.utils.pickles import UnsafePickleError, load_arrays

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
    with pytest.raises(UnsafePickleError, match=r"datetime\.date"):
        load_arrays(io.BytesIO(data))
    assert load_arrays(io.BytesIO(data), {("datetime", "date")}) == date(2020, 1, 2)
