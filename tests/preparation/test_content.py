"""Files that are missing, out of reach, endless or far larger than they look are refused, in a line and soon."""

import bz2
import gzip
import lzma
import os
import socket
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e4srec_hf.preparation import PreparationError, content, lines
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of

HEADER = "user_id,item_id,timestamp\n"


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "broken.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "folder").mkdir()
    for name, message in {
        "log.csv": r"log\.csv: there is no such file",
        "nowhere/log.csv": r"nowhere/log\.csv: there is no folder .*nowhere\.",
        "nowhere/*.csv": r"there is no folder .*nowhere\.",
        "broken.csv": r"broken\.csv is a link to .*gone\.csv, which is not there",
        "folder": r"folder is a folder",
    }.items():
        with pytest.raises(PreparationError, match=message):
            prepare_all("table", [tmp_path / name], tmp_path / "out")
    with pytest.raises(PreparationError, match=r"gone\.zip: there is no such file"):
        prepare_all("table", [f"zip://log.csv::{tmp_path}/gone.zip"], tmp_path / "out")


def test_a_refused_connection_is_no_missing_file(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url in (
        f"http://me:secret@127.0.0.1:{port}/log.csv?key=secret",
        f"zip://log.csv::http://127.0.0.1:{port}/x.zip",
    ):
        with pytest.raises(
            PreparationError, match=rf"cannot be reached: Cannot connect to host 127.0.0.1:{port}"
        ) as error:
            prepare_all("table", [url], tmp_path / "out")
        assert "secret" not in str(error.value)


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(PreparationError, match=r"pipe\.csv is not a regular file but a pipe: write its content into"):
        prepare_all("table", [tmp_path / "pipe.csv"], tmp_path / "out")
    with pytest.raises(PreparationError, match=r"pipe\.csv is not a regular file but a pipe"):
        prepare_all("table", [f"{tmp_path}/*.csv"], tmp_path / "out")
    with pytest.raises(PreparationError, match=r"/dev/zero is not a regular file but a device"):
        prepare_all("table", ["/dev/zero"], tmp_path / "out")


def test_what_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "ALWAYS_READ", 1 << 20)
    text = HEADER + "u,i,1500000000\n" * 100_000
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", text)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(text.encode()))
    nested = gzip.compress(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "nested.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv.gz", gzip.compress(text.encode(), 1))
    assert len(nested) < len(text) / 1000
    for name in ("bomb.zip", "bomb.csv.gz", "nested.zip"):
        with pytest.raises(PreparationError, match=r"unfolds to more than 100 times its stored size"):
            prepare_all("table", [tmp_path / name], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "log.csv").write_text(text)
    prepare_all("table", [tmp_path / "log.csv"], tmp_path / "out")  # as it is
    rows = pa.table(
        {name: pa.array([1]).take(pa.array([0] * 2_000_000)) for name in ("user_id", "item_id", "timestamp")}
    )
    pq.write_table(rows, tmp_path / "bomb.parquet")
    with pytest.raises(PreparationError, match=r"bomb\.parquet unfolds to more than 100 times"):
        prepare_all("table", [tmp_path / "bomb.parquet"], tmp_path / "parquet")


def test_a_file_with_a_hole_is_read_around_it(tmp_path):
    with (tmp_path / "hole.csv").open("wb") as file:
        file.write((HEADER + "u,a,1500000000\n" * 300).encode())
        file.seek(80 << 20)
        file.write(b"\nu,b,1500000001\n")
    prepare_all("table", [tmp_path / "hole.csv"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a"] * 300 + ["b"]}
    assert rejected_of(tmp_path / "out") == [(302, lines.TOO_LONG)]


def test_deep_json_is_a_bad_record(tmp_path):
    deep = "[" * 300_000 + "]" * 300_000
    rows = [
        f'{{"user_id": "u", "item_id": "a", "timestamp": 1, "x": {deep}}}',
        f'{{"user_id": "u", "item_id": {deep}, "timestamp": 1}}',
        '{"a": ' * 300_000,
        "{'a': " * 300_000,
        "{'a': " + "-" * 300_000 + "1}",
        '{"user_id": "u", "item_id": "b", "timestamp": 2}',
    ]
    (tmp_path / "log.jsonl").write_text("".join(f"{row}\n" for row in rows))
    prepare_all("table", [tmp_path / "log.jsonl"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a", "b"]}
    assert [line for line, _ in rejected_of(tmp_path / "out")] == [2, 3, 4, 5]


def test_an_open_quote_holds_no_more_than_the_longest_line(tmp_path, monkeypatch):
    monkeypatch.setattr("e4srec_hf.preparation.layouts.MAX_LINE", 1000)
    (tmp_path / "log.csv").write_text(f'{HEADER}"open,a,1\n' + "x" * 900 + "\n" + "y" * 900 + "\nu,a,1\n")
    monkeypatch.setattr(lines, "BLOCK", 500)
    prepare_all("table", [tmp_path / "log.csv"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a"]}
    assert [line for line, _ in rejected_of(tmp_path / "out")] == [2, 3, 4]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gzip.compress(gzip.compress(b"user_id,item_id,timestamp\nu,i,5\n")), "compressed twice"),
        (bz2.compress(gzip.compress(b"user_id,item_id,timestamp\nu,i,5\n")), "compressed twice"),
        (lzma.compress(b"user_id,item_id,timestamp\nu,i,5\n", lzma.FORMAT_ALONE), "compressed with LZMA alone"),
    ],
    ids=["gzip in gzip", "gzip in bzip2", "lzma"],  # gzip writes the time, and each worker must name the same tests
)
def test_other_compression_is_named(data, kind, tmp_path):
    (tmp_path / "log.csv.gz").write_bytes(data)
    with pytest.raises(PreparationError, match=rf"log\.csv\.gz is {kind}"):
        prepare_all("table", [tmp_path / "log.csv.gz"], tmp_path / "out")
