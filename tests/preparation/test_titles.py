"""Titles: which columns they come from, and what is left of web pages."""

import json
import time

import pyarrow.parquet as pq
import pytest

from e4srec_hf.preparation import PreparationError, make_table
from e4srec_hf.preparation.titles import clean_title
from tests.preparation.raw_logs import prepare_all, titles_of


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """A picture would take most of the time."""
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ('<span class="a-size-medium a-color-secondary"', None),
        ("<span cla", None),
        ("<strong", None),
        ("var aPageStart = (new Date()).getTime();", None),
        ("<script>var x = '<b>';</script>", None),
        ('<script type="text/javascript">P.when(', None),
        ("<!-- Not shown -->", None),
        (".a-size{color:red;}", None),
        ("(function (a) {})", None),
        ("function go() {", None),
        ("@media{color:red;}", None),
        ("&nbsp;", None),
        ("<b>Bold</b> moves", "Bold moves"),
        ("H<sub>2</sub>O", "H2O"),
        ("<div>One</div><div>Two</div>", "One Two"),
        ("&lt;i&gt;Emma&lt;/i&gt;, a novel", "Emma, a novel"),
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("&amp;quot;Hi&amp;quot;", '"Hi"'),
        ("Caf&eacute; &#39;68 &#x2014; live", "Café '68 — live"),
        ("Book <img src='x.png'", "Book"),
        ('<div class="x>y">Name', "Name"),
        ("<a title='1 > 0' href=x>Name</a>", "Name"),
        ("<p title=it's>Name</p>", "Name"),
        ("<![CDATA[Name]]>", "Name"),
        ("<![CDATA[<b>Salt</b> &amp; Pepper]]> 2", "Salt & Pepper 2"),
        ("Na\x00me\x07", "Name"),
        ("\x1b\x9f", None),
        ("Na\u202eme", "Name"),
        ("Na&#x202e;me", "Name"),
        ("One\x0bTwo\x85Three", "One Two Three"),
        *(
            (plain, plain)
            for plain in ("I <3 U", "x < y > z", "Love<Hate", "AT&T", "R&copy x", "<Untitled>", "HAND\nWARMER", "5 < 6")
        ),
        *((plain, plain) for plain in ("Function of X", "Window (shopping)", "Emma {Large: Print}", "var.", "C++")),
    ],
)
def test_what_is_left_of_a_web_page(title, cleaned):
    assert clean_title(title) == cleaned


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    [
        ("<b", " ", "<"),
        ("&", "amp;", ""),
        ("a{", ":", ""),
        ("", " ", "x{"),
        ("function", " ", "x"),
        ("<script>", "</script", ""),
        ("", "<b ", ""),
        ("", "<!--", ""),
        ("&#", "9", ";"),
        ("a{:", ";", "{"),
    ],
)
def test_long_titles_take_no_longer_than_short_ones(start, repeated, end):
    """Also where all characters are read: a pattern that starts over at each of them would take minutes."""
    title = start + repeated * (20_000 // len(repeated)) + end
    before = time.process_time()
    clean_title(title)
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize(
    "text", ["<b" + " " * 20_000 + "<", "<b " * 7_000, "<script>" + "</script" * 3_000, "a{" + ":" * 20_000]
)
def test_patterns_are_linear(text, monkeypatch):
    monkeypatch.setattr("e4srec_hf.preparation.titles.LONGEST_TITLE", len(text))
    before = time.process_time()
    clean_title(text)
    assert time.process_time() - before < 0.5


def test_the_start_of_a_long_title_counts():
    assert clean_title("ab" * 5_000) == "ab" * 500
    assert clean_title("x" * 1_000) == "x" * 1_000
    assert clean_title("<b>" + "x" * 2_000) == "x" * 997
    assert clean_title("&" + "amp;" * 4 + "lt;") == "<"
    assert clean_title("&" + "amp;" * 7) == "&amp;amp;"  # five of seven


def test_fragments_of_pages_are_no_titles(tmp_path):
    rows = [{"reviewerID": "u", "asin": f"B{n}", "unixReviewTime": 1_500_000_000 + n} for n in range(5)]
    (tmp_path / "log.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = ['<span class="a-size-medium"', "Salt &amp; Pepper", "Plain", "NULL"]
    meta = [{"asin": f"B{n}", "title": title} for n, title in enumerate(titles)]
    (tmp_path / "meta.json").write_text("".join(json.dumps(row) + "\n" for row in meta))
    facts = prepare_all("amazon-2018", [tmp_path / "log.json"], tmp_path / "out", metadata=tmp_path / "meta.json").facts
    assert titles_of(tmp_path / "out") == {"B0": None, "B1": "Salt & Pepper", "B2": "Plain", "B3": None, "B4": None}
    assert (facts["items_with_title"], facts["titles_cleaned"], facts["titles_left_out"]) == (2, 1, 1)
    (tmp_path / "meta.json").write_text(json.dumps(meta[0]) + "\n")
    with pytest.raises(PreparationError, match="All 1 titles are tags or scripts, such as '<span"):
        prepare_all("amazon-2018", [tmp_path / "log.json"], tmp_path / "no", metadata=tmp_path / "meta.json")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"u,{n},{1_500_000_000 + n}\n" for n in range(3)))
    return path


def names(tmp_path, text="item_id,name\n0,Thing 0\n1,Thing 1\n9,Thing 9\n"):
    (tmp_path / "names.csv").write_text(text)
    return tmp_path / "names.csv"


THINGS = {"0": "Thing 0", "1": "Thing 1", "2": None}


def test_the_title_column_is_looked_for_in_the_file_of_items(log, tmp_path):
    prepare_all(make_table(title_column="name"), [log], tmp_path / "out", metadata=names(tmp_path))
    assert titles_of(tmp_path / "out") == THINGS


@pytest.mark.parametrize(
    ("text", "item", "title"),
    [
        ("id;label\n0;Thing 0\n1;Thing 1\n", "id", "label"),
        ("Thing 0\t0\nThing 1\t1\n", "2", "1"),
        ('{"sku": 0, "what": "Thing 0"}\n{"sku": 1, "what": "Thing 1"}\n', "sku", "what"),
    ],
)
def test_columns_of_the_file_of_items_by_name_and_number(log, tmp_path, text, item, title):
    columns = {"metadata_item_column": item, "metadata_title_column": title}
    prepare_all("table", [log], tmp_path / "out", metadata=names(tmp_path, text), **columns)
    assert titles_of(tmp_path / "out") == THINGS
    (tmp_path / "log.txt").write_text("u 0 1 2\n")  # a source without a file of items of its own
    prepare_all("text", [tmp_path / "log.txt"], tmp_path / "text", metadata=tmp_path / "names.csv", **columns)
    assert titles_of(tmp_path / "text") == THINGS
    with pytest.raises(PreparationError, match="text has no metadata file of its own: name the columns"):
        prepare_all("text", [tmp_path / "log.txt"], tmp_path / "no", metadata=tmp_path / "names.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,name\n0,Thing 0\n", r"no column 'title'.*'name'.*--metadata-title-column"),
        ("sku,title\n0,Thing 0\n", r"no column 'item_id'.*'sku'.*--metadata-item-column"),
        ('{"item_id": 0, "name": "Thing"}\n', r"(?s)names.csv.*name"),
        ("item_id,title\n0,\n1,NaN\n", "none of its 2 records has an id and a title"),
        ("item_id,title\nx0,Thing 0\nx1,Thing 1\n", "One is 'x0'; an item of the log is '0'"),
        ("", "none of its 0 records"),
    ],
)
def test_a_file_of_items_without_usable_titles_is_refused(log, tmp_path, text, message):
    with pytest.raises(PreparationError, match=message):
        prepare_all("table", [log], tmp_path / "out", metadata=names(tmp_path, text))
    assert not (tmp_path / "out").exists()


def test_columns_of_no_file_are_refused(log, tmp_path):
    with pytest.raises(PreparationError, match="need metadata"):
        prepare_all("table", [log], tmp_path / "out", metadata_title_column="name")


def test_titles_of_movielens_100k(tmp_path):
    (tmp_path / "u.data").write_text("1\t1\t3\t880000001\n1\t2\t3\t880000002\n1\t267\t3\t880000003\n")
    flags = "|".join("0" * 19)
    rows = [(1, "Toy Story (1995)", "01-Jan-1995", "", "http://x/M?Toy%20Story"), (2, "Misérables, Les", "", "", "")]
    text = "".join("|".join(map(str, row)) + f"|{flags}\n" for row in [*rows, (267, "unknown", "", "", "")])
    (tmp_path / "u.item").write_bytes(text.encode("latin-1"))
    done = prepare_all("movielens", [tmp_path / "u.data"], tmp_path / "out", metadata=tmp_path / "u.item")
    assert titles_of(tmp_path / "out") == {"1": "Toy Story (1995)", "2": "Misérables, Les", "267": "unknown"}
    assert done.facts["rejected"] == {}
    assert pq.read_table(tmp_path / "out" / "items.parquet").num_rows == 3
