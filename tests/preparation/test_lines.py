"""Lines and fields out of bytes, whatever the bytes, and however they fall into blocks."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e4srec_hf.preparation import layouts, lines
from e4srec_hf.preparation.layouts import BAD_QUOTES, POSITION_OF_FILE, Delimited
from e4srec_hf.preparation.lines import BAD_ENCODING, TOO_LONG, read_lines

PIECES = st.lists(
    st.sampled_from(
        [b"a", b"bc", b"\n", b"\r\n", b"\r", b" ", "é".encode(), "日本".encode(), b"\xff", b"\xc3", b"\0", b'"']
    ),
    max_size=30,
).map(b"".join)


def read(data, block, **options):
    """All lines and all bad ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        good, bad = [], []
        for found in read_lines(io.BytesIO(data), **options):
            assert found.first == len(good) + 1
            good += found.lines.to_pylist()
            bad += found.bad
    assert found.last
    return good, bad


@settings(deadline=None, max_examples=300)
@given(PIECES, st.integers(1, 9))
def test_lines_against_a_plain_loop(data, block):
    good, bad = [], []
    ends = b"\r" if b"\r" in data.rstrip(b"\r\n") and b"\n" not in data.rstrip(b"\r\n") else b"\n"
    parts = data.replace(ends, b"\n").split(b"\n")
    for number, line in enumerate(parts[:-1] if parts[-1] == b"" else parts, start=1):
        try:
            good.append(line.decode().rstrip("\r"))
        except UnicodeDecodeError:
            good.append("")
            bad.append((number, BAD_ENCODING, line.decode(errors="backslashreplace")))
    assert read(data, block) == (good, bad)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_byte_order_marks_at_the_start_of_lines_are_dropped(block):
    assert read("\ufeffa\n\ufeffb\nc\ufeff\n".encode(), block) == (["a", "b", "c\ufeff"], [])


@pytest.mark.parametrize("block", [2, 6, 1000])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "cp1252", "shift-jis"])
def test_other_encodings(encoding, block):
    text = "日本\nab\n" if encoding == "shift-jis" else "é£\nab\n" if "utf" not in encoding else "é日\nab\n"
    said = {} if encoding == "utf-16" else {"encoding": encoding}
    assert read(text.encode(encoding), max(block, 2), **said) == (text.splitlines(), [])


def test_what_the_encoding_does_not_have_is_bad():
    assert read(b"a\x81b\nc\n", 100, encoding="cp1252") == (["", "c"], [(1, BAD_ENCODING, "a\\x81b")])


@pytest.mark.parametrize("block", [2, 3, 1000])
@pytest.mark.parametrize(
    ("encoding", "data", "shown"),
    [
        ("utf-16-le", "a".encode("utf-16-le") + b"\x00\xd8" + "\nc\n".encode("utf-16-le"), "a\\x00\\xd8"),
        ("utf-16-be", "a".encode("utf-16-be") + b"\xdc\x80" + "\nc\n".encode("utf-16-be"), "a\\xdc\\x80"),
        ("utf-32-le", "a".encode("utf-32-le") + b"\xff" * 4 + "\nc\n".encode("utf-32-le"), "a\\xff\\xff\\xff\\xff"),
        ("utf-7", b"a\xe9\nc\n", "a\\xe9"),
        ("utf-7", b"a+2AA-\nc\n", "a\\ud800"),
        ("utf-7", b"a+3MPcqQ-\nc\n", "a\\udcc3\\udca9"),
        ("ascii", "aé\nc\n".encode(), "a\\xc3\\xa9"),
        ("shift-jis", b"a\xa0\nc\n", "a\\xa0"),
    ],
)
def test_invalid_bytes_are_bad_in_each_encoding(encoding, data, shown, block):
    assert read(data, block, encoding=encoding) == (["", "c"], [(1, BAD_ENCODING, shown)])


def test_what_the_fallback_does_not_have_is_bad():
    assert read(b"a\x81\xe9\nc\xe9\n", 100, fallback_encoding="cp1252") == (
        ["", "cé"],
        [(1, BAD_ENCODING, "a\\x81\\xe9")],
    )


def test_a_fallback_is_taken_line_by_line():
    assert read("é\n".encode() + b"\xe9\n", 100, fallback_encoding="latin-1") == (["é", "é"], [])


@pytest.mark.parametrize("block", [10, 64, 100_000])
@pytest.mark.parametrize("length", [100, 101, 102, 103, 5000])
def test_a_line_that_is_too_long_is_bad_and_not_held(block, length, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 101)
    good, bad = read(b"a\n" + b"x" * length + b"\nb\n", block)
    if length <= 101:
        assert (good, bad) == (["a", "x" * length, "b"], [])
    else:
        assert good == ["a", "", "b"]
        assert [(number, reason) for number, reason, _ in bad] == [(2, TOO_LONG)]
        assert set(bad[0][2]) == {"x"}


FIELDS = st.lists(st.tuples(*[st.text(alphabet='ab,"\n é', max_size=4)] * 3), min_size=1, max_size=12)


def parse(data, block, width=3, quoted=True):
    """Records and bad lines of delimited text."""
    layout = Delimited(",", quoted, None, (), {}, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        good, bad = [], []
        for batch in layout.batches(read_lines(io.BytesIO(data)), 2):
            for row in batch.to_pylist():
                file, number = divmod(row["position"], POSITION_OF_FILE)
                assert file == 2
                (bad if row["reason"] else good).append((number, row["reason"] or row["record"]))
    return good, bad


@settings(deadline=None, max_examples=200)
@given(FIELDS, st.integers(1, 40))
def test_quoted_fields_against_the_csv_module(rows, block):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    expected, number = [], 1
    for row in rows:
        expected.append((number, list(row)))
        number += 1 + sum(field.count("\n") for field in row)
    assert parse(text.getvalue().encode(), block) == (expected, [])


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_quotes_out_of_place_cost_one_line(block):
    data = b'a,b,c\n"x"y,b,c\nd,"e\nf",g\n"never closed,1,2\nh,i,j\n5" disk,k,l\n'
    good, bad = parse(data, block)
    assert good == [
        (1, ["a", "b", "c"]),
        (3, ["d", "e\nf", "g"]),
        (6, ["h", "i", "j"]),
        (7, ['5" disk', "k", "l"]),
    ]
    assert bad == [(2, BAD_QUOTES), (5, BAD_QUOTES)]


def test_a_quote_that_spans_too_many_lines_was_never_closed(monkeypatch):
    monkeypatch.setattr(layouts, "MAX_LINES_OF_RECORD", 3)
    good, bad = parse(b'"a\nb\nc",1,2\n"d\ne\nf\ng",1,2\nh,i,j\n', 4)
    assert good[0] == (1, ["a\nb\nc", "1", "2"])
    assert good[-1] == (8, ["h", "i", "j"])
    assert (4, BAD_QUOTES) in bad


def test_without_quoting_a_quote_is_a_letter():
    assert parse(b'"a,b,"c\n', 100, quoted=False) == ([(1, ['"a', "b", '"c'])], [])
