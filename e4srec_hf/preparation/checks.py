"""Is what was read what it should be? Times that are no times, titles that belong to no item."""

from collections.abc import Sequence

import duckdb

from .errors import PreparationError
from .layouts import POSITION_OF_FILE
from .options import PreparationOptions, microseconds, moment
from .parsing import BEFORE_1970, DAY, FUTURE, UNITS, UNREADABLE
from .source import Source
from .sql import sql_text

_DATES: tuple[str, ...] = (
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%d-%b-%Y",
    "%d/%b/%Y",
    "%d.%m.%Y",
    "%d/%m/%Y",
)
_DATES += ("%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y", "%Y-%m-%d", "%Y.%m.%d")
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", ", %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
#: Formats of times to suggest where one of them fits; those of whole numbers first.
FORMATS = (
    *("%Y", "%Y%m", "%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"),
    *(date + hour for date in _DATES for hour in _HOURS),
    *("%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z"),
    *("%a, %d %b %Y %H:%M:%S GMT", "%a %d %b %Y %H:%M:%S", "%H:%M:%S %d.%m.%Y", "%Y-%m-%d-%H.%M.%S.%f"),
)

#: Texts that may be ids or marks of missing values.
MAY_BE_MARKS = ("?", "-", "--", "unknown", "none", "missing", "0", "-1")
#: Share of all rows from which a user of such a text is noted.
SHARE_OF_MARK = 0.05

JANUARY = "in January 1970"


def check_times(
    connection: duckdb.DuckDBPyConnection, files: Sequence[str], source: Source, options: PreparationOptions, now: int
) -> None:
    """Check that the times of each file are times, and not another column or another unit.

    Raises:
        PreparationError: If most are before ``oldest``; the message has what was read and which options would help.
    """
    found = connection.execute(
        f"""SELECT position // {POSITION_OF_FILE}, min(position) FILTER (moment IS NOT NULL) % {POSITION_OF_FILE},
            arg_min(moment, position), arg_min(time, position) FILTER (moment IS NOT NULL)
        FROM records WHERE reason IS NULL AND skipped IS NULL
        GROUP BY 1 HAVING 2 * count(moment) > count(*) ORDER BY 1"""
    ).fetchall()
    for number, line, text, time in found:
        when = JANUARY if _number(text) is None else f"before {options.oldest}"
        advice = _advice(connection, source, options, text, now)
        if when == JANUARY and options.time_format is None:
            advice = "Seconds that were read as nanoseconds look so: convert them with their unit"
        raise PreparationError(
            f"{files[number]}: most times are {when}: line {line} has {text!r}, read {_way(options, text)} as "
            f"{moment(time)}. {advice}. If the times are that "
            "old, give an earlier date with --oldest."
        )


def time_advice(connection: duckdb.DuckDBPyConnection, source: Source, options: PreparationOptions, now: int) -> str:
    """What to do about the most frequent kind of invalid times, with one as it was read; empty if there are none."""
    reasons = ", ".join(map(sql_text, (BEFORE_1970, FUTURE, UNREADABLE)))
    found = connection.execute(
        f"""SELECT reason, arg_min(moment, position) FROM records WHERE reason IN ({reasons}) AND moment IS NOT NULL
        GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"""
    ).fetchall()
    return "".join(
        f"The time {text!r}, read {_way(options, text)}: {reason}. {_advice(connection, source, options, text, now)}"
        f"{' or --negative-times keep' if reason == BEFORE_1970 else ''}."
        for reason, text in found
    )


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _way(options: PreparationOptions, text: str) -> str:
    """How a time was read."""
    if options.time_format is not None:
        return f"with --time-format {options.time_format!r}"
    return "as ISO 8601" if _number(text) is None else f"with --time-unit {options.time_unit}"


def _advice(
    connection: duckdb.DuckDBPyConnection, source: Source, options: PreparationOptions, text: str, now: int
) -> str:
    """The options that would read a time as one between 1900 and now."""
    query = "SELECT epoch_us(try_strptime(?, ?)::TIMESTAMP)"
    read = {form: connection.execute(query, [text, form]).fetchall()[0][0] for form in FORMATS}
    earliest, number = microseconds("1900-01-01"), _number(text)
    formats = [repr(form) for form, time in read.items() if time is not None and earliest <= time <= now + DAY]
    units = [
        unit
        for unit, _, factor in UNITS
        if number is not None and microseconds(options.oldest) <= number * factor <= now + DAY
    ]
    ways = [f"--time-unit {units[0]}"] if units and options.time_unit != units[0] else []
    ways += [f"--time-format {' or '.join(formats[:2])}"] if formats else []
    if not ways:
        ways += ["--time-format, such as '%d.%m.%Y %H:%M'"] if number is None else ["--time-unit", "--time-format"]
    if source.name in ("table", "sql"):
        ways += ["another --time-column (none, if the rows are in the order of time)"]
    return f"Give {' or '.join(ways)}"


def note_marks(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """A note on each user who may be a mark of missing values: its id looks so, and it has many of the rows."""
    marks = ", ".join(map(sql_text, MAY_BE_MARKS))
    found = connection.execute(
        f"""SELECT user_id, count(*) AS n, (SELECT count(*) FROM records) AS records FROM records
        WHERE reason IS NULL AND skipped IS NULL AND lower(trim(user_id)) IN ({marks})
        GROUP BY 1 HAVING n > {SHARE_OF_MARK} * records ORDER BY n DESC, 1"""
    ).fetchall()
    return [
        f"The user {user!r} has {rows:,} of {records:,} records ({rows / records:.0%}). If it stands for missing "
        f"users, leave it out with --missing={user}, and repeat --missing for each other mark."
        for user, rows, records in found
    ]


def check_titles(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Check that the files of items have titles of items of the log.

    Raises:
        PreparationError: If none of the items has a title; the message has an id of both.
    """
    count = "SELECT count(*) FROM titles SEMI JOIN records ON records.item_id = titles.item_id AND reason IS NULL"
    if files and not connection.execute(count).fetchall()[0][0]:
        theirs, ours = (
            connection.execute(f"SELECT item_id FROM {table} WHERE item_id IS NOT NULL LIMIT 1").fetchall()
            for table in ("titles", "(SELECT * FROM records WHERE reason IS NULL ORDER BY position)")
        )
        if theirs and ours:
            raise PreparationError(
                f"{', '.join(files)}: none of its ids is an item of the log. One is {theirs[0][0]!r}; an item of the "
                f"log is {ours[0][0]!r}. Name the column of ids with --metadata-item-column."
            )
