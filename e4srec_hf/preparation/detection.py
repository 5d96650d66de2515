"""Detect the layout of a file from its first lines, and refuse what only looks like it."""

import itertools
import re
from collections.abc import Mapping, Sequence

import pyarrow.compute as pc

from .errors import PreparationError
from .files import public_name
from .json_text import parse_object
from .layouts import BLANK, Delimited, JsonLines, Layout, TextLines, split_fields
from .lines import Block
from .source import Log

#: Separators to try, in this order, if the log does not define one.
SEPARATORS = ("::", "\t", ";", "|", ",", BLANK)
#: A column of a header with its type.
TYPED = re.compile(r".+:(token|token_seq|float|float_seq)")
#: Characters of a file shown in a message.
MOST_SHOWN = 300
#: Characters of the first line of delimited text, which is split in several ways.
LONGEST_FIRST = 1 << 20
#: Number of lines from which the layout of a file is detected.
SAMPLE_LINES = 50
#: What to do if there is one column.
WRONG_SEPARATOR = "Are its columns separated by something else? For a table, name it with --separator."


def find_layout(log: Log, block: Block, path: str) -> Layout:
    """Detect the layout of a file from its first lines.

    Raises:
        PreparationError: If a required column is missing.
    """
    if "line" in log.columns:
        return TextLines()
    columns, name = tuple(log.columns), public_name(path)
    lines = [line for line in block.lines.slice(0, SAMPLE_LINES).to_pylist() if line.strip()]
    objects = sum(line.lstrip().startswith("{") for line in lines)
    if 2 * objects >= len(lines):  # also if there are no lines: any layout gives no records
        _check_keys(log, block, name)
        return JsonLines(log)
    line = lines[0]
    if len(line) > LONGEST_FIRST:
        raise PreparationError(
            f"{name} has a first line of {len(line):,} characters, which is no header and no record."
        )
    header_line = block.first + pc.index(block.lines, line).as_py()
    separators = SEPARATORS if log.separator is None else (log.separator,)
    likely = _likely(line, separators)
    seen = split_fields(line, likely, log.quoted)
    shown = ascii(seen[:20])[:MOST_SHOWN]
    numbers = [aliases[0] for aliases in log.columns.values()]
    if all(number.isdecimal() and int(number) for number in numbers):
        places = {column: int(number) - 1 for column, number in zip(columns, numbers, strict=True)}
        if max(places.values()) >= len(seen):
            raise PreparationError(
                f"{name} has {len(seen)} columns, but column {max(places.values()) + 1} was requested. Its first line "
                f"is {shown}. {WRONG_SEPARATOR}"
            )
        return Delimited(likely, log.quoted, None, columns, places, len(seen))
    separator, fields, places = max(
        ((s, fields, _by_name(log, fields)) for s in separators for fields in [split_fields(line, s, log.quoted)]),
        key=lambda candidate: len(candidate[2]),
    )
    missing = [column for column in log.columns if column not in (*places, *log.optional)]
    if places and not missing:
        _check_unique(places, fields, name)
        quoted = log.quoted and not _are_typed(fields)
        return Delimited(separator, quoted, tuple(fields), columns, places, len(fields), header_line)
    if log.headerless and not places:
        forms = [
            (separator, order, [split_fields(line, separator, log.quoted) for line in lines])
            for separator, order in itertools.product(separators, log.headerless)
        ]
        separator, order, rows = max(forms, key=lambda form: sum(len(row) == len(form[1]) for row in form[2]))
        missing = [column for column in missing if column not in order]
        if not missing:
            _check_order(log, order, rows, name)
            places = {column: place for place, column in enumerate(order) if column}
            return Delimited(separator, log.quoted, None, columns, places, len(order))
    wanted = ", ".join(repr(log.columns[column][0]) for column in missing)
    advice = WRONG_SEPARATOR if len(seen) == 1 else log.advice
    raise PreparationError(f"{name} has no column {wanted}. Its first line is {shown}. {advice}")


def _check_keys(log: Log, block: Block, name: str) -> None:
    """Refuse JSON lines in which no object has a required key.

    The first lines are looked at, and more only if a key is missing in all of them.

    Raises:
        PreparationError: With the keys that are there.
    """
    required = [names for column, names in log.columns.items() if column not in log.optional]
    for lines in (block.lines.slice(0, SAMPLE_LINES), block.lines):
        keys = {key: None for line in lines.to_pylist() for key in parse_object(line) or ()}
        missing = [names[0] for names in required if not any(key in keys for key in names)]
        if not missing:
            return
    if keys:
        shown = ascii(list(keys))[:MOST_SHOWN]
        raise PreparationError(f"{name} has no key {', '.join(map(repr, missing))}. Its keys are {shown}. {log.advice}")


def _check_order(log: Log, order: Sequence[str], lines: Sequence[Sequence[str]], name: str) -> None:
    """Refuse a file that is read without a header if its first line is one, or its columns are in another order.

    Args:
        log: The log.
        order: SQL names of the columns, in their order.
        lines: The fields of the first lines.
        name: The file, in messages.

    Raises:
        PreparationError: If it is so.
    """
    first, rows = lines[0], [fields for fields in lines if len(fields) == len(order)]
    place = order.index("time" if "time" in order else "item")
    numbered = [any(letter.isdigit() for letter in row[place]) for row in rows]
    if len(first) == len(order) and not numbered[0] and 2 * sum(numbered) >= len(rows) - 1:
        wanted = ", ".join(repr(names[0]) for names in log.columns.values())
        raise PreparationError(
            f"{name} starts with the header {ascii(first)[:MOST_SHOWN]}, which is not the one of this source: "
            f"{wanted}. {log.advice}"
        )
    for column, shape in log.shapes.items():
        values = [row[order.index(column)] for row in rows]
        for other, other_shape in log.shapes.items():
            fit = [v for v in values if re.fullmatch(other_shape, v) and not re.fullmatch(shape, v)]
            if 2 * len(fit) > len(values):
                raise PreparationError(
                    f"{name} has {other} {fit[0]!r} where this source has the {column}: its columns are "
                    f"{', '.join(column or '…' for column in order)}. Files of another year have another order: "
                    "name their source."
                )


def _likely(line: str, separators: Sequence[str]) -> str:
    """The most frequent separator; blanks only if there is no other."""
    best = max((s for s in separators if s != BLANK), key=line.count, default=BLANK)
    return best if best in line or BLANK not in separators else BLANK


def _are_typed(fields: Sequence[str]) -> bool:
    """Whether a header has types, as the files of RecBole do."""
    return all(TYPED.fullmatch(field) for field in fields)


def _check_unique(places: Mapping[str, int], fields: Sequence[str], name: str) -> None:
    """Refuse a header with a needed column twice; the case of letters does not tell columns apart.

    Raises:
        PreparationError: With the column.
    """
    names = [field.strip().casefold() for field in fields]
    for place in places.values():
        if names.count(names[place]) > 1:
            raise PreparationError(f"{name} has several columns {fields[place].strip()!r}: give them different names.")


def _by_name(log: Log, fields: Sequence[str]) -> dict[str, int]:
    names = [field.rpartition(":")[0] for field in fields] if _are_typed(fields) else fields
    place_of = {name.strip().casefold(): place for place, name in reversed(list(enumerate(names)))}
    found = {
        column: [place_of[alias.casefold()] for alias in aliases if alias.casefold() in place_of]
        for column, aliases in log.columns.items()
    }
    return {column: places[0] for column, places in found.items() if places}
