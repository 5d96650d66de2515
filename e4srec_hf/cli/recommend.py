"""The command ``e4srec recommend``."""

import sys
from typing import Annotated, Any

import typer

from ..errors import naming
from ..terminal import show
from .parameters import BaseModel, LoadIn4bit, LoadIn8bit, Revision, Source, Token


def recommend(
    source: Source,
    history: Annotated[list[str] | None, typer.Argument(help="Raw item ids, the oldest first.")] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Instead of a history a table of users: a .parquet, .csv or .jsonl file, a prepared data set in a "
            "folder or on the Hub, - for JSON lines from standard input, or demo.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Where the recommendations for a table go: a .parquet, .csv or .jsonl file, or - for JSON lines on "
            "standard output. The same command goes on after a stop."
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="By default 10.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also recommend items of the history.")] = False,
    candidates: Annotated[
        str | None,
        typer.Option(help="Rank only the items of this file: a .txt file with an id a line, or a table with item_id."),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(help="Leave out the items of this file; with user_id too, each for that user alone."),
    ] = None,
    skip_unknown: Annotated[
        bool,
        typer.Option(
            "--skip-unknown",
            help="Ignore ids that are not known, also of --candidates and --exclude. In the histories of a table they "
            "are always ignored, and counted.",
        ),
    ] = False,
    user_column: Annotated[str, typer.Option(help="Column of users, for a table.")] = "user_id",
    items_column: Annotated[str, typer.Option(help="Column of item lists, for a table.")] = "item_ids",
    item_separator: Annotated[
        str | None,
        typer.Option(help="What stands between two items of a CSV file. By default the lists are JSON arrays."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Users per batch, for a table.", min=1)] = 256,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output, and what a stopped run with other settings left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the recommendations for a history as JSON.")] = False,
    base_model: BaseModel = None,
    load_in_4bit: LoadIn4bit = False,
    load_in_8bit: LoadIn8bit = False,
    revision: Revision = None,
    token: Token = None,
) -> None:
    """Recommend what comes next, with the installed code: none of the repo is run."""
    import json

    from ..data.item_files import UserItems, lists_pairs, read_items
    from ..paths import check_exists
    from ..serving.recommending import as_lines, recommend_items
    from ..terminal import bars_only_on_terminals

    bars_only_on_terminals()
    check_exists(source)
    if base_model is not None:
        check_exists(base_model, bare_names=True)
    _check_together(history, table, output, item_separator, overwrite, as_json)
    selection: dict[str, Any] = {
        "top_k": top_k,
        "exclude_seen": not include_seen,
        "candidates": None if candidates is None else read_items(candidates),
    }
    if exclude is not None and not lists_pairs(exclude):
        selection["exclude"] = read_items(exclude)
    elif exclude is not None and table is None:
        raise typer.BadParameter(f"{exclude} lists pairs, and a history has no user.", param_hint="--exclude")
    elif exclude is not None:
        selection["exclude_pairs"] = UserItems(exclude)
    loading: dict[str, Any] = {"base_model": base_model, "load_in_4bit": load_in_4bit, "load_in_8bit": load_in_8bit}
    loading |= {"revision": revision, "token": token}
    on_unknown = "unk" if skip_unknown else "error"
    if table is None or output is None:
        with naming(source):
            recommended = recommend_items(source, history or [], on_unknown=on_unknown, **selection, **loading)
        show(json.dumps([item._asdict() for item in recommended]) if as_json else as_lines(recommended))
        return
    columns = {"user_column": user_column, "items_column": items_column, "item_separator": item_separator}
    writing = {"on_unknown": on_unknown, "batch_size": batch_size, "overwrite": overwrite}
    _recommend_table(source, table, output, columns, loading, selection | writing)


def _check_together(
    history: list[str] | None,
    table: str | None,
    output: str | None,
    item_separator: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Refuse options that do not go together."""
    if table is None:
        given = {"--output": output is not None, "--item-separator": item_separator is not None}
        if of_tables := next((name for name, is_given in (given | {"--overwrite": overwrite}).items() if is_given), ""):
            raise typer.BadParameter("it is for a table of users: give one, with --input.", param_hint=of_tables)
        return
    if history:
        raise typer.BadParameter("give a history or --input, not both.", param_hint="--input")
    if output is None:
        raise typer.BadParameter("where do the recommendations go? Give --output too.", param_hint="--input")
    if as_json:
        raise typer.BadParameter("it is for a history. For a table, --output - or a .jsonl file.", param_hint="--json")


def _recommend_table(
    source: str, table: str, output: str, columns: dict[str, Any], loading: dict[str, Any], options: dict[str, Any]
) -> None:
    """Recommend for the users of a table; what is wrong with its first rows, or the output, is told at once."""
    import os
    from pathlib import Path

    from ..data.users import count_users, read_users
    from ..serving.parts import check_output
    from ..serving.recommender import Recommender
    from ..serving.tables import STANDARD_OUTPUT, recommend_table

    if output != STANDARD_OUTPUT:
        check_output(Path(output), overwrite=options["overwrite"])
        if os.path.exists(output) and os.path.exists(table) and os.path.samefile(output, table):
            raise typer.BadParameter("it is the input.", param_hint="--output")
    users = read_users(table, **columns)
    with naming(source):
        recommender = Recommender.load(source, **loading)
    counts = recommend_table(recommender, users, output, total=count_users(table), **options)
    lines = [f"{output}: recommendations for {counts.users:,} users"] if output != STANDARD_OUTPUT else []
    if counts.unknown_items:
        lines.append(f"{counts.unknown_items:,} ids of their histories are not in the catalogue and were ignored")
    if counts.fallback:
        what = "what the prompt alone gives" if recommender.has_prompt else "no items: the model has no prompt"
        lines.append(f"{counts.fallback:,} users have no known item and got {what}")
    if lines:
        print("\n".join(lines), file=sys.stderr if output == STANDARD_OUTPUT else sys.stdout)
