"""The command ``e4srec evaluate``."""

from typing import Annotated, Literal

import typer

from ..errors import naming
from ..terminal import show
from .parameters import BaseModel, LoadIn4bit, LoadIn8bit, Source, check_device

METRICS = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")


def evaluate(
    model: Source,
    dataset: Annotated[str, typer.Option(help='As for e4srec train; "demo" is the made-up world.')],
    base_model: BaseModel = None,
    load_in_4bit: LoadIn4bit = False,
    load_in_8bit: LoadIn8bit = False,
    user_column: Annotated[str, typer.Option(help="Column of users, for a table.")] = "user_id",
    items_column: Annotated[str, typer.Option(help="Column of item lists, for a table.")] = "item_ids",
    split: Annotated[Literal["validation", "test"], typer.Option(help="Whose targets are ranked.")] = "test",
    negatives: Annotated[
        str | None, typer.Option(help="Rank among sampled negatives: a file, or how many to draw.")
    ] = None,
    negatives_seed: Annotated[int, typer.Option(help="Seed of the drawn negatives.", min=0)] = 0,
    protocol: Annotated[
        Literal["strict", "reference"],
        typer.Option(
            help="reference: seen items among negatives, ties and users with few items as in the reference "
            "implementation. It excludes --include-seen."
        ),
    ] = "strict",
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

    if protocol == "reference" and include_seen:
        raise typer.BadParameter("--protocol reference sets what happens to seen items.", param_hint="--include-seen")
    bars_only_on_terminals()
    check_device(device)
    check_exists(model)
    if base_model is not None:
        check_exists(base_model, bare_names=True)
    data = load_training_data(dataset, user_column=user_column, items_column=items_column)
    show(f"{dataset}: {data.kind}")
    with naming(model):
        reports = evaluate_saved_model(
            model,
            data,
            split=split,
            negatives=negatives,
            negatives_seed=negatives_seed,
            protocol=protocol,
            exclude_seen=False if include_seen else None,
            batch_size=batch_size,
            device=device,
            base_model=base_model,
            load_in_4bit=load_in_4bit,
            load_in_8bit=load_in_8bit,
        )
    show(f"{split} targets, {reports[model].protocol}; 95% bootstrap intervals over users\n")
    show(results_table(reports, METRICS))
    if remark := reports[model].remark:
        show(f"\n{remark}")
    if as_json:
        show(json.dumps({name: report.to_dict() for name, report in reports.items()}, indent=1))
