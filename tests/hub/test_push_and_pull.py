"""Models on a Hub that the unmodified clients talk to over HTTP: push, load by id without the package, pull."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from safetensors.torch import load
from transformers import AutoModel, AutoTokenizer

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.evaluation.reports import save_reports
from e4srec_hf.hub import travelling_code
from e4srec_hf.hub.pull import item_titles, pull
from e4srec_hf.hub.push import push, push_folder
from e4srec_hf.hub.verify import verify
from e4srec_hf.training.saving import save_trained
from tests.conftest import random_batch
from tests.hub.pushing import REPO, REPORTS, expected, recommend


@pytest.mark.slow
def test_a_pushed_model_loads_by_id_without_the_package_at_a_revision_and_offline(saved, hub_here, item_tokenizer):
    first, _ = saved()
    first_commit = push(first, REPO).oid
    assert len(hub_here.api.list_repo_commits(REPO)) == 2  # the repo's own and ours
    second, _ = saved(lora={"r": 2})
    push(second, REPO)
    module, *now = recommend(hub_here)
    assert module.startswith("transformers_modules.")
    assert now == expected(second, item_tokenizer)
    assert recommend(hub_here, revision=first_commit)[1:] == expected(first, item_tokenizer)
    seen = len(hub_here.requests)
    assert recommend(hub_here, HF_HUB_OFFLINE="1")[1:] == now
    assert len(hub_here.requests) == seen
    module, *with_package = recommend(hub_here, package=True)
    assert module == "e4srec_hf.modeling.modeling_e4srec"
    assert with_package == now


def test_what_arrives_is_what_makes_up_a_model_and_nothing_else(saved, hub_here):
    _, directory = saved()
    for name in ("training_args.bin", "optimizer.pt", "notes.txt", "item_titles.json"):
        (directory / name).write_text("{}")
    (directory / "checkpoint-3").mkdir()
    shutil.copy(directory / "model.safetensors", directory / "checkpoint-3")
    info = push_folder(directory, REPO)
    code = {file.name for file in directory.glob("*.py")}
    files = hub_here.files(REPO)
    assert set(files) - {".gitattributes"} == code | {
        "README.md",
        "config.json",
        "item_titles.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all(
        files[name] == (directory / name).read_bytes()
        for name in files
        if (directory / name).is_file() and name != "README.md"
    )
    assert f'AutoModel.from_pretrained("{REPO}", trust_remote_code=True)' in files["README.md"].decode()
    assert str(directory) not in files["README.md"].decode()
    assert json.loads(files["config.json"])["base_model_name_or_path"] == "org/base"
    assert info.oid == hub_here.api.model_info(REPO).sha
    assert item_titles(REPO) == {}


def test_the_commit_of_the_base_is_recorded_and_used_and_the_adapters_revision_is_not_its(saved, hub_here, base_dir):
    model, _ = saved()
    commit = hub_here.api.model_info("org/base").sha
    assert model.config.base_model_revision == commit
    push(model, REPO, revision="v1")
    hub_here.commit("org/base", {"model.safetensors": b"something else"})
    loaded = AutoModel.from_pretrained(REPO, revision="v1")
    assert loaded.config.base_model_revision == commit
    assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)


def test_a_base_on_this_machine_is_refused_or_sent_along(make_model, base_dir, item_tokenizer, hub_here):
    model = make_model(base_dir)
    with pytest.raises(ValueError, match=r"a folder on this machine, .*, which nobody else has"):
        push(model, REPO, tokenizer=item_tokenizer)
    assert ("model", REPO) not in hub_here.store.repos
    push(model, REPO, tokenizer=item_tokenizer, with_base=True)
    assert "base/model.safetensors" in hub_here.files(REPO)
    assert model.config.base_model_name_or_path == str(base_dir)
    loaded = AutoModel.from_pretrained(REPO)
    assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)
    push(loaded, "org/copy")  # its base came from the repo
    assert hub_here.files("org/copy")["base/model.safetensors"] == hub_here.files(REPO)["base/model.safetensors"]


def test_the_models_own_push_to_hub_makes_a_repo_that_loads_without_the_package(saved, hub_here, item_tokenizer):
    model, _ = saved()
    model.push_to_hub(REPO, private=True)
    assert hub_here.api.model_info(REPO).private
    module, *found = recommend(hub_here)
    assert module.startswith("transformers_modules.")
    assert found == expected(model, item_tokenizer)
    assert verify(REPO).passed


def test_a_mistyped_argument_is_an_error_and_nothing_is_created(saved, hub_here):
    model, directory = saved()
    for attempt in (
        lambda: model.push_to_hub(REPO, pivate=True),
        lambda: push(model, REPO, pivate=True),
        lambda: push(directory, REPO, pivate=True),
        lambda: push_folder(directory, REPO, pivate=True),
        lambda: model.save_pretrained(directory, push_to_hub=True, repo_id=REPO, pivate=True),
    ):
        with pytest.raises(TypeError, match="pivate"):
            attempt()
        assert ("model", REPO) not in hub_here.store.repos


def test_a_folder_takes_no_options_of_a_model(saved, hub_here, item_tokenizer):
    _, directory = saved()
    for options in ({"tokenizer": item_tokenizer}, {"with_base": True}, {"dtype": torch.bfloat16}):
        with pytest.raises(ValueError, match="A folder is pushed as it is"):
            push(directory, REPO, **options)
    assert ("model", REPO) not in hub_here.store.repos
    assert push(directory, REPO, commit_message="By its folder").oid == hub_here.api.model_info(REPO).sha
    assert hub_here.api.list_repo_commits(REPO)[0].title == "By its folder"


def test_a_model_that_was_never_saved_is_pushed_with_a_card(make_model, base_on_hub, item_tokenizer, hub_here):
    push(make_model(base_on_hub), REPO, tokenizer=item_tokenizer)
    card = ModelCard.load(REPO)
    assert f'AutoModel.from_pretrained("{REPO}", trust_remote_code=True)' in card.text
    assert card.data.base_model == "org/base"


def test_the_code_that_travels_is_counted(saved):
    _, directory = saved()
    files = list(directory.glob("*.py"))
    counted = len(files), sum(len(file.read_text().splitlines()) for file in files)
    assert travelling_code(directory) == travelling_code("e4srec") == counted
    assert counted[0] <= 12
    assert counted[1] <= 1820
    n_files, n_lines = travelling_code("sasrec")
    assert n_files <= 12
    assert n_lines <= 1000
    with pytest.raises(ValueError, match=r"has no model of this package; model types are e4srec, sasrec"):
        travelling_code(directory / "nowhere")


def test_a_push_needs_an_item_tokenizer(make_model, base_on_hub):
    with pytest.raises(FileNotFoundError, match=r"lacks tokenizer.json, tokenizer_config.json: save model and item"):
        push(make_model(base_on_hub), REPO)


@pytest.mark.parametrize("revision", [None, "v2"])
def test_a_push_that_fails_leaves_the_hub_as_it_was(revision, saved, hub_here):
    model, directory = saved()
    for pattern in ("*/commit/*", "*/info/lfs/objects/batch"):
        hub_here.fail(pattern, status=403)
        with pytest.raises((HfHubHTTPError, OSError)):
            push_folder(directory, REPO, revision=revision)
        assert ("model", REPO) not in hub_here.store.repos
    push_folder(directory, REPO)
    before = hub_here.api.list_repo_refs(REPO), hub_here.files(REPO)
    model.config.max_history = 7
    save_trained(model, AutoTokenizer.from_pretrained(directory), directory)
    hub_here.fail("*/commit/*", status=403)
    with pytest.raises(HfHubHTTPError):
        push_folder(directory, REPO, revision=revision)
    assert (hub_here.api.list_repo_refs(REPO), hub_here.files(REPO)) == before


@pytest.mark.parametrize("as_folder", [False, True])
def test_what_an_earlier_push_sent_and_this_model_has_not_goes_with_the_next_push(as_folder, saved, hub_here):
    model, directory = saved()
    save_reports(REPORTS, directory)
    push(model, REPO)
    assert "evaluation.json" in hub_here.files(REPO)
    mine = {"handler.py": "", "notes/mine.py": "", "LICENSE": "mine"}
    hub_here.commit(REPO, mine | {"modeling_sasrec.py": "of another model", "base/config.json": "{}"})
    (directory / "evaluation.json").unlink()
    (directory / "modeling_sasrec.py").write_text("left from another model")
    push(directory if as_folder else model, REPO)
    files = hub_here.files(REPO)
    assert mine.keys() <= files.keys()
    assert not files.keys() & {"modeling_sasrec.py", "base/config.json", "evaluation.json"}


def test_a_tokenizer_of_another_catalogue_is_refused(saved, hub_here, raw_ids):
    model, _ = saved()
    with pytest.raises(ValueError, match="tokenizer has 31 items and special tokens, not 32"):
        push(model, REPO, tokenizer=build_item_tokenizer(raw_ids[1:]))
    assert ("model", REPO) not in hub_here.store.repos


def test_a_card_written_by_hand_keeps_what_it_says(saved, hub_here):
    _, directory = saved()
    with (directory / "README.md").open("a") as card:
        card.write('\n## Base\n\nMake it with `AutoModel.from_pretrained("org/base")`.\n')
    push_folder(directory, REPO)
    pushed = hub_here.files(REPO)["README.md"].decode()
    assert f'AutoModel.from_pretrained("{REPO}", trust' in pushed
    assert 'AutoModel.from_pretrained("org/base")`.' in pushed


def test_a_pull_request_leaves_the_branch_as_it_is(saved, hub_here):
    model, _ = saved()
    push(model, REPO)
    before = hub_here.files(REPO)
    model.config.max_history = 7
    info = push(model, REPO, create_pr=True)
    assert info.pr_revision == "refs/pr/1"
    assert hub_here.files(REPO) == before
    assert AutoModel.from_pretrained(REPO, revision="refs/pr/1").config.max_history == 7


def test_the_hub_takes_the_card(saved, hub_here):
    _, directory = saved()
    ModelCard.load(directory / "README.md").validate()
    assert any("validate-yaml" in request.path and request.status == 200 for request in hub_here.requests)


def test_who_may_push_need_not_be_allowed_to_create(saved, hub_here):
    model, directory = saved()
    push(model, REPO)
    hub_here.fail("/api/repos/create", status=403, times=9)
    push_folder(directory, REPO)
    assert len(hub_here.api.list_repo_commits(REPO)) == 2  # nothing had changed


def test_a_private_repo_needs_its_token(saved, hub_here, monkeypatch):
    model, _ = saved()
    push(model, REPO, private=True)
    assert AutoModel.from_pretrained(REPO, token=hub_here.read_token).config.vocab_size == model.config.vocab_size
    with pytest.raises(RepositoryNotFoundError):
        pull(REPO, "nowhere", token=hub_here.stranger_token)


def test_a_loaded_model_is_pushed_with_what_lies_beside_it(saved, hub_here):
    model, directory = saved()
    (directory / "item_titles.json").write_text('{"item 3": "Three"}')
    push_folder(directory, REPO)
    loaded = AutoModel.from_pretrained(REPO)
    push(loaded, "org/copy")
    assert set(hub_here.files("org/copy")) == set(hub_here.files(REPO))
    assert item_titles("org/copy") == {"item 3": "Three"}
    assert torch.equal(AutoModel.from_pretrained("org/copy")(*random_batch()).logits, model(*random_batch()).logits)


def test_an_adapter_goes_onto_a_fine_tune_whose_tokenizer_differs(saved, hub_here, tmp_path):
    from e4srec_hf.training.tiny_base import make_tiny_base

    model, _ = saved()
    push(model, REPO)
    other = make_tiny_base(tmp_path / "other", hidden_size=32, texts=["quite other words"], num_attention_heads=4)
    hub_here.commit("org/other", {file.name: file.read_bytes() for file in (tmp_path / "other").iterdir()})
    tokens = AutoTokenizer.from_pretrained(other).encode(model.config.instruction, add_special_tokens=False)
    assert tokens != model.config.instruction_ids
    for base in ("org/other", AutoModel.from_pretrained("org/other")):
        loaded = AutoModel.from_pretrained(REPO, base_model=base)
        assert loaded.config.instruction_ids == tokens
        assert loaded.config.base_model_name_or_path == "org/other"
    loaded = AutoModel.from_pretrained(REPO, base_model="org/other")
    assert loaded.config.base_model_revision == hub_here.api.model_info("org/other").sha
    assert AutoModel.from_pretrained(REPO, base_model=loaded).config.base_model_revision is not None


def test_pull_brings_the_model_whole_or_nothing(saved, hub_here, tmp_path):
    model, _ = saved()
    push(model, REPO)
    hub_here.commit(REPO, {"evil.bin": b"pickle", "deep/evil.py": "1/0"})
    commit = pull(REPO, tmp_path / "pulled")
    assert commit == hub_here.api.model_info(REPO).sha
    names = {file.name for file in (tmp_path / "pulled").rglob("*")}
    assert "model.safetensors" in names
    assert not names & {"evil.bin", "evil.py", "deep"}
    loaded = AutoModel.from_pretrained(tmp_path / "pulled")
    assert torch.equal(loaded(*random_batch()).logits, model(*random_batch()).logits)
    hub_here.commit("org/other", {"config.json": "{}"})
    with pytest.raises(FileNotFoundError, match="org/other is not a model of this package: it lacks model"):
        pull("org/other", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_sasrec_is_pushed_and_loaded_by_id(hub_here, item_tokenizer, tmp_path):
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=16)).eval()
    save_trained(model, item_tokenizer, tmp_path / "sasrec")
    push(model, "org/sasrec")
    ids, mask = random_batch()
    loaded = AutoModel.from_pretrained("org/sasrec")
    assert torch.equal(loaded(ids[2:], mask[2:]).logits, model(ids[2:], mask[2:]).logits)


def test_weights_may_be_sent_in_bfloat16(saved, hub_here):
    model, directory = saved()
    push_folder(directory, REPO)
    push(model, "org/half", dtype=torch.bfloat16)
    weights, halves = (load(hub_here.files(repo)["model.safetensors"]) for repo in (REPO, "org/half"))
    assert all(torch.equal(halves[name], weight.bfloat16()) for name, weight in weights.items())
    loaded = AutoModel.from_pretrained("org/half")
    assert loaded.score.weight.dtype == torch.float32
    torch.testing.assert_close(loaded(*random_batch()).logits, model(*random_batch()).logits, rtol=0.1, atol=0.1)
    assert verify("org/half").passed
