"""The command ``e4srec push``."""

from typing import Annotated

import typer

from ..errors import naming
from ..terminal import show
from .parameters import Directory, Repo, Token


def push(
    directory: Directory,
    repo_id: Repo,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility, if the repo is created.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; created if it does not exist.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    token: Token = None,
) -> None:
    """Push a saved model to the Hub, as one commit."""
    from ..files import travelling_code
    from ..hub.push import push_folder
    from ..paths import check_folder

    check_folder(directory)
    with naming(directory):
        info = push_folder(
            directory,
            repo_id,
            commit_message=message,
            private=private,
            revision=revision,
            create_pr=create_pr,
            token=token,
        )
    n_files, n_lines = travelling_code(directory)
    show(f"Pushed {directory} to {repo_id}, commit {info.oid}\n{info.pr_url or info.commit_url}")
    show(f"Code in the repo: {n_files} Python files, {n_lines:,} lines")
