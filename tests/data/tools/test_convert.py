import base64
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_solo.data.formats.coco import read_coco_json
from centermask_solo.data.formats.label_maps import voc_color
from centermask_solo.data.tools.convert import convert_dataset
from centermask_solo.data.tools.detection import find_format
from centermask_solo.data.tools.readers import read_dataset
from centermask_solo.data.validation.report import check_dataset
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data.tools import sets

# Objects of image 1 without overlaps, so that maps hold them all
APART = sets.SEGMENTATIONS
SMALL_ON_TOP = [([[0, 0, 20, 0, 20, 20, 0, 20]], 1, 0, 1), ([[5, 5, 9, 5, 9, 9, 5, 9]], 3, 0, 1)]


def there_and_back(folder, file_format, data=None, **options):
    """Convert a COCO json to a format and back; return what came back, and what got lost on the way there."""
    source, images = sets.write(folder, data)
    there = convert_dataset(
        source, file_format, str(folder / "there"), image_root=images, image_files="copy", **options
    )
    assert find_format(str(folder / "there")) == file_format
    convert_dataset(str(folder / "there"), "coco", str(folder / "back"))
    path = folder / "back" / "annotations.json"
    root = read_dataset(str(folder / "there")).image_root
    assert check_dataset(str(path), root).ok
    return json.loads(path.read_text(encoding="utf-8")), there.lost


def test_labelme_holds_everything(tmp_path, caplog):
    back, lost = there_and_back(tmp_path, "labelme")
    data = sets.content()
    assert sets.objects(back) == sets.objects(data)
    assert [x["name"] for x in back["categories"]] == sets.NAMES
    polygons = [x["segmentation"] for x in data["annotations"] if isinstance(x["segmentation"], list)]
    assert [x["segmentation"] for x in back["annotations"] if isinstance(x["segmentation"], list)] == polygons
    assert not lost and not caplog.messages


def test_yolo_holds_all_but_crowds_and_says_so_once(tmp_path, caplog):
    back, lost = there_and_back(tmp_path, "yolo")
    expected = sets.objects(sets.content([x for x in APART if not x[2]]))
    assert sets.objects(back) == expected  # pixel by pixel, parts and holes too
    assert back["annotations"][0]["segmentation"] == APART[0][0]
    assert lost == {
        "crowd regions (left out)": 1,
        "objects of several parts (joined by bridges without width)": 2,
        "objects with holes (joined by bridges without width)": 1,
    }
    assert len(caplog.messages) == 1 and "crowd regions (left out): 1" in caplog.messages[0]
    assert len((tmp_path / "there" / "labels" / "a b.txt").read_text().splitlines()) == 3
    assert (tmp_path / "there" / "labels" / "empty.txt").read_text() == ""


def test_overlapping_parts_stay_one_area_in_yolo(tmp_path):
    data = sets.content([([[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20]], 1, 0, 1)])
    back, _ = there_and_back(tmp_path, "yolo", data)
    assert sets.objects(back) == sets.objects(data)


def test_voc_holds_masks_and_makes_crowds_void(tmp_path):
    back, lost = there_and_back(tmp_path, "voc")
    assert sets.objects(back) == sets.objects(sets.content([x for x in APART if not x[2]]))
    assert [x["name"] for x in back["categories"]] == sets.NAMES and lost == {"crowd regions (void)": 1}
    there = Image.open(tmp_path / "there" / "SegmentationObject" / "a b.png")
    assert there.mode == "P" and np.array_equal(np.asarray(there) == 255, sets.crowd())
    assert there.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert voc_color(255) == [224, 224, 192]


def test_maps_hold_masks_and_crowds(tmp_path):
    back, lost = there_and_back(tmp_path, "maps")
    assert sets.objects(back) == sets.objects(sets.content()) and not lost
    assert cv2.imread(str(tmp_path / "there" / "maps" / "a b.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16


@pytest.mark.parametrize("file_format", ["voc", "maps"])
def test_small_objects_are_on_top_in_maps(tmp_path, file_format):
    back, lost = there_and_back(tmp_path, file_format, sets.content(SMALL_ON_TOP))
    assert lost == {"objects partly under others (only what is visible remains)": 1}
    assert sorted(x["area"] for x in back["annotations"]) == [16, 400 - 16]


def test_cityscapes_holds_its_own_classes(tmp_path):
    names = ["car", "person", "rider"]
    back, _ = there_and_back(tmp_path, "cityscapes", sets.content(names=names))
    expected = sets.objects(sets.content(names=names))
    assert sorted(sets.objects(back).values()) == sorted(expected.values())
    document = json.loads((tmp_path / "there/gtFine/train/default/a b_gtFine_polygons.json").read_text())
    assert sorted({x["label"] for x in document["objects"]}) == ["car", "rider", "ridergroup"]


def test_cityscapes_refuses_other_classes_before_it_writes(tmp_path):
    source, images = sets.write(tmp_path)
    with pytest.raises(DataError, match="has no class 'Blaumeise, jung'"):
        convert_dataset(source, "cityscapes", str(tmp_path / "there"), image_root=images)
    assert not (tmp_path / "there").exists()


def test_one_class(tmp_path):
    data = sets.content([(x[0], 1, 0, x[3]) for x in APART], names=["object"])
    for i, file_format in enumerate(("labelme", "yolo", "voc", "maps")):
        back, _ = there_and_back(tmp_path / str(i), file_format, data)
        assert sets.objects(back) == sets.objects(data)


def test_boxes_without_masks(tmp_path):
    data = sets.content()
    data["annotations"][0]["segmentation"] = []
    source, images = sets.write(tmp_path, data)
    found = convert_dataset(source, "yolo", str(tmp_path / "yolo"), image_root=images)
    assert found.lost["objects without a mask (left out)"] == 1
    assert not convert_dataset(source, "labelme", str(tmp_path / "labelme"), image_root=images).lost
    convert_dataset(str(tmp_path / "labelme"), "coco", str(tmp_path / "back"))
    back = read_coco_json(str(tmp_path / "back/annotations.json")).annotations[0]
    assert back["segmentation"] == [] and back["bbox"] == data["annotations"][0]["bbox"]


def test_other_entries_are_counted(tmp_path, caplog):
    data = sets.content()
    data["annotations"][0]["keypoints"] = [1, 1, 2]
    for x in data["images"][:2]:
        x |= {"neg_category_ids": [], "license": 3}
    data["categories"][0]["frequency"] = "r"
    source, images = sets.write(tmp_path, data)
    found = convert_dataset(source, "labelme", str(tmp_path / "there"), image_root=images)
    assert found.lost == {
        "entries 'frequency' of classes (left out)": 1,
        "entries 'keypoints' of objects (left out)": 1,
        "entries 'license' of images (left out)": 2,
        "entries 'neg_category_ids' of images (left out)": 2,
    }
    names = "frequency, keypoints, license, neg_category_ids"
    assert caplog.messages == [f"labelme cannot hold everything: entries of COCO's json (left out): {names}"]


def test_results_and_inputs_are_not_lost(tmp_path):
    source, images = sets.write(tmp_path)
    convert_dataset(source, "yolo", str(tmp_path / "there"), image_root=images)
    with pytest.raises(ConfigError, match="--overwrite"):
        convert_dataset(source, "yolo", str(tmp_path / "there"), image_root=images)
    convert_dataset(source, "yolo", str(tmp_path / "there"), image_root=images, overwrite=True)
    with pytest.raises(ConfigError, match="is in the output folder"):
        convert_dataset(source, "labelme", images, image_root=images, overwrite=True)
    with pytest.raises(ConfigError, match="in the format coco already"):
        convert_dataset(source, "coco", str(tmp_path / "other"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need permissions")
def test_images_that_are_not_where_they_should_be_are_named(tmp_path, caplog):
    source, images = sets.write(tmp_path)
    (tmp_path / "empty").mkdir()
    convert_dataset(source, "labelme", str(tmp_path / "right"), image_root=images)
    assert not any("missing" in x for x in caplog.messages)
    found = convert_dataset(source, "labelme", str(tmp_path / "wrong"), image_root=str(tmp_path / "empty"))
    (message,) = [x for x in caplog.messages if "missing" in x]
    assert message.startswith(f"the files of {found.images} of {found.images} images are missing, such as ")
    assert message.endswith("give their folder with --images")


def test_links_in_place_of_copies(tmp_path):
    source, images = sets.write(tmp_path)
    convert_dataset(source, "yolo", str(tmp_path / "there"), image_root=images, image_files="link")
    link = tmp_path / "there" / "images" / "a b.png"
    assert link.is_symlink() and link.read_bytes() == Path(images, "a b.png").read_bytes()


def labelme(folder, shapes, name="a.png", **entries):
    Image.new("RGB", (32, 24)).save(folder / name)
    document = {"shapes": shapes, "imagePath": name, "imageHeight": 24, "imageWidth": 32, **entries}
    (folder / "a.json").write_text(json.dumps(document))
    return str(folder)


def test_shapes_of_labelme(tmp_path):
    source = labelme(
        tmp_path,
        [
            {"label": "box", "shape_type": "rectangle", "points": [[10, 12], [2, 2]]},
            {"label": "disc", "shape_type": "circle", "points": [[16, 12], [24, 12]]},
            {"label": "line", "shape_type": "line", "points": [[0, 0], [9, 9]]},
            {"label": "two", "shape_type": "polygon", "points": [[0, 0], [9, 0], [9, 9]], "group_id": 0},
            {"label": "two", "shape_type": "polygon", "points": [[20, 0], [29, 0], [29, 9]], "group_id": 0},
            {"label": "one", "shape_type": "polygon", "points": [[20, 0], [29, 0], [29, 9]], "group_id": 0},
        ],
    )
    data = read_dataset(source)
    (image,) = data.images
    assert [x.name for x in image.objects] == ["box", "disc", "two", "one"]
    assert image.objects[0].segmentation == [[2, 2, 10, 2, 10, 12, 2, 12]]
    assert sets.mask(image.objects[1].segmentation).sum() == pytest.approx(np.pi * 64, rel=0.05)
    assert len(image.objects[2].segmentation) == 2
    assert data.lost == {"shapes of the type line (no area, left out)": 1}


def test_kinds_of_shapes_without_an_area_and_polygons_inside_of_others(tmp_path):
    """labelme knows no holes: what is inside of a polygon of its group is in the object; circles end at the border."""
    around, inside = [[2, 2], [20, 2], [20, 20], [2, 20]], [[8, 8], [12, 8], [12, 12], [8, 12]]
    source = labelme(
        tmp_path,
        [
            *({"label": "two", "points": points, "group_id": 7} for points in (around, inside)),
            {"label": "disc", "shape_type": "circle", "points": [[30, 20], [30, 26]]},
            {"label": "box", "shape_type": "oriented_rectangle", "points": [[0, -6], [6, 0], [0, 6], [-6, 0]]},
            {"label": "away", "shape_type": "circle", "points": [[-9, 20], [-3, 20]]},
            *(
                {"label": "x", "shape_type": kind, "points": [[0, 0], [9, 9]]}
                for kind in ("linestrip", "point", "points")
            ),
        ],
    )
    found = convert_dataset(source, "coco", str(tmp_path / "coco"))
    assert sum(found.lost.values()) == 4 and found.lost["shapes of the type linestrip (no area, left out)"] == 1
    json_file = str(tmp_path / "coco" / "annotations.json")
    data = json.loads(Path(json_file).read_text())
    two, disc, box = data["annotations"]
    assert two["area"] == 18 * 18 and disc["bbox"] == [24, 14, 8, 10]
    yy, xx = np.mgrid[:24, :32] + 0.5
    within = (xx - 30) ** 2 + (yy - 20) ** 2 <= 36
    assert np.count_nonzero(sets.mask(disc["segmentation"]) ^ within) <= 8 and box["bbox"] == [0, 0, 6, 6]
    assert check_dataset(json_file, source).ok


def test_labelme_files_whose_images_moved(tmp_path):
    (tmp_path / "json").mkdir()
    labelme(tmp_path / "json", [{"label": "x", "points": [[0, 0], [9, 0], [9, 9]]}], imagePath="C:\\old\\a.png")
    assert read_dataset(str(tmp_path)).images[0].file_name == "json/a.png"
    (tmp_path / "photos").mkdir()
    (tmp_path / "json" / "a.png").rename(tmp_path / "photos" / "a.png")
    data = read_dataset(str(tmp_path), image_root=str(tmp_path / "photos"))
    assert data.images[0].file_name == "a.png"


def test_broken_labelme_file(tmp_path):
    source = labelme(tmp_path, [{"label": "x", "shape_type": "mask", "points": [[0, 0], [9, 9]], "mask": "AAAA"}])
    with pytest.raises(DataError, match=r"a\.json: shape 0 is not labelme's"):
        read_dataset(source)


@pytest.mark.parametrize(
    ("shapes", "entries", "message"),
    [
        ([{"label": "x", "points": [[0, 0], [1e9, 0], [9, 9]]}], {}, "far outside of the image"),
        ([{"label": "x", "points": [[0, 0], [float("nan"), 0], [9, 9]]}], {}, "far outside of the image"),
        ([{"points": [[0, 0], [9, 0], [9, 9]]}], {}, "label"),
        (["x"], {}, "shape 0 is not labelme's"),
        ([], {"imageHeight": "24"}, "has an image of 32 x 24 pixels"),
    ],
)
def test_faults_of_labelme_files(tmp_path, shapes, entries, message):
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        read_dataset(labelme(tmp_path, shapes, **entries))


def test_masks_of_labelme_end_at_the_border(tmp_path):
    png = cv2.imencode(".png", np.full((6, 6), 255, np.uint8))[1].tobytes()
    shape = {"label": "x", "shape_type": "mask", "points": [[-2, 20], [3, 25]], "mask": base64.b64encode(png).decode()}
    (image,) = read_dataset(labelme(tmp_path, [shape])).images
    found = sets.mask(image.objects[0].segmentation)
    assert found.sum() == 4 * 4 and found[20:, :4].all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.1", "at least 3 points"),
        ("0 9 9 20 9 20 20", "from 0 to 1"),
        ("0 nan 0 1 0 1 1", "from 0 to 1"),
        ("3 0 0 1 0 1 1", "class 3 has no name"),
        ("a b", "does not consist of"),
    ],
)
def test_broken_yolo_file(tmp_path, line, message):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=rf"a\.txt, line 1: .*{message}"):
        read_dataset(str(tmp_path), class_names=["x"])


def test_yolo_layouts(tmp_path):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train/a.txt").write_text("1 0.25 0.5 0.5 0.5 0.5 1\n1 0.5 0.5 0.5 0.5")
    with pytest.raises(DataError, match="--class-names"):
        read_dataset(str(tmp_path), "yolo")
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog}")
    for source in (tmp_path, tmp_path / "images/train"):
        assert find_format(str(source)) == "yolo"
        data = read_dataset(str(source))
        assert data.class_names == ["cat", "dog"]
        assert [x.segmentation for x in data.images[0].objects] == [[[8, 12, 16, 12, 16, 24]], []]
        assert data.images[0].objects[1].box == [8, 6, 16, 12]


def test_folders_with_a_coco_json(tmp_path):
    json_file, _ = sets.write(tmp_path)
    folder = tmp_path / "images"
    (folder / "_annotations.coco.json").write_bytes(Path(json_file).read_bytes())
    data = read_dataset(str(folder))
    assert data.image_root == str(folder) and data.class_names == sets.NAMES
    assert all(Path(x.path).is_file() for x in data.images)
    (folder / "more.json").write_bytes(Path(json_file).read_bytes())
    with pytest.raises(DataError, match="has 2 jsons"):
        read_dataset(str(folder), "coco")


def test_bare_maps_of_one_class(tmp_path):
    (tmp_path / "maps").mkdir()
    ids = np.zeros((24, 32), np.uint16)
    ids[2:5, 2:5], ids[10:20, 10:20] = 700, 3
    Image.fromarray(ids).save(tmp_path / "maps" / "a.png")
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg")
    data = read_dataset(str(tmp_path / "maps"), "maps", str(tmp_path), ["cell"])
    assert [sets.mask(x.segmentation).sum() for x in data.images[0].objects] == [100, 9]
    with pytest.raises(DataError, match="--class-names"):
        read_dataset(str(tmp_path / "maps"), "maps", str(tmp_path))
    with pytest.raises(DataError, match="--images"):
        read_dataset(str(tmp_path), "maps", "", ["cell"])


@pytest.mark.parametrize("images", ["images", "elsewhere"])
def test_bare_maps_in_the_layout_of_this_package(tmp_path, images):
    for name in ("maps", images):
        (tmp_path / name).mkdir()
    Image.fromarray(np.full((24, 32), 5, np.uint16)).save(tmp_path / "maps" / "a.png")
    Image.new("RGB", (32, 24)).save(tmp_path / images / "a.jpg")
    data = read_dataset(str(tmp_path), "maps", "" if images == "images" else str(tmp_path / images), ["cell"])
    assert [x.file_name for x in data.images] == ["a.jpg"] and len(data.images[0].objects) == 1
    assert data.image_root == str(tmp_path / images)


def test_unknown_formats_and_sources(tmp_path):
    with pytest.raises(DataError, match="has no annotations in any of the formats coco, labelme"):
        find_format(str(tmp_path))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="name its format to 'data convert'"):
        find_format(str(tmp_path))
    with pytest.raises(DataError, match="is missing"):
        find_format(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="'labelm' is unknown; the nearest one is labelme"):
        convert_dataset(str(tmp_path), "labelm", str(tmp_path / "out"))
