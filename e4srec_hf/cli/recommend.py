"""The command ``e4srec recommend``."""

from typing import Annotated

import typer

from ..errors import naming
from ..terminal import show
from .parameters import BaseModel, LoadIn4bit, LoadIn8bit, Revision, Source, Token


def recommend(
    source: Source,
    history: Annotated[list[str] | None, typer.Argument(help="Raw item ids, the oldest first.")] = None,
    top_k: Annotated[int | None, typer.Option(help="By default 10.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also recommend items of the history.")] = False,
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="Ignore ids that are not known.")] = False,
    base_model: BaseModel = None,
    load_in_4bit: LoadIn4bit = False,
    load_in_8bit: LoadIn8bit = False,
    revision: Revision = None,
    token: Token = None,
) -> None:
    """Recommend what comes next, with the installed code: none of the repo is run."""
    from ..paths import check_exists
    from ..serving.recommending import as_lines, recommend_items
    from ..terminal import bars_only_on_terminals

    bars_only_on_terminals()
    check_exists(source)
    if base_model is not None:
        check_exists(base_model, bare_names=True)
    with naming(source):
        recommended = recommend_items(
            source,
            history or [],
            top_k=top_k,
            exclude_seen=not include_seen,
            on_unknown="unk" if skip_unknown else "error",
            base_model=base_model,
            load_in_4bit=load_in_4bit,
            load_in_8bit=load_in_8bit,
            revision=revision,
            token=token,
        )
    show(as_lines(recommended))
