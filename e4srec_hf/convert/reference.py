"""Import from the reference implementation (github.com/HestiaSky/E4SRec): its files become a folder of this package.

Row 0 of its item table and of its scoring head is padding, and row i is item i, the number in its sequence file. Here
``[PAD]`` is 0, ``[UNK]`` is 1 and item i of an imported model is token i + 1, with the raw id "i".
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from ..base_models import check_weight_files
from ..cards.facts import add_facts
from ..cards.model_card import refresh_model_card
from ..data import build_item_tokenizer, catalogue_of, load_sequences
from ..data.description import describe_data, without_folders
from ..modeling import E4SRecModel
from ..modeling.saving import compare_shapes, staged_directory
from ..training.saving import save_trained
from .reference_files import REFERENCE, REFERENCE_RESPONSE, find_adapter, read_adapter, read_item_table, table_of
from .reference_lora import lora_settings_and_weights, peft_name


def import_item_embeddings(
    file: str | os.PathLike[str], *, item_embeddings: str | os.PathLike[str], sequences: Dataset | None = None
) -> Tensor:
    """Turn an item table of the reference into the file that `load_item_embeddings` reads, for training on it.

    Args:
        file: The ``.safetensors`` file to write.
        item_embeddings: The reference's item table, see [`read_item_table`].
        sequences: The sequences that it was made from, whose item ids are its row numbers. Without them the table is
            written row for row, for other uses.

    Returns:
        What was written, ``(vocab, item dimension)``: ``[PAD]`` (its padding row), ``[UNK]`` (zeros), then the items
        as they first appear in the sequences.

    Raises:
        ValueError: If ``file`` is to have another suffix, or the table and the sequences do not belong together.
    """
    file = Path(file)
    if file.suffix != ".safetensors":
        raise ValueError(f"{file} must end in .safetensors.")
    rows = read_item_table(item_embeddings).to(torch.float32, copy=True)
    if sequences is not None:
        items = catalogue_of(sequences)
        if Path(item_embeddings).suffix != ".npy":  # row 0 is padding
            numbers = item_numbers(items, len(rows) - 1, item_embeddings)
        else:
            numbers = item_numbers(items, len(rows), item_embeddings, padded=False)
            rows = torch.cat([rows.mean(dim=0, keepdim=True), rows])
        rows = _our_rows(rows, [int(item) + 1 - numbers.start for item in items])
    with staged_directory(file.parent) as stage:
        save_file({"item_embeddings.weight": rows}, stage / file.name, metadata={"format": "pt"})
    return rows


def import_reference(
    directory: str | os.PathLike[str],
    *,
    base_model: str | os.PathLike[str],
    item_embeddings: str | os.PathLike[str],
    adapter: str | os.PathLike[str],
    sequences: Dataset | str | os.PathLike[str],
    lora: str | os.PathLike[str] | None = None,
    lora_alpha: float | None = None,
    base_model_revision: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    instruction: str | None = None,
    response: str | None = None,
    max_history: int | None = None,
    quantized: str | None = None,
    **hub_arguments: Any,
) -> None:
    """Turn a model that the reference trained (``task_type="sequential"``) into a folder that `AutoModel` loads.

    So is one of RecBole 3's E4SRec, whose tensors say so by their names. The weights of the base are not read: its
    config and its tokenizer are enough. The base is recorded as float32, as both compute what is not in 8 bits.

    Args:
        directory: The folder to write; a new or an empty one.
        base_model: Hub id or folder of the base that it was trained on.
        item_embeddings: Its item table, ``SASRec_item_embed.pkl`` or RecBole's ``.npy``; see [`read_item_table`].
        adapter: ``adapter.pth``, or ``pytorch_model.bin`` of a checkpoint; a safetensors file with such names; or the
            output folder that has one of them, itself or in its last checkpoint.
        sequences: The sequences it was trained on, or what `load_sequences` reads them from. They tell that the item
            table belongs to them, and how long histories are; the card names them.
        lora: The folder with ``adapter_config.json`` and ``adapter_model.bin`` or ``.safetensors``, where ``adapter``
            has no LoRA weights; by default the folder that ``adapter`` lies in.
        lora_alpha: ``lora_alpha`` of the training, where the LoRA weights come from ``adapter`` and no
            ``adapter_config.json`` beside it says it. The default of the reference and of RecBole is 16.
        base_model_revision: Revision of the base on the Hub.
        tokenizer: The text tokenizer of the base, for the prompt. Found beside the base by default.
        instruction: Prompt text before the items; by default that of the reference, or of RecBole.
        response: Prompt text after the items; by default theirs.
        max_history: How many of the last items the model sees. The reference never cuts histories: by default it is
            the length of the longest sequence. RecBole's default is 50.
        quantized: How the base was quantized in training, for the card: ``"8 bits"``, say. Nothing else changes.
        hub_arguments: ``token``, ``cache_dir``, …, for the base.

    Raises:
        FileExistsError: If ``directory`` holds something.
        ValueError: If a tensor is missing, surplus or misshapen, the files do not belong together, the model read user
            vectors (``task_type="general"``), LoRA has settings that this package does not carry over, a file would
            run code, or the base could not be loaded later. All that is wrong is named, and nothing is written.
        OSError: If a file or the base cannot be found.
    """
    if Path(directory).is_dir() and any(Path(directory).iterdir()):
        raise FileExistsError(f"{directory} is not empty: import to a new folder.")
    check_weight_files(base_model, revision=base_model_revision, token=hub_arguments.get("token"))
    source = "unnamed" if isinstance(sequences, Dataset) else os.fspath(sequences)
    if not isinstance(sequences, Dataset):
        sequences = load_sequences(source)
    given, file = read_item_table(item_embeddings), find_adapter(adapter)
    tensors = read_adapter(file)
    table = table_of(tensors, given, item_embeddings, file)
    items = item_numbers(catalogue_of(sequences), len(table) - 1, item_embeddings, padded=tensors.origin is REFERENCE)
    settings, lora_weights = lora_settings_and_weights(tensors.lora, file, lora, lora_alpha)
    all_rows = range(1, len(table))
    heads = {**tensors.heads, "item_embeddings.weight": _our_rows(table, all_rows)}
    if "score.weight" in heads:
        heads["score.weight"] = _our_rows(_score_with_padding(heads["score.weight"], len(table), file), all_rows)

    longest = tensors.origin.max_history or max(map(len, sequences["item_ids"]))
    model = E4SRecModel.from_base(
        _base_without_weights(base_model, base_model_revision, **hub_arguments),
        heads["item_embeddings.weight"],
        tokenizer=tokenizer,
        base_model_revision=base_model_revision,
        instruction=tensors.origin.instruction if instruction is None else instruction,
        response=REFERENCE_RESPONSE if response is None else response,
        max_history=longest if max_history is None else max_history,
        lora=settings,
        head="linear",
        **hub_arguments,
    )
    _fill(model, heads, lora_weights, file)
    save_trained(model, build_item_tokenizer([str(number) for number in items]), directory)
    told = {
        "imported from": f"files of {tensors.origin.name}",
        "item_embeddings": Path(item_embeddings).name,
        "adapter": os.path.relpath(file, adapter) if Path(adapter).is_dir() else file.name,
        "base_model": without_folders(os.fspath(base_model)),
        "base in training": quantized or "not recorded",
        "lora": model.config.lora,
        "instruction": model.config.instruction,
        "response": model.config.response,
        "max_history": model.config.max_history,
    }
    add_facts(directory, {"data": describe_data(source, sequences, len(items)), "settings": told})
    refresh_model_card(directory)


def item_numbers(items: Sequence[str], n_items: int, table: Any, *, padded: bool = True) -> range:
    """The numbers of the items in the order of their rows, as the sequences count them: from 1, or from 0.

    Args:
        items: The catalogue of the sequences.
        n_items: Rows of the table, without one for padding.
        table: What the message calls the table.
        padded: Whether the table has a row for padding, so that items can only be counted from 1.

    Raises:
        ValueError: If an id is no whole number, or the highest is not the last row.
    """
    first = 1 if padded else 0
    unknown = [item for item in items if not re.fullmatch("0|[1-9][0-9]*", item) or int(item) < first]
    if unknown:
        raise ValueError(
            f"{len(unknown)} item id(s) of the sequences are not whole numbers from {first} on, "
            f"{', '.join(map(repr, unknown[:5]))} among them. "
            + (f"Row i of {table} is item i (row 0 is padding)" if padded else f"The rows of {table} are items")
            + ": give the sequence file that it was trained on, with its numbers."
            + (' Ids from 0 are those of the reference\'s other task, "general".' if padded and "0" in items else "")
        )
    highest = max(map(int, items), default=0)
    if not padded and highest == n_items and "0" not in items:
        first = 1
    if highest != n_items - 1 + first:
        raise ValueError(
            f"{table} has {n_items + padded} rows, {'padding and ' if padded else ''}items {first} to "
            f"{n_items - 1 + first}, but the items of the sequences go up to {highest}: they do not belong together."
        )
    return range(first, first + n_items)


def _our_rows(theirs: Tensor, rows: Sequence[int]) -> Tensor:
    """``(items + 1, width)``, padding first, to ``[PAD]``, ``[UNK]`` and the items in ``rows``."""
    return torch.cat([theirs[:1], theirs.new_zeros(1, theirs.shape[1]), theirs[list(rows)]])  # (vocab, width)


def _score_with_padding(score: Tensor, n_rows: int, adapter: str | os.PathLike[str]) -> Tensor:
    """The scoring head with a row for padding, as the reference has it; others leave it out."""
    if score.dim() == 2 and len(score) == n_rows - 1:
        return torch.cat([score.new_zeros(1, score.shape[1]), score])
    if score.dim() != 2 or len(score) != n_rows:
        raise ValueError(
            f"score.weight in {adapter} has the shape {tuple(score.shape)}, but the item table has {n_rows} rows, "
            f"padding included: {n_rows} rows or, without padding, {n_rows - 1} are needed."
        )
    return score


def _base_without_weights(name: str | os.PathLike[str], revision: str | None, **hub_arguments: Any) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(str(name), revision=revision, trust_remote_code=False, **hub_arguments)
    with torch.device("meta"):
        return AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)


def _fill(
    model: E4SRecModel, heads: dict[str, Tensor], lora: dict[str, Tensor], adapter: str | os.PathLike[str]
) -> None:
    """Put all tensors into a model without weights, strictly.

    Raises:
        ValueError: If one is missing, surplus or misshapen; every one is named.
    """
    own = model.state_dict()
    expected = {name: own[name] for name in model.saved_keys()}
    by_peft_name = {peft_name(name): name for name in expected if ".lora_" in name}
    tensors, unknown = dict(heads), {}
    for theirs, tensor in lora.items():
        short = peft_name(theirs)
        name = by_peft_name.get(short) or by_peft_name.get(short.removeprefix("model."))
        if name is None or name in tensors:
            unknown[theirs] = tensor
        else:
            tensors[name] = tensor.to(torch.float32, copy=True)
    found = {name: tuple(tensor.shape) for name, tensor in {**tensors, **unknown}.items()}
    problems = compare_shapes(found, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    if problems:
        raise ValueError(
            f"{adapter} and its LoRA weights do not fit {model.config.base_model_name_or_path}:\n  "
            + "\n  ".join(problems)
            + "\nIs it the base that they were trained on?"
        )
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{adapter} and its LoRA weights hold NaN or infinity in {', '.join(broken)}.")
    model.load_state_dict(tensors, strict=False, assign=True)
