"""Description of a kind of raw log: where its columns are and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Log:
    """The columns of a raw file: JSON lines, delimited text with or without a header, or Parquet.

    Attributes:
        columns: SQL name of a column to its possible names in files; the first one that a file has is used.
        headerless: SQL names in the order of the columns of a file without a header; ``""`` for an ignored column.
            Empty if a header is required.
        optional: SQL names of columns that a file may lack.
        separator: Separator of delimited text; ``None`` detects it from the first line.
        quoted: Whether fields of delimited text may be in double quotes.
        fallback_encoding: Encoding of lines that are not valid UTF-8. Without one such lines are invalid records.
        files: Patterns of the names that the file is published under, by which it is found in an archive.
    """

    columns: Mapping[str, tuple[str, ...]]
    headerless: tuple[str, ...] = ()
    optional: tuple[str, ...] = ("rating", "title")
    separator: str | None = ","
    quoted: bool = True
    fallback_encoding: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Owner:
    """A sequence key: interactions with the same key form a sequence.

    Attributes:
        user: SQL expression of the key over the columns of the log.
        skips: Description of rows to leave out, to their SQL condition. Skipped rows do not count as invalid.
    """

    user: str
    skips: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A kind of raw log.

    Attributes:
        name: Name on the command line.
        about: One-line description.
        log: The file of interactions.
        owners: Name to sequence key; the first is the default.
        item: SQL expression of the item id over the columns of the log.
        time: SQL expression of the time, a number or text; ``None`` if the log has only an order.
        rating: SQL expression of the rating; ``None`` if the log has no ratings.
        title: SQL expression of the item's title; ``None`` if the log has no titles.
        time_unit: See [`PreparationOptions`].
        time_formats: ``strptime`` formats of times that are neither numbers nor ISO 8601.
        metadata: The file of items with the columns ``item`` and ``title``; ``None`` if the source has none.
        presets: Name to the options that reproduce a published processing.
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
