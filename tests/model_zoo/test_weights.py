"""Published weights: from the local folder, from an address, or an error that says what to do."""

import dataclasses
import hashlib

import pytest
from detectron2.utils.file_io import PathManager

from centermask_solo.checkpoint.files import check_weights_file
from centermask_solo.model_zoo import find_model, find_weights, weights
from centermask_solo.utils.errors import ConfigError, WeightsError

WITH_ADDRESS = find_model("CenterMask/centermask_lite_V_39_eSE_FPN_ms_4x.yaml")
WITHOUT_ADDRESS = find_model("YOLACT/yolact_base.yaml")
SHA256 = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("CENTERMASK_SOLO_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch):
    """What the addresses answer: a dictionary from address to content; all others are dead."""
    answers = {}

    def get_local_path(address, **kwargs):
        if address not in answers:
            raise OSError("HTTP Error 404: Not Found")
        path = tmp_path / "cached"
        path.write_bytes(answers[address])
        return str(path)

    monkeypatch.setattr(weights.PathManager, "get_local_path", get_local_path)
    return answers


def failure(model):
    with pytest.raises(WeightsError) as caught:
        find_weights(model)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("model", [WITH_ADDRESS, WITHOUT_ADDRESS], ids=["address", "no address"])
def test_the_local_folder_comes_first(model, folder, host):
    host.update(dict.fromkeys(model.addresses, b"other"))
    (folder / model.file).write_bytes(b"weights")
    assert find_weights(model) == str(folder / model.file)


def test_what_is_not_in_the_folder_is_downloaded(folder, host, tmp_path):
    host[WITH_ADDRESS.addresses[0]] = b"weights"
    assert find_weights(WITH_ADDRESS) == str(tmp_path / "cached")
    for known in (SHA256, SHA256[:8]):
        assert find_weights(dataclasses.replace(WITH_ADDRESS, sha256=known)) == str(tmp_path / "cached")
    assert "its sha256 is" in failure(dataclasses.replace(WITH_ADDRESS, sha256="0" * 8))


def test_the_next_address_is_tried(folder, host, tmp_path):
    host["https://second/x.pth"] = b"weights"
    model = dataclasses.replace(WITH_ADDRESS, addresses=("https://first/x.pth", "https://second/x.pth"))
    assert find_weights(model) == str(tmp_path / "cached")


def test_a_dead_address_is_named_with_the_way_out(folder, host):
    assert failure(WITH_ADDRESS) == (
        f"the weights {WITH_ADDRESS.file} of {WITH_ADDRESS.config} cannot be fetched (tried "
        f"{WITH_ADDRESS.addresses[0]} (HTTP Error 404: Not Found)): get it where "
        "https://github.com/youngwanLEE/centermask2 links it, and put the file into the folder that the environment "
        f"variable CENTERMASK_SOLO_WEIGHTS names (now {folder})"
    )


def test_without_an_address_the_sentence_says_so(host, monkeypatch):
    monkeypatch.delenv("CENTERMASK_SOLO_WEIGHTS", raising=False)
    message = failure(WITHOUT_ADDRESS)
    assert "yolact_base_54_800000.pth" in message
    assert "(its address is unknown): get it where https://github.com/dbolya/yolact links it, and put the" in message
    assert message.endswith("CENTERMASK_SOLO_WEIGHTS names (it is not set)")


def test_weights_that_were_never_published():
    assert failure(find_model("YOLACT/yolact_im400.yaml")).startswith("no weights of YOLACT/yolact_im400.yaml were")


def test_another_local_file_than_the_published_one_is_refused(folder, host):
    model = dataclasses.replace(WITH_ADDRESS, sha256=SHA256)
    path = folder / model.file
    path.write_bytes(b"weights")
    assert find_weights(model) == str(path)
    path.write_bytes(b"damaged")
    actual = hashlib.sha256(b"damaged").hexdigest()
    assert failure(model) == f"{path} is not the published file: its sha256 is {actual} and not {SHA256}; replace it"


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"\n <!DOCTYPE html>", "it is a web page"), (b"damaged", f"and not {SHA256})")],
    ids=["web page", "another file"],
)
def test_a_wrong_download_is_refused_and_does_not_stay(folder, host, tmp_path, content, fault):
    host[WITH_ADDRESS.addresses[0]] = content
    assert fault in failure(dataclasses.replace(WITH_ADDRESS, sha256=SHA256))
    assert not (tmp_path / "cached").exists()


def test_the_path_manager_knows_the_name_of_a_model(folder):
    (folder / WITHOUT_ADDRESS.file).write_bytes(b"weights")
    name = f"centermask_solo://{WITHOUT_ADDRESS.config}"
    assert PathManager.get_local_path(name) == str(folder / WITHOUT_ADDRESS.file)
    check_weights_file(name)
    (folder / WITHOUT_ADDRESS.file).unlink()
    with pytest.raises(WeightsError, match=r"^the weights yolact_base_54_800000\.pth of YOLACT/yolact_base"):
        check_weights_file(name)
    with pytest.raises(ConfigError, match=r"the nearest one is YOLACT/yolact_base\.yaml"):
        check_weights_file("centermask_solo://YOLACT/yolact_bass.yaml")
