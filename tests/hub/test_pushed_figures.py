"""Figures go along with a push if they belong to the weights that are sent."""

import json
import re

import torch
from huggingface_hub import ModelCard
from transformers import AutoModel

from e4srec_hf.cards.facts import add_facts
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.catalogue.items import remove_items
from e4srec_hf.evaluation.fingerprint import model_fingerprint
from e4srec_hf.evaluation.reports import load_reports, save_reports
from e4srec_hf.hub.push import push, push_folder
from e4srec_hf.training.saving import save_trained
from tests.hub.pushing import REPO, REPORTS

SKEW = {"top_k": 10, "exclude_seen": True, "n_users": 2, "of_users": 2, "heads": {"1%": 1}, "rows": {}}


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
