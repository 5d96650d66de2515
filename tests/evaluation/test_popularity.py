"""How far recommendations lean towards what is popular, against plain loops."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.evaluation.metrics import concentration, head_sizes
from e4srec_hf.evaluation.popularity import popularity_skew


def by_hand(items, training, catalogue):
    """Shares, coverage and Gini as one would count them on paper; the Gini as a mean of absolute differences."""
    trained, counts = Counter(training), Counter(items)
    ranked = sorted(catalogue, key=lambda item: (-trained[item], catalogue.index(item)))
    found = {"count": len(items)}
    for name, percent in (("1%", 1), ("10%", 10)):
        size = next(size for size in range(len(catalogue) + 1) if size * 100 >= percent * len(catalogue))
        found[name] = sum(item in ranked[:size] for item in items) / len(items)
    found["coverage"] = sum(counts[item] > 0 for item in catalogue) / len(catalogue)
    differences = sum(abs(counts[one] - counts[other]) for one in catalogue for other in catalogue)
    found["gini"] = differences / (2 * len(catalogue) * len(items))
    return found


@pytest.mark.parametrize("n_items", [2, 30, 101])
def test_concentration_is_what_one_counts_by_hand(n_items):
    generator = random.Random(n_items)
    catalogue = list(range(n_items))
    training = [min(int(generator.expovariate(0.2)), n_items - 1) for _ in range(300)]
    items = [generator.randrange(n_items) for _ in range(40)]
    found = concentration(items, np.bincount(training, minlength=n_items))
    assert found == pytest.approx(by_hand(items, training, catalogue))


def test_heads_are_rounded_up_and_the_extremes_are_extreme():
    assert [head_sizes(n) for n in (30, 100, 101)] == [{"1%": 1, "10%": 3}, {"1%": 1, "10%": 10}, {"1%": 2, "10%": 11}]
    even = concentration(range(50), np.arange(50))
    assert even["coverage"] == 1
    assert even["gini"] == pytest.approx(0)
    assert concentration([49] * 7, np.arange(50)) == pytest.approx(
        {"count": 7, "1%": 1, "10%": 1, "coverage": 1 / 50, "gini": 49 / 50}
    )
    with pytest.raises(ValueError, match="from 0 to 49"):
        concentration([], np.arange(50))
    with pytest.raises(ValueError, match="from 0 to 49"):
        concentration([50], np.arange(50))


@pytest.fixture(scope="module")
def world():
    generator = random.Random(0)
    ids = [f"i{n}" for n in range(40)]
    rows = [[ids[min(int(generator.expovariate(0.1)), 39)] for _ in range(generator.randint(3, 9))] for _ in range(60)]
    rows[5][-1] = "a stranger"  # a target outside the catalogue
    rows[7] = ["a stranger", "i1"]  # nobody to recommend to
    train = Dataset.from_dict({"item_ids": [row[:-2] for row in rows]})
    return build_item_tokenizer(ids), ids, train, Dataset.from_dict({"item_ids": rows})


def sasrec(tokenizer):
    torch.manual_seed(0)
    return SASRecModel(SASRecConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1)).eval()


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_skew_of_a_model_is_what_one_finds_asking_user_by_user(exclude_seen, world):
    tokenizer, ids, train, test = world
    other = build_item_tokenizer(ids[::-1])  # a model with the same items in another order
    models = {"SASRec": (sasrec(tokenizer), tokenizer), "other": (sasrec(other), other)}
    found = popularity_skew(models, train, test, tokenizer, top_k=5, exclude_seen=exclude_seen)
    training = [item for row in train["item_ids"] for item in row if item in ids]
    kept = [row for row in test["item_ids"] if any(item in ids for item in row[:-1])]
    assert {name: found[name] for name in ("top_k", "exclude_seen", "n_users", "of_users", "heads")} == {
        "top_k": 5,
        "exclude_seen": exclude_seen,
        "n_users": 59,
        "of_users": 60,
        "heads": {"1%": 1, "10%": 4},
    }
    targets = [row[-1] for row in kept if row[-1] in ids]
    assert len(targets) == 58
    assert list(found["rows"]) == ["training data", "test targets", "SASRec", "other"]
    assert found["rows"]["training data"] == pytest.approx(by_hand(training, training, ids))
    assert found["rows"]["test targets"] == pytest.approx(by_hand(targets, training, ids))
    for name, (model, items) in models.items():
        recommended = []
        for row in kept:
            batch = items([row[:-1]], is_split_into_words=True, return_tensors="pt")
            best = model.recommend(**batch, top_k=5, exclude_seen=exclude_seen)
            recommended += items.convert_ids_to_tokens(best.item_ids[0].tolist())
        assert found["rows"][name] == pytest.approx(by_hand(recommended, training, ids)), name


def test_many_users_are_sampled_and_padding_is_no_recommendation(world):
    tokenizer, ids, train, test = world
    models = {"SASRec": (sasrec(tokenizer), tokenizer)}
    few = popularity_skew(models, train, test, tokenizer, max_users=10)
    assert (few["n_users"], few["of_users"]) == (10, 60)
    assert few["rows"]["SASRec"]["count"] == 100
    assert few == popularity_skew(models, train, test, tokenizer, max_users=10)
    assert few != popularity_skew(models, train, test, tokenizer, max_users=10, seed=1)
    everything = popularity_skew(models, train, test, tokenizer, top_k=100)  # more than there are, and some are seen
    unseen = [len(set(ids) - set(row[:-1])) for row in test["item_ids"] if row[0] != "a stranger"]
    assert everything["top_k"] == 40
    assert everything["rows"]["SASRec"]["count"] == sum(unseen)


def test_nobody_to_recommend_to_is_an_error(world):
    tokenizer, _, train, _ = world
    strangers = Dataset.from_dict({"item_ids": [["x", "i1"], ["i1"]]})
    with pytest.raises(ValueError, match="there is nobody to recommend to"):
        popularity_skew({}, train, strangers, tokenizer)
