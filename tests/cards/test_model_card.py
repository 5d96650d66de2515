"""The card says what the files beside the model say, and says so where they say nothing."""

import ast
import html
import json
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import AutoModel, LlamaConfig, LlamaModel

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.cards.facts import add_facts
from e4srec_hf.cards.model_card import CARD_METRICS, refresh_model_card
from e4srec_hf.catalogue.items import add_items, remove_items
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.evaluation.fingerprint import folder_fingerprint
from e4srec_hf.evaluation.metrics import metrics_with_intervals
from e4srec_hf.evaluation.popularity import popularity_skew
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.evaluation.reports import RankingReport, save_reports
from e4srec_hf.training.saving import save_trained
from tests.conftest import ITEM_DIM, run_without_package

CURVE = [{"epoch": 1.0, "step": 5, "loss": 2.0, "ndcg@10": 0.25}, {"epoch": 2.0, "step": 10, "ndcg@10": 0.125}]
FACTS = {
    "data": {
        "name": "log|\n---.txt",
        "hub_id": None,
        "users": 1234,
        "items": 30,
        "interactions": 56789,
        "sha256": "ab" * 32,
    },
    "settings": {"response": "a\n| b", "instruction": "", "base_model": "x", "{{ title }}": "{% if %}"},
    "seeds": {"seed": 3, "data_seed": None, "negatives_seed": 0},
    "stages": {
        "SASRec": {"seconds": 8.26, "selected": None, "curve": CURVE},
        "E4SRec": {"seconds": 725.2, "selected": CURVE[0], "curve": CURVE},
    },
    "hardware": {"device": "A processor", "processes": 2, "threads": 4},
    "versions": {"python": "3.11.1", "torch": "2.13.0"},
    "random_base": False,
}


def report(seed, **protocol):
    ranks = np.random.default_rng(seed).integers(1, 30, size=50)
    protocol = {"candidates": "the whole catalogue", "exclude_seen": True, "n_without_target": 0} | protocol
    return RankingReport(metrics_with_intervals(ranks), ranks, len(ranks), **protocol)


@pytest.fixture
def reports():
    kinds = {"full": {}, "sampled": {"candidates": "9 sampled negatives", "exclude_seen": False, "n_without_target": 2}}
    return {
        kind: {
            model: report(3 * row + len(kind), **protocol)
            for row, model in enumerate(("popularity", "SASRec", "E4SRec"))
        }
        for kind, protocol in kinds.items()
    }


@pytest.fixture
def folder(make_model, base_dir, item_tokenizer, tmp_path):
    """An adapter with nothing beside it."""
    save_trained(make_model(base_dir), item_tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter"


def card_of(folder, *args, **kwargs):
    refresh_model_card(folder, *args, **kwargs)
    return (folder / "README.md").read_text(encoding="utf-8")


def sections(text):
    """Heading to what stands below it, up to the next heading."""
    body = re.sub(r"^```.*?^```", "(code)", ModelCard(text).text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^#+ (.+)$", body, flags=re.MULTILINE)
    return {heading: part.strip() for heading, part in zip(parts[1::2], parts[2::2], strict=True)}


def tables(text):
    """Every Markdown table as a list of rows of cells."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE)
    return [
        [[html.unescape(cell.strip()) for cell in line[1:-1].split("|")] for line in table.splitlines()]
        for table in found
    ]


def check_metadata(text):
    """The metadata, once it has survived a round trip and has the types that the Hub asks for."""
    card = ModelCard(text)
    again = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()
    assert again.content == text
    data = card.data.to_dict()
    assert data["library_name"] == "transformers"
    assert all(isinstance(tag, str) for tag in data["tags"] + data.get("metrics", []) + data.get("datasets", []))
    for result in data.get("model-index", [{"results": []}])[0]["results"]:
        assert isinstance(result["task"]["type"], str)
        assert {"name", "type"} <= set(result["dataset"])
        assert all(
            isinstance(metric["type"], str) and isinstance(metric["value"], float) for metric in result["metrics"]
        )
    return data


def code_of(text):
    return re.search(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE).group(1)


def test_every_figure_is_that_of_the_json_with_protocol_and_interval(folder, reports):
    save_reports(reports, folder)
    add_facts(folder, FACTS)
    text = card_of(folder)
    saved = json.loads((folder / "evaluation.json").read_text())
    assert saved.pop("fingerprint") == folder_fingerprint(folder)
    shown = [table for table in tables(text) if table[0][0] == "model"]
    assert len(shown) == len(saved) == 2
    for table, rows in zip(shown, saved.values(), strict=True):
        assert table[0] == ["model", *(metric.upper() for metric in CARD_METRICS)]
        assert [row[0] for row in table[2:]] == list(rows)
        for name, *cells in table[2:]:
            for metric, cell in zip(CARD_METRICS, cells, strict=True):
                found = rows[name]["metrics"][metric]
                assert cell == f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
    assert "Ranked among the whole catalogue, seen items hidden, 50 users:" in text
    assert "Ranked among 9 sampled negatives, seen items kept, 50 users, 2 users without a target left out:" in text
    data = check_metadata(text)
    assert data["metrics"] == list(CARD_METRICS)
    (index,) = data["model-index"]
    assert index["name"] == "adapter"
    (result,) = index["results"]
    assert result["dataset"] == {"name": "log|\n---.txt", "type": "log|\n---.txt", "split": "test"}
    expected = [
        (
            metric,
            rows["E4SRec"]["metrics"][metric]["value"],
            rows["E4SRec"]["candidates"],
            rows["E4SRec"]["exclude_seen"],
        )
        for rows in saved.values()
        for metric in CARD_METRICS
    ]
    assert expected == [
        (metric["type"], metric["value"], metric["args"]["candidates"], metric["args"]["exclude_seen"])
        for metric in result["metrics"]
    ]


def test_the_facts_of_the_training_are_those_of_the_json(folder):
    add_facts(folder, FACTS)
    text = card_of(folder)
    data, settings = tables(text)
    assert data[2:] == [
        ["name", "log|\\n---.txt"],
        ["users", "1,234"],
        ["items", "30"],
        ["interactions", "56,789"],
        ["SHA-256", "ab" * 32],
    ]
    assert settings[2:] == [
        ["response", "a\\n| b"],
        ["instruction", "(empty)"],
        ["base_model", "x"],
        ["{{ title }}", "{% if %}"],
    ]
    for line in (
        "- SASRec: 8.3 s",
        "- E4SRec: 12 min 5 s, epoch 1 selected with NDCG@10 0.2500 on validation",
        "- Hardware: A processor, processes: 2, threads of each: 4",
        "- Seeds: seed 3, negatives_seed 0",
        "- Versions: python 3.11.1, torch 2.13.0",
    ):
        assert line in text.splitlines()
    assert "](learning_curves.png)" in text
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    check_metadata(text)


def test_the_lean_towards_popular_items_is_that_of_the_json(folder, item_tokenizer, raw_ids):
    model = AutoModel.from_pretrained(folder)
    rows = Dataset.from_dict({"item_ids": [raw_ids[n : n + 4] for n in range(12)]})
    skew = popularity_skew({"E4SRec": (model, item_tokenizer)}, rows, rows, item_tokenizer, max_users=10)
    save_reports({}, folder, popularity_skew=skew)
    text = card_of(folder)
    assert "Popularity bias of the top 10 for 10 of 12 test users, drawn at random, seen items hidden" in text
    (table,) = tables(text)
    assert table[0] == ["items", "1% most popular (1 items)", "10% most popular (3 items)", "coverage", "Gini"]
    assert [row[0] for row in table[2:]] == ["training data (48)", "test targets (10)", "E4SRec (100)"]
    for cells, row in zip(table[2:], skew["rows"].values(), strict=True):
        shares = [f"{100 * row[name]:.1f}%" for name in ("1%", "10%", "coverage")]
        assert cells[1:] == [*shares, f"{row['gini']:.3f}"]


def test_the_card_says_where_titles_are_from(make_model, base_dir, item_tokenizer, tmp_path):
    save_trained(make_model(base_dir), item_tokenizer, tmp_path)
    add_facts(tmp_path, FACTS | {"data": FACTS["data"] | {"titles_from": "column a|b of items.csv"}})
    assert "| titles of the items | column a&#124;b of items.csv |\n" in card_of(tmp_path)


@pytest.mark.parametrize("missing", ["nothing", "everything", "figures", "training"])
@pytest.mark.parametrize("kind", ["lora", "full", "sasrec"])
def test_no_section_is_empty_and_what_is_not_known_is_said(
    kind, missing, make_model, base_dir, item_tokenizer, reports, tmp_path
):
    if kind == "sasrec":
        model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
    else:
        model = make_model(base_dir, tuning=kind)
    save_trained(model, item_tokenizer, tmp_path)
    if missing not in ("everything", "figures"):
        save_reports(reports, tmp_path)
    if missing not in ("everything", "training"):
        add_facts(tmp_path, FACTS)
    text = card_of(tmp_path)
    found = sections(text)
    headings = ["Use", "Results", "Learning curves", "Data", "Training", "Limits and bias"]
    assert list(found) == [tmp_path.name, *headings]
    assert all(found.values())
    assert "None" not in text
    assert ("No figures" in text) == (missing in ("everything", "figures"))
    no_facts = missing in ("everything", "training")
    assert ("No learning curve was recorded." in text) == no_facts
    assert ("The training data was not recorded." in text) == no_facts
    assert ("hardware and time were not recorded" in text) == no_facts
    assert "Popularity bias was not measured." in text
    contents = {"lora": "the trained weights (LoRA", "full": "the complete model,", "sasrec": "A [SASRec]"}
    assert contents[kind] in " ".join(found[tmp_path.name].split())
    data = check_metadata(text)
    assert ("model-index" in data) == ("metrics" in data) == (missing in ("nothing", "training"))
    assert data["tags"][0] == ("sasrec" if kind == "sasrec" else "e4srec")
    assert "base_model" not in data


def test_a_base_of_the_hub_stands_in_the_metadata_and_no_other(folder, make_model):
    def data_with(base, revision=None):
        config = json.loads((folder / "config.json").read_text())
        config |= {"base_model_name_or_path": base, "base_model_revision": revision}
        (folder / "config.json").write_text(json.dumps(config))
        text = card_of(folder)
        return check_metadata(text), text

    for base in ("./base", str(folder.absolute() / "base")):
        data, text = data_with(base)
        assert "base_model" not in data
        assert "The base is in the folder `base`" in text
        assert "not on the Hub" not in text
    for base in ("/not/on/this/machine", None, str(folder.parent), "two/folders/deep"):
        data, text = data_with(base)
        assert "base_model" not in data
        assert "The base is not on the Hub" in text
    for base in ("org/base", "gpt2"):
        data, text = data_with(base, "v1")
        assert (data["base_model"], data["base_model_relation"]) == (base, "adapter")
        assert f"[{base}](https://huggingface.co/{base}), revision v1." in text


def test_a_base_made_in_memory_is_not_named(text_tokenizer, make_model, item_tokenizer, tmp_path):
    base = LlamaModel(
        LlamaConfig(vocab_size=len(text_tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    save_trained(make_model(base), item_tokenizer, tmp_path)
    assert "base_model" not in check_metadata(card_of(tmp_path))


def test_a_data_set_of_the_hub_stands_in_the_metadata(folder, reports):
    save_reports(reports, folder)
    add_facts(folder, {"data": FACTS["data"] | {"name": "org/data", "hub_id": "org/data"}})
    data = check_metadata(card_of(folder))
    assert data["datasets"] == ["org/data"]
    assert data["model-index"][0]["results"][0]["dataset"]["type"] == "org/data"


def test_a_base_with_random_weights_is_said_to_be_one(folder):
    assert "randomly initialised" not in card_of(folder)
    add_facts(folder, {"random_base": True})
    assert "randomly initialised Llama" in card_of(folder)


def test_the_licence_is_the_one_that_was_given_and_stays(folder):
    assert "license" not in check_metadata(card_of(folder))
    assert check_metadata(card_of(folder, license="mit"))["license"] == "mit"
    assert check_metadata(card_of(folder))["license"] == "mit"
    assert check_metadata(card_of(folder, license="apache-2.0"))["license"] == "apache-2.0"


def test_the_card_is_named_after_the_repo(folder, reports):
    save_reports(reports, folder)
    text = card_of(folder, "org/some-name")
    assert "\n# some-name\n" in text
    assert check_metadata(text)["model-index"][0]["name"] == "some-name"
    assert 'AutoModel.from_pretrained("org/some-name", trust_remote_code=True)' in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["e4srec", "sasrec"])
def test_the_example_runs_where_the_package_is_not(kind, make_model, base_dir, tmp_path):
    odd = ['say "hi"', "b\\", "c's 😀", "```", "a\u2028b", "{{ x }}", *(f"item {n}" for n in range(24))]
    items = build_item_tokenizer(odd)
    if kind == "sasrec":
        model = SASRecModel(SASRecConfig(vocab_size=len(items), hidden_size=8, num_hidden_layers=1)).eval()
    else:
        model = make_model(base_dir)
    folder = tmp_path / 'a "quoted" folder'
    save_trained(model, items, folder)
    printed = run_without_package(code_of(card_of(folder)), folder=tmp_path)
    batch = items([odd[:3]], is_split_into_words=True, return_tensors="pt")
    expected = items.convert_ids_to_tokens(model.recommend(**batch).item_ids[0].tolist())
    assert ast.literal_eval(printed.strip().splitlines()[-1]) == expected


def test_the_example_asks_for_no_more_items_than_there_are(make_base, text_tokenizer, tmp_path):
    items = build_item_tokenizer(["a", "b"])
    save_trained(SASRecModel(SASRecConfig(vocab_size=4, hidden_size=8, num_hidden_layers=1)), items, tmp_path)
    assert 'items([["a", "b"]], is_split_into_words=True, return_tensors="pt"), top_k=2)' in card_of(tmp_path)


def test_without_an_item_tokenizer_there_is_no_example(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert sections(card_of(folder))["Use"] == "There is no example, because this repo has no item tokenizer."


def test_a_picture_that_was_not_drawn_is_not_shown(folder, monkeypatch):
    add_facts(folder, FACTS)
    monkeypatch.setattr("e4srec_hf.cards.model_card.draw_learning_curves", lambda stages, path: False)
    assert sections(card_of(folder))["Learning curves"] == "The curves were not drawn; `training.json` has the numbers."


def test_a_folder_without_a_model_gets_no_card(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config.json: a model card is made in the folder of a model"):
        refresh_model_card(tmp_path)
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a model of the type 'llama'; cards are made for e4srec and sasrec"):
        refresh_model_card(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("training.json", '{"data": {"name": "x"}}', "training.json does not hold the facts of a training"),
        ("training.json", '{"stages": []}', "training.json does not hold the facts of a training"),
        ("training.json", "{", "training.json is not a JSON file"),
        ("evaluation.json", {"full": {"E4SRec": {}}}, "evaluation.json does not hold the reports of evaluations"),
        ("evaluation.json", {"popularity_skew": {}}, "evaluation.json does not hold the popularity bias"),
        ("README.md", "---\nlicense: [\n---\n", "The metadata of .*README.md cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_card_stays(name, content, message, folder):
    (folder / "README.md").write_text("mine")
    if isinstance(content, dict):
        content = json.dumps({"fingerprint": folder_fingerprint(folder), **content})
    (folder / name).write_text(content)
    before = (folder / "README.md").read_text()
    with pytest.raises(ValueError, match=message):
        refresh_model_card(folder)
    assert (folder / "README.md").read_text() == before


def test_an_evaluation_of_a_trained_model_comes_onto_its_card(folder, item_tokenizer):
    model = AutoModel.from_pretrained(folder)
    rows = Dataset.from_dict({"user_id": ["u", "v"], "item_ids": [["item 1", "item 2"], ["item 3", "item 4"]]})
    found = evaluate_ranking(model, rows, item_tokenizer)
    save_reports({"full": {"E4SRec": found}}, folder)
    estimate = found.metrics["hr@10"]
    assert f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]" in card_of(folder)


def test_figures_of_other_weights_do_not_come_onto_the_card(folder, reports, item_tokenizer):
    save_reports(reports, folder, popularity_skew={"not": "read"})
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight.add_(1)
    model.save_pretrained(folder)
    text = card_of(folder)
    assert "No figures" in text
    assert "Popularity bias was not measured." in text
    assert "model-index" not in check_metadata(text)


@pytest.mark.parametrize("kind", ["e4srec", "sasrec"])
def test_the_card_counts_the_lines_of_code_and_leads_to_every_file(kind, folder, item_tokenizer, tmp_path):
    if kind == "sasrec":
        folder = tmp_path / "sasrec"
        model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
        save_trained(model, item_tokenizer, folder)
    use = sections(card_of(folder))["Use"]
    found = re.search(
        r"runs the Python of this repo,\n([\d,]+) lines in (\d+) files\. Read them here first:\n(.*)\.$", use
    )
    files = list(folder.glob("*.py"))
    assert int(found[1].replace(",", "")) == sum(len(file.read_text().splitlines()) for file in files)
    linked = re.findall(r"\[(\w+\.py)\]\((\w+\.py)\)", found[3])
    assert [name for name, _ in linked] == [target for _, target in linked]
    assert {name for name, _ in linked} == {file.name for file in files}
    assert [name for name, _ in linked][:2] == [f"modeling_{kind}.py", f"configuration_{kind}.py"]
    assert int(found[2]) == len(files) == len(linked)


def test_a_card_says_what_became_of_the_catalogue(make_model, base_dir, item_tokenizer, tmp_path):
    model = make_model(base_dir)
    save_trained(model, item_tokenizer, tmp_path)
    assert "The model knows only the 30 items it was trained on and ignores unknown ones." in card_of(tmp_path)
    grown = add_items(model, item_tokenizer, ["a", "b"], torch.zeros(2, ITEM_DIM)).tokenizer
    remove_items(model, grown, ["a", "item 3", "item 4"])
    save_trained(model, grown, tmp_path)
    limits = card_of(tmp_path).split("## Limits")[1]
    assert "The model knows only the 32 items of its catalogue" in limits
    assert "The last 2 items were added by their vectors after training" in limits
    assert "3 items are retired" in limits
    model = make_model(base_dir)
    save_trained(model, add_items(model, item_tokenizer, ["a"], torch.zeros(1, ITEM_DIM)).tokenizer, tmp_path)
    assert "The last item was added by its vector after training." in card_of(tmp_path)
