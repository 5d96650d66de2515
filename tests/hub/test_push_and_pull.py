"""Models on a Hub that the unmodified clients talk to over HTTP: push, load by id without the package, pull."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from safetensors.torch import load
from transformers import AutoModel, AutoTokenizer, LlamaConfig, TrainingArguments

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel
from e4srec_hf.cards.facts import add_facts
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.catalogue.items import remove_items
from e4srec_hf.data import build_item_tokenizer, leave_one_out
from e4srec_hf.evaluation.fingerprint import model_fingerprint
from e4srec_hf.evaluation.metrics import metrics_with_intervals
from e4srec_hf.evaluation.reports import RankingReport, load_reports, save_reports
from e4srec_hf.hub import travelling_code
from e4srec_hf.hub.pull import item_titles, pull
from e4srec_hf.hub.push import push, push_folder
from e4srec_hf.hub.verify import verify
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.trainer import RankingTrainer
from tests.conftest import random_batch

REPO = "org/e4srec-beauty"
REPORTS = {"full": {"E4SRec": RankingReport(metrics_with_intervals([1.0, 3.0]), [1.0, 3.0], 2, 0, True, "all items")}}
SKEW = {"top_k": 10, "exclude_seen": True, "n_users": 2, "of_users": 2, "heads": {"1%": 1}, "rows": {}}
#: Loads by id, and prints the module of the class and the ten best items of a batch.
RECOMMEND = textwrap.dedent(
    """
    import json, sys
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    repo, revision, arguments = sys.argv[1], sys.argv[2] or None, json.loads(sys.argv[3])
    arguments |= {"revision": revision}
    AutoConfig.from_pretrained(repo, **arguments)
    model = AutoModel.from_pretrained(repo, **arguments)
    items = AutoTokenizer.from_pretrained(repo, **arguments)
    history = items(["item 3", "item 7"], is_split_into_words=True, return_tensors="pt")
    best = model.recommend(**history, top_k=10)
    print(json.dumps([type(model).__module__, items.convert_ids_to_tokens(best.item_ids[0].tolist()),
                      best.scores[0].tolist()]))
    """
)


@pytest.fixture
def base_on_hub(hub_here, base_dir):
    """A base in a repo of its own."""
    hub_here.commit("org/base", {file.name: file.read_bytes() for file in Path(base_dir).iterdir()})
    return "org/base"


@pytest.fixture
def saved(make_model, base_on_hub, item_tokenizer, tmp_path):
    """A model on a base of the Hub, and the folder it was saved to, with a card."""

    def save(name="adapter", **config):
        model = make_model(base_on_hub, **config)
        save_trained(model, item_tokenizer, tmp_path / name)
        return model, tmp_path / name

    return save


def recommend(hub, repo=REPO, revision="", package=False, **environment):
    arguments = {} if package else {"trust_remote_code": True}
    script = ("import e4srec_hf\n" if package else "") + RECOMMEND
    done = hub.run_python(script, repo, revision, json.dumps(arguments), package=package, **environment)
    return json.loads(done.stdout.splitlines()[-1])


def expected(model, items):
    history = items(["item 3", "item 7"], is_split_into_words=True, return_tensors="pt")
    best = model.recommend(**history, top_k=10)
    return [items.convert_ids_to_tokens(best.item_ids[0].tolist()), best.scores[0].tolist()]


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
    assert counted[1] <= 1700
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


def figures(hub, repo=REPO):
    """The table of results on the card of a repo, and its ``evaluation.json``; ``None`` where there is none."""
    files = hub.files(repo)
    table = re.search(r"\| E4SRec \| .*", files["README.md"].decode())
    return table and table[0], json.loads(files["evaluation.json"]) if "evaluation.json" in files else None


def test_figures_stay_behind_when_the_model_has_changed(saved, hub_here, item_tokenizer):
    model, directory = saved()
    add_facts(directory, {"seeds": {"seed": 3}})
    save_reports(REPORTS, directory, popularity_skew=SKEW)
    refresh_model_card(directory, license="mit")
    push(model, REPO)
    table, content = figures(hub_here)
    assert table is not None
    assert content["fingerprint"] == model_fingerprint(model)
    assert content["popularity_skew"] == SKEW
    remove_items(model, item_tokenizer, ["item 3"])
    push(model, REPO)
    assert figures(hub_here) == (None, None)
    card = hub_here.files(REPO)["README.md"].decode()
    assert "1 item is retired" in card
    assert "Popularity bias was not measured." in card
    assert f'AutoModel.from_pretrained("{REPO}", trust_remote_code=True)' in card
    assert ModelCard(card).data.license == "mit"
    assert "training.json" in hub_here.files(REPO)
    assert load_reports(directory) != {}  # of the model that is saved there still
    save_trained(model, item_tokenizer, directory)
    assert load_reports(directory) == {}
    assert "1 item is retired" in (directory / "README.md").read_text()
    assert "No figures" in (directory / "README.md").read_text()
    push(model, REPO)
    assert figures(hub_here) == (None, None)
    save_reports(REPORTS, directory)
    save_trained(model, item_tokenizer, directory)  # the same model again
    assert load_reports(directory) != {}


def test_figures_of_a_folder_stay_behind_when_other_weights_were_saved_there(saved, hub_here):
    model, directory = saved()
    save_reports(REPORTS, directory)
    refresh_model_card(directory, license="mit")
    with torch.no_grad():
        model.score.weight.add_(1)
    model.save_pretrained(directory)  # which knows nothing of the card
    before = (directory / "README.md").read_bytes(), (directory / "evaluation.json").read_bytes()
    push_folder(directory, REPO)
    assert figures(hub_here) == (None, None)
    assert ModelCard(hub_here.files(REPO)["README.md"].decode()).data.license == "mit"
    assert ((directory / "README.md").read_bytes(), (directory / "evaluation.json").read_bytes()) == before


def test_figures_go_along_in_another_dtype_and_come_back_with_the_loaded_model(saved, hub_here):
    model, directory = saved()
    save_reports(REPORTS, directory)
    refresh_model_card(directory)
    push(model, REPO, dtype=torch.bfloat16)
    table, content = figures(hub_here)
    assert table is not None
    loaded = AutoModel.from_pretrained(REPO)
    assert content["fingerprint"] == model_fingerprint(loaded) != model_fingerprint(model)
    push(loaded, "org/copy")
    assert figures(hub_here, "org/copy") == (table, content)
    with torch.no_grad():
        loaded.score.weight[3, 3] += 1
    push(loaded, "org/copy")
    assert figures(hub_here, "org/copy") == (None, None)


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


@pytest.mark.slow
@pytest.mark.parametrize(("head", "size"), [("tied", 49_029_264), ("linear", 147_652_760)])
def test_an_adapter_of_a_seven_billion_base_is_small(head, size, tmp_path):
    """Llama-2-7B in bfloat16, without its weights; Amazon Beauty's catalogue; LoRA r 16 on the MLP."""
    with torch.device("meta"):
        base = AutoModel.from_config(
            LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
        )
    model = E4SRecModel.from_base(base, torch.zeros(12_103, 64), instruction="", response="", head=head)
    base_bytes = sum(2 * weight.numel() for name, weight in model.base.named_parameters() if ".lora_" not in name)
    state = model.state_dict()
    weights = {name: torch.zeros(state[name].shape, dtype=torch.bfloat16) for name in model.saved_keys()}
    model.save_pretrained(tmp_path, state_dict=weights)
    pushed = sum(file.stat().st_size for file in tmp_path.iterdir())
    print(f"{head} head: {pushed:,} bytes are pushed, {pushed / base_bytes:.2%} of the base's {base_bytes:,}")
    assert (tmp_path / "model.safetensors").stat().st_size == size
    assert head == "linear" or pushed < 0.005 * base_bytes


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


@pytest.mark.slow
def test_the_demo_is_trained_pushed_and_recommends_the_same_without_the_package(hub_here, tmp_path):
    train = Path(__file__).parents[2] / "examples" / "train.py"
    fewer = ["--num_train_epochs", "1", "--sasrec_epochs", "2"]
    push = ["--push_to_hub", "true", "--hub_model_id", "org/e4srec-demo", "--output_dir", str(tmp_path / "demo")]
    done = subprocess.run(
        [sys.executable, str(train), *fewer, *push],
        env=hub_here.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sample = json.loads((tmp_path / "demo" / "sample_recommendations.json").read_text())
    first = hub_here.api.model_info("org/e4srec-demo").sha
    script = RECOMMEND.replace('["item 3", "item 7"]', "json.loads(sys.argv[4])")

    def recommended(revision="", **environment):
        arguments = json.dumps({"trust_remote_code": True}), json.dumps(sample["history"])
        done = hub_here.run_python(script, "org/e4srec-demo", revision, *arguments, package=False, **environment)
        return json.loads(done.stdout.splitlines()[-1])[1]

    assert recommended() == sample["recommended"]
    hub_here.commit("org/e4srec-demo", {"model.safetensors": b"a later push that went wrong"})
    assert recommended(first) == sample["recommended"]
    assert recommended(first, HF_HUB_OFFLINE="1") == sample["recommended"]
    assert verify("org/e4srec-demo", revision=first).passed


@pytest.mark.slow
def test_the_trainer_pushes_once_and_only_at_the_end(
    make_model, base_on_hub, item_tokenizer, raw_ids, hub_here, tmp_path
):
    histories = [[raw_ids[(user + step) % 30] for step in range(6)] for user in range(12)]
    sequences = Dataset.from_dict({"user_id": [f"u{user}" for user in range(12)], "item_ids": histories})
    splits = leave_one_out(sequences)
    trainer = RankingTrainer(
        make_model(base_on_hub),
        TrainingArguments(
            str(tmp_path / "run"),
            push_to_hub=True,
            hub_model_id=REPO,
            save_strategy="epoch",
            num_train_epochs=2,
            report_to=[],
            use_cpu=True,
        ),
        tokenizer=item_tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
    )
    trainer.train()
    assert ("model", REPO) not in hub_here.store.repos
    trainer.push_to_hub()
    assert len(hub_here.api.list_repo_commits(REPO)) == 2
    assert not [name for name in hub_here.files(REPO) if name.endswith((".bin", ".pt"))]
    loaded = AutoModel.from_pretrained(REPO)
    trained = trainer.model.eval()
    assert torch.equal(loaded(*random_batch()).logits, trained(*random_batch()).logits)
