"""The page of the export matrix says what happened, and what did not."""

from benchmarks.export_matrix import CASES, architectures
from benchmarks.export_table import table

GOOD = {
    "compared": 7,
    "limited": 1,
    "box": 2e-5,
    "score": 3e-7,
    "mask_iou": 1.0,
    "seconds": 9,
    "MiB": 5,
}


def test_each_result_is_told_apart():
    results = {
        "A/a.yaml onnx detections": GOOD | {"versions": {"onnx": "1"}},
        "A/a.yaml openvino detections": GOOD | {"fault": "boxes differ"},
        "A/a.yaml pt2 detections": {"fault": "no | operator"},
        "A/a.yaml onnx raw": {"compared": 3, "relative": 1e-6, "seconds": 9, "MiB": 5, "nodes": 1200},
        "A/a.yaml openvino raw": {"unfinished": "not finished after 9 s"},
    }
    page = table(results, {"A/a.yaml": ["A/b.yaml"], "A/c.yaml": []}, list(CASES), (320, 427))
    assert (
        "| A/a.yaml | detections | 7 (1 image limited): 2e-05, 3e-07, 1.0000; 9 s, 5 MiB | "
        "out of bounds: boxes differ | not exported: no / operator |\n"
        "| A/a.yaml | raw | 3 tensors: 1e-06; 9 s, 5 MiB, 1200 nodes | not finished after 9 s | not run |\n"
    ) in page
    assert "* A/b.yaml: as A/a.yaml\n" in page
    assert page.endswith("compared:\n\n* A/c.yaml\n")
    assert "Versions: onnx 1." in page


def test_configs_that_differ_in_training_are_one_architecture():
    found = architectures()
    assert "SOLOv2/solov2_R_50_3x.yaml" in found["SOLOv2/solov2_R_50_1x.yaml"]
    assert "SOLOv2/solov2_R_101_3x.yaml" in found
    assert not {"baselines", "shapes"} & {x.split("/")[0] for x in found}
