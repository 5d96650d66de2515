"""Read raw files into a DuckDB table of records, with a reason for each invalid record.

DuckDB's own text readers are not used: they stop at malformed input, which should be counted, or do not report where it
is. Python cuts and numbers the lines, with Arrow; SQL parses and checks them.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from tqdm.auto import tqdm

from .content import PARQUET, Content, HashedStream, check_start, copy_content, open_content
from .detection import find_layout
from .errors import PreparationError
from .files import READING_ERRORS, file_size, public_name, recorded_name, why_unreadable
from .json_text import as_json
from .layouts import POSITION_OF_FILE
from .lines import Block, read_lines
from .options import PreparationOptions
from .parsing import insert_interactions, insert_sequences, without_marks
from .progress import sql_progress
from .source import Log, Source
from .sql import present, sql_name, sql_text


def create_records(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables that files are read into, and the Python function that the SQL calls."""
    text: Any = ["VARCHAR"]
    connection.create_function("as_json", as_json, text, "VARCHAR", null_handling="special")  # type: ignore[call-overload]
    connection.execute(
        "CREATE TABLE records (position BIGINT, user_id VARCHAR, item_id VARCHAR, time BIGINT, rating DOUBLE,"
        " title VARCHAR, skipped VARCHAR, reason VARCHAR, content VARCHAR, moment VARCHAR, kept VARCHAR)"
    )
    connection.execute("CREATE TABLE bad_metadata (position BIGINT, reason VARCHAR, content VARCHAR)")
    connection.execute("CREATE TABLE titles (item_id VARCHAR PRIMARY KEY, title VARCHAR)")


def read_log(
    connection: duckdb.DuckDBPyConnection,
    paths: Sequence[str],
    source: Source,
    options: PreparationOptions,
    now: int,
    work: Path,
) -> list[dict[str, Any]]:
    """Read the files of a log into ``records``.

    Args:
        connection: A connection on which [`create_records`] was called.
        paths: The files; their order may decide ties.
        source: The kind of log.
        options: The options.
        now: The current time, in microseconds.
        work: A folder for temporary copies of files that cannot be read as a stream.

    Returns:
        Name, SHA-256 and size of each file.

    Raises:
        PreparationError: If a file cannot be read or lacks a column, or two files have the same content.
    """
    insert = insert_sequences if "line" in source.log.columns else insert_interactions

    def statement(columns: str) -> str:
        return insert(columns, source, options, now)

    facts: list[dict[str, Any]] = []
    read: dict[str | None, str] = {}  # hash of a content to its file
    for number, path in enumerate(paths):
        found = _read_file(connection, path, source.log, options.encoding, number, work, statement)
        digest = found.pop("content")
        if digest is not None and digest in read:
            raise PreparationError(
                f"{public_name(path)} and {read[digest]} have the same content: it would count twice."
            )
        read[digest] = public_name(path)
        facts.append(found)
    return facts


def read_titles(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    source: Source,
    options: PreparationOptions,
    number: int,
    work: Path,
) -> dict[str, Any]:
    """Read a file of items into ``titles``; the first title of each item counts.

    Returns:
        Name, SHA-256, size and number of records of the file.

    Raises:
        PreparationError: As [`read_log`], or if the source has no file of items.
    """
    if source.metadata is None:
        raise PreparationError(f"{source.name} has no metadata file.")
    facts = _read_file(
        connection,
        path,
        source.metadata,
        options.encoding,
        number,
        work,
        lambda columns: f"CREATE TABLE metadata AS SELECT {without_marks(('item', 'title'), options)} FROM ({columns})",
    )
    connection.execute(
        "INSERT INTO bad_metadata SELECT position, coalesce(reason, 'no item'), content FROM metadata"
        " WHERE reason IS NOT NULL OR item IS NULL"
    )
    connection.execute(
        "INSERT OR IGNORE INTO titles SELECT item, arg_min(title, position) FROM metadata"
        " WHERE reason IS NULL AND item IS NOT NULL AND title IS NOT NULL GROUP BY item"
    )
    del facts["content"]
    counts = (
        "SELECT count(*), count(item) FILTER (reason IS NULL AND title IS NOT NULL), any_value(content) FROM metadata"
    )
    facts["records"], usable, content = connection.execute(counts).fetchall()[0]
    if not usable:
        seen = f" One is {content[:200]!a}." if content else ""
        raise PreparationError(
            f"{public_name(path)}: none of its {facts['records']:,} records has an id and a title.{seen} "
            f"{source.metadata.advice}"
        )
    connection.execute("DROP TABLE metadata")
    return facts


def collect_titles(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the first title of each item in the log, for items without a title from a file of items."""
    connection.execute(
        "INSERT OR IGNORE INTO titles SELECT item_id, arg_min(title, position) FROM records"
        " WHERE reason IS NULL AND skipped IS NULL AND title IS NOT NULL GROUP BY item_id"
    )


def _read_file(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    log: Log,
    encoding: str | None,
    number: int,
    work: Path,
    statement: Callable[[str], str],
) -> dict[str, Any]:
    """Run ``statement`` on the SQL that selects ``position``, ``reason``, ``content`` and the columns of a file.

    Returns:
        Name, SHA-256 and size of the file, and the hash of its content.
    """
    failure: list[Exception] = []
    with open_content(path, work) as content:
        check_start(content.start, path, encoding)
        if content.start.startswith(PARQUET):
            _read_parquet(connection, content, path, log, number, work, statement)
        else:
            blocks = read_lines(content.stream, encoding=encoding, fallback_encoding=log.fallback_encoding)
            blocks = _with_progress(blocks, content.raw, path, failure)
            first = next(blocks)
            layout = find_layout(log, first, path)
            batches = layout.batches(itertools.chain([first], blocks), number)
            connection.register("batches", pa.RecordBatchReader.from_batches(layout.schema, batches))
            try:
                connection.execute(statement(layout.columns_sql()))
            except duckdb.Error:
                if failure:
                    raise failure[0] from None
                raise
            finally:
                connection.unregister("batches")
        facts, digest = content.finish()
        return {"name": recorded_name(path), **facts, "content": digest}


def _with_progress(blocks: Iterator[Block], raw: HashedStream, path: str, failure: list[Exception]) -> Iterator[Block]:
    """Show the progress; keep a read error in ``failure``, because DuckDB would hide it."""
    with tqdm(
        total=file_size(path), desc=f"reading {recorded_name(path)}", unit="B", unit_scale=True, disable=None
    ) as bar:
        try:
            for block in blocks:
                bar.update(raw.size - bar.n)
                yield block
        except PreparationError as error:
            name = public_name(path)
            failure.append(error if name in str(error) else PreparationError(f"{name}: {error}"))
            raise failure[0] from error
        except READING_ERRORS as error:
            failure.append(why_unreadable(path, error))
            raise failure[0] from error


def _read_parquet(
    connection: duckdb.DuckDBPyConnection,
    content: Content,
    path: str,
    log: Log,
    number: int,
    work: Path,
    statement: Callable[[str], str],
) -> None:
    local = work / f"{number}.parquet"
    copy_content(content, local)
    file = f"read_parquet({sql_text(str(local))}, file_row_number = true)"
    try:
        types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()}
        names = {name.casefold(): name for name in types if name != "file_row_number"}
        columns = [
            f"{_parquet_text(column, aliases, names, types, log, path)} AS {column}"
            for column, aliases in log.columns.items()
        ]
        with sql_progress(connection, f"reading {recorded_name(path)}"):
            connection.execute(
                statement(
                    f"SELECT {number * POSITION_OF_FILE + 1} + file_row_number AS position, NULL::VARCHAR AS reason,"
                    f" NULL::VARCHAR AS content, {', '.join(columns)} FROM {file}"
                )
            )
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.BinderException) as error:
        raise PreparationError(f"{public_name(path)} is not a readable Parquet file: {error}") from error
    local.unlink()


def _parquet_text(
    column: str, aliases: Sequence[str], names: dict[str, str], types: dict[str, str], log: Log, path: str
) -> str:
    """SQL for a column of a Parquet file as text."""
    found = next((names[alias.casefold()] for alias in aliases if alias.casefold() in names), None)
    if found is None and column in log.optional:
        return "NULL::VARCHAR"
    if found is None:
        raise PreparationError(
            f"{public_name(path)} has no column {aliases[0]!r}; its columns are {list(names.values())}. {log.advice}"
        )
    name, kind = sql_name(found), types[found]
    if kind == "BOOLEAN" and column in log.filters:
        return f"CAST({name} AS VARCHAR)"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "BLOB", "BIT", "BOOLEAN")):
        raise PreparationError(f"{public_name(path)}: column {found!r} is {kind}; expected text, numbers or times.")
    text = f"CAST({name} AS VARCHAR)"
    if kind in ("DOUBLE", "FLOAT"):  # whole numbers become floating-point if one is missing
        whole = f"CAST(CAST({name} AS BIGINT) AS VARCHAR)"
        text = f"""CASE WHEN NOT isfinite({name}) THEN NULL
            WHEN {name} = trunc({name}) AND abs({name}) < {1 << 53} THEN {whole} ELSE {text} END"""
    return present(text)
