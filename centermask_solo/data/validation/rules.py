"""The rules for annotation files in COCO format; the worst come first. Those for images are :mod:`.image_rules`."""

from __future__ import annotations

from .findings import Rule, Severity

_E, _T, _W, _N = Severity.ERROR, Severity.TOLERATED, Severity.WARNING, Severity.NOTE
_FLATTEN = (
    "write each polygon as a flat list of numbers [x1, y1, x2, y2, ...] and the segmentation as a list of polygons"
)
_RLE = "write 'counts' as the run lengths of background and object in turn, column by column, as pycocotools does"
_AS_COCO = ", or use the file as COCO data, by DATASETS.COCO_JSON"

# Categories and images
NO_CATEGORIES = Rule("no-categories", Severity.EMPTY, "'categories' that is empty", "add the classes")
CATEGORY_FIELDS = Rule(
    "category-fields", _E, "category without an integer 'id' and a string 'name'", "correct the category"
)
CATEGORY_ID_TWICE = Rule("category-id-twice", _E, "category id that occurs twice", "make the ids unique")
CATEGORY_NAME_TWICE = Rule(
    "category-name-twice", _E, "class name of several categories", "merge the categories, or rename one"
)
NO_IMAGES = Rule("no-images", Severity.EMPTY, "'images' that is empty", "add the images")
IMAGE_FIELDS = Rule(
    "image-fields", _E, "image without an 'id' (number or string) and a string 'file_name'", "correct the image"
)
IMAGE_SIZE = Rule(
    "image-size", _E, "image without positive integers 'width' and 'height'", "write the size of the image file"
)
IMAGE_ID_TWICE = Rule("image-id-twice", _E, "image id that occurs twice", "make the ids unique")
IMAGE_IDS_MIXED = Rule("image-ids-mixed", _E, "image ids of which some are numbers and some strings", "use numbers")
LVIS_IMAGE = Rule(
    "lvis-image", _E, "image without a list that LVIS's format has", f"add it (it may be empty){_AS_COCO}"
)
LVIS_CATEGORY = Rule("lvis-category", _E, "category without a 'frequency' of r, c or f", f"add it{_AS_COCO}")

# Nothing to learn from
NO_ANNOTATIONS = Rule("no-annotations", Severity.EMPTY, "'annotations' that is empty", "add the annotations")
ALL_ORPHANS = Rule(
    "all-orphans",
    Severity.EMPTY,
    "dataset none of whose annotations belongs to an image",
    "make each 'image_id' the 'id' of an image, number for number or string for string",
)
ALL_CROWDS = Rule(
    "all-crowds",
    Severity.EMPTY,
    "dataset whose objects all have iscrowd 1, which are neither learned nor evaluated",
    "set iscrowd 0 for single objects, whether they are RLE or polygons",
)
ALL_VANISH = Rule(
    "all-vanish", Severity.EMPTY, "dataset without a single usable object", "correct the faults of its annotations"
)

# Fields of annotations
ANNOTATION_FIELDS = Rule(
    "annotation-fields", _E, "annotation that lacks a field", "add 'id', 'image_id', 'category_id' and 'bbox'"
)
ANNOTATION_ID = Rule("annotation-id", _E, "annotation id that is not an integer", "number the annotations from 1")
ANNOTATION_ID_TWICE = Rule("annotation-id-twice", _E, "annotation id that occurs twice", "make the ids unique")
CATEGORY_ID = Rule(
    "category-id", _E, "annotation with a category id that is not an integer", "write the 'id' of a category"
)
UNKNOWN_CATEGORY = Rule(
    "unknown-category",
    _E,
    "annotation with a category id that 'categories' lacks",
    "add it to 'categories', or correct the annotations",
)
CATEGORY_IDS_SHIFTED = Rule(
    "category-ids-shifted",
    _E,
    "annotation whose category id is off by one, as those of all annotations are",
    "count the category ids of annotations from the same number as those of 'categories'",
)
IGNORE = Rule("ignore", _E, "annotation with 'ignore', which is not part of COCO", "use 'iscrowd', or remove it")
ISCROWD = Rule("iscrowd", _E, "iscrowd that is neither 0 nor 1", "write 0 or 1")
AREA = Rule("area", _E, "area that is not a finite number", "write the area in pixels, or leave it out")
KEYPOINTS = Rule("keypoints", _E, "keypoints that are not finite numbers", "correct or remove them")

# Boxes and masks that cannot be read
BOX_FORMAT = Rule("box-format", _E, "bbox that is not [x, y, width, height]", "write four numbers in pixels")
BOX_NOT_FINITE = Rule("box-not-finite", _E, "box with NaN or infinity", "write finite numbers")
SEGMENTATION_TYPE = Rule(
    "segmentation-type",
    _E,
    "segmentation that is neither a list of polygons nor an RLE with 'size' and 'counts'",
    "use one of the two",
)
POLYGON_FORMAT = Rule("polygon-format", _E, "segmentation that is not a list of flat polygons", _FLATTEN)
POLYGON_PAIRS = Rule("polygon-pairs", _E, "polygon whose points are pairs [x, y]", _FLATTEN)
POLYGON_NUMBERS = Rule("polygon-numbers", _E, "polygon that holds something other than numbers", _FLATTEN)
POLYGON_NOT_FINITE = Rule("polygon-not-finite", _E, "polygon with NaN or infinity", "write finite numbers")
RLE_IN_LIST = Rule(
    "rle-in-list", _E, "RLE inside a list, where polygons are expected", "write the RLE itself as 'segmentation'"
)
RLE_TRANSPOSED = Rule(
    "rle-transposed", _E, "RLE whose size is [width, height] of its image", "write [height, width], and runs by columns"
)
RLE_SIZE = Rule(
    "rle-size",
    _E,
    "RLE whose size is not [height, width] of its image",
    "correct whichever is wrong",
)
RLE_COUNTS = Rule("rle-counts", _E, "RLE that cannot be decoded", f"{_RLE}, and its bytes by .decode(), not str()")
RLE_SUM = Rule("rle-sum", _E, "RLE whose counts do not sum to height x width", _RLE)

FAR_AWAY = Rule(
    "far-away", _E, "box or polygon over 10 image sizes away from the image", "write x and y in pixels of the image"
)

# Coordinates that are wrong throughout
NORMALIZED = Rule(
    "normalized", _E, "object with coordinates from 0 to 1", "multiply x by the width and y by the height of the image"
)
CORNER_BOX = Rule(
    "corner-box",
    _T,
    "box that disagrees with its mask because it holds corners [x0, y0, x1, y1]",
    "write [x, y, width, height]",
)
BOX_MASK_DISAGREE = Rule("box-mask-disagree", _T, "box that disagrees with its mask", "correct whichever is wrong")
RLE_BY_ROWS = Rule("rle-by-rows", _T, "RLE that agrees with its box only if its runs go row by row", _RLE)

# Objects that training or evaluation would lose or distort
ORPHAN = Rule(
    "orphan",
    _T,
    "annotation of an image that is not in the json",
    "add the image, or remove the annotations",
    repaired=True,
)
BOX_INVERTED = Rule(
    "box-inverted",
    _T,
    "box of negative width or height",
    "write [x, y, width, height] from the upper left corner",
    repaired=True,
)
BOX_NO_AREA = Rule("box-no-area", _T, "box without area", "write [x, y, width, height] in pixels", repaired=True)
BOX_OUTSIDE = Rule("box-outside", _T, "box outside the image", "write [x, y, width, height] in pixels", repaired=True)
BOX_BEYOND = Rule(
    "box-beyond", _T, "box that extends beyond the image", "write [x, y, width, height], inside the image"
)
POLYGON_TOO_SHORT = Rule(
    "polygon-too-short",
    _T,
    "polygon of fewer than 3 points or an odd number of values",
    "write at least [x1, y1, x2, y2, x3, y3]",
    repaired=True,
)
POLYGON_NO_AREA = Rule("polygon-no-area", _T, "polygon without area", "correct or remove the polygon", repaired=True)
POLYGON_BEYOND = Rule(
    "polygon-beyond", _T, "polygon that extends beyond the image", "write x and y in pixels of the image"
)
RLE_EMPTY = Rule("rle-empty", _T, "RLE without any pixels", "correct or remove the annotation", repaired=True)
NO_MASK = Rule(
    "no-mask", Severity.NO_MASK, "object without mask", "add 'segmentation', or train a model without masks", True
)

# Repaired, or merely suspicious
BOX_LARGE = Rule("box-large", _W, "box over twice as large as its mask", "the box is used as it is")
ROOT_CLASS = Rule(
    "root-class", _W, "class without objects that groups other classes", "kept as a class; remove it if it is none"
)
ENCODING = Rule("byte-order-mark", _W, "byte-order mark", "ignored", repaired=True)
NO_FILE_NAME = Rule("no-file-name", _W, "image without 'file_name'", "named by the end of its 'coco_url'", True)
NOT_POSITIVE_ID = Rule(
    "annotation-id-not-positive", _W, "annotation id below 1", "renumbered, or COCO's matching would lose it", True
)
TEXT_ID = Rule("annotation-id-text", _W, "annotation id that is text or a decimal number", "renumbered", repaired=True)
NO_AREA = Rule("no-area", _W, "missing or negative area", "computed from the mask, or from the box", repaired=True)
TEXT_AREA = Rule("area-text", _W, "area that is text", "read as a number", repaired=True)
NO_ISCROWD = Rule("no-iscrowd", _W, "missing iscrowd", "taken as 0", repaired=True)
TEXT_ISCROWD = Rule("iscrowd-text", _W, "iscrowd that is text or a Boolean", "read as a number", repaired=True)
BACKSLASH = Rule("backslash", _W, "file name with backslashes", "read with slashes", repaired=True)

# What only a full report looks for
INSTANCE_TWICE = Rule(
    "instance-twice", _W, "object with the box and the mask of another of its class", "remove one of the two"
)
INSTANCE_OF_TWO_CLASSES = Rule(
    "instance-of-two-classes", _W, "object with the box and the mask of one of another class", "decide for one class"
)
POLYGON_CROSSES_ITSELF = Rule(
    "polygon-crosses-itself", _W, "polygon that crosses itself, so that programs fill it differently", "draw it anew"
)
AREA_DIFFERS = Rule(
    "area-differs", _W, "area of less than half or more than twice the mask's", "write the area of the mask in pixels"
)
CROWD_POLYGONS = Rule(
    "crowd-polygons", _W, "crowd with polygons", "set iscrowd 0 for a single object; write true crowds as RLE"
)
CLASS_ONLY_CROWDS = Rule(
    "class-only-crowds", _W, "class whose objects all have iscrowd 1", "set iscrowd 0 for single objects"
)
CATEGORY_NAMES_ALIKE = Rule(
    "category-names-alike", _W, "class name that differs from another only in case or spaces", "merge the categories"
)
BOX_TINY = Rule("box-tiny", _N, "box with a side below 2 pixels", "look whether it is a slip of the mouse")
OBJECTS_MANY = Rule(
    "objects-many", _N, "image with more than 100 objects", "raise TEST.DETECTIONS_PER_IMAGE, or tile the images"
)
IMAGE_NO_OBJECTS = Rule(
    "image-without-objects",
    _N,
    "image without annotations",
    "left out of training by DATALOADER.FILTER_EMPTY_ANNOTATIONS True",
)
CLASS_NO_OBJECTS = Rule("class-without-objects", _N, "class without objects", "annotate some, or remove the class")
CLASS_RARE = Rule("class-rare", _N, "class with fewer than 10 objects", "annotate more, or merge classes")
CATEGORY_ID_ZERO = Rule(
    "category-id-zero", _N, "category id 0", "nothing to do; programs that keep 0 for the background would drop it"
)
CATEGORY_ID_GAPS = Rule(
    "category-id-gaps",
    _N,
    "category ids that do not count from 0 or 1 without gaps",
    "nothing to do: classes are numbered in the order of their ids",
)
