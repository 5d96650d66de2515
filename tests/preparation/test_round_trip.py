"""The public sequence files, expanded into raw logs in shuffled order, come back as the same sequences."""

import gzip
import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from e4srec_hf.preparation import prepare
from tests.preparation.raw_logs import sequences_of

DATA = Path(__file__).parents[3] / "shared" / "data"
#: Users, items, interactions.
SIZES = {"Beauty": (22_363, 12_101, 198_502), "Yelp": (30_431, 20_033, 316_354), "LastFM": (1_090, 3_646, 52_551)}


def amazon(user, item, second):
    return {"reviewerID": user, "asin": item, "overall": 4.0, "unixReviewTime": second, "reviewText": 'a "b", c'}


def yelp(user, item, second):
    date = (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S")
    return {"review_id": str(second), "user_id": user, "business_id": item, "stars": 3.0, "date": date}


def lastfm(user, item, second):
    return f"{user}\t{item}\t{second % 100}\t{second * 1000}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "event"),
    [("Beauty", "amazon-2014", amazon), ("Yelp", "yelp", yelp), ("LastFM", "lastfm-hetrec", lastfm)],
)
def test_round_trip(name, source, event, tmp_path):
    file = DATA / f"{name}.txt"
    if not file.is_file():
        pytest.skip(f"{name}.txt is not here")
    expected = {user: items for user, *items in map(str.split, file.read_text().splitlines())}
    pairs = [(user, item) for user, items in expected.items() for item in items]
    start = int(datetime(2019, 1, 2, tzinfo=timezone.utc).timestamp())
    events = [event(user, item, start + second) for second, (user, item) in enumerate(pairs)]
    random.Random(0).shuffle(events)
    lines = [line if isinstance(line, str) else json.dumps(line) for line in events]
    header = ["userID\tartistID\ttagID\ttimestamp"] if name == "LastFM" else []
    raw = tmp_path / "raw.gz"
    raw.write_bytes(gzip.compress("\n".join(header + lines).encode(), 1))
    facts = prepare(source, [raw], tmp_path / "out", preset="s3rec").facts
    assert sequences_of(tmp_path / "out") == expected
    assert (facts["users"], facts["items"], facts["interactions"]) == SIZES[name]
    assert facts["rejected"] == {}
    assert (facts["repeats"] > 0) == (name == "Yelp")
    again = prepare("text", [file], tmp_path / "text").facts
    assert list(sequences_of(tmp_path / "text").items()) == list(expected.items())
    assert (again["users"], again["items"], again["interactions"]) == SIZES[name]
