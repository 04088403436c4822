"""Pages and sheets of ground truth show what training is given."""

import json

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from PIL import Image

from centermask_solo.cli import main
from centermask_solo.visualization.browse import _pixels
from centermask_solo.visualization.drawing import draw_training_sample
from tests.cli.test_cli import fails
from tests.data.validation.clean_set import NUM_IMAGES, clean, write
from tests.visualization.test_html_page import Tags

SMALL = ["--options", "INPUT.MIN_SIZE_TRAIN", "(60,)"]


@pytest.fixture
def files(tmp_path):
    data = clean()
    data["annotations"][0]["iscrowd"] = 1
    write(tmp_path / "data", data)
    return [str(tmp_path / "data" / "data.json"), str(tmp_path / "data")]


def browse(files, path, *flags):
    main(["data", "browse", *files, "--output", str(path), *flags])
    return path.read_bytes()


def objects_of(page):
    found = [json.loads(x["data-objects"]) for x in Tags(page.decode()).of("figure")]
    return {(y["class"], y["size"]) for x in found for y in x}


def test_files_as_they_are(files, tmp_path, capsys):
    page = browse(files, tmp_path / "page.html", "--no-augment")
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}: {NUM_IMAGES} images\n"
    found = Tags(page.decode())
    assert f"{NUM_IMAGES} of {NUM_IMAGES} images, as they are in the files." in " ".join(found.texts)
    assert [x["data-name"] for x in found.of("figure")] == ["1.png", "2.png", "3.png", "4.png"]
    assert {x["width"] for x in found.of("img")} == {"96"}
    assert objects_of(page) == {("robin", "small"), ("wren", "small")}
    cells = [x for x in found.texts if x]
    assert cells[cells.index("all") + 1 :][:10] == [*("robin", "12", "0", "0", "12"), *("wren", "12", "0", "0", "12")]


@pytest.mark.parametrize(("most", "names"), [(3, "1 2 3"), (2, "1 3"), (1, "1"), (9, "1 2 3 4")])
def test_images_are_spread_over_the_dataset(files, tmp_path, most, names):
    page = browse(files, tmp_path / "page.html", "--no-augment", "--max-images", str(most))
    assert [x["data-name"] for x in Tags(page.decode()).of("figure")] == [f"{x}.png" for x in names.split()]


@pytest.mark.parametrize("config", ["SOLOv2/solov2_R_50_1x.yaml", "YOLACT/yolact_resnet50.yaml"])
def test_augmentation_depends_on_the_seed_only(files, tmp_path, config):
    flags = ["--config-file", config, *SMALL, "--max-images", "2"]
    pages = [browse(files, tmp_path / f"{i}.html", *flags, "--seed", seed) for i, seed in enumerate("778")]
    assert pages[0] == pages[1] != pages[2]
    found = Tags(pages[0].decode())
    assert [x["data-name"] for x in found.of("figure")] == ["1.png", "3.png"]
    assert "AugmentationList" not in pages[0].decode() and "images, after " in " ".join(found.texts)
    sizes = {(x["width"], x["height"]) for x in found.of("img")}
    assert sizes == ({("550", "550")} if "YOLACT" in config else {("80", "60")})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["INPUT.LSJ.ENABLED", "True", "INPUT.LSJ.SIZE", "64"], "ResizeScale("),
        (["INPUT.COLOR", "strong"], "PhotometricDistortion("),
        (["INPUT.ERASE.PROB", "1.0"], "RandomErase("),
        (["INPUT.COPY_PASTE.PROB", "1.0"], "CopyPaste(prob=1)"),
        (["INPUT.MOSAIC.PROB", "1.0"], "Mosaic(prob=1)"),
    ],
)
def test_each_augmentation_is_shown_and_named(files, tmp_path, options, words):
    flags = ["--config-file", "SOLOv2/solov2_R_50_1x.yaml", "--max-images", "2", "--seed", "1"]
    plain, changed = (
        browse(files, tmp_path / f"{len(more)}.html", *flags, *SMALL, *more).decode() for more in ([], options)
    )
    assert words in " ".join(Tags(changed).texts) and words not in " ".join(Tags(plain).texts)
    first = [[x["src"] for x in Tags(page).of("img")] for page in (plain, changed)]
    assert all(a != b for a, b in zip(*first, strict=True))


def test_sheet(files, tmp_path, capsys):
    browse(files, tmp_path / "sheet.png", *SMALL, "--color-by", "class")
    assert Image.open(tmp_path / "sheet.png").width > 96 * 3
    argv = ["data", "browse", *files, "--output", str(tmp_path / "sheet.png")]
    code, text = fails(capsys, *argv)
    assert code == 2 and "sheet.png exists already" in text
    main([*argv, "--overwrite", "--max-images", "1"])
    assert capsys.readouterr().out.endswith("sheet.png: 1 image\n")
    code, text = fails(capsys, *argv[:-1], str(tmp_path / "sheet.txt"))
    assert code == 2 and "sheet.txt does not have the extension of a picture" in text
    code, text = fails(capsys, *argv[:-1], files[1] + "/1.png", "--overwrite")
    assert code == 2 and "is an input" in text


def test_bad_input(files, tmp_path, capsys):
    output = ["--output", str(tmp_path / "x.html")]
    code, text = fails(capsys, "data", "browse", *output)
    assert (code, text) == (2, "error: give a dataset, or a --config-file whose DATASETS.TRAIN names one\n")
    code, text = fails(capsys, "data", "browse", files[0], *output)
    assert (code, text) == (2, f"error: give the folder of the images after {files[0]}\n")
    code, text = fails(capsys, "data", "browse", *files, *output, "--options", "INPUT.NO", "1")
    assert code == 2 and "INPUT.NO" in text
    assert not (tmp_path / "x.html").exists()


def test_values_beyond_those_of_pictures_are_clipped():
    image = torch.tensor([-20.0, 100.4, 300.0])[:, None, None].expand(3, 2, 2)
    assert _pixels(image, "BGR")[0, 0].tolist() == [255, 100, 0]
    assert _pixels(image, "RGB")[0, 0].tolist() == [0, 100, 255]


def sample(**fields):
    found = Instances((40, 60), gt_classes=torch.tensor([0, 1]))
    for name, value in fields.items():
        found.set(name, value)
    return found


def test_masks_of_every_kind_are_drawn_alike():
    image, metadata = np.zeros((40, 60, 3), np.uint8), Metadata(name="x", thing_classes=["cat", "dog"])
    polygons = PolygonMasks([[np.array([4.0, 4, 24, 4, 24, 30, 4, 30])], [np.array([40.0, 8, 56, 8, 56, 20, 40, 20])]])
    drawn = draw_training_sample(image, sample(gt_masks=polygons), metadata)
    bitmasks = BitMasks.from_polygon_masks(polygons, 40, 60)
    np.testing.assert_array_equal(drawn, draw_training_sample(image, sample(gt_masks=bitmasks), metadata))
    assert drawn[25, 6].any() and not drawn[35, 35].any()
    crowds = sample(gt_masks=bitmasks, gt_is_crowd=torch.tensor([True, False]))
    gray = draw_training_sample(image, crowds, metadata)[25, 6]
    assert gray[0] == gray[1] == gray[2] > 0
    boxes = draw_training_sample(image, sample(gt_boxes=polygons.get_bounding_boxes()), metadata)
    assert boxes[4, 6].any() and not boxes[28, 6].any()
    nothing = Instances((40, 60), gt_classes=torch.zeros(0, dtype=torch.int64), gt_boxes=Boxes(torch.zeros(0, 4)))
    np.testing.assert_array_equal(draw_training_sample(image, nothing, metadata), image)
