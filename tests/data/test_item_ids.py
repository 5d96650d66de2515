"""What is an id, said once: the cases here hold for every way in."""

import datetime
import unicodedata

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from e4srec_hf.data.item_ids import CONTROL_CHARACTERS, as_ids, check_type_of_ids

TEXTS = [
    "2021-01-05",
    "12:30",
    "007",
    "1e5",
    "1.0",
    "true",
    "null",
    "NaN",
    " a ",
    "e\u0301",
    "\u00e9",
    "a\u2028b",
    "😀",
]
NUMBERS = [0, -7, 2**53 + 1, 2**63, 10**19 + 1, 10**30 + 1, np.int64(5), np.uint64(2**64 - 1)]
NO_IDS = [
    None,
    1.0,
    float("nan"),
    np.float32(2),
    True,
    np.bool_(True),
    b"a",
    ["a"],
    {"a": 1},
    datetime.date(2021, 1, 5),
]


def test_texts_and_whole_numbers_stay_as_they_stand():
    assert as_ids(TEXTS) == TEXTS
    assert as_ids(NUMBERS) == [format(int(number), "d") for number in NUMBERS]
    assert as_ids([1, "x", "1"]) == ["1", "x", "1"]


@pytest.mark.parametrize("value", [*NO_IDS, "", "  ", "\u00a0"], ids=repr)
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match="an id is text or a whole number"):
        as_ids(["a", value])


def refusal(text):
    try:
        as_ids([text])
    except ValueError as error:
        return str(error)
    return ""


def test_control_characters_are_those_of_unicode_in_python_arrow_and_duckdb():
    letters = [chr(code) for code in range(0x300)]
    controls = [unicodedata.category(letter) == "Cc" for letter in letters]
    found = [refusal(f"a{letter}b") for letter in letters]
    assert [bool(message) for message in found] == controls
    assert all(
        "control characters" in message and repr(f"a{letter}b") in message
        for letter, message in zip(letters, found, strict=True)
        if message
    )
    assert pc.match_substring_regex(pa.array(letters), CONTROL_CHARACTERS).to_pylist() == controls
    table = pa.table({"letter": letters})  # noqa: F841 - DuckDB reads it by its name
    sql = f"SELECT regexp_matches(letter, '{CONTROL_CHARACTERS}') FROM table"
    with duckdb.connect() as connection:
        assert [row[0] for row in connection.execute(sql.replace("table", '"table"')).fetchall()] == controls
    with pytest.raises(ValueError, match="halves of characters"):
        as_ids(["\ud800"])


def test_types_of_a_table_that_hold_ids():
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.int8(), pa.uint64(), pa.null()):
        check_type_of_ids(kind)
        check_type_of_ids(pa.dictionary(pa.int32(), kind))
    for kind in (
        pa.float64(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("s"),
        pa.time32("s"),
        pa.binary(),
        pa.list_(pa.string()),
    ):
        with pytest.raises(ValueError, match=r"it holds .*; an id is text or a whole number: write them as text"):
            check_type_of_ids(kind)
