"""A model of each system as an ONNX file: the same detections, at any size and batch, without PyTorch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx
import torch

from benchmarks.export_memory import measure, shifted
from benchmarks.onnx_lint import lint
from benchmarks.processes import in_own_process
from centermask_solo import ExportedPredictor, export_model, predict
from centermask_solo.cli import main
from centermask_solo.export.exporter import ExportOptions, Traced, trace_predictor, write_traced
from centermask_solo.export.graph import ExportedGraph
from centermask_solo.export.verification import Verification, compare
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.tiling import Tiles
from centermask_solo.model_zoo.exporting import generated, verify_file
from centermask_solo.runtime.formats import FORMATS
from centermask_solo.runtime.instances import ExportedInstances
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.utils.errors import ConfigError, WeightsError
from tests.export.models import CONFIGS, eager, photographs, save_weights
from tests.export.programs import assert_the_program_finds_the_same

ROOT = Path(__file__).parents[2]
MAX_NODES = {"SOLOv2": 2500, "SOLO": 2500, "YOLACT": 900, "CenterMask": 1500}  # larger ones were unrolled by mistake

pytestmark = pytest.mark.slow


class Exported(NamedTuple):
    system: str
    weights: str
    path: str
    predictor: Predictor
    traced: Traced
    verification: Verification


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request, tmp_path_factory):
    """Traced once for all formats, which is half of the time of an export."""
    folder = tmp_path_factory.mktemp(request.param)
    weights = save_weights(folder / "weights.pth", request.param)
    path = str(folder / "model.onnx")
    predictor = eager(weights)
    traced = trace_predictor(predictor, ExportOptions())
    write_traced(traced, FORMATS["onnx"], path)
    verification = verify_file(predictor, traced, path, generated())
    return Exported(request.param, weights, path, predictor, traced, verification)


def as_arrays(instances):
    fields = {name: instances.get(name).numpy() for name in instances.get_fields() if name in FIELDS}
    return ExportedInstances(instances.image_size, pred_boxes=instances.pred_boxes.tensor.numpy(), **fields)


FIELDS = ("scores", "pred_classes", "pred_masks", "mask_scores")
LARGE = ("torch", "torchvision", "detectron2", "fvcore")


def assert_found_without(packages, path):
    """Another process, which cannot import ``packages``, finds in an exported file what this one does."""
    image = photographs()[0]
    expected = ExportedPredictor(path, threads=1)(image)["instances"]
    np.save(f"{path}.npy", image)
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import numpy as np
from centermask_solo import ExportedPredictor
found = ExportedPredictor(sys.argv[1], threads=1)(np.load(sys.argv[1] + ".npy"))["instances"]
print(found.scores.tolist())
print(found.pred_masks.sum(axis=(1, 2)).tolist())
"""
    command = [sys.executable, "-W", "ignore", "-c", program, path, *packages]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    scores, areas = map(json.loads, result.stdout.splitlines())
    np.testing.assert_array_equal(np.float32(scores), expected.scores)
    assert len(areas) > 0 and areas == expected.pred_masks.sum(axis=(1, 2)).tolist()


def test_the_verification_passes_and_compares_something(exported):
    verification = exported.verification
    assert verification.faults == []
    assert verification.num_compared > 20
    assert verification.table().count("\n") == 4


def test_files_of_pytorch_find_the_same(exported, tmp_path):
    if exported.system not in ("SOLOv2", "CenterMask"):
        pytest.skip("decoded by the same functions as one of these, or by fewer of them")
    path = str(tmp_path / "model.pt2")
    write_traced(exported.traced, FORMATS["pt2"], path)
    verification = verify_file(exported.predictor, exported.traced, path, generated()[:2])
    assert verification.faults == []
    assert verification.num_compared > 10
    if exported.system == "CenterMask":  # what is imported depends on the format, not on the system
        assert_found_without(("detectron2",), path)


def test_files_of_openvino_find_the_same(exported, tmp_path):
    if exported.system not in ("YOLACT", "CenterMask"):
        pytest.skip("the conversion takes half a minute; benchmarks/export_matrix.py has it")
    pytest.importorskip("openvino")
    path = str(tmp_path / "model.xml")
    write_traced(exported.traced, FORMATS["openvino"], path)
    verification = verify_file(exported.predictor, exported.traced, path, generated()[:2])
    assert verification.faults == []
    assert verification.num_compared > 10
    if exported.system != "CenterMask":
        return  # nothing of the rest depends on the system
    assert_found_without(LARGE, path)
    weights = tmp_path / "model.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # of a convolution, as most are
    weights.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"model\.bin does not belong to .*model\.xml: copy both files of one export"
    ):
        ExportedPredictor(path)


def test_sizes_without_a_picture_are_refused(exported):
    for size in ((1, 1), (256, 31)):
        with pytest.raises(ConfigError, match=rf"images of {size[0]} x {size[1]} pixels are too small .* at least 32"):
            trace_predictor(exported.predictor, ExportOptions(size=size))


def test_detections_are_those_of_the_predictor_in_batches_of_mixed_sizes(exported):
    predictor, images = ExportedPredictor(exported.path, threads=1), photographs()
    expected = exported.predictor.predict_batch(images)
    found = predictor.predict_batch(images)
    alone = [predictor(image) for image in images]
    for x, y, z in zip(expected, found, alone, strict=True):
        reference = as_arrays(x["instances"])
        for other in (y["instances"], z["instances"]):
            assert set(other.get_fields()) == {"pred_boxes", *FIELDS} & {"pred_boxes", *reference.get_fields()}
            difference = compare("", reference, other, predictor.metadata)
            # Random weights amplify rounding a little more than trained ones.
            assert Verification([difference], 1.5 * predictor.metadata.score_tolerance).faults == []
            assert difference.matched > 10
            assert other.pred_masks.shape == (len(other), *reference.image_size)
            assert other.pred_masks.dtype == bool and other.pred_classes.dtype == np.int64


def test_the_graph_has_nothing_that_runtimes_get_wrong(exported):
    model = onnx.load(exported.path)
    assert lint(model, free_sizes=True) == []
    assert [x.version for x in model.opset_import if x.domain == ""] == [20]
    assert {x.domain for x in model.opset_import} <= {"", "pkg.onnxscript.torch_lib.common"}
    assert len(model.graph.node) <= MAX_NODES[exported.system]
    assert str(ROOT).encode() not in model.SerializeToString()
    sizes = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim[:3]]
    assert sizes == ["N", "H", "W"]


def test_memory_is_small_and_does_not_depend_on_the_number_of_detections(exported):
    if exported.system != "SOLOv2":
        pytest.skip("masks of all candidates are the largest of SOLOv2")
    none, many = (in_own_process(measure, shifted(exported.path, x), (640, 832)) for x in (-30.0, 6.0))
    assert (none["found"], many["found"]) == (0, exported.traced.about["max_detections"])
    assert many["added_mb"] <= 1.1 * none["added_mb"] + 20
    # The networks alone take 112 MB, and the masks of all 500 candidates would take 67 MB in float32.
    assert max(none["added_mb"], many["added_mb"]) <= 215


def test_an_image_without_detections_gives_empty_results(exported):
    predictor = ExportedPredictor(exported.path)
    outputs = predictor._session.run

    def nothing(feeds):
        found = outputs(feeds)
        return {**found, "num_detections": np.zeros_like(found["num_detections"])}

    predictor._session.run = nothing
    for form in ("dense", "rle", "polygons"):
        found = predictor(photographs()[0], masks=form)["instances"]
        assert len(found) == 0 and found.pred_boxes.shape == (0, 4)
        assert len(found.pred_masks) == 0


def test_masks_in_other_forms(exported):
    from pycocotools import mask as rle

    predictor, image = ExportedPredictor(exported.path), photographs()[0]
    dense = predictor(image)["instances"]
    codes = predictor(image, masks="rle")["instances"].pred_masks
    np.testing.assert_array_equal(np.stack([rle.decode(x) for x in codes]).astype(bool), dense.pred_masks)
    polygons = predictor(image, masks="polygons")["instances"].pred_masks
    assert len(polygons) == len(dense)
    largest = dense.pred_masks.sum(axis=(1, 2)).argmax()
    x = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons[largest]])
    box = dense.pred_masks[largest].nonzero()
    assert x[:, 0].min() == box[1].min() + 0.5 and x[:, 1].max() == box[0].max() + 0.5


def test_the_program_of_the_documentation_finds_the_same(exported, tmp_path):
    if not exported.predictor.cfg.MODEL.META_ARCHITECTURE.startswith("SOLO"):
        pytest.skip("it is for masks at a stride of the input")
    shutil.copy(exported.path, tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "photo.jpg"), photographs()[1])
    assert len(assert_the_program_finds_the_same(tmp_path)) > 10


def test_files_can_be_filtered_tiled_and_given_to_other_programs(exported, tmp_path):
    path = exported.path
    image = photographs()[0]
    cv2.imwrite(str(tmp_path / "a.png"), image)
    filters = Filters(score_threshold=0.0, max_detections=5)
    (whole,) = predict(path, [str(tmp_path / "a.png")], filters=filters)
    assert 0 < len(whole.instances) <= 5 and isinstance(whole.instances.pred_masks, RLEMasks)
    best = ExportedPredictor(path)(image)["instances"].scores[: len(whole.instances)]
    np.testing.assert_allclose(whole.instances.scores, best, atol=1e-5)
    (tiled,) = predict(path, [str(tmp_path / "a.png")], filters=filters, tiles=Tiles(128, 0.2))
    assert 0 < len(tiled.instances) <= 5 and tiled.instances.image_size == image.shape[:2]


def test_fewer_slots_keep_the_best(exported):
    """The graph itself, as PyTorch runs it: exporting it again for this would take half a minute."""
    full = exported.traced.graph
    few = ExportedGraph(full.model, full._frame, full._source, "detections", 3).eval()
    image = torch.from_numpy(photographs()[0].copy())[None]
    sizes = torch.tensor([image.shape[1:3]]) if exported.traced.about["input"].image_sizes else None
    with torch.no_grad():
        found, best = few(image, sizes), full(image, sizes)
    assert list(found) == list(best)
    for name in ("boxes", "scores", "classes", "masks"):
        assert found[name].shape[1] == 3
        torch.testing.assert_close(found[name], best[name][:, :3], atol=1e-4, rtol=1e-4)
    assert found["num_detections"].item() == min(best["num_detections"].item(), 3)


def test_neither_pytorch_nor_detectron2_is_imported(exported):
    assert_found_without((*LARGE, "onnx"), exported.path)


def test_the_command_predicts_with_the_file(exported, tmp_path, capsys):
    import cv2

    weights, path = exported.weights, exported.path
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), photographs()[0])
    counts = []
    for name in (weights, path):
        output = str(tmp_path / Path(name).suffix)
        options = ["MODEL.DEVICE", "cpu"] if name == weights else []
        common = ["--input", str(tmp_path / "images"), "--output", output, "--score-threshold", "0.1"]
        main(["predict", "--weights", name, *common, *options])
        counts.append(len(json.loads(Path(output, "predictions.json").read_text())["annotations"]))
    assert abs(counts[0] - counts[1]) <= 1 and counts[0] > 0
    with pytest.raises(SystemExit):
        main(["predict", "--weights", path, *common, "--overwrite", "MODEL.DEVICE", "cpu"])
    assert "is an exported model, whose options are fixed: leave out MODEL.DEVICE" in capsys.readouterr().err


def test_the_command_measures_the_file_beside_its_weights(exported, tmp_path, capsys):
    if exported.system != "YOLACT":
        return  # nothing depends on the system
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


def test_neither_the_weights_nor_other_files_are_lost(tmp_path):
    """Also those that are named with a query, and a .bin that is not the one of an earlier .xml."""
    pytest.importorskip("openvino")
    (tmp_path / "model.bin").write_text("mine")
    with pytest.raises(ConfigError, match=r"model\.bin exists already"):
        export_model(tmp_path / "model.pth", tmp_path / "model.xml")
    for weights in ("model.bin", "model.bin?ema=True"):
        with pytest.raises(ConfigError, match=r"model\.bin is an input, which would be lost"):
            export_model(tmp_path / weights, tmp_path / "model.xml", overwrite=True)
    assert (tmp_path / "model.bin").read_text() == "mine"


def test_the_command_exports_what_networks_compute(tmp_path, capsys):
    weights, path = save_weights(tmp_path / "weights.pth", "YOLACT"), tmp_path / "raw.onnx"
    main(["export", "--weights", weights, "--output", str(path), "--variant", "raw"])
    lines = capsys.readouterr().out.splitlines()
    assert [x.split()[0] for x in lines[1:6]] == ["loc", "conf", "coefficients", "priors", "prototypes"]
    assert lines[-1] == f"wrote {path}"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["raw.onnx", "weights.pth"]
    names = [x.name for x in onnx.load(path).graph.output]
    assert names == ["loc", "conf", "coefficients", "priors", "prototypes"]  # the order that servers expect
