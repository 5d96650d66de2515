"""Users to recommend for, from tables of every kind."""

import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from e4srec_hf.data import make_demo_world
from e4srec_hf.data.users import count_users, read_users
from e4srec_hf.hub.datasets import push_dataset, save_dataset

ROWS = [("u 1", ["a", 'b "c", d', "é\n"[:1]]), ("007", []), ("u3", ["a", "a"])]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def found(source, **columns):
    return [(row.user, row.items) for row in read_users(source, **columns)]


def json_lines(rows):
    return "".join(json.dumps({"user_id": user, "item_ids": items}) + "\n" for user, items in rows)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_kind_of_table_gives_the_same_users(tmp_path, monkeypatch):
    columns = dict(zip(("user_id", "item_ids"), map(list, zip(*ROWS, strict=True)), strict=True))
    pq.write_table(pa.table({"more": [1, 2, 3], **columns}), tmp_path / "users.parquet")
    write(tmp_path / "users.jsonl", json_lines(ROWS))
    cells = [json.dumps(items).replace('"', '""') for _, items in ROWS]
    lines = [f'{n},"{cell}",{user}' for n, ((user, _), cell) in enumerate(zip(ROWS, cells, strict=True))]
    write(tmp_path / "users.csv", "\n".join(["more,item_ids,user_id", *lines]))
    for name in ("users.parquet", "users.jsonl", "users.csv"):
        assert found(tmp_path / name) == ROWS, name
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json_lines(ROWS).encode())))
    assert found("-") == ROWS
    assert count_users(tmp_path / "users.parquet") == 3
    assert count_users(tmp_path / "users.csv") is None


def test_whole_numbers_are_ids_and_other_names_of_columns_are_taken(tmp_path):
    pq.write_table(pa.table({"who": [7, 8], "what": [[1, 2], None]}), tmp_path / "users.parquet")
    write(tmp_path / "users.csv", "who,what\n07,1 2\n8,\n")
    names = {"user_column": "who", "items_column": "what"}
    assert found(tmp_path / "users.parquet", **names) == [("7", ["1", "2"]), ("8", [])]
    assert found(tmp_path / "users.csv", item_separator=" ", **names) == [("07", ["1", "2"]), ("8", [])]


def test_users_of_a_prepared_data_set_have_their_whole_history(tmp_path, hub_here):
    world = make_demo_world(n_users=20, n_items=20)
    whole = list(zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True))
    save_dataset(world.sequences, tmp_path / "prepared", titles=world.titles)
    push_dataset(world.sequences, "org/readers", titles=world.titles)
    assert found(tmp_path / "prepared") == found("org/readers") == whole
    assert count_users(tmp_path / "prepared") == 20
    Dataset.from_dict({"user_id": ["u"], "item_ids": [["a"]]}).push_to_hub("org/plain", token=hub_here.token)
    assert found("org/plain") == [("u", ["a"])]
    assert len(found("demo")) == len(make_demo_world().sequences)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl is empty: there are no users"),
        ("a.csv", "", "a.csv cannot be read as CSV: Empty CSV file"),
        ("a.csv", "user_id,item_ids\n", "a.csv is empty: there are no users"),
        ("a.csv", "user_id,item_id\nu,a\n", r"a.csv has no column \['item_ids'\]; its columns are \['user_id', 'item"),
        ("a.csv", "user_id,item_ids,user_id\nu,[],v\n", r"a.csv has more than one column \['user_id'\]"),
        ("a.csv", 'user_id,item_ids\nu,"[""a""]"\nv,a b\n', r"a.csv, row 1: the items 'a b' are no JSON array"),
        ("a.csv", "user_id,item_ids\nu,7\n", r"a.csv, row 0: user 'u' has '7'; expected a list"),
        ("a.csv", "user_id,item_ids\nu,[],3\n", "a.csv cannot be read as CSV: .*Expected 2 columns"),
        ("a.csv", b"user_id,item_ids\n\xff,[]\n", "a.csv cannot be read as CSV: .*UTF8"),
        ("a.csv", "user_id,item_ids\n,[]\n", "a.csv, row 0: the user: an id is empty or blank"),
        ("a.jsonl", '{"user_id": "u"}\n', r"a.jsonl, line 1: the object has no \['item_ids'\]"),
        ("a.jsonl", '{"user_id": "u", "item_ids": "a b"}\n', "line 1: user 'u' has 'a b'; expected a list"),
        ("a.jsonl", '{"user_id": null, "item_ids": []}\n', "line 1: the user: an id is missing"),
        ("a.jsonl", '{"user_id": 1.0, "item_ids": []}\n', r"line 1: the user: 1.0 \(float\) is no id"),
        ("a.jsonl", '{"user_id": "u", "item_ids": ["a", null]}\n', "line 1: user 'u': an id is missing"),
        ("a.jsonl", '{"user_id": "u", "item_ids": [["a"]]}\n', r"line 1: user 'u': \['a'\] \(list\) is no id"),
        (
            "a.jsonl",
            json_lines([("u", ["a"]), ("v", []), ("u", [])]),
            "line 3: user 'u' is already in .*a.jsonl, line 1",
        ),
        ("a.jsonl", json_lines([("u", ["a"])]) + "{", "a.jsonl, line 2: not JSON"),
        ("a.parquet", "no parquet", "a.parquet cannot be read as Parquet"),
    ],
)
def test_what_is_no_table_of_users_is_named_by_its_row(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        found(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": ["u"]}, r"has no column \['item_ids'\]"),
        ({"user_id": ["u"], "item_ids": ["a"]}, "'item_ids' holds string; expected a list of ids in a row"),
        ({"user_id": [1.5], "item_ids": [["a"]]}, "'user_id' can hold no ids: it holds double"),
        ({"user_id": ["u", None], "item_ids": [["a"], []]}, "row 1: the user: an id is missing"),
        ({"user_id": ["u"], "item_ids": [["a", None]]}, "row 0: user 'u': an id is missing"),
    ],
)
def test_columns_of_parquet_that_hold_no_ids_are_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "users.parquet")
    with pytest.raises(ValueError, match=message):
        found(tmp_path / "users.parquet")


def test_a_separator_is_for_csv_files_alone(tmp_path):
    for name, separator in (("a.jsonl", " "), ("a.csv", "")):
        with pytest.raises(ValueError, match="item_separator= is for CSV files"):
            read_users(write(tmp_path / name, ""), item_separator=separator)


def test_users_are_read_as_they_are_asked_for(tmp_path):
    """The second line is no JSON; the first user is there before it is looked at."""
    users = read_users(write(tmp_path / "users.jsonl", json_lines([("u", ["a"])]) + "{"))
    assert next(users).user == "u"
    with pytest.raises(ValueError, match="line 2"):
        next(users)


def test_a_table_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(FileNotFoundError, match=r"no such file: nowhere/users\.csv"):
        read_users("nowhere/users.csv")
