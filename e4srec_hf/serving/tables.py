"""A table of users in, a table of recommendations out, in little memory; a run that was stopped goes on."""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from ..data.item_files import UserItems
from ..data.item_tokenizer import item_catalogue
from ..data.rows import Row
from ..evaluation.fingerprint import model_fingerprint
from ..paths import check_writable
from .parts import check_output, open_parts
from .recommender import Recommender, checked_items
from .table_files import table_of, write_json_lines

#: Users of a part: so many are in memory, and so many are lost at most when a run is stopped.
USERS_A_PART = 1024
#: The name that stands for standard output.
STANDARD_OUTPUT = "-"


class TableCounts(NamedTuple):
    """What a table of recommendations is of.

    Attributes:
        users: Its rows.
        fallback: Users without any known item.
        unknown_items: Ids in histories that are not in the catalogue.
    """

    users: int
    fallback: int
    unknown_items: int


def recommend_table(
    recommender: Recommender,
    users: Iterable[Row],
    output: str | os.PathLike[str],
    *,
    top_k: int | None = None,
    exclude_seen: bool = True,
    candidates: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    exclude_pairs: UserItems | None = None,
    on_unknown: str = "error",
    batch_size: int = 256,
    overwrite: bool = False,
    total: int | None = None,
) -> TableCounts:
    """Recommend for each user of a table, and write a row each: see [`SCHEMA`].

    The rows are in the order of the users. Ids of histories that are not in the catalogue are ignored and counted.
    The file appears when all rows are there. Until then the parts are in a folder beside it, with ``.parts`` after its
    name; after a run that was stopped, the same call goes on after the last whole part.

    Args:
        recommender: The model.
        users: The users, as `read_users` reads them.
        output: A ``.parquet``, ``.csv`` or ``.jsonl`` file, or ``"-"`` for JSON lines on standard output, which cannot
            go on after a stop.
        top_k: How many items for each; by default 10, or the whole catalogue where it is smaller.
        exclude_seen: Whether items of a history are left out.
        candidates: Raw ids to choose from; by default the whole catalogue.
        exclude: Raw ids that are recommended to nobody.
        exclude_pairs: Items that are not recommended to some users.
        on_unknown: ``"error"`` refuses candidates and excluded items that are not in the catalogue, ``"unk"`` ignores
            them.
        batch_size: Histories that are read at a time.
        overwrite: Whether to replace the file, and what a stopped run with other settings or other users left.
        total: How many users there are, for the progress bar.

    Raises:
        FileExistsError: If the file exists, and may not be replaced.
        TypeError: If ``candidates`` or ``exclude`` is anything else than a list of strings.
        ValueError: If users cannot be read, an id is not known, ``top_k`` cannot be, or a stopped run had other
            settings or other users. Whole parts are kept.
    """
    candidates, exclude = None if candidates is None else checked_items(candidates), checked_items(exclude)
    listed = {"candidates": candidates, "exclude": exclude, "pairs": exclude_pairs.items if exclude_pairs else ()}
    for name, items in listed.items():
        known = recommender.tokens(items or (), on_unknown=on_unknown)
        if name == "candidates" and items is not None and not known:
            raise ValueError("None of the candidates is in the catalogue.")
    options: dict[str, Any] = {"top_k": top_k, "exclude_seen": exclude_seen, "batch_size": batch_size}
    recommender.recommend([], **options)  # refuses impossible ones

    def recommend(some: Sequence[Row]) -> pa.Table:
        ranked = recommender.recommend(
            [row.items for row in some],
            **options,
            candidates=candidates,
            exclude=exclude,
            exclude_each=[exclude_pairs.of(row.user) for row in some] if exclude_pairs else None,
            on_unknown="unk",
        )
        return table_of([row.user for row in some], ranked)

    chunks, counts = _chunks(users), Counter[str]()

    def look(table: pa.Table) -> None:
        sums = {name: sum(table[name].to_pylist()) for name in ("fallback", "unknown_items")}
        counts.update({"users": len(table), **sums})

    if os.fspath(output) == STANDARD_OUTPUT:
        with _bar(total) as bar:
            for some in chunks:
                table = recommend(some)
                write_json_lines([table], sys.stdout.buffer)
                look(table)
                bar.update(len(some))
    else:
        path = Path(os.path.realpath(output))
        check_output(path, overwrite=overwrite)
        check_writable(path.parent, "output=")
        settings = {
            "model": _fingerprint(recommender),
            **options,
            "candidates": None if candidates is None else _hash(sorted(candidates)),
            "exclude": _hash(sorted(exclude)),
            "exclude_pairs": exclude_pairs.sha256 if exclude_pairs else None,
        }
        with open_parts(path, settings, overwrite=overwrite) as parts:
            with _bar(total) as bar:
                for some in chunks:
                    if not parts.find(some):
                        parts.add(some, recommend(some))
                    bar.update(len(some))
            parts.end()
            parts.join(path, look)
    return TableCounts(**{name: counts[name] for name in TableCounts._fields})


def _chunks(users: Iterable[Row]) -> Iterator[list[Row]]:
    users = iter(users)
    while some := list(islice(users, USERS_A_PART)):
        yield some


def _bar(total: int | None) -> Any:
    """A progress bar with users a second, on a terminal."""
    return tqdm(total=total, unit=" users", desc="recommending", disable=None)


def _fingerprint(recommender: Recommender) -> str:
    """Changes with whatever of the model a row depends on."""
    base = getattr(recommender.model, "base", None)
    return _hash(
        [
            model_fingerprint(recommender.model),
            str(getattr(getattr(base, "config", None), "quantization_config", None)),
            item_catalogue(recommender.tokenizer),
            sorted(recommender.titles.items()),
        ]
    )


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
