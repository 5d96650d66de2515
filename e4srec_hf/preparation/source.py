"""What is special about a kind of raw log: where its columns are, and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Log:
    """Where the columns of a raw file are: JSON lines, delimited text with or without a header, or Parquet.

    Attributes:
        columns: Name of a column in SQL to its names in files; the first one that a file has is taken.
        headerless: The names in SQL in the order of a file that has no header; ``""`` for a column of no use. Empty
            where a header is needed.
        optional: Columns in SQL that a file may be without.
        separator: Between the fields of delimited text; ``None`` is whichever makes sense of the first line.
        quoted: Whether fields of delimited text may stand in double quotes.
        fallback_encoding: How a line is read that is no UTF-8. Without one it is a bad record.
    """

    columns: Mapping[str, tuple[str, ...]]
    headerless: tuple[str, ...] = ()
    optional: tuple[str, ...] = ("rating", "title")
    separator: str | None = ","
    quoted: bool = True
    fallback_encoding: str | None = None


@dataclass(frozen=True)
class Owner:
    """Whose the sequences are.

    Attributes:
        user: SQL over the columns of the log.
        skips: What is left out, in words, to an SQL condition. Rows that are skipped are no bad records.
    """

    user: str
    skips: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A kind of raw log.

    Attributes:
        name: As the command line has it.
        about: What it is, in a line.
        log: Its interactions.
        owners: Name to owner; the first is the default.
        item: SQL over the columns of the log, as the next ones.
        time: A number, or text that says a date and time; ``None`` where the log has only an order.
        rating: ``None`` where it has none.
        title: Of the item; ``None`` where the log does not say it.
        time_unit: See [`PreparationOptions`].
        time_formats: How times are written that are neither numbers nor ISO 8601, for ``strptime``.
        metadata: A file of the items with the columns ``item`` and ``title``, where there is one.
        presets: Name to the options that rebuild a published processing.
    """

    name: str
    about: str
    log: Log
    owners: Mapping[str, Owner]
    item: str = "item"
    time: str | None = "time"
    rating: str | None = None
    title: str | None = None
    time_unit: str = "auto"
    time_formats: tuple[str, ...] = ()
    metadata: Log | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
