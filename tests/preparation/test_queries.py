"""Logs in databases: SQLite, and a PostgreSQL that the tests start."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from e4srec_hf.cli.app import app
from e4srec_hf.preparation import PreparationError, Query
from tests.preparation.raw_logs import prepare_all, rejected_of, sequences_of, times_of, titles_of

pytest.importorskip("adbc_driver_sqlite")
pytest.importorskip("adbc_driver_postgresql")

PASSWORD = "s3cr%t/p@ss:w0rd"
LOG = "user_id, item_id, at"
CREATE = "CREATE TABLE log (user_id BIGINT, item_id TEXT, at {time}, event TEXT)"
EVENTS = [(n % 7, f"item {n * 31 % 11}", 1_500_000_000 + n * 13 % 97, "buy" if n % 3 else "view") for n in range(300)]
#: By a plain loop.
EXPECTED = {
    str(user): [item for one, item, _, _ in sorted(EVENTS, key=lambda event: event[2]) if one == user]
    for user in range(7)
}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """A picture would take most of the time."""
    monkeypatch.setattr("e4srec_hf.preparation.pipeline.draw", lambda *arguments: False)


@pytest.fixture
def sqlite(tmp_path):
    with sqlite3.connect(tmp_path / "shop data.db") as connection:
        connection.execute(CREATE.format(time="BIGINT"))
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", EVENTS)
    connection.close()
    return f"sqlite:///{tmp_path}/shop%20data.db"


def server_programs():
    """Folder of the server's programs; ``None`` if there are none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb")
    return folders[-1] if folders else Path(found).resolve().parent if found else None


@pytest.fixture(scope="module")
def postgres():
    """URI of a database with the log, of a server that asks for a password."""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    as_user = {"user": "postgres"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres"))  # pytest's own folders are closed to other users
    if as_user:
        shutil.chown(folder, "postgres")
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(program, *arguments):
        subprocess.run(
            [programs / program, "-D", folder / "data", *arguments],
            check=True, cwd=folder, env={}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user,
        )  # fmt: skip

    call("initdb", "-U", "me", "--pwfile", folder / "password", "-A", "scram-sha-256", "--no-sync", "--locale", "C")
    call("pg_ctl", "-w", "-l", folder / "log", "-o", f"-p {port} -h 127.0.0.1 -k {folder} -F", "start")
    try:
        uri = f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        import adbc_driver_postgresql.dbapi

        with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute(CREATE.format(time="TIMESTAMPTZ"))
            cursor.executemany("INSERT INTO log VALUES ($1, $2, to_timestamp($3::bigint), $4)", EVENTS)
            connection.commit()
        yield uri
    finally:
        call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request):
    return request.getfixturevalue(request.param)


def run(uri, query, out, *flags):
    arguments = ["prepare", "sql", "--uri", uri, "--query", query, "--output", str(out), "--time-column", "at", *flags]
    return CliRunner().invoke(app, arguments)


def check_refused(result, message):
    assert isinstance(result.exception, PreparationError)
    assert re.search(message, str(result.exception))


def check_no_secret(text):
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "s3cr"):
        assert secret not in text


def test_a_query_becomes_a_data_set(uri, tmp_path):
    out = tmp_path / "out"
    result = run(uri, f"SELECT {LOG}, event FROM log;", out, "--user-core", "0", "--item-core", "0")
    assert result.exit_code == 0, result.output or result.exception
    assert sequences_of(out) == EXPECTED
    assert times_of(out)["0"] == sorted(time for user, _, time, _ in EVENTS if user == 0)
    facts = json.loads((out / "preparation.json").read_text())
    assert facts["source"] == "sql"
    assert facts["files"][0]["query"] == f"SELECT {LOG}, event FROM log;"
    assert facts["files"][0]["rows"] == 300
    for path in out.rglob("*"):
        if path.is_file():
            check_no_secret(path.read_bytes().decode("latin-1"))
    check_no_secret(result.output)
    assert "SELECT user" in (out / "README.md").read_text()
    result = run(uri, f"SELECT {LOG}, event FROM log", tmp_path / "buys", "--keep", "event=buy", "--user-core", "0")
    assert result.exit_code == 0, result.output or result.exception
    assert sum(map(len, sequences_of(tmp_path / "buys").values())) == sum(event[3] == "buy" for event in EVENTS)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nothing", "refuses the query: .*nothing"),
        ("SELEC 1", "refuses the query: .*SELEC"),
        ("SELECT 1 AS x", r"has no column 'user_id', 'item_id', 'at'; its columns are \['x'\]"),
        (f"SELECT {LOG}, 1 AS user_id FROM log", "several columns 'user_id'"),
        (" ;", "query: it is empty"),
        ("DELETE FROM log RETURNING user_id, item_id, at, 1 / 0", "."),
    ],
)
def test_a_wrong_query_is_one_line(uri, query, message, tmp_path):
    result = run(uri, query, tmp_path / "out")
    check_refused(result, message)
    assert "\n" not in str(result.exception)
    check_no_secret(str(result.exception))
    assert not (tmp_path / "out").exists()


def test_a_query_changes_nothing(uri, tmp_path):
    run(uri, f"DELETE FROM log RETURNING {LOG}", tmp_path / "deleted", "--user-core", "0")
    result = run(uri, f"SELECT {LOG} FROM log", tmp_path / "out", "--user-core", "0", "--item-core", "0")
    assert result.exit_code == 0
    assert sequences_of(tmp_path / "out") == EXPECTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda uri: uri.replace("s3cr", "wrong"), "password authentication failed"),
        (lambda uri: uri.rpartition(":")[0] + ":1/postgres", "Connection refused|refused"),
        (lambda uri: uri.replace("/postgres", "/nowhere"), '"nowhere" does not exist'),
        (lambda uri: uri.replace("127.0.0.1", "no-such-host.invalid"), "no-such-host"),
        (lambda uri: uri.replace(quote(PASSWORD, safe=""), PASSWORD), "not percent-encoded"),
        (lambda uri: uri.replace("%25t", "%zz"), "not percent-encoded"),
        (lambda uri: uri + "?password=s3cr%t@x", "not percent-encoded"),
        (lambda uri: uri + "?nonsense=s3crt", "."),
        (lambda uri: uri.replace("postgresql://", "mysql://"), "mysql:// is not supported"),
    ],
)
def test_a_connection_that_fails_shows_no_password(postgres, change, message, tmp_path):
    result = run(change(postgres), "SELECT 1", tmp_path / "out")
    check_refused(result, message)
    error = result.exception
    while error is not None:
        if "nonsense" not in str(error):
            check_no_secret(f"{error} {error!r}")
        error = error.__cause__
    assert PASSWORD not in repr(Query(postgres, "SELECT 1"))


def test_types_of_postgres(postgres, tmp_path):
    query = (
        "SELECT 'u' AS user_id, n AS item_id, n::numeric + 1500000000 AS at, {} AS more FROM generate_series(1, 9) n"
    )
    result = run(postgres, query.format("n::numeric"), tmp_path / "out", "--rating-column", "more", "--min-rating", "5")
    assert isinstance(result.exception, PreparationError)  # 5 interactions, whose items have one each
    flags = ["--rating-column", "more", "--min-rating", "5", "--user-core", "0", "--item-core", "0"]
    assert run(postgres, query.format("n::numeric"), tmp_path / "out", *flags).exit_code == 0
    assert sequences_of(tmp_path / "out") == {"u": list("56789")}
    for kind in ("gen_random_uuid()", "n::numeric", "'{}'::jsonb", "n::float8", "true"):
        result = run(postgres, query.format(kind), tmp_path / "no", "--item-column", "more")
        check_refused(result, "column 'more' is no column of ids")
    for column in ("--item-column", "--rating-column"):
        result = run(postgres, query.format("n::money"), tmp_path / "no", column, "more")
        check_refused(result, "column 'more' is money")


def test_a_column_of_sqlite_that_changes_its_type_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE log (user_id, item_id, at)")
        connection.executemany("INSERT INTO log VALUES ('u', ?, ?)", [(n, n) for n in range(5000)] + [("x", 5)])
    connection.close()
    query = f"SELECT {LOG} FROM log"
    result = run(f"sqlite:///{tmp_path}/x.db", query, tmp_path / "out", "--oldest", "1970-01-01")
    check_refused(result, "could not be read to its end.*Type mismatch")
    query = "SELECT user_id, CAST(item_id AS TEXT) AS item_id, at FROM log"
    flags = ["--oldest", "1970-01-01", "--user-core", "0", "--item-core", "0"]
    assert run(f"sqlite:///{tmp_path}/x.db", query, tmp_path / "out", *flags).exit_code == 0
    assert set(sequences_of(tmp_path / "out")["u"]) == {*map(str, range(5000)), "x"}


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    result = run(f"sqlite:///{tmp_path}/none.db", "SELECT 1", tmp_path / "out")
    check_refused(result, "there is no database")
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_database_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sqlite3.connect("shop.db").close()
    result = run("sqlite:///shop.db", "SELECT * FROM nothing", tmp_path / "out")
    check_refused(result, "^sqlite:///shop.db refuses the query")
    local = Query("postgresql://localhost/shop", "SELECT 1")
    assert local.without_secrets(f"{local.name} is away") == "postgresql://localhost/shop is away"
    secret = Query("postgresql://me:s3c%20ret@localhost/shop", "SELECT 1")
    assert secret.without_secrets(f"{secret.uri}: s3c ret") == "postgresql://localhost/shop: ***"


def test_flags_that_do_not_belong_together(sqlite, tmp_path):
    for arguments in (["sql", "x.csv"], ["sql", "--uri", sqlite], ["sql"], ["table", "--uri", sqlite], ["movielens"]):
        result = CliRunner().invoke(app, ["prepare", *arguments, "--output", str(tmp_path / "out")])
        assert isinstance(result.exception, PreparationError), arguments


def test_a_driver_that_is_missing_is_named(sqlite, monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_sqlite.dbapi", None)
    with (
        pytest.raises(PreparationError, match=r"needs: pip install 'e4srec-hf\[sql\]'"),
        Query(sqlite, "SELECT 1").open(),
    ):
        pass


def test_a_query_is_a_file_of_items_too(sqlite, tmp_path):
    titles = "SELECT DISTINCT item_id, upper(item_id) AS title FROM log"
    table = Query(sqlite, "SELECT user_id, item_id, at AS timestamp FROM log")
    prepare_all("table", table, tmp_path / "out", metadata=Query(sqlite, titles))
    assert titles_of(tmp_path / "out")["item 3"] == "ITEM 3"
    assert rejected_of(tmp_path / "out") == []
