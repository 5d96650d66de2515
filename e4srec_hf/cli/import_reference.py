"""The command ``e4srec import-reference``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .parameters import Token


def import_reference(
    item_embeddings: Annotated[Path, typer.Argument(help="Its item table, SASRec_item_embed.pkl.")],
    output: Annotated[Path, typer.Argument(help="A new folder; or a .safetensors file for the item table alone.")],
    sequences: Annotated[
        str | None, typer.Option(help="The sequences it was trained on. They say which row is which item.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="adapter.pth, or pytorch_model.bin of a checkpoint.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder of the base it was trained on.")] = None,
    base_model_revision: Annotated[str | None, typer.Option(help="Revision of that base.")] = None,
    lora: Annotated[Path | None, typer.Option(help="Folder of its PEFT adapter; by default that of --adapter.")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Needed if there is no adapter_config.json.")] = None,
    instruction: Annotated[str | None, typer.Option(help="Prompt before the items; by default the paper's.")] = None,
    response: Annotated[
        str | None, typer.Option(help="Prompt behind the items; by default that of the reference.")
    ] = None,
    max_history: Annotated[int | None, typer.Option(help="By default the longest sequence.")] = None,
    token: Token = None,
) -> None:
    """Convert a model of the reference implementation, or its item table.

    Of its pickles, only what rebuilds tensors is read; anything else is refused by name. An item table alone becomes a
    .safetensors file: with --sequences in the form of e4srec train --item-embeddings, otherwise row for row.
    """
    from ..convert.reference import import_item_embeddings
    from ..convert.reference import import_reference as import_model
    from ..data import load_sequences

    if adapter is None:
        table = import_item_embeddings(
            output,
            item_embeddings=item_embeddings,
            sequences=None if sequences is None else load_sequences(sequences),
        )
        first = "row 0 is padding" if sequences is None else "[PAD], [UNK], then the items as they first appear"
        typer.echo(f"Wrote {output}: {table.shape[0]:,} × {table.shape[1]} ({first})")
        return
    if sequences is None or base_model is None:
        raise ValueError("A model needs --sequences and --base-model besides --adapter.")
    prompt: dict[str, Any] = {"instruction": instruction, "response": response}
    import_model(
        output,
        base_model=base_model,
        item_embeddings=item_embeddings,
        adapter=adapter,
        sequences=load_sequences(sequences),
        lora=lora,
        lora_alpha=lora_alpha,
        base_model_revision=base_model_revision,
        max_history=max_history,
        token=token,
        **{name: text for name, text in prompt.items() if text is not None},
    )
    typer.echo(f"Imported to {output}")
