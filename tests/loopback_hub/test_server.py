"""The Hub for tests answers the unmodified clients as the Hub does."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_hf_file_metadata,
    hf_hub_url,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from tests.loopback_hub.conftest import CARD, WEIGHTS


def git_sha1(content):
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def client(hub, token):
    return HfApi(endpoint=hub.endpoint, token=token)


def read(hub, path, revision=None, repo_id="org/model"):
    return Path(hub.api.hf_hub_download(repo_id, path, revision=revision)).read_bytes()


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_folder_comes_back_from_every_type_of_repository(hub, folder, repo_type):
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


def test_info_names_the_revision_the_files_and_the_card(hub, commits):
    first, second = commits
    info = hub.api.model_info("org/model", files_metadata=True)
    assert (info.sha, info.private, info.author, info.library_name) == (second, False, "org", "transformers")
    assert (info.tags, info.card_data.license) == (["recommendation"], "mit")
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    assert (files["config.json"].size, files["config.json"].blob_id) == (3, git_sha1(b"[1]"))
    assert files["config.json"].lfs is None
    weights = files["nested/model.safetensors"]
    assert (weights.size, weights.lfs.size, weights.lfs.sha256) == (len(WEIGHTS), len(WEIGHTS), sha256(WEIGHTS))
    assert hub.api.model_info("org/model", revision=first).sha == first
    assert hub.api.model_info("org/model", expand=["sha"]).siblings is None
    assert [model.id for model in hub.api.list_models(author="org", filter="recommendation")] == ["org/model"]
    assert list(hub.api.list_models(search="nothing")) == []


def test_the_tree_by_folders_and_by_pages(hub, commits):
    first, second = commits
    top = {entry.path: entry for entry in hub.api.list_repo_tree("org/model", expand=True)}
    assert set(top) == {".gitattributes", "README.md", "config.json", "nested"}
    assert (top["config.json"].last_commit.oid, top["nested"].last_commit.oid) == (second, first)
    hub.endpoints.page_size = 2
    everything = [entry.path for entry in hub.api.list_repo_tree("org/model", recursive=True)]
    assert everything == [".gitattributes", "README.md", "config.json", "nested", "nested/model.safetensors"]
    assert [e.path for e in hub.api.list_repo_tree("org/model", "nested")] == ["nested/model.safetensors"]
    with pytest.raises(EntryNotFoundError):
        list(hub.api.list_repo_tree("org/model", "nowhere"))
    infos = hub.api.get_paths_info("org/model", ["nested", "config.json", "nowhere"], revision=first)
    assert [(info.path, getattr(info, "size", None)) for info in infos] == [("nested", None), ("config.json", 2)]
    assert hub.api.file_exists("org/model", "config.json")
    assert not hub.api.file_exists("org/model", "nowhere")


def test_branches_tags_and_commits_are_revisions(hub, commits):
    first, second = commits
    hub.api.create_tag("org/model", tag="v1", revision=first)
    hub.api.create_branch("org/model", branch="try/this", revision="v1")
    with pytest.raises(HfHubHTTPError, match="409"):
        hub.api.create_tag("org/model", tag="v1")
    hub.api.create_tag("org/model", tag="v1", exist_ok=True)
    side = hub.api.upload_file(
        repo_id="org/model", path_or_fileobj=b"[2]", path_in_repo="config.json", revision="try/this"
    ).oid
    for revision, content in {
        None: b"[1]",
        "main": b"[1]",
        "v1": b"{}",
        "try/this": b"[2]",
        first: b"{}",
        first[:7]: b"{}",
    }.items():
        assert read(hub, "config.json", revision) == content
    refs = hub.api.list_repo_refs("org/model")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "try/this": side}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    titles = [commit.title for commit in hub.api.list_repo_commits("org/model")]
    assert titles == ["Another config", "All files", "initial commit"]
    for revision in ("v2", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            read(hub, "config.json", revision)
    with pytest.raises(RevisionNotFoundError):
        hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"", path_in_repo="x", revision="v2")
    with pytest.raises(RevisionNotFoundError):  # nothing can be committed onto a tag
        hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"", path_in_repo="x", revision="v1")
    hub.api.delete_tag("org/model", tag="v1")
    hub.api.delete_branch("org/model", branch="try/this")
    assert len(hub.api.list_repo_refs("org/model").branches) == 1
    assert hub.api.list_repo_refs("org/model").tags == []


def test_metadata_of_a_file(hub, commits):
    first, _ = commits

    def metadata(path, revision=None):
        url = hf_hub_url("org/model", path, revision=revision, endpoint=hub.endpoint)
        return get_hf_file_metadata(url, endpoint=hub.endpoint)

    small, large = metadata("config.json", first), metadata("nested/model.safetensors", first)
    assert (small.commit_hash, small.etag, small.size) == (first, git_sha1(b"{}"), 2)
    assert (large.commit_hash, large.etag, large.size) == (first, sha256(WEIGHTS), len(WEIGHTS))
    assert small.location.startswith(hub.endpoint)
    assert not large.location.startswith(hub.endpoint)  # storage is elsewhere
    with pytest.raises(EntryNotFoundError) as caught:
        metadata("nowhere.json", first)
    assert caught.value.response.headers["X-Repo-Commit"] == first


def test_what_is_cached_is_not_sent_again(hub, commits):
    for _ in range(2):
        hub.api.snapshot_download("org/model")
    for name, size in {"/config.json": 3, sha256(WEIGHTS): len(WEIGHTS)}.items():
        sizes = [r.sent for r in hub.requests if r.path.endswith(name) and r.method == "GET"]
        assert sizes == [size]


def test_ranges(hub, commits):
    for path, content in {"README.md": CARD.encode(), "nested/model.safetensors": WEIGHTS}.items():
        url = hf_hub_url("org/model", path, endpoint=hub.endpoint)
        for asked, part in {"bytes=10-19": content[10:20], "bytes=70-": content[70:], "bytes=-3": content[-3:]}.items():
            response = get_session().get(url, headers={"Range": asked})
            assert (response.status_code, response.content) == (206, part)
        assert get_session().get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


def test_large_files_are_known_by_name_or_size_and_uploaded_once(hub, commits, tmp_path):
    big = b"0" * (10 * 2**20 + 1)
    api = hub.api
    api.upload_file(repo_id="org/model", path_or_fileobj=big, path_in_repo="big.txt")
    api.upload_file(repo_id="org/model", path_or_fileobj=WEIGHTS, path_in_repo="again.safetensors")
    entries = {e.path: e for e in api.get_paths_info("org/model", ["big.txt", "again.safetensors", "README.md"])}
    assert entries["big.txt"].lfs.sha256 == sha256(big)
    assert entries["again.safetensors"].lfs.sha256 == sha256(WEIGHTS)
    assert entries["README.md"].lfs is None
    assert [r.received for r in hub.requests if r.method == "PUT"] == [len(big)]  # WEIGHTS were there


def test_files_are_uploaded_in_parts(hub, commits):
    hub.storage.part_size = 1000
    content = bytes(2500) + b"end"
    hub.api.upload_file(repo_id="org/model", path_or_fileobj=content, path_in_repo="parts.bin")
    assert [r.received for r in hub.requests if r.method == "PUT"] == [1000, 1000, 503]
    assert read(hub, "parts.bin") == content


def test_ignored_files_stay_behind(hub, commits):
    operations = [
        CommitOperationAdd(".gitignore", b"*.log\ncache/\n"),
        CommitOperationAdd("a.log", b"x"),
        CommitOperationAdd("cache/model.safetensors", b"y"),
        CommitOperationAdd("kept.txt", b"z"),
    ]
    hub.api.create_commit("org/model", operations, commit_message="Some")
    added = set(hub.files("org/model")) - set(hub.files("org/model", commits[1]))
    assert added == {".gitignore", "kept.txt"}


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
        json={"operation": "upload", "transfers": ["basic", "multipart", "xet"], "objects": [{"oid": oid, "size": 5}]},
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
        assert list(other.list_models()) == []
    wrong = client(hub, "hf_wrong")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        wrong.model_info("org/secret")
    assert caught.value.response.status_code == 401
    hub.api.update_repo_settings("org/secret", private=False)
    assert not client(hub, False).model_info("org/secret").private


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
            lambda api: api.create_tag("org/model", tag="v1"),
            lambda api: api.upload_file(repo_id="org/model", path_or_fileobj=b"", path_in_repo="x"),
        ):
            with pytest.raises(HfHubHTTPError) as caught:
                ask(api)
            assert caught.value.response.status_code == status
    assert hub.api.model_info("org/model").sha == commits[1]
    assert hub.repo("org/model").tags == {}


def test_a_gated_repository_shows_its_card_but_not_its_files(hub, commits):
    hub.api.update_repo_settings("org/model", gated="manual")
    stranger = client(hub, hub.stranger_token)
    assert stranger.model_info("org/model").gated == "manual"
    with pytest.raises(GatedRepoError):
        stranger.hf_hub_download("org/model", "config.json")
    assert read(hub, "config.json") == b"[1]"


def test_pull_requests(hub, commits):
    commit = hub.api.upload_file(
        repo_id="org/model", path_or_fileobj=b"[3]", path_in_repo="config.json", create_pr=True
    )
    assert commit.pr_revision == "refs/pr/1"
    assert read(hub, "config.json", "refs/pr/1") == b"[3]"
    assert read(hub, "config.json") == b"[1]"
    refs = hub.api.list_repo_refs("org/model", include_pull_requests=True).pull_requests
    assert [(ref.ref, ref.target_commit) for ref in refs] == [("refs/pr/1", commit.oid)]


def test_clients_in_many_threads_lose_nothing(hub, commits):
    def push(number):
        operations = [CommitOperationAdd(f"{number}.{suffix}", b"%d" % number) for suffix in ("txt", "bin")]
        return hub.api.create_commit("org/model", operations, commit_message=str(number)).oid

    with ThreadPoolExecutor(8) as pool:
        oids = list(pool.map(push, range(16)))
    files = hub.files("org/model")
    assert all(files[f"{n}.{suffix}"] == b"%d" % n for n in range(16) for suffix in ("txt", "bin"))
    assert set(oids) <= {commit.commit_id for commit in hub.api.list_repo_commits("org/model")}
    for oid in oids:  # never half of a commit
        names = hub.files("org/model", oid)
        assert {n.removesuffix(".txt") for n in names if n.endswith(".txt")} == {
            n.removesuffix(".bin") for n in names if n.endswith(".bin")
        }
