"""Archives and workbooks: the file that is meant is found or asked for, and no content counts twice."""

import bz2
import functools
import gzip
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from datetime import date, datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e4srec_hf.preparation import PreparationError
from e4srec_hf.preparation.sheets import limit_resources
from e4srec_hf.preparation.workbooks import NO_ID
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of, times_of, titles_of

RATINGS = "1\t10\t5\t100\n1\t11\t4\t50\n2\t10\t3\t70\n"
EXPECTED = {"1": ["11", "10"], "2": ["10"]}
TABLE = "user_id,item_id,timestamp\nu,b,2\nu,a,1\n"


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def tarred(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def packed(path, files):
    """An archive of the kind that its name says."""
    if path.suffix == ".zip":
        return zipped(path, files)
    return tarred(path, files, {".tar": "w", ".tgz": "w:gz", ".tbz": "w:bz2", ".txz": "w:xz"}[path.suffix])


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.tbz", "x.txz"])
def test_the_published_file_is_found_in_an_archive(name, tmp_path):
    files = {
        "ml/README": "Read me\n",
        "ml/u1.base": "9\t9\t9\t9\n",
        "ml/u.data": RATINGS,
        "__MACOSX/ml/._u.data": "junk",
        "ml/movies.dat": "10::Ten::x\n",
    }
    archive = packed(tmp_path / name, files)
    done = prepare_all("movielens", [archive], tmp_path / "out", metadata=archive)
    assert sequences_of(tmp_path / "out") == EXPECTED
    assert titles_of(tmp_path / "out") == {"11": None, "10": "Ten"}
    assert rejected_of(tmp_path / "out") == []
    kind = "zip" if name == "x.zip" else "tar"
    assert done.facts["files"][0]["name"] == f"{kind}://ml/u.data::{name}"
    assert done.facts["files"][0]["bytes"] == len(RATINGS)


@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_several_members_are_listed_and_one_is_named(name, tmp_path):
    archive = packed(tmp_path / name, {"a.csv": TABLE, "b.csv": TABLE.replace("u,", "v,"), "c.txt": "x"})
    kind = "zip" if name == "x.zip" else "tar"
    with pytest.raises(PreparationError, match=rf"'a.csv', 'b.csv', 'c.txt'. Name one, such as '{kind}://a.csv::"):
        prepare_all("table", [archive], tmp_path / "out")
    with pytest.raises(PreparationError, match=r"has no member 'd\.csv'; it has 'a.csv', 'b.csv', 'c.txt'"):
        prepare_all("table", [f"{kind}://d.csv::{archive}"], tmp_path / "out")
    prepare_all("table", [f"{kind}://b.csv::{archive}"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"v": ["a", "b"]}
    prepare_all("table", [f"{kind}://*.csv::{archive}"], tmp_path / "both")
    assert sequences_of(tmp_path / "both") == {"u": ["a", "b"], "v": ["a", "b"]}


def test_the_only_data_is_read_also_if_it_is_compressed_in_there(tmp_path):
    archive = zipped(
        tmp_path / "x.zip", {"README.md": "x", ".hidden": "x", "d/log.csv.bz2": bz2.compress(TABLE.encode())}
    )
    prepare_all("table", [archive], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a", "b"]}
    nested = tarred(tmp_path / "x.tar", {"x.zip": archive.read_bytes()})
    with pytest.raises(PreparationError, match=r"is an archive in an archive: unpack the outer one"):
        prepare_all("table", [nested], tmp_path / "nested")
    with pytest.raises(PreparationError, match=r"has no data: 'README'"):
        prepare_all("table", [zipped(tmp_path / "none.zip", {"README": "x"})], tmp_path / "none")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.txz"])
@pytest.mark.parametrize("member", [True, False])
def test_a_cut_or_corrupt_archive_is_named_as_one(name, member, tmp_path):
    noise = "".join(f"{n}\t{n * 7919 % 1009}\t5\t{n}\n" for n in range(9000))
    archive = packed(tmp_path / name, {"ml/u.data": noise})
    whole = archive.read_bytes()
    path = f"{'zip' if name == 'x.zip' else 'tar'}://ml/u.data::{archive}" if member else archive
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PreparationError, match=rf"{name}: the compressed file or archive is corrupt or truncated"):
        prepare_all("movielens", [path], tmp_path / "out")
    if name != "x.tar":  # tar has no checksum of its members
        archive.write_bytes(whole[:5000] + bytes(8) + whole[5008:])
        with pytest.raises(PreparationError, match=rf"{name}: the compressed file or archive is corrupt or truncated"):
            prepare_all("movielens", [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_member_is_named_as_one(tmp_path):
    archive = zipped(tmp_path / "x.zip", {"log.csv": TABLE})
    data = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    archive.write_bytes(data)
    with pytest.raises(PreparationError, match=r"log\.csv::x\.zip is encrypted: unpack it first"):
        prepare_all("table", [archive], tmp_path / "out")


def test_the_same_content_never_counts_twice(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(TABLE)
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    (tmp_path / "log.csv.bz2").write_bytes(bz2.compress(TABLE.encode()))
    zipped(tmp_path / "log.zip", {"log.csv": TABLE})
    tarred(tmp_path / "log.tgz", {"other.csv": TABLE}, "w:gz")
    (tmp_path / "soft.csv").symlink_to(log)
    os.link(log, tmp_path / "hard.csv")
    for other in ("log.csv.gz", "log.csv.bz2", "log.zip", "log.tgz", "soft.csv", "hard.csv"):
        with pytest.raises(PreparationError, match=r"log.* and .*log\.csv have the same content|soft|hard"):
            prepare_all("table", [log, tmp_path / other], tmp_path / "out")
    with pytest.raises(PreparationError, match="have the same content"):
        prepare_all("table", [tmp_path / "log.csv.gz", tmp_path / "log.zip"], tmp_path / "out")
    for name, text in {
        "dos.csv": TABLE.replace("\n", "\r\n").encode(),
        "mac.csv": TABLE.replace("\n", "\r").encode(),
        "mark.csv": b"\xef\xbb\xbf" + TABLE.encode().rstrip(),
        "wide.csv": TABLE.encode("utf-16"),
        "gaps.csv": TABLE.replace("\n", "\n\n").encode(),
    }.items():
        (tmp_path / name).write_bytes(text)
        with pytest.raises(PreparationError, match=rf"{name} and .*log\.csv have the same content"):
            prepare_all("table", [log, tmp_path / name], tmp_path / "out")
    (tmp_path / "near.csv").write_text(TABLE.replace("u,b,2", "u,b,3"))
    prepare_all("table", [log, tmp_path / "near.csv"], tmp_path / "near")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "empty.csv.gz").write_bytes(gzip.compress(b""))
    prepare_all("table", [log, tmp_path / "empty.csv", tmp_path / "empty.csv.gz"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a", "b"]}


def test_files_with_nothing_but_a_header_are_no_copies(tmp_path):
    header = TABLE.splitlines()[0] + "\n"
    for name, text in {"mon.csv": TABLE, "tue.csv": header, "wed.csv": header, "thu.csv": header + "\n"}.items():
        (tmp_path / name).write_text(text)
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
    for name in ("fri.parquet", "sat.parquet"):
        pq.write_table(schema.empty_table(), tmp_path / name)
    days = [tmp_path / f"{day}.csv" for day in ("mon", "tue", "wed", "thu")]
    prepare_all("table", [*days, tmp_path / "fri.parquet", tmp_path / "sat.parquet"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["a", "b"]}
    invalid = header + "u,,3\n"  # an invalid record is a record
    for name in ("sun.csv", "next.csv"):
        (tmp_path / name).write_text(invalid)
    with pytest.raises(PreparationError, match="have the same content"):
        prepare_all("table", [*days, tmp_path / "sun.csv", tmp_path / "next.csv"], tmp_path / "no")


def test_sheets_with_nothing_but_a_header_are_no_copies(tmp_path):
    row = [1, "a", "A", 1, "2010-12-01 08:00", 7]
    book = workbook(tmp_path / "retail.xlsx", Jan=[HEADER, row], Feb=[HEADER], Mar=[HEADER])
    prepare_all("online-retail", [book], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"7": ["a"]}


HEADER = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "CustomerID"]


def workbook(path, **sheets):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_every_sheet_of_a_workbook_is_read(tmp_path):
    first = [HEADER, [1, "a", "A", 1, "2010-12-01 08:00", 7.0], [1, "b", "B", 1, "2010-12-01 08:01", 7.0]]
    second = [HEADER, [2, "c", "C", 1, "2011-12-01 08:00", 7], [3, "a", "A", 1, "2011-12-01 08:00", 8]]
    book = workbook(tmp_path / "retail.xlsx", **{"Year 2010": first, "Empty": [], "Year 2011": second})
    done = prepare_all("online-retail", [book], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"7": ["a", "b", "c"], "8": ["a"]}
    names = [file["name"] for file in done.facts["files"]]
    assert names == [f"xlsx://{sheet}::retail.xlsx" for sheet in ("Year 2010", "Empty", "Year 2011")]
    assert {file["bytes"] for file in done.facts["files"]} == {book.stat().st_size}
    prepare_all("online-retail", [f"xlsx://Year 2011::{book}"], tmp_path / "one")
    assert sequences_of(tmp_path / "one") == {"7": ["c"], "8": ["a"]}
    archive = zipped(tmp_path / "online+retail.zip", {"retail.xlsx": book.read_bytes()})
    prepare_all("online-retail", [archive], tmp_path / "zipped")
    assert sequences_of(tmp_path / "zipped") == {"7": ["a", "b", "c"], "8": ["a"]}


def test_times_truth_values_and_fractions_in_cells_are_no_ids(tmp_path):
    day = datetime(2021, 1, 3)
    rows = [["user_id", "item_id", "timestamp", "buys"], ["u", 7, day, True], ["u", "2021-01-03", day, False]]
    rows += [["u", bad, day, True] for bad in (day, day.date(), day.time(), True, False, 1.5, 1e300, float(2**60))]
    rows += [[day, "a", day, True], [True, "a", day, True], ["u", "True", day, True], [8, 9.0, day, True]]
    book = workbook(tmp_path / "log.xlsx", Log=rows)
    prepare_all("table", [book], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"u": ["7", "2021-01-03", "True"], "8": ["9"]}
    assert times_of(tmp_path / "out")["8"] == [int(day.replace(tzinfo=timezone.utc).timestamp())]
    assert rejected_of(tmp_path / "out") == [(line, NO_ID) for line in range(4, 14)]
    prepare_all("table", [book], tmp_path / "kept", keep={"buys": True})
    assert sequences_of(tmp_path / "kept") == {"u": ["7", "True"], "8": ["9"]}


def test_titles_of_a_sheet_may_be_times(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,7,5\nu,8,6\n")
    rows = [["item_id", "title"], [7, date(1984, 1, 1)], [8, True], [True, "x"]]
    items = workbook(tmp_path / "items.xlsx", Items=rows)
    prepare_all("table", [tmp_path / "log.csv"], tmp_path / "out", metadata=items)
    assert titles_of(tmp_path / "out") == {"7": "1984-01-01", "8": "true"}
    assert [reason for _, reason in rejected_of(tmp_path / "out")] == [NO_ID]


def test_a_sheet_that_is_no_log_is_named(tmp_path):
    rows = [HEADER, [1, "a", "A", 1, "2010-12-01 08:00", 7]]
    book = workbook(tmp_path / "retail.xlsx", Log=rows, Notes=[["Who", "What"], ["x", "y"]])
    with pytest.raises(PreparationError, match=r"xlsx://Notes::retail\.xlsx has no column .*InvoiceNo"):
        prepare_all("online-retail", [book], tmp_path / "out")
    with pytest.raises(PreparationError, match=r"retail\.xlsx has no member 'Lgo'; it has 'Log', 'Notes'"):
        prepare_all("online-retail", [f"xlsx://Lgo::{book}"], tmp_path / "out")
    prepare_all("online-retail", [f"xlsx://Log::{book}"], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"7": ["a"]}
    twice = workbook(tmp_path / "copy.xlsx", Log=rows, Copy=rows)
    with pytest.raises(PreparationError, match="have the same content"):
        prepare_all("online-retail", [twice], tmp_path / "twice")


def test_a_workbook_that_asks_for_any_amount_of_memory_is_refused(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "x", "y"  # 17 billion cells in 5 kB
    book.save(tmp_path / "sparse.xlsx")
    with pytest.raises(PreparationError, match=r"sparse\.xlsx takes more than 4 GiB of memory or 10 minutes to read"):
        prepare_all("online-retail", [tmp_path / "sparse.xlsx"], tmp_path / "out")
    (tmp_path / "cut.xlsx").write_bytes((tmp_path / "sparse.xlsx").read_bytes()[:3000])
    with pytest.raises(PreparationError, match=r"cut\.xlsx"):
        prepare_all("online-retail", [tmp_path / "cut.xlsx"], tmp_path / "out")


def test_a_workbook_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("e4srec_hf.preparation.content.ALWAYS_READ", 1 << 20)
    book = workbook(tmp_path / "small.xlsx", Log=[HEADER])
    with zipfile.ZipFile(book, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet9.xml", " " * (8 << 20))
    with pytest.raises(PreparationError, match=r"small\.xlsx unfolds to more than 100 times its stored size"):
        prepare_all("online-retail", [book], tmp_path / "out")


@pytest.mark.parametrize("path", [None, "", ".", ":"])
def test_no_file_of_the_current_folder_is_run_to_read_a_workbook(path, tmp_path, monkeypatch):
    book = workbook(tmp_path / "retail.xlsx", Log=[HEADER, [1, "a", "A", 1, "2010-12-01 08:00", 7]])
    for name in ("csv", "json", "sitecustomize", "python_calamine", "resource"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False) if path is None else monkeypatch.setenv("PYTHONPATH", path)
    prepare_all("online-retail", [book], tmp_path / "out")
    assert sequences_of(tmp_path / "out") == {"7": ["a"]}
    assert not (tmp_path / "was_run").exists()


def test_a_workbook_is_read_under_lower_limits_and_where_none_can_be_set(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    book = workbook(tmp_path / "retail.xlsx", Log=[HEADER])
    lower = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({2 << 30}, {2 << 30}))"
    lower += "; resource.setrlimit(resource.RLIMIT_CPU, (60, 60)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    script = f"import sys; from e4srec_hf.preparation.sheets import main; {lower}; main('.', sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, book], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('["Log"]', "")

    tried = []

    def refuse(kind, limits):
        tried.append((kind, limits))
        raise (ValueError if len(tried) % 2 else OSError)("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (7, 7 if kind == resource.RLIMIT_CPU else -1))
    limit_resources()
    assert tried == [
        (resource.RLIMIT_AS, (4 << 30, 4 << 30)),
        (resource.RLIMIT_CPU, (7, 7)),
        (resource.RLIMIT_CORE, (0, 0)),
    ]


@pytest.mark.parametrize("member", [True, False])
def test_a_remote_tar_is_fetched_once(member, tmp_path):
    tarred(tmp_path / "ml.tgz", {"ml/u.data": RATINGS, "ml/README": "x"}, "w:gz")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/ml.tgz"
        done = prepare_all("movielens", [f"tar://ml/u.data::{address}" if member else address], tmp_path / "out")
        server.shutdown()
    assert sequences_of(tmp_path / "out") == EXPECTED
    assert done.facts["files"][0]["name"] == f"tar://ml/u.data::{address}"
    assert len(asked) == (1 if member else 2)  # of an unknown file the start is looked at first
