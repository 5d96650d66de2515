"""The command ``e4srec evaluate``."""

from typing import Annotated, Literal

import typer

from .parameters import BaseModel, Source

METRICS = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")


def evaluate(
    model: Source,
    dataset: Annotated[str, typer.Option(help='As for e4srec train; "demo" is the made-up world.')],
    base_model: BaseModel = None,
    user_column: Annotated[str, typer.Option(help="Column of users, for a table.")] = "user_id",
    items_column: Annotated[str, typer.Option(help="Column of item lists, for a table.")] = "item_ids",
    split: Annotated[Literal["validation", "test"], typer.Option(help="Whose targets are ranked.")] = "test",
    negatives: Annotated[
        str | None, typer.Option(help="Rank among sampled negatives: a file, or how many to draw.")
    ] = None,
    negatives_seed: Annotated[int, typer.Option(help="Seed of the drawn negatives.")] = 0,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also rank the items of the history.")] = False,
    batch_size: Annotated[int, typer.Option(help="Users per batch.", min=1)] = 128,
    device: Annotated[str | None, typer.Option(help="By default the GPU if there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON too.")] = False,
) -> None:
    """Rank the targets of a data set with a saved model, and with popularity."""
    import json

    from ..data import load_training_data
    from ..evaluation.reports import results_table
    from ..evaluation.saved_model import evaluate_saved_model
    from ..paths import check_exists
    from ..terminal import bars_only_on_terminals

    bars_only_on_terminals()
    check_exists(model)
    if base_model is not None:
        check_exists(base_model, bare_names=True)
    data = load_training_data(dataset, user_column=user_column, items_column=items_column)
    typer.echo(f"{dataset}: {data.kind}")
    reports = evaluate_saved_model(
        model,
        data,
        split=split,
        negatives=negatives,
        negatives_seed=negatives_seed,
        exclude_seen=not include_seen,
        batch_size=batch_size,
        device=device,
        base_model=base_model,
    )
    typer.echo(f"{split} targets, {reports[model].protocol}; 95% bootstrap intervals over users\n")
    typer.echo(results_table(reports, METRICS))
    if as_json:
        typer.echo(json.dumps({name: report.to_dict() for name, report in reports.items()}, indent=1))
