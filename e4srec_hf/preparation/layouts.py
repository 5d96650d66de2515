"""Turn blocks of lines into Arrow batches of raw records, and make the SQL that extracts the columns of a log.

A batch has ``position`` (see [`POSITION_OF_FILE`]), ``reason`` (why the record is invalid, or null) and ``record``: the
line of a JSON file, or the fields of delimited text.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .lines import MAX_LINE, Block
from .source import Log
from .sql import present, sql_text, whole_number

#: Position of a record = number of its file * this + number of its line.
POSITION_OF_FILE = 1 << 40
#: A separator that stands for one or more blanks.
BLANK = " "
#: A quoted field that spans more lines, or more characters than the longest line, counts as unclosed.
MAX_LINES_OF_RECORD = 1000
#: Reasons why a record is invalid.
BAD_QUOTES = "unclosed or misplaced quotes"
NO_OBJECT = "not a JSON object"
REPEATED_HEADER = "repeated header"
FRACTION = "an id is a floating-point number; expected text or a whole number"


@dataclass(frozen=True)
class JsonLines:
    """One JSON object per line.

    Attributes:
        log: The columns to extract.
    """

    log: Log

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches."""
        return _schema(pa.string())

    @property
    def names(self) -> dict[str, str]:
        """SQL name of a column to its name in the file."""
        return {column: " or ".join(aliases) for column, aliases in self.log.columns.items()}

    def batches(self, blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
        """Batches of lines and of invalid lines; empty lines are ignored."""
        return _line_batches(blocks, file)

    def columns_sql(self) -> str:
        """SQL that selects position, reason, content and the columns (text or NULL) from ``batches``."""
        aliases = [alias for names in self.log.columns.values() for alias in names]
        pointers = ", ".join(sql_text("/" + alias.replace("~", "~0").replace("/", "~1")) for alias in aliases)
        texts = {
            column: [present(_scalar(aliases.index(name) + 1, column, self.log)) for name in names]
            for column, names in self.log.columns.items()
        }
        fractions = " OR ".join(
            _is_fraction(aliases.index(name) + 1) for column in self.log.ids for name in self.log.columns[column]
        )
        columns = ", ".join(f"coalesce({', '.join(found)}) AS {column}" for column, found in texts.items())
        return f"""
            WITH objects AS (
                SELECT position, reason, record, CASE
                    WHEN reason IS NOT NULL THEN NULL
                    WHEN json_valid(record) AND ltrim(record)[1] = '{{' THEN record
                    ELSE as_json(record)
                END AS object FROM batches
            ),
            found AS (
                SELECT *, json_extract_string(object, [{pointers}]) AS found, json_type(object, [{pointers}]) AS types
                FROM objects
            )
            SELECT position, CASE
                    WHEN reason IS NOT NULL THEN reason
                    WHEN object IS NULL THEN {sql_text(NO_OBJECT)}
                    WHEN {fractions} THEN {sql_text(FRACTION)}
                END AS reason,
                record AS content, {columns}
            FROM found"""


@dataclass(frozen=True)
class TextLines:
    """Whole lines, for the reference text format."""

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches."""
        return _schema(pa.string())

    @property
    def names(self) -> dict[str, str]:
        """There are no columns."""
        return {}

    def batches(self, blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
        """Batches of lines and of invalid lines; empty lines are ignored."""
        return _line_batches(blocks, file)

    def columns_sql(self) -> str:
        """SQL that selects position, reason, content and the line from ``batches``."""
        return "SELECT position, reason, record AS content, record AS line FROM batches"


@dataclass(frozen=True)
class Delimited:
    """Delimited text.

    Attributes:
        separator: One or more characters.
        quoted: Whether fields may be in double quotes.
        header: The fields of the header, or ``None`` without a header.
        columns: The columns to extract.
        places: Column to its index among the fields, from 0.
        width: Number of fields of a record.
        header_line: Line number of the header; 0 without a header.
    """

    separator: str
    quoted: bool
    header: tuple[str, ...] | None
    columns: tuple[str, ...]
    places: Mapping[str, int]
    width: int
    header_line: int = 0

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches."""
        return _schema(pa.list_(pa.string()))

    @property
    def names(self) -> dict[str, str]:
        """SQL name of a column to its name in the header, or its number from 1."""
        return {column: self.header[place] if self.header else str(place + 1) for column, place in self.places.items()}

    def batches(self, blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
        """Batches of records and of invalid records; empty lines are ignored."""
        header = pa.scalar(file * POSITION_OF_FILE + self.header_line)
        carried: list[str] = []  # lines of a record that may continue in the next block
        for block in blocks:
            bad = list(block.bad)
            if carried or (self.quoted and len(self.separator) == 1 and block.has_quotes):
                lines = [*carried, *(f"{line}\n" for line in block.lines.to_pylist())]
                first = block.first - len(carried)
                with _fields_of_any_size():
                    numbers, records, misquoted, carried = self._parse(lines, first, block.last)
                bad += misquoted
                places = pa.array(np.asarray(numbers, np.int64) + file * POSITION_OF_FILE)
                batch = _batch(places, pa.array(records, pa.list_(pa.string())), None, self.schema)
            else:
                fields = _split(block.lines, self.separator)
                batch = _batch(_positions(block, file), fields, pc.binary_length(block.lines), self.schema)
            if block.first <= self.header_line < block.first + len(block.lines):
                batch = batch.filter(pc.not_equal(batch["position"], header))
            yield batch
            if bad:
                yield _bad_batch(bad, file, self.schema)

    def _parse(
        self, lines: list[str], first: int, is_end: bool
    ) -> tuple[list[int], list[list[str]], list[tuple[int, str, str]], list[str]]:
        """Line numbers, records and invalid records of lines with quotes, and lines to carry over to the next block."""
        numbers: list[int] = []
        records: list[list[str]] = []
        bad: list[tuple[int, str, str]] = []
        place = 0
        while place < len(lines):
            following, record = place + 1, []
            if '"' not in lines[place]:
                line = lines[place].rstrip("\n")
                record = split_fields(line, self.separator, quoted=False) if line else []
            else:
                window = range(place, min(place + MAX_LINES_OF_RECORD, len(lines)))
                reader = csv.reader(map(lines.__getitem__, window), strict=True, **_dialect(self.separator))
                try:
                    record = next(reader)
                    following = place + reader.line_num
                except csv.Error:
                    held = sum(len(lines[number]) for number in window)
                    if not is_end and len(window) < MAX_LINES_OF_RECORD and held <= MAX_LINE:
                        return numbers, records, bad, lines[place:]
                    bad.append((first + place, BAD_QUOTES, lines[place].rstrip("\n")))
            if record:
                numbers.append(first + place)
                records.append(record)
            place = following
        return numbers, records, bad, []

    def columns_sql(self) -> str:
        """SQL that selects position, reason, content and the columns (text or NULL) from ``batches``."""
        columns = ", ".join(
            f"{present(f'record[{self.places[column] + 1}]') if column in self.places else 'NULL::VARCHAR'} AS {column}"
            for column in self.columns
        )
        header = [self.header[place] for place in self.places.values()] if self.header else []
        repeated = " AND ".join(
            f"record[{place + 1}] = {sql_text(name)}"
            for place, name in zip(self.places.values(), header, strict=bool(header))
        )
        return f"""
            SELECT position, CASE
                WHEN reason IS NOT NULL THEN reason
                WHEN len(record) <> {self.width} THEN 'expected {self.width} fields'
                {f"WHEN {repeated} THEN {sql_text(REPEATED_HEADER)}" if repeated else ""}
            END AS reason, array_to_string(record, {sql_text(self.separator)}) AS content, {columns}
            FROM batches"""


def _is_fraction(place: int) -> str:
    """SQL for whether a JSON value is a floating-point number, and not a whole number too large for SQL."""
    return f"(types[{place}] = 'DOUBLE' AND NOT regexp_full_match(found[{place}], '-?[0-9]+'))"


def _scalar(place: int, column: str, log: Log) -> str:
    """SQL for a JSON value as text, NULL if it is neither a string nor a number; a time or rating 5.0 becomes 5."""
    value = f"found[{place}]"
    return f"""CASE
        {f"WHEN types[{place}] = 'BOOLEAN' THEN {value}" if column in log.filters else ""}
        WHEN types[{place}] IN ('VARCHAR', 'BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT') THEN {value}
        WHEN types[{place}] = 'DOUBLE' AND isfinite(try_cast({value} AS DOUBLE)) THEN {whole_number(value)}
    END"""


Layout = JsonLines | TextLines | Delimited


@contextmanager
def _fields_of_any_size() -> Iterator[None]:
    before = csv.field_size_limit(2 * MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def split_fields(line: str, separator: str, quoted: bool) -> list[str]:
    """The fields of a line."""
    if quoted and len(separator) == 1:
        try:
            return next(csv.reader([line], strict=True, **_dialect(separator)), [])
        except csv.Error:
            pass
    return re.split(" +", line.strip(BLANK)) if separator == BLANK else line.split(separator)


def _split(lines: pa.StringArray, separator: str) -> pa.ListArray:
    if separator == BLANK:
        return pc.split_pattern_regex(pc.utf8_trim(lines, BLANK), " +")
    return pc.split_pattern(lines, separator)


def _dialect(separator: str) -> dict[str, Any]:
    return {"delimiter": separator, "skipinitialspace": separator == BLANK}


def _schema(record: pa.DataType) -> pa.Schema:
    return pa.schema([("position", pa.int64()), ("record", record), ("reason", pa.string())])


def _line_batches(blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
    schema = _schema(pa.string())
    for block in blocks:
        yield _batch(_positions(block, file), block.lines, pc.binary_length(block.lines), schema)
        if block.bad:
            yield _bad_batch(block.bad, file, schema)


def _positions(block: Block, file: int) -> pa.Array:
    start = file * POSITION_OF_FILE + block.first
    return pa.array(np.arange(start, start + len(block.lines)))


def _batch(positions: pa.Array, records: pa.Array, lengths: pa.Array | None, schema: pa.Schema) -> pa.RecordBatch:
    batch = pa.record_batch([positions, records, pa.nulls(len(positions), pa.string())], schema=schema)
    is_filled = None if lengths is None else pc.greater(lengths, 0)
    return batch if is_filled is None or pc.all(is_filled, min_count=0).as_py() else batch.filter(is_filled)


def _bad_batch(bad: Sequence[tuple[int, str, str]], file: int, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of invalid records."""
    nested = schema.field("record").type != pa.string()
    return pa.record_batch(
        [
            pa.array([file * POSITION_OF_FILE + number for number, _, _ in bad], pa.int64()),
            pa.array([[content] if nested else content for _, _, content in bad], schema.field("record").type),
            pa.array([reason for _, reason, _ in bad], pa.string()),
        ],
        schema=schema,
    )
