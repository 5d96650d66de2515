"""Ids stay as they stand in JSON and in tables, or are refused with their place; broken files are named."""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from e4srec_hf.data import load_sequences, sequences_from_table
from e4srec_hf.data.opening import load_training_data
from e4srec_hf.data.prepared import load_items, load_split
from e4srec_hf.hub.datasets import save_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def written(tmp_path, text, name="log.jsonl"):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


KEPT = {
    '["2021-01-05", "2021-01-06T10:00:00Z"]': ["2021-01-05", "2021-01-06T10:00:00Z"],
    '["12:30", "007", "1e5", "1.0", "true", "null"]': ["12:30", "007", "1e5", "1.0", "true", "null"],
    "[18446744073709551615, 12345678901234567890123, 9007199254740993, -5]": [
        *("18446744073709551615", "12345678901234567890123", "9007199254740993", "-5")
    ],
    '[1, "x", "1"]': ["1", "x", "1"],
    r'[" a ", "e\u0301", "\u00e9", "\ud83d\ude00", "a b"]': [" a ", "e\u0301", "\u00e9", "\U0001f600", "a b"],
}
REFUSED = {
    "[1.0]": r"1.0 \(float\) is no id",
    "[1e5]": r"100000.0 \(float\) is no id",
    "[NaN]": r"nan \(float\) is no id",
    "[true]": r"True \(bool\) is no id",
    "[null]": "an id is missing",
    '["a", ""]': "an id is empty or blank",
    '["\\u00a0"]': "an id is empty or blank",
    '["a\\u0000b"]': "control characters",
    '["a\\tb"]': "control characters",
    '["\\ud800"]': "halves of characters",
    '[["a"]]': r"\['a'\] \(list\) is no id",
    '[{"a": 1}]': r"\(dict\) is no id",
    '"a b"': "expected a list of item ids",
    '{"a": 1}': "expected a list of item ids",
    "7": "expected a list of item ids",
    "[]": "has no items",
    "null": "has no items",
}


@pytest.mark.parametrize("items", KEPT)
@pytest.mark.parametrize("name", ["log.jsonl", "log.json", "log.NDJSON", "folder/log.jsonl", "array.json"])
def test_ids_of_json_stay_as_they_stand(tmp_path, items, name):
    rows = [
        f'{{"user_id": 20210105, "item_ids": {items}}}',
        '{"item_ids": ["a"], "user_id": "2021-01-05", "more": 1.5}',
    ]
    file = written(tmp_path, f"[{','.join(rows)}]" if name == "array.json" else "\n".join(rows), name)
    sequences = load_sequences(str(tmp_path / "folder") if "/" in name else file)
    assert sequences.to_dict() == {"user_id": ["20210105", "2021-01-05"], "item_ids": [KEPT[items], ["a"]]}


@pytest.mark.parametrize("items", REFUSED)
def test_what_is_no_id_in_json_is_refused_with_file_and_line(tmp_path, items):
    lines = '{"user_id": "u", "item_ids": ["a"]}\n\n{"user_id": "v", "item_ids": ' + items + "}\n"
    for name, text in (("log.jsonl", lines), ("log.json", "[" + lines.replace("}\n\n", "},\n\n") + "]")):
        with pytest.raises(ValueError, match=rf"{name}, line 3: user 'v'.*{REFUSED[items]}"):
            load_sequences(written(tmp_path, text, name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: there are no sequences"),
        ("\n \n", "is empty"),
        ("[]", "is empty"),
        ('{"user_id": "u", "item_ids": ["a"]}\n{"user_id": "v", "item_i', "line 2: not JSON .*Unterminated string"),
        ('{"user_id": "u", "item_ids": ["a"]}\n{"user_id": "v", "item_ids": ["a"', "line 2: not JSON"),
        ('[{"user_id": "u",\n "item_ids": ["a"]},\n', "line 3: not JSON"),
        ('[\n{"user_id": "u", "item_ids": ["a"]}\n{"user_id": 1}]', "line 3: not JSON .*',' delimiter"),
        ('[{"user_id": "u", "item_ids": ["a"]}]\n]', "line 2: not JSON .*Extra data"),
        ("[" * 100_000, "line 1: the JSON is nested too deeply"),
        ('{"a":' * 100_000, "line 1: the JSON is nested too deeply"),
        ('{"user_id": ' + "9" * 5000 + ', "item_ids": ["a"]}', "line 1: Exceeds the limit"),
        ('"u"\n', r"line 1: expected an object with the keys \['user_id', 'item_ids'\], not u"),
        (
            '{"user": "u", "item_ids": ["a"]}',
            r"line 1: the object has no \['user_id'\]; its keys are \['user', 'item_ids'\]",
        ),
        ('{"user_id": "u", "item_ids": ["a"], "user_id": "v"}', "line 1: not JSON .*a key comes twice"),
        (
            '{"user_id": 1, "item_ids": ["a"]}\n{"user_id": "1", "item_ids": ["b"]}',
            "line 2: user '1' is already in .*line 1",
        ),
        ('{"user_id": 1.0, "item_ids": ["a"]}', r"line 1: the user: 1.0 \(float\) is no id"),
        (b'{"user_id": "u", "item_ids": ["a"]}\n{"user_id": "\xff"}', "line 2: not UTF-8 text"),
        (b'[{"user_id": "u",\n\n"item_ids": ["\xff"]}]', "line 3: not UTF-8 text"),
        ('{"user_id": "u", "item_ids": ["a"]}'.encode("utf-16"), "line 1: not UTF-8 text"),
    ],
)
def test_broken_json_is_one_line_with_file_and_line(tmp_path, text, message):
    for name in ("log.json", "folder/log.json"):
        file = written(tmp_path, text, name)
        with pytest.raises(ValueError, match=message) as error:
            load_sequences(str(tmp_path / "folder") if "/" in name else file)
        assert "log.json" in str(error.value) or "folder" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_byte_order_mark_and_times_of_json(tmp_path):
    text = '\ufeff{"who": 1, "what": ["a", "b"], "when": [3, 4]}\n'
    columns = {"user_column": "who", "items_column": "what", "timestamps_column": "when"}
    found = load_sequences(written(tmp_path, text), **columns)
    assert found.to_dict() == {"user_id": ["1"], "item_ids": [["a", "b"]], "timestamps": [[3, 4]]}


def test_json_under_another_name_is_not_read_as_text(tmp_path):
    with pytest.raises(ValueError, match=r"line 1: this is JSON; give the file the suffix .jsonl or .json"):
        load_sequences(written(tmp_path, '{"user_id": "u", "item_ids": ["a"]}\n', "log.txt"))


WHOLE = {
    "text": pa.array([["2021-01-05", "007"], ["b"]]),
    "large text": pa.array([["2021-01-05", "007"], ["b"]], pa.large_list(pa.large_string())),
    "view": pa.array([["2021-01-05", "007"], ["b"]], pa.list_(pa.string_view())),
    "whole numbers": pa.array([[2**64 - 1, 5], [7]], pa.list_(pa.uint64())),
}
NO_IDS = {
    "double": pa.array([[1.0], [3.0]]),
    "float": pa.array([[1.0], [3.0]], pa.list_(pa.float32())),
    "bool": pa.array([[True], [False]]),
    "timestamp": pa.array([[datetime.datetime(2021, 1, 5)], [datetime.datetime(2021, 1, 6)]]),
    "date32": pa.array([[datetime.date(2021, 1, 5)], [datetime.date(2021, 1, 6)]]),
    "time64": pa.array([[datetime.time(12, 30)], [datetime.time(12, 31)]]),
    "binary": pa.array([[b"a"], [b"b"]]),
    "list<": pa.array([[["a"]], [["b"]]]),
    "struct": pa.array([[{"a": 1}], [{"a": 2}]]),
}


def of(items):
    return pa.table({"user_id": [1, 2], "item_ids": items})


@pytest.mark.parametrize("kind", WHOLE)
def test_ids_of_tables_stay_as_they_stand(tmp_path, kind):
    table = of(WHOLE[kind])
    expected = {"user_id": ["1", "2"], "item_ids": [[str(item) for item in row] for row in WHOLE[kind].to_pylist()]}
    pq.write_table(table, tmp_path / "log.parquet")
    assert load_sequences(str(tmp_path / "log.parquet")).to_dict() == expected
    assert sequences_from_table(Dataset(table)).to_dict() == expected
    for name, write in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with write(str(tmp_path / f"{name}.arrow"), table.schema) as file:
            file.write_table(table)
        assert load_sequences(str(tmp_path / f"{name}.arrow")).to_dict() == expected


@pytest.mark.parametrize("kind", NO_IDS)
def test_what_is_no_id_in_a_table_is_refused_with_its_type(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    pq.write_table(of(NO_IDS[kind]), tmp_path / "log.parquet")
    pq.write_table(of(WHOLE["text"]), tmp_path / "folder" / "0.parquet")
    pq.write_table(of(NO_IDS[kind]), tmp_path / "folder" / "1.parquet")
    Dataset(of(NO_IDS[kind])).save_to_disk(tmp_path / "saved")
    message = f"the column 'item_ids' can hold no ids: it holds {kind}.*an id is text or a whole number"
    for name in ("log.parquet", "folder", "saved"):
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            load_sequences(str(tmp_path / name))
    for way in (sequences_from_table, lambda table: save_dataset(table, tmp_path / "out")):
        with pytest.raises(ValueError, match=message):
            way(Dataset(of(NO_IDS[kind])))
    assert not (tmp_path / "out").exists()
    users = pa.table({"user_id": NO_IDS[kind].flatten(), "item_ids": WHOLE["text"]})
    pq.write_table(users, tmp_path / "users.parquet")
    with pytest.raises(ValueError, match=r"users.parquet: the column 'user_id'"):
        load_sequences(str(tmp_path / "users.parquet"))


def test_a_row_of_a_table_is_named_whatever_its_format(tmp_path):
    table = Dataset(of(pa.array([["a"], ["b\x00"]])))
    for way in (table, table.with_format("numpy"), table.select([1])):
        with pytest.raises(ValueError, match=rf"the table, row {len(way) - 1}: user '2': the id 'b.x00' has control"):
            sequences_from_table(way)
    table.to_parquet(tmp_path / "log.parquet")
    with pytest.raises(ValueError, match=r"log.parquet, row 1: user '2'"):
        load_sequences(str(tmp_path / "log.parquet"))


def test_a_broken_parquet_file_is_named(tmp_path):
    pq.write_table(of(WHOLE["text"]), tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-30])
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "log.arrow").write_bytes(b"u a b\n")
    with pytest.raises(ValueError, match=r"log.arrow cannot be read as Arrow"):
        load_sequences(str(tmp_path / "log.arrow"))
    for name in ("cut", "empty"):
        with pytest.raises(ValueError, match=rf"{name}.parquet cannot be read as Parquet"):
            load_sequences(str(tmp_path / f"{name}.parquet"))


def test_a_prepared_data_set_follows_the_rule_streamed_or_not(tmp_path):
    numbers = Dataset.from_dict({"user_id": [1, 2], "item_ids": [[7, 8, 9, 7], [9, 8, 7]]})
    save_dataset(numbers, tmp_path / "data")
    assert list(load_items(tmp_path / "data")) == ["7", "8", "9"]
    train = tmp_path / "data" / "leave_one_out" / "train.parquet"
    expected = [{"user_id": "1", "item_ids": ["7", "8"]}, {"user_id": "2", "item_ids": ["9"]}]
    for kind in (pa.string(), pa.int64()):  # as another tool may have written it
        pq.write_table(pa.table({"user_id": pa.array([1, 2]).cast(kind), "item_ids": [[7, 8], [9]]}), train)
        for streaming in (False, True):
            assert list(load_split(tmp_path / "data", "leave_one_out", "train", streaming=streaming)) == expected
            data = load_training_data(tmp_path / "data", streaming=streaming)
            assert sorted(row for row in data.train["item_ids"]) == [["7", "8"], ["9"]]
    pq.write_table(pa.table({"user_id": [1, 2], "item_ids": [[7.0, 8.0], [9.0]]}), train)
    for streaming in (False, True):
        with pytest.raises(ValueError, match=r"train.parquet: the column 'item_ids' can hold no ids: it holds double"):
            load_training_data(tmp_path / "data", streaming=streaming)
    pq.write_table(pa.table({"item_id": [7.0, 8.0], "title": ["a", "b"]}), tmp_path / "data" / "items.parquet")
    with pytest.raises(ValueError, match=r"items.parquet, column 'item_id': it holds double"):
        load_items(tmp_path / "data")


def test_ids_of_a_json_repo_on_the_hub_stay_as_they_stand(hub_here):
    hub_here.api.create_repo("org/log", repo_type="dataset")
    for number, items in enumerate((["2021-01-05", 12345678901234567890123], ["007", 5])):
        hub_here.api.upload_file(
            path_or_fileobj=json.dumps({"user_id": number, "item_ids": items}).encode(),
            path_in_repo=f"data/train-{number}.jsonl",
            repo_id="org/log",
            repo_type="dataset",
        )
    expected = [["2021-01-05", "12345678901234567890123"], ["007", "5"]]
    assert load_sequences("org/log").to_dict() == {"user_id": ["0", "1"], "item_ids": expected}
    hub_here.api.upload_file(
        path_or_fileobj=b'{"user_id": 2, "item_ids": [1.0]}',
        path_in_repo="data/train-2.jsonl",
        repo_id="org/log",
        repo_type="dataset",
    )
    with pytest.raises(ValueError, match=r"hf://.*org/log.*train-2.jsonl, line 1: user '2': 1.0 \(float\) is no id"):
        load_sequences("org/log")
