"""Instances in NumPy behave as other objects do."""

import copy
import pickle

import numpy as np
import pytest

from centermask_solo.runtime.instances import ExportedInstances

FOUND = ExportedInstances((4, 5), False, scores=np.float32([0.9, 0.5]), pred_masks=np.ones((2, 4, 5), bool))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_they_can_be_copied_and_sent_to_other_processes(copied):
    found = copied(FOUND)
    assert (found.image_size, found.exact, len(found)) == ((4, 5), False, 2)
    np.testing.assert_array_equal(found.scores, FOUND.scores)
    np.testing.assert_array_equal(found.pred_masks, FOUND.pred_masks)


def test_unknown_fields():
    with pytest.raises(AttributeError, match="these instances have no boxes; they have scores, pred_masks"):
        FOUND.boxes  # noqa: B018
    assert not hasattr(FOUND, "_private") and not hasattr(ExportedInstances.__new__(ExportedInstances), "scores")
