"""The command ``e4srec pull``."""

from pathlib import Path
from typing import Annotated

import typer

from ..terminal import show
from .parameters import Repo, Revision, Token


def pull(
    repo_id: Repo,
    directory: Annotated[Path, typer.Argument(help="Folder to download to.")],
    revision: Revision = None,
    token: Token = None,
) -> None:
    """Download a model from the Hub into a folder. Nothing of it is run."""
    from ..hub.pull import pull as pull_model
    from ..paths import check_writable

    check_writable(directory, "the folder")
    commit = pull_model(repo_id, directory, revision=revision, token=token)
    show(f"Pulled {repo_id}, commit {commit}, to {directory}")
