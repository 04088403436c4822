"""What people do with a model besides training and prediction, in every system."""

import copy
import warnings

import pytest
import torch
from detectron2.utils.analysis import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

from centermask_solo.utils.errors import DataError
from tests.modeling.detections import WHOLE_IMAGE, assert_same, inference_inputs, two_objects
from tests.modeling.inputs import empty_instances, input_of
from tests.modeling.models import detect, losses_and_gradients


def test_training_needs_ground_truth(system):
    x = two_objects()
    with pytest.raises(DataError, match=r'^training needs ground truth, but b\.png has no "instances": ') as error:
        system.model()([x, {"image": x["image"], "file_name": "b.png"}])
    assert "\n" not in str(error.value)


def test_no_images_give_no_detections(system):
    assert system.model().eval()([]) == []


def test_double_precision_trains_and_finds_the_same(system):
    model = system.model(system.score_thresh, 0.01)
    double = copy.deepcopy(model).double()
    inputs = [two_objects(), input_of(WHOLE_IMAGE), input_of(empty_instances(64, 64))]
    losses, _ = losses_and_gradients(model, inputs)
    double_losses, gradients = losses_and_gradients(double, inputs)
    for name, value in losses.items():
        assert double_losses[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name
    assert all(g is not None and g.dtype == torch.float64 and g.isfinite().all() for g in gradients.values())
    x = inference_inputs(two_objects())
    found = detect(double, x)[0]
    assert len(found) > 10
    assert_same(found[:10], detect(model, x)[0][:10])  # lower ones may change places


def test_detectron2s_count_of_operations(system):
    """As its tools/analyze_model.py does; the multiplications are those that PyTorch counts when the model runs."""
    model = system.model(system.score_thresh, 0.01).eval()
    x = inference_inputs(two_objects())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing
        counter = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator = counter.by_operator()
    with torch.no_grad(), FlopCounterMode(display=False) as expected:
        model(x)
    convolutions = {str(op): n for op, n in expected.get_flop_counts()["Global"].items() if "convolution" in str(op)}
    assert by_operator["conv"] > 10**7
    assert 2 * by_operator["conv"] == sum(convolutions.values())
