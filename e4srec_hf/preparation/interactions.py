"""From records to interactions: filters, integer codes for users and items, repeats, k-core. All in SQL.

Tables: ``records`` (see `records`); ``users`` and ``items`` (``code``, ``name``, ``n``: the remaining users and items
with their numbers of interactions); ``interactions`` (``u``, ``i``, ``time``, ``tie``, ``position``, including
interactions of users and items that were dropped).
"""

from bisect import bisect
from collections.abc import Callable
from typing import Any

import duckdb
from tqdm.auto import tqdm

from .errors import PreparationError
from .options import PreparationOptions, microseconds
from .progress import sql_progress

#: A step: its name, rows in and rows out.
Step = dict[str, Any]


def count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """Run a query that returns one number."""
    return int(connection.execute(query).fetchall()[0][0] or 0)


def select_interactions(connection: duckdb.DuckDBPyConnection, options: PreparationOptions) -> list[Step]:
    """Create the tables of users, items and interactions, and drop ``records``.

    Returns:
        The steps, each with rows in and rows out.
    """
    steps: list[Step] = []
    filters = _filters(options)
    flags = ", ".join(
        f"count(*) FILTER ({' AND '.join(conditions)})"
        for conditions in _running(["reason IS NULL", *filters.values()])
    )
    skipped = connection.execute(
        "SELECT skipped, count(*) FROM records WHERE reason IS NULL AND skipped IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    counts = connection.execute(f"SELECT count(*), {flags} FROM records").fetchall()[0]
    rows = counts[0]

    def step(name: str, left: int) -> None:
        nonlocal rows
        steps.append({"step": name, "rows_in": rows, "rows_out": left})
        rows = left

    step("reading", counts[1])
    for name, rows_of_it in skipped:
        step(name, rows - rows_of_it)
    for name, left in zip(filters, counts[2:], strict=True):
        if name != "skipped":
            step(name, left)
    kept = " AND ".join(["reason IS NULL", *filters.values()])
    with sql_progress(connection, "numbering users and items"):
        _number(connection, kept, options)
    connection.execute("DROP TABLE records")
    if options.repeats != "keep":
        with sql_progress(connection, "dropping repeats"):
            _drop_repeats(connection, options.repeats)
        step(f"repeats: {options.repeats}", count(connection, "SELECT count(*) FROM interactions"))
    if max(options.user_core, options.item_core) > 1:
        rounds = _k_core(connection, options.user_core, options.item_core)
        step(
            f"{options.user_core}-core of users, {options.item_core}-core of items, rounds: {rounds}",
            count(connection, "SELECT sum(n) FROM users"),
        )
    if not rows:
        path = "; ".join(f"{step['step']}: {step['rows_out']:,} rows left" for step in steps)
        core = _explain_core(connection, options.user_core, options.item_core) if steps[-1]["rows_in"] else ""
        raise PreparationError(f"None of {steps[0]['rows_in']:,} records remain. {path}.{core}")
    return steps


def _filters(options: PreparationOptions) -> dict[str, str]:
    filters = {"skipped": "skipped IS NULL"}
    if options.min_rating is not None:
        filters[f"ratings of at least {options.min_rating:g}"] = f"rating >= {options.min_rating}"
    if options.start is not None:
        filters[f"from {options.start}"] = f"time >= {microseconds(options.start)}"
    if options.end is not None:
        filters[f"until {options.end}"] = f"time <= {microseconds(options.end)}"
    return filters


def _running(conditions: list[str]) -> list[list[str]]:
    return [conditions[: end + 1] for end in range(len(conditions))]


def _number(connection: duckdb.DuckDBPyConnection, kept: str, options: PreparationOptions) -> None:
    """Number users and items in the order of their first appearance; create the interactions between them."""
    for table, column in (("users", "user_id"), ("items", "item_id")):
        connection.execute(f"""
            CREATE TABLE {table} AS SELECT name, n, (row_number() OVER (ORDER BY first))::INTEGER AS code FROM (
                SELECT {column} AS name, count(*) AS n, min(position) AS first FROM records WHERE {kept} GROUP BY 1
            )""")
    tie = {
        "file": "0::UBIGINT",
        "item": "ranks.tie",
        "shuffle": f"md5_number_lower(concat_ws(chr(0), {options.ties_seed}, user_id, item_id, time))",
    }[options.ties]
    ranked = "SELECT code, row_number() OVER (ORDER BY name)::UBIGINT AS tie FROM items"
    ranks = f"JOIN ({ranked}) ranks ON ranks.code = items.code"
    connection.execute(f"""
        CREATE TABLE interactions AS
        SELECT users.code AS u, items.code AS i, time, {tie} AS tie, position
        FROM records JOIN users ON users.name = user_id JOIN items ON items.name = item_id
        {ranks if options.ties == "item" else ""}
        WHERE {kept}""")


def _drop_repeats(connection: duckdb.DuckDBPyConnection, which: str) -> None:
    order = "time DESC, tie DESC, position DESC" if which == "last" else "time, tie, position"
    if which == "first-row":
        order = "position"
    same = "u, i, time" if which == "distinct" else "u, i"
    connection.execute(f"""
        CREATE TABLE firsts AS SELECT * FROM interactions
        QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {order}) = 1""")
    connection.execute("DROP TABLE interactions")
    connection.execute("ALTER TABLE firsts RENAME TO interactions")
    for table, code in (("users", "u"), ("items", "i")):
        connection.execute(f"""
            CREATE OR REPLACE TABLE {table} AS SELECT {table}.name, counts.n, {table}.code FROM {table}
            JOIN (SELECT {code}, count(*) AS n FROM interactions GROUP BY 1) counts ON counts.{code} = {table}.code""")


def _k_core(connection: duckdb.DuckDBPyConnection, user_core: int, item_core: int) -> int:
    """Drop users and items with too few interactions until all have enough. The table of interactions is unchanged.

    Only the counts of the remaining users and items are updated, so a round reads two columns once and writes little.

    Returns:
        Number of rounds that dropped something.
    """
    rounds = 0
    with tqdm(desc="k-core", unit=" rounds", disable=None) as bar:
        while True:
            dropped = _drop(connection, "users", "u", max(user_core, 1), "items", "i")
            dropped += _drop(connection, "items", "i", max(item_core, 1), "users", "u")
            if not dropped:
                return rounds
            rounds += 1
            bar.update()
            bar.set_postfix(dropped=dropped)


def _explain_core(connection: duckdb.DuckDBPyConnection, user_core: int, item_core: int) -> str:
    """Which core left nothing, and the highest ones that would leave something."""

    def leaves_something(users: int, items: int) -> bool:
        for table, code in (("users", "u"), ("items", "i")):
            connection.execute(
                f"CREATE OR REPLACE TABLE {table} AS SELECT '' AS name, count(*) AS n, {code} AS code FROM interactions"
                " GROUP BY code"
            )
        _k_core(connection, users, items)
        return count(connection, "SELECT count(*) FROM users") > 0

    most = count(connection, "SELECT count(*) FROM interactions")  # a higher core leaves nothing

    def highest(core: int, pair: Callable[[int], tuple[int, int]]) -> list[tuple[int, int]]:
        """The pair of the highest core below this one that leaves something, in a list; empty if there is none."""
        cores = range(1, min(core, most + 1))
        end = bisect(cores, False, key=lambda each: not leaves_something(*pair(each)))
        return [pair(cores[end - 1])] if end else []

    if not leaves_something(user_core, 1):
        cause = f"--user-core {user_core} alone leaves no user"
    elif not leaves_something(1, item_core):
        cause = f"--item-core {item_core} alone leaves no item"
    else:
        cause = f"--user-core {user_core} and --item-core {item_core} leave something alone, but not together"
    found = [
        *highest(user_core, lambda core: (core, item_core)),
        *highest(item_core, lambda core: (user_core, core)),
    ] or highest(min(user_core, item_core), lambda core: (core, core))
    ways = ", or ".join(f"--user-core {users} --item-core {items}" for users, items in found)
    return f" {cause}. {ways} would leave something."


def _drop(connection: duckdb.DuckDBPyConnection, table: str, code: str, core: int, others: str, other_code: str) -> int:
    """Drop users (or items) with too few interactions; subtract theirs from the counts of the other table."""
    connection.execute(f"CREATE OR REPLACE TABLE dropped AS SELECT code FROM {table} WHERE n < {core}")
    dropped = count(connection, "SELECT count(*) FROM dropped")
    if dropped:
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {table} WHERE n >= {core}")
        connection.execute(f"""
            CREATE OR REPLACE TABLE {others} AS
            SELECT name, n - coalesce(lost, 0) AS n, code FROM {others} LEFT JOIN (
                SELECT {other_code}, count(*) AS lost FROM interactions
                SEMI JOIN dropped ON dropped.code = interactions.{code} GROUP BY 1
            ) losses ON losses.{other_code} = {others}.code""")
    return dropped


def time_at(connection: duckdb.DuckDBPyConnection, rank: int) -> int:
    """The time of the remaining interaction with this rank by time, counted from 0."""
    return count(
        connection,
        f"""SELECT min(time) FROM (
            SELECT time, sum(n) OVER (ORDER BY time) AS up_to FROM (
                SELECT time, count(*) AS n FROM interactions
                SEMI JOIN users ON users.code = u SEMI JOIN items ON items.code = i GROUP BY 1
            )
        ) WHERE up_to > {rank}""",
    )
