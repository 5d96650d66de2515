"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(help="Folder of a saved model.")]
Repo = Annotated[str, typer.Argument(help="org/name on the Hub.")]
Source = Annotated[str, typer.Argument(help="Folder or Hub id.")]
BaseModel = Annotated[str | None, typer.Option(help="Another base than the recorded one: folder, GGUF file or Hub id.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit.")]
Token = Annotated[str | None, typer.Option(help="Of an account on the Hub; by default the one you are logged in with.")]
LoadIn4bit = Annotated[bool, typer.Option("--load-in-4bit", help="Quantize the base to 4 bits (bitsandbytes, NF4).")]
LoadIn8bit = Annotated[
    bool, typer.Option("--load-in-8bit", help="Quantize the base to 8 bits (bitsandbytes, LLM.int8).")
]


def check_device(name: str | None) -> None:
    """Refuse a device that is not here before anything is loaded.

    Raises:
        BadParameter: If nothing can be put there.
    """
    if name is None:
        return
    import torch

    try:
        torch.zeros(1, device=name)
    except Exception as error:  # a different one for each kind of device
        reason = str(error).strip().partition("\n")[0]
        raise typer.BadParameter(f"{name}: {reason}", param_hint="--device") from error
