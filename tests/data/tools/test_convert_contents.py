"""What files of datasets may hold: images inside of labelme's, masks in colors, names of any script and encoding."""

import base64
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_solo.data.tools.convert import convert_dataset
from centermask_solo.data.tools.readers import read_dataset
from centermask_solo.data.validation.report import Scope, check_dataset
from centermask_solo.utils.errors import DataError
from tests.data.tools import sets
from tests.data.tools.test_convert import APART, labelme, there_and_back


def inside(folder, name="a.jpg", **entries):
    """Write a labelme file with its image inside, and none beside it; return the pixels."""
    pixels = np.full((24, 32, 3), (200, 100, 50), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    shapes = [{"label": "x", "points": [[0, 0], [9, 0], [9, 9]]}]
    data = base64.b64encode(content.getvalue()).decode()
    folder.mkdir(exist_ok=True, parents=True)
    document = {"shapes": shapes, "imagePath": "..\\photos\\1.png", "imageData": data, **entries}
    (folder / name.replace(".jpg", ".json")).write_text(json.dumps(document))
    return pixels


@pytest.mark.parametrize("image_files", ["copy", "link"])
def test_images_inside_of_labelme_files(tmp_path, image_files):
    pixels = inside(tmp_path / "json" / "sub", imageHeight=24, imageWidth=32)
    inside(tmp_path / "json", "b c.jpg")  # its size is that of the image
    found = convert_dataset(str(tmp_path / "json"), "coco", str(tmp_path / "coco"), image_files=image_files)
    root = tmp_path / "coco" / "images"
    assert sorted(str(x.relative_to(root)) for x in root.rglob("*.png")) == ["b c.png", "sub/a.png"]
    assert np.array_equal(np.asarray(Image.open(root / "sub" / "a.png")), pixels)
    assert found.images == 2 and check_dataset(str(tmp_path / "coco" / "annotations.json"), str(root)).ok


def test_images_inside_of_labelme_files_are_not_forgotten(tmp_path, caplog):
    inside(tmp_path / "json")
    convert_dataset(str(tmp_path / "json"), "coco", str(tmp_path / "coco"))
    assert "1 image only inside of the files" in caplog.text and "--copy-images writes what" in caplog.text
    labelme(tmp_path / "json", [{"label": "x", "points": [[0, 0], [9, 0], [9, 9]]}], imageData="AAAA")
    assert Path(read_dataset(str(tmp_path / "json")).images[0].path).is_file()  # which comes first


@pytest.mark.parametrize("content", ["%%%", "AAAA", 7])
def test_damaged_images_inside_of_labelme_files(tmp_path, content):
    inside(tmp_path / "json", imageData=content)
    with pytest.raises(DataError, match=r"a\.json: its imageData is no .*: save it again in labelme"):
        read_dataset(str(tmp_path / "json"))
    inside(tmp_path / "json", imageData=content, imageHeight=24, imageWidth=32)
    with pytest.raises(DataError, match=r"a\.json: its imageData is no .*: save it again in labelme"):
        convert_dataset(str(tmp_path / "json"), "coco", str(tmp_path / "coco"), image_files="copy")


def test_shapes_of_labelme_end_at_the_border(tmp_path):
    """Whatever their type; and the json of COCO that is made of them can be used."""
    png = base64.b64encode(cv2.imencode(".png", np.full((6, 6), 255, np.uint8))[1].tobytes()).decode()
    source = labelme(
        tmp_path,
        [
            {"label": "box", "shape_type": "rectangle", "points": [[-20, 10], [16, 40]]},
            {"label": "convex", "points": [[-10, 12], [10, 2], [10, 22]]},
            {"label": "concave", "points": [[20, -10], [40, -10], [40, 30], [30, 30], [30, 5], [20, 5]]},
            {"label": "only", "shape_type": "rectangle", "points": [[-5, 2], [8, 9]], "flags": {"box_only": True}},
            {"label": "away", "shape_type": "rectangle", "points": [[-9, 2], [-3, 9]], "flags": {"box_only": True}},
            {"label": "away", "points": [[-9, 2], [-3, 9], [-9, 9]]},
            {"label": "away", "shape_type": "circle", "points": [[-9, 20], [-3, 20]]},
            {"label": "away", "shape_type": "mask", "points": [[-7, 0], [-2, 5]], "mask": png},
            {"label": "away", "points": [[-9, 2], [-3, 9], [-9, 9]], "group_id": 1},
            {"label": "away", "points": [[0, 0], [9, 0], [0, 9]], "group_id": 1},
        ],
    )
    found = convert_dataset(source, "coco", str(tmp_path / "coco"))
    assert found.lost == {"objects outside of the image (left out)": 5}
    json_file = str(tmp_path / "coco" / "annotations.json")
    entries = json.loads(Path(json_file).read_text())["annotations"]
    assert [x["bbox"] for x in entries] == [
        [0, 10, 16, 14],
        [0, 2, 10, 20],
        [20, 0, 12, 24],
        [0, 2, 8, 7],
        [0, 0, 9, 9],
    ]
    assert entries[0]["segmentation"] == [[0, 10, 16, 10, 16, 24, 0, 24]] and entries[2]["area"] == 12 * 5 + 2 * 19
    assert not entries[3]["segmentation"]
    assert check_dataset(json_file, source, Scope(masks=False)).ok
    convert_dataset(json_file, "yolo", str(tmp_path / "yolo"), image_root=source)


@pytest.mark.parametrize("given", [False, True])
def test_labels_of_labelme_that_are_no_classes(tmp_path, given):
    """Those at the beginning of the lists in labelme's examples."""
    source = labelme(
        tmp_path,
        [{"label": x, "points": [[0, 0], [9, 0], [9, 9]]} for x in ("dog", "__ignore__", "__ignore__", "_background_")],
    )
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncat\ndog\n")
    names = ["__ignore__", "_background_", "cat", "dog"] if given else None
    data = read_dataset(source, class_names=names)
    assert data.class_names == ["cat", "dog"] and [x.name for x in data.images[0].objects] == ["dog"]
    assert data.lost == {
        "shapes labeled '__ignore__' (no class, left out)": 2,
        "shapes labeled '_background_' (no class, left out)": 1,
    }


def in_colors(folder, labels, alpha=False):
    """Write VOC's maps of the dataset in colors in place of numbers, as CVAT does, with a file of labels."""
    source, images = sets.write(folder)
    convert_dataset(source, "voc", str(folder / "voc"), image_root=images, image_files="copy")
    for path in (folder / "voc").glob("Segmentation*/**/*.png"):
        image = Image.open(path)
        if path.is_relative_to(folder / "voc" / "SegmentationClass"):
            image.putpalette([*(x for color in labels.values() for x in color)] + [0] * 3 * (255 - len(labels)) + VOID)
        image.convert("RGBA" if alpha else "RGB").save(path)
    lines = [f"{name}:{','.join(map(str, color))}::\n" for name, color in labels.items()]
    (folder / "voc" / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(lines), encoding="utf-8")
    return str(folder / "voc")


VOID = [224, 224, 192]
COLORS = {"background": [0, 0, 0], "Blaumeise, jung": [7, 8, 9], "猫": [250, 50, 0], "person": [9, 8, 7]}


@pytest.mark.parametrize("alpha", [False, True])
def test_masks_of_voc_in_colors(tmp_path, alpha):
    source = in_colors(tmp_path, COLORS, alpha)
    convert_dataset(source, "coco", str(tmp_path / "back"))
    back = json.loads((tmp_path / "back" / "annotations.json").read_text(encoding="utf-8"))
    assert sets.objects(back) == sets.objects(sets.content([x for x in APART if not x[2]]))
    assert [x["name"] for x in back["categories"]] == sets.NAMES


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("person:9,8,6::", r"a b\.png has the color \(9, 8, 7\), which stands for nothing: correct labelmap\.txt"),
        ("person:9,8::", r"labelmap\.txt: 'person:9,8::' is no line such as"),
    ],
)
def test_colors_of_voc_that_are_wrong(tmp_path, line, message):
    source = in_colors(tmp_path, COLORS)
    path = Path(source, "labelmap.txt")
    path.write_text(path.read_text(encoding="utf-8").replace("person:9,8,7::", line), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_dataset(source)


def test_masks_of_voc_with_two_channels(tmp_path):
    source = in_colors(tmp_path, COLORS)
    path = Path(source, "SegmentationObject", "a b.png")
    Image.open(path).convert("LA").save(path)
    with pytest.raises(DataError, match="has 2 channels"):
        read_dataset(source)


@pytest.mark.parametrize("names", [["قطة", "猫", "👩‍🚀"], ["background", "void", "a:b:1,2::"]])
@pytest.mark.parametrize("file_format", ["voc", "yolo", "labelme", "maps"])
def test_class_names_of_any_script_come_back(tmp_path, file_format, names):
    back, _ = there_and_back(tmp_path, file_format, sets.content(names=names))
    assert [x["name"] for x in back["categories"]] == names


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("\udce9a", {"voc", "yolo", "labelme"}),
        ("\ud800", {"voc", "yolo", "labelme"}),
        ("__ignore__", {"labelme"}),
        *(("a\nb", {"voc", "labelme"}), ("a\u2028b", {"voc", "labelme"}), (" a ", {"voc", "labelme"}), ("#a", {"voc"})),
    ],
)
def test_class_names_that_a_format_cannot_hold(tmp_path, name, refused):
    names = [name, "b", "c"]
    for file_format in ("voc", "yolo", "labelme", "maps"):
        if file_format in refused:
            source, images = sets.write(tmp_path, sets.content(names=names))
            with pytest.raises(DataError, match=r"the class name .* (cannot be|stands for no) .*: rename it"):
                convert_dataset(source, file_format, str(tmp_path / file_format), image_root=images)
            assert not (tmp_path / file_format).exists()
        else:
            back, _ = there_and_back(tmp_path / file_format, file_format, sets.content(names=names))
            assert [x["name"] for x in back["categories"]] == names


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("file_format", ["voc", "yolo", "labelme", "maps"])
def test_file_names_in_other_encodings_come_back(tmp_path, file_format, monkeypatch):
    monkeypatch.setattr(sets, "IMAGES", ["a b.png", os.fsdecode(b"gr\xe9.png"), "empty.png"])
    back, _ = there_and_back(tmp_path, file_format)
    assert sorted(x["file_name"] for x in back["images"]) == sorted(sets.IMAGES)


@pytest.mark.parametrize("file_format", ["yolo", "voc"])
def test_numbers_of_classes_mean_what_their_own_file_says(tmp_path, file_format):
    """Whatever the order in which the names are given."""
    source, images = sets.write(tmp_path)
    convert_dataset(source, file_format, str(tmp_path / "there"), image_root=images, image_files="copy")
    expected = sets.objects(sets.content([x for x in APART if not x[2]]))
    for i, names in enumerate((sets.NAMES[::-1], ["new", *sets.NAMES])):
        convert_dataset(str(tmp_path / "there"), "coco", str(tmp_path / f"{i}"), class_names=names)
        back = json.loads((tmp_path / f"{i}" / "annotations.json").read_text(encoding="utf-8"))
        assert [x["name"] for x in back["categories"]] == names and sets.objects(back) == expected
    with pytest.raises(DataError, match="has the class 'person', which is not among the names given"):
        read_dataset(str(tmp_path / "there"), class_names=sets.NAMES[:2])
    with pytest.raises(DataError, match=r"has the class 'person', which the data to train on lack \(.*猫\): give the"):
        read_dataset(str(tmp_path / "there"), others=sets.NAMES[:2])
