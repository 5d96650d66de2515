"""The Hub for tests, as libraries on top of its client use it: cards, models, trainers, data sets; and its faults."""

import hashlib
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    ModelCard,
    hf_hub_download,
    hf_hub_url,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
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

from tests.loopback_hub.conftest import CARD, WEIGHTS


def git_sha1(content):
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def client(hub, token):
    return HfApi(endpoint=hub.endpoint, token=token)


def read(hub, path, revision=None, repo_id="org/model"):
    return Path(hub.api.hf_hub_download(repo_id, path, revision=revision)).read_bytes()


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
