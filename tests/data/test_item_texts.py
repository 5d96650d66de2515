"""Item vectors with vectors of titles beside them, against the SVD of numpy."""

import numpy as np
import pytest
import torch

from e4srec_hf.catalogue import add_items
from e4srec_hf.data import text_vectors, with_text
from tests.conftest import ITEM_DIM, VOCAB

WORDS = ["red", "green", "blue", "old", "new", "big"]
TITLES = {f"item {number}": f"The {WORDS[number % 6]} reader, part {number}" for number in range(28)}


@pytest.mark.parametrize("titles", [TITLES, dict(list(TITLES.items())[:6])])
def test_titles_stand_beside_as_principal_components(titles, base_dir, item_table, item_tokenizer):
    given = {**titles, "item 28": None, "item 29": " ", "not here": "The red reader"}
    table = with_text(item_table, item_tokenizer, given, base_dir)
    width = min(ITEM_DIM, len(titles) - 1)
    assert table.shape == (VOCAB, ITEM_DIM + width)
    assert torch.equal(table[:, :ITEM_DIM], item_table)
    read = text_vectors(titles.values(), base_dir).double().numpy()
    scores = (read - read.mean(0)) / read.std(0, ddof=1)
    left, singular, _ = np.linalg.svd(scores, full_matrices=False)
    expected = (left * singular)[:, :width]
    length = np.linalg.norm(item_table[2:].numpy(), axis=1).mean()
    expected *= length / np.linalg.norm(expected, axis=1).mean()
    found = table[item_tokenizer.convert_tokens_to_ids(list(titles)), ITEM_DIM:].numpy()
    expected *= np.sign((expected * found).sum(0))  # each axis has two directions
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * length)
    untitled = [0, 1, *range(len(titles) + 2, VOCAB)]
    assert not table[untitled, ITEM_DIM:].any()


def test_it_repeats_itself_and_does_not_depend_on_the_order_of_titles(base_dir, item_table, item_tokenizer):
    first = with_text(item_table, item_tokenizer, TITLES, base_dir)
    again = with_text(item_table, item_tokenizer, dict(reversed(TITLES.items())), base_dir)
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    "titles", [{}, {"item 1": "A"}, dict.fromkeys(TITLES, "A"), {"not here": "A", "nor here": "B"}]
)
def test_titles_that_tell_no_items_apart_are_refused(titles, base_dir, item_table, item_tokenizer):
    with pytest.raises(ValueError, match="no two titles differ"):
        with_text(item_table, item_tokenizer, titles, base_dir)
    with pytest.raises(ValueError, match=rf"has {VOCAB} tokens, the vectors \(3, {ITEM_DIM}\)"):
        with_text(item_table[:3], item_tokenizer, TITLES, base_dir)


@pytest.mark.parametrize("head", ["linear", "tied"])
def test_an_item_is_added_to_such_a_model_by_its_title(head, make_model, base_dir, item_table, item_tokenizer):
    table = with_text(item_table, item_tokenizer, TITLES, base_dir)
    model = make_model(base_dir, table=table, head=head)
    add_items(model, item_tokenizer, ["new", "other"], titles=[TITLES["item 3"], "Книга"], catalogue_titles=TITLES)
    new, other = model.item_embeddings.weight[-2:, ITEM_DIM:]
    assert torch.cosine_similarity(new, table[item_tokenizer.convert_tokens_to_ids("item 3"), ITEM_DIM:], dim=0) > 0.9
    assert torch.cosine_similarity(new, other, dim=0) < 0.9
