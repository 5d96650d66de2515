"""Users and items as vectors: their inner products are the scores, and the cosines are those of the tables."""

import numpy as np
import pytest
import torch

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.serving import Recommender, Session, item_vectors, similar_items, user_vectors
from tests.conftest import N_ITEMS, VOCAB
from tests.serving.clicking import CLICKS, MAX_HISTORY, plain_scores, tokens_of

HISTORIES = [CLICKS, [], ["item 4", "item 4"], ["no such item"], CLICKS[:3]]


@pytest.mark.parametrize("batch_size", [1, 256])
@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_inner_products_are_the_scores(kind, head, batch_size, make_model, item_tokenizer):
    model = make_model(kind, head=head, max_history=MAX_HISTORY)
    model.config.retired_items = [4, 9]
    recommender = Recommender(model, item_tokenizer)
    users = user_vectors(recommender, HISTORIES, on_unknown="unk", batch_size=batch_size)
    items, vectors = item_vectors(recommender)
    assert users.dtype == vectors.dtype == np.float32
    assert len(items) == len(vectors) == N_ITEMS - 2
    assert not {"item 2", "item 7"} & set(items)
    for user, history in zip(users, HISTORIES, strict=True):
        expected = plain_scores(model, tokens_of(item_tokenizer, history)).detach().numpy()
        expected = expected[item_tokenizer.convert_tokens_to_ids(items)]
        np.testing.assert_allclose(vectors @ user, expected, atol=1e-5 * np.abs(expected).max())


def test_an_exact_search_over_the_vectors_finds_what_is_recommended(recommender, users):
    histories = [items for items in users.values() if items]
    items, vectors = item_vectors(recommender)
    products = user_vectors(recommender, histories, on_unknown="unk") @ vectors.T  # (users, items)
    ranked = recommender.recommend(histories, top_k=8, exclude_seen=False, on_unknown="unk")
    for row, found in zip(products, ranked, strict=True):
        best = np.argsort(-row)[:8]
        assert [items[place] for place in best] == [one.item for one in found.items]
        np.testing.assert_allclose(row[best], [one.score for one in found.items], rtol=1e-5, atol=1e-5)


def test_the_vector_of_a_session_is_that_of_its_user(recommender):
    session = Session(recommender, CLICKS[:4])
    (user,) = user_vectors(recommender, [CLICKS[:4]])
    np.testing.assert_allclose(session.vector().numpy(), user, rtol=1e-5, atol=1e-5)


def test_vectors_of_a_sasrec(item_tokenizer):
    torch.manual_seed(0)
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=16))
    recommender = Recommender(model, item_tokenizer)
    users, (items, vectors) = user_vectors(recommender, [["item 1", "item 3"], ["item 2"]]), item_vectors(recommender)
    with torch.no_grad():
        expected = [model(torch.tensor([ids])).logits[0, 2:].numpy() for ids in ([3, 5], [4])]
    np.testing.assert_allclose(users @ vectors.T, expected, rtol=1e-5, atol=1e-6)
    assert items == [f"item {number}" for number in range(N_ITEMS)]
    with pytest.raises(ValueError, match="Row 1 has no known item, and there is no prompt"):
        user_vectors(recommender, [["item 1"], []])


def test_what_no_vector_can_be_made_of_is_refused(recommender):
    with pytest.raises(ValueError, match="'no such item' \\(history 1\\)"):
        user_vectors(recommender, [["item 1"], ["no such item"]])
    with pytest.raises(ValueError, match="histories is empty"):
        user_vectors(recommender, [])
    with pytest.raises(ValueError, match="list of lists"):
        user_vectors(recommender, ["item 1"])
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        user_vectors(recommender, [["item 1"]], batch_size=0)


@pytest.mark.parametrize("by", ["items", "head"])
@pytest.mark.parametrize("head", ["linear", "tied"])
def test_similar_items_are_those_of_the_largest_cosine(head, by, make_model, item_tokenizer):
    model = make_model(head=head)
    model.config.retired_items = [4]
    recommender = Recommender(model, item_tokenizer, {"item 1": "One"})
    table = (model.score if head == "linear" and by == "head" else model.item_embeddings).weight.detach().numpy()
    for item in ("item 0", "item 2", "item 29"):  # item 2 is retired itself
        token = item_tokenizer.convert_tokens_to_ids(item)
        cosines = {
            f"item {other - 2}": table[other]
            @ table[token]
            / np.sqrt((table[other] ** 2).sum() * (table[token] ** 2).sum())
            for other in range(2, VOCAB)
            if other not in (token, 4)
        }
        expected = sorted(cosines, key=lambda name: -cosines[name])
        found = similar_items(recommender, item, by=by, top_k=N_ITEMS)
        assert [one.item for one in found] == expected
        assert [one.score for one in found] == pytest.approx([cosines[name] for name in expected], abs=1e-6)
        assert all(one.title == ("One" if one.item == "item 1" else "") for one in found)
        assert similar_items(recommender, item, by=by) == found[:10]


def test_similar_items_refuses_what_it_does_not_know(recommender):
    with pytest.raises(ValueError, match="'no such item'"):
        similar_items(recommender, "no such item")
    with pytest.raises(ValueError, match='by must be "items" or "head"'):
        similar_items(recommender, "item 1", by="titles")
    with pytest.raises(ValueError, match="top_k must be between 1 and the 30 items"):
        similar_items(recommender, "item 1", top_k=31)
