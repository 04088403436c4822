import importlib.util
import json
import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from centermask_solo.data.datasets import load_dataset
from centermask_solo.data.own_files import register_files
from centermask_solo.data.tools.merge import merge_datasets
from centermask_solo.data.tools.split import split_dataset, stratify
from centermask_solo.data.tools.subset import subset_dataset
from centermask_solo.data.validation.report import check_dataset
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data.tools import sets


def many(folder, count=100, name="data.json", first=0):
    """A json without image files: ten images a folder, a rare class in every tenth and a common one in every second."""
    images = [
        {"id": 7 * i, "file_name": f"video{i // 10}/{i}.jpg", "width": 32, "height": 24} for i in range(first, count)
    ]
    annotations = []
    for x in images:
        classes = [5] * (x["id"] % 2) + [2] * 2 * (x["id"] // 7 % 10 == 0)
        for category in classes:
            entry = {"id": len(annotations) + 1, "image_id": x["id"], "category_id": category, "note": "kept"}
            entry |= {"bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 5.25, 1, 5, 5]], "area": 8, "iscrowd": 0}
            annotations.append(entry)
    categories = [{"id": 5, "name": "common"}, {"id": 2, "name": "rare"}]
    content = {"info": {"year": 2}, "images": images, "annotations": annotations, "categories": categories}
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def test_parts_have_the_same_share_of_each_class_and_nothing_is_lost(tmp_path):
    source = many(tmp_path)
    parts = split_dataset(source, str(tmp_path / "out"), {"train": 0.7, "val": 0.2, "test": 0.1})
    assert {name: (x.images, x.objects_of_class) for name, x in parts.items()} == {
        "train": (70, {"rare": 14, "common": 35}),
        "val": (20, {"rare": 4, "common": 10}),
        "test": (10, {"rare": 2, "common": 5}),
    }
    whole, found = load(source), [load(x.file) for x in parts.values()]
    for key in ("images", "annotations"):
        assert sorted((x for part in found for x in part[key]), key=lambda x: x["id"]) == whole[key]
    assert all(x["info"] == {"year": 2} and len(x["categories"]) == 2 for x in found)


def test_the_seed_decides(tmp_path):
    source = many(tmp_path)
    ratios = {"a": 1, "b": 1}
    first = [split_dataset(source, str(tmp_path / str(i)), ratios, seed=s)["a"].file for i, s in enumerate((0, 0, 1))]
    assert load(first[0]) == load(first[1]) != load(first[2])


@pytest.mark.parametrize("group_by", ["folder", r"(video\d+)/", r"video\d"])
def test_groups_stay_together(tmp_path, group_by):
    parts = split_dataset(many(tmp_path), str(tmp_path / "out"), {"train": 0.8, "val": 0.2}, group_by=group_by)
    folders = [{x["file_name"].split("/")[0] for x in load(part.file)["images"]} for part in parts.values()]
    assert not folders[0] & folders[1] and [len(x) for x in folders] == [8, 2]


def test_a_rare_class_reaches_both_parts():
    part_of = stratify([1] * 20, [{"common", "rare"}] * 2 + [{"common"}] * 18, [0.5, 0.5], 0)
    assert sorted(part_of[:2]) == [0, 1] and part_of.count(0) == 10


@pytest.mark.parametrize("count", [12, 40])
def test_parts_have_their_share_although_every_image_has_a_rare_class(count):
    part_of = stratify([1] * count, [{f"only in {i}", "common"} for i in range(count)], [0.8, 0.2], 0)
    assert part_of.count(1) == round(0.2 * count)


@pytest.mark.parametrize("num_groups", [3, 5, 8])
def test_no_part_is_empty_while_there_are_groups(num_groups):
    """Also a small part gets a group where its share is less than one."""
    part_of = stratify([2] * num_groups, [{f"only in {i}", "common"} for i in range(num_groups)], [0.7, 0.2, 0.1], 0)
    assert set(part_of) == {0, 1, 2}
    assert part_of.count(0) == max(part_of.count(x) for x in range(3))


def test_nothing_is_overwritten(tmp_path):
    source = many(tmp_path)
    with pytest.raises(ConfigError, match="is an input"):
        split_dataset(source, str(tmp_path), {"data": 1, "b": 1}, overwrite=True)
    split_dataset(source, str(tmp_path), {"a": 1, "b": 1})
    with pytest.raises(ConfigError, match="--overwrite"):
        split_dataset(source, str(tmp_path), {"a": 1, "b": 1})
    with pytest.raises(ConfigError, match="would have no image"):
        split_dataset(source, str(tmp_path / "c"), {"a": 1, "b": 1}, group_by="video")


def test_a_part_of_the_division_that_is_replaced_may_not_stay(tmp_path):
    """Its images would be in two parts. Files of the user's own in the folder are none of its business."""
    source, folder = many(tmp_path), tmp_path / "out"
    split_dataset(source, str(folder), {"train": 0.7, "val": 0.2, "test": 0.1})
    subset_dataset(source, str(folder / "few.json"), count=40)  # of images in all parts
    (folder / "notes.json").write_text("[1, 2")
    before = {x.name: x.read_bytes() for x in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"test\.json is a part of the earlier division, .*: remove it"):
        split_dataset(source, str(folder), {"train": 0.8, "val": 0.2}, overwrite=True)
    assert {x.name: x.read_bytes() for x in folder.iterdir()} == before
    (folder / "test.json").unlink()
    parts = split_dataset(source, str(folder), {"train": 0.8, "val": 0.2}, overwrite=True)
    assert [x.images for x in parts.values()] == [80, 20]
    assert sorted(x.name for x in folder.iterdir()) == ["few.json", "notes.json", "train.json", "val.json"]


def test_divisions_beside_each_other_are_replaced_one_by_one(tmp_path):
    """As the parts of a cross-validation, also in the folder of the dataset."""
    source = many(tmp_path)
    for seed in (0, 1, 0):
        parts = {f"train_{seed}": 0.8, f"val_{seed}": 0.2}
        split_dataset(source, str(tmp_path), parts, seed=seed, overwrite=True)
    assert len(list(tmp_path.glob("*_[01].json"))) == 4


def test_merge_by_names(tmp_path):
    sets.write(tmp_path / "may")
    data = sets.content(names=["person", "elk", "猫"])
    data["categories"][1]["supercategory"] = "animal"
    sets.write(tmp_path / "june", data)
    files, roots = ([str(tmp_path / x / y) for x in ("may", "june")] for y in ("data.json", "images"))
    found = merge_datasets(files, str(tmp_path / "all.json"), roots)
    assert found.classes == [*sets.NAMES, "elk"] and (found.images, found.objects) == (6, 10)
    whole = load(found.file)
    assert [x["id"] for x in whole["annotations"]] == list(range(1, 11))
    assert whole["categories"][3] == {"id": 4, "name": "elk", "supercategory": "animal"}
    expected = {}
    for name, part in (("may", sets.content()), ("june", data)):
        expected |= {f"{name}/images/{key}": x for key, x in sets.objects(part).items()}
    assert sets.objects(whole) == expected
    assert all((tmp_path / x["file_name"]).is_file() for x in whole["images"]) and found.image_root == str(tmp_path)


def test_clashes_of_names_are_refused_or_joined(tmp_path):
    files = [many(tmp_path), many(tmp_path, 110, "more.json", first=95)]
    with pytest.raises(DataError, match=r"have the image video9/95\.jpg.*--join"):
        merge_datasets(files, str(tmp_path / "all.json"))
    found = merge_datasets(files, str(tmp_path / "all.json"), join=True)
    assert (found.images, found.joined) == (110, 5)


def federated(folder, name, classes, images, **entries):
    """A json as LVIS's: images by name with the classes of their objects, negative and not exhaustive ones."""
    ids = {x: i for i, x in enumerate(classes, 1)}
    categories = [{"id": i, "name": x, "frequency": "f"} for x, i in ids.items()]
    content = {"images": [], "annotations": [], "categories": categories, **entries}
    for i, (file_name, lists) in enumerate(images.items(), 1):
        present, negative, not_exhaustive = ([ids[x] for x in names.split()] for names in lists)
        image = {"id": i, "file_name": file_name, "width": 32, "height": 24, "license": 1}
        image |= {"neg_category_ids": negative, "not_exhaustive_category_ids": not_exhaustive}
        content["images"].append(image)
        for c in present:
            entry = {"id": len(content["annotations"]) + 1, "image_id": i, "category_id": c, "bbox": [1, 1, 4, 4]}
            content["annotations"].append(entry | {"segmentation": [[1, 1, 5, 1, 5, 5]], "area": 8, "iscrowd": 0})
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


def by_name(data):
    """What a json says about each image: the classes of its objects, its negative and its not exhaustive ones."""
    names = {x["id"]: x["name"] for x in data["categories"]}
    found = {}
    for image in data["images"]:
        present = [x["category_id"] for x in data["annotations"] if x["image_id"] == image["id"]]
        lists = (present, image["neg_category_ids"], image["not_exhaustive_category_ids"])
        found[image["file_name"]] = tuple(" ".join(names[i] for i in ids) for ids in lists)
    return found


def test_merged_images_name_the_classes_and_licenses_that_they_did(tmp_path):
    licenses = [[{"id": 1, "name": "A"}, {"id": 5, "name": "C"}], [{"id": 1, "name": "B"}, {"id": 2, "name": "A"}]]
    first = {"a.jpg": ("cat", "dog", "cat")}
    second = {"b.jpg": ("dog", "cat fox", "dog"), "c.jpg": ("", "", ""), "d.jpg": ("fox", "", "")}
    files = [
        federated(tmp_path, "a.json", ["cat", "dog"], first, licenses=licenses[0]),
        federated(tmp_path, "b.json", ["dog", "cat", "fox"], second, licenses=licenses[1]),
    ]
    data = load(files[1])
    data["images"][1]["license"], data["images"][2]["license"] = 2, 9  # which is not listed
    (tmp_path / "b.json").write_text(json.dumps(data))
    whole = load(merge_datasets(files, str(tmp_path / "all.json")).file)
    assert by_name(whole) == first | second
    assert whole["licenses"] == [{"id": 1, "name": "A"}, {"id": 2, "name": "C"}, {"id": 3, "name": "B"}]
    assert [x["license"] for x in whole["images"]] == [1, 3, 1, None]


@pytest.mark.parametrize("layout", ["split", "folder", "flat"])
def test_merged_images_of_lvis_are_found(tmp_path, layout):
    """LVIS's images have no file_name: their URLs name them and the folder of their split, which may be given, too."""
    files, roots, below = [], [], "" if layout == "flat" else "train2017"
    for i, name in enumerate(["may", "june"]):
        files.append(
            federated(tmp_path, f"{name}.json", ["cat", "dog"], {f"{k}.jpg": ("cat", "dog", "") for k in "ab"})
        )
        data = load(files[-1])
        for x in data["images"]:
            x["coco_url"] = f"http://images.cocodataset.org/train2017/{x.pop('file_name')}"
            path = tmp_path / name / below / x["coco_url"][-5:]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24), (i, 0, 0)).save(path)
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
        roots.append(str(tmp_path / name / ("train2017" if layout == "folder" else "")))
    found = merge_datasets(files, str(tmp_path / "all.json"), roots)
    paths = [str(tmp_path / name / below / f"{k}.jpg") for name in ("may", "june") for k in "ab"]
    assert [os.path.join(found.image_root, x["file_name"]) for x in load(found.file)["images"]] == paths
    if importlib.util.find_spec("lvis"):
        name = register_files(found.file, found.image_root)
        assert [x["file_name"] for x in load_dataset(name)] == paths
        assert check_dataset(name).ok
        for catalog in (DatasetCatalog, MetadataCatalog):
            catalog.remove(name)
    assert check_dataset(found.file, found.image_root).ok


def test_joined_images_have_the_lists_of_all(tmp_path):
    files = [
        federated(tmp_path, "a.json", ["cat", "dog"], {"a.jpg": ("cat", "dog", "")}),
        federated(tmp_path, "b.json", ["fox", "cat"], {"a.jpg": ("", "fox", "cat")}),
    ]
    whole = load(merge_datasets(files, str(tmp_path / "all.json"), join=True).file)
    assert by_name(whole) == {"a.jpg": ("cat", "dog fox", "cat")}
    assert whole["images"][0]["license"] == 1 and "licenses" not in whole


@pytest.mark.parametrize("classes", ["fox cat", "cat", "fox"])
def test_subsets_of_classes_can_be_evaluated_as_lvis(tmp_path, classes):
    source = federated(
        tmp_path,
        "a.json",
        ["cat", "dog", "fox"],
        {"a.jpg": ("dog fox", "cat", "dog"), "b.jpg": ("cat", "dog fox", "cat")},
    )
    found = load(subset_dataset(source, str(tmp_path / "part.json"), classes=classes.split()).file)
    assert [x["id"] for x in found["categories"]] == list(range(1, len(classes.split()) + 1))
    expected = {
        name: tuple(" ".join(x for x in names.split() if x in classes) for names in lists)
        for name, lists in by_name(load(source)).items()
    }
    assert by_name(found) == expected
    name = register_files(str(tmp_path / "part.json"))  # which refuses ids of LVIS that are not 1, 2, ...
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove(name)


@pytest.mark.parametrize("category", [4, "cat", [1], None])
def test_lists_of_unknown_categories_are_refused(tmp_path, category):
    source = federated(tmp_path, "a.json", ["cat"], {"a.jpg": ("cat", "", "")})
    data = load(source)
    data["images"][0]["neg_category_ids"] = [1, category]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"a\.json: image 1 has .* in 'neg_category_ids', which is no category"):
        subset_dataset(source, str(tmp_path / "part.json"))


def test_subset(tmp_path):
    source = many(tmp_path)
    found = subset_dataset(source, str(tmp_path / "rare.json"), classes=["rare"], min_objects=1)
    assert (found.images, found.objects_of_class) == (10, {"rare": 20})
    assert [x["name"] for x in load(found.file)["categories"]] == ["rare"]
    found = subset_dataset(source, str(tmp_path / "few.json"), pattern="video3/*", count=4)
    assert found.images == 4 and all(x["file_name"].startswith("video3/") for x in load(found.file)["images"])
    with pytest.raises(ConfigError, match="only 10 images for --count, fewer than 11"):
        subset_dataset(source, str(tmp_path / "x.json"), pattern="video3/*", count=11)
    with pytest.raises(ConfigError, match="no class 'rar'; the nearest one is rare"):
        subset_dataset(source, str(tmp_path / "x.json"), classes=["rar"])


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("images", "id", [1], "the 'id' of an image entry is missing or unusable"),
        ("images", "file_name", 5, "the 'file_name' of an image entry is missing or unusable"),
        ("categories", "name", None, "the 'name' of a category entry is missing or unusable"),
        ("annotations", "image_id", [1], r"has image \[1\] and category 1, one of which is not listed"),
        ("annotations", "category_id", {}, "one of which is not listed"),
    ],
)
def test_entries_of_other_types_are_refused(tmp_path, where, key, value, message):
    data = sets.content()
    data[where][0][key] = value
    source, _ = sets.write(tmp_path, data)
    with pytest.raises(DataError, match=message):
        subset_dataset(source, str(tmp_path / "part.json"))


def test_faulty_files_are_refused(tmp_path):
    data = sets.content()
    data["annotations"][0]["category_id"] = 99
    source, _ = sets.write(tmp_path, data)
    with pytest.raises(DataError, match="category 99, one of which is not listed"):
        split_dataset(source, str(tmp_path / "out"), {"a": 1, "b": 1})
    with pytest.raises(DataError, match="is a folder"):
        subset_dataset(str(tmp_path), str(tmp_path / "x.json"))
