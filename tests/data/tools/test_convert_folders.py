"""What conversion does to the files of its output folder, and where it looks for images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centermask_solo.data.formats.coco import read_coco_json
from centermask_solo.data.tools.convert import convert_dataset
from centermask_solo.data.tools.merge import merge_datasets
from centermask_solo.data.tools.readers import read_dataset
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data.tools import sets
from tests.data.tools.test_convert import labelme
from tests.data.tools.test_convert_contents import inside

TRIANGLE = [{"label": "x", "points": [[0, 0], [9, 0], [9, 9]]}]
ALL = ["coco", "labelme", "yolo", "voc", "maps", "cityscapes"]
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need permissions")


def content(names, classes=("car", "person"), segmentations=None):
    """A COCO json of some images, each with one object of the first class."""
    square = [[2, 2, 9, 2, 9, 9, 2, 9]]
    data = sets.content(segmentations or [(square, 1, 0, i) for i in range(1, len(names) + 1)], list(classes))
    size = {"width": sets.WIDTH, "height": sets.HEIGHT}
    return data | {"images": [{"id": i, "file_name": x, **size} for i, x in enumerate(names, 1)]}


def write(folder, data):
    """Write a COCO json and images, each of one color of its own; return their paths."""
    folder.mkdir(exist_ok=True)
    for i, x in enumerate(data["images"]):
        path = folder / "images" / x["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (x["width"], x["height"]), (40 * i, 0, 0)).save(path)
    (folder / "data.json").write_text(json.dumps(data))
    return str(folder / "data.json"), str(folder / "images")


def files_of(folder):
    return {str(x.relative_to(folder)): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def path_in(file_format, name):
    """Where a format has an image."""
    stem = name.removesuffix(".png")
    places = {"labelme": name, "voc": f"JPEGImages/{name}"}
    places["cityscapes"] = f"leftImg8bit/train/default/{stem}_leftImg8bit.png"
    return places.get(file_format, f"images/{name}")


def source_for(folder, file_format):
    """A dataset that can be converted to a format: labelme's for COCO, and otherwise COCO's."""
    json_file, images = write(folder, content(["x.png"]))
    if file_format != "coco":
        return json_file, images
    convert_dataset(json_file, "labelme", str(folder / "labelme"), image_root=images)
    return str(folder / "labelme"), images


@pytest.mark.parametrize("file_format", ALL)
@pytest.mark.parametrize("image_files", ["copy", pytest.param("link", marks=needs_links)])
def test_other_images_are_kept_unless_asked_for(tmp_path, file_format, image_files):
    source, images = source_for(tmp_path / "in", file_format)
    out = tmp_path / "out"
    there = out / path_in(file_format, "x.png")
    there.parent.mkdir(parents=True)
    there.write_bytes(b"another photograph")
    options = {"image_root": images, "image_files": image_files}
    with pytest.raises(ConfigError, match=r"x(_leftImg8bit)?\.png exists already: .* --overwrite"):
        convert_dataset(source, file_format, str(out), **options)
    assert files_of(out) == {str(there.relative_to(out)): b"another photograph"}  # nothing is half written
    convert_dataset(source, file_format, str(out), overwrite=True, **options)
    assert there.read_bytes() == Path(images, "x.png").read_bytes()
    assert there.is_symlink() == (image_files == "link")


@needs_links
def test_images_that_are_there_already(tmp_path):
    """A copy may be copied again, links and copies take each other's place, and the images themselves stay."""
    source, images = write(tmp_path / "in", content(["x.png"]))
    there = tmp_path / "out" / "images" / "x.png"
    there.parent.mkdir(parents=True)
    there.write_bytes(Path(images, "x.png").read_bytes())
    convert_dataset(source, "yolo", str(tmp_path / "out"), image_root=images, image_files="copy")
    for image_files in ("link", "link", "copy"):
        options = {"image_root": images, "image_files": image_files, "overwrite": True}
        convert_dataset(source, "yolo", str(tmp_path / "out"), **options)
        assert there.is_symlink() == (image_files == "link")
        assert there.read_bytes() == Path(images, "x.png").read_bytes()
    (tmp_path / "json").mkdir()
    labelme(tmp_path / "json", TRIANGLE, imagePath="../out/images/x.png")
    (tmp_path / "json" / "a.png").unlink()
    for image_files in ("link", "copy"):
        data = read_dataset(str(tmp_path / "json"))
        assert data.image_root == str(there.parent) and [x.file_name for x in data.images] == ["x.png"]
        convert_dataset(str(tmp_path / "json"), "yolo", str(tmp_path / "out"), image_files=image_files, overwrite=True)
        assert not there.is_symlink() and there.read_bytes() == Path(images, "x.png").read_bytes()


def labelme_outside(folder, names):
    """A folder of labelme's files of images in the folder "out" beside it."""
    labels = folder / "json"
    labels.mkdir()
    for i, name in enumerate(names):
        path = folder / "out" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (i, 0, 0)).save(path)
        document = {"shapes": TRIANGLE, "imagePath": f"../out/{name}.png", "imageHeight": 24, "imageWidth": 32}
        (labels / f"{i}.json").write_text(json.dumps(document))
    return str(labels), folder / "out"


@pytest.mark.parametrize(("names", "image_files"), [(["sub/x", "images/sub/x"], "copy"), (["b/y", "maps/b/y"], "none")])
def test_images_of_the_input_are_never_replaced(tmp_path, names, image_files):
    """Not even with --overwrite: here the first of two, or its map, would be where the second is."""
    source, out = labelme_outside(tmp_path, names)
    before = files_of(out)
    with pytest.raises(ConfigError, match=rf"{names[1]}\.png is an input, which would be lost: choose another folder"):
        convert_dataset(source, "maps", str(out), image_files=image_files, overwrite=True)
    assert files_of(out) == before


def test_images_of_the_input_are_no_earlier_result(tmp_path):
    source, out = labelme_outside(tmp_path, ["x", "maps/y"])
    before = files_of(out)
    convert_dataset(source, "maps", str(out), overwrite=True)
    assert files_of(out).items() > before.items()


@pytest.mark.parametrize("where", ["out/data.json", "out/deep/er/data.json"])
def test_inputs_below_the_output_folder(tmp_path, where):
    json_file, images = write(tmp_path / "in", content(["x.png"]))
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    Path(json_file).rename(path)
    with pytest.raises(ConfigError, match="is in the output folder"):
        convert_dataset(str(path), "yolo", str(tmp_path / "out"), image_root=images, overwrite=True)


@pytest.mark.parametrize("file_format", ALL[1:])
def test_nothing_of_an_earlier_result_comes_back(tmp_path, file_format):
    """Its classes would be read by the numbers of the new ones."""
    first = write(tmp_path / "a", content(["a.png", "sub/b.png"]))
    second = write(tmp_path / "b", content(["sub/b.png"], ["person", "car"]))
    out = tmp_path / "out"
    convert_dataset(first[0], file_format, str(out), image_root=first[1])
    foreign = {"notes.json": b'{"mine": 1}', "labels/.hidden.txt": b"mine", "gtFine/notes.txt": b"mine"}
    for name, text in foreign.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(text)
    with pytest.raises(ConfigError, match="--overwrite"):
        convert_dataset(second[0], file_format, str(out), image_root=second[1])
    convert_dataset(second[0], file_format, str(out), image_root=second[1], image_files="copy", overwrite=True)
    (tmp_path / "new").mkdir()
    convert_dataset(second[0], file_format, str(tmp_path / "new"), image_root=second[1], image_files="copy")
    assert files_of(out) == files_of(tmp_path / "new") | foreign
    data = read_dataset(str(out), file_format)
    assert [[y.name for y in x.objects] for x in data.images] == [["person"]]


def test_images_of_an_earlier_result_are_not_taken_for_images_without_objects(tmp_path):
    first = write(tmp_path / "a", content(["a.png", "sub/b.png", "c.png"]))
    second = write(tmp_path / "b", content(["sub/b.png"], ["person", "car"]))
    out = tmp_path / "out"
    convert_dataset(first[0], "yolo", str(out), image_root=first[1], image_files="copy")
    before = files_of(out)
    with pytest.raises(ConfigError, match=r"a\.png, and 1 more, which the dataset lacks, .*: remove it"):
        convert_dataset(second[0], "yolo", str(out), image_root=second[1], image_files="copy", overwrite=True)
    assert files_of(out) == before
    for name in ("a.png", "c.png"):
        (out / "images" / name).unlink()
    convert_dataset(second[0], "yolo", str(out), image_root=second[1], image_files="copy", overwrite=True)
    assert [x.file_name for x in read_dataset(str(out)).images] == ["sub/b.png"]


@pytest.mark.parametrize(
    ("file_format", "name"), [("labelme", "labels.txt"), ("voc", "ImageSets/Segmentation/default.txt")]
)
def test_files_of_the_whole_dataset_are_kept(tmp_path, file_format, name):
    source, images = write(tmp_path / "in", content(["x.png"]))
    there = tmp_path / "out" / name
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(ConfigError, match=f"such as {Path(name).name}: .* --overwrite"):
        convert_dataset(source, file_format, str(tmp_path / "out"), image_root=images)
    assert there.read_text() == "mine"


def test_own_names_of_yolo_come_before_those_of_other_yamls(tmp_path):
    source, images = write(tmp_path / "in", content(["x.png"]))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "coco.yaml").write_text("names: [zebra, yak]")
    convert_dataset(source, "yolo", str(tmp_path / "out"), image_root=images, image_files="copy")
    assert read_dataset(str(tmp_path / "out"), "yolo").class_names == ["car", "person"]


@pytest.mark.parametrize(
    ("file_format", "names", "path"),
    [
        ("yolo", ["a.jpg", "a.png"], "labels/a.txt"),
        ("yolo", ["a.png", "./a.png"], "images/a.png"),
        ("maps", ["a.png", "b.png", "b.jpg"], "maps/b.png"),
        ("cityscapes", ["x.jpg", "default/x.jpg"], "leftImg8bit/train/default/x_leftImg8bit.png"),
        ("cityscapes", ["x.png", "x_leftImg8bit.png"], "leftImg8bit/train/default/x_leftImg8bit.png"),
    ],
)
def test_images_that_would_become_one(tmp_path, file_format, names, path):
    source, images = write(tmp_path / "in", content(names))
    with pytest.raises(DataError, match=f"the images {names[-2]} and {names[-1]} would both become {path}: rename one"):
        convert_dataset(source, file_format, str(tmp_path / "out"), image_root=images, image_files="copy")
    assert not (tmp_path / "out").exists()


def test_images_that_are_annotated_twice(tmp_path):
    source = labelme(tmp_path, TRIANGLE)
    (tmp_path / "b.json").write_bytes((tmp_path / "a.json").read_bytes())
    with pytest.raises(DataError, match=r"the image a\.png is annotated twice: join its annotations"):
        convert_dataset(source, "coco", str(tmp_path / "out"))


def turned(path):
    """Write a JPEG of 24 x 32 pixels, shown as 32 x 24 with red at the top right."""
    pixels = np.zeros((32, 24, 3), np.uint8)
    pixels[:8, :8] = 255, 0, 0  # which a quarter turn moves to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, quality=95, exif=exif)


def test_turned_images_become_pngs_as_they_are_shown(tmp_path):
    source, images = write(tmp_path / "in", content(["x.jpg"]))
    turned(Path(images, "x.jpg"))
    convert_dataset(source, "cityscapes", str(tmp_path / "out"), image_root=images, image_files="copy")
    image = Image.open(tmp_path / "out/leftImg8bit/train/default/x_leftImg8bit.png")
    assert image.size == (sets.WIDTH, sets.HEIGHT) and not image.getexif()
    assert image.getpixel((28, 3))[0] > 200 > 50 > image.getpixel((3, 3))[0]


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGBA", "I;16"])
def test_images_of_any_kind_become_pngs_in_colors(tmp_path, mode):
    name = "x.jpg" if mode == "CMYK" else "x.tif"
    source, images = write(tmp_path / "in", content([name]))
    pixels = np.full((sets.HEIGHT, sets.WIDTH), 700, np.uint16)
    (Image.fromarray(pixels) if mode == "I;16" else Image.new(mode, (32, 24))).save(Path(images, name))
    convert_dataset(source, "cityscapes", str(tmp_path / "out"), image_root=images, image_files="copy")
    image = Image.open(tmp_path / "out/leftImg8bit/train/default/x_leftImg8bit.png")
    assert (image.mode, image.size) == ("RGB", (sets.WIDTH, sets.HEIGHT))


def test_images_inside_of_labelme_files_become_pngs_as_labelme_shows_them(tmp_path):
    pixels = inside(tmp_path / "json", shapes=[TRIANGLE[0] | {"label": "car"}], imagePath="a.jpg")
    convert_dataset(str(tmp_path / "json"), "cityscapes", str(tmp_path / "out"), image_files="copy")
    found = Image.open(tmp_path / "out/leftImg8bit/train/default/a_leftImg8bit.png")
    assert np.array_equal(np.asarray(found), pixels)


@pytest.mark.parametrize(("name", "message"), [("none", "does not exist"), ("file", "is no folder")])
def test_folders_of_images_that_are_none(tmp_path, name, message):
    (tmp_path / "file").touch()
    where, message = str(tmp_path / name), f"{name}, given as the folder of the images, {message}: correct the path"
    source, images = sets.write(tmp_path)
    convert_dataset(source, "yolo", str(tmp_path / "yolo"), image_root=images)
    labels = labelme(tmp_path / "images", TRIANGLE)
    for start in (source, str(tmp_path / "yolo"), labels):
        with pytest.raises(ConfigError, match=message):
            convert_dataset(start, "maps", str(tmp_path / "out"), image_root=where)
    (tmp_path / "more").mkdir()
    other, _ = sets.write(tmp_path / "more")
    for roots in ([where], [images, where]):
        with pytest.raises(ConfigError, match=message):
            merge_datasets([source, other], str(tmp_path / "all.json"), roots)
    assert not (tmp_path / "out").exists() and not (tmp_path / "all.json").exists()


def test_the_folder_of_images_is_where_they_were_found(tmp_path):
    for name in ("json", "photos"):
        (tmp_path / name).mkdir()
    source = labelme(tmp_path / "json", TRIANGLE)
    found = convert_dataset(source, "coco", str(tmp_path / "coco"), image_root=str(tmp_path / "photos"))
    assert found.image_root == str(tmp_path / "json")
    (image,) = read_coco_json(str(tmp_path / "coco" / "annotations.json")).images
    assert Path(found.image_root, image["file_name"]).is_file()
    Path(source, "a.png").unlink()
    data = read_dataset(source, image_root=str(tmp_path / "photos"))  # whose file says the size
    assert (data.image_root, data.images[0].file_name) == (str(tmp_path / "photos"), "a.png")
