"""Each source: a small file in its raw format, with its traps in it, becomes exactly the expected sequences."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e4srec_hf.preparation import SOURCES, PreparationError, make_table
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of, times_of, titles_of

MISSING = {"no user", "no item", "no time"}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """A picture would take most of the time."""
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


def lines(*records):
    return "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records) + "\n"


def review(user, item, time, **more):
    return {
        "reviewerID": user,
        "asin": item,
        "overall": 5.0,
        "unixReviewTime": time,
        "reviewText": 'He said: "x, y"',
    } | more


def test_amazon_2014(tmp_path):
    raw, meta = tmp_path / "reviews_X_5.json.gz", tmp_path / "meta_X.json.gz"
    raw.write_bytes(
        gzip.compress(
            lines(
                "broken from the start",
                review("u1", "b", 20),
                review("u2", "a", 5),
                str(review("u1", "a", 10, reviewText="it's a Python literal", helpful=[1, 2], verified=None)),
                "",
                review("u1", "c", 1389000000000),  # in ms
                '{"reviewerID": "u1", "asin": "cut',
                review("", "a", 10),
                review("u1", None, 10),
                review("u1", "x", "yesterday"),
                review("u1", "x", -5),
                review("u1", "x", 4_000_000_000),
                "__import__('os').system('true')",
                '["u1", "x", 5]',
                review("u 3", "[PAD]", 5),
                review("u 3", "é日", 5),
            ).encode()
        )
    )
    meta.write_bytes(
        gzip.compress(
            lines(
                {"asin": "a", "title": "An apple"},
                "{'asin': 'b', 'title': 'Bear\\'s', 'categories': [['x']]}",
                {"asin": "c"},
                {"asin": "a", "title": "Another"},
                {"asin": "unread", "title": "Dust"},
            ).encode()
        )
    )
    done = prepare_all("amazon-2014", [raw], tmp_path / "out", metadata=meta)
    assert sequences_of(tmp_path / "out") == {"u1": ["a", "b", "c"], "u2": ["a"], "u 3": ["é日"]}
    assert times_of(tmp_path / "out")["u1"] == [10, 20, 1389000000]
    assert titles_of(tmp_path / "out") == {"a": "An apple", "b": "Bear's", "c": None, "é日": None}
    assert rejected_of(tmp_path / "out") == [
        (1, "not a JSON object"),
        (7, "not a JSON object"),
        (8, "no user"),
        (9, "no item"),
        (10, "unreadable time"),
        (11, "time before 1970"),
        (12, "time in the future"),
        (13, "not a JSON object"),
        (14, "not a JSON object"),
        (15, "reserved item id: [PAD] or [UNK]"),
    ]
    assert sum(done.facts["rejected"].values()) == 10
    assert done.facts["steps"][0] == {"step": "reading", "rows_in": 15, "rows_out": 5}


@pytest.mark.parametrize(
    ("source", "row"), [("amazon-2014", "{user},{item},5.0,{time}"), ("amazon-2018", "{item},{user},5.0,{time}")]
)
def test_amazon_ratings_without_a_header(source, row, tmp_path):
    raw = tmp_path / "ratings.csv"
    events = [("u1", "b", 20), ("u2", "a", 5), ("u1", "a", 10)]
    raw.write_text("".join(row.format(user=u, item=i, time=t) + "\r\n" for u, i, t in events) + "u9,i9\r\n")
    prepare_all(source, [raw], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u1": ["a", "b"], "u2": ["a"]}
    assert rejected_of(tmp_path / "out") == [(4, "expected 4 fields")]


def test_amazon_2018_in_two_files_of_json(tmp_path):
    first, second = tmp_path / "All_Beauty.json.bz2", tmp_path / "Movies.json.xz"
    first.write_bytes(bz2.compress(lines(review("u1", "b", 7, vote="1,004"), review("u2", "a", 7)).encode()))
    second.write_bytes(lzma.compress(lines(review("u1", "a", 7, style={"Size:": " S"}), review("u1", "a", 3)).encode()))
    prepare_all("amazon-2018", [first, second], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u1": ["a", "b", "a"], "u2": ["a"]}  # a tie: the first file goes first
    prepare_all("amazon-2018", [second, first], tmp_path / "again")
    assert sequences_of(tmp_path / "again") == {"u1": ["a", "a", "b"], "u2": ["a"]}


def test_amazon_2023_as_csv_and_as_json(tmp_path):
    table, raw = tmp_path / "x.csv", tmp_path / "x.jsonl"
    table.write_bytes(
        b"\xef\xbb\xbfuser_id,parent_asin,rating,timestamp,history\n"
        b"u1,b,5.0,1600000000001,a c\n"
        b"user_id,parent_asin,rating,timestamp,history\n"
        b"u1,a,4.0,1600000000000,\n"
    )
    prepare_all("amazon-2023", [table], tmp_path / "csv")
    assert sequences_of(tmp_path / "csv") == {"u1": ["a", "b"]}  # a millisecond apart
    assert times_of(tmp_path / "csv") == {"u1": [1600000000, 1600000000]}
    assert rejected_of(tmp_path / "csv") == [(3, "repeated header")]
    raw.write_text(
        lines(
            {"user_id": "u1", "parent_asin": "p", "asin": "a", "timestamp": 1600000000001, "title": "Nice"},
            {"user_id": "u1", "asin": "a", "timestamp": 1600000000000},
        )
    )
    prepare_all("amazon-2023", [raw], tmp_path / "json")
    assert sequences_of(tmp_path / "json") == {"u1": ["p"]}
    assert rejected_of(tmp_path / "json") == [(2, "no item")]
    assert titles_of(tmp_path / "json") == {"p": None}  # the title in the log is that of the review


def test_yelp_and_the_slice_of_the_paper(tmp_path):
    raw, business = tmp_path / "review.json", tmp_path / "business.json"

    def visit(user, item, date, stars=4.0):
        return {"user_id": user, "business_id": item, "stars": stars, "date": date, "text": "…"}

    raw.write_text(
        lines(
            visit("u1", "late", "2019-12-31 00:00:00"),
            visit("u1", "too late", "2019-12-31 00:00:01"),
            visit("u1", "early", "2019-01-01 00:00:00"),
            visit("u1", "too early", "2018-12-31 23:59:59"),
            visit("u1", "late", "2019-05-05 10:00:00"),
        )
    )
    business.write_text(lines({"business_id": "late", "name": "The Late", "categories": "A, B"}))
    prepare_all("yelp", [raw], tmp_path / "out", preset="s3rec", metadata=business)
    assert sequences_of(tmp_path / "out") == {"u1": ["early", "late", "late"]}
    assert titles_of(tmp_path / "out") == {"early": None, "late": "The Late"}


def test_lastfm_hetrec_as_s3rec_takes_it(tmp_path):
    raw, artists = tmp_path / "user_taggedartists-timestamps.dat", tmp_path / "artists.dat"
    rows = [
        (2, 52, 13, 1238536800000),
        (2, 52, 15, 1138536800000),  # another tag of the artist: only the first row of the file counts
        (2, 63, 13, 1238536800000),
        (2, 70, 13, -428720400000),
        (3, 52, 13, 1000),
    ]
    raw.write_text(
        "userID\tartistID\ttagID\ttimestamp\r\n" + "".join("\t".join(map(str, row)) + "\r\n" for row in rows)
    )
    artists.write_bytes(
        'id\tname\turl\tpictureURL\n52\tBjörk "live"\thttp://x\t\n63\tMot'.encode() + b"\xf6rhead\tx\t\n"
    )
    prepare_all("lastfm-hetrec", [raw], tmp_path / "out", preset="s3rec", metadata=artists)
    assert sequences_of(tmp_path / "out") == {"2": ["70", "52", "63"], "3": ["52"]}
    assert times_of(tmp_path / "out") == {"2": [-428720400, 1238536800, 1238536800], "3": [1]}
    assert titles_of(tmp_path / "out") == {"70": None, "52": 'Björk "live"', "63": "Motörhead"}
    prepare_all("lastfm-hetrec", [raw], tmp_path / "plain")
    assert sequences_of(tmp_path / "plain") == {"2": ["52", "52", "63"], "3": ["52"]}
    assert rejected_of(tmp_path / "plain") == [(5, "time before 1970")]


def test_lastfm_hetrec_by_days(tmp_path):
    raw, artists = tmp_path / "user_taggedartists.dat", tmp_path / "artists.dat"
    rows = [
        (2, 63, 13, 2, 4, 2009),
        (2, 52, 13, 1, 4, 2009),
        (2, 52, 15, 1, 4, 2009),  # another tag of the artist on the same day
        (2, 52, 15, 10, 4, 2009),  # the artist again, on another day
        (3, 52, 13, 31, 12, 2010),
        (3, 63, 13, 31, 2, 2010),
        (3, 70, 13, 1, 1, 1956),
        (3, 63, 13, "", 2, 2010),
    ]
    fields = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    raw.write_text("userID\tartistID\ttagID\tday\tmonth\tyear\n" + fields)
    artists.write_text('id\tname\turl\tpictureURL\n52\t"Björk"\thttp://x\t\n63\tA\tx\t\n', encoding="utf-8")
    done = prepare_all("lastfm-hetrec-days", [raw], tmp_path / "out", metadata=artists)
    assert sequences_of(tmp_path / "out") == {"2": ["52", "63", "52"], "3": ["52"]}
    assert times_of(tmp_path / "out") == {"2": [1238544000, 1238630400, 1239321600], "3": [1293753600]}
    assert titles_of(tmp_path / "out") == {"52": '"Björk"', "63": "A"}
    assert rejected_of(tmp_path / "out") == [(7, "unreadable time"), (8, "time before 1970"), (9, "no time")]
    assert done.facts["repeats"] == 1 / 4
    raw.write_text(fields)  # without a header
    prepare_all("lastfm-hetrec-days", [raw], tmp_path / "first", preset="s3rec", user_core=0, item_core=0)
    assert sequences_of(tmp_path / "first") == {"2": ["52", "63"], "3": ["70", "52"]}
    raw.write_text("userID\tartistID\ttagID\tday\tmonth\tyear\n" + fields)
    with pytest.raises(PreparationError, match=r"has no column 'timestamp'.* is of the source lastfm-hetrec-days"):
        prepare_all("lastfm-hetrec", [raw], tmp_path / "wrong")


@pytest.mark.parametrize("ties", ["file", "item"])
def test_repeats_at_the_same_time_are_one(ties, tmp_path):
    raw = tmp_path / "x.csv"
    events = [("u", "b", 5), ("u", "a", 5), ("u", "b", 5), ("u", "b", 6), ("v", "b", 5), ("v", "b", 5)]
    raw.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in events))
    done = prepare_all("table", [raw], tmp_path / "out", repeats="distinct", ties=ties)
    first = ["b", "a"] if ties == "file" else ["a", "b"]
    assert sequences_of(tmp_path / "out") == {"u": [*first, "b"], "v": ["b"]}
    assert done.facts["steps"][-1] == {"step": "repeats: distinct", "rows_in": 6, "rows_out": 4}
    with pytest.raises(PreparationError, match="repeats: without times"):
        prepare_all(make_table(time_column=None), [raw], tmp_path / "no_times", repeats="distinct")


def test_lastfm_1k_falls_back_to_the_name(tmp_path):
    raw = tmp_path / "userid-timestamp-artid-artname-traid-traname.tsv"
    raw.write_text(
        'user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep "Dish"\t\tFuck Me Im Famous\n'
        "user_000001\t2009-05-04T13:54:10Z\t\t坂本龍一\t\tComposition 0919\n"
        "user_000001\t2009-05-04T13:54:10Z\t\t\t\tnobody\n"
        "user_000001\t2009-05-04T13:06:09+02:00\tf1b1cf71\tDeep Dish\t\tx\n",
        encoding="utf-8",
    )
    prepare_all("lastfm-1k", [raw], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"user_000001": ["f1b1cf71", "坂本龍一", "f1b1cf71"]}
    assert titles_of(tmp_path / "out") == {"f1b1cf71": 'Deep "Dish"', "坂本龍一": "坂本龍一"}
    assert rejected_of(tmp_path / "out") == [(3, "no item")]


RETAIL = [
    ("536365", "85123A", 'WHITE "HEART", CREAM', 6, "12/1/2010 8:26", 2.55, "17850", "United Kingdom"),
    ("536366", "22633", "HAND\nWARMER", 6, "12/1/2010 8:28", 1.85, "17850", "United Kingdom"),
    ("C536379", "D", "Discount", -1, "12/1/2010 9:41", 27.5, "14527", "United Kingdom"),
    ("536365", "71053", "LANTERN £", 6, "12/1/2010 8:26", 3.39, "17850", "United Kingdom"),
    ("536414", "22139", "", 56, "12/1/2010 11:52", 0, "", "United Kingdom"),
]
RETAIL_HEADER = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)


@pytest.fixture(params=["csv", "xlsx"])
def retail(request, tmp_path):
    if request.param == "csv":
        import csv

        raw = tmp_path / "data.csv"
        with raw.open("w", newline="", encoding="cp1252") as file:
            csv.writer(file).writerows([RETAIL_HEADER, *RETAIL])
        return raw
    from datetime import datetime

    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(RETAIL_HEADER)
    for invoice, stock, text, quantity, date, price, customer, country in RETAIL:
        number = int(invoice) if invoice.isdecimal() else invoice
        when = datetime.strptime(date, "%m/%d/%Y %H:%M")
        book.active.append(
            (number, stock, text or None, quantity, when, price, float(customer) if customer else None, country)
        )
    book.save(tmp_path / "Online Retail.xlsx")
    return tmp_path / "Online Retail.xlsx"


def test_online_retail_by_customer_and_by_invoice(retail, tmp_path):
    done = prepare_all("online-retail", [retail], tmp_path / "customer")
    assert sequences_of(tmp_path / "customer") == {"17850": ["85123A", "71053", "22633"]}
    assert times_of(tmp_path / "customer") == {"17850": [1291191960, 1291191960, 1291192080]}
    assert titles_of(tmp_path / "customer")["71053"] == "LANTERN £"
    assert titles_of(tmp_path / "customer")["22633"] == "HAND\nWARMER"
    assert [step["step"] for step in done.facts["steps"][1:3]] == ["cancelled invoices", "rows without a customer"]
    assert done.facts["rejected"] == {}
    done = prepare_all("online-retail", [retail], tmp_path / "invoice", owner="invoice")
    assert sequences_of(tmp_path / "invoice") == {
        "536365": ["85123A", "71053"],
        "536366": ["22633"],
        "536414": ["22139"],
    }


def test_movielens_dat_csv_and_tab(tmp_path):
    events = [(1, 1193, 5, 978300760), (1, 661, 3, 978302109), (2, 1193, 4, 978300759), (1, 914, 3, 978300761)]
    files = {"ratings.dat": "::", "u.data": "\t", "ratings.csv": ","}
    movies = tmp_path / "movies.dat"
    movies.write_bytes("1193::Les Misérables (1995)::Drama|Musical\n661::A :B\n".encode("latin-1"))
    for name, separator in files.items():
        header = "userId,movieId,rating,timestamp\n" if name.endswith("csv") else ""
        (tmp_path / name).write_text(header + "".join(separator.join(map(str, event)) + "\n" for event in events))
        out = tmp_path / name.replace(".", "_")
        prepare_all("movielens", [tmp_path / name], out, metadata=movies, min_rating=3.5)
        assert sequences_of(out) == {"1": ["1193"], "2": ["1193"]}
        assert titles_of(out) == {"1193": "Les Misérables (1995)"}
        assert rejected_of(out) == [(2, "expected 3 fields")]
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n1193,"One ""Flew"", Over",Drama\n')
    prepare_all("movielens", [tmp_path / "ratings.csv"], tmp_path / "out", metadata=tmp_path / "movies.csv")
    assert sequences_of(tmp_path / "out") == {"1": ["1193", "914", "661"], "2": ["1193"]}
    assert titles_of(tmp_path / "out") == {"1193": 'One "Flew", Over', "914": None, "661": None}


def test_reference_text(tmp_path):
    raw = tmp_path / "x.txt"
    raw.write_bytes("\ufeff1 5  é 5\r\n2\t7 8 \n\n3\n1 9\n4 [UNK] 6\n5 6 \xff".encode()[:-2] + b"\xff\n")
    done = prepare_all("text", [raw], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"1": ["5", "é", "5"], "2": ["7", "8"], "4": ["6"]}
    assert list(titles_of(tmp_path / "out")) == ["5", "é", "7", "8", "6"]
    assert rejected_of(tmp_path / "out") == [
        (4, "user without items"),
        (5, "duplicate user"),
        (6, "reserved item id: [PAD] or [UNK]"),
        (7, "bytes invalid in the encoding (name another with --encoding)"),
    ]
    assert pq.read_schema(tmp_path / "out" / "sequences.parquet").names == ["user_id", "item_ids"]
    assert done.facts["test_targets_in_ties"] is None
    with pytest.raises(PreparationError, match="has no times"):
        prepare_all("text", [raw], tmp_path / "time", split="time")


def test_reference_text_in_two_files(tmp_path):
    (tmp_path / "1.txt").write_text("u a b c\nv d\n")
    (tmp_path / "2.txt").write_text("w e\nu f g\n")
    prepare_all("text", [tmp_path / "1.txt", tmp_path / "2.txt"], tmp_path / "out")
    assert list(sequences_of(tmp_path / "out").items()) == [("u", ["a", "b", "c"]), ("v", ["d"]), ("w", ["e"])]
    assert list(titles_of(tmp_path / "out")) == list("abcde")
    assert rejected_of(tmp_path / "out") == [(2, "duplicate user")]


def test_ids_in_json_are_texts_or_whole_numbers_as_they_stand(tmp_path):
    kept = ['"x"', "5", "12345678901234567890", "123456789012345678901234567890", '"2021-01-05"', '"1.0"', '"007"']
    lost = ["5.0", "1e5", "7.5", "NaN"]
    other = ['["x"]', '{"$oid": "x"}', "true", "null", '"\u3000"']
    lines = [f'{{"user_id": "u", "item_id": {value}, "timestamp": 1}}\n' for value in (*kept, *lost, *other)]
    (tmp_path / "x.jsonl").write_text("".join(lines))
    prepare_all("table", [tmp_path / "x.jsonl"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": [value.strip('"') for value in kept]}
    fraction = "an id is a floating-point number; expected text or a whole number"
    reasons = [fraction] * len(lost) + ["no item"] * len(other)
    assert rejected_of(tmp_path / "out") == list(enumerate(reasons, start=len(kept) + 1))


def test_ids_in_parquet_are_texts_or_whole_numbers(tmp_path):
    def items_of(values, **options):
        pq.write_table(pa.table({"user_id": ["u"] * 2, "item_id": values, "timestamp": [1, 2]}), tmp_path / "x.parquet")
        prepare_all("table", [tmp_path / "x.parquet"], tmp_path / "out", overwrite=True)
        return sequences_of(tmp_path / "out")["u"]

    assert items_of(pa.array([2**63, 5], pa.uint64())) == [str(2**63), "5"]
    assert items_of(pa.array([-7, None])) == ["-7"]
    assert items_of(pa.array(["a", "b"]).dictionary_encode()) == ["a", "b"]
    assert items_of(pa.array([b"a", b"b"], pa.large_binary()).cast(pa.large_string())) == ["a", "b"]
    no_ids = [pa.array([["a"], ["b"]]), pa.array([{"x": 1}] * 2), pa.array([True, False]), pa.array([b"a", b"b"])]
    for values in [*no_ids, pa.array([5.0, 7.0]), pa.array([1, 2], pa.timestamp("s")), pa.array([1, 2], pa.date32())]:
        with pytest.raises(PreparationError, match=r"column 'item_id' is no column of ids: it holds"):
            items_of(values)


CONTROLS = ["\x00", "a\x00b", "a\tb", "a\x1b", "a\x7f", "a\x85"]


def test_control_characters_in_ids_are_bad_records(tmp_path):
    rows = [("u", "ok", 1), *(("u", item, 2) for item in CONTROLS), *((user, "i", 3) for user in CONTROLS)]
    (tmp_path / "x.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    (tmp_path / "x.jsonl").write_text(
        "".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t}) + "\n" for u, i, t in rows)
    )
    names = ["user_id", "item_id", "timestamp"]
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), tmp_path / "x.parquet")
    bad = [(place, "control characters in an id") for place in range(2, len(rows) + 1)]
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        prepare_all("table", [tmp_path / name], tmp_path / f"{name}.out")
        assert sequences_of(tmp_path / f"{name}.out") == {"u": ["ok"]}
        shift = int(name == "x.csv")
        assert rejected_of(tmp_path / f"{name}.out") == [(line + shift, reason) for line, reason in bad]
    (tmp_path / "x.txt").write_text("u ok a\x00b\nv\x1b ok\n")
    prepare_all("text", [tmp_path / "x.txt"], tmp_path / "text")
    assert sequences_of(tmp_path / "text") == {"u": ["ok"]}
    assert [reason for _, reason in rejected_of(tmp_path / "text")] == ["control characters in an id"] * 2


def test_a_header_is_left_out_by_its_line_and_nothing_else(tmp_path):
    raw = tmp_path / "x.csv"
    raw.write_text('  \nuser_id,item_id,timestamp,"no"te\nu,a,1,x\nu,b,2,"y"\n')
    prepare_all("table", [raw], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a", "b"]}
    assert rejected_of(tmp_path / "out")[0][0] == 1


def test_long_separators_and_quotes(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::10::5::1\n1::11::5::2\n")
    for name, title in (("movies1.dat", '10::"Great" Cats::Drama\n'), ("movies2.dat", '10::Cats"::x\n11::Dogs::y\n')):
        (tmp_path / name).write_text(title)
    done = prepare_all("movielens", [tmp_path / "ratings.dat"], tmp_path / "out", metadata=tmp_path / "movies*.dat")
    assert titles_of(tmp_path / "out") == {"10": '"Great" Cats', "11": "Dogs"}
    assert len(done.facts["metadata"]) == 2


TABLE = [("u 1", "b", 1577836800), ("u 1", "a", 1577836799), ("u 2", "日本", 1577836801)]


def test_a_table_in_many_formats(tmp_path):
    table = make_table(user_column="who", item_column="what is it", time_column="When")
    expected = {"u 1": ["a", "b"], "u 2": ["日本"]}
    names = ["who", "what is it", "When"]
    columns = dict(zip(names, map(list, zip(*TABLE, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    pq.write_table(
        pa.table(columns | {"When": pa.array([t * 10**9 for t in columns["When"]], pa.timestamp("ns"))}),
        tmp_path / "timestamps.parquet",
    )
    (tmp_path / "x.jsonl").write_text(
        "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in TABLE), encoding="utf-8"
    )
    for separator in ",;|":
        text = "\n".join(separator.join(map(str, row)) for row in [names, *TABLE])
        (tmp_path / f"{ord(separator)}.csv").write_text(text, encoding="utf-8")  # no line break at the end
    (tmp_path / "utf16.csv").write_text(
        "\n".join(",".join(map(str, row)) for row in [names, *TABLE]), encoding="utf-16"
    )
    for file in ("x.parquet", "timestamps.parquet", "x.jsonl", "44.csv", "59.csv", "124.csv", "utf16.csv"):
        prepare_all(table, [tmp_path / file], tmp_path / f"{file}.out")
        assert sequences_of(tmp_path / f"{file}.out") == expected, file
        assert rejected_of(tmp_path / f"{file}.out") == []


def test_a_table_without_a_header_by_number(tmp_path):
    raw = tmp_path / "x.csv"
    raw.write_text("5,x,u1,b\n4,x,u1,a\n")
    prepare_all(make_table(user_column="3", item_column="4", time_column="1"), [raw], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u1": ["a", "b"]}
    with pytest.raises(PreparationError, match="4 columns, but column 5 was requested"):
        prepare_all(make_table(user_column="5", item_column="4", time_column="1"), [raw], tmp_path / "more")


def test_an_encoding_is_said_and_a_wrong_one_is_counted(tmp_path):
    raw = tmp_path / "x.csv"
    raw.write_bytes("user_id,item_id,timestamp\né,è,5\nu,i,6\n".encode("latin-1"))
    prepare_all("table", [raw], tmp_path / "latin", encoding="latin-1")
    assert sequences_of(tmp_path / "latin") == {"é": ["è"], "u": ["i"]}
    prepare_all("table", [raw], tmp_path / "utf8")
    assert sequences_of(tmp_path / "utf8") == {"u": ["i"]}
    assert rejected_of(tmp_path / "utf8") == [(2, "bytes invalid in the encoding (name another with --encoding)")]


@pytest.mark.parametrize(
    ("moment", "unit", "seconds"),
    [
        ("1_000", "auto", None),
        ("epoch", "auto", None),
        ("1577836800", "auto", 1577836800),
        ("1577836800.9", "auto", 1577836800),
        ("1577836800123", "auto", 1577836800),
        ("1577836800123456", "auto", 1577836800),
        ("1577836800123456789", "auto", 1577836800),
        ("5000", "ms", 5),
        ("1577836800123456789", "ns", 1577836800),
        ("2020-01-01", "auto", 1577836800),
        ("2020-01-01T02:00:00+02:00", "auto", 1577836800),
        ("2020-01-01 00:00:00.5", "auto", 1577836800),
        ("nan", "auto", None),
        ("inf", "auto", None),
        ("2020-13-01", "auto", None),
        ("", "auto", None),
        ("1577836800123", "s", None),
    ],
)
def test_times(moment, unit, seconds, tmp_path):
    raw = tmp_path / "x.csv"
    raw.write_text(f"user_id,item_id,timestamp\nu,i,{moment}\nother,i,5\n")
    prepare_all("table", [raw], tmp_path / "out", time_unit=unit)
    assert times_of(tmp_path / "out").get("u") == (None if seconds is None else [seconds])


def test_nanoseconds_apart_keep_their_order_to_the_microsecond(tmp_path):
    raw = tmp_path / "x.csv"
    raw.write_text("user_id,item_id,timestamp\nu,b,1577836800000002000\nu,a,1577836800000001999\n")
    done = prepare_all("table", [raw], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a", "b"]}
    assert done.facts["test_targets_in_ties"] is None  # no user has three items


def test_every_source_says_what_it_is():
    assert all(name == source.name and source.about for name, source in SOURCES.items())
