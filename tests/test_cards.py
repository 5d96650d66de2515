"""The card says what it knows, and says so where it knows nothing."""

import ast
import json

import torch
from datasets import Dataset
from huggingface_hub import ModelCard

from e4srec_hf.cards import write_model_card
from e4srec_hf.catalogue import add_items, remove_items
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.evaluation import evaluate_ranking
from e4srec_hf.training import save_trained
from tests.conftest import ITEM_DIM


def test_a_card_has_the_figures_with_protocol_and_intervals(make_model, base_dir, item_tokenizer, tmp_path):
    model = make_model(base_dir)
    save_trained(model, item_tokenizer, tmp_path)
    rows = Dataset.from_dict({"user_id": ["u", "v"], "item_ids": [["item 1", "item 2"], ["item 3", "item 4"]]})
    report = evaluate_ranking(model, rows, item_tokenizer)
    write_model_card(
        tmp_path, model.config, {"full": {"E4SRec": report}}, settings={"response": "a\n| b", "base_model": "x"}
    )
    text = (tmp_path / "README.md").read_text()
    estimate = report.metrics["hr@10"]
    assert f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]" in text
    assert "Ranked among the whole catalogue, seen items hidden, 2 users" in text
    assert "| response | a\\n\\| b |" in text
    assert "items([['item 0', 'item 1', 'item 2']], is_split_into_words=True" in text
    assert ModelCard.load(tmp_path / "README.md").data.tags[0] == "e4srec"
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["full"]["E4SRec"]["metrics"]["hr@10"]["value"] == estimate.value


def test_the_example_on_the_card_is_python_whatever_the_ids(make_model, base_dir, tmp_path):
    odd = ['say "hi"', "b\\", "c's 😀", *(f"item {n}" for n in range(27))]
    model = make_model(base_dir)
    save_trained(model, build_item_tokenizer(odd), tmp_path)
    write_model_card(tmp_path, model.config)
    code = (tmp_path / "README.md").read_text().split("```python")[1].split("```")[0]
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert [odd[:3]] in [
        ast.literal_eval(call.args[0]) for call in calls if call.args and isinstance(call.args[0], ast.List)
    ]


def test_a_card_without_figures_says_so(make_model, base_dir, item_tokenizer, tmp_path):
    model = make_model(base_dir, tuning="full")
    save_trained(model, item_tokenizer, tmp_path)
    write_model_card(tmp_path, model.config)
    text = (tmp_path / "README.md").read_text()
    assert "No figures: no test targets have been ranked." in text
    assert "the whole model, its base included" in text
    assert "random weights" not in text
    write_model_card(tmp_path, model.config, random_base=True)
    assert "made on the spot with random weights" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "evaluation.json").exists()


def test_a_base_on_the_hub_stands_in_the_metadata(make_model, base_dir, item_tokenizer, tmp_path):
    model = make_model(base_dir)
    save_trained(model, item_tokenizer, tmp_path)
    model.config.base_model_name_or_path = "./base"
    write_model_card(tmp_path, model.config)
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None
    model.config.base_model_name_or_path = "org/base"
    write_model_card(tmp_path, model.config, repo_id="org/adapter")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model == "org/base"
    assert data.base_model_relation == "adapter"
    assert 'AutoModel.from_pretrained("org/adapter", trust_remote_code=True)' in (tmp_path / "README.md").read_text()


def test_a_card_says_what_became_of_the_catalogue(make_model, base_dir, item_tokenizer, tmp_path):
    model = make_model(base_dir)
    save_trained(model, item_tokenizer, tmp_path)
    write_model_card(tmp_path, model.config)
    text = (tmp_path / "README.md").read_text()
    assert "It knows only the 30 items it was trained on, and passes over unknown ones." in text
    grown = add_items(model, item_tokenizer, ["a", "b"], torch.zeros(2, ITEM_DIM)).tokenizer
    remove_items(model, grown, ["a", "item 3", "item 4"])
    save_trained(model, grown, tmp_path)
    write_model_card(tmp_path, model.config)
    limits = (tmp_path / "README.md").read_text().split("## Limits")[1]
    assert "It knows only the 32 items of its catalogue" in limits
    assert "The last 2 items were added after it was trained" in limits
    assert "3 items are retired" in limits
