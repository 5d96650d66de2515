"""Reading sequences, and the lines that are refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from e4srec_hf.data import catalogue_of, load_sequences, read_negatives, read_sequences, sequences_from_table
from e4srec_hf.data.opening import load_training_data


def write(tmp_path, content):
    file = tmp_path / "log.txt"
    file.write_bytes(content)
    return file


def test_a_line_is_a_user_and_the_items_in_order(tmp_path):
    sequences = read_sequences(write(tmp_path, b"u1 b a b\nu2  c\td \r\nu3 \xc3\xa9"))
    assert sequences["user_id"][:] == ["u1", "u2", "u3"]
    assert sequences["item_ids"][:] == [["b", "a", "b"], ["c", "d"], ["é"]]
    assert catalogue_of(sequences) == ["b", "a", "c", "d", "é"]


def test_a_byte_order_mark_is_no_part_of_the_first_user(tmp_path):
    assert read_sequences(write(tmp_path, b"\xef\xbb\xbfu1 a\n"))["user_id"][:] == ["u1"]


def test_other_white_space_may_be_inside_an_id(tmp_path):
    assert read_sequences(write(tmp_path, "u1 a\u00a0b\n".encode()))["item_ids"][:] == [["a\u00a0b"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"u1 a\n\nu2 b\n", "line 2: the line is empty"),
        (b"u1 a\n  \t\n", "line 2: the line is empty"),
        (b"u1 a\nu2\n", "line 2: user 'u2' has no items"),
        (b"u1 a\nu2 b\nu1 c\n", "line 3: user 'u1' is already in .*log.txt, line 1"),
        (b"u1 a\nu2 \xff\xfe\n", "line 2: not UTF-8 text"),
        (b"u1 a\nu2 b\x00c\n", "line 2: user 'u2': the id 'b.x00c' has control characters"),
        (b"u1 a\nu\x1b2 b\n", "line 2: the user: the id 'u.x1b2' has control characters"),
        (b"", "log.txt is empty"),
    ],
)
def test_bad_lines_are_named_by_file_and_line(tmp_path, content, message):
    file = write(tmp_path, content)
    for read in (read_sequences, read_negatives) if content else (read_sequences,):
        with pytest.raises(ValueError, match=message) as error:
            read(file)
        assert str(file) in str(error.value)


def test_any_table_with_users_and_items_becomes_sequences():
    table = Dataset.from_dict({"who": [7, 8], "what": [[1, 2], [3]], "when": [[10, 20], [30]], "more": [0, 0]})
    sequences = sequences_from_table(table, user_column="who", items_column="what", timestamps_column="when")
    assert sequences.column_names == ["user_id", "item_ids", "timestamps"]
    assert sequences[0] == {"user_id": "7", "item_ids": ["1", "2"], "timestamps": [10, 20]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user_id": ["u"]}, r"no column \['item_ids'\]; its columns are \['user_id'\]"),
        ({"user_id": ["u", None], "item_ids": [["a"], ["b"]]}, "row 1: the user: an id is missing"),
        ({"user_id": ["u", "v"], "item_ids": [["a"], []]}, "row 1: user 'v' has no items"),
        ({"user_id": ["u", "v"], "item_ids": [["a"], None]}, "row 1: user 'v' has no items"),
        ({"user_id": ["u"], "item_ids": ["a b"]}, "column 'item_ids' holds string; expected a list of ids in a row"),
        ({"user_id": ["u"], "item_ids": [["a", None]]}, "row 0: user 'u': an id is missing"),
        ({"user_id": ["u"], "item_ids": [["a", " "]]}, "row 0: user 'u': an id is empty or blank"),
        ({"user_id": ["u", "u"], "item_ids": [["a"], ["b"]]}, "row 1: user 'u' is already in the table, row 0"),
    ],
)
def test_bad_rows_are_named(table, message):
    with pytest.raises(ValueError, match=message):
        sequences_from_table(Dataset.from_dict(table))


def test_times_must_fit_the_items():
    table = Dataset.from_dict({"user_id": ["u"], "item_ids": [["a", "b"]], "times": [[1]]})
    with pytest.raises(ValueError, match="does not have one time for each item"):
        sequences_from_table(table, timestamps_column="times")


def test_sequences_load_from_text_parquet_json_lines_and_saved_folders(tmp_path):
    rows = {"user_id": ["u1", "u2"], "item_ids": [["a", "b"], ["c"]]}
    table = Dataset.from_dict(rows)
    (tmp_path / "log.txt").write_text("u1 a b\nu2 c\n")
    table.to_parquet(tmp_path / "log.parquet")
    table.to_json(tmp_path / "log.jsonl")
    table.save_to_disk(tmp_path / "saved")
    DatasetDict(train=table).save_to_disk(tmp_path / "saved_dict")
    for name in ("log.txt", "log.parquet", "log.jsonl", "saved", "saved_dict"):
        assert load_sequences(str(tmp_path / name)).to_dict() == rows, name
    for missing in ("lgo.txt", "lgo.parquet", "./lgo"):
        with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
            load_sequences(missing)
    DatasetDict(train=table, test=table).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match=r"has the splits \['train', 'test'\]"):
        load_sequences(str(tmp_path / "splits"))


def test_a_folder_without_a_data_set_is_named_and_not_searched(tmp_path):
    (tmp_path / "some" / "where" / "deep").mkdir(parents=True)
    (tmp_path / "some" / "where" / "deep" / "log.parquet").touch()
    with pytest.raises(ValueError, match="no data set is in this folder"):
        load_sequences(str(tmp_path))


@pytest.mark.parametrize("names", [("a.jsonl", "b.parquet"), ("train.parquet", "b.parquet"), ("a.json", "b.csv")])
def test_a_folder_is_read_whole_or_not_at_all(tmp_path, names):
    rows = Dataset.from_dict({"user_id": ["u"], "item_ids": [["a"]]})
    for name in names:
        if name.endswith(".parquet"):
            rows.to_parquet(tmp_path / name)
        else:
            (tmp_path / name).write_text('{"user_id": "v", "item_ids": ["a"]}\n')
    with pytest.raises(ValueError, match="would not be read"):
        load_sequences(str(tmp_path))


def test_minus_zero_is_not_taken_for_zero(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text('{"user_id": "u", "item_ids": [0, -0]}\n')
    with pytest.raises(ValueError, match=r"line 1: user 'u': -0.0 \(float\) is no id"):
        load_sequences(file)
    file.write_text('{"user_id": "-0", "item_ids": [0, -7, "-0"]}\n')
    assert load_sequences(file)[:] == {"user_id": ["-0"], "item_ids": [["0", "-7", "-0"]]}


@pytest.mark.parametrize("twice", ["user_id", "item_ids"])
def test_a_column_that_comes_twice_is_refused(tmp_path, twice):
    columns = {"user_id": pa.array(["u"]), "item_ids": pa.array([["a"]])}
    names = [*columns, twice]
    pq.write_table(pa.Table.from_arrays([columns[name] for name in names], names), tmp_path / "log.parquet")
    with pytest.raises(ValueError, match=f"more than one column .*{twice}"):
        load_sequences(tmp_path / "log.parquet")


def test_what_is_no_name_or_no_data_set_is_refused(tmp_path):
    rows = Dataset.from_dict({"user_id": ["u"], "item_ids": [["a"]]})
    for table in ([{"user_id": "u", "item_ids": ["a"]}], None, pa.table({}), rows.to_iterable_dataset(), b"x", 3):
        for read in (load_sequences, load_training_data):
            with pytest.raises(TypeError, match="expected the name of a file"):
                read(table)
        with pytest.raises(TypeError, match=r"expected a datasets\.Dataset"):
            sequences_from_table(table)
