"""The whole road: raw files, records, interactions, sequences, splits, a folder that can be trained on and pushed."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from .. import __version__
from ..dataset_repo import FACTS_NAME, PICTURE_NAME, REJECTED_NAME, refresh_dataset_card
from ..json_files import write_json
from .chunks import ahead, read_chunks
from .errors import PreparationError
from .files import find_files, recorded_name
from .interactions import count, select_interactions, time_at
from .options import PreparationOptions, make_options, microseconds, moment
from .picture import draw
from .records import collect_titles, create_records, read_log, read_titles
from .rejects import check_rejected, describe_rejected, write_rejected
from .report import dataset_facts
from .source import Source
from .sources import SOURCES
from .splitting import Cuts
from .sql import sql_text
from .workplace import PREPARATION_NAME, check_output, workplace
from .writing import SequenceWriter, summary

#: Of the memory that may be taken; the rest is for what is in flight between DuckDB and the files.
SHARE_OF_DUCKDB = 0.6


@dataclass(frozen=True)
class Preparation:
    """What was done.

    Attributes:
        facts: The content of ``preparation.json``: source, options, files with their hashes, rows in and out of each
            step, sizes, software.
        rejected: The bad records in words, the first ones shown; empty where there is none.
    """

    facts: dict[str, Any]
    rejected: str


def prepare(
    source: str | Source,
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    metadata: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    name: str | None = None,
    license: str | None = None,  # noqa: A002 - as DatasetCardData calls it
    **options: Any,
) -> Preparation:
    """Make a data set of raw logs: a folder that `examples/train.py` and `load_dataset` take and that can be pushed.

    The same files and options give the same bytes. The folder appears whole or not at all.

    Args:
        source: What kind of log it is: a name in [`SOURCES`], or a [`Source`] as [`make_table`] makes it.
        paths: The files: local, or anything that fsspec opens (``https://…``, ``hf://datasets/org/name/file.csv``,
            ``zip://file::archive.zip``); a ``*`` stands for all that fit. Compressed ones are known by their content.
        output: The folder to make.
        metadata: A file of the items, for their titles.
        preset: A published processing that the source knows, ``"s3rec"`` for instance. ``options`` go before it.
        memory_limit: ``"4GB"`` for instance; what does not fit goes to disk, beside ``output``. By default four fifths
            of the memory.
        threads: For DuckDB; by default all.
        overwrite: Replace a prepared data set.
        name: What the data set is called; by default as the folder.
        license: Of the data, as the Hub names licences.
        options: See [`PreparationOptions`].

    Returns:
        What was done.

    Raises:
        PreparationError: If there is no such file, source, or option; if too many records are bad; if nothing is left.
            Nothing is written then.
    """
    kind = find_source(source)
    chosen = make_options(kind, preset, options)
    final = Path(os.path.realpath(output))  # what a link leads to is replaced, not the link
    check_output(final, overwrite=overwrite)
    files = find_files([os.fspath(path) for path in paths])
    if not files:
        raise PreparationError("No file is given.")
    extra = find_files([os.fspath(metadata)]) if metadata is not None else []
    with workplace(final, overwrite=overwrite) as (stage, scratch):
        connection = _connect(scratch, memory_limit, threads)
        try:
            facts, rejected = _prepare(connection, kind, chosen, files, extra, stage, scratch, name or final.name)
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise PreparationError(f"memory_limit {memory_limit} is too small, or the disk is full: {error}") from error
        finally:
            connection.close()
        facts = {"source": kind.name, "preset": preset, **facts}
        write_json(stage / PREPARATION_NAME, facts)
        write_json(stage / FACTS_NAME, dataset_facts(facts))
        refresh_dataset_card(stage, final.name, license=license)
    return Preparation(facts, rejected)


def find_source(source: str | Source) -> Source:
    """The source of a name.

    Raises:
        PreparationError: If there is none.
    """
    if isinstance(source, Source):
        return source
    if source not in SOURCES:
        raise PreparationError(f"There is no source {source!r}; there are {', '.join(SOURCES)}.")
    return SOURCES[source]


def _connect(scratch: Path, memory_limit: str | None, threads: int | None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    try:
        connection.execute(f"SET temp_directory = {sql_text(str(scratch / 'spill'))}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = false")  # the order is in `position`
        connection.execute("SET enable_progress_bar = false")
        if memory_limit is not None:
            connection.execute(f"SET memory_limit = '{int(_bytes(memory_limit) * SHARE_OF_DUCKDB)}B'")
        if threads is not None:
            connection.execute("SET threads = ?", [threads])
    except duckdb.Error as error:
        connection.close()
        raise PreparationError(f"memory_limit or threads: {error}") from error
    return connection


def _bytes(size: str) -> float:
    """The bytes that ``"4GB"`` or ``"500 MiB"`` says."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B\s*", size, re.IGNORECASE)
    if not found:
        raise PreparationError(f"memory_limit is a size like 4GB or 500MiB, not {size!r}")
    number, prefix, binary = found.groups()
    return float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " ")


def _prepare(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    options: PreparationOptions,
    files: list[str],
    metadata: list[str],
    stage: Path,
    scratch: Path,
    name: str,
) -> tuple[dict[str, Any], str]:
    now = int(time.time() * 1e6) if options.now is None else microseconds(options.now)
    create_records(connection)
    read = read_log(connection, files, source, options, now, scratch)
    titled = [read_titles(connection, path, source, options.encoding, len(files), scratch) for path in metadata]
    rejected = write_rejected(connection, [recorded_name(path) for path in (*files, *metadata)], stage / REJECTED_NAME)
    described = describe_rejected(rejected, stage / REJECTED_NAME)
    records = count(connection, "SELECT count(*) FROM records")
    if not records:
        raise PreparationError("There are no records: the files are empty.")
    bad = count(connection, "SELECT count(*) FROM records WHERE reason IS NOT NULL")
    check_rejected(bad, records, options.max_rejected, described)
    check_rejected(
        sum(rejected.values()) - bad, sum(file["records"] for file in titled), options.max_rejected, described
    )
    if source.title is not None:
        collect_titles(connection)
    steps = select_interactions(connection, options)
    if not steps[-1]["rows_out"]:
        path = "; ".join(f"{step['step']}: {step['rows_out']:,} left" for step in steps)
        raise PreparationError(f"Nothing is left of {records:,} records. {path}")
    cuts = _cuts(connection, options, steps[-1]["rows_out"]) if options.split == "time" else None
    writer = SequenceWriter(stage, options, cuts, _items(connection), source.time is not None)
    with tqdm(total=steps[-1]["rows_out"], desc="writing", unit=" interactions", unit_scale=True, disable=None) as bar:
        for chunk in ahead(read_chunks(connection)):
            writer.write(chunk)
            bar.update(len(chunk.items))
    writer.close()
    splits = writer.counts.splits
    if not splits["train"]:
        raise PreparationError("Nothing is left to train on: all interactions are in the validation and test periods.")
    if cuts is not None and not (splits["validation"] and splits["test"]):
        last = moment(writer.counts.last_time or 0)
        raise PreparationError(
            f"Validation from {moment(cuts[0])} has {splits['validation']:,} targets, test from {moment(cuts[1])} has "
            f"{splits['test']:,}; the last interaction is at {last}. Choose other moments."
        )
    with_title = writer.write_items(_titles(connection))
    return {
        "name": name,
        "columns": {column: list(names) for column, names in source.log.columns.items()},
        "separator": source.log.separator,
        "options": options.to_dict(),
        "files": read,
        "metadata": titled,
        "rejected": rejected,
        "steps": steps,
        "cuts": None if cuts is None else [moment(cut) for cut in cuts],
        **summary(writer.counts),
        "items_with_title": with_title,
        "picture": PICTURE_NAME if draw(writer.counts, name, stage / PICTURE_NAME) else None,
        "sha256": writer.digest.hexdigest(),
        "software": {"e4srec-hf": __version__, "duckdb": duckdb.__version__, "pyarrow": pa.__version__},
    }, described


def _titles(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The titles of the items that are left."""
    return dict(
        connection.execute("SELECT item_id, title FROM titles SEMI JOIN items ON items.name = item_id").fetchall()
    )


def _items(connection: duckdb.DuckDBPyConnection) -> pa.Array:
    """Names of items by code; null for a code that is gone."""
    found = pa.RecordBatchReader.from_stream(connection.sql("SELECT code, name FROM items ORDER BY code")).read_all()
    codes = found["code"].to_numpy()
    places = np.full(codes[-1] + 1, -1)
    places[codes] = np.arange(len(codes))
    names = found["name"].combine_chunks().cast(pa.string())
    return names.take(pa.array(places, mask=places < 0))


def _cuts(connection: duckdb.DuckDBPyConnection, options: PreparationOptions, interactions: int) -> Cuts:
    """When validation and test begin."""
    if options.validation_from and options.test_from:
        return microseconds(options.validation_from), microseconds(options.test_from)
    shares = (options.validation_share + options.test_share, options.test_share)
    validation, test = (
        time_at(connection, min(round(interactions * (1 - share)), interactions - 1)) for share in shares
    )
    if validation == test:
        raise PreparationError(
            f"So many interactions are at {moment(test)} that validation and test would begin together: give "
            "validation_from and test_from, or larger shares."
        )
    return validation, test
