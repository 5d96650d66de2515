"""The command ``e4srec import-reference``."""

from pathlib import Path
from typing import Annotated

import typer

from ..terminal import show
from .parameters import LoadIn4bit, LoadIn8bit, Token


def import_reference(
    item_embeddings: Annotated[Path, typer.Argument(help="Its item table, SASRec_item_embed.pkl or RecBole's .npy.")],
    output: Annotated[Path, typer.Argument(help="A new folder; or a .safetensors file for the item table alone.")],
    sequences: Annotated[
        str | None, typer.Option(help="The sequences it was trained on. They say which row is which item.")
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="adapter.pth, pytorch_model.bin or model.safetensors of a checkpoint, or the output folder."),
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder of the base it was trained on.")] = None,
    base_model_revision: Annotated[str | None, typer.Option(help="Revision of that base.")] = None,
    lora: Annotated[Path | None, typer.Option(help="Folder of its PEFT adapter; by default that of --adapter.")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Needed if there is no adapter_config.json.")] = None,
    instruction: Annotated[str | None, typer.Option(help="Prompt before the items; by default the paper's.")] = None,
    response: Annotated[
        str | None, typer.Option(help="Prompt behind the items; by default that of the reference.")
    ] = None,
    max_history: Annotated[
        int | None, typer.Option(help="By default the longest sequence; for a model of RecBole 50.")
    ] = None,
    load_in_4bit: LoadIn4bit = False,
    load_in_8bit: LoadIn8bit = False,
    token: Token = None,
) -> None:
    """Convert a model of the reference implementation or of RecBole 3, or its item table.

    Of its pickles, only what rebuilds tensors is read; anything else is refused by name. An item table alone becomes a
    .safetensors file: with --sequences in the form of e4srec train --item-embeddings, otherwise row for row. With
    --load-in-8bit the card says that the base was quantized in training; e4srec recommend and evaluate take it too.
    """
    from ..convert.reference import import_item_embeddings
    from ..convert.reference import import_reference as import_model
    from ..data import load_sequences
    from ..paths import check_exists

    if adapter is not None and (sequences is None or base_model is None):
        raise ValueError("A model needs --sequences and --base-model besides --adapter.")
    if adapter is None and (base_model is not None or lora is not None):
        raise ValueError("A model needs --adapter besides --base-model and --lora: give --adapter, or leave them out.")
    if load_in_4bit and load_in_8bit:
        raise ValueError("--load-in-4bit and --load-in-8bit exclude each other: leave one of them out.")
    for path in (item_embeddings, adapter, sequences, lora):
        if path is not None:
            check_exists(path)
    if base_model is not None:
        check_exists(base_model, bare_names=True)
    if adapter is None or base_model is None or sequences is None:
        table = import_item_embeddings(
            output,
            item_embeddings=item_embeddings,
            sequences=None if sequences is None else load_sequences(sequences),
        )
        first = "row for row" if sequences is None else "[PAD], [UNK], then the items as they first appear"
        show(f"Wrote {output}: {table.shape[0]:,} × {table.shape[1]} ({first})")
        return
    bits = "4 bits" if load_in_4bit else "8 bits" if load_in_8bit else None
    import_model(
        output,
        base_model=base_model,
        item_embeddings=item_embeddings,
        adapter=adapter,
        sequences=sequences,
        lora=lora,
        lora_alpha=lora_alpha,
        base_model_revision=base_model_revision,
        max_history=max_history,
        quantized=bits and f"quantized to {bits} (bitsandbytes)",
        token=token,
        instruction=instruction,
        response=response,
    )
    show(f"Imported to {output}")
    if bits is not None:
        show(f"recommend and evaluate quantize its base with --load-in-{bits[0]}bit; without it they read it whole.")
