"""Ranks and recommendations against plain loops and sorted lists."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.evaluation import ranking
from e4srec_hf.evaluation.ranking import target_ranks
from tests.conftest import VOCAB, random_batch, ranks_of

V = 9


def plain_rank(scores, target, seen=(), candidates=None):
    """Walk over the catalogue."""
    if target in seen:
        return math.inf
    rank = 1
    for item in range(2, V):
        allowed = item not in seen and item != target and (candidates is None or item in candidates)
        if allowed and scores[item] >= scores[target]:
            rank += 1
    return rank


@given(st.data())
def test_ranks_equal_a_walk_over_the_catalogue(data):
    rows = data.draw(st.integers(1, 4))
    score = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0])  # few values: many ties
    scores = data.draw(st.lists(st.lists(score, min_size=V, max_size=V), min_size=rows, max_size=rows))
    targets = data.draw(st.lists(st.integers(2, V - 1), min_size=rows, max_size=rows))
    ids = st.lists(st.lists(st.integers(0, V - 1), min_size=3, max_size=3), min_size=rows, max_size=rows)
    seen, candidates = data.draw(st.none() | ids), data.draw(st.none() | ids)
    retired = data.draw(st.lists(st.integers(2, V - 1), max_size=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SCORES_AT_A_TIME", data.draw(st.integers(1, V * rows)))
        ranks = target_ranks(
            rows_of(torch.tensor(scores)),
            V,
            torch.tensor(targets),
            seen=None if seen is None else torch.tensor(seen),
            candidates=None if candidates is None else torch.tensor(candidates),
            retired=torch.tensor(retired) if retired else None,
        )
    expected = [
        plain_rank(
            scores[row],
            targets[row],
            [*retired, *(() if seen is None else [i for i in seen[row] if i > 1])],
            None if candidates is None else candidates[row],
        )
        for row in range(rows)
    ]
    assert ranks.tolist() == expected


def rows_of(scores):
    return lambda rows: scores[rows]


def test_constant_scores_give_the_worst_rank():
    assert target_ranks(rows_of(torch.zeros(1, V)), V, torch.tensor([4])).tolist() == [V - 2]


def test_nan_scores_are_an_error():
    scores = torch.zeros(3, V)
    scores[1, 5] = math.nan
    with pytest.raises(ValueError, match="scores of 1 of 3 histories are NaN"):
        target_ranks(rows_of(scores), V, torch.tensor([2, 3, 4]))


def test_recommendations_are_the_best_of_the_sorted_scores(make_model):
    model = make_model()
    ids, mask = random_batch()
    scores = model(ids, mask).logits
    best = model.recommend(ids, mask, top_k=7)
    for row in range(len(ids)):
        seen = set(ids[row][mask[row].bool()].tolist())
        order = sorted((i for i in range(2, VOCAB) if i not in seen), key=lambda i: -scores[row, i].item())
        assert best.item_ids[row].tolist() == order[:7]
        torch.testing.assert_close(best.scores[row], scores[row, order[:7]])


def test_seen_items_can_be_kept_and_special_tokens_never_win(make_model):
    model = make_model()
    with torch.no_grad():
        model.score.weight[:2] = model.score.weight[2] * 0 + 100 * model(torch.tensor([[5]])).logits.sign().max()
    ids = torch.tensor([[5, 6, 7, 8]])
    everything = model.recommend(ids, top_k=VOCAB - 2, exclude_seen=False)
    assert sorted(everything.item_ids[0].tolist()) == list(range(2, VOCAB))


def test_items_before_the_window_are_hidden_too(make_model):
    model = make_model(max_history=2)
    best = model.recommend(torch.tensor([[5, 6, 7, 8]]), top_k=VOCAB - 2 - 4)
    assert not {5, 6, 7, 8} & set(best.item_ids[0].tolist())


def test_places_that_no_item_can_take_hold_pad(make_model):
    model = make_model()
    best = model.recommend(torch.tensor([[5, 6], [0, 7]]), top_k=3, candidates=torch.tensor([[5, 9, 0], [10, 11, 12]]))
    assert best.item_ids[0].tolist() == [9, 0, 0]
    assert best.scores[0, 1:].tolist() == [-math.inf, -math.inf]
    assert sorted(best.item_ids[1].tolist()) == [10, 11, 12]


@pytest.mark.parametrize("kind", ["e4srec", "sasrec"])
def test_what_the_mask_hides_is_not_seen_whatever_else_is_in_the_batch(kind, make_model):
    if kind == "e4srec":
        model = make_model()
    else:
        torch.manual_seed(0)
        model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8)).eval()
    ids = torch.tensor([[5, 6, 7, 8, 20], [8, 9, 10, 11, 12]])
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
    targets = torch.tensor([7, 12])
    together, ranks = model.recommend(ids, mask, top_k=VOCAB - 6), ranks_of(model, ids, mask, targets)
    for row in range(2):
        history = ids[row : row + 1, : int(mask[row].sum())]
        alone = model.recommend(history, top_k=VOCAB - 6)
        assert torch.equal(together.item_ids[row], alone.item_ids[0])
        assert ranks[row] == ranks_of(model, history, None, targets[row : row + 1])
    assert ranks.isfinite().all()


def test_ranks_are_taken_without_dropout(make_model):
    model = make_model(lora={"r": 4, "lora_dropout": 0.5})
    ids, mask = random_batch()
    targets = torch.tensor([3, 4, 5, 6, 7])
    expected = ranks_of(model, ids, mask, targets)
    assert torch.equal(ranks_of(model.train(), ids, mask, targets), expected)
    assert model.training


@pytest.mark.parametrize("candidates", [torch.tensor([9.0, 10.0]), torch.ones(4, dtype=torch.bool)], ids=str)
def test_candidates_that_are_no_ids_are_refused(candidates, make_model):
    with pytest.raises(ValueError, match=r"candidates must be item ids, whole numbers, not torch\."):
        make_model().recommend(torch.tensor([[5, 6]]), candidates=candidates)


def test_no_candidates_are_no_recommendations(make_model):
    best = make_model().recommend(torch.tensor([[5, 6]]), top_k=2, candidates=[])
    assert best.item_ids.tolist() == [[0, 0]]


def test_candidates_may_be_one_list_for_all(make_model):
    model = make_model()
    ids = torch.tensor([[5, 6], [3, 7]])
    one = model.recommend(ids, top_k=2, candidates=torch.tensor([9, 10]))
    both = model.recommend(ids, top_k=2, candidates=torch.tensor([[9, 10], [9, 10]]))
    assert torch.equal(one.item_ids, both.item_ids)
    assert torch.equal(model.recommend(ids, top_k=2, candidates=[9, 10]).item_ids, both.item_ids)


@pytest.mark.parametrize("top_k", [0, VOCAB - 1])
def test_a_top_k_beyond_the_catalogue_is_refused(top_k, make_model):
    with pytest.raises(ValueError, match=f"top_k must be between 1 and the 30 items of the catalogue, not {top_k}"):
        make_model().recommend(torch.tensor([[5]]), top_k=top_k)


def test_recommending_while_training_drops_nothing_out_and_goes_on_training(make_model):
    model = make_model()
    ids = torch.tensor([[5, 6]])
    expected = model.recommend(ids)
    model.train()
    assert torch.equal(model.recommend(ids).scores, expected.scores)
    assert model.training
