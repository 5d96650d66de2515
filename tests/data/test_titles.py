"""What a title is, at every place that takes or writes one."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from e4srec_hf import SASRecConfig, SASRecModel, save_trained
from e4srec_hf.data import load_training_data
from e4srec_hf.data.titles import LONGEST_TITLE, problem_of_title
from e4srec_hf.hub import item_titles, save_dataset

HOSTILE = {
    "\x1b[2J": "control characters",
    "\x9b2J": "control characters",
    "a\u202eb": "control characters",
    "a\ud800": "halves of characters",
    "x" * (LONGEST_TITLE + 1): "1,001 characters, more than 1,000",
    "y" * 10**6: "1,000,000 characters, more than 1,000",
    7: "is not a text",
}


@pytest.mark.parametrize("title", ["Emma", "", "HAND\nWARMER", "a\tb", "Книга 📚", "x" * LONGEST_TITLE])
def test_what_is_a_title(title):
    assert problem_of_title(title) is None


@pytest.mark.parametrize("title", HOSTILE, ids=ascii)
def test_what_is_none_is_neither_saved_nor_trained_with(title, item_tokenizer, tmp_path):
    message = rf"the title of 'item 3' .*{HOSTILE[title]}"
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8))
    rows = Dataset.from_dict({"user_id": ["u1"], "item_ids": [["item 1", "item 2", "item 3", "item 4"]]})
    with pytest.raises(ValueError, match=message):
        save_trained(model, item_tokenizer, tmp_path / "model", titles={"item 1": "One", "item 3": title})
    with pytest.raises(ValueError, match=message):
        save_dataset(rows, tmp_path / "data", titles={"item 1": "One", "item 3": title})
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_with_a_hostile_title_is_not_trained_on(tmp_path):
    rows = Dataset.from_dict({"user_id": ["u1"], "item_ids": [["item 1", "item 2", "item 3", "item 4"]]})
    save_dataset(rows, tmp_path, titles={"item 1": "One", "item 2": None})
    assert load_training_data(tmp_path).titles == {"item 1": "One"}
    items = pq.read_table(tmp_path / "items.parquet").to_pydict()
    pq.write_table(pa.table(items | {"title": ["\x1b[2J", None, None, None]}), tmp_path / "items.parquet")
    with pytest.raises(ValueError, match=r"items\.parquet: the title of 'item 1' has control characters"):
        load_training_data(tmp_path)


@pytest.mark.parametrize("titles", [["One", "Two"], "One", [("item 1", "One")]], ids=str)
def test_titles_without_ids_are_refused(titles, item_tokenizer, tmp_path):
    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8))
    with pytest.raises(TypeError, match=r"titles must map raw ids to titles, \{raw id: title\}, and not be a"):
        save_trained(model, item_tokenizer, tmp_path / "model", titles=titles)
    with pytest.raises(ValueError, match="the id 1 is not a text"):
        save_trained(model, item_tokenizer, tmp_path / "model", titles={1: "One"})
    assert list(tmp_path.iterdir()) == []
    save_trained(model, item_tokenizer, tmp_path / "model", titles={"item 1": "One", "item 2": None})
    assert item_titles(tmp_path / "model") == {"item 1": "One"}
