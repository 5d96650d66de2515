"""Keep the rows with certain values in certain columns: ``event=buy``, ``is_read=true``."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from .errors import PreparationError
from .source import Source
from .sql import sql_text

#: Values that a message lists.
LISTED = 10


def parse_keep(words: Sequence[str]) -> dict[str, list[str]]:
    """Column to values, from words such as ``event=buy,cart``; a value with a comma is in double quotes.

    Raises:
        PreparationError: If a word has no ``=`` or names no column.
    """
    keep: dict[str, list[str]] = {}
    for word in words:
        column, equals, values = word.partition("=")
        if not equals or not column.strip():
            raise PreparationError(f"keep must be COLUMN=VALUE or COLUMN=VALUE,VALUE, not {word!r}")
        keep.setdefault(column.strip(), []).extend(next(csv.reader([values]), [""]))
    return keep


def as_texts(keep: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Column to values as text; a single value need not be in a list, and ``True`` is ``"true"``."""
    found = {}
    for column, values in (keep or {}).items():
        several = values if isinstance(values, list | tuple | set | frozenset) else [values]
        texts = [
            str(value).lower() if isinstance(value, bool) else "" if value is None else str(value) for value in several
        ]
        found[column] = list(dict.fromkeys(texts))
        if not texts:
            raise PreparationError(f"keep: no value is given for the column {column!r}")
    return found


def keep_rows(source: Source, keep: Mapping[str, Sequence[str]]) -> Source:
    """The same source, which leaves out rows with other values in these columns. They do not count as invalid.

    Raises:
        PreparationError: If the source has no columns.
    """
    if keep and "line" in source.log.columns:
        raise PreparationError(f"{source.name} has no columns by which rows could be kept.")
    columns, filters, skips = dict(source.log.columns), [], {}
    names = {alias.casefold(): name for name, aliases in columns.items() for alias in aliases}
    for number, (column, values) in enumerate(keep.items()):
        name = names.get(column.casefold(), f"filter_{number}")
        columns.setdefault(name, (column,))
        filters.append(name)
        wanted = ", ".join(sql_text(value) for value in values)
        skips[describe_keep(column, values)] = f"coalesce({name}, '') NOT IN ({wanted})"
    return replace(
        source,
        log=replace(source.log, columns=columns, filters=tuple(filters)),
        owners={key: replace(owner, skips={**owner.skips, **skips}) for key, owner in source.owners.items()},
    )


def describe_keep(column: str, values: Sequence[str]) -> str:
    """The step as it is shown: ``event is buy or cart``."""
    return f"{column} is {' or '.join(value or 'empty' for value in values)}"


def check_kept(connection: duckdb.DuckDBPyConnection, keep: Mapping[str, Sequence[str]]) -> None:
    """Check that each value to keep occurs.

    Raises:
        PreparationError: If a value does not occur in its column; the message has those that do.
    """
    for place, (column, values) in enumerate(keep.items()):
        counts = dict(
            connection.execute(
                f"SELECT coalesce(json_extract_string(kept, '$[{place}]'), '') AS value, count(*) FROM records"
                " WHERE reason IS NULL GROUP BY 1 ORDER BY 2 DESC, 1"
            ).fetchall()
        )
        if counts and (absent := [value for value in values if value not in counts]):
            seen = ", ".join(
                f"{repr(value) if value else 'empty'} ({counts[value]:,})" for value in list(counts)[:LISTED]
            )
            more = f" and {len(counts) - LISTED:,} more" if len(counts) > LISTED else ""
            raise PreparationError(
                f"--keep {column}={','.join(absent)}: no row has this value. The values of {column!r} are {seen}{more}."
            )
