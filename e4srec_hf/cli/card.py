"""The command ``e4srec card``."""

from typing import Annotated

import typer

from ..errors import naming
from ..terminal import show
from .parameters import Directory


def card(
    directory: Directory,
    repo_id: Annotated[str | None, typer.Option(help="What its example calls the model.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="License of the model, by its id on the Hub.")
    ] = None,
) -> None:
    """Write the model card again, from the files in the folder."""
    from ..cards.model_card import refresh_model_card
    from ..files import check_whole
    from ..paths import check_folder

    check_folder(directory)
    check_whole(directory)
    with naming(directory):
        refresh_model_card(directory, repo_id, license=licence)
    show(f"Wrote {directory / 'README.md'}")
