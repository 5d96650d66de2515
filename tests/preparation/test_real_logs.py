"""Real raw files where they are, against pandas and plain loops."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from e4srec_hf.preparation import PreparationError, make_table, prepare
from tests.preparation.raw_logs import prepare_all, rows_of, sequences_of, times_of, titles_of

RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "raw"
pytestmark = pytest.mark.skipif(not RAW.is_dir(), reason="the raw files are not in ../shared/data/raw")


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """A picture would take most of the time."""
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


def core(log, user_core, item_core):
    """What is left of a table after dropping rare users and items until nothing changes."""
    while True:
        users, items = log["user"].map(log["user"].value_counts()), log["item"].map(log["item"].value_counts())
        left = log[(users >= user_core) & (items >= item_core)]
        if len(left) == len(log):
            return log
        log = left


def sequences(log):
    """User to items by time, ties in the order of the file."""
    by_time = log.sort_values("time", kind="stable")
    return {user: rows["item"].tolist() for user, rows in by_time.groupby("user")}


def test_movielens_100k(tmp_path):
    folder = RAW / "ml-100k"
    log = pd.read_csv(
        folder / "u.data", sep="\t", names=["user", "item", "rating", "time"], dtype={"user": str, "item": str}
    )
    facts = prepare("movielens", folder / "u.data", tmp_path / "out", metadata=folder / "u.item").facts
    expected = sequences(core(log, 5, 5))
    assert sequences_of(tmp_path / "out") == expected
    assert list(sequences_of(tmp_path / "out")) == [user for user in dict.fromkeys(log["user"]) if user in expected]
    assert dict(rows_of(tmp_path / "out", "train")) == {user: items[:-2] for user, items in expected.items()}
    lines = (folder / "u.item").read_bytes().decode("latin-1").splitlines()
    titles = dict(line.split("|")[:2] for line in lines)
    found = titles_of(tmp_path / "out")
    assert found == {item: titles[item] for item in found}
    assert facts["items_with_title"] == facts["items"] == len({item for items in expected.values() for item in items})
    assert facts["rejected"] == {}
    assert facts["titles_cleaned"] == facts["titles_left_out"] == 0
    good = prepare_all("movielens", folder / "u.data", tmp_path / "good", keep={"rating": [4, 5]}).facts
    assert good["interactions"] == int((log["rating"] >= 4).sum())


def test_movielens_100k_with_the_ratings_taken_for_times(tmp_path):
    columns = {"user_column": "1", "item_column": "2", "time_column": "3"}
    with pytest.raises(PreparationError, match=r"u\.data: most times are before 1995-01-01: line 1 has '3'"):
        prepare(make_table(**columns), RAW / "ml-100k" / "u.data", tmp_path / "out")


def test_movielens_latest(tmp_path):
    folder = RAW / "ml-latest-small"
    log = pd.read_csv(folder / "ratings.csv", dtype={"userId": str, "movieId": str})
    log.columns = ["user", "item", "rating", "time"]
    log = core(log[log["rating"] >= 4], 10, 3)
    options = {"min_rating": 4, "user_core": 10, "item_core": 3}
    prepare("movielens", folder / "ratings.csv", tmp_path / "out", metadata=folder / "movies.csv", **options)
    assert sequences_of(tmp_path / "out") == sequences(log)
    assert times_of(tmp_path / "out") == {
        user: rows.sort_values("time", kind="stable")["time"].tolist() for user, rows in log.groupby("user")
    }
    with (folder / "movies.csv").open(encoding="utf-8", newline="") as file:
        titles = {row["movieId"]: row["title"] for row in csv.DictReader(file)}
    assert titles_of(tmp_path / "out") == {item: titles[item] for item in titles_of(tmp_path / "out")}


def test_movielens_latest_in_memory_gives_the_same(tmp_path):
    path = RAW / "ml-latest-small" / "ratings.csv"
    table = make_table(user_column="userId", item_column="movieId")
    prepare(table, path, tmp_path / "file")
    prepare(table, pd.read_csv(path), tmp_path / "frame")
    assert sequences_of(tmp_path / "frame") == sequences_of(tmp_path / "file")


def test_lastfm_with_dates_in_three_columns(tmp_path):
    folder = RAW / "lastfm-hetrec"
    table = make_table(user_column="userID", item_column="artistID", time_column="year,month,day")
    done = prepare(
        table,
        folder / "user_taggedartists.dat",
        tmp_path / "out",
        metadata=folder / "artists.dat",
        metadata_item_column="1",
        metadata_title_column="2",
        time_format="%Y %m %d",
        repeats="first-row",
        negative_times="keep",
    )
    log = pd.read_csv(folder / "user_taggedartists.dat", sep="\t", dtype={"userID": str, "artistID": str})
    log["time"] = log["year"] * 10_000 + log["month"] * 100 + log["day"]
    log = log.rename(columns={"userID": "user", "artistID": "item"}).drop_duplicates(["user", "item"])
    expected = sequences(core(log, 5, 5))
    assert sequences_of(tmp_path / "out") == expected
    assert done.facts["interactions"] == sum(map(len, expected.values()))
    names = {}
    for line in (folder / "artists.dat").read_text(encoding="utf-8", errors="strict").split("\n"):
        if line:
            item, name = line.split("\t")[:2]
            names.setdefault(item, name)
    quoted = [item for item, name in names.items() if name.startswith('"')]  # a table may have quoted fields
    assert done.facts["rejected"] == {"unclosed or misplaced quotes": len(quoted)}
    found = titles_of(tmp_path / "out")
    assert found == {item: None if item in quoted else names.get(item) for item in found}


def test_lastfm_by_days_is_as_large_as_the_public_file(tmp_path):
    folder = RAW / "lastfm-hetrec"
    log, artists = folder / "user_taggedartists.dat", folder / "artists.dat"
    facts = prepare("lastfm-hetrec-days", log, tmp_path / "out", metadata=artists, preset="s3rec").facts
    assert (facts["users"], facts["items"], facts["interactions"]) == (1090, 3646, 52551)
    assert facts["items_with_title"] > 3600


def test_lastfm_in_the_order_of_the_file(tmp_path):
    path = RAW / "lastfm-hetrec" / "user_taggedartists.dat"
    prepare_all(make_table(user_column="userID", item_column="artistID", time_column=None), path, tmp_path / "out")
    expected = {}
    with path.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            user, item = line.split("\t")[:2]
            expected.setdefault(user, []).append(item)
    assert sequences_of(tmp_path / "out") == expected
