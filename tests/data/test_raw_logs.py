"""Raw logs are told from sequences, and their columns guessed."""

import gzip

import pytest
from datasets import Dataset

from e4srec_hf.data import load_training_data
from e4srec_hf.data.raw_logs import check_not_raw, guess_columns, preparing_command


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (["user_id", "item_id", "timestamp"], ("user_id", "item_id", "timestamp")),
        (["userId", "movieId", "rating", "timestamp"], ("userId", "movieId", "timestamp")),
        (["reviewerID", "asin", "overall", "unixReviewTime"], ("reviewerID", "asin", "unixReviewTime")),
        (
            ["rating", "title", "asin", "parent_asin", "user_id", "timestamp"],
            ("user_id", "parent_asin", "timestamp"),
        ),
        (["InvoiceNo", "StockCode", "InvoiceDate", "Customer ID"], ("Customer ID", "StockCode", "InvoiceDate")),
        (["event_time", "event_type", "product_id", "user_session"], ("user_session", "product_id", "event_time")),
    ],
)
def test_columns_are_guessed_from_the_header(header, columns):
    assert tuple(guess_columns(header)[kind] for kind in ("user", "item", "time")) == columns


@pytest.mark.parametrize(
    ("name", "content", "flags"),
    [
        ("a.csv", "user,item,time\nu,i,1\n", "--user-column user --item-column item --time-column time"),
        ("a.csv", "u1,i1,5,1500000000\nu2,i1,4,1500000001\n", "--user-column 1 --item-column 2 --time-column 4"),
        ("a.csv", "it is,\nno table\n", "--user-column … --item-column … --time-column …"),
        ("a.txt", "user\titem\ttime\nu\ti\t1\n", "--user-column user --item-column item --time-column time"),
        (
            "a.jsonl",
            '{"customer": "c", "sku": "s", "when": 3}\n',
            "--user-column customer --item-column sku --time-column …",
        ),
        ("a.json", '{"item": 3, "user": 4}\n', "--user-column user --item-column item --time-column …"),
        ("a b.tsv", "user id\titem\tdate\n", "--user-column 'user id' --item-column item --time-column date"),
    ],
)
def test_the_command_has_the_columns(name, content, flags, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    assert f" {flags} --output " in preparing_command(path)


def test_items_that_should_be_a_list_are_no_raw_log(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"user_id": "u", "item_ids": "a b c"}\n')
    assert preparing_command(tmp_path / "a.jsonl") is None


def test_compressed_and_columnar_logs_are_read_too(tmp_path):
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("user,item,time\nu,i,1\n")
    Dataset.from_dict({"user": ["u"], "item": ["i"], "time": [1]}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv.gz", "a.parquet"):
        assert "--user-column user --item-column item --time-column time" in preparing_command(tmp_path / name)


@pytest.mark.parametrize("content", ["u1 a b\nu2 b c\n", "u1\ta\tb\nu2\tb\tc\n", "1 2 3\n4 5 6\n", "1\t2\t3\n", ""])
def test_reference_text_is_no_raw_log(content, tmp_path):
    (tmp_path / "log.txt").write_text(content)
    check_not_raw(tmp_path / "log.txt")


def test_tables_of_sequences_are_no_raw_logs(tmp_path):
    table = Dataset.from_dict({"user_id": ["u", "v"], "item_ids": [["a", "b", "c"], ["b", "c", "a"]], "time": [1, 2]})
    table.to_parquet(tmp_path / "log.parquet")
    table.to_json(tmp_path / "log.jsonl")
    for name in ("log.parquet", "log.jsonl"):
        assert load_training_data(tmp_path / name).facts["users"] == 2
