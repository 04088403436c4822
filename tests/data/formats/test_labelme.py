import base64
import io

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.data.formats.labelme import labelme_document, labelme_shapes


def test_parts_of_an_object_share_a_group():
    shapes = labelme_shapes("jay", [[0, 0, 4, 0, 4, 4], [6, 6, 9.5, 6, 9, 9]], 3, {"iscrowd": False}, "score 0.9")
    assert [x["points"] for x in shapes] == [[[0, 0], [4, 0], [4, 4]], [[6, 6], [9.5, 6], [9, 9]]]
    assert {(x["label"], x["group_id"], x["shape_type"], x["description"]) for x in shapes} == {
        ("jay", 3, "polygon", "score 0.9")
    }


def test_a_mask_is_a_box_of_pixels_with_its_holes():
    mask = np.zeros((10, 12), np.uint8)
    mask[2:7, 3:9] = 1
    mask[4, 5] = 0
    (shape,) = labelme_shapes("jay", rle.encode(np.asfortranarray(mask)))
    assert shape["shape_type"] == "mask" and shape["points"] == [[3, 2], [8, 6]]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
    assert np.array_equal(pixels > 0, mask[2:7, 3:9] > 0)


def test_document():
    document = labelme_document("../images/a b.jpg", 12, 10, [])
    assert (document["imagePath"], document["imageWidth"], document["imageHeight"]) == ("../images/a b.jpg", 12, 10)
    assert document["imageData"] is None and document["shapes"] == []
