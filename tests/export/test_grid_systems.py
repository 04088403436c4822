"""Files of SOLOv2 and SOLO, end to end."""

import multiprocessing
import shutil

import cv2
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from benchmarks.export_memory import measure, shifted
from benchmarks.processes import in_own_process
from tests.export.end_to_end import EndToEnd, export, write_checked
from tests.export.models import photographs
from tests.export.programs import assert_the_program_finds_the_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["SOLOv2", "SOLO"])
def exported(request, tmp_path_factory):
    return export(request.param, tmp_path_factory.mktemp(request.param))


class TestGridSystems(EndToEnd):
    """The tests of every system."""


def test_files_of_pytorch_find_the_same(exported, tmp_path):
    if exported.system != "SOLOv2":
        pytest.skip("decoded by the same functions, or by fewer of them")
    write_checked(exported, "pt2", tmp_path / "model.pt2")


def test_memory_is_small_and_does_not_depend_on_the_number_of_detections(exported):
    if exported.system != "SOLOv2":
        pytest.skip("masks of all candidates are the largest of SOLOv2")
    multiprocessing.set_forkserver_preload(["benchmarks.export_memory"])
    files = [shifted(exported.path, x) for x in (-30.0, 6.0)]
    none, many = (in_own_process(measure, file, (640, 832), start="forkserver") for file in files)
    assert (none["found"], many["found"]) == (0, exported.traced.about["max_detections"])
    assert many["added_mb"] <= 1.1 * none["added_mb"] + 20
    # The networks alone take 112 MB, and the masks of all 500 candidates would take 67 MB in float32.
    assert max(none["added_mb"], many["added_mb"]) <= 215


def test_the_program_of_the_documentation_finds_the_same(exported, tmp_path):
    """It is for masks at a stride of the input."""
    shutil.copy(exported.path, tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "photo.jpg"), photographs()[1])
    assert len(assert_the_program_finds_the_same(tmp_path)) > 10
