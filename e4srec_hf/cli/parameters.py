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
LoadIn4bit = Annotated[bool, typer.Option("--load-in-4bit", help="Quantize the base to 4 bits (bitsandbytes, NF4).")]
LoadIn8bit = Annotated[
    bool, typer.Option("--load-in-8bit", help="Quantize the base to 8 bits (bitsandbytes, LLM.int8).")
]
