"""The pipeline: raw files, records, interactions, sequences, splits, a folder that can be trained on and pushed."""

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from ..cards.dataset_card import refresh_dataset_card
from ..data.prepared import FACTS_NAME, PICTURE_NAME, REJECTED_NAME
from ..files import write_json
from ..version import __version__
from .archives import expand
from .checks import check_times, check_titles, note_marks, time_advice
from .chunks import ahead, read_chunks
from .errors import PreparationError
from .files import find_files, recorded_name
from .interactions import count, select_interactions, time_at
from .keeping import check_kept, keep_rows
from .options import PreparationOptions, make_options, microseconds, moment
from .picture import draw
from .records import Input, collect_titles, create_records, read_log, read_titles
from .rejects import check_rejected, describe_rejected, write_rejected
from .report import dataset_facts, titles_from
from .source import Log, Source, with_items_file
from .sources import SOURCES
from .splitting import Cuts
from .sql import sql_text
from .tables import is_table, name_of_table
from .titles import clean_title
from .workplace import PREPARATION_NAME, workplace
from .writing import SequenceWriter, summary

#: Share of the memory limit that DuckDB gets; the rest is for data on its way from DuckDB to the files.
SHARE_OF_DUCKDB = 0.6


@dataclass(frozen=True)
class Preparation:
    """The result of a preparation.

    Attributes:
        facts: The content of ``preparation.json``: source, options, files with their hashes, rows in and out of each
            step, sizes, software.
        rejected: A text with the number of invalid records by reason and the first of each; empty if there are none.
    """

    facts: dict[str, Any]
    rejected: str


def prepare(
    source: str | Source,
    paths: Any,
    output: str | os.PathLike[str],
    *,
    metadata: Any = None,
    metadata_item_column: str | None = None,
    metadata_title_column: str | None = None,
    preset: str | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    name: str | None = None,
    license: str | None = None,  # noqa: A002 - as DatasetCardData calls it
    **options: Any,
) -> Preparation:
    """Make a data set from raw logs: a folder that `examples/train.py` and `load_dataset` read and that can be pushed.

    The same files and options give the same bytes. The folder is written completely or not at all.

    Args:
        source: The kind of log: a name in [`SOURCES`], or a [`Source`], for example from [`make_table`].
        paths: One or several files: local, or anything that fsspec opens (``https://…``,
            ``hf://datasets/org/name/file.csv``, ``zip://member::archive.zip``); ``*`` is a wildcard. Compression is
            detected from the content. Or one or several tables: of pandas, polars, pyarrow, a `datasets.Dataset`,
            anything else that speaks Arrow, or a [`Query`].
        output: The folder to create.
        metadata: A file or table with item titles.
        metadata_item_column: Its column of ids, by name or by number from 1; by default that of the source.
        metadata_title_column: Its column of titles.
        preset: A published processing that the source defines, such as ``"s3rec"``. ``options`` override it.
        memory_limit: Maximum memory, such as ``"4GB"``; more data spills to disk, next to ``output``. By default 80% of
            the memory.
        threads: Threads of DuckDB, at most one per core; by default as many.
        overwrite: Replace an existing prepared data set.
        name: Name of the data set; by default the name of the folder.
        license: License of the data, by its identifier on the Hub.
        options: See [`PreparationOptions`].

    Raises:
        PreparationError: If a file, source or option does not exist or is invalid, if too many records are invalid, or
            if no interactions remain. Nothing is written then.
    """
    kind = find_source(source)
    chosen = make_options(kind, preset, options)
    kind = keep_rows(kind, chosen.keep)
    if metadata is not None:
        kind = with_items_file(kind, metadata_item_column, metadata_title_column)
    elif metadata_item_column or metadata_title_column:
        raise PreparationError("metadata_item_column and metadata_title_column need metadata, a file of items.")
    final = Path(os.path.realpath(output))  # a link stays, its target is replaced
    files = _find_inputs(paths)
    extra = _find_inputs(metadata) if metadata is not None else []
    with workplace(final, overwrite=overwrite) as (stage, scratch):
        log, items = kind.log, kind.metadata or Log({})
        if isinstance(files[0], str):
            files = [member for file in files for member in expand(file, log, items, scratch)]
        if extra and isinstance(extra[0], str):
            extra = [member for file in extra for member in expand(file, items, log, scratch)]
        connection = _connect(scratch, memory_limit, threads)
        try:
            facts, rejected = _prepare(connection, kind, chosen, files, extra, stage, scratch, name or final.name)
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise PreparationError(f"memory_limit={memory_limit} is too small, or the disk is full: {error}") from error
        finally:
            connection.close()
        facts = {"source": kind.name, "preset": preset, **facts}
        write_json(stage / PREPARATION_NAME, facts)
        write_json(stage / FACTS_NAME, dataset_facts(facts))
        refresh_dataset_card(stage, f"./{final.name}", license=license)  # the same bytes in any place
    return Preparation(facts, rejected)


def _find_inputs(given: Any) -> list[Input]:
    """The files, with patterns resolved, or the tables.

    Raises:
        PreparationError: If there are none, one is neither file nor table, a table is given twice, or both are mixed.
    """
    alone = _is_input(given) or isinstance(given, Mapping) or type(given).__module__.startswith("datasets.")
    inputs = [given] if alone or not isinstance(given, Iterable) else list(given)
    if wrong := [one for one in inputs if not _is_input(one)]:
        raise PreparationError(
            f"{name_of_table(wrong[0])} is neither a file nor a table; expected paths, tables of pandas, polars or "
            "pyarrow, a datasets.Dataset (of several splits one, such as data['train']), or a Query."
        )
    tables = [one for one in inputs if is_table(one)]
    if not inputs:
        raise PreparationError("No files were given.")
    if not tables:
        return find_files([os.fspath(path) for path in inputs])
    if len(tables) < len(inputs):
        raise PreparationError("Give files or tables, not both.")
    if len({id(table) for table in tables}) < len(tables):
        raise PreparationError("A table is given twice: its interactions would count twice.")
    return tables


def _is_input(value: Any) -> bool:
    return is_table(value) or isinstance(value, str | os.PathLike)


def find_source(source: str | Source) -> Source:
    """Look up a source by name.

    Raises:
        PreparationError: If there is no source of that name.
    """
    if isinstance(source, Source):
        return source
    if source not in SOURCES:
        raise PreparationError(f"Unknown source {source!r}; expected one of {', '.join(SOURCES)}.")
    return SOURCES[source]


def _connect(scratch: Path, memory_limit: str | None, threads: int | None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    try:
        connection.execute(f"SET temp_directory = {sql_text(str(scratch / 'spill'))}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = false")  # `position` has the order
        connection.execute("SET enable_progress_bar = false")
        if memory_limit is not None:
            connection.execute(f"SET memory_limit = '{int(_bytes(memory_limit) * SHARE_OF_DUCKDB)}B'")
        if threads is not None:
            connection.execute("SET threads = ?", [min(threads, os.cpu_count() or 1)])
    except duckdb.Error as error:
        connection.close()
        raise PreparationError(f"memory_limit or threads: {error}") from error
    return connection


def _bytes(size: str) -> float:
    """Parse a size such as ``"4GB"`` or ``"500 MiB"`` into bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B\s*", size, re.IGNORECASE)
    if not found:
        raise PreparationError(f"memory_limit must be a size like 4GB or 500MiB, not {size!r}")
    number, prefix, binary = found.groups()
    return float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " ")


def _prepare(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    options: PreparationOptions,
    files: list[Input],
    metadata: list[Input],
    stage: Path,
    scratch: Path,
    name: str,
) -> tuple[dict[str, Any], str]:
    now = int(time.time() * 1e6) if options.now is None else microseconds(options.now)
    create_records(connection)
    read = read_log(connection, files, source, options, now, scratch)
    titled = [read_titles(connection, path, source, options, len(files), scratch) for path in metadata]
    names = [recorded_name(one) if isinstance(one, str) else name_of_table(one) for one in (*files, *metadata)]
    rejected = write_rejected(connection, names, stage / REJECTED_NAME)
    described = describe_rejected(rejected, stage / REJECTED_NAME)
    records = count(connection, "SELECT count(*) FROM records")
    if not records:
        raise PreparationError("No records: the files are empty.")
    bad = count(connection, "SELECT count(*) FROM records WHERE reason IS NOT NULL")
    advice = time_advice(connection, source, options, now)
    check_rejected(bad, records, options.max_rejected, advice, described)
    check_rejected(
        sum(rejected.values()) - bad, sum(file["records"] for file in titled), options.max_rejected, "", described
    )
    check_kept(connection, options.keep)
    check_times(connection, names, source, options, now)
    check_titles(connection, names[len(files) :])
    notes = note_marks(connection)
    if source.title is not None:
        collect_titles(connection)
    steps = select_interactions(connection, options)
    cuts = _cuts(connection, options, steps[-1]["rows_out"]) if options.split == "time" else None
    writer = SequenceWriter(stage, options, cuts, _items(connection), source.time is not None)
    with tqdm(total=steps[-1]["rows_out"], desc="writing", unit=" interactions", unit_scale=True, disable=None) as bar:
        for chunk in ahead(read_chunks(connection)):
            writer.write(chunk)
            bar.update(len(chunk.items))
    writer.close()
    splits = writer.counts.splits
    if not splits["train"]:
        raise PreparationError("No training interactions: all are in the validation and test periods.")
    if cuts is not None and not (splits["validation"] and splits["test"]):
        last = moment(writer.counts.last_time or 0)
        raise PreparationError(
            f"Validation from {moment(cuts[0])} has {splits['validation']:,} targets, test from {moment(cuts[1])} has "
            f"{splits['test']:,}; the last interaction is at {last}. Choose other times."
        )
    titles = _titles(connection)
    cleaned = {item: clean_title(title) for item, title in titles.items()}
    with_title = writer.write_items(cleaned)
    if titles and not with_title:
        raise PreparationError(
            f"All {len(titles):,} titles are tags or scripts, such as {min(titles.values())[:80]!r}."
        )
    return {
        "name": name,
        "columns": {column: list(names) for column, names in source.log.columns.items()},
        "separator": source.log.separator,
        "options": options.to_dict(),
        "files": read,
        "metadata": titled,
        "rejected": rejected,
        "notes": notes,
        "steps": steps,
        "cuts": None if cuts is None else [moment(cut) for cut in cuts],
        **summary(writer.counts),
        "items_with_title": with_title,
        "titles_from": titles_from(source, read, titled) if with_title else None,
        "titles_left_out": sum(title is None for title in cleaned.values()),
        "titles_cleaned": sum(title not in (None, titles[item]) for item, title in cleaned.items()),
        "picture": PICTURE_NAME if draw(writer.counts, name, stage / PICTURE_NAME) else None,
        "sha256": writer.digest.hexdigest(),
        "software": {"e4srec-hf": __version__, "duckdb": duckdb.__version__, "pyarrow": pa.__version__},
    }, described


def _titles(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Titles of the remaining items."""
    return dict(
        connection.execute("SELECT item_id, title FROM titles SEMI JOIN items ON items.name = item_id").fetchall()
    )


def _items(connection: duckdb.DuckDBPyConnection) -> pa.Array:
    """Item ids by code; null for the code of a dropped item."""
    found = pa.RecordBatchReader.from_stream(connection.sql("SELECT code, name FROM items ORDER BY code")).read_all()
    codes = found["code"].to_numpy()
    places = np.full(codes[-1] + 1, -1)
    places[codes] = np.arange(len(codes))
    names = found["name"].combine_chunks().cast(pa.string())
    return names.take(pa.array(places, mask=places < 0))


def _cuts(connection: duckdb.DuckDBPyConnection, options: PreparationOptions, interactions: int) -> Cuts:
    """Start times of validation and test."""
    if options.validation_from and options.test_from:
        return microseconds(options.validation_from), microseconds(options.test_from)
    shares = (options.validation_share + options.test_share, options.test_share)
    validation, test = (
        time_at(connection, min(round(interactions * (1 - share)), interactions - 1)) for share in shares
    )
    if validation == test:
        raise PreparationError(
            f"Validation and test would both start at {moment(test)}, because many interactions have that time: give "
            "validation_from and test_from, or larger shares."
        )
    return validation, test
