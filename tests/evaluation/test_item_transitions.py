"""The item-transition graph against a plain loop over walks."""

from itertools import product

import numpy as np
import pytest
import torch
from datasets import Dataset

from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.data.token_rows import TokenRows
from e4srec_hf.evaluation import ItemTransitions, best_item_transitions, evaluate_ranking
from e4srec_hf.evaluation.item_transitions import GRID, TransitionSettings, step_chances, transition_weights

ITEMS = [*"abcdefgh"]


def sequences(users, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.choice(ITEMS[:7], generator.integers(1, 9)).tolist() for _ in range(users)]  # nobody has h


def make(histories, settings):
    items = build_item_tokenizer(ITEMS)
    rows = TokenRows.of_lists(items, histories)
    counts = torch.bincount(torch.from_numpy(rows.tokens), minlength=len(items)).float()
    weights = transition_weights(rows, len(items), settings.window)
    return ItemTransitions(step_chances(weights, settings.backward, settings.discount), counts, settings)


def plain_scores(histories, history, settings):
    """Item to score, with dictionaries and loops alone."""
    edges = {}
    for items in histories:
        for first, second in product(range(len(items)), repeat=2):
            if 0 < second - first <= settings.window and "?" not in (items[first], items[second]):
                pair = items[first], items[second]
                edges[pair] = edges.get(pair, 0) + 1 / (second - first)
                if settings.backward:
                    edges[pair[::-1]] = edges.get(pair[::-1], 0) + settings.backward / (second - first)
    into = {item: sum(w for (_, to), w in edges.items() if to == item) for item in ITEMS}
    edges = {(start, to): w / into[to] ** settings.discount for (start, to), w in edges.items()}
    out = {item: sum(w for (start, _), w in edges.items() if start == item) for item in ITEMS}
    edges = {(start, to): w / out[start] for (start, to), w in edges.items()}

    scores = dict.fromkeys(ITEMS, 0.0)
    for place, begin in enumerate(history[::-1][: settings.last_items]):
        walks = {(begin,): settings.recency**place}
        for hop in range(settings.hops):
            walks = {
                (*walk, to): chance * edges[start, to]
                for walk, chance in walks.items()
                for start, to in edges
                if start == walk[-1]
            }
            for walk, chance in walks.items():
                scores[walk[-1]] += settings.hop_decay**hop * chance
    return scores


@pytest.mark.parametrize(
    "settings",
    [
        TransitionSettings(window=1, backward=0, discount=0, last_items=1, hops=1),
        TransitionSettings(window=2, backward=0.5, discount=0.5, last_items=2, recency=0.7, hops=2, hop_decay=0.3),
        TransitionSettings(window=4, backward=1, discount=0.25, last_items=5, recency=0.3, hops=3, hop_decay=1.0),
    ],
)
def test_a_score_is_the_sum_over_all_short_walks(settings):
    histories = [*sequences(6), ["a", "?", "b"]]  # ? is not in the catalogue
    items = build_item_tokenizer(ITEMS)
    for history in (["a"], ["b", "c", "a"], ["g", "g", "b"], ["a", "b", "c", "d", "e", "f"]):
        scores = make(histories, settings)(**TokenRows.of_lists(items, [history]).batch()).logits[0, 2:]
        expected = plain_scores(histories, history, settings)
        assert any(expected.values())
        for item, score in zip(ITEMS, scores.tolist(), strict=True):
            if expected[item]:
                assert score == pytest.approx(expected[item], rel=1e-5)
            else:
                assert score < 0


def test_what_no_walk_reaches_comes_last_by_popularity():
    settings = TransitionSettings(window=1, backward=0, hops=1)
    histories = [["a", "b"], ["c", "d"], ["d", "d", "e"]]
    items = build_item_tokenizer(ITEMS)
    model = make(histories, settings)
    after_a, after_nothing = model(**TokenRows.of_lists(items, [["a"], []]).batch()).logits[:, 2:]
    assert "".join(ITEMS[place] for place in after_a.argsort(descending=True, stable=True)[:3]) == "bda"
    assert after_nothing.argmax() == ITEMS.index("d")
    assert (after_nothing < 0).all()


def test_where_the_padding_is_does_not_matter():
    model = make(sequences(20), TransitionSettings(last_items=2))
    ids = torch.tensor([[0, 0, 4, 5, 6], [4, 5, 6, 0, 0], [9, 4, 5, 6, 8], [4, 1, 5, 6, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 0]])
    logits = model(ids, mask).logits
    for row in logits[1:]:
        assert torch.equal(row, logits[0])


def test_the_settings_are_those_that_no_single_change_betters_on_validation():
    items = build_item_tokenizer(ITEMS)
    rows = sequences(60, seed=1)
    train, validation = Dataset.from_dict({"item_ids": rows}), Dataset.from_dict({"item_ids": sequences(80, seed=2)})
    model, chosen = best_item_transitions(train, validation, items)
    few, _ = best_item_transitions(train, validation, items, users=20)
    assert few.settings != model.settings

    def ndcg(settings):
        return evaluate_ranking(make(rows, settings), validation, items).metrics["ndcg@10"].value

    best = model.settings
    assert chosen["ndcg@10"] == ndcg(best) > ndcg(TransitionSettings())
    for name, values in GRID.items():
        assert chosen[name] == getattr(best, name)
        assert max(ndcg(best._replace(**{name: value})) for value in values) <= ndcg(best)


def test_the_graph_of_a_large_catalogue_is_as_large_as_its_transitions():
    size = 1_000_000
    tokens = np.random.default_rng(0).integers(2, size, 5000)
    weights = transition_weights(TokenRows(tokens, np.array([0, 2500, 5000])), size, window=2)
    model = ItemTransitions(step_chances(weights, 0.5, 0.5), torch.ones(size), TransitionSettings())
    assert sum(part.numel() for part in (model.arrivals.values(), model.arrivals.col_indices())) < 50_000
    history = torch.from_numpy(tokens[:5])[None]
    logits = model(history, torch.ones_like(history)).logits
    assert logits.shape == (1, size)
    assert tokens[5] in logits[0].topk(20).indices
