"""Images that are not annotated for all classes, as those of LVIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data.own_files import is_federated
from ...utils.errors import DataError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Federation(NamedTuple):
    """What is known of each image and class.

    Attributes:
        known: (I, K) whether the image is annotated for the class: it has objects of it, or is known to have none.
        exhaustive: (I, K) whether all objects of the class are annotated.
    """

    known: Bools
    exhaustive: Bools


def find_federation(
    records: Sequence[Mapping[str, Any]], class_index: Mapping[int, int], images: Ints, classes: Ints, path: str
) -> Federation | None:
    """Return what is known of the images of LVIS's format; None for images that are annotated for all classes.

    Args:
        records: The images as their annotation file has them.
        class_index: Class of each category id.
        images: (G,) image of each object.
        classes: (G,) class of each object.
        path: The annotation file.

    Raises:
        DataError: A category id of an image is unknown.
    """
    if not is_federated(records):
        return None
    known = np.zeros((len(records), len(class_index)), dtype=np.bool_)
    exhaustive = np.ones(known.shape, dtype=np.bool_)
    known[images, classes] = True
    for i, x in enumerate(records):
        try:
            known[i, [class_index[c] for c in x["neg_category_ids"]]] = True
            exhaustive[i, [class_index[c] for c in x.get("not_exhaustive_category_ids", [])]] = False
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: the image {x['id']} names the unknown category {error}: correct it") from error
    return Federation(known, exhaustive)
