"""A repository with two commits on the Hub for tests."""

import pytest

WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: mit\ntags: [recommendation]\nlibrary_name: transformers\n---\n# A model\n"


@pytest.fixture
def folder(tmp_path):
    files = {"config.json": b"{}", "nested/model.safetensors": WEIGHTS, "README.md": CARD.encode()}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    return tmp_path / "folder"


@pytest.fixture
def commits(hub, folder):
    """The ids of two commits in org/model; after it `hub.requests` is empty."""
    hub.api.create_repo("org/model")
    first = hub.api.upload_folder(repo_id="org/model", folder_path=folder, commit_message="All files")
    second = hub.api.upload_file(
        repo_id="org/model", path_or_fileobj=b"[1]", path_in_repo="config.json", commit_message="Another config"
    )
    hub.requests.clear()
    return first.oid, second.oid
