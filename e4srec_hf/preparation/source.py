"""Description of a kind of raw log: where its columns are and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import PreparationError

#: What to do where a column is missing.
WRONG_FILE = (
    "Is it the right file for this source? For a table, give the column names with --user-column, --item-column and "
    "--time-column (none, if the rows are in the order of time)."
)
#: Beginnings of SQL names of columns that are no ids.
VALUES = ("time", "rating", "title")


@dataclass(frozen=True)
class Log:
    """The columns of a raw file: JSON lines, delimited text with or without a header, or Parquet.

    Attributes:
        columns: SQL name of a column to its possible names in files; the first one that a file has is used.
        headerless: The forms of a file without a header, each as SQL names in the order of the columns, ``""`` for an
            ignored one; the form whose number of columns fits is used. Empty if a header is required.
        optional: SQL names of columns that a file may lack.
        separator: Separator of delimited text; ``None`` detects it from the first line.
        quoted: Whether fields of delimited text may be in double quotes.
        fallback_encoding: Encoding of lines that are not valid UTF-8. Without one such lines are invalid records.
        shapes: What ids look like, for files without a header whose columns may be in another order: SQL name of a
            column to a regular expression.
        files: Patterns of the names that the file is published under, by which it is found in an archive.
        filters: SQL names of columns that decide which rows are kept; they may hold truth values.
        advice: What to do where a column is missing.
    """

    columns: Mapping[str, tuple[str, ...]]
    headerless: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ("rating", "title")
    separator: str | None = ","
    quoted: bool = True
    fallback_encoding: str | None = None
    shapes: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    advice: str = WRONG_FILE

    @property
    def ids(self) -> tuple[str, ...]:
        """SQL names of the columns that make ids."""
        return tuple(name for name in self.columns if not name.startswith(VALUES) and name not in self.filters)


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
        repeats: See [`PreparationOptions`].
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
    repeats: str = "keep"
    time_formats: tuple[str, ...] = ()
    metadata: Log | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def items_file(item: tuple[str, ...], title: tuple[str, ...], **layout: Any) -> Log:
    """The file of items of a source: ids and titles, both needed.

    Args:
        item: Possible names of the column of ids.
        title: Possible names of the column of titles.
        layout: Other attributes of the [`Log`].
    """
    return Log(
        {"item": item, "title": title},
        optional=(),
        advice="Name its columns with --metadata-item-column and --metadata-title-column.",
        **layout,
    )


def with_items_file(source: Source, item: str | None, title: str | None) -> Source:
    """The same source with a file of items, in which the given names of columns count alone.

    Raises:
        PreparationError: If the source knows no such file and a name is missing.
    """
    known = source.metadata
    if known is None and not (item and title):
        raise PreparationError(
            f"{source.name} has no metadata file of its own: name the columns with --metadata-item-column and "
            "--metadata-title-column."
        )
    if known is None or item or title:
        columns = {} if known is None else known.columns
        layout = (
            {} if known is None else {name: getattr(known, name) for name in ("fallback_encoding", "quoted", "files")}
        )
        known = items_file(
            (item,) if item else columns["item"], (title,) if title else columns["title"], separator=None, **layout
        )
    return replace(source, log=replace(source.log, optional=(*source.log.optional, "title")), metadata=known)
