"""The Hub for tests answers the unmodified clients as the Hub does."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    ModelCard,
    get_hf_file_metadata,
    hf_hub_download,
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
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    Trainer,
    TrainingArguments,
)

WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: mit\ntags: [recommendation]\nlibrary_name: transformers\n---\n# A model\n"


def git_sha1(content):
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


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


def test_a_model_card_makes_the_round_trip(hub_here):
    hub_here.api.create_repo("org/model")
    ModelCard(CARD).push_to_hub("org/model")
    assert ModelCard.load("org/model").data.to_dict() == ModelCard(CARD).data.to_dict()
    with pytest.raises(ValueError, match="base_model"):
        ModelCard("---\nbase_model: /a/folder\n---\n").push_to_hub("org/model")
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        ModelCard("no metadata").push_to_hub("org/model")


def test_faults_at_will(hub, commits):
    hub.fail("*/commit/main", method="POST", status=409, message="Not now")
    with pytest.raises(HfHubHTTPError, match="Not now"):
        hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"x", path_in_repo="x.txt")
    hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"x", path_in_repo="x.txt")
    hub.fail("*/x.txt", method="HEAD", status=404, code="EntryNotFound", after=1)
    read(hub, "x.txt")
    with pytest.raises(EntryNotFoundError):
        read(hub, "x.txt")
    hub.before("*/preupload/*", lambda: hub.commit("org/model", {"first.txt": "I was faster"}))
    head = hub.api.model_info("org/model").sha
    with pytest.raises(HfHubHTTPError, match="412"):
        hub.api.upload_file(repo_id="org/model", path_or_fileobj=b"y", path_in_repo="y.txt", parent_commit=head)
    assert {"x.txt", "first.txt"} <= set(hub.files("org/model"))


def test_a_connection_breaks_at_will(hub, commits):
    url = hf_hub_url("org/model", "nested/model.safetensors", endpoint=hub.endpoint)
    hub.cut("/storage/*", 4000, method="GET")
    with pytest.raises(Exception, match="peer closed connection"):
        get_session().get(url)
    assert get_session().get(url).content == WEIGHTS
    assert [r.sent for r in hub.requests if r.path.startswith("/storage/")] == [4000, len(WEIGHTS)]
    assert hub.bytes_sent == 4000 + len(WEIGHTS)


def test_files_put_there_without_a_client(hub):
    commit = hub.commit("org/data", {"a.txt": "text", "b.parquet": b"bytes"}, repo_type="dataset", private=True)
    info = hub.api.dataset_info("org/data", files_metadata=True)
    assert (info.sha, info.private) == (commit, True)
    assert [s.rfilename for s in info.siblings if s.lfs] == ["b.parquet"]
    assert hub.files("org/data", repo_type="dataset")["a.txt"] == b"text"


def test_an_unknown_endpoint_says_so(hub):
    with pytest.raises(HfHubHTTPError, match="does not know GET /api/spaces/org/x/runtime"):
        hub.api.get_space_runtime("org/x")


def test_file_system_paths(hub_here):
    hub_here.commit("org/data", {"train/a.txt": "first", "train/b.txt": "second"}, repo_type="dataset")
    files = HfFileSystem(endpoint=hub_here.endpoint, token=hub_here.token)
    assert files.ls("datasets/org/data/train", detail=False) == [
        "datasets/org/data/train/a.txt",
        "datasets/org/data/train/b.txt",
    ]
    assert files.glob("datasets/org/data/**/b.txt") == ["datasets/org/data/train/b.txt"]
    assert files.read_text("datasets/org/data/train/b.txt") == "second"
    with files.open("datasets/org/data/train/c.txt", "wb") as file:
        file.write(b"third")
    assert hub_here.files("org/data", repo_type="dataset")["train/c.txt"] == b"third"


def test_a_transformers_model_and_tokenizer_make_the_round_trip(hub_here, make_base, item_tokenizer, tmp_path):
    model = make_base()
    model.push_to_hub("org/base", private=True)
    item_tokenizer.push_to_hub("org/base", revision="main")
    revision = hub_here.api.model_info("org/base").sha
    hub_here.api.upload_file(repo_id="org/base", path_or_fileobj=b"broken", path_in_repo="config.json")
    copy = AutoModel.from_pretrained("org/base", revision=revision)
    for name, tensor in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor)
    assert AutoConfig.from_pretrained("org/base", revision=revision).model_type == "llama"
    assert AutoTokenizer.from_pretrained("org/base", revision=revision).get_vocab() == item_tokenizer.get_vocab()
    with pytest.raises(OSError, match="org/base"):
        AutoConfig.from_pretrained("org/base", token=hub_here.stranger_token, cache_dir=tmp_path)


def test_a_trainer_pushes_what_it_trained(hub_here, tmp_path):
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    args = TrainingArguments(tmp_path, push_to_hub=True, hub_model_id="org/trained", max_steps=1, use_cpu=True)
    row = {"input_ids": [1, 2], "labels": [1, 2]}
    trainer = Trainer(model, args, train_dataset=[row] * 8)
    trainer.train()
    commit = trainer.push_to_hub()
    assert {"model.safetensors", "config.json", "README.md"} <= set(hub_here.files("org/trained", commit.oid))


def test_a_data_set_makes_the_round_trip(hub_here):
    splits = datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"user": [f"{name} {n}" for n in range(5)]}) for name in ("train", "test")}
    )
    splits.push_to_hub("org/data", private=True)
    assert {name for name in hub_here.files("org/data", repo_type="dataset") if name.endswith("parquet")} == {
        "data/train-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
    }
    copy = datasets.load_dataset("org/data")
    assert {name: split["user"][:] for name, split in copy.items()} == {
        name: split["user"][:] for name, split in splits.items()
    }
    first = hub_here.api.dataset_info("org/data").sha
    splits["train"].select(range(2)).push_to_hub("org/data", split="train")
    assert datasets.load_dataset("org/data", split="train").num_rows == 2
    assert datasets.load_dataset("org/data", split="train", revision=first).num_rows == 5


def test_functions_that_take_no_endpoint(hub_here):
    hub_here.commit("org/model", {"config.json": "{}"}, private=True)
    assert hf_hub_download("org/model", "config.json").startswith(str(hub_here.home))


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
