"""``e4srec prepare``: the command line of `prepare`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from .errors import PreparationError
from .pipeline import Preparation, find_source, prepare
from .report import describe_ties, summary_lines
from .sources import SOURCES
from .sources.table import make_table

SOURCE_LIST = "\n\n".join(f"{source.name}: {source.about}" for source in SOURCES.values())
EPILOG = f"""
Sources: \n\n{SOURCE_LIST}

Example: e4srec prepare amazon-2014 reviews_Beauty_5.json.gz --preset s3rec --output data/beauty
"""


def prepare_command(
    source: Annotated[str, typer.Argument(help="What kind of raw log it is; see below.")],
    paths: Annotated[
        list[str],
        typer.Argument(help="Raw files: local, https://, hf://datasets/…, zip://file::archive; * is a wildcard."),
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    metadata: Annotated[str | None, typer.Option(help="File of the items, for their titles.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A published processing: s3rec (amazon-2014, amazon-2018, yelp, lastfm-hetrec). Options go before it."
        ),
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Whose the sequences are, where a source offers a choice.")] = None,
    min_rating: Annotated[float | None, typer.Option(help="Drop lower ratings.")] = None,
    start: Annotated[
        str | None, typer.Option(help="First moment that is kept, 2019-01-01 or 2019-01-01T08:00, UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last moment that is kept; a date alone is its midnight.")] = None,
    repeats: Annotated[
        Literal["keep", "first", "last", "first-row"] | None,
        typer.Option(help="Of a user's interactions with an item: all (default), one in time, or the first row."),
    ] = None,
    user_core: Annotated[
        int | None, typer.Option(help="Least interactions of a user, over and over; 5 by default.")
    ] = None,
    item_core: Annotated[int | None, typer.Option(help="Least interactions of an item; 5 by default.")] = None,
    ties: Annotated[
        Literal["file", "item", "shuffle"] | None,
        typer.Option(help="What orders interactions of a user at the same time: the file (default), item ids, a draw."),
    ] = None,
    ties_seed: Annotated[int | None, typer.Option(help="Of the draw.")] = None,
    split: Annotated[
        Literal["leave_one_out", "time", "ratio"] | None, typer.Option(help="leave_one_out by default.")
    ] = None,
    validation_share: Annotated[float | None, typer.Option(help="For time and ratio; 0.1 by default.")] = None,
    test_share: Annotated[float | None, typer.Option(help="For time and ratio; 0.1 by default.")] = None,
    validation_from: Annotated[str | None, typer.Option(help="For time, instead of a share.")] = None,
    test_from: Annotated[str | None, typer.Option(help="For time, instead of a share.")] = None,
    targets: Annotated[
        Literal["last", "first", "all"] | None,
        typer.Option(help="For time and ratio: which of a user's items in a period are targets; last by default."),
    ] = None,
    user_column: Annotated[
        str | None,
        typer.Option(help="Of a table: a name, user_id by default, or a number, from 1, where there is no header."),
    ] = None,
    item_column: Annotated[str | None, typer.Option(help="Of a table; item_id by default.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Of a table; timestamp by default.")] = None,
    rating_column: Annotated[str | None, typer.Option(help="Of a table.")] = None,
    title_column: Annotated[str | None, typer.Option(help="Of a table: of the items' titles.")] = None,
    separator: Annotated[str | None, typer.Option(help="Of a table; found out by default. \\t is a tab.")] = None,
    time_unit: Annotated[
        Literal["auto", "s", "ms", "us", "ns"] | None, typer.Option(help="Of times that are numbers.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(help="Of times that are neither numbers nor ISO 8601: %d.%m.%Y for instance.")
    ] = None,
    negative_times: Annotated[
        Literal["reject", "keep"] | None, typer.Option(help="Whether a time before 1970 is a bad record.")
    ] = None,
    now: Annotated[str | None, typer.Option(help="Later moments are bad records; by default the present.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text; UTF-8 by default.")] = None,
    max_rejected: Annotated[
        float | None, typer.Option(help="Share of bad records that is borne; 0.01 by default.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(help="4GB for instance, four fifths of the memory by default; what does not fit goes to disk."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="By default all.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the data set; by default as the folder.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="Of the data, as the Hub names licences.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a prepared data set.")] = False,
) -> None:
    """Make a data set of raw logs: sequences, splits and items in Parquet, with a card. All of it or nothing."""
    columns = {
        "user_column": user_column,
        "item_column": item_column,
        "time_column": time_column,
        "rating_column": rating_column,
        "title_column": title_column,
        "separator": separator and separator.replace("\\t", "\t"),
    }
    given_columns = {key: value for key, value in columns.items() if value is not None}
    if given_columns and source != "table":
        raise PreparationError(f"{', '.join(given_columns)}: only of the source 'table'; {source} knows its columns.")
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
        "negative_times": negative_times,
        "now": now,
        "encoding": encoding,
        "max_rejected": max_rejected,
    }
    prepared = prepare(
        make_table(**given_columns) if source == "table" else find_source(source),
        paths,
        output,
        metadata=metadata,
        preset=preset,
        memory_limit=memory_limit,
        threads=threads,
        name=name,
        license=licence,
        overwrite=overwrite,
        **{key: value for key, value in options.items() if value is not None},
    )
    _print(prepared, output)


def _print(prepared: Preparation, output: Path) -> None:
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
        console.print(f"Bad records, all in {output / 'rejected.jsonl'}:\n{prepared.rejected}\n", markup=False)
    console.print(steps, "", sizes, "", sep="\n")
    console.print(describe_ties(facts), markup=False)
    console.print(f"Wrote {output}", markup=False, soft_wrap=True)
