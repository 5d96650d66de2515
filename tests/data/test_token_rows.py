"""Rows of tokens: lists in memory and columns on disk against a plain loop over the tokenizer's own lookup."""

import gc

import pyarrow as pa
import pytest
import torch
from datasets import Dataset, Features, LargeList, Sequence, Value

from e4srec_hf.data import build_item_tokenizer, tokenize_histories
from e4srec_hf.data import token_rows as module
from e4srec_hf.data.item_tokenizer import item_token_ids
from e4srec_hf.data.token_rows import TokenRows, vocabulary_of

ROWS = [["b", "a", "b"], [], ["c"], ["[UNK]", "x", "[PAD]", "a"], ["ä", " a b"]]


@pytest.fixture
def tokenizer():
    return build_item_tokenizer(["a", "b", "c", "ä", " a b"])


def plain(tokenizer, rows):
    """Left-padded tokens by a walk: special tokens and unknown ids are [UNK]."""
    longest = max(map(len, rows), default=0)
    ids = [[max(tokenizer.convert_tokens_to_ids(item), 1) for item in row] for row in rows]
    return [[0] * (longest - len(row)) + row for row in ids]


def test_lists_and_columns_of_every_kind_of_list_are_tokenized_as_by_a_walk(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 2)
    expected = plain(tokenizer, ROWS)
    assert tokenize_histories(tokenizer, ROWS)["input_ids"].tolist() == expected
    for kind in (Sequence(Value("string")), Sequence(Value("large_string")), LargeList(Value("string"))):
        dataset = Dataset.from_dict({"item_ids": ROWS}, features=Features({"item_ids": kind}))
        rows = TokenRows.of_column(tokenizer, dataset, "item_ids")
        assert rows.batch()["input_ids"].tolist() == expected
        assert rows.batch()["attention_mask"].tolist() == [[int(token > 1) for token in row] for row in expected]
        assert rows.lengths().tolist() == list(map(len, ROWS))
        chosen = dataset.select([3, 0])  # rows by an index mapping, and rows of all rows
        picked = TokenRows.of_column(tokenizer, chosen, "item_ids").batch()["input_ids"]
        assert picked.tolist() == plain(tokenizer, [ROWS[3], ROWS[0]]) == rows.batch([3, 0])["input_ids"].tolist()
        assert rows.batch([1])["input_ids"].shape == (1, 0)


def test_rows_without_any_item_are_an_empty_batch(tokenizer):
    batch = tokenize_histories(tokenizer, [[], []])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 0)
    assert batch["input_ids"].dtype == torch.long


def test_what_is_no_text_is_an_error_and_not_an_unknown_item(tokenizer):
    for item in (3, None, 1.5, ["a"]):
        with pytest.raises(TypeError):
            tokenize_histories(tokenizer, [["a", item]])
    for column in (pa.array([["a", None]]), pa.array([[3]]), pa.array([["a"], None])):
        with pytest.raises((TypeError, pa.ArrowInvalid)):
            TokenRows.of_column(tokenizer, Dataset(pa.table({"item_ids": column})), "item_ids")


def test_unknown_ids_are_named_with_their_rows(tokenizer):
    rows = TokenRows.of_lists(tokenizer, ROWS)
    message = r"^3 item id\(s\) are not in the catalogue: '\[UNK\]' \(history 3\), 'x' \(history 3\), '\[PAD\]' \(hist"
    with pytest.raises(ValueError, match=message):
        rows.refuse_unknown(lambda row, place: ROWS[row][place])
    TokenRows.of_lists(tokenizer, [["a"], []]).refuse_unknown(lambda row, place: "")


def test_the_vocabulary_holds_known_ids_alone_and_goes_with_its_tokenizer(tokenizer):
    assert item_token_ids(tokenizer, ["a", "new", "a", "[PAD]"]) == [2, 1, 2, 1]
    assert dict(vocabulary_of(tokenizer)) == {"a": 2}
    tokenizer.add_tokens(["new"])
    assert item_token_ids(tokenizer, ["new"]) == [tokenizer.convert_tokens_to_ids("new")] == [7]
    other = build_item_tokenizer(["c", "a"])
    assert item_token_ids(other, ["a"]) == [3]
    before = len(module._vocabularies)
    del other
    gc.collect()
    assert len(module._vocabularies) == before - 1
