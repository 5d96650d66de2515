"""Blocks of lines to Arrow batches of raw records: what SQL then takes the columns of a log from.

A batch has ``position`` (see [`POSITION_OF_FILE`]), ``reason`` (why the record is bad, or null) and ``record``: the
line of a JSON file, or the fields of delimited text; of a bad record, what it is.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import PreparationError
from .files import shown
from .lines import MAX_LINE, Block
from .source import Log
from .sql import present, sql_text, whole_number

#: A record's position is the number of its file times this, plus the number of its line.
POSITION_OF_FILE = 1 << 40
#: What a log without a separator of its own may be separated by, in this order.
SEPARATORS = ("::", "\t", ";", "|", ",")
#: How many lines a file is judged by.
LOOKED_AT = 50
#: A quoted field that spans more lines was never closed.
MAX_LINES_OF_RECORD = 1000
#: Why a record is bad.
BAD_QUOTES = "quotes that are not closed or stand in the wrong place"
NO_OBJECT = "no JSON object"
REPEATED_HEADER = "the header again"
#: What to do about a column that is not there.
WRONG_FILE = (
    "Is it the right file for this source? For a table, --user-column, --item-column and --time-column say which "
    "column is which."
)


@dataclass(frozen=True)
class JsonLines:
    """An object a line.

    Attributes:
        log: The columns wanted.
    """

    log: Log

    @property
    def schema(self) -> pa.Schema:
        """Of the batches."""
        return _schema(pa.string())

    def batches(self, blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
        """Lines that are not empty, and the bad ones."""
        return _line_batches(blocks, file)

    def columns_sql(self) -> str:
        """SQL over ``batches`` for position, reason, content and the columns, as text; NULL where there is none."""
        aliases = [alias for names in self.log.columns.values() for alias in names]
        pointers = ", ".join(sql_text("/" + alias.replace("~", "~0").replace("/", "~1")) for alias in aliases)
        columns = ", ".join(
            f"coalesce({', '.join(present(_scalar(aliases.index(name) + 1)) for name in names)}) AS {column}"
            for column, names in self.log.columns.items()
        )
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
            SELECT position,
                CASE WHEN reason IS NULL AND object IS NULL THEN {sql_text(NO_OBJECT)} ELSE reason END AS reason,
                record AS content, {columns}
            FROM found"""


@dataclass(frozen=True)
class TextLines:
    """Whole lines, for the reference text format."""

    @property
    def schema(self) -> pa.Schema:
        """Of the batches."""
        return _schema(pa.string())

    def batches(self, blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
        """Lines that are not empty, and the bad ones."""
        return _line_batches(blocks, file)

    def columns_sql(self) -> str:
        """SQL over ``batches`` for position, reason, content and the line."""
        return "SELECT position, reason, record AS content, record AS line FROM batches"


@dataclass(frozen=True)
class Delimited:
    """Fields between separators.

    Attributes:
        separator: One or more characters.
        quoted: Whether fields may stand in double quotes.
        header: The fields of the header, or ``None`` where there is none.
        columns: The columns wanted.
        places: Column to its place among the fields, from 0.
        width: How many fields a record has.
        header_line: Number of the line of the header; 0 where there is none.
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
        """Of the batches."""
        return _schema(pa.list_(pa.string()))

    def batches(self, blocks: Iterable[Block], file: int) -> Iterator[pa.RecordBatch]:
        """Records whose line is not empty, and the bad ones."""
        header = pa.scalar(file * POSITION_OF_FILE + self.header_line)
        carried: list[str] = []  # lines of a record that may go on in the next block
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
                fields = pc.split_pattern(block.lines, self.separator)
                batch = _batch(_positions(block, file), fields, pc.binary_length(block.lines), self.schema)
            if block.first <= self.header_line < block.first + len(block.lines):
                batch = batch.filter(pc.not_equal(batch["position"], header))
            yield batch
            if bad:
                yield _bad_batch(bad, file, self.schema)

    def _parse(
        self, lines: list[str], first: int, is_end: bool
    ) -> tuple[list[int], list[list[str]], list[tuple[int, str, str]], list[str]]:
        """Records of lines with quotes in them; last, the lines of one that may go on in the next block."""
        numbers: list[int] = []
        records: list[list[str]] = []
        bad: list[tuple[int, str, str]] = []
        place = 0
        while place < len(lines):
            behind, record = place + 1, []
            if '"' not in lines[place]:
                line = lines[place].rstrip("\n")
                record = line.split(self.separator) if line else []
            else:
                window = range(place, min(place + MAX_LINES_OF_RECORD, len(lines)))
                reader = csv.reader(map(lines.__getitem__, window), delimiter=self.separator, strict=True)
                try:
                    record = next(reader)
                    behind = place + reader.line_num
                except csv.Error:
                    if not is_end and len(window) < MAX_LINES_OF_RECORD:
                        return numbers, records, bad, lines[place:]
                    bad.append((first + place, BAD_QUOTES, lines[place].rstrip("\n")))
            if record:
                numbers.append(first + place)
                records.append(record)
            place = behind
        return numbers, records, bad, []

    def columns_sql(self) -> str:
        """SQL over ``batches`` for position, reason, content and the columns, as text; NULL where there is none."""
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
                WHEN len(record) <> {self.width} THEN '{self.width} fields are expected, and there are more or fewer'
                {f"WHEN {repeated} THEN {sql_text(REPEATED_HEADER)}" if repeated else ""}
            END AS reason, array_to_string(record, {sql_text(self.separator)}) AS content, {columns}
            FROM batches"""


def _scalar(place: int) -> str:
    """SQL for the text of a JSON value, NULL where it is no text and no number; 5.0 is 5, as in a table."""
    value = f"found[{place}]"
    return f"""CASE
        WHEN types[{place}] IN ('VARCHAR', 'BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT') THEN {value}
        WHEN types[{place}] = 'DOUBLE' AND isfinite(try_cast({value} AS DOUBLE)) THEN {whole_number(value)}
    END"""


Layout = JsonLines | TextLines | Delimited


def find_layout(log: Log, block: Block, path: str) -> Layout:
    """How a file is laid out, by its first lines.

    Raises:
        PreparationError: If a column that is needed is not there.
    """
    if "line" in log.columns:
        return TextLines()
    columns = tuple(log.columns)
    lines = [line for line in block.lines.slice(0, LOOKED_AT).to_pylist() if line.strip()]
    objects = sum(line.lstrip().startswith("{") for line in lines)
    if 2 * objects >= len(lines):  # of nothing, any layout makes nothing
        return JsonLines(log)
    line = lines[0]
    header_line = block.first + pc.index(block.lines, line).as_py()
    separators = SEPARATORS if log.separator is None else (log.separator,)
    numbers = [aliases[0] for aliases in log.columns.values()]
    if all(number.isdecimal() and int(number) for number in numbers):
        separator = max(separators, key=line.count)
        width = len(_fields(line, separator, log.quoted))
        return Delimited(separator, log.quoted, None, columns, _by_number(log, width, path), width)
    separator, fields, places = max(
        ((s, fields, _by_name(log, fields)) for s in separators for fields in [_fields(line, s, log.quoted)]),
        key=lambda candidate: len(candidate[2]),
    )
    missing = [column for column in log.columns if column not in (*places, *log.optional)]
    if places and not missing:
        return Delimited(separator, log.quoted, tuple(fields), columns, places, len(fields), header_line)
    if log.headerless and not places:
        width = len(log.headerless)
        fits = {s: sum(len(_fields(line, s, log.quoted)) == width for line in lines) for s in separators}
        return Delimited(max(fits, key=lambda s: fits[s]), log.quoted, None, columns, _by_order(log), width)
    seen = _fields(line, max(separators, key=line.count), log.quoted)
    wanted = ", ".join(repr(log.columns[column][0]) for column in missing)
    raise PreparationError(f"{shown(path)} has no column {wanted}. The first line reads {seen[:20]}. {WRONG_FILE}")


def _by_name(log: Log, fields: Sequence[str]) -> dict[str, int]:
    there = {field.strip().casefold(): place for place, field in reversed(list(enumerate(fields)))}
    names = {
        column: [there[alias.casefold()] for alias in aliases if alias.casefold() in there]
        for column, aliases in log.columns.items()
    }
    return {column: places[0] for column, places in names.items() if places}


def _by_number(log: Log, width: int, path: str) -> dict[str, int]:
    places = {column: int(aliases[0]) - 1 for column, aliases in log.columns.items()}
    if max(places.values()) >= width:
        raise PreparationError(
            f"{shown(path)} has {width} columns, and column {max(places.values()) + 1} is asked for."
        )
    return places


def _by_order(log: Log) -> dict[str, int]:
    return {column: place for place, column in enumerate(log.headerless) if column}


@contextmanager
def _fields_of_any_size() -> Iterator[None]:
    before = csv.field_size_limit(2 * MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _fields(line: str, separator: str, quoted: bool) -> list[str]:
    if quoted and len(separator) == 1:
        try:
            return next(csv.reader([line], delimiter=separator, strict=True), [])
        except csv.Error:
            pass
    return line.split(separator)


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
    there = None if lengths is None else pc.greater(lengths, 0)
    return batch if there is None or pc.all(there, min_count=0).as_py() else batch.filter(there)


def _bad_batch(bad: Sequence[tuple[int, str, str]], file: int, schema: pa.Schema) -> pa.RecordBatch:
    """Records that could not be read."""
    nested = schema.field("record").type != pa.string()
    return pa.record_batch(
        [
            pa.array([file * POSITION_OF_FILE + number for number, _, _ in bad], pa.int64()),
            pa.array([[content] if nested else content for _, _, content in bad], schema.field("record").type),
            pa.array([reason for _, reason, _ in bad], pa.string()),
        ],
        schema=schema,
    )
