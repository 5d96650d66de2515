"""What a file is, from its first lines: read as that, or refused by name."""

import json
import zipfile

import pytest

from e4srec_hf.preparation import PreparationError, make_table
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of, titles_of

NUMBERED = make_table(user_column="1", item_column="2", time_column="3")
ROWS = [("u", "b", 200), ("u", "a", 100), ("v", "b", 300)]
EXPECTED = {"u": ["a", "b"], "v": ["b"]}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def text_of(separator, end="\n", header=True):
    rows = [("user_id", "item_id", "timestamp")] * header + ROWS
    return "".join(separator.join(map(str, row)) + end for row in rows)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("separator", [" ", "   ", "\t", "|", "::", ";"])
def test_separators_are_detected(separator, header, tmp_path):
    log = written(tmp_path / "log.txt", text_of(separator, header=header))
    prepare_all("table" if header else NUMBERED, [log], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == EXPECTED
    assert rejected_of(tmp_path / "out") == []


def test_blanks_separate_only_where_nothing_else_does(tmp_path):
    aligned = '  user_id   item_id  timestamp\n u  "item b"  200 \n u   a   100\n'
    prepare_all("table", [written(tmp_path / "x.txt", aligned)], tmp_path / "aligned")
    assert sequences_of(tmp_path / "aligned") == {"u": ["a"]}  # a quote and a blank at the end of the line
    assert rejected_of(tmp_path / "aligned") == [(2, "expected 3 fields")]
    prepare_all(NUMBERED, [written(tmp_path / "x.tsv", "u 1\ta b c\t5\nu 1\td\t4\n")], tmp_path / "tabs")
    assert sequences_of(tmp_path / "tabs") == {"u 1": ["d", "a b c"]}


@pytest.mark.parametrize("header", [True, False])
def test_an_unusual_separator_is_asked_for(header, tmp_path):
    log = written(tmp_path / "log.txt", text_of("^", header=header))
    with pytest.raises(PreparationError, match="name it with --separator"):
        prepare_all("table" if header else NUMBERED, [log], tmp_path / "out")


@pytest.mark.parametrize("last", ["", "\r", "\n", "\r\n"])
def test_lines_that_end_with_a_carriage_return(last, tmp_path):
    log = written(tmp_path / "log.csv", text_of(",", "\r").rstrip("\r") + last)
    prepare_all("table", [log], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == EXPECTED
    assert rejected_of(tmp_path / "out") == []


def reviews(count=3):
    return [{"reviewerID": "u", "asin": f"i{n}", "unixReviewTime": 100 - n, "note": '[{"x"}],\n'} for n in range(count)]


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_an_array_of_objects_is_read_as_its_elements(layout, tmp_path):
    log = written(tmp_path / "log.json", "\ufeff" + json.dumps(reviews(), **layout))
    prepare_all("amazon-2018", [log], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["i2", "i1", "i0"]}
    mixed = written(tmp_path / "mixed.json", json.dumps([reviews()[0], 5, None, {"asin": "x"}]))
    prepare_all("amazon-2018", [mixed], tmp_path / "mixed")
    assert rejected_of(tmp_path / "mixed") == [(2, "not a JSON object"), (3, "not a JSON object"), (4, "no user")]


def test_an_array_that_cannot_be_read_is_refused_where_it_breaks(tmp_path):
    whole = json.dumps(reviews(4))
    breaks = {
        whole[:-1]: "ends after element 4 without its closing bracket",
        whole[:-5]: "element 4 of the JSON array cannot be read",
        whole.replace("i2", 'i2" "'): "element 3 of the JSON array cannot be read",
        '[{"a": ' + "[" * 100_000: "element 1 of the JSON array cannot be read: it is nested too deeply",
        json.dumps([{"a": "x" * 2_000_000}]): "element 1 of the JSON array cannot be read: it has more than 1,048,576",
    }
    for text, message in breaks.items():
        with pytest.raises(PreparationError, match=rf"log\.json: .*{message}"):
            prepare_all("amazon-2018", [written(tmp_path / "log.json", text)], tmp_path / "out")


def test_json_of_another_source_shows_its_keys(tmp_path):
    visits = "".join(json.dumps({"user_id": "u", "business_id": n, "date": "2020-01-01"}) + "\n" for n in range(3))
    log = written(tmp_path / "log.json", visits)
    message = r"has no key 'reviewerID', 'asin', 'unixReviewTime'\. Its keys are \['user_id', 'business_id', 'date'\]"
    with pytest.raises(PreparationError, match=message):
        prepare_all("amazon-2014", [log], tmp_path / "out")
    wrapped = written(tmp_path / "wrapped.json", json.dumps({"reviews": reviews()}))
    with pytest.raises(PreparationError, match=r"Its keys are \['reviews'\]"):
        prepare_all("amazon-2014", [wrapped], tmp_path / "out")


def test_a_key_that_comes_late_is_no_missing_key(tmp_path):
    rows = [{"item_id": n, "timestamp": n} for n in range(60)] + [{"user_id": "u", "item_id": "a", "timestamp": 1}]
    log = written(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    prepare_all("table", [log], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a"]}
    assert len(rejected_of(tmp_path / "out")) == 60


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("amazon-2018", "UserId,ItemId,rating,timestamp\nA000000000000,B000000000,5.0,1300000000\n"),
        ("amazon-2014", "user,item,rating,time\nx,y,5.0,1300000000\n"),
        ("amazon-2014", "user_id,parent_asin,rating,timestamp\nx,y,5.0,1300000000\n"),
        ("movielens", "user::item::stars::when\n1::2::3::4\n"),
        ("movielens", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n"),
        ("lastfm-1k", "user\twhen\tid\tname\ttid\ttname\nu\t2009-05-04T23:08:57Z\ta\tA\tt\tT\n"),
    ],
)
def test_a_header_of_something_else_is_no_record(source, text, tmp_path):
    log = written(tmp_path / "log.csv", text + text.splitlines()[1] + "\n")
    with pytest.raises(PreparationError, match=r"log\.csv (starts with the header|has no column)"):
        prepare_all(source, [log], tmp_path / "out")


def test_a_header_of_something_else_in_a_file_of_items(tmp_path):
    log = written(tmp_path / "ratings.dat", "1::10::5::100\n")
    items = written(tmp_path / "movies.dat", "id::name::kind\n10::Ten::x\n11::Eleven::y\n")
    with pytest.raises(PreparationError, match=r"movies\.dat starts with the header"):
        prepare_all("movielens", [log], tmp_path / "out", metadata=items)


def test_ratings_of_another_year_are_not_read_the_wrong_way_round(tmp_path):
    pairs = [("A39HTATAQ9V7YF", "0205616461"), ("A3JM6GV9MNOF9X", "B00000JGVX"), ("#oc-R1ZJ", "055850696X")]
    user_first = written(tmp_path / "2014.csv", "".join(f"{u},{i},5.0,{n}\n" for n, (u, i) in enumerate(pairs)))
    item_first = written(tmp_path / "2018.csv", "".join(f"{i},{u},5.0,{n}\n" for n, (u, i) in enumerate(pairs)))
    expected = {user: [item] for user, item in pairs}
    for source, right, wrong in (
        ("amazon-2014", user_first, item_first),
        ("amazon-2018", item_first, user_first),
        ("amazon-2023", user_first, item_first),
    ):
        prepare_all(source, [right], tmp_path / source)
        assert sequences_of(tmp_path / source) == expected
        with pytest.raises(PreparationError, match="its columns are"):
            prepare_all(source, [wrong], tmp_path / "out")


def test_recbole_files(tmp_path):
    folder = tmp_path / "ml"
    folder.mkdir()
    written(
        folder / "ml.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4.0\t200\n1\t11\t3\t100.0\n2\t10\t1\t5\n",
    )
    written(
        folder / "ml.item",
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\n10\tThe "Ten" (1995)\tx y\n11\t"Never closed\tx\n',
    )
    prepare_all("table", [folder / "ml.inter"], tmp_path / "out", metadata=folder / "ml.item")
    assert sequences_of(tmp_path / "out") == {"1": ["11", "10"], "2": ["10"]}
    assert rejected_of(tmp_path / "out") == []
    assert titles_of(tmp_path / "out") == {"11": '"Never closed', "10": 'The "Ten" (1995)'}
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"ml/{file.name}")
        archive.writestr("ml/ml.user", "user_id:token\tage:token\n1\t24\n")
    prepare_all("table", [tmp_path / "ml.zip"], tmp_path / "zip", metadata=tmp_path / "ml.zip")
    assert sequences_of(tmp_path / "zip") == sequences_of(tmp_path / "out")
    assert titles_of(tmp_path / "zip") == titles_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:dc\nsize 233066081\n", "a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s1--2.csv\n", "a git-annex pointer"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>\n", "a web page or an error message of a server"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page or an error message"),
        (b"SQLite format 3\x00" + bytes(100), "an SQLite database"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive"),
        (b"\x80\x04\x95" + bytes(100), "a pickle, which is never opened"),
        (text_of(",").encode("utf-16-le"), "try --encoding utf-16-le"),
        (text_of(",").encode("utf-16-be"), "try --encoding utf-16-be"),
        (bytes(5000), "no text: it has NUL bytes"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_no_log_is_named(start, message, compressed, tmp_path):
    import gzip

    log = written(tmp_path / "log.csv", gzip.compress(start) if compressed else start)
    with pytest.raises(PreparationError, match=rf"log\.csv is {message}|log\.csv is no UTF-8 text: {message}"):
        prepare_all("table", [log], tmp_path / "out")
    if b"u\x00" in start and not compressed:
        prepare_all("table", [log], tmp_path / "out", encoding=message.split()[-1])
        assert sequences_of(tmp_path / "out") == EXPECTED


def test_an_enormous_first_line_is_refused(tmp_path):
    log = written(tmp_path / "log.csv", "," * 2_000_000 + "\nu,i,1\n")
    with pytest.raises(PreparationError, match=r"log\.csv has a first line of 2,000,000 characters"):
        prepare_all("table", [log], tmp_path / "out")
