"""The command ``e4srec verify``."""

from typing import Annotated

import typer

from ..terminal import show
from .parameters import Revision, Source, Token


def verify(
    source: Source,
    revision: Revision = None,
    check_base: Annotated[bool, typer.Option(help="Read the base's config, for the shapes of LoRA.")] = True,
    token: Token = None,
) -> None:
    """Check that a repo is what a release of this package writes, before you trust its code. Nothing of it is run."""
    from ..hub.verify import verify as verify_repo
    from ..paths import check_exists

    try:
        check_exists(source)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from error  # status 2: it could not be checked
    verification = verify_repo(source, revision=revision, token=token, check_base=check_base)
    show(str(verification))
    raise typer.Exit(verification.exit_status)
