"""The command ``e4srec prepare``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..preparation.sources import SOURCES

SOURCE_LIST = "\n\n".join(f"{source.name}: {source.about}" for source in SOURCES.values())
EPILOG = f"""
Sources: \n\n{SOURCE_LIST}

Example: e4srec prepare amazon-2014 reviews_Beauty_5.json.gz --preset s3rec --output data/beauty
"""


def prepare(
    source: Annotated[str, typer.Argument(help="Kind of raw log; see below.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Raw files: local, https://, hf://datasets/...; archives or zip://member::archive; * is a wildcard."
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option(help="Folder to create.")],
    uri: Annotated[
        str | None, typer.Option(help="Database of the source sql: postgresql://user@host/database, sqlite:///file.db.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="Query of the source sql; its order of rows decides ties.")] = None,
    metadata: Annotated[str | None, typer.Option(help="File with item titles.")] = None,
    metadata_item_column: Annotated[
        str | None, typer.Option(help="Its column of item ids: a name, or a number from 1 without a header.")
    ] = None,
    metadata_title_column: Annotated[str | None, typer.Option(help="Its column of titles.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A published processing: s3rec (amazon-2014, amazon-2018, yelp, lastfm-hetrec, lastfm-hetrec-days). "
            "Options override it."
        ),
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Sequence key, if the source offers a choice: customer or invoice.")
    ] = None,
    min_rating: Annotated[float | None, typer.Option(help="Drop interactions with a lower rating.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Earliest time to keep: 2019-01-01 or 2019-01-01T08:00, in UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Latest time to keep; a date alone means its midnight.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Keep rows with these values in a column: event=buy,cart. May be given for several columns."),
    ] = None,
    repeats: Annotated[
        Literal["keep", "distinct", "first", "last", "first-row"] | None,
        typer.Option(
            help="Which of a user's interactions with an item to keep: all, those at distinct times, or one, by time "
            "or by row. By default all, or what the source says."
        ),
    ] = None,
    user_core: Annotated[
        int | None, typer.Option(help="Minimum interactions per user, applied repeatedly; 5 by default.")
    ] = None,
    item_core: Annotated[int | None, typer.Option(help="Minimum interactions per item; 5 by default.")] = None,
    ties: Annotated[
        Literal["file", "item", "shuffle"] | None,
        typer.Option(help="Order of a user's interactions at the same time; the order of the files by default."),
    ] = None,
    ties_seed: Annotated[int | None, typer.Option(help="Seed of --ties shuffle.")] = None,
    split: Annotated[
        Literal["leave_one_out", "time", "ratio"] | None, typer.Option(help="Kind of split; leave-one-out by default.")
    ] = None,
    validation_share: Annotated[
        float | None, typer.Option(help="Share of interactions for validation (time, ratio); 0.1 by default.")
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of interactions for test (time, ratio); 0.1 by default.")
    ] = None,
    validation_from: Annotated[str | None, typer.Option(help="Start of validation (time), instead of a share.")] = None,
    test_from: Annotated[str | None, typer.Option(help="Start of test (time), instead of a share.")] = None,
    targets: Annotated[
        Literal["last", "first", "all"] | None,
        typer.Option(help="Which of a user's items in a period are targets (time, ratio); last by default."),
    ] = None,
    user_column: Annotated[
        str | None,
        typer.Option(help="Table: name of the column, or its number from 1 without a header; user_id by default."),
    ] = None,
    item_column: Annotated[str | None, typer.Option(help="Table: column of items; item_id by default.")] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            help="Table: column of times, or several: date,hour; timestamp by default. none: rows are in order of time."
        ),
    ] = None,
    rating_column: Annotated[str | None, typer.Option(help="Table: column of ratings.")] = None,
    title_column: Annotated[
        str | None, typer.Option(help="Table: column of item titles, in the log or in --metadata.")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Table: separator, \\t for a tab; detected by default.")] = None,
    time_unit: Annotated[
        Literal["auto", "s", "ms", "us", "ns"] | None, typer.Option(help="Unit of numeric times; auto detects it.")
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(help="Format of times, such as '%d %b %Y %H:%M'; for other times than numbers and ISO 8601."),
    ] = None,
    oldest: Annotated[
        str | None,
        typer.Option(
            help="Refuse a log with most times before this date, for they are probably no times; 1995-01-01 by default."
        ),
    ] = None,
    negative_times: Annotated[
        Literal["reject", "keep"] | None, typer.Option(help="Whether to reject records with a time before 1970.")
    ] = None,
    now: Annotated[str | None, typer.Option(help="Records more than a day later are invalid; now by default.")] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(help="Mark of missing values, instead of NA, null, None, NaN and the like; may be repeated."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of text files; UTF-8 by default.")] = None,
    max_rejected: Annotated[
        float | None, typer.Option(help="Abort if more than this fraction of the records is invalid; 0.01 by default.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(help="Maximum memory, such as 4GB; more data spills to disk. 80% of the memory by default."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Number of threads, at most and by default one per core.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set; the name of the folder by default.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="License of the data, by its id on the Hub.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing prepared data set.")] = False,
) -> None:
    """Make a data set from raw logs: sequences, splits and items in Parquet, with a card."""
    from .. import preparation
    from ..preparation.keeping import parse_keep
    from ..preparation.pipeline import find_source

    columns = {
        "user_column": user_column,
        "item_column": item_column,
        "time_column": time_column,
        "rating_column": rating_column,
        "title_column": title_column,
        "separator": separator and separator.replace("\\t", "\t"),
    }
    given_columns: dict[str, Any] = {key: value for key, value in columns.items() if value is not None}
    if time_column is not None and time_column.lower() == "none":
        given_columns["time_column"] = None
    is_table = source in ("table", "sql")
    if given_columns and not is_table:
        raise preparation.PreparationError(
            f"{', '.join(given_columns)}: only for the sources 'table' and 'sql'; {source} has fixed columns."
        )
    options: dict[str, Any] = {
        "owner": owner,
        "min_rating": min_rating,
        "start": start,
        "end": end,
        "repeats": repeats,
        "user_core": user_core,
        "item_core": item_core,
        "ties": ties,
        "ties_seed": ties_seed,
        "split": split,
        "validation_share": validation_share,
        "test_share": test_share,
        "validation_from": validation_from,
        "test_from": test_from,
        "targets": targets,
        "time_unit": time_unit,
        "time_format": time_format,
        "oldest": oldest,
        "negative_times": negative_times,
        "now": now,
        "keep": parse_keep(keep) if keep else None,
        "missing": missing or None,
        "encoding": encoding,
        "max_rejected": max_rejected,
    }
    prepared = preparation.prepare(
        replace(preparation.make_table(**given_columns), name=source) if is_table else find_source(source),
        _inputs(source, paths or [], uri, query),
        output,
        metadata=metadata,
        metadata_item_column=metadata_item_column,
        metadata_title_column=metadata_title_column,
        preset=preset,
        memory_limit=memory_limit,
        threads=threads,
        name=name,
        license=licence,
        overwrite=overwrite,
        **{key: value for key, value in options.items() if value is not None},
    )
    _print(prepared, output)


def _inputs(source: str, paths: list[str], uri: str | None, query: str | None) -> list[Any]:
    """The files, or the query."""
    from .. import preparation

    if source != "sql":
        if uri is not None or query is not None:
            raise preparation.PreparationError(f"--uri and --query are for the source sql, not {source}.")
        return list(paths)
    if uri is None or query is None or paths:
        raise preparation.PreparationError("The source sql takes --uri and --query, and no files.")
    return [preparation.Query(uri, query)]


def _print(prepared: Any, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..preparation.report import describe_ties, summary_lines

    facts = prepared.facts
    console = Console(highlight=False)
    steps = Table("step", "rows in", "rows out", box=None, pad_edge=False)
    for step in facts["steps"]:
        steps.add_row(step["step"], f"{step['rows_in']:,}", f"{step['rows_out']:,}")
    sizes = Table(box=None, show_header=False, pad_edge=False)
    for label, value in summary_lines(facts):
        sizes.add_row(label, value)
    for column in (*steps.columns[1:], sizes.columns[1]):
        column.justify = "right"
    if prepared.rejected:
        listed = f"Invalid records, listed in {output / 'rejected.jsonl'}:\n{prepared.rejected}\n"
        console.print(listed, markup=False, soft_wrap=True)
    for note in facts["notes"]:
        console.print(f"Note: {note}\n", markup=False, soft_wrap=True)
    console.print(steps, "", sizes, "", sep="\n")
    console.print(describe_ties(facts), markup=False)
    console.print(f"Wrote {output}", markup=False, soft_wrap=True)
