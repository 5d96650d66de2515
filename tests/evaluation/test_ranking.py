"""Evaluation against a walk over users and items, one at a time."""

import json
import math

import pytest
import torch
from datasets import Dataset

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer, tokenize_histories, with_candidates
from e4srec_hf.evaluation.popularity import PopularityModel
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.evaluation.reports import load_reports, results_table, save_reports

ROWS = {
    "user_id": ["u0", "u1", "u2", "u3", "u4"],
    "item_ids": [
        ["item 3", "item 7", "item 9", "item 1"],
        ["item 5", "item 5", "item 8"],
        ["item 2", "item 4", "item 2"],  # the target is in the history
        ["item 1", "no such item"],  # a target that is not in the catalogue
        [f"item {number}" for number in range(20)],
    ],
}


def plain_ranks(model, tokenizer, rows, exclude_seen, candidates=None):
    vocabulary = tokenizer.get_vocab()
    ranks = []
    for user, items in zip(rows["user_id"], rows["item_ids"], strict=True):
        if items[-1] not in vocabulary:
            continue
        history, target = items[:-1], vocabulary[items[-1]]
        scores = model(**tokenize_histories(tokenizer, [history])).logits[0].tolist()
        seen = {vocabulary.get(item) for item in history} if exclude_seen else set()
        pool = range(2, len(vocabulary)) if candidates is None else [vocabulary[item] for item in candidates[user]]
        ahead = [i for i in pool if i not in seen and i != target and scores[i] >= scores[target]]
        ranks.append(math.inf if target in seen else 1 + len(set(ahead)))
    return ranks


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_ranks_equal_a_walk_over_users_and_items(exclude_seen, batch_size, make_model, item_tokenizer):
    model = make_model(max_history=5)
    report = evaluate_ranking(
        model, Dataset.from_dict(ROWS), item_tokenizer, exclude_seen=exclude_seen, batch_size=batch_size
    )
    assert report.ranks.tolist() == plain_ranks(model, item_tokenizer, ROWS, exclude_seen)
    assert (report.n_users, report.n_without_target) == (4, 1)
    assert report.metrics["hr@10"].value == (report.ranks <= 10).mean()
    seen = "hidden (1 of the targets: misses)" if exclude_seen else "kept"
    assert report.protocol == (
        f"ranked among the whole catalogue, seen items {seen}, 4 users, 1 users without a target left out"
    )


def test_evaluating_leaves_each_part_in_the_mode_it_was_in(make_model, item_tokenizer):
    model = make_model().train()
    model.base.layers[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    evaluate_ranking(model, Dataset.from_dict(ROWS), item_tokenizer)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_sampled_negatives_are_all_a_target_is_ranked_among(make_model, item_tokenizer):
    model = make_model()
    negatives = {user: [f"item {number}" for number in range(20, 29)] for user in ROWS["user_id"]}
    dataset = with_candidates(Dataset.from_dict(ROWS), negatives)
    report = evaluate_ranking(model, dataset, item_tokenizer, exclude_seen=False)
    assert report.ranks.tolist() == plain_ranks(model, item_tokenizer, ROWS, False, negatives)
    assert report.ranks.max() <= 10
    assert report.protocol.startswith("ranked among 9 sampled negatives, seen items kept")
    unheard_of = with_candidates(Dataset.from_dict(ROWS), negatives | {"u1": ["unheard of"]})
    with pytest.raises(ValueError, match="not in the catalogue: 'unheard of'"):
        evaluate_ranking(model, unheard_of, item_tokenizer)


def test_a_model_without_a_prompt_misses_where_there_is_no_history(make_model, item_tokenizer):
    rows = Dataset.from_dict({"user_id": ["u", "v"], "item_ids": [["item 1", "item 2"], ["strange", "item 3"]]})
    torch.manual_seed(0)
    sasrec = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8))
    for model in (sasrec, make_model(instruction="", response="")):
        ranks = evaluate_ranking(model, rows, item_tokenizer).ranks
        assert ranks[0] < ranks[1] == math.inf
    assert evaluate_ranking(make_model(), rows, item_tokenizer).ranks[1] < math.inf


def test_the_tokenizer_must_be_that_of_the_model(make_model):
    rows = Dataset.from_dict({"user_id": ["u"], "item_ids": [["a", "b"]]})
    with pytest.raises(ValueError, match=r"tokenizer has 4 tokens, .* but the model has an item table of 32 rows"):
        evaluate_ranking(make_model(), rows, build_item_tokenizer(["a", "b"]))


def test_an_empty_split_says_so(make_model, item_tokenizer):
    with pytest.raises(ValueError, match="There is nobody to evaluate"):
        evaluate_ranking(make_model(), Dataset.from_dict({"user_id": [], "item_ids": []}), item_tokenizer)


def test_a_target_in_the_history_is_a_certain_miss_only_when_seen_items_are_hidden(make_model, item_tokenizer):
    rows = Dataset.from_dict({"user_id": ["u2"], "item_ids": [ROWS["item_ids"][2]]})
    model = make_model()
    assert evaluate_ranking(model, rows, item_tokenizer).ranks.tolist() == [math.inf]
    assert evaluate_ranking(model, rows, item_tokenizer, exclude_seen=False).ranks[0] < math.inf


def test_nan_scores_are_an_error(make_model, item_tokenizer):
    model = make_model()
    with torch.no_grad():
        model.score.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="histories are NaN"):
        evaluate_ranking(model, Dataset.from_dict(ROWS), item_tokenizer)


def test_a_data_set_of_another_catalogue_is_an_error(make_model, item_tokenizer):
    rows = Dataset.from_dict({"user_id": ["u"], "item_ids": [["item 1", "strange"]]})
    with pytest.raises(ValueError, match="No row has a target in the catalogue"):
        evaluate_ranking(make_model(), rows, item_tokenizer)


def test_popularity_ranks_by_count_with_ties_against_the_target():
    tokenizer = build_item_tokenizer(list("abcd"))
    popularity = PopularityModel([["a", "a", "b"], ["c", "a", "b", "unknown"]], tokenizer)
    rows = Dataset.from_dict({"user_id": list("wxyz"), "item_ids": [["b", "a"], ["a", "b"], ["b", "c"], ["a", "d"]]})
    kept = evaluate_ranking(popularity, rows, tokenizer, exclude_seen=False)
    assert kept.ranks.tolist() == [1, 2, 3, 4]
    hidden = evaluate_ranking(popularity, rows, tokenizer)
    assert hidden.ranks.tolist() == [1, 1, 2, 3]
    tied = Dataset.from_dict({"user_id": ["w"], "item_ids": [["d", "a"]]})
    assert evaluate_ranking(PopularityModel([["b"]], tokenizer), tied, tokenizer).ranks.tolist() == [3]


def test_the_table_names_models_metrics_and_intervals():
    tokenizer = build_item_tokenizer(list("abcd"))
    rows = Dataset.from_dict({"user_id": ["w"], "item_ids": [["b", "a"]]})
    report = evaluate_ranking(PopularityModel([["a"]], tokenizer), rows, tokenizer)
    assert results_table({"popularity": report}).splitlines() == [
        "| model      | HR@10                   | NDCG@10                 |",
        "| ---------- | ----------------------- | ----------------------- |",
        "| popularity | 1.0000 [1.0000, 1.0000] | 1.0000 [1.0000, 1.0000] |",
    ]


def test_reports_come_back_from_their_file_without_the_ranks(tmp_path):
    tokenizer = build_item_tokenizer(list("abcd"))
    rows = Dataset.from_dict({"user_id": ["w", "x"], "item_ids": [["b", "a"], ["a", "stranger"]]})
    report = evaluate_ranking(PopularityModel([["a"]], tokenizer), rows, tokenizer)
    save_reports({"full": {"popularity": report}}, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {
        "fingerprint": None,  # the folder has no model
        "full": {"popularity": report.to_dict()},
    }
    again = load_reports(tmp_path)["full"]["popularity"]
    assert again.to_dict() == report.to_dict()
    assert again.metrics["hr@10"].value == 1.0
    assert again.protocol == report.protocol
    assert len(again.ranks) == 0
    assert load_reports(tmp_path / "elsewhere") == {}
    (tmp_path / "evaluation.json").write_text('{"fingerprint": null, "hr@10": 0.5}')
    with pytest.raises(ValueError, match="does not hold the reports of evaluations"):
        load_reports(tmp_path)
