"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(help="Folder of a saved model.")]
Repo = Annotated[str, typer.Argument(help="org/name on the Hub.")]
Source = Annotated[str, typer.Argument(help="Folder or Hub id.")]
BaseModel = Annotated[str | None, typer.Option(help="Another base than the recorded one: folder or Hub id.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit.")]
Token = Annotated[str | None, typer.Option(help="Of an account on the Hub; by default the one you are logged in with.")]
