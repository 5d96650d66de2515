"""SQL that parses the text columns of a log into records, with a reason for each invalid one."""

from collections.abc import Iterable

from ..data.item_ids import CONTROL_CHARACTERS
from ..data.item_tokenizer import PAD_TOKEN, UNK_TOKEN
from .layouts import POSITION_OF_FILE
from .options import PreparationOptions, microseconds
from .source import Source
from .sql import BLANKS, sql_text

DAY = 86_400_000_000
CONTROLS = "control characters in an id"
SPECIAL = "reserved item id: [PAD] or [UNK]"
#: End of the reason of a record without a user, item or time, where a mark of missing values stands in it.
MARKED = " (a mark of missing values, see --missing)"
#: Reasons that are about the time; the time is kept as it was read.
BEFORE_1970, FUTURE, UNREADABLE = "time before 1970", "time in the future", "unreadable time"
#: Dates before this are suspicious even where they are written out: seconds read as nanoseconds become January 1970.
FEBRUARY_1970 = 31 * DAY
#: Units of time: name, smallest number that belongs to the next unit instead, and microseconds per unit.
UNITS = (("s", 1e11, 1e6), ("ms", 1e14, 1e3), ("us", 1e17, 1.0), ("ns", None, 1e-3))
#: SQL for a time as a number, NULL if it is none; without the first condition SQL reads 1_000 as 1000.
NUMBER = "(CASE WHEN NOT contains(moment, '_') THEN try_cast(moment AS DOUBLE) END)"


def insert_interactions(columns: str, source: Source, options: PreparationOptions, now: int) -> str:
    """SQL that parses text columns as interactions, with a reason for each invalid one."""
    owner = source.owners[str(options.owner)]
    skips = " ".join(f"WHEN {condition} THEN {sql_text(name)}" for name, condition in owner.skips.items())
    columns_of_values = [column for column in source.log.columns if column not in source.log.filters]
    needed = [is_mark(column, options) for column in columns_of_values if column not in source.log.optional]
    marked = f"CASE WHEN marked THEN {sql_text(MARKED)} ELSE '' END"
    too_early = f"WHEN time < 0 THEN {sql_text(BEFORE_1970)}" if options.negative_times == "reject" else ""
    oldest = microseconds(options.oldest)
    suspicious = (
        f"time < {oldest} AND (is_number OR time BETWEEN 0 AND {FEBRUARY_1970})" if source.time is not None else "false"
    )
    unrated = (
        ""
        if options.min_rating is None
        else "WHEN rating IS NULL OR isnan(rating) THEN 'missing or non-numeric rating'"
    )
    return f"""
        INSERT INTO records
        WITH raw AS ({columns}),
        columns AS (
            SELECT {without_marks(columns_of_values, options)}, {" OR ".join(needed)} AS marked FROM raw
        ),
        fields AS (
            SELECT position, reason, content, marked,
                {owner.user} AS user_id, {source.item} AS item_id, {source.time or "''"} AS moment,
                try_cast({source.rating or "NULL"} AS DOUBLE) AS rating, {source.title or "NULL"} AS title,
                {f"CASE WHEN reason IS NOT NULL THEN NULL {skips} END" if skips else "NULL"} AS skipped,
                {f"to_json([{', '.join(source.log.filters)}])::VARCHAR" if source.log.filters else "NULL"} AS kept
            FROM columns
        ),
        timed AS (
            SELECT *, {_time(source, options)} AS time,
                {f"{NUMBER} IS NOT NULL" if options.time_format is None else "false"} AS is_number
            FROM fields
        ),
        checked AS (
            SELECT * REPLACE (CASE
                WHEN reason IS NOT NULL THEN reason
                WHEN skipped IS NOT NULL THEN NULL
                WHEN user_id IS NULL THEN 'no user' || {marked}
                WHEN item_id IS NULL THEN 'no item' || {marked}
                WHEN item_id IN ({sql_text(PAD_TOKEN)}, {sql_text(UNK_TOKEN)})
                    THEN {sql_text(SPECIAL)}
                WHEN {has_controls("user_id")} THEN {sql_text(CONTROLS)}
                WHEN {has_controls("item_id")} THEN {sql_text(CONTROLS)}
                WHEN moment IS NULL THEN 'no time' || {marked}
                WHEN time IS NULL THEN {sql_text(UNREADABLE)}
                {too_early}
                WHEN time > {now + DAY} THEN {sql_text(FUTURE)}
                WHEN abs(time) > 1e17 THEN {sql_text(UNREADABLE)}
                {unrated}
            END AS reason) FROM timed
        )
        SELECT position, user_id, item_id, CASE WHEN reason IS NULL THEN CAST(round(time) AS BIGINT) END, rating,
            title, skipped, reason, CASE WHEN reason IS NOT NULL THEN
                coalesce(content, to_json({{'user': user_id, 'item': item_id, 'time': moment}})::VARCHAR)
            END,
            CASE WHEN skipped IS NULL AND (
                reason IN ({sql_text(BEFORE_1970)}, {sql_text(FUTURE)}, {sql_text(UNREADABLE)})
                OR (reason IS NULL AND {suspicious})
            ) THEN moment END,
            CASE WHEN reason IS NULL THEN kept END
        FROM checked"""


def has_controls(column: str) -> str:
    """SQL for whether an id has NUL or other control characters."""
    return f"regexp_matches({column}, {sql_text(CONTROL_CHARACTERS)})"


def is_mark(column: str, options: PreparationOptions) -> str:
    """SQL for whether a text is a mark of missing values."""
    marks = ", ".join(sql_text(mark.lower()) for mark in ("", *options.missing))
    return f"coalesce(lower(trim({column}, {sql_text(BLANKS)})) IN ({marks}), false)"


def without_marks(columns: Iterable[str], options: PreparationOptions) -> str:
    """What to select for all columns, with NULL for marks of missing values in these ones."""
    replaced = ", ".join(
        f"CASE WHEN NOT {is_mark(column, options)} THEN {column} END AS {column}" for column in columns
    )
    return f"* REPLACE ({replaced})"


def insert_sequences(columns: str, source: Source, options: PreparationOptions, now: int) -> str:
    """SQL that parses lines of the reference text format; the items of a line are in time order."""
    special = f"{sql_text(PAD_TOKEN)}, {sql_text(UNK_TOKEN)}"
    return f"""
        INSERT INTO records
        WITH columns AS ({columns}),
        cut AS (SELECT *, list_filter(string_split_regex(line, '[ \t]+'), lambda x: x <> '') AS fields FROM columns),
        checked AS (
            SELECT * REPLACE (CASE
                WHEN reason IS NOT NULL THEN reason
                WHEN len(fields) = 0 THEN 'no user'
                WHEN {is_mark("fields[1]", options)} THEN 'no user{MARKED}'
                WHEN {has_controls("fields[1]")} THEN {sql_text(CONTROLS)}
                WHEN len(fields) = 1 THEN 'user without items'
                WHEN row_number() OVER (PARTITION BY fields[1], reason IS NULL ORDER BY position) > 1
                    OR fields[1] IN (SELECT user_id FROM records WHERE user_id IS NOT NULL)
                    THEN 'duplicate user'
            END AS reason) FROM cut
        ),
        placed AS (
            SELECT position, fields[1] AS user_id, unnest(fields[2:]) AS item_id,
                generate_subscripts(fields[2:], 1) AS place FROM checked WHERE reason IS NULL
        ),
        items AS (
            SELECT *, CASE
                WHEN item_id IN ({special}) THEN {sql_text(SPECIAL)}
                WHEN {is_mark("item_id", options)} THEN 'no item{MARKED}'
                WHEN {has_controls("item_id")} THEN {sql_text(CONTROLS)}
            END AS fault FROM placed
        )
        SELECT position // {POSITION_OF_FILE} * {POSITION_OF_FILE} + row_number() OVER (ORDER BY position, place),
            user_id, item_id, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM items WHERE fault IS NULL
        UNION ALL SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, fault, item_id, NULL, NULL
        FROM items WHERE fault IS NOT NULL
        UNION ALL SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, reason, content, NULL, NULL FROM checked
        WHERE reason IS NOT NULL"""


def _time(source: Source, options: PreparationOptions) -> str:
    """SQL for ``moment`` as microseconds since 1970, a DOUBLE; NULL if it cannot be parsed."""
    if source.time is None:
        return "0::DOUBLE"
    if options.time_format is not None:
        return f"epoch_us(try_strptime(moment, {sql_text(options.time_format)}))::DOUBLE"
    if options.time_unit == "auto":
        cases = " ".join(
            f"WHEN abs({NUMBER}) < {limit} THEN {NUMBER} * {factor}" if limit else f"ELSE {_nanoseconds()}"
            for _, limit, factor in UNITS
        )
        as_number = f"CASE {cases} END"
    elif options.time_unit == "ns":
        as_number = _nanoseconds()
    else:
        as_number = f"{NUMBER} * {next(factor for unit, _, factor in UNITS if unit == options.time_unit)}"
    # the digit excludes words such as 'epoch', which SQL reads as a time
    zoned = "(CASE WHEN moment[1] BETWEEN '0' AND '9' THEN try_cast(moment AS TIMESTAMPTZ) END)"
    formats = "".join(f", epoch_us(try_strptime(moment, {sql_text(one)}))::DOUBLE" for one in source.time_formats)
    return f"""CASE
        WHEN NOT isfinite({NUMBER}) THEN NULL
        WHEN {NUMBER} IS NOT NULL THEN {as_number}
        ELSE coalesce(CASE WHEN isfinite({zoned}) THEN epoch_us({zoned})::DOUBLE END{formats})
    END"""


def _nanoseconds() -> str:
    return "(try_cast(moment AS HUGEINT) // 1000)::DOUBLE"  # a DOUBLE is too imprecise for nanoseconds
