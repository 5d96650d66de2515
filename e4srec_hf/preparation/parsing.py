"""SQL that parses the text columns of a log into records, with a reason for each invalid one."""

from ..data.item_tokenizer import PAD_TOKEN, UNK_TOKEN
from .layouts import POSITION_OF_FILE
from .options import PreparationOptions
from .source import Source
from .sql import sql_text

DAY = 86_400_000_000
SPECIAL = "reserved item id: [PAD] or [UNK]"
#: Units of time: name, smallest number that belongs to the next unit instead, and microseconds per unit.
UNITS = (("s", 1e11, 1e6), ("ms", 1e14, 1e3), ("us", 1e17, 1.0), ("ns", None, 1e-3))


def insert_interactions(columns: str, source: Source, options: PreparationOptions, now: int) -> str:
    """SQL that parses text columns as interactions, with a reason for each invalid one."""
    owner = source.owners[str(options.owner)]
    skips = " ".join(f"WHEN {condition} THEN {sql_text(name)}" for name, condition in owner.skips.items())
    too_early = "WHEN time < 0 THEN 'time before 1970'" if options.negative_times == "reject" else ""
    unrated = (
        ""
        if options.min_rating is None
        else "WHEN rating IS NULL OR isnan(rating) THEN 'missing or non-numeric rating'"
    )
    return f"""
        INSERT INTO records
        WITH columns AS ({columns}),
        fields AS (
            SELECT position, reason, content,
                {owner.user} AS user_id, {source.item} AS item_id, {source.time} AS moment,
                try_cast({source.rating or "NULL"} AS DOUBLE) AS rating, {source.title or "NULL"} AS title,
                {f"CASE WHEN reason IS NOT NULL THEN NULL {skips} END" if skips else "NULL"} AS skipped
            FROM columns
        ),
        timed AS (SELECT *, {_time(source, options)} AS time FROM fields),
        checked AS (
            SELECT * REPLACE (CASE
                WHEN reason IS NOT NULL THEN reason
                WHEN skipped IS NOT NULL THEN NULL
                WHEN user_id IS NULL THEN 'no user'
                WHEN item_id IS NULL THEN 'no item'
                WHEN item_id IN ({sql_text(PAD_TOKEN)}, {sql_text(UNK_TOKEN)})
                    THEN {sql_text(SPECIAL)}
                WHEN moment IS NULL THEN 'no time'
                WHEN time IS NULL THEN 'unreadable time'
                {too_early}
                WHEN time > {now + DAY} THEN 'time in the future'
                WHEN abs(time) > 1e17 THEN 'unreadable time'
                {unrated}
            END AS reason) FROM timed
        )
        SELECT position, user_id, item_id, CASE WHEN reason IS NULL THEN CAST(round(time) AS BIGINT) END, rating,
            title, skipped, reason, CASE WHEN reason IS NOT NULL THEN
                coalesce(content, to_json({{'user': user_id, 'item': item_id, 'time': moment}})::VARCHAR)
            END
        FROM checked"""


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
                WHEN len(fields) = 1 THEN 'user without items'
                WHEN row_number() OVER (PARTITION BY fields[1], reason IS NULL ORDER BY position) > 1
                    OR fields[1] IN (SELECT user_id FROM records WHERE user_id IS NOT NULL)
                    THEN 'duplicate user'
            END AS reason) FROM cut
        ),
        items AS (
            SELECT position, fields[1] AS user_id, unnest(fields[2:]) AS item_id,
                generate_subscripts(fields[2:], 1) AS place FROM checked WHERE reason IS NULL
        )
        SELECT position // {POSITION_OF_FILE} * {POSITION_OF_FILE} + row_number() OVER (ORDER BY position, place),
            user_id, item_id, 0, NULL, NULL, NULL, NULL, NULL
        FROM items WHERE item_id NOT IN ({special})
        UNION ALL SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, {sql_text(SPECIAL)}, item_id
        FROM items WHERE item_id IN ({special})
        UNION ALL SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, reason, content FROM checked
        WHERE reason IS NOT NULL"""


def _time(source: Source, options: PreparationOptions) -> str:
    """SQL for ``moment`` as microseconds since 1970, a DOUBLE; NULL if it cannot be parsed."""
    if options.time_format is not None:
        return f"epoch_us(try_strptime(moment, {sql_text(options.time_format)}))::DOUBLE"
    number = "(CASE WHEN NOT contains(moment, '_') THEN try_cast(moment AS DOUBLE) END)"  # SQL reads 1_000 as 1000
    if options.time_unit == "auto":
        cases = " ".join(
            f"WHEN abs({number}) < {limit} THEN {number} * {factor}" if limit else f"ELSE {_nanoseconds()}"
            for _, limit, factor in UNITS
        )
        as_number = f"CASE {cases} END"
    elif options.time_unit == "ns":
        as_number = _nanoseconds()
    else:
        as_number = f"{number} * {next(factor for unit, _, factor in UNITS if unit == options.time_unit)}"
    # the digit excludes words such as 'epoch', which SQL reads as a time
    zoned = "(CASE WHEN moment[1] BETWEEN '0' AND '9' THEN try_cast(moment AS TIMESTAMPTZ) END)"
    formats = "".join(f", epoch_us(try_strptime(moment, {sql_text(one)}))::DOUBLE" for one in source.time_formats)
    return f"""CASE
        WHEN NOT isfinite({number}) THEN NULL
        WHEN {number} IS NOT NULL THEN {as_number}
        ELSE coalesce(CASE WHEN isfinite({zoned}) THEN epoch_us({zoned})::DOUBLE END{formats})
    END"""


def _nanoseconds() -> str:
    return "(try_cast(moment AS HUGEINT) // 1000)::DOUBLE"  # a DOUBLE is too imprecise for nanoseconds
