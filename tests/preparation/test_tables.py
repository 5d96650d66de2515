"""Tables in Python and in Parquet: the same sequences as the same rows in a file."""

import csv
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from pyarrow.csv import write_csv

from e4srec_hf.preparation import PreparationError, make_table, pipeline
from e4srec_hf.preparation.tables import open_table
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of, times_of, titles_of


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """A picture would take most of the time."""
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


ROWS = {
    "user_id": [f"u{n * 7 % 5}" for n in range(200)],
    "item_id": [n * 31 % 17 for n in range(200)],
    "timestamp": [1_500_000_000 + n * 13 % 97 for n in range(200)],
}
#: By a plain loop: a stable sort of each user's rows by time.
EXPECTED = {
    user: [
        str(ROWS["item_id"][n])
        for n in sorted(range(200), key=ROWS["timestamp"].__getitem__)
        if ROWS["user_id"][n] == user
    ]
    for user in dict.fromkeys(ROWS["user_id"])
}


def as_polars(rows):
    return pytest.importorskip("polars").DataFrame(rows)


TABLES = {
    "pandas": pd.DataFrame,
    "pandas with categories": lambda rows: pd.DataFrame(rows).astype({"user_id": "category"}),
    "pandas with times": lambda rows: pd.DataFrame(rows).assign(
        timestamp=lambda frame: pd.to_datetime(frame["timestamp"], unit="s")
    ),
    "pandas with an index": lambda rows: pd.DataFrame(rows).sample(frac=1, random_state=0).sort_index(),
    "polars": as_polars,
    "pyarrow": pa.table,
    "chunks of pyarrow": lambda rows: pa.concat_tables([pa.table(rows).slice(n, 7) for n in range(0, 200, 7)]),
    "a stream": lambda rows: pa.table(rows).to_reader(max_chunksize=3),
    "datasets": Dataset.from_dict,
    "rows chosen of a dataset": lambda rows: Dataset.from_dict({k: v[::-1] for k, v in rows.items()}).select(
        range(199, -1, -1)
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_in_python(kind, tmp_path):
    facts = prepare_all("table", TABLES[kind](ROWS), tmp_path / "out").facts
    assert sequences_of(tmp_path / "out") == EXPECTED
    assert times_of(tmp_path / "out")["u0"][0] == 1_500_000_000
    assert facts["files"][0]["rows"] == 200
    assert json.loads((tmp_path / "out" / "preparation.json").read_text()) == facts
    assert facts["files"][0]["name"] in (tmp_path / "out" / "README.md").read_text()


def test_several_tables_titles_and_columns_by_name(tmp_path):
    log = pd.DataFrame({"who": ["u", "u"], "what": [1, 2], "when": [1_500_000_000, 1_500_000_001]})
    items = pa.table({"what": [2, 1], "label": ["Two", "One"]})
    later = log.assign(what=[3, 1], when=log["when"] + 5)
    table = make_table(user_column="who", item_column="what", time_column="when")
    prepare_all(table, [log, later], tmp_path / "out", metadata=items, metadata_title_column="label")
    assert sequences_of(tmp_path / "out") == {"u": ["1", "2", "3", "1"]}
    assert titles_of(tmp_path / "out") == {"1": "One", "2": "Two", "3": None}
    with pytest.raises(PreparationError, match="given twice"):
        prepare_all(table, [log, log], tmp_path / "no")
    with pytest.raises(PreparationError, match="files or tables, not both"):
        prepare_all(table, [log, "log.csv"], tmp_path / "no")


def test_missing_values_of_a_table_are_bad_records(tmp_path):
    frame = pd.DataFrame({"user_id": ["u", None, "u", "NA"], "item_id": [1, 2, None, 4], "timestamp": [5, 6, 7, 8]})
    prepare_all("table", frame.astype({"item_id": "Int64"}), tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["1"]}
    assert rejected_of(tmp_path / "out") == [
        (2, "no user"),
        (3, "no item"),
        (4, "no user (a mark of missing values, see --missing)"),
    ]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (np.array([1.0, 2.0]), r"pandas.DataFrame: column 'item_id' is no column of ids: it holds double; .*Int64"),
        ([True, False], "it holds bool"),
        (pd.to_datetime(["2019-01-01", "2019-01-02"]), "it holds timestamp"),
        ([["a"], ["b"]], "it holds list"),
        (["a", 5], "A column has values of several types"),
        ([2**70, 1], r"pandas\.DataFrame is no table .*beyond 64 bits: write such ids as text"),
        (pd.arrays.SparseArray([0, 1]), "pandas.DataFrame is no table .*sparse"),
    ],
)
@pytest.mark.parametrize("written", [False, True])
def test_columns_that_hold_no_ids_are_refused(items, message, written, tmp_path):
    table = pd.DataFrame({"user_id": ["u", "u"], "item_id": items, "timestamp": [5, 6]})
    if written:
        if "several types" in message or "no table" in message:
            pytest.skip("such a table cannot be written as Parquet")
        pq.write_table(pa.Table.from_pandas(table), tmp_path / "x.parquet")
        table, message = [tmp_path / "x.parquet"], message.replace("pandas.DataFrame", "x.parquet")
    with pytest.raises(PreparationError, match=message):
        prepare_all("table", table, tmp_path / "out")


def test_a_column_that_is_missing_or_there_twice_is_refused(tmp_path):
    frame = pd.DataFrame([["u", 1, 5, 6]], columns=["user_id", "item_id", "timestamp", "more"])
    with pytest.raises(
        PreparationError, match=r"no column 'timestamp'; its columns are \['user_id', 'item_id', 'more'\]"
    ):
        prepare_all("table", frame.drop(columns="timestamp"), tmp_path / "out")
    frame.columns = ["user_id", "item_id", "timestamp", "timestamp"]
    with pytest.raises(PreparationError, match="several columns 'timestamp'"):
        prepare_all("table", pa.table([[1], [2], [3], [4]], names=list(frame.columns)), tmp_path / "out")


COPIES = {
    "semicolons": lambda frame, path: frame.to_csv(path, sep=";", index=False),
    "quoted": lambda frame, path: frame.to_csv(path, quoting=csv.QUOTE_ALL, index=False),
    "other columns": lambda frame, path: frame[frame.columns[::-1]].assign(more=1).to_csv(path, index=False),
    "JSON lines": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "Parquet": lambda frame, path: frame.to_parquet(path),
    "another order": lambda frame, path: frame[::-1].to_csv(path, index=False),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_another_layout_counts_once(kind, tmp_path):
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "log.csv", index=False)
    COPIES[kind](frame, tmp_path / "copy")
    with pytest.raises(PreparationError, match=r"copy and .*log\.csv have the same content: it would count twice"):
        prepare_all("table", [tmp_path / "log.csv", tmp_path / "copy"], tmp_path / "out")
    COPIES[kind](frame.assign(timestamp=frame["timestamp"] + (frame.index == 7)), tmp_path / "copy")
    facts = prepare_all("table", [tmp_path / "log.csv", tmp_path / "copy"], tmp_path / "out").facts
    assert facts["interactions"] == 400


def test_a_copy_of_a_table_counts_once_but_for_a_few_rows(tmp_path):
    frame = pd.DataFrame(ROWS)
    with pytest.raises(PreparationError, match=r"pandas\.DataFrame and pandas\.DataFrame have the same content"):
        prepare_all("table", [frame, frame.copy()], tmp_path / "out")
    assert prepare_all("table", [frame[:19], frame[:19].copy()], tmp_path / "out").facts["interactions"] == 38


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (ROWS, "builtins.dict"),
        ([{"user_id": "u", "item_id": 1, "timestamp": 5}], "builtins.dict"),
        (DatasetDict(train=Dataset.from_dict(ROWS)), "datasets.DatasetDict"),
        (Dataset.from_dict(ROWS).to_iterable_dataset(), "datasets.IterableDataset"),
        (7, "builtins.int"),
        (np.zeros((2, 3)), "numpy.ndarray"),
        (None, "builtins.NoneType"),
    ],
)
def test_what_is_neither_a_file_nor_a_table_is_refused(given, name, tmp_path):
    with pytest.raises(PreparationError, match=rf"{name} is neither a file nor a table; expected paths, .*\['train'\]"):
        prepare_all("table", given, tmp_path / "out")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("names", [["user_id", "user_id"], ["user_id", "User_ID"]])
def test_a_file_with_a_column_twice_is_refused(suffix, names, tmp_path):
    table = pa.table([["u"], ["v"], [1], [5]], names=[*names, "item_id", "timestamp"])
    {"csv": write_csv, "parquet": pq.write_table}[suffix](table, tmp_path / f"log.{suffix}")
    if suffix == "parquet" and names[0] != names[1]:
        prepare_all("table", [tmp_path / "log.parquet"], tmp_path / "out")
        return
    with pytest.raises(PreparationError, match=rf"log\.{suffix} has several columns 'user_id': give them different"):
        prepare_all("table", [tmp_path / f"log.{suffix}"], tmp_path / "out")


def test_whole_numbers_as_names_of_columns(tmp_path):
    frame = pd.DataFrame([["u", 1, 5]])
    with pytest.raises(PreparationError, match=r"no column 'user_id', .*; its columns are \['0', '1', '2'\]"):
        prepare_all("table", frame, tmp_path / "out")
    prepare_all(make_table(user_column="0", item_column="1", time_column="2"), frame, tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["1"]}
    with pytest.raises(PreparationError, match="0 is no name of a column: write names and numbers as text, '0'"):
        make_table(user_column=0)


def test_threads_are_at_most_those_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    for wanted, given in [(2, 2), (20_000, 3)]:
        connection = pipeline._connect(tmp_path, None, wanted)
        assert connection.execute("SELECT current_setting('threads')").fetchall() == [(given,)]


def test_one_path_need_not_be_in_a_list(tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "log.csv", index=False)
    for path in (tmp_path / "log.csv", str(tmp_path / "log.csv")):
        prepare_all("table", path, tmp_path / "out", overwrite=True)
        assert sequences_of(tmp_path / "out") == EXPECTED


def test_an_error_of_the_reader_of_a_table_is_not_taken_for_one_of_its_types():
    with pytest.raises(pa.ArrowInvalid, match="of the reader"), open_table(pa.table({"user_id": ["u"]})):
        raise pa.ArrowInvalid("of the reader")
