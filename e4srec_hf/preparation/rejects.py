"""Invalid records: write all of them, count them by reason, show the first ones, and abort if there are too many."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from .errors import PreparationError
from .layouts import POSITION_OF_FILE

#: Examples shown for each reason, and characters of each example.
EXAMPLES, EXAMPLE_CHARACTERS = 3, 120


def write_rejected(connection: duckdb.DuckDBPyConnection, files: Sequence[str], path: Path) -> dict[str, int]:
    """Write one JSON line per invalid record: file, line (or row of a table), reason, content.

    Args:
        connection: Connection with the tables ``records`` and ``bad_metadata``.
        files: Names of the files by number.
        path: The file to write; it is not written if all records are valid.

    Returns:
        Number of records by reason, the most frequent reason first.
    """
    bad = "(SELECT position, reason, content FROM records WHERE reason IS NOT NULL UNION ALL FROM bad_metadata)"
    counts = dict(connection.execute(f"SELECT reason, count(*) FROM {bad} GROUP BY 1 ORDER BY 2 DESC, 1").fetchall())
    if counts:
        rows = connection.execute(f"SELECT * FROM {bad} ORDER BY 1, 2, 3")
        with path.open("w", encoding="utf-8") as file:
            while batch := rows.fetchmany(10_000):
                for position, reason, content in batch:
                    number, line = divmod(position, POSITION_OF_FILE)
                    entry = {"file": files[number], "line": line, "reason": reason, "content": content}
                    file.write(json.dumps(entry) + "\n")
    return counts


def describe_rejected(counts: dict[str, int], path: Path) -> str:
    """A text with the number of invalid records by reason and the first of each; empty if there are none."""
    if not counts:
        return ""
    first: dict[str, list[dict[str, Any]]] = {reason: [] for reason in counts}
    with path.open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if len(first[entry["reason"]]) < EXAMPLES:
                first[entry["reason"]].append(entry)
    lines = []
    for reason, entries in first.items():
        lines.append(f"  {counts[reason]:,} × {reason}")
        for entry in entries:
            content = ascii(entry["content"])[1:-1]
            cut = content if len(content) <= EXAMPLE_CHARACTERS else content[:EXAMPLE_CHARACTERS] + " …"
            lines.append(f"      {entry['file']}, line {entry['line']}: {cut}")
    return "\n".join(lines)


def check_rejected(rejected: int, records: int, most: float, advice: str, description: str) -> None:
    """Abort if more than the fraction ``most`` of the records is invalid.

    Raises:
        PreparationError: With the first invalid records in its message.
    """
    if rejected > most * records:
        raise PreparationError(
            f"{rejected:,} of {records:,} records are invalid ({rejected / records:.1%}); the limit is {most:.1%}."
            f" Nothing was written. Fix the files or the options, or raise --max-rejected. {advice}".rstrip()
            + f"\n{description}"
        )
