"""Filters, k-core, ties, grouping and splits, on random logs, against plain Python loops."""

import csv
import tempfile
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e4srec_hf.data import sequences_sha256
from e4srec_hf.preparation import PreparationError, chunks
from e4srec_hf.preparation.chunks import read_chunks
from tests.preparation.raw_logs import prepare_all, rows_of, sequences_of, titles_of

EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.sampled_from(["x", "y", "z", "v w", 'q"']), st.integers(0, 6), st.integers(1, 5)
    ),
    min_size=1,
    max_size=60,
)
OPTIONS = st.fixed_dictionaries(
    {
        "user_core": st.integers(0, 4),
        "item_core": st.integers(0, 4),
        "repeats": st.sampled_from(["keep", "first", "last", "first-row"]),
        "ties": st.sampled_from(["file", "item"]),
        "min_rating": st.sampled_from([None, 2, 4]),
        "start": st.sampled_from([None, "1970-01-01T00:00:01"]),
        "end": st.sampled_from([None, "1970-01-01T00:00:05"]),
    }
)
SPLITS = st.one_of(
    st.just({"split": "leave_one_out"}),
    st.fixed_dictionaries(
        {
            "split": st.sampled_from(["time", "ratio"]),
            "targets": st.sampled_from(["last", "first", "all"]),
            "validation_share": st.sampled_from([0.1, 0.3]),
            "test_share": st.sampled_from([0.1, 0.4]),
        }
    ),
)


def plain_sequences(events, options):
    """User to a list of (item, time), users in the order of their first row that the filters leave."""
    rows = [
        (user, item, time, place)
        for place, (user, item, time, rating) in enumerate(events)
        if (options["min_rating"] is None or rating >= options["min_rating"])
        and (options["start"] is None or time >= 1)
        and (options["end"] is None or time <= 5)
    ]
    users = list(dict.fromkeys(user for user, *_ in rows))

    def order(row):
        _, item, time, place = row
        return (time, item, place) if options["ties"] == "item" else (time, place)

    if options["repeats"] != "keep":
        chosen = {}
        key = (lambda row: row[3]) if options["repeats"] == "first-row" else order
        for row in sorted(rows, key=key, reverse=options["repeats"] == "last"):
            chosen.setdefault(row[:2], row)
        rows = list(chosen.values())
    while True:
        by_user, by_item = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        left = [
            row for row in rows if by_user[row[0]] >= options["user_core"] and by_item[row[1]] >= options["item_core"]
        ]
        if len(left) == len(rows):
            break
        rows = left
    rows.sort(key=order)
    sequences = {user: [(row[1], row[2]) for row in rows if row[0] == user] for user in users}
    return {user: items for user, items in sequences.items() if items}


def plain_splits(sequences, split):
    """The three splits as lists of (user, items); ``None`` where validation and test would begin together."""
    rows = {"train": [], "validation": [], "test": []}
    times = sorted(time for items in sequences.values() for _, time in items)
    for user, pairs in sequences.items():
        items, n = [item for item, _ in pairs], len(pairs)
        if split["split"] == "time":
            shares = (split["validation_share"] + split["test_share"], split["test_share"])
            cuts = [times[min(round(len(times) * (1 - share)), len(times) - 1)] for share in shares]
            if cuts[0] == cuts[1]:
                return None
            begin, middle = (sum(time < cut for _, time in pairs) for cut in cuts)
        elif n < 3:
            begin = middle = n
        elif split["split"] == "ratio":
            test = min(max(int(n * split["test_share"] + 1e-9), 1), n - 2)
            validation = min(max(int(n * split["validation_share"] + 1e-9), 1), n - test - 1)
            begin, middle = n - test - validation, n - test
        else:
            begin, middle = n - 2, n - 1
        if begin:
            rows["train"].append((user, items[:begin]))
        for name, first, behind in (("validation", begin, middle), ("test", middle, n)):
            places = [place for place in range(first, behind) if place]
            which = split.get("targets", "last")
            for place in places if which == "all" else places[-1:] if which == "last" else places[:1]:
                rows[name].append((user, items[: place + 1]))
    return rows


def write_log(path, events):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "timestamp", "rating"), *events])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(EVENTS, OPTIONS, SPLITS)
def test_sequences_and_splits(monkeypatch_module, events, options, split):
    from e4srec_hf.preparation import make_table

    with tempfile.TemporaryDirectory() as temporary:
        log, out = Path(temporary, "x.csv"), Path(temporary, "out")
        write_log(log, events)
        expected = plain_sequences(events, options)
        given_options = {name: value for name, value in options.items() if value is not None}
        table = make_table(rating_column="rating")
        if not expected:
            with pytest.raises(PreparationError, match="records remain"):
                prepare_all(table, [log], out, **given_options, **split)
            return
        wanted = plain_splits(expected, split)
        if wanted is None or not wanted["train"] or (split["split"] == "time" and not all(wanted.values())):
            with pytest.raises(
                PreparationError, match=r"would both start at|No training interactions|Choose other times"
            ):
                prepare_all(table, [log], out, **given_options, **split)
            return
        facts = prepare_all(table, [log], out, **given_options, **split).facts
        items = {user: [item for item, _ in pairs] for user, pairs in expected.items()}
        assert sequences_of(out) == items
        assert list(sequences_of(out)) == list(items)
        assert list(titles_of(out)) == list(dict.fromkeys(item for row in items.values() for item in row))
        assert {name: rows_of(out, name, split["split"]) for name in wanted} == wanted
        check_facts(facts, out, expected, wanted)


def check_facts(facts, out, sequences, splits):
    from datasets import Dataset

    rows = [(user, item) for user, pairs in sequences.items() for item, _ in pairs]
    assert (facts["users"], facts["items"]) == (len(sequences), len({item for _, item in rows}))
    assert facts["interactions"] == len(rows)
    assert facts["longest_history"] == max(map(len, sequences.values()))
    assert facts["splits"] == {name: len(found) for name, found in splits.items()}
    assert facts["users_without_test_target"] == len(set(sequences) - {user for user, _ in splits["test"]})
    trained = {item for _, items in splits["train"] for item in items}
    assert facts["items_not_in_train"] == len({item for _, item in rows} - trained)
    if facts["options"]["repeats"] == "keep":
        assert facts["repeats"] == pytest.approx((len(rows) - len(set(rows))) / len(rows))
    tied = 0
    for user, items in splits["test"]:
        target, time = sequences[user][len(items) - 1]
        tied += any(when == time and item != target for item, when in sequences[user])
    share = tied / len(splits["test"]) if splits["test"] else None
    assert facts["test_targets_in_ties"] == (share if share is None else pytest.approx(share))
    found = sequences_of(out)
    whole = Dataset.from_dict({"user_id": list(found), "item_ids": list(found.values())})
    assert facts["sha256"] == sequences_sha256(whole)


@pytest.fixture(scope="module")
def monkeypatch_module():
    """Small blocks and chunks, so that little logs have many; no picture, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("e4srec_hf.preparation.lines.BLOCK", 64)
        patch.setattr("e4srec_hf.preparation.writing.CHUNK", 5)
        patch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)
        patch.setattr("e4srec_hf.preparation.pipeline.read_chunks", lambda connection: read_chunks(connection, 7))
        yield


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_chunks_are_the_same_however_the_rows_come(batch, monkeypatch):
    rows = {"u": [1] * 5 + [3] * 2 + [4] * 9 + [5] + [6] * 3, "i": list(range(20)), "time": list(range(20))}
    table = pa.table(rows, schema=pa.schema([("u", pa.int32()), ("i", pa.int32()), ("time", pa.int64())]))
    users = pa.table({"name": list("acdef")})

    def stream(connection, query):
        found = users if "name" in query else table
        return pa.RecordBatchReader.from_batches(found.schema, found.to_batches(max_chunksize=batch))

    monkeypatch.setattr(chunks, "_stream", stream)
    found = [(chunk.users.to_pylist(), chunk.lengths.tolist()) for chunk in read_chunks(duckdb.connect(), 7)]
    assert found == [(["a", "c"], [5, 2]), (["d"], [9]), (["e", "f"], [1, 3])]


def test_a_shuffle_of_ties_depends_on_the_seed_and_not_on_the_order_of_the_file(tmp_path):
    events = [("u", f"item{number}", 5, 1) for number in range(20)]
    write_log(tmp_path / "x.csv", events)
    write_log(tmp_path / "y.csv", events[::-1])
    found = {
        (name, seed): sequences_of(tmp_path / f"{name}{seed}")["u"]
        for name in "xy"
        for seed in (0, 1)
        if prepare_all("table", [tmp_path / f"{name}.csv"], tmp_path / f"{name}{seed}", ties="shuffle", ties_seed=seed)
    }
    assert found["x", 0] == found["y", 0] != found["x", 1] == found["y", 1]
    assert sorted(found["x", 0]) == sorted(item for _, item, _, _ in events) != found["x", 0]


def test_time_splits_at_given_moments(tmp_path):
    write_log(
        tmp_path / "x.csv",
        [("u", "a", 10, 1), ("u", "b", 20, 1), ("u", "c", 30, 1), ("v", "a", 25, 1), ("v", "d", 40, 1)],
    )
    facts = prepare_all(
        "table",
        [tmp_path / "x.csv"],
        tmp_path / "out",
        split="time",
        validation_from="1970-01-01T00:00:20",
        test_from="1970-01-01 00:00:30Z",
    ).facts
    assert rows_of(tmp_path / "out", "train", "time") == [("u", ["a"])]
    assert rows_of(tmp_path / "out", "validation", "time") == [("u", ["a", "b"])]
    assert rows_of(tmp_path / "out", "test", "time") == [("u", ["a", "b", "c"]), ("v", ["a", "d"])]
    assert facts["cuts"] == ["1970-01-01T00:00:20Z", "1970-01-01T00:00:30Z"]
    assert facts["items_not_in_train"] == 3
