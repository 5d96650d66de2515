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

from ..cards.facts import add_facts
from ..cards.model_card import refresh_model_card
from ..data import build_item_tokenizer, catalogue_of
from ..data.description import without_folders
from ..modeling import E4SRecModel
from ..modeling.configuration_e4srec import PAPER_INSTRUCTION
from ..modeling.saving import compare_shapes, staged_directory
from ..training.saving import save_trained
from .reference_lora import lora_settings_and_weights, peft_name
from .tensor_files import load_named_tensors, load_tensors

#: What its template puts after the items: one line break less than the paper's Alpaca prompt (`PAPER_RESPONSE`).
REFERENCE_RESPONSE = "\n### Response:\n"

#: Its tensors besides those of the base; they have the same names here.
HEADS = ("input_proj.weight", "input_proj.bias", "score.weight")


def read_item_table(path: str | os.PathLike[str]) -> Tensor:
    """Read an item table of the reference, such as ``SASRec_item_embed.pkl``.

    Args:
        path: A pickle, a file that `torch.save` wrote, or a ``.safetensors`` file, with one matrix.

    Returns:
        ``(items + 1, item dimension)`` float32, on the CPU; row 0 is padding.

    Raises:
        ValueError: If the file holds something else, or would run code: see [`load_tensors`].
    """
    content = load_tensors(path)
    tensors = [content] if isinstance(content, Tensor) else list(content.values())
    if len(tensors) != 1 or tensors[0].dim() != 2 or not tensors[0].is_floating_point():
        found = [f"{tuple(tensor.shape)} of {tensor.dtype}" for tensor in tensors[:5]]
        raise ValueError(f"{path} holds {len(tensors)} tensor(s), {found}; expected one matrix with a row an item.")
    return tensors[0].to(torch.float32, copy=True)


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
    rows = read_item_table(item_embeddings)
    if sequences is not None:
        items = catalogue_of(sequences)
        check_item_numbers(items, len(rows), item_embeddings)
        rows = _our_rows(rows, [int(item) for item in items])
    with staged_directory(file.parent) as stage:
        save_file({"item_embeddings.weight": rows}, stage / file.name, metadata={"format": "pt"})
    return rows


def import_reference(
    directory: str | os.PathLike[str],
    *,
    base_model: str | os.PathLike[str],
    item_embeddings: str | os.PathLike[str],
    adapter: str | os.PathLike[str],
    sequences: Dataset,
    lora: str | os.PathLike[str] | None = None,
    lora_alpha: float | None = None,
    base_model_revision: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    instruction: str = PAPER_INSTRUCTION,
    response: str = REFERENCE_RESPONSE,
    max_history: int | None = None,
    **hub_arguments: Any,
) -> None:
    """Turn a model that the reference trained (``task_type="sequential"``) into a folder that `AutoModel` loads.

    The weights of the base are not read: its config and its tokenizer are enough.

    Args:
        directory: The folder to write; a new or an empty one.
        base_model: Hub id or folder of the base that it was trained on.
        item_embeddings: Its item table, ``SASRec_item_embed.pkl``; see [`read_item_table`].
        adapter: ``adapter.pth``, or ``pytorch_model.bin`` of a checkpoint; or a safetensors file with such names.
        sequences: The sequences it was trained on. They tell that the item table belongs to them, and how long
            histories are.
        lora: The folder with ``adapter_config.json`` and ``adapter_model.bin`` or ``.safetensors``, where ``adapter``
            has no LoRA weights; by default the folder that ``adapter`` lies in.
        lora_alpha: ``lora_alpha`` of the training, where the LoRA weights come from ``adapter``, which does not say it.
            The reference's default is 16.
        base_model_revision: Revision of the base on the Hub.
        tokenizer: The text tokenizer of the base, for the prompt. Found beside the base by default.
        instruction: Prompt text before the items; by default the reference's.
        response: Prompt text after the items; by default the reference's.
        max_history: How many of the last items the model sees. The reference never cuts histories; by default it is
            the length of the longest sequence.
        hub_arguments: ``token``, ``cache_dir``, …, for the base.

    Raises:
        FileExistsError: If ``directory`` holds something.
        ValueError: If a tensor is missing, surplus or misshapen, the files do not belong together, the model read user
            vectors (``task_type="general"``), LoRA has settings that this package does not carry over, or a file would
            run code. All that is wrong is named, and nothing is written.
        OSError: If a file or the base cannot be found.
    """
    if Path(directory).is_dir() and any(Path(directory).iterdir()):
        raise FileExistsError(f"{directory} is not empty: import to a new folder.")
    table = read_item_table(item_embeddings)
    check_item_numbers(catalogue_of(sequences), len(table), item_embeddings)
    heads, lora_weights = _split(load_named_tensors(adapter), table, adapter)
    settings, lora_weights = lora_settings_and_weights(lora_weights, adapter, lora, lora_alpha)
    all_rows = range(1, len(table))
    if "score.weight" in heads:
        heads["score.weight"] = _our_rows(_score_with_padding(heads["score.weight"], len(table), adapter), all_rows)
    heads["item_embeddings.weight"] = _our_rows(table, all_rows)

    model = E4SRecModel.from_base(
        _base_without_weights(base_model, base_model_revision, **hub_arguments),
        heads["item_embeddings.weight"],
        tokenizer=tokenizer,
        base_model_revision=base_model_revision,
        instruction=instruction,
        response=response,
        max_history=max(map(len, sequences["item_ids"])) if max_history is None else max_history,
        lora=settings,
        head="linear",
        **hub_arguments,
    )
    _fill(model, heads, lora_weights, adapter)
    save_trained(model, build_item_tokenizer([str(row) for row in all_rows]), directory)
    settings = {
        "imported from": "files of the reference implementation, github.com/HestiaSky/E4SRec",
        "item_embeddings": Path(item_embeddings).name,
        "adapter": Path(adapter).name,
        "base_model": without_folders(os.fspath(base_model)),
        "lora": model.config.lora,
        "instruction": instruction,
        "response": response,
        "max_history": model.config.max_history,
    }
    add_facts(directory, {"settings": settings})
    refresh_model_card(directory)


def check_item_numbers(items: Sequence[str], n_rows: int, table: Any) -> None:
    """Refuse item ids that are not the row numbers of an item table of the reference.

    Args:
        items: The catalogue of the sequences.
        n_rows: Rows of the table, padding included.
        table: What the message calls the table.

    Raises:
        ValueError: If an id is no whole number from 1 on, or the highest is not the last row.
    """
    unknown = [item for item in items if not re.fullmatch("[1-9][0-9]*", item)]
    if unknown:
        raise ValueError(
            f"{len(unknown)} item id(s) of the sequences are not whole numbers from 1 on, "
            f"{', '.join(map(repr, unknown[:5]))} among them. Row i of {table} is item i (row 0 is padding): "
            "give the sequence file that the reference was trained on, with its numbers."
        )
    highest = max(map(int, items), default=0)
    if highest != n_rows - 1:
        raise ValueError(
            f"{table} has {n_rows} rows, padding and items 1 to {n_rows - 1}, but the items of the sequences go up to "
            f"{highest}: they do not belong together."
        )


def _our_rows(theirs: Tensor, rows: Sequence[int]) -> Tensor:
    """``(items + 1, width)``, padding first, to ``[PAD]``, ``[UNK]`` and the items in ``rows``."""
    return torch.cat([theirs[:1], theirs.new_zeros(1, theirs.shape[1]), theirs[list(rows)]])  # (vocab, width)


def _split(
    tensors: dict[str, Tensor], table: Tensor, adapter: str | os.PathLike[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The heads, and the LoRA weights under PEFT's names. What is neither is the frozen base, or is refused."""
    users = tensors.pop("user_embeds.weight", None)  # one row, unused, where the model reads no users
    projects_users = any(name.startswith("user_proj.") for name in tensors)
    if (projects_users and users is None) or (users is not None and len(users) > 1):
        raise ValueError(
            f'{adapter} has vectors of users (user_proj): it was trained with task_type="general", which reads the '
            "user before the items. E4SRec as this package has it reads items only "
            '(task_type="sequential"). An early version of the reference saved user_proj with these too, unused: '
            "if that is the case, save the file again without it."
        )
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("user_proj.")}
    own_table = tensors.pop("input_embeds.weight", table)
    if own_table.shape != table.shape or not torch.equal(own_table.to(torch.float32), table):
        raise ValueError(f"{adapter} was trained on another item table (input_embeds) than the one that was given.")
    heads = {name: tensors.pop(name).to(torch.float32, copy=True) for name in HEADS if name in tensors}
    lora = {name.removeprefix("llama_model."): tensor for name, tensor in tensors.items() if ".lora_" in name}
    unknown = [name for name in tensors if ".lora_" not in name and not name.startswith("llama_model.")]
    if unknown:
        raise ValueError(f"{adapter} has tensors that have no place here: {', '.join(unknown[:5])}")
    return heads, {name.removeprefix("lora_weights."): tensor for name, tensor in lora.items()}


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
        return AutoModel.from_config(config, trust_remote_code=False)


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
