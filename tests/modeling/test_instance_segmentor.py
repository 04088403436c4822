"""What the one-stage systems share: the base class's own contract."""

from __future__ import annotations

import pytest
import torch

from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS


@pytest.fixture(params=["SOLOv2", "YOLACT"])
def system(request):
    return SYSTEMS[request.param]


def test_thresholds_name_the_option_of_the_system(system):
    with pytest.raises(ConfigError, match=rf"^{system.score_thresh} .*less than 1, not 1\.5$"):
        system.model(system.score_thresh, 1.5)


def tensors_in(predictions):
    """All tensors of nested predictions, in order."""
    if torch.is_tensor(predictions) or predictions is None:
        return [] if predictions is None else [predictions]
    parts = predictions.values() if isinstance(predictions, dict) else predictions
    return [x for part in parts for x in tensors_in(part)]


@pytest.mark.parametrize("name", SYSTEMS)
def test_predictions_do_not_depend_on_the_mode(name):
    model = SYSTEMS[name].model("MODEL.RESNETS.NORM", "FrozenBN")
    image = torch.rand(1, 3, *(getattr(model, "input_size", None) or (64, 64)))
    with torch.no_grad():
        training, evaluation = tensors_in(model.predict(image)), tensors_in(model.eval().predict(image))
    assert len(training) == len(evaluation) > 3
    assert all(torch.equal(a, b) for a, b in zip(training, evaluation, strict=True))


def test_models_state_the_training_data_they_take():
    solov2, yolact = SYSTEMS["SOLOv2"].model(), SYSTEMS["YOLACT"].model()
    assert (solov2.input_size, solov2.gt_mask_sizes) == (None, {})
    assert yolact.input_size == (128, 128)
    assert yolact.gt_mask_sizes == {"gt_prototype_masks": (32, 32), "gt_sem_seg_masks": (16, 16)}
