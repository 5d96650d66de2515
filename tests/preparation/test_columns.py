"""What is made of the columns: times that are none, marks of missing values, rows to keep, orders without times."""

import json
import re
from collections import Counter
from itertools import product

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e4srec_hf.preparation import PreparationError, make_table, prepare
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of, times_of

DAY = 86_400


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """A picture would take most of the time."""
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


def write(path, header, rows, separator=","):
    path.write_text("\n".join(separator.join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def log_of(path, times):
    """Six users of six items, with times by their place in the log."""
    rows = [(f"u{user}", f"i{item}", times[6 * user + item]) for user, item in product(range(6), range(6))]
    return write(path, ("user_id", "item_id", "timestamp"), rows)


SECONDS = [1_500_000_000 + n for n in range(36)]
NO_TIMES = {
    "ratings": ([1 + n % 5 for n in range(36)], {}, "another --time-column"),
    "counts": ([n * n * 1000 for n in range(36)], {}, "another --time-column"),
    "row numbers": (range(36), {}, "none, if the rows are in the order of time"),
    "years": ([2000 + n % 20 for n in range(36)], {}, "--time-format '%Y'"),
    "days as numbers": ([20190101 + n % 28 for n in range(36)], {}, "--time-format '%Y%m%d'"),
    "minutes as numbers": ([201901011200 + n for n in range(36)], {}, "--time-format '%Y%m%d%H%M'"),
    "days since 1970": ([17_000 + n for n in range(36)], {}, "--time-unit"),
    "seconds as milliseconds": (SECONDS, {"time_unit": "ms"}, "--time-unit s"),
    "seconds as nanoseconds": (SECONDS, {"time_unit": "ns"}, "--time-unit s"),
    "milliseconds as microseconds": ([n * 1000 for n in SECONDS], {"time_unit": "us"}, "--time-unit ms"),
    "a wrong conversion": ([f"1970-01-01 00:00:01.5000000{n:02}" for n in range(36)], {}, "in January 1970"),
}


@pytest.mark.parametrize("name", NO_TIMES)
def test_a_column_that_holds_no_times_is_refused(name, tmp_path):
    times, options, message = NO_TIMES[name]
    log = log_of(tmp_path / "log.csv", [str(time) for time in times])
    with pytest.raises(PreparationError) as raised:
        prepare("table", [log], tmp_path / "out", **options)
    assert message in str(raised.value)
    assert f"line 2 has '{next(iter(times))}'" in str(raised.value)
    assert "--oldest" in str(raised.value)
    assert list(tmp_path.iterdir()) == [log]


def test_milliseconds_read_as_seconds_are_in_the_future_and_the_message_says_so(tmp_path):
    log = log_of(tmp_path / "log.csv", [n * 1000 for n in SECONDS])
    with pytest.raises(
        PreparationError, match=r"'1500000000000', read with --time-unit s: time in the future. Give --time-unit ms"
    ):
        prepare("table", [log], tmp_path / "out", time_unit="s")


def test_old_times_have_a_way(tmp_path):
    log = log_of(tmp_path / "log.csv", [3_000_000 * n for n in range(36)])  # 1970 to 1973
    with pytest.raises(PreparationError, match="most times are before 1995-01-01"):
        prepare("table", [log], tmp_path / "out")
    prepare("table", [log], tmp_path / "out", oldest="1970-01-01")
    assert times_of(tmp_path / "out")["u1"] == [3_000_000 * n for n in range(6, 12)]
    dates = log_of(tmp_path / "dates.csv", [f"19{70 + n % 20}-05-01" for n in range(36)])
    prepare("table", [dates], tmp_path / "written", now="2026-01-01")  # a date that is written out is what it says
    assert times_of(tmp_path / "written")["u0"][0] == 120 * DAY


def test_times_before_1970_have_a_way(tmp_path):
    log = log_of(tmp_path / "log.csv", [-3_000_000 * n for n in range(36)])
    with pytest.raises(PreparationError, match=r"time before 1970.*--negative-times keep"):
        prepare("table", [log], tmp_path / "out")
    prepare("table", [log], tmp_path / "out", oldest="1900-01-01", negative_times="keep")
    assert times_of(tmp_path / "out")["u0"] == [-3_000_000 * n for n in reversed(range(6))]


def test_one_file_of_two_is_named(tmp_path):
    good = log_of(tmp_path / "good.csv", SECONDS * 3)
    bad = log_of(tmp_path / "bad.csv", [1 + n % 5 for n in range(36)])
    with pytest.raises(PreparationError, match=r"^bad.csv: most times"):
        prepare("table", [good, bad], tmp_path / "out")


def test_a_few_old_times_among_new_ones_stay(tmp_path):
    log = log_of(tmp_path / "log.csv", [5, 6, *SECONDS[2:]])
    prepare("table", [log], tmp_path / "out")
    assert times_of(tmp_path / "out")["u0"][:3] == [5, 6, 1_500_000_002]


@pytest.mark.parametrize(
    ("moment", "form", "seconds"),
    [
        ("01 Jan 2019 08:00", "%d %b %Y %H:%M", 1546329600),
        ("Fri Aug 25 13:55:02 -0700 2017", "%a %b %d %H:%M:%S %z %Y", 1503694502),
        ("10/Oct/2000:13:55:36 -0700", "%d/%b/%Y:%H:%M:%S %z", 971211336),
        ("31.12.2019 23:59", "%d.%m.%Y %H:%M", 1577836740),
        ("20190131", "%Y%m%d", 1548892800),
    ],
)
def test_a_time_of_several_words(moment, form, seconds, tmp_path):
    log = log_of(tmp_path / "log.csv", [moment] * 36)
    with pytest.raises(PreparationError) as raised:
        prepare("table", [log], tmp_path / "out")
    assert repr(moment) in str(raised.value)
    assert f"--time-format {form!r}" in str(raised.value)
    prepare("table", [log], tmp_path / "out", time_format=form)
    assert times_of(tmp_path / "out")["u3"] == [seconds] * 6
    with pytest.raises(PreparationError, match=f"{moment!r}, read with --time-format '%H:%M': unreadable time"):
        prepare("table", [log], tmp_path / "no", time_format="%H:%M")


@pytest.mark.parametrize(
    ("separator", "row", "columns", "form"),
    [
        (",", "u,i,2019-01-31,08:30:15", {"time_column": "date,hour"}, None),
        (" ", "u i 31 Jan 2019 08:30:15", {"time_column": "3,4,5,6"}, "%d %b %Y %H:%M:%S"),
        ("\t", "u\ti\t2019\t1\t31\t8\t30\t15", {"time_column": "3, 4, 5, 6, 7, 8"}, "%Y %m %d %H %M %S"),
    ],
)
def test_a_time_in_several_columns(separator, row, columns, form, tmp_path):
    header = "user_id,item_id,date,hour\n" if form is None else ""
    (tmp_path / "log.txt").write_text(header + row + "\n")
    named = {"separator": separator} | ({} if form is None else {"user_column": "1", "item_column": "2"})
    options = {} if form is None else {"time_format": form}
    prepare_all(make_table(**columns, **named), [tmp_path / "log.txt"], tmp_path / "out", **options)
    assert times_of(tmp_path / "out") == {"u": [1548923415]}


@pytest.mark.parametrize(
    "mark",
    [
        *("NA", "null", "None", "nan", "NaN", "NULL", "N/A", "<NA>", "\\N", " NA ", "NaT", "-nan", "#NA"),
        *("#VALUE!", "#REF!", "#DIV/0!", "#NULL!", "#NAME?", "#num!", "(not set)", "\\\\N", "\u00a0NA\u200b"),
    ],
)
@pytest.mark.parametrize("column", ["user", "item", "time"])
def test_marks_of_missing_values_are_no_ids(column, mark, tmp_path):
    row = {"user": "u1", "item": "i1", "time": "1500000000"}
    rows = [row.values(), (row | {column: mark}).values(), (row | {"item": "i2"}).values()]
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp"), rows)
    prepare_all("table", [log], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u1": ["i1", "i2"]}
    assert rejected_of(tmp_path / "out") == [(3, f"no {column} (a mark of missing values, see --missing)")]


@pytest.mark.parametrize("blank", ["\u200b", "\ufeff", "\u00a0", " \u2060\u3000"])
def test_ids_without_a_visible_character_are_missing(blank, tmp_path):
    rows = [("u", "i", 5), (blank, "i", 6), ("u", blank, 7)]
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp"), rows)
    prepare_all("table", [log], tmp_path / "out")
    assert rejected_of(tmp_path / "out") == [(3, "no user"), (4, "no item")]


def test_a_user_that_may_be_a_mark_is_noted(tmp_path):
    rows = [("?" if n < 6 else "Unknown" if n < 11 else f"u{n}", f"i{n}", 5) for n in range(100)]
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp"), rows)
    notes = prepare_all("table", [log], tmp_path / "out").facts["notes"]
    assert [note.partition(" If")[0] for note in notes] == ["The user '?' has 6 of 100 records (6%)."]
    assert "--missing=?" in notes[0]
    assert prepare_all("table", [log], tmp_path / "no", missing=["?"]).facts["notes"] == []


def test_marks_are_chosen(tmp_path):
    rows = [("NA", "i1", 5), ("-1", "i2", 6), ("u", "Null", 7), ("", "i3", 8)]
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp"), rows)
    prepare_all("table", [log], tmp_path / "one", missing=["-1"])
    assert sequences_of(tmp_path / "one") == {"NA": ["i1"], "u": ["Null"]}
    assert rejected_of(tmp_path / "one") == [(3, "no user (a mark of missing values, see --missing)"), (5, "no user")]
    prepare_all("table", [log], tmp_path / "none", missing=[])
    assert sequences_of(tmp_path / "none") == {"NA": ["i1"], "-1": ["i2"], "u": ["Null"]}


def test_marks_in_json_parquet_and_text(tmp_path):
    users, items = ["u", "nan", None, "v"], ["a", "b", "c", "null"]
    table = pa.table({"user_id": users, "item_id": items, "timestamp": [5, 6, 7, 8]})
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for name in ("x.parquet", "x.jsonl"):
        prepare_all("table", [tmp_path / name], tmp_path / f"{name}.out")
        assert sequences_of(tmp_path / f"{name}.out") == {"u": ["a"]}
    (tmp_path / "x.txt").write_text("u a null b\nNA c d\nv e\n")
    prepare_all("text", [tmp_path / "x.txt"], tmp_path / "text")
    assert sequences_of(tmp_path / "text") == {"u": ["a", "b"], "v": ["e"]}
    assert [line for line, _ in rejected_of(tmp_path / "text")] == [1, 2]


@pytest.mark.parametrize("order", [1, -1])
def test_without_times_the_order_of_the_rows_counts(order, tmp_path):
    rows = [(f"u{n % 3}", f"i{n * 7 % 11}") for n in range(30)][::order]
    log = write(tmp_path / "log.csv", ("user_id", "item_id"), rows)
    with pytest.raises(PreparationError, match=r"no column 'timestamp'.*--time-column \(none, if the rows are in"):
        prepare_all("table", [log], tmp_path / "out")
    table = make_table(time_column=None)
    facts = prepare_all(table, [log], tmp_path / "out").facts
    assert sequences_of(tmp_path / "out") == {
        user: [item for one, item in rows if one == user] for user in dict.fromkeys(user for user, _ in rows)
    }
    assert pq.read_schema(tmp_path / "out" / "sequences.parquet").names == ["user_id", "item_ids"]
    assert facts["first_time"] is None
    assert facts["test_targets_in_ties"] is None
    prepare_all(table, [log], tmp_path / "last", repeats="last")
    last = [item for one, item in rows if one == "u1"]
    assert sequences_of(tmp_path / "last")["u1"] == [i for n, i in enumerate(last) if i not in last[n + 1 :]]
    for options in ({"split": "time"}, {"ties": "item"}, {"time_unit": "ms"}, {"start": "2019-01-01"}):
        with pytest.raises(PreparationError, match="times"):
            prepare_all(table, [log], tmp_path / "no", **options)


EVENTS = [
    ("u", "a", 1, "view", "TRUE"),
    ("u", "b", 2, "buy", "FALSE"),
    ("u", "c", 3, "cart", "TRUE"),
    ("", "d", 4, "", "x"),
]


@pytest.mark.parametrize(
    ("keep", "items"),
    [
        ({"event": "buy"}, "b"),
        ({"event": ["buy", "view"]}, "ab"),
        ({"event": ["buy", "view"], "flag": "TRUE"}, "a"),
        ({"Event": ["cart"]}, "c"),
        ({"timestamp": 3}, "c"),
    ],
)
def test_rows_are_kept_by_their_values(keep, items, tmp_path):
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp", "event", "flag"), EVENTS)
    facts = prepare_all("table", [log], tmp_path / "out", keep=keep).facts
    assert sequences_of(tmp_path / "out") == {"u": list(items)}
    assert rejected_of(tmp_path / "out") == []  # a row that is left out is not invalid
    assert facts["steps"][0] == {"step": "reading", "rows_in": 4, "rows_out": 4}
    assert facts["steps"][-1]["rows_out"] == len(items)
    assert facts["options"]["keep"] == {
        c: [str(v) for v in (vs if isinstance(vs, list) else [vs])] for c, vs in keep.items()
    }
    assert json.loads((tmp_path / "out" / "preparation.json").read_text()) == facts


def test_rows_without_a_value_are_kept_by_the_empty_value(tmp_path):
    rows = [("u", "a", 1, ""), ("u", "b", 2, "returned")]
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp", "status"), rows)
    prepare_all("table", [log], tmp_path / "out", keep={"status": ""})
    assert sequences_of(tmp_path / "out") == {"u": ["a"]}


def test_truth_values_in_json_and_parquet_and_columns_by_number(tmp_path):
    table = pa.table(
        {"user_id": ["u"] * 3, "item_id": list("abc"), "timestamp": [1, 2, 3], "is_read": [True, False, None]}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for name, value in product(("x.parquet", "x.jsonl"), (True, "true")):
        prepare_all("table", [tmp_path / name], tmp_path / "out", keep={"is_read": value}, overwrite=True)
        assert sequences_of(tmp_path / "out") == {"u": ["a"]}
    (tmp_path / "x.csv").write_text("u,a,1,buy\nu,b,2,view\n")
    numbered = make_table(user_column="1", item_column="2", time_column="3")
    prepare_all(numbered, [tmp_path / "x.csv"], tmp_path / "numbered", keep={"4": "buy"})
    assert sequences_of(tmp_path / "numbered") == {"u": ["a"]}


def test_other_sources_keep_rows_too(tmp_path):
    (tmp_path / "u.data").write_text("1\t5\t3\t900000000\n1\t6\t5\t900000001\n1\t7\t4\t900000002\n")
    prepare_all("movielens", [tmp_path / "u.data"], tmp_path / "out", keep={"rating": [4, 5]})
    assert sequences_of(tmp_path / "out") == {"1": ["6", "7"]}
    with pytest.raises(PreparationError, match="no column 'event'"):
        prepare_all("movielens", [tmp_path / "u.data"], tmp_path / "no", keep={"event": "buy"})


def test_a_value_that_does_not_occur_is_refused_with_those_that_do(tmp_path):
    log = write(tmp_path / "log.csv", ("user_id", "item_id", "timestamp", "event", "flag"), EVENTS)
    message = (
        r"--keep event=purchase: no row has this value. The values of 'event' are empty \(1\), 'buy' \(1\), 'cart'"
    )
    with pytest.raises(PreparationError, match=message):
        prepare_all("table", [log], tmp_path / "out", keep={"event": ["buy", "purchase"]}, missing=[])
    (tmp_path / "x.txt").write_text("u a b\n")
    with pytest.raises(PreparationError, match="text has no columns"):
        prepare_all("text", [tmp_path / "x.txt"], tmp_path / "out", keep={"event": "buy"})
    with pytest.raises(PreparationError, match="no column 'evnt'"):
        prepare_all("table", [log], tmp_path / "out", keep={"evnt": "buy"})


def left_by_cores(rows, user_core, item_core):
    """What a plain loop leaves."""
    while True:
        users, items = Counter(user for user, _ in rows), Counter(item for _, item in rows)
        left = [(user, item) for user, item in rows if users[user] >= user_core and items[item] >= item_core]
        if len(left) == len(rows):
            return left
        rows = left


@pytest.mark.parametrize(
    ("cores", "rows", "message"),
    [
        ((9, 2), 36, "--user-core 9 alone leaves no user. --user-core 6 --item-core 2 would"),
        ((2, 9), 36, "--item-core 9 alone leaves no item. --user-core 2 --item-core 6 would"),
        ((6, 6), 31, "together. --user-core 1 --item-core 6, or --user-core 6 --item-core 5 would"),
        ((9, 9), 36, "--user-core 9 alone leaves no user. --user-core 6 --item-core 6 would"),
    ],
)
def test_an_empty_result_names_the_core_that_emptied_it(cores, rows, message, tmp_path):
    rows = [(f"u{user}", f"i{item}") for user, item in list(product(range(6), range(6)))[:rows]]
    log = write(tmp_path / "log.csv", ("user_id", "item_id"), rows)
    with pytest.raises(PreparationError, match=f"None of {len(rows)} records remain") as raised:
        prepare(make_table(time_column=None), [log], tmp_path / "out", user_core=cores[0], item_core=cores[1])
    assert message in str(raised.value)
    for users, items in re.findall(r"--user-core (\d+) --item-core (\d+)", str(raised.value)):
        assert left_by_cores(rows, int(users), int(items))
        higher = [(int(users) + 1, int(items))] if int(users) < cores[0] else []
        higher += [(int(users), int(items) + 1)] if int(items) < cores[1] else []
        assert not any(left_by_cores(rows, *pair) for pair in higher)
