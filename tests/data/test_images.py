"""One reader for all images: the right pixels of every kind of file, and one line for the others."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data.detection_utils import read_image as read_with_detectron2
from PIL import Image
from torchvision.io import decode_jpeg

from centermask_solo import add_centermask_solo_config
from centermask_solo.data import images
from centermask_solo.data.images import MAX_PIXELS, exif_orientation, read_image, read_labels
from centermask_solo.data.input_images import as_bgr
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.pixels import orient
from centermask_solo.utils.errors import DataError

HEIGHT, WIDTH = 6, 9
COLORS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
DEEP = COLORS.astype(np.uint16) * 257
TWELVE_BITS = np.random.default_rng(1).integers(0, 4096, (HEIGHT, WIDTH), dtype=np.uint16)
TWELVE_BITS[0, 0] = 4095


def scaled(values, white):
    return np.floor(values * (255 / white) + 0.5).astype(np.uint8)


def write_png(path, pixels, color_type):
    """Write 16-bit pixels, (H, W, C), as a PNG that Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
def test_8_bits_are_as_detectron2_reads_them(tmp_path, mode, suffix):
    path = str(tmp_path / f"a{suffix}")
    try:
        Image.fromarray(COLORS).convert(mode).save(path)
    except (OSError, ValueError):
        pytest.skip("the format does not have this mode")
    for order in ("BGR", "RGB", "L"):
        found = read_image(path, order)
        np.testing.assert_array_equal(found, read_with_detectron2(path, order))
        assert found.dtype == np.uint8
    np.testing.assert_array_equal(as_bgr(path), read_image(path, "BGR"))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("values, white", [(DEEP[..., 0], 65535), (TWELVE_BITS, 4095)])
def test_16_bit_gray(tmp_path, suffix, values, white):
    path = str(tmp_path / f"a{suffix}")
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_image(path), np.stack([scaled(values, white)] * 3, axis=-1))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shift", [0, 4])
def test_16_bit_colors(tmp_path, suffix, channels, shift):
    """Alpha does not take part in the range."""
    values = np.dstack([DEEP >> shift, np.full((HEIGHT, WIDTH), 65535, np.uint16)])[..., :channels]
    values[0, 0, :3] = 65535 >> shift
    path = str(tmp_path / f"a{suffix}")
    cv2.imwrite(path, values)
    np.testing.assert_array_equal(read_image(path), scaled(values[..., :3], 65535 >> shift))


def test_16_bit_gray_with_alpha(tmp_path):
    values = np.stack([TWELVE_BITS, np.full_like(TWELVE_BITS, 65535)], axis=-1)
    write_png(tmp_path / "a.png", values, color_type=4)
    expected = np.stack([scaled(TWELVE_BITS, 4095)] * 3, axis=-1)
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), expected)


def test_floats(tmp_path):
    values = COLORS[..., 0].astype(np.float32) / 255
    values[0, 0] = 1
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.tif"))[..., 0], scaled(values, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix, pixels", [(".png", COLORS), (".tif", COLORS), (".png", TWELVE_BITS)])
def test_exif_orientation(tmp_path, orientation, suffix, pixels):
    exif = Image.Exif()
    exif[274] = orientation
    plain, turned = str(tmp_path / f"plain{suffix}"), str(tmp_path / f"turned{suffix}")
    Image.fromarray(pixels).save(plain)
    Image.fromarray(pixels).save(turned, exif=exif)
    np.testing.assert_array_equal(read_image(turned), orient(read_image(plain), orientation))
    assert exif_orientation(turned) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiffs(tmp_path, orientation):
    path = str(tmp_path / "a.tif")
    cv2.imwrite(path, DEEP, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    plain = read_image(path)
    content = bytearray(Path(path).read_bytes())
    # A copy of the directory, with the orientation
    (offset,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, offset)
    entries = [bytes(content[i : i + 12]) for i in range(offset + 2, offset + 2 + 12 * count, 12)]
    entries.append(struct.pack("<HHIHH", 274, 3, 1, orientation, 0))
    entries.sort(key=lambda x: struct.unpack_from("<H", x))
    struct.pack_into("<I", content, 4, len(content))
    Path(path).write_bytes(content + struct.pack("<H", count + 1) + b"".join(entries) + bytes(4))
    np.testing.assert_array_equal(read_image(path), orient(plain, orientation))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), x) for x in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(str(tmp_path / "a.gif"), "RGB") == [255, 0, 0]).all()


@pytest.fixture
def deep_sample(tmp_path):
    Image.fromarray(TWELVE_BITS).save(tmp_path / "deep.png")
    return {"file_name": str(tmp_path / "deep.png"), "width": WIDTH, "height": HEIGHT, "annotations": []}


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_training_evaluation_and_prediction_see_the_same_pixels(deep_sample, is_train, order):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.RANDOM_FLIP = order, "none"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (HEIGHT,), HEIGHT
    found = InstanceMapper(cfg, is_train)(deep_sample)["image"].numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(found, as_bgr(deep_sample["file_name"]))
    np.testing.assert_array_equal(found[..., 0], scaled(TWELVE_BITS, 4095))


def test_large_images_are_refused_with_the_option_that_allows_them(deep_sample):
    path, cfg = deep_sample["file_name"], get_cfg()
    add_centermask_solo_config(cfg)
    assert cfg.INPUT.MAX_IMAGE_PIXELS == MAX_PIXELS
    message = (
        r"deep.png is too large: it has 9x6 pixels, more than 53; .* set INPUT.MAX_IMAGE_PIXELS 54 .*-pixels 54\)$"
    )
    for read in (lambda: read_image(path, max_pixels=53), lambda: as_bgr(path, max_pixels=53)):
        with pytest.raises(DataError, match=message):
            read()
    cfg.INPUT.MAX_IMAGE_PIXELS = 53
    with pytest.raises(DataError, match=message):
        InstanceMapper(cfg, False)(deep_sample)
    for limit in (54, 0):
        cfg.INPUT.MAX_IMAGE_PIXELS = limit
        assert InstanceMapper(cfg, False)(deep_sample)["image"].shape[0] == 3


def test_pillow_has_no_say_in_what_is_too_large(deep_sample, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(deep_sample["file_name"]).shape == (HEIGHT, WIDTH, 3)
        assert exif_orientation(deep_sample["file_name"]) == 1
    assert Image.MAX_IMAGE_PIXELS == 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".bmp"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.tile(COLORS, (9, 9, 1))).save(path)
    content = path.read_bytes()
    for kept in (0, 10, len(content) // 3):
        path.write_bytes(content[:kept])
        with pytest.raises(DataError, match=rf"the image {path} is damaged \(.*\): replace it, or remove it from the"):
            read_image(str(path))
    path.unlink()
    with pytest.raises(DataError, match=f"the image {path} is missing: restore it"):
        read_image(str(path))


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1)])
def test_strips_keep_a_pixel(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    sample = {"file_name": str(tmp_path / "a.png"), "width": size[0], "height": size[1], "annotations": []}
    for is_train in (True, False):
        image = InstanceMapper(cfg, is_train)(sample)["image"]
        assert (image[2] == 255).all()
        long, short = max(image.shape[1:]), min(image.shape[1:])
        assert (long, short) == (1333, 1) if max(size) > 1 else long == short >= 640


def test_labels_of_a_palette_are_numbers(tmp_path):
    labels = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    image = Image.fromarray(labels).convert("P")
    image.putpalette([x for i in range(256) for x in (255 - i, 3 * i % 256, 7)])
    image.save(tmp_path / "labels.png")
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "labels.png")), labels)
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    sample = {"file_name": str(tmp_path / "a.png"), "sem_seg_file_name": str(tmp_path / "labels.png")}
    cfg.INPUT.MIN_SIZE_TEST = HEIGHT
    found = InstanceMapper(cfg, False)(sample)
    assert found["sem_seg"].tolist() == labels.tolist()
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
    Image.fromarray(np.full((HEIGHT, WIDTH), 300, np.uint16)).save(tmp_path / "labels.png")
    with pytest.raises(DataError, match=r"labels.png has labels from 300 to 300: use 0 to 255"):
        InstanceMapper(cfg, False)(sample)


def jpegs():
    """JPEG files of every kind, by name."""
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8), (161, 121))
    image = Image.fromarray(smooth)
    kinds = {
        **{f"sampled {i}": {"subsampling": i} for i in range(3)},
        "progressive": {"progressive": True},
        "optimized": {"optimize": True, "quality": 20},
        "restarts": {"restart_marker_rows": 1},
        "rgb": {"keep_rgb": True},
    }
    files = {name: encoded(image, **options) for name, options in kinds.items()}
    return files | {"gray": encoded(image.convert("L")), "cmyk": encoded(image.convert("CMYK"))}


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("name", jpegs())
def test_jpegs_have_pillows_pixels_and_errors(tmp_path, name):
    """Also those that are cut off or damaged, whichever library decodes."""
    path, content, rng = tmp_path / "a.jpg", jpegs()[name], np.random.default_rng(1)
    versions = [content, content + b"more", content[: len(content) // 2], content[: len(content) // 2] + b"\xff\xd9"]
    for _ in range(40):
        damaged = bytearray(content)
        damaged[rng.integers(20, len(content))] = rng.integers(256)
        versions.append(bytes(damaged))
    for version in versions:
        path.write_bytes(version)
        try:
            expected = np.asarray(Image.open(path).convert("RGB"))
        except Exception as error:
            with pytest.raises(DataError) as found:
                read_image(str(path), "RGB")
            assert str(error) in str(found.value) or "no image format fits" in str(found.value)
        else:
            np.testing.assert_array_equal(read_image(str(path), "RGB"), expected)


def test_jpegs_are_decoded_by_the_faster_library_only_if_it_is_exact(tmp_path, monkeypatch):
    path, decoded = str(tmp_path / "a.jpg"), []
    (tmp_path / "a.jpg").write_bytes(jpegs()["gray"])
    monkeypatch.setattr(
        "torchvision.io.decode_jpeg", lambda *args, **options: decoded.append(1) or decode_jpeg(*args, **options)
    )
    images._decodes_jpeg_exactly.cache_clear()
    expected = read_image(path)
    assert len(decoded) == 2 and images._decodes_jpeg_exactly()  # once to find out, and once for the file
    monkeypatch.setattr("torchvision.io.decode_jpeg", lambda *args, **options: decode_jpeg(*args, **options) + 1)
    images._decodes_jpeg_exactly.cache_clear()
    np.testing.assert_array_equal(read_image(path), expected)
    assert not images._decodes_jpeg_exactly()
    images._decodes_jpeg_exactly.cache_clear()


def test_only_the_image_of_a_file_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpegs()["gray"])
    expected = read_image(str(path))
    os.truncate(path, 2**40)  # a terabyte of zeros after its end
    np.testing.assert_array_equal(read_image(str(path)), expected)


def test_photographs_of_phones_that_hold_several_images(tmp_path):
    pictures = [Image.fromarray(np.full((20, 30, 3), x, np.uint8)) for x in (50, 200)]
    pictures[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    np.testing.assert_array_equal(
        read_image(str(tmp_path / "a.jpg"), "RGB"), np.asarray(Image.open(tmp_path / "a.jpg"))
    )
