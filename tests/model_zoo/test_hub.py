"""The Hugging Face Hub, by a hub of the test's own on this machine."""

import base64
import hashlib
import json
import math
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from centermask_solo import from_pretrained, push_to_hub
from centermask_solo.checkpoint import read_weights
from centermask_solo.cli import main
from centermask_solo.model_zoo.hub import metrics_of, read_results
from centermask_solo.model_zoo.hub_files import HubAddress, find_on_hub, parse_address
from centermask_solo.utils.errors import ConfigError, MissingPackageError, WeightsError
from tests.modeling.models import SYSTEMS

COMMIT = hashlib.sha1(b"commit").hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that uploads and downloads files."""

    def log_message(self, *args):
        pass

    def reply(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        server = self.server
        server.requests.append((self.command, self.path))
        if "/resolve/" in self.path:
            repo, rest = self.path[1:].split("/resolve/")
            revision, name = rest.split("/", 1)
            content = server.repos.get(repo, {}).get(name)
            if content is None or revision not in ("main", "v1", COMMIT):
                code = "EntryNotFound" if repo in server.repos else "RepoNotFound"
                self.reply(b"", 404, X_Error_Code=code, X_Error_Message="not found")
            else:
                tag = hashlib.sha256(content).hexdigest()
                self.reply(content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
        else:
            repo = self.path.removeprefix("/api/models/").split("?")[0].split("/revision")[0]
            info = {"id": repo, "sha": COMMIT, "private": False, "tags": [], "siblings": [], "downloads": 0, "likes": 0}
            self.reply(info)

    do_HEAD = do_GET

    def do_POST(self):
        server = self.server
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self.read_chunks()
        server.requests.append((self.command, self.path))
        if self.headers.get("Authorization") != "Bearer hf_fake":
            self.reply({"error": "no token"}, 401)
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            repo = f"{request['organization']}/{request['name']}" if request.get("organization") else request["name"]
            server.repos.setdefault(repo, {})
            self.reply({"url": f"http://{self.headers['Host']}/{repo}", "id": repo, "name": repo})
        elif "/preupload/" in self.path:
            files = [
                {"path": x["path"], "uploadMode": "regular", "shouldIgnore": False} for x in json.loads(body)["files"]
            ]
            self.reply({"files": files})
        elif "/commit/" in self.path:
            repo = self.path.removeprefix("/api/models/").split("/commit/")[0]
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    server.repos[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"http://{self.headers['Host']}/{repo}/commit/{COMMIT}"
            self.reply(
                {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None}
            )
        else:
            self.reply({"valid": True})  # of a card

    def read_chunks(self):
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        return content


@pytest.fixture
def hub(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.requests = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_fake")
    for name in ("HF_HUB_CACHE", "HF_XET_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of a small model with the metrics of its training."""
    folder = tmp_path_factory.mktemp("weights")
    cfg = SYSTEMS["SOLOv2"].cfg(num_classes=2)
    cfg.OUTPUT_DIR = "/private/folder"
    model = SYSTEMS["SOLOv2"].model(num_classes=2)
    content = {"model": model.state_dict(), "config": cfg.dump(), "thing_classes": ["cat", "dog"]}
    results = {"segm/AP": 31.5, "segm/AP-cat": 30.0, "bbox/AP": math.nan, "ema/segm/AP": 32.5}
    torch.save({**content, "results": results}, folder / "model_final.pth")
    return folder / "model_final.pth"


def test_the_metrics_on_the_card_are_those_of_the_weights(weights, tmp_path):
    """Not those of another evaluation in their folder."""
    weights = shutil.copytree(weights.parent, tmp_path / "copy") / weights.name
    (weights.parent / "evaluation.json").write_text(json.dumps({"segm": {"AP": 99.0}}))
    assert metrics_of(read_results(str(weights))) == [("segm/AP", 31.5)]
    assert read_results(f"{weights}?ema=True") == {"segm/AP": 32.5}
    content = torch.load(weights, weights_only=True)
    content.pop("results")
    torch.save(content, weights)
    assert read_results(str(weights)) == {} == read_results("hf://someone/solo")


def test_what_is_uploaded_can_be_loaded(hub, weights):
    page = push_to_hub(str(weights), "someone/solo-pets", license="apache-2.0")
    assert page.endswith("/someone/solo-pets")
    assert set(hub.repos["someone/solo-pets"]) == {"model.safetensors", "README.md"}
    image = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    for source in (weights, "hf://someone/solo-pets", "hf://someone/solo-pets@v1/model.safetensors"):
        predictor = from_pretrained(source, device="cpu")
        assert predictor(image)["instances"].image_size == (64, 64)
        assert predictor.metadata.thing_classes == ["cat", "dog"]
    expected = torch.load(weights, weights_only=True)["model"]
    uploaded = read_weights("hf://someone/solo-pets")
    assert uploaded.values.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in uploaded.values.items())
    assert "/private/folder" not in uploaded.metadata["config"]
    assert read_weights("hf://someone/solo-pets@v1/model.safetensors").metadata["thing_classes"] == ["cat", "dog"]
    downloads = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert len(downloads) == 1  # both revisions are the same commit


def test_the_card(hub, weights):
    push_to_hub(str(weights), "someone/solo-pets", license="cc-by-4.0")
    card = hub.repos["someone/solo-pets"]["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: centermask_solo\npipeline_tag: image-segmentation\n")
    assert "# solo-pets\n" in card and "SOLOv2 with the backbone of" in card
    assert 'from_pretrained("hf://someone/solo-pets")' in card
    assert "* Classes (2): cat, dog" in card
    assert "| segm/AP | 31.50 |" in card and "AP-cat" not in card and "bbox" not in card


def test_the_command(hub, weights, capsys):
    main(["weights", "push", str(weights), "someone/other", "--license", "mit"])
    assert capsys.readouterr().out.strip().endswith("/someone/other")
    assert "license: mit" in hub.repos["someone/other"]["README.md"].decode()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://a/b", HubAddress("a/b", None, "model.safetensors")),
        ("hf://a/b@v1", HubAddress("a/b", "v1", "model.safetensors")),
        ("hf://a/b/x.pth", HubAddress("a/b", None, "x.pth")),
        ("hf://a/b@refs/pr/1", HubAddress("a/b", "refs/pr/1", "model.safetensors")),
        ("hf://a/b@refs/convert/v2/x.pth", HubAddress("a/b", "refs/convert/v2", "x.pth")),
        ("hf://a/b@feature%2Fnew/x.pth", HubAddress("a/b", "feature/new", "x.pth")),
        ("hf://a.b/c-d@main/folder/x.pth", HubAddress("a.b/c-d", "main", "folder/x.pth")),
    ],
)
def test_addresses(address, expected):
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["hf://", "hf://a", "hf://a/b@", "hf://a b/c"])
def test_what_is_no_address(address):
    with pytest.raises(WeightsError, match=r"is no address of a hub: give hf://OWNER/REPOSITORY"):
        find_on_hub(address)


def test_addresses_are_known_to_a_process_that_only_inspects():
    command = [sys.executable, "-W", "ignore", "-m", "centermask_solo.cli", "weights", "inspect", "hf://a/b@"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and "hf://a/b@ is no address of a hub" in ended.stderr


def test_what_cannot_be_fetched_is_named(hub):
    with pytest.raises(WeightsError, match=r"^hf://nobody/nothing cannot be fetched \(.*\): check owner, repository"):
        find_on_hub("hf://nobody/nothing")


def test_what_cannot_be_uploaded(hub, weights, monkeypatch):
    with pytest.raises(ConfigError, match=r"^solo is no repository of a hub: give OWNER/NAME"):
        push_to_hub(str(weights), "solo")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(WeightsError, match=r"^someone/solo cannot be written \(.*\): log in with 'hf auth login'"):
        push_to_hub(str(weights), "someone/solo")


def test_the_package_is_optional(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: find_on_hub("hf://a/b"), lambda: push_to_hub(str(weights), "a/b")):
        with pytest.raises(MissingPackageError, match=r"run 'pip install \"centermask_solo\[hub\]\"'"):
            call()
