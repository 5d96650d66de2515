"""Raw logs for tests: writing them, and reading what was made of them."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from e4srec_hf.preparation import prepare


def sequences_of(folder):
    """User to items, in the order of the file."""
    rows = pq.read_table(Path(folder, "sequences.parquet")).to_pydict()
    return dict(zip(rows["user_id"], rows["item_ids"], strict=True))


def rows_of(folder, split, kind="leave_one_out"):
    """Rows of a split as (user, items)."""
    rows = pq.read_table(Path(folder, kind, f"{split}.parquet")).to_pydict()
    return list(zip(rows["user_id"], rows["item_ids"], strict=True))


def times_of(folder):
    """User to times."""
    rows = pq.read_table(Path(folder, "sequences.parquet")).to_pydict()
    return dict(zip(rows["user_id"], rows["timestamps"], strict=True))


def titles_of(folder):
    """Item to title, in the order of the catalogue."""
    rows = pq.read_table(Path(folder, "items.parquet")).to_pydict()
    return dict(zip(rows["item_id"], rows["title"], strict=True))


def rejected_of(folder):
    """(line, reason) of the invalid records."""
    file = Path(folder, "rejected.jsonl")
    if not file.exists():
        return []
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [(entry["line"], entry["reason"]) for entry in entries]


def bytes_of(folder):
    """Every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def prepare_all(source, paths, output, **options):
    """Prepare without default filters, and accept any number of invalid records."""
    plain = {"user_core": 0, "item_core": 0, "max_rejected": 1, "now": "2026-01-01", "oldest": "1970-01-01"}
    return prepare(source, paths, output, **plain | options)
