"""The rules for image files, for what training and validation share, and for what a model makes of the objects."""

from __future__ import annotations

from .findings import Rule, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

# Image files
OUTSIDE_PATH = Rule(
    "outside-path",
    _E,
    "image outside of the image folder",
    "name files below it, or allow others by DATASETS.ALLOW_OUTSIDE_PATHS True (for data check: --allow-outside-paths)",
)
MISSING_IMAGE = Rule(
    "missing-image", _E, "missing image", "correct the folder or its 'file_name', or remove it from the json"
)
FILE_NAME_TWICE = Rule("file-name-twice", _W, "file name of several images", "merge their annotations into one image")
DAMAGED_IMAGE = Rule("damaged-image", _E, "damaged image", "replace the file, or remove it from the json")
IMAGE_TOO_LARGE = Rule(
    "image-too-large", _E, "image with too many pixels", "allow them by INPUT.MAX_IMAGE_PIXELS, or tile the image"
)
SIZE_SWAPPED = Rule("size-swapped", _E, "image with width and height swapped in the json", "correct the json")
QUARTER_TURN = Rule(
    "quarter-turn",
    _E,
    "image that its EXIF orientation turns, with the size before the turn in the json",
    "annotate the turned image, or remove the orientation from the file to keep the annotations",
)
SIZE_DIFFERS = Rule("size-differs", _E, "image of another size than the json says", "correct the json")
TURNED_IMAGE = Rule(
    "turned-image",
    _W,
    "image that its EXIF orientation turns or mirrors without changing its size",
    "make sure that it was annotated as turned",
)
PLAIN_IMAGE = Rule("plain-image", _W, "image of a single color", "look whether it was saved correctly")
IMAGE_TWICE = Rule(
    "image-twice", _W, "image whose file has the content of another", "keep one, with the annotations of both"
)
IMAGE_SIMILAR = Rule(
    "image-similar", _N, "image that looks like another", "keep such images in the same split: --against tells"
)
FORMAT_DIFFERS = Rule(
    "format-differs", _N, "image file of another format than its name says", "nothing to do; rename it for others"
)
UNLISTED_IMAGE = Rule(
    "unlisted-image", _N, "image file that the json does not list", "annotate it, or leave it: it is not used"
)

# Two sets, by --against
CLASSES_DIFFER = Rule(
    "classes-differ", _E, "class that only one of the two sets has", "give both sets the same categories"
)
CLASS_IN_ONE_SET = Rule(
    "class-in-one-set", _W, "class that has objects in only one of the two sets", "divide the images again"
)
LEAKED_IMAGE = Rule(
    "leaked-image", _E, "image whose file is in the other set, too", "remove it from one of the two sets"
)
LEAKED_SIMILAR = Rule("leaked-similar", _W, "image that looks like one of the other set", "put both into the same set")

# A model, by --config-file
OBJECTS_UNCOVERED = Rule(
    "objects-uncovered",
    _W,
    "object whose size or shape the levels or anchors of the model do not cover",
    "see the suggestions",
)
OBJECTS_COLLIDE = Rule(
    "objects-collide", _W, "object whose places in the model all belong to others", "see the suggestions"
)
OBJECTS_SHRINK = Rule(
    "objects-shrink",
    _W,
    "object with a side below 4 pixels at the input of the model",
    "enlarge the input of the model, or tile the images",
)

# Which checks need the images themselves, and those of the other set
NEED_OTHER_PIXELS = frozenset({LEAKED_IMAGE.id, LEAKED_SIMILAR.id})
NEED_PIXELS = NEED_OTHER_PIXELS | {
    x.id
    for x in (
        *(DAMAGED_IMAGE, IMAGE_TOO_LARGE, SIZE_SWAPPED, QUARTER_TURN, SIZE_DIFFERS, TURNED_IMAGE),
        *(PLAIN_IMAGE, IMAGE_TWICE, IMAGE_SIMILAR, FORMAT_DIFFERS),
    )
}
