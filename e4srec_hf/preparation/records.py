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
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from .content import PARQUET, Content, HashedStream, check_start, check_unfolded, copy_content, open_content
from .detection import find_layout
from .errors import PreparationError
from .files import READING_ERRORS, as_member, file_size, public_name, recorded_name, why_unreadable
from .interactions import count
from .json_text import as_json
from .layouts import POSITION_OF_FILE
from .lines import Block, TextDigest, read_lines
from .options import PreparationOptions
from .parsing import insert_interactions, insert_sequences, without_marks
from .source import Log, Source
from .tables import ROWS, facts_of_table, name_of_table, open_table, read_table
from .workbooks import without_types

#: A file by its name, or a table or query (see `tables.is_table`).
Input = Any


def input_name(path: Input) -> str:
    """Name of a file or table in messages."""
    return public_name(path) if isinstance(path, str) else name_of_table(path)


#: Records from which files with the same ones are copies: a few may agree by chance.
LEAST_OF_COPY = 20
#: Least size of a value of a table when it is read.
BYTES_OF_VALUE = 8


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
    paths: Sequence[Input],
    source: Source,
    options: PreparationOptions,
    now: int,
    work: Path,
) -> list[dict[str, Any]]:
    """Read the files of a log into ``records``.

    Args:
        connection: A connection on which [`create_records`] was called.
        paths: The files, or tables; their order may decide ties.
        source: The kind of log.
        options: The options.
        now: The current time, in microseconds.
        work: A folder for temporary copies of files that cannot be read as a stream.

    Returns:
        Name, SHA-256 and size of each file; of a table, its name and number of rows.

    Raises:
        PreparationError: If a file cannot be read or lacks a column, or two files have the same content.
    """
    insert = insert_sequences if "line" in source.log.columns else insert_interactions

    def statement(columns: str) -> str:
        return insert(columns, source, options, now)

    facts: list[dict[str, Any]] = []
    read: dict[str, str] = {}  # hash of a content to its file
    records = 0
    for number, path in enumerate(paths):
        found = _read_file(connection, path, source.log, options.encoding, number, work, statement)
        digest = found.pop("content")
        before, records = records, count(connection, "SELECT count(*) FROM records")
        if digest is not None and records > before:  # many files may be empty but for a header
            if digest in read:
                raise PreparationError(
                    f"{input_name(path)} and {read[digest]} have the same content: it would count twice."
                )
            read[digest] = input_name(path)
        facts.append(found)
    _check_copies(connection, paths)
    return facts


def _check_copies(connection: duckdb.DuckDBPyConnection, paths: Sequence[Input]) -> None:
    """Refuse files with the same records, whatever their layout and order.

    Raises:
        PreparationError: With the names of two of them.
    """
    copies = connection.execute(
        f"""SELECT list_sort(list(file))[:2] FROM (
            SELECT position // {POSITION_OF_FILE} AS file, count(*) AS records,
                sum(hash(user_id, item_id, time, rating, skipped)::HUGEINT) AS digest
            FROM records WHERE reason IS NULL GROUP BY 1 HAVING records >= {LEAST_OF_COPY}
        ) GROUP BY records, digest HAVING count(*) > 1 ORDER BY 1"""
    ).fetchall()
    for (first, second), *_ in copies:
        raise PreparationError(
            f"{input_name(paths[second])} and {input_name(paths[first])} have the same content: it would count twice."
        )


def read_titles(
    connection: duckdb.DuckDBPyConnection,
    path: Input,
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
            f"{input_name(path)}: none of its {facts['records']:,} records has an id and a title.{seen} "
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
    path: Input,
    log: Log,
    encoding: str | None,
    number: int,
    work: Path,
    statement: Callable[[str], str],
) -> dict[str, Any]:
    """Run ``statement`` on the SQL that selects ``position``, ``reason``, ``content`` and the columns of an input.

    Returns:
        Name, SHA-256 and size of the file, names of the columns that were read, and the hash of the content; of a
        table, its name, number of rows and columns.
    """
    if not isinstance(path, str):
        with open_table(path) as reader:
            rows, columns = read_table(connection, reader, name_of_table(path), log, number, statement)
        return {**facts_of_table(path), "rows": rows, "columns": columns, "content": None}
    failure: list[Exception] = []
    with open_content(path, work) as content:
        check_start(content.start, path, encoding)
        if content.start.startswith(PARQUET):
            names = _read_parquet(connection, content, path, log, number, work, statement)
            digest: str | None = content.unfolded.digest.hexdigest()
        else:
            blocks = read_lines(content.stream, encoding=encoding, fallback_encoding=log.fallback_encoding)
            text = TextDigest()
            blocks = text.taken(_with_progress(blocks, content.raw, path, failure))
            first = next(blocks)
            layout = find_layout(log, first, path)
            names = layout.names
            batches = layout.batches(itertools.chain([first], blocks), number)
            is_sheet = (member := as_member(path)) is not None and member.kind == "xlsx"
            connection.register("batches", pa.RecordBatchReader.from_batches(layout.schema, batches))
            try:
                columns_sql = layout.columns_sql()
                connection.execute(statement(without_types(columns_sql, log) if is_sheet else columns_sql))
            except duckdb.Error:
                if failure:
                    raise failure[0] from None
                raise
            finally:
                connection.unregister("batches")
            digest = text.result()
        return {"name": recorded_name(path), **content.finish(), "columns": names, "content": digest}


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
) -> dict[str, str]:
    local, name = work / f"{number}.parquet", public_name(path)
    copy_content(content, local)
    wanted = {alias.casefold() for aliases in log.columns.values() for alias in aliases}
    try:
        with pq.ParquetFile(local) as file:
            names = file.schema_arrow.names
            used = [place for place, column in enumerate(names) if column.casefold() in wanted]
            schema = pa.schema([file.schema_arrow.field(place) for place in used])
            batches = file.iter_batches(ROWS, columns=[names[place] for place in used])
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            check_unfolded(file.metadata.num_rows * len(used) * BYTES_OF_VALUE, local.stat().st_size, name)
            _, columns = read_table(
                connection, reader, name, log, number, statement, names=names, total=file.metadata.num_rows
            )
    except (pa.ArrowException, OSError) as error:
        raise PreparationError(f"{name} is not a readable Parquet file: {error}") from error
    local.unlink()
    return columns
