"""Any other log: CSV, TSV, JSON lines, Parquet or a spreadsheet, with given column names."""

from dataclasses import replace

from ..errors import PreparationError
from ..source import Log, Owner, Source, items_file

#: Names of a column of titles in a file of items; the second one is that of RecBole's MovieLens.
TITLES = ("title", "movie_title")


def make_table(
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    time_column: str | None = "timestamp",
    rating_column: str | None = None,
    title_column: str | None = None,
    separator: str | None = None,
) -> Source:
    """Make the source of a table with these columns.

    Args:
        user_column: Column of users: a name in the header or a JSON key, or a number from 1 without a header.
        item_column: Column of items.
        time_column: Column of times, or several with commas between, such as ``"date,hour"``, whose texts are joined
            by blanks; ``None`` if the rows are in the order of time.
        rating_column: Column of ratings, needed for ``min_rating``.
        title_column: Column of item titles, in the log or in the file of items.
        separator: Separator of delimited text; by default detected from the first line.
    """
    for column in (user_column, item_column, time_column, rating_column, title_column):
        if not isinstance(column, str | None):
            raise PreparationError(
                f"{column!r} is no name of a column: write names and numbers as text, {str(column)!r}."
            )
    columns = {"owner": (user_column,), "item": (item_column,)}
    parts = [] if time_column is None else [part.strip() for part in time_column.split(",")]
    times = {"time" if place == 1 else f"time_{place}": (part,) for place, part in enumerate(parts, 1)}
    columns |= times
    columns |= {} if rating_column is None else {"rating": (rating_column,)}
    columns |= {} if title_column is None else {"title": (title_column,)}
    if separator == "":
        raise PreparationError("separator must have at least one character.")
    named = {"rating": rating_column, "title": title_column}
    return Source(
        name="table",
        about="CSV, TSV, JSON lines, Parquet or .xlsx, with --user-column, --item-column and --time-column",
        log=Log(
            columns,
            separator=separator,
            optional=tuple(name for name, column in named.items() if column is None),
            files=("*.inter",),
        ),
        owners={"user": Owner("owner")},
        time=" || ' ' || ".join(times) or None,
        rating=None if rating_column is None else "rating",
        title=None if title_column is None else "title",
        metadata=items_file(
            (item_column,), (title_column,) if title_column else TITLES, separator=None, files=("*.item",)
        ),
    )


TABLE = make_table()
SQL = replace(TABLE, name="sql", about="a query, with --uri and --query; the columns are named as those of a table")
