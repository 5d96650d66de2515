"""Anybody's log: CSV, TSV, JSON lines, Parquet or a spreadsheet, with columns that the user names."""

from ..errors import PreparationError
from ..source import Log, Owner, Source


def make_table(
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    time_column: str = "timestamp",
    rating_column: str | None = None,
    title_column: str | None = None,
    separator: str | None = None,
) -> Source:
    """A table with these columns.

    Args:
        user_column: Name of the column of users, in the header or among the keys.
        item_column: Of items.
        time_column: Of times.
        rating_column: Of ratings, where they are wanted.
        title_column: Of the items' titles, where there are any.
        separator: Between the fields of delimited text; by default what makes sense of the first line.
    """
    columns = {"owner": (user_column,), "item": (item_column,), "time": (time_column,)}
    columns |= {} if rating_column is None else {"rating": (rating_column,)}
    columns |= {} if title_column is None else {"title": (title_column,)}
    if separator == "":
        raise PreparationError("separator is empty: give at least one character.")
    named = {"rating": rating_column, "title": title_column}
    return Source(
        name="table",
        about="CSV, TSV, JSON lines, Parquet or .xlsx; --user-column, --item-column, --time-column name what is where",
        log=Log(columns, separator=separator, optional=tuple(name for name, column in named.items() if column is None)),
        owners={"user": Owner("owner")},
        rating=None if rating_column is None else "rating",
        title=None if title_column is None else "title",
        metadata=Log({"item": (item_column,), "title": (title_column or "title",)}, separator=None),
    )


TABLE = make_table()
