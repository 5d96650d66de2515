"""Raw files into a DuckDB table of records: the fields that matter, and of a bad record the reason.

DuckDB's own readers of text are not used: they stop at malformed input that should be counted, or leave out where it
was. Lines are cut and numbered here, with Arrow; parsing, checking and everything behind it is SQL.
"""

import ast
import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from tqdm.auto import tqdm

from ..data.item_tokenizer import PAD_TOKEN, UNK_TOKEN
from .errors import PreparationError
from .files import (
    DECOMPRESSION_ERRORS,
    HashedStream,
    copy_here,
    decompressed,
    file_size,
    first_bytes,
    open_raw,
    recorded_name,
    shown,
)
from .layouts import POSITION_OF_FILE, WRONG_FILE, find_layout
from .lines import Block, read_lines
from .options import PreparationOptions
from .progress import bar_of
from .source import Log, Source
from .sql import present, sql_name, sql_text

DAY = 86_400_000_000
SPECIAL = "an item id that stands for no item: [PAD] or [UNK]"
#: A number as large or larger is in the next smaller unit, of those that a time may be in.
UNITS = (("s", 1e11, 1e6), ("ms", 1e14, 1e3), ("us", 1e17, 1.0), ("ns", None, 1e-3))


def create_records(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables that files are read into, and what SQL needs from Python."""
    text: Any = ["VARCHAR"]
    connection.create_function("as_json", _as_json, text, "VARCHAR", null_handling="special")  # type: ignore[call-overload]
    connection.execute(
        "CREATE TABLE records (position BIGINT, user_id VARCHAR, item_id VARCHAR, time BIGINT, rating DOUBLE,"
        " title VARCHAR, skipped VARCHAR, reason VARCHAR, content VARCHAR)"
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
        connection: Where [`create_records`] was called.
        paths: The files, in the order that ties may go by.
        source: What is special about them.
        options: What is asked for.
        now: The present, in microseconds.
        work: A folder for what cannot be read in place.

    Returns:
        Of each file its name, SHA-256 and size.

    Raises:
        PreparationError: If a file is broken as a whole, or has not the columns.
    """
    insert = _insert_sequences if source.time is None else _insert_interactions

    def statement(columns: str) -> str:
        return insert(columns, source, options, now)

    facts: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        found = _read_file(connection, path, source.log, options.encoding, number, work, statement)
        if twins := [other["name"] for other in facts if other["sha256"] == found["sha256"] and found["bytes"]]:
            raise PreparationError(f"{shown(path)} and {twins[0]} have the same content: it would count twice.")
        facts.append(found)
    return facts


def read_titles(
    connection: duckdb.DuckDBPyConnection, path: str, source: Source, encoding: str | None, number: int, work: Path
) -> dict[str, Any]:
    """Read a file of items into ``titles``: the first title of an item in the file.

    Returns:
        Name, SHA-256 and size of the file, and how many records it has.

    Raises:
        PreparationError: As [`read_log`], or if the source has no such file.
    """
    if source.metadata is None:
        raise PreparationError(f"{source.name} has no file of items.")
    facts = _read_file(
        connection,
        path,
        source.metadata,
        encoding,
        number,
        work,
        lambda columns: f"CREATE TABLE metadata AS SELECT * FROM ({columns})",
    )
    connection.execute(
        "INSERT INTO bad_metadata SELECT position, coalesce(reason, 'no item'), content FROM metadata"
        " WHERE reason IS NOT NULL OR item IS NULL"
    )
    connection.execute(
        "INSERT OR IGNORE INTO titles SELECT item, arg_min(title, position) FROM metadata"
        " WHERE reason IS NULL AND item IS NOT NULL AND title IS NOT NULL GROUP BY item"
    )
    facts["records"] = connection.execute("SELECT count(*) FROM metadata").fetchall()[0][0]
    connection.execute("DROP TABLE metadata")
    return facts


def collect_titles(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the titles that the log has, of each item the first one, where no file of items says it."""
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
    """Run a statement on SQL that selects ``position``, ``reason``, ``content`` and the columns of a log."""
    start = first_bytes(path)
    if start[:4] == b"PAR1":
        return _read_parquet(connection, path, log, number, work, statement)
    if start[:2] == b"PK" and path.lower().endswith(".xlsx"):
        spreadsheet, text = work / f"{number}.xlsx", work / f"{number}.csv"
        facts = copy_here(path, spreadsheet)
        _write_csv(spreadsheet, text, path)
        _read_file(connection, str(text), log, "utf-8", number, work, statement)
        return {"name": recorded_name(path), **facts}
    failure: list[Exception] = []
    with open_raw(path) as raw:
        blocks = read_lines(decompressed(raw, path), encoding=encoding, fallback_encoding=log.fallback_encoding)
        blocks = _watched(blocks, raw, path, failure)
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
        return {"name": recorded_name(path), **raw.finish()}


def _watched(blocks: Iterator[Block], raw: HashedStream, path: str, failure: list[Exception]) -> Iterator[Block]:
    """Show how far reading is; keep an error of a compressed file, which DuckDB would hide."""
    with tqdm(
        total=file_size(path), desc=f"reading {recorded_name(path)}", unit="B", unit_scale=True, disable=None
    ) as bar:
        try:
            for block in blocks:
                bar.update(raw.size - bar.n)
                yield block
        except DECOMPRESSION_ERRORS as error:
            failure.append(
                PreparationError(f"{shown(path)}: the compressed file is broken or was cut short ({error}).")
            )
            raise failure[0] from error
        except (OSError, UnicodeError) as error:
            failure.append(PreparationError(f"{shown(path)} could not be read to its end: {error}"))
            raise failure[0] from error


def _read_parquet(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    log: Log,
    number: int,
    work: Path,
    statement: Callable[[str], str],
) -> dict[str, Any]:
    local = work / f"{number}.parquet"
    facts = copy_here(path, local)
    file = f"read_parquet({sql_text(str(local))}, file_row_number = true)"
    try:
        types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()}
        there = {name.casefold(): name for name in types if name != "file_row_number"}
        columns = [
            f"{_parquet_text(column, aliases, there, types, log, path)} AS {column}"
            for column, aliases in log.columns.items()
        ]
        with bar_of(connection, f"reading {recorded_name(path)}"):
            connection.execute(
                statement(
                    f"SELECT {number * POSITION_OF_FILE + 1} + file_row_number AS position, NULL::VARCHAR AS reason,"
                    f" NULL::VARCHAR AS content, {', '.join(columns)} FROM {file}"
                )
            )
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.BinderException) as error:
        raise PreparationError(f"{shown(path)} is no Parquet file that can be read: {error}") from error
    local.unlink()
    return {"name": recorded_name(path), **facts}


def _parquet_text(
    column: str, aliases: Sequence[str], there: dict[str, str], types: dict[str, str], log: Log, path: str
) -> str:
    """SQL for a column of a Parquet file as text."""
    names = [there[alias.casefold()] for alias in aliases if alias.casefold() in there]
    if not names and column in log.optional:
        return "NULL::VARCHAR"
    if not names:
        raise PreparationError(
            f"{shown(path)} has no column {aliases[0]!r}; its columns are {list(there.values())}. {WRONG_FILE}"
        )
    name, kind = sql_name(names[0]), types[names[0]]
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "BLOB", "BIT", "BOOLEAN")):
        raise PreparationError(f"{shown(path)}: the column {names[0]!r} holds {kind}, and no texts, numbers or times.")
    text = f"CAST({name} AS VARCHAR)"
    if kind in ("DOUBLE", "FLOAT"):  # as whole numbers are when one of them is missing
        whole = f"CAST(CAST({name} AS BIGINT) AS VARCHAR)"
        text = f"""CASE WHEN NOT isfinite({name}) THEN NULL
            WHEN {name} = trunc({name}) AND abs({name}) < {1 << 53} THEN {whole} ELSE {text} END"""
    return present(text)


def _write_csv(spreadsheet: Path, text: Path, path: str) -> None:
    """The first sheet of a spreadsheet as CSV."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ModuleNotFoundError as error:
        raise PreparationError(f"{shown(path)}: pip install 'e4srec-hf[excel]' reads spreadsheets.") from error
    try:
        workbook = CalamineWorkbook.from_path(str(spreadsheet))
    except CalamineError as error:
        raise PreparationError(f"{shown(path)} is no spreadsheet that can be read: {error}") from error
    with text.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in workbook.get_sheet_by_index(0).iter_rows():
            writer.writerow([int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in row])


def _insert_interactions(columns: str, source: Source, options: PreparationOptions, now: int) -> str:
    """SQL that reads columns of text as interactions, and says of each bad one why it is."""
    owner = source.owners[str(options.owner)]
    skips = " ".join(f"WHEN {condition} THEN {sql_text(name)}" for name, condition in owner.skips.items())
    too_early = "WHEN time < 0 THEN 'a time before 1970'" if options.negative_times == "reject" else ""
    unrated = (
        ""
        if options.min_rating is None
        else "WHEN rating IS NULL OR isnan(rating) THEN 'no rating, or one that is no number'"
    )
    return f"""
        INSERT INTO records
        WITH columns AS ({columns}),
        meant AS (
            SELECT position, reason, content,
                {owner.user} AS user_id, {source.item} AS item_id, {source.time} AS moment,
                try_cast({source.rating or "NULL"} AS DOUBLE) AS rating, {source.title or "NULL"} AS title,
                {f"CASE WHEN reason IS NOT NULL THEN NULL {skips} END" if skips else "NULL"} AS skipped
            FROM columns
        ),
        timed AS (SELECT *, {_time(source, options)} AS time FROM meant),
        judged AS (
            SELECT * REPLACE (CASE
                WHEN reason IS NOT NULL THEN reason
                WHEN skipped IS NOT NULL THEN NULL
                WHEN user_id IS NULL THEN 'no user'
                WHEN item_id IS NULL THEN 'no item'
                WHEN item_id IN ({sql_text(PAD_TOKEN)}, {sql_text(UNK_TOKEN)})
                    THEN {sql_text(SPECIAL)}
                WHEN moment IS NULL THEN 'no time'
                WHEN time IS NULL THEN 'a time that is not understood'
                {too_early}
                WHEN time > {now + DAY} THEN 'a time in the future'
                WHEN abs(time) > 1e17 THEN 'a time that is not understood'
                {unrated}
            END AS reason) FROM timed
        )
        SELECT position, user_id, item_id, CASE WHEN reason IS NULL THEN CAST(round(time) AS BIGINT) END, rating,
            title, skipped, reason, CASE WHEN reason IS NOT NULL THEN
                coalesce(content, to_json({{'user': user_id, 'item': item_id, 'time': moment}})::VARCHAR)
            END
        FROM judged"""


def _insert_sequences(columns: str, source: Source, options: PreparationOptions, now: int) -> str:
    """SQL that reads lines of the reference text format; the order in a line is that of time."""
    special = f"{sql_text(PAD_TOKEN)}, {sql_text(UNK_TOKEN)}"
    return f"""
        INSERT INTO records
        WITH columns AS ({columns}),
        cut AS (SELECT *, list_filter(string_split_regex(line, '[ \t]+'), lambda x: x <> '') AS fields FROM columns),
        judged AS (
            SELECT * REPLACE (CASE
                WHEN reason IS NOT NULL THEN reason
                WHEN len(fields) = 0 THEN 'no user'
                WHEN len(fields) = 1 THEN 'a user without items'
                WHEN row_number() OVER (PARTITION BY fields[1], reason IS NULL ORDER BY position) > 1
                    OR fields[1] IN (SELECT user_id FROM records WHERE user_id IS NOT NULL)
                    THEN 'a user who came before'
            END AS reason) FROM cut
        ),
        items AS (
            SELECT position, fields[1] AS user_id, unnest(fields[2:]) AS item_id,
                generate_subscripts(fields[2:], 1) AS place FROM judged WHERE reason IS NULL
        )
        SELECT position // {POSITION_OF_FILE} * {POSITION_OF_FILE} + row_number() OVER (ORDER BY position, place),
            user_id, item_id, 0, NULL, NULL, NULL, NULL, NULL
        FROM items WHERE item_id NOT IN ({special})
        UNION ALL SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, {sql_text(SPECIAL)}, item_id
        FROM items WHERE item_id IN ({special})
        UNION ALL SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, reason, content FROM judged
        WHERE reason IS NOT NULL"""


def _time(source: Source, options: PreparationOptions) -> str:
    """SQL for ``moment`` as microseconds since 1970, a DOUBLE; NULL where it is not understood."""
    if options.time_format is not None:
        return f"epoch_us(try_strptime(moment, {sql_text(options.time_format)}))::DOUBLE"
    number = "(CASE WHEN NOT contains(moment, '_') THEN try_cast(moment AS DOUBLE) END)"  # SQL takes 1_000 for 1000
    if options.time_unit == "auto":
        cases = " ".join(
            f"WHEN abs({number}) < {limit} THEN {number} * {factor}" if limit else f"ELSE {_nanoseconds()}"
            for _, limit, factor in UNITS
        )
        as_number = f"CASE {cases} END"
    elif options.time_unit == "ns":
        as_number = _nanoseconds()
    else:
        as_number = f"{number} * {next(factor for unit, _, factor in UNITS if unit == options.time_unit)}"
    zoned = "(CASE WHEN moment[1] BETWEEN '0' AND '9' THEN try_cast(moment AS TIMESTAMPTZ) END)"  # nor epoch for 1970
    formats = "".join(f", epoch_us(try_strptime(moment, {sql_text(one)}))::DOUBLE" for one in source.time_formats)
    return f"""CASE
        WHEN NOT isfinite({number}) THEN NULL
        WHEN {number} IS NOT NULL THEN {as_number}
        ELSE coalesce(CASE WHEN isfinite({zoned}) THEN epoch_us({zoned})::DOUBLE END{formats})
    END"""


def _nanoseconds() -> str:
    return "(try_cast(moment AS HUGEINT) // 1000)::DOUBLE"  # a DOUBLE holds no nanosecond of today


def _as_json(line: str | None) -> str | None:
    """The scalar fields of a line that DuckDB does not take for JSON: an odd JSON, or a Python literal as in 2014.

    Nothing is evaluated. What is no object, or no text in UTF-8, is left out.
    """
    if line is None:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    if not isinstance(found, dict):
        return None
    scalars = {
        name: value
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, str | int | float) and _is_text(name) and _is_text(value)
    }
    return json.dumps(scalars)


def _is_text(value: Any) -> bool:
    try:
        str(value).encode()
    except (UnicodeEncodeError, ValueError):  # half a surrogate pair; more digits than Python prints
        return False
    return True
