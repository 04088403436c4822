"""What every exported file does: the same detections as its model, at any size and batch, without PyTorch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
import pytest
import torch

from benchmarks.onnx_lint import lint
from centermask_solo import ExportedPredictor, predict
from centermask_solo.cli import main
from centermask_solo.data.pixels import Pixels
from centermask_solo.export.exporter import ExportOptions, Traced, trace_predictor, write_traced
from centermask_solo.export.graph import ExportedGraph
from centermask_solo.export.verification import Verification, compare, find_references, verify
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.tiling import Tiles
from centermask_solo.model_zoo.exporting import fit, generated
from centermask_solo.modeling.instance_part import instance_part
from centermask_solo.runtime.formats import FORMATS
from centermask_solo.runtime.instances import ExportedInstances
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.utils.errors import ConfigError
from tests.export.models import eager, photographs, save_weights

ROOT = Path(__file__).parents[2]
MAX_NODES = {"SOLOv2": 2500, "SOLO": 2500, "YOLACT": 800, "CenterMask": 1100}  # larger ones were unrolled by mistake
FIELDS = ("scores", "pred_classes", "pred_masks", "mask_scores")
LARGE = ("torch", "torchvision", "detectron2", "fvcore")


class Exported(NamedTuple):
    """A model and its ONNX file, traced once for all formats, which is half of the time of an export."""

    system: str
    weights: str
    predictor: Predictor
    traced: Traced
    path: str
    opened: ExportedPredictor
    images: list[tuple[str, Pixels]]
    references: list[ExportedInstances]  # what the model finds in the images


def export(system, folder):
    """Write the weights and the file of a small model to a folder."""
    weights, path = save_weights(folder / "weights.pth", system), str(folder / "model.onnx")
    predictor = eager(weights)
    traced = trace_predictor(predictor, ExportOptions())
    write_traced(traced, FORMATS["onnx"], path)
    images = fit(generated(), traced)
    references = find_references(instance_part(predictor.model), images)
    return Exported(system, weights, predictor, traced, path, ExportedPredictor(path, threads=1), images, references)


def write_checked(exported, name, path):
    """Write a file of another format, which finds the same in two images; return it, opened."""
    write_traced(exported.traced, FORMATS[name], str(path))
    opened = ExportedPredictor(path, threads=1)
    verification = verify(exported.references[:2], opened, exported.images[:2])
    assert verification.faults == []
    assert verification.num_compared > 10
    return opened


def as_arrays(instances):
    fields = {name: instances.get(name).numpy() for name in instances.get_fields() if name in FIELDS}
    return ExportedInstances(instances.image_size, pred_boxes=instances.pred_boxes.tensor.numpy(), **fields)


def assert_found_without(packages, predictor):
    """Another process, which cannot import ``packages``, finds in the file of a predictor what this one does."""
    image = photographs()[0]
    path, expected = predictor.path, predictor(image)["instances"]
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


class EndToEnd:
    """The tests of ``exported``, a fixture of the file that inherits them."""

    def test_the_verification_passes_and_compares_something(self, exported):
        verification = verify(exported.references, exported.opened, exported.images)
        assert verification.faults == []
        assert verification.num_compared > 20
        assert verification.table().count("\n") == 4

    def test_sizes_without_a_picture_are_refused(self, exported):
        for size in ((1, 1), (256, 31)):
            with pytest.raises(
                ConfigError, match=rf"images of {size[0]} x {size[1]} pixels are too small .* at least 32"
            ):
                trace_predictor(exported.predictor, ExportOptions(size=size))

    def test_detections_are_those_of_the_predictor_in_batches_of_mixed_sizes(self, exported):
        predictor, images = exported.opened, photographs()
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

    def test_the_graph_has_nothing_that_runtimes_get_wrong(self, exported):
        model = onnx.load(exported.path)
        assert lint(model, free_sizes=True) == []
        assert [x.version for x in model.opset_import if x.domain == ""] == [20]
        assert {x.domain for x in model.opset_import} <= {"", "pkg.onnxscript.torch_lib.common"}
        assert len(model.graph.node) <= MAX_NODES[exported.system]
        assert str(ROOT).encode() not in model.SerializeToString()
        sizes = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim[:3]]
        assert sizes == ["N", "H", "W"]

    def test_an_image_without_detections_gives_empty_results(self, exported, monkeypatch):
        predictor = exported.opened
        outputs = predictor._session.run

        def nothing(feeds):
            found = outputs(feeds)
            return {**found, "num_detections": np.zeros_like(found["num_detections"])}

        monkeypatch.setattr(predictor._session, "run", nothing)
        for form in ("dense", "rle", "polygons"):
            found = predictor(photographs()[0], masks=form)["instances"]
            assert len(found) == 0 and found.pred_boxes.shape == (0, 4)
            assert len(found.pred_masks) == 0

    def test_masks_in_other_forms(self, exported):
        from pycocotools import mask as rle

        predictor, image = exported.opened, photographs()[0]
        dense = predictor(image)["instances"]
        codes = predictor(image, masks="rle")["instances"].pred_masks
        np.testing.assert_array_equal(np.stack([rle.decode(x) for x in codes]).astype(bool), dense.pred_masks)
        polygons = predictor(image, masks="polygons")["instances"].pred_masks
        assert len(polygons) == len(dense)
        largest = dense.pred_masks.sum(axis=(1, 2)).argmax()
        x = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons[largest]])
        box = dense.pred_masks[largest].nonzero()
        assert x[:, 0].min() == box[1].min() + 0.5 and x[:, 1].max() == box[0].max() + 0.5

    def test_files_can_be_filtered_tiled_and_given_to_other_programs(self, exported, tmp_path):
        path = exported.path
        image = photographs()[0]
        cv2.imwrite(str(tmp_path / "a.png"), image)
        filters = Filters(score_threshold=0.0, max_detections=5)
        (whole,) = predict(path, [str(tmp_path / "a.png")], filters=filters)
        assert 0 < len(whole.instances) <= 5 and isinstance(whole.instances.pred_masks, RLEMasks)
        best = exported.opened(image)["instances"].scores[: len(whole.instances)]
        np.testing.assert_allclose(whole.instances.scores, best, atol=1e-5)
        (tiled,) = predict(path, [str(tmp_path / "a.png")], filters=filters, tiles=Tiles(128, 0.2))
        assert 0 < len(tiled.instances) <= 5 and tiled.instances.image_size == image.shape[:2]

    def test_fewer_slots_keep_the_best(self, exported):
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

    def test_neither_pytorch_nor_detectron2_is_imported(self, exported):
        assert_found_without((*LARGE, "onnx"), exported.opened)

    def test_the_command_predicts_with_the_file(self, exported, tmp_path, capsys):
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
