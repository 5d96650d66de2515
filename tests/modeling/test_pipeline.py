"""The pipeline: raw ids in, dictionaries out, the same as the model gives."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import pipeline

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.serving import recommend_items
from e4srec_hf.training.saving import save_trained
from tests.conftest import ITEM_DIM, VOCAB, run_without_package

TASK = "sequential-recommendation"
SCRIPT = """
import json, sys
from transformers import pipeline
recommender = pipeline("sequential-recommendation", model=sys.argv[1], trust_remote_code=True)
assert type(recommender).__module__.startswith("transformers_modules."), type(recommender)
for task in ("feature-extraction", "text-classification"):
    try:
        pipeline(task, model=sys.argv[1], trust_remote_code=True)
    except ValueError as error:
        assert "reads item ids, not text" in str(error), error
    else:
        raise AssertionError(task)
print("\\n" + json.dumps(recommender(json.loads(sys.argv[2]), top_k=5)))
"""


@pytest.fixture(params=["e4srec", "sasrec"])
def folder(request, make_model, base_dir, item_tokenizer, tmp_path):
    """A saved model with two titles."""
    if request.param == "e4srec":
        model = make_model(base_dir)
    else:
        torch.manual_seed(0)
        model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=ITEM_DIM, initializer_range=0.5)).eval()
    save_trained(model, item_tokenizer, tmp_path / "model")
    (tmp_path / "model" / "item_titles.json").write_text('{"item 3": "Three", "item 7": "Sieben ä"}', encoding="utf-8")
    return tmp_path / "model"


@pytest.fixture
def recommender(folder):
    return pipeline(TASK, model=str(folder), trust_remote_code=True)


def as_dictionaries(recommended):
    return [item._asdict() for item in recommended]


def same(found, expected):
    """Equal items and titles, and scores as near as another width of the batch leaves them."""
    assert [[entry["item"], entry["title"]] for entry in found] == [[e["item"], e["title"]] for e in expected]
    assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in expected], abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"exclude_seen": False, "top_k": 30}, {"top_k": 30}])
def test_one_history_gives_what_recommend_gives(options, recommender, folder):
    history = ["item 1", "item 2", "item 1"]
    same(recommender(history, **options), as_dictionaries(recommend_items(folder, history, **options)))


def test_many_histories_or_a_column_give_a_list_for_each(recommender, folder):
    histories = [["item 1"], ["item 5", "item 2", "item 9"], ["item 0"]]
    found = recommender(histories, batch_size=2)
    assert found == recommender(tuple(map(tuple, histories)), batch_size=2)
    assert found == recommender(Dataset.from_dict({"items": histories})["items"], batch_size=2)
    for history, of_history in zip(histories, found, strict=True):
        same(of_history, as_dictionaries(recommend_items(folder, history)))
    assert recommender(histories[:1]) == [recommender(histories[0])]


def test_ids_that_are_not_known_are_named_or_skipped(recommender):
    with pytest.raises(ValueError, match=r"2 item id\(s\) are not in the catalogue: nobody's, \[PAD\]"):
        recommender([["item 1", "nobody's"], ["[PAD]"]])
    same(recommender(["nobody's", "item 1", "[PAD]"], skip_unknown=True), recommender(["item 1"]))


@pytest.mark.parametrize("wrong", ["item 1", 7 * [3], [["item 1"], "item 2"], [["item 1", None]], [{"item 1"}], b"ab"])
def test_what_is_no_history_is_refused(wrong, recommender):
    with pytest.raises(TypeError, match="Give a list of raw item ids"):
        recommender(wrong)


def test_options_can_be_given_once_and_wrong_ones_are_refused(folder, recommender):
    three = pipeline(TASK, model=str(folder), trust_remote_code=True, top_k=3, skip_unknown=True)
    assert len(three(["item 1", "?"])) == 3
    assert len(three(["item 1"], top_k=4)) == 4
    with pytest.raises(TypeError, match="does not know the option"):
        recommender(["item 1"], topk=3)


def test_an_empty_history_is_a_history(recommender):
    if recommender.model.config.model_type == "sasrec":
        with pytest.raises(ValueError, match="no known item"):
            recommender([])
    else:  # there is a prompt
        same(recommender([]), recommender(["?"], skip_unknown=True))


def test_the_task_need_not_be_named_and_the_config_stays_printable(folder):
    recommender = pipeline(model=str(folder), trust_remote_code=True)
    assert recommender.task == TASK
    assert "vocab_size" in repr(recommender.model.config)
    recommender.model.save_pretrained(folder.with_name("again"))
    assert (folder.with_name("again") / "pipeline.py").is_file()


def test_without_a_word_of_the_user_nothing_of_the_repo_runs(folder):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        pipeline(TASK, model=str(folder))


def test_a_pipeline_that_would_read_ids_as_text_is_refused(folder):
    with pytest.raises(ValueError, match=r"A row has no known id\. Is it text|no known item"):
        pipeline("feature-extraction", model=str(folder))("A sentence")


def test_titles_that_cannot_be_read_are_told_and_left_out(folder, propagating, caplog):
    (folder / "item_titles.json").write_text("{")
    recommender = pipeline(TASK, model=str(folder), trust_remote_code=True)
    assert "There are no titles" in caplog.text
    assert {entry["title"] for entry in recommender(["item 1"])} == {""}


def test_a_row_of_text_is_refused_alone_and_in_a_batch(make_model, item_tokenizer):
    model = make_model()
    for texts in (["A sentence"], ["item 1", "A sentence"]):
        batch = item_tokenizer(texts, return_tensors="pt")
        with pytest.raises(ValueError, match="Is it text"):
            model(**batch)


@pytest.mark.slow
def test_it_runs_where_the_package_is_not(folder, tmp_path):
    histories = [["item 1", "item 2"], ["item 4"]]
    printed = run_without_package(SCRIPT, folder, json.dumps(histories), folder=tmp_path)
    for history, found in zip(histories, json.loads(printed.splitlines()[-1]), strict=True):
        same(found, as_dictionaries(recommend_items(folder, history, top_k=5)))
