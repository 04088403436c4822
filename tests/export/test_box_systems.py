"""Files of CenterMask and YOLACT, end to end."""

import json

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from centermask_solo import ExportedPredictor
from centermask_solo.cli import main
from centermask_solo.utils.errors import WeightsError
from tests.export.end_to_end import LARGE, EndToEnd, assert_found_without, export, write_checked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["CenterMask", "YOLACT"])
def exported(request, tmp_path_factory):
    return export(request.param, tmp_path_factory.mktemp(request.param))


class TestBoxSystems(EndToEnd):
    """The tests of every system."""


def test_files_of_pytorch_find_the_same(exported, tmp_path):
    if exported.system != "CenterMask":
        pytest.skip("decoded by fewer functions")
    opened = write_checked(exported, "pt2", tmp_path / "model.pt2")
    assert_found_without(("detectron2",), opened)  # what is imported depends on the format, not on the system


def test_files_of_openvino_find_the_same(exported, tmp_path):
    """The conversion of the grid systems takes longer; benchmarks/export_matrix.py has it."""
    pytest.importorskip("openvino")
    opened = write_checked(exported, "openvino", tmp_path / "model.xml")
    if exported.system != "CenterMask":
        return  # nothing of the rest depends on the system
    assert_found_without(LARGE, opened)
    weights = tmp_path / "model.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # of a convolution, as most are
    weights.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"model\.bin does not belong to .*model\.xml: copy both files of one export"
    ):
        ExportedPredictor(opened.path)


def test_the_command_measures_the_file_beside_its_weights(exported, tmp_path, capsys):
    if exported.system != "YOLACT":
        pytest.skip("nothing depends on the system")
    weights, path, record = exported.weights, exported.path, tmp_path / "times.json"
    common = ["--runs", "1", "--threads", "1", "--size", "96", "128", "--cpu-time", "--json", str(record)]
    main(["benchmark", "--weights", weights, "--device", "cpu", "--compare", path, *common])
    eager_row, exported_row = json.loads(record.read_text())["measured"]
    assert (eager_row["name"], exported_row["name"]) == (weights, path)
    assert list(exported_row["seconds"]) == ["read", "resize", "masks", "network, decoding and masks", "end to end"]
    assert exported_row["detections"] == pytest.approx(eager_row["detections"], abs=1)
    assert (exported_row["input_sizes"], exported_row["parameters"]) == ([], None)  # of what the graph resizes to
    assert "network, decoding and masks" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["benchmark", "--weights", path, "--dtype", "bfloat16"])
    assert "is an exported model, whose options are fixed: leave out TEST.DTYPE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["benchmark", "--weights", path, "--flops"])
    assert "--flops counts the parts of configs and weights" in capsys.readouterr().err
