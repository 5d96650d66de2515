"""The Hub for tests answers the unmodified clients as the Hub does."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RepositoryNotFoundError,
)

WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: mit\ntags: [recommendation]\nlibrary_name: transformers\n---\n# A model\n"


def git_sha1(content):
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


@pytest.fixture
def folder(tmp_path):
    files = {"config.json": b"{}", "nested/model.safetensors": WEIGHTS, "README.md": CARD.encode()}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    return tmp_path / "folder"


@pytest.fixture
def pushed(hub, folder):
    """A model repository with two commits after the first; `hub.requests` is empty."""
    hub.api.create_repo("org/model")
    hub.first = hub.api.upload_folder(repo_id="org/model", folder_path=folder).oid
    hub.second = hub.api.upload_file(
        repo_id="org/model", path_or_fileobj=b'{"a": 1}', path_in_repo="config.json", commit_message="Change the config"
    ).oid
    hub.requests.clear()
    return hub


def client(hub, token):
    return HfApi(endpoint=hub.endpoint, token=token)


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_folder_comes_back_from_every_type_of_repository(hub, folder, tmp_path, repo_type):
    sdk = {"space_sdk": "gradio"} if repo_type == "space" else {}
    url = hub.api.create_repo("org/thing", repo_type=repo_type, **sdk)
    assert (url.repo_id, url.repo_type) == ("org/thing", repo_type)
    assert hub.api.create_repo("org/thing", repo_type=repo_type, exist_ok=True, **sdk) == url
    with pytest.raises(HfHubHTTPError, match="already created"):
        hub.api.create_repo("org/thing", repo_type=repo_type, **sdk)
    commit = hub.api.upload_folder(repo_id="org/thing", folder_path=folder, repo_type=repo_type)
    copy = Path(hub.api.snapshot_download("org/thing", repo_type=repo_type))
    assert copy.name == commit.oid
    names = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert names == {".gitattributes", "config.json", "nested/model.safetensors", "README.md"}
    for name in names - {".gitattributes"}:
        assert (copy / name).read_bytes() == (folder / name).read_bytes()
    hub.api.delete_repo("org/thing", repo_type=repo_type)
    with pytest.raises(RepositoryNotFoundError):
        hub.api.repo_info("org/thing", repo_type=repo_type)
