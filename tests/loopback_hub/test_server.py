"""The Hub for tests answers the unmodified clients as the Hub does, above all where it refuses something."""

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import get_session

from tests.loopback_hub.conftest import WEIGHTS


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def client(hub, token):
    return HfApi(endpoint=hub.endpoint, token=token)


def read(hub, path, revision=None, repo_id="org/model"):
    return Path(hub.api.hf_hub_download(repo_id, path, revision=revision)).read_bytes()


@pytest.mark.parametrize("repo_type", ["model", "dataset"])
def test_a_folder_comes_back_from_every_type_of_repository(hub, folder, repo_type):
    url = hub.api.create_repo("org/thing", repo_type=repo_type)
    assert (url.repo_id, url.repo_type) == ("org/thing", repo_type)
    assert hub.api.create_repo("org/thing", repo_type=repo_type, exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="already created"):
        hub.api.create_repo("org/thing", repo_type=repo_type)
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


def test_branches_and_commits_are_revisions(hub, commits):
    first, second = commits
    hub.api.create_branch("org/model", branch="try/this", revision=first)
    with pytest.raises(HfHubHTTPError, match="409"):
        hub.api.create_branch("org/model", branch="try/this")
    hub.api.create_branch("org/model", branch="try/this", exist_ok=True)
    side = hub.api.upload_file(
        repo_id="org/model", path_or_fileobj=b"[2]", path_in_repo="config.json", revision="try/this"
    ).oid
    for revision, content in {None: b"[1]", "main": b"[1]", "try/this": b"[2]", first: b"{}", first[:7]: b"{}"}.items():
        assert read(hub, "config.json", revision) == content
    refs = hub.api.list_repo_refs("org/model")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "try/this": side}
    titles = [commit.title for commit in hub.api.list_repo_commits("org/model")]
    assert titles == ["Another config", "All files", "initial commit"]
    for revision in ("v2", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            read(hub, "config.json", revision)
        with pytest.raises(RevisionNotFoundError):
            hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"", path_in_repo="x", revision=revision)
    hub.api.delete_branch("org/model", branch="try/this")
    assert len(hub.api.list_repo_refs("org/model").branches) == 1


def test_a_commit_replaces_deletes_and_adds(hub, commits):
    before = hub.files("org/model")
    operations = [
        CommitOperationDelete("config.json"),
        CommitOperationDelete("nested/"),
        CommitOperationAdd("new.txt", b"new"),
    ]
    commit = hub.api.create_commit("org/model", operations, commit_message="Move", parent_commit=commits[1])
    assert set(hub.files("org/model")) == {".gitattributes", "README.md", "new.txt"}
    assert hub.files("org/model", commits[1]) == before  # a commit is for ever
    hub.api.delete_file("new.txt", "org/model")
    assert hub.api.list_repo_files("org/model") == [".gitattributes", "README.md"]
    assert "new.txt" in hub.api.list_repo_files("org/model", revision=commit.oid)


@pytest.mark.parametrize(
    ("operation", "parent", "status"),
    [
        (CommitOperationDelete("nowhere.txt"), None, 404),
        (CommitOperationDelete("nowhere/"), None, 404),
        (CommitOperationAdd("x.txt", b"x"), "first", 412),
        (CommitOperationAdd("README.md", b"---\nmodel-index: 3\n---\n"), None, 400),
    ],
)
def test_a_refused_commit_changes_nothing(hub, commits, operation, parent, status):
    operations = [CommitOperationAdd("good.txt", b"good"), operation]
    with pytest.raises((HfHubHTTPError, ValueError)) as caught:
        hub.api.create_commit(
            "org/model", operations, commit_message="No", parent_commit=commits[0] if parent else None
        )
    if not isinstance(caught.value, ValueError):
        assert caught.value.response.status_code == status
    assert hub.api.model_info("org/model").sha == commits[1]
    assert "good.txt" not in hub.api.list_repo_files("org/model")


def test_a_commit_of_a_large_file_that_never_arrived_is_refused(hub, commits):
    hub.api.create_repo("org/other")

    def commit(oid, size):
        lines = [
            {"key": "header", "value": {"summary": "No", "description": ""}},
            {"key": "lfsFile", "value": {"path": "m.safetensors", "algo": "sha256", "oid": oid, "size": size}},
        ]
        return get_session().post(
            f"{hub.endpoint}/api/models/org/other/commit/main",
            content="\n".join(map(json.dumps, lines)),
            headers={"Authorization": f"Bearer {hub.token}"},
        )

    for oid in ("0" * 64, sha256(WEIGHTS)):  # the second has arrived in another repository only
        response = commit(oid, len(WEIGHTS))
        assert (response.status_code, "not been uploaded to org/other" in response.text) == (400, True)
    assert hub.api.list_repo_files("org/other") == [".gitattributes"]


def test_storage_takes_signed_requests_of_the_announced_content_only(hub, commits):
    headers = {"Authorization": f"Bearer {hub.token}"}
    oid = sha256(b"right")
    answer = get_session().post(
        f"{hub.endpoint}/org/model.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic", "xet"], "objects": [{"oid": oid, "size": 5}]},
        headers=headers,
    )
    assert answer.json()["transfer"] == "basic"  # xet is turned down
    url = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert get_session().put(url, content=b"wrong").status_code == 400
    assert get_session().put(url.split("?")[0], content=b"right").status_code == 403
    assert get_session().put(url, content=b"right", headers=headers).status_code == 400  # a token went astray
    assert oid not in hub.repo("org/model").large
    assert get_session().put(url, content=b"right").status_code == 200
    assert hub.repo("org/model").large[oid] == 5


def test_only_the_owner_sees_a_private_repository(hub, tmp_path):
    hub.api.create_repo("org/secret", private=True)
    hub.api.upload_file(repo_id="org/secret", path_or_fileobj=WEIGHTS, path_in_repo="m.safetensors")
    reader = client(hub, hub.read_token)
    assert Path(reader.hf_hub_download("org/secret", "m.safetensors")).read_bytes() == WEIGHTS
    assert reader.model_info("org/secret").private
    for token, status in {False: 401, hub.stranger_token: 404}.items():
        other = client(hub, token)
        for ask in (
            lambda api: api.model_info("org/secret"),
            lambda api: api.list_repo_files("org/secret"),
            lambda api: api.hf_hub_download("org/secret", "m.safetensors", cache_dir=tmp_path),
            lambda api: api.model_info("org/never-made"),
        ):
            with pytest.raises(RepositoryNotFoundError) as caught:
                ask(other)
            assert caught.value.response.status_code == status
    wrong = client(hub, "hf_wrong")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        wrong.model_info("org/secret")
    assert caught.value.response.status_code == 401


def test_who_may_write(hub, commits):
    assert hub.api.whoami()["name"] == hub.user
    assert client(hub, hub.read_token).whoami()["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        client(hub, "hf_wrong").whoami()
    for token, status in {hub.read_token: 403, hub.stranger_token: 403, False: 401}.items():
        api = client(hub, token)
        for ask in (
            lambda api: api.create_repo("org/mine"),
            lambda api: api.delete_repo("org/model"),
            lambda api: api.create_branch("org/model", branch="v1"),
            lambda api: api.upload_file(repo_id="org/model", path_or_fileobj=b"", path_in_repo="x"),
        ):
            with pytest.raises(HfHubHTTPError) as caught:
                ask(api)
            assert caught.value.response.status_code == status
    assert hub.api.model_info("org/model").sha == commits[1]
    assert list(hub.repo("org/model").branches) == ["main"]


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("license: mit", None),
        ("license: [unclosed", "YAML"),
        ("base_model: /home/me/base", "base_model"),
        ("datasets: [{a: b}]", "datasets"),
        ("model-index: [{name: m, results: [{task: {type: t}, dataset: {type: d}, metrics: []}]}]", "dataset.name"),
        (
            "model-index: [{name: m, results: [{task: {type: t}, dataset: {type: d, name: D}, metrics: [{type: x}]}]}]",
            "value",
        ),
    ],
)
def test_cards_are_checked(hub, metadata, complaint):
    hub.api.create_repo("org/model")
    card = f"---\n{metadata}\n---\n# Model\n".encode()
    if complaint is None:
        hub.api.upload_file(repo_id="org/model", path_or_fileobj=card, path_in_repo="README.md")
        assert hub.files("org/model")["README.md"] == card
    else:
        with pytest.raises(ValueError, match=complaint):
            hub.api.upload_file(repo_id="org/model", path_or_fileobj=card, path_in_repo="README.md")
        assert "README.md" not in hub.files("org/model")


def test_faults_at_will(hub, commits):
    hub.fail("*/commit/main", method="POST", status=409, message="Not now")
    with pytest.raises(HfHubHTTPError, match="Not now"):
        hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"x", path_in_repo="x.txt")
    hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"x", path_in_repo="x.txt")
    hub.fail("*/x.txt", method="HEAD", status=404, code="EntryNotFound", after=1)
    read(hub, "x.txt")
    with pytest.raises(EntryNotFoundError):
        read(hub, "x.txt")


def test_an_unknown_endpoint_says_so(hub):
    with pytest.raises(HfHubHTTPError, match="does not know GET /api/spaces/org/x/runtime"):
        hub.api.get_space_runtime("org/x")


SCRIPT = """
import sys
from huggingface_hub import create_repo, hf_hub_download, upload_file, whoami
create_repo(sys.argv[1])
upload_file(repo_id=sys.argv[1], path_or_fileobj=b"x" * 1000, path_in_repo="m.safetensors")
print(whoami()["name"], len(open(hf_hub_download(sys.argv[1], "m.safetensors")).read()))
"""


def test_a_python_of_its_own(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert hub.run_python(SCRIPT, "org/model").stdout.split() == [hub.user, "1000"]
    assert {request.token for request in hub.requests} == {hub.token, None}
    with pytest.raises(AssertionError, match="401"):
        hub.run_python(SCRIPT, "org/another", token="hf_wrong")
    found = hub.run_python(
        "import os, importlib.util as i; print(os.environ['A'], i.find_spec('e4srec_hf').name)", A="b"
    )
    assert found.stdout == "b e4srec_hf\n"
    refused = hub.run_python("import e4srec_hf", package=False, check=False)
    assert (refused.returncode, "e4srec_hf" in refused.stderr) == (1, True)
