"""Images of other numbers of channels than three, and of more than 8 bits, as models and people see them."""

import numpy as np
import pytest
from PIL import Image

from centermask_solo.data import bands
from centermask_solo.data.images import check_image, image_size, read_image, stated_size
from centermask_solo.data.input_images import as_bands, as_bgr, read_item
from centermask_solo.utils.errors import DataError, MissingPackageError

HEIGHT, WIDTH = 7, 9


def values(channels, dtype=np.uint8, high=255):
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    found = np.random.default_rng(0).integers(0, high + 1, shape).astype(dtype)
    found.flat[0] = high
    return found


def expected(pixels, white=255):
    return np.atleast_3d(pixels).astype(np.float32) * np.float32(255 / white)


def save(path, pixels, **options):
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, **options)
    return str(path)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize(("dtype", "high", "white"), [(np.uint8, 255, 255), (np.uint16, 60000, 65535)])
def test_numpy_files(tmp_path, channels, dtype, high, white):
    pixels = values(channels, dtype, high)
    path = save(tmp_path / "a.npy", pixels)
    found = read_image(path, channels=channels)
    assert found.dtype == np.float32 and np.allclose(found, expected(pixels, white), atol=1e-4)
    assert image_size(path) == stated_size(path) == (WIDTH, HEIGHT)
    check_image(path, (WIDTH, HEIGHT))


def test_channels_may_come_first_in_numpy_files(tmp_path):
    pixels = values(4)
    path = save(tmp_path / "a.npy", pixels.transpose(2, 0, 1))
    assert np.array_equal(read_image(path, channels=4), expected(pixels))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_and_gray(tmp_path, suffix):
    for channels in (1, 2, 4):
        pixels = values(channels)
        path = save(tmp_path / f"{channels}{suffix}", pixels)
        assert np.array_equal(read_image(path, channels=channels), expected(pixels))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_of_16_bits_keeps_its_depth(tmp_path, suffix):
    pixels = values(1, np.uint16, 4000)  # 12 bits
    found = read_image(save(tmp_path / f"a{suffix}", pixels), channels=1)
    assert np.allclose(found, expected(pixels, 4095), atol=1e-4) and len(np.unique(found)) > 40


def test_colors_of_16_bits(tmp_path):
    cv2 = pytest.importorskip("cv2")
    pixels = values(4, np.uint16, 65535)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, [2, 1, 0, 3]])
    assert np.allclose(read_image(str(tmp_path / "a.png"), channels=4), expected(pixels, 65535), atol=1e-4)


def test_compressed_tiff_files_of_16_bits(tmp_path):
    cv2, pixels = pytest.importorskip("cv2"), values(3, np.uint16, 65535)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])  # LZW
    gray = expected(pixels, 65535) @ np.float32([0.299, 0.587, 0.114])
    assert np.allclose(read_image(str(tmp_path / "a.tif"), channels=1)[:, :, 0], gray, atol=1e-3)


def test_a_compression_of_bands_that_needs_another_package(tmp_path, monkeypatch):
    tifffile, path = pytest.importorskip("tifffile"), str(tmp_path / "a.tif")
    tifffile.imwrite(path, values(6), photometric="minisblack", planarconfig="contig")

    def fail(*_, **__):
        raise ValueError("<COMPRESSION.ZSTD: 50000> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", fail)
    with pytest.raises(MissingPackageError, match=r"a\.tif has a compression .*: run 'pip install imagecodecs'"):
        read_image(path, channels=6)


def test_palettes_and_colors_become_gray(tmp_path):
    colors = Image.fromarray(values(3))
    colors.save(tmp_path / "a.png")
    gray = np.asarray(colors.convert("L")).astype(float)
    assert abs(read_image(str(tmp_path / "a.png"), channels=1)[:, :, 0] - gray).max() < 1
    palette = colors.quantize(8)
    palette.save(tmp_path / "b.png")
    gray = np.asarray(palette.convert("RGB").convert("L")).astype(float)
    assert abs(read_image(str(tmp_path / "b.png"), channels=1)[:, :, 0] - gray).max() < 1


def test_exif_turns_bands(tmp_path):
    pixels = values(4)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", pixels, exif=exif)
    assert np.array_equal(read_image(path, channels=4), expected(np.rot90(pixels, -1)))


def test_pages_of_a_tiff_file_are_bands(tmp_path):
    pixels = values(6)
    pages = [Image.fromarray(np.ascontiguousarray(x)) for x in pixels.transpose(2, 0, 1)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(read_image(str(tmp_path / "a.tif"), channels=6), expected(pixels))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_files_of_many_bands(tmp_path, planar):
    tifffile = pytest.importorskip("tifffile")
    pixels, path = values(6, np.uint16, 900), str(tmp_path / "a.tif")
    content = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(path, content, photometric="minisblack", planarconfig=planar)
    assert np.allclose(read_image(path, channels=6), expected(pixels, 1023), atol=1e-4)
    assert image_size(path) == (WIDTH, HEIGHT)
    assert read_image(path, "RGB").shape == (HEIGHT, WIDTH, 3)


def test_tiff_files_of_many_bands_without_tifffile(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, values(6), photometric="minisblack", planarconfig="contig")
    monkeypatch.setattr(bands, "_has_tifffile", lambda: False)
    with pytest.raises(MissingPackageError, match="pip install tifffile"):
        read_image(path, channels=6)


@pytest.mark.parametrize(("there", "here"), [(3, 4), (6, 4), (1, 2), (6, 3), (6, 1)])
def test_other_numbers_of_channels_are_refused(tmp_path, there, here):
    path = save(tmp_path / "a.npy", values(there))
    with pytest.raises(
        DataError, match=rf"has {there} channels?, but INPUT.CHANNELS is {here}.*set INPUT.CHANNELS {there}"
    ):
        read_image(path, channels=here)


def test_three_channels_of_numpy_files_are_colors(tmp_path):
    pixels = values(3)
    path = save(tmp_path / "a.npy", pixels)
    assert np.array_equal(read_image(path, "RGB", channels=3), pixels)
    assert np.array_equal(read_image(path, "BGR", channels=3), pixels[:, :, ::-1])


def test_pictures_show_three_bands_or_gray(tmp_path):
    pixels = values(6)
    path = save(tmp_path / "a.npy", pixels)
    assert np.array_equal(read_image(path, "RGB"), pixels[:, :, :3])
    with pytest.raises(DataError, match=r"a\.npy has 6 channels, but INPUT.CHANNELS is 3"):
        as_bgr(path)  # which is for a model
    shown, image = read_item(path, 6)
    assert np.array_equal(shown, pixels[:, :, 2::-1]) and np.array_equal(image, expected(pixels))
    gray = values(2)
    path = save(tmp_path / "b.npy", gray)
    assert np.array_equal(read_image(path, "RGB"), np.repeat(gray[:, :, :1], 3, axis=2))


def test_arrays_of_many_bands():
    assert as_bands(values(6), 6).shape == (HEIGHT, WIDTH, 6)
    assert as_bands(values(1), 1).shape == (HEIGHT, WIDTH, 1)
    for wrong in (values(6).reshape(-1), np.zeros((0, 3)), np.array("a")):
        with pytest.raises(DataError, match=r"give an array \(H, W, 6\)"):
            as_bands(wrong, 6)
    with pytest.raises(DataError, match="the image is a list"):
        as_bands([1], 6)


def test_files_that_are_no_images(tmp_path):
    np.save(tmp_path / "a.npy", np.array(["text"]))
    (tmp_path / "b.npy").write_bytes(b"nothing")
    for name in ("a.npy", "b.npy"):
        with pytest.raises(DataError, match=rf"{name} is damaged"):
            read_image(str(tmp_path / name), channels=4)
