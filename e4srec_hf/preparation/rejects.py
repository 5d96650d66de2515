"""Bad records: counted by reason, the first shown, all written, and too many of them refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from .errors import PreparationError
from .layouts import POSITION_OF_FILE

#: So many of each reason are shown, and so many characters of each.
SHOWN, SHOWN_CHARACTERS = 3, 120


def write_rejected(connection: duckdb.DuckDBPyConnection, files: Sequence[str], path: Path) -> dict[str, int]:
    """Write a JSON line a bad record: file, line (or row of a table), reason, content.

    Args:
        connection: Where ``records`` and ``bad_metadata`` are.
        files: Names of the files by number.
        path: The file to write; there is none where no record is bad.

    Returns:
        Reason to number of records, the most frequent first.
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
                    file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return counts


def describe_rejected(counts: dict[str, int], path: Path) -> str:
    """How many records are bad and why, with the first of each kind; empty where none is."""
    if not counts:
        return ""
    first: dict[str, list[dict[str, Any]]] = {reason: [] for reason in counts}
    with path.open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if len(first[entry["reason"]]) < SHOWN:
                first[entry["reason"]].append(entry)
    lines = []
    for reason, entries in first.items():
        lines.append(f"  {counts[reason]:,} × {reason}")
        for entry in entries:
            content = ascii(entry["content"])[1:-1]
            cut = content if len(content) <= SHOWN_CHARACTERS else content[:SHOWN_CHARACTERS] + " …"
            lines.append(f"      {entry['file']}, line {entry['line']}: {cut}")
    return "\n".join(lines)


def check_rejected(rejected: int, records: int, most: float, description: str) -> None:
    """Refuse raw data with too many bad records.

    Raises:
        PreparationError: If so; the first ones are shown.
    """
    if rejected > most * records:
        raise PreparationError(
            f"{rejected:,} of {records:,} records are bad ({rejected / records:.1%}), and at most {most:.1%} may be."
            f" Nothing was written. Mend the files or the options, or raise --max-rejected.\n{description}"
        )
