"""The files of the reference implementation and of RecBole 3's E4SRec: which is which, and what their tensors are."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..modeling.configuration_e4srec import PAPER_INSTRUCTION
from .tensor_files import load_named_tensors, load_tensors

#: What their template puts after the items: one line break less than the paper's Alpaca prompt (`PAPER_RESPONSE`).
REFERENCE_RESPONSE = "\n### Response:\n"
#: Where heads are found in an output folder, the first one first: what was saved at the end, then checkpoints.
ADAPTER_FILES = ("adapter.pth", "adapter.bin", "pytorch_model.bin", "model.safetensors")
#: Tensors besides those of the base; they have the same names here.
HEADS = ("input_proj.weight", "input_proj.bias", "score.weight")
#: What training wrappers put before all names.
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
#: Two tables are one if they differ by no more than rounding to half precision, bfloat16 or float16.
ROUNDING, SMALLEST = 2**-8, 2**-24


@dataclass(frozen=True)
class Origin:
    """An implementation whose models are imported.

    Attributes:
        name: What it is called.
        base: How the names of the base's tensors begin.
        instruction: Prompt before the items.
        max_history: How many items a history has at most; ``None`` if it is never cut.
    """

    name: str
    base: str
    instruction: str
    max_history: int | None


REFERENCE = Origin(
    "the reference implementation, github.com/HestiaSky/E4SRec", "llama_model.", PAPER_INSTRUCTION, max_history=None
)
RECBOLE = Origin(
    "RecBole 3, github.com/RUCAIBox/RecBole3.0", "llm_model.", PAPER_INSTRUCTION.replace("’", "'"), max_history=50
)


@dataclass(frozen=True)
class AdapterTensors:
    """What an adapter's file holds besides a frozen base.

    Attributes:
        origin: Where it is from.
        heads: Some of `HEADS`, float32.
        lora: LoRA weights under PEFT's names.
        table: Its item table, padding first; ``None`` if the file has none.
    """

    origin: Origin
    heads: dict[str, Tensor]
    lora: dict[str, Tensor]
    table: Tensor | None


def find_adapter(path: str | os.PathLike[str]) -> Path:
    """The file with the heads: a file as it was given, or the one in an output folder or in its last checkpoint.

    Raises:
        FileNotFoundError: If a folder has none of `ADAPTER_FILES`.
    """
    path = Path(path)
    lora_alone = path.is_file() and path.name.startswith("adapter_model.")  # that of PEFT: the heads are beside it
    if not path.is_dir() and not lora_alone:
        return path
    folder = path.parent if lora_alone else path
    numbers = {
        int(found[1]): entry for entry in folder.iterdir() if (found := re.fullmatch(r"checkpoint-(\d+)", entry.name))
    }
    for place in (folder, *(numbers[number] for number in sorted(numbers, reverse=True))):
        for name in ADAPTER_FILES:
            if (place / name).is_file():
                return place / name
    raise FileNotFoundError(
        f"{path} holds no input projection and no scoring head: "
        f"none of {', '.join(ADAPTER_FILES)} is in {folder} or in a checkpoint-… inside it."
    )


def read_adapter(path: Path) -> AdapterTensors:
    """Read the file that [`find_adapter`] found.

    Raises:
        ValueError: If the file would run code, has vectors of users, or has tensors that have no place here.
    """
    tensors = {WRAPPERS.sub("", name): tensor for name, tensor in load_named_tensors(path, skip=_is_frozen).items()}
    if not tensors:
        raise ValueError(f"{path} is empty: give the adapter.pth or a checkpoint that has the trained weights.")
    users = tensors.pop("user_embeds.weight", None)  # one row, unused, where the model reads no users
    projects_users = any(name.startswith("user_proj.") for name in tensors)
    if (projects_users and users is None) or (users is not None and len(users) > 1):
        raise ValueError(
            f'{path} has vectors of users (user_proj): it was trained with task_type="general", which reads the '
            "user before the items. E4SRec as this package has it reads items only "
            '(task_type="sequential"). An early version of the reference saved user_proj with these too, unused: '
            "if that is the case, save the file again without it."
        )
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("user_proj.")}
    origin = RECBOLE if any(name.startswith(RECBOLE.base) for name in tensors) else REFERENCE
    table = tensors.pop("input_embeds.weight", None)
    heads = {name: tensors.pop(name).to(torch.float32, copy=True) for name in HEADS if name in tensors}
    lora = {name.removeprefix(origin.base): tensor for name, tensor in tensors.items() if ".lora_" in name}
    unknown = [name for name in tensors if ".lora_" not in name]
    if unknown:
        raise ValueError(f"{path} has tensors that have no place here: {', '.join(unknown[:5])}")
    if not heads:
        raise ValueError(f"{path} has none of {', '.join(HEADS)}: give the file or the output folder that has them.")
    return AdapterTensors(
        origin, heads, {name.removeprefix("lora_weights."): tensor for name, tensor in lora.items()}, table
    )


def _is_frozen(name: str) -> bool:
    """Whether a name is one of the base alone; where that was quantized, not even all of its values are tensors."""
    return WRAPPERS.sub("", name).startswith((REFERENCE.base, RECBOLE.base)) and ".lora_" not in name


def read_item_table(path: str | os.PathLike[str]) -> Tensor:
    """Read an item table, such as ``SASRec_item_embed.pkl`` of the reference or the ``.npy`` of RecBole 3.

    Args:
        path: A pickle, a file that `torch.save` wrote, a ``.safetensors`` or a ``.npy`` file, with one matrix.

    Returns:
        ``(rows, item dimension)`` on the CPU, in the dtype of the file. Row 0 of the reference's is padding.

    Raises:
        ValueError: If the file holds something else, is of the reference's task ``general``, or would run code: see
            [`load_tensors`].
    """
    if Path(path).name.startswith("VanillaMF_"):
        raise ValueError(
            f'{path} is from the reference\'s other task (task_type="general"), which reads the user before the items. '
            'This package imports task_type="sequential", whose table is SASRec_item_embed.pkl.'
        )
    content = load_tensors(path)
    tensors = [content] if isinstance(content, Tensor) else list(content.values())
    if len(tensors) != 1 or tensors[0].dim() != 2 or not tensors[0].is_floating_point():
        found = [f"{tuple(tensor.shape)} of {tensor.dtype}" for tensor in tensors[:5]]
        raise ValueError(f"{path} holds {len(tensors)} tensor(s), {found}; expected one matrix with a row an item.")
    if not tensors[0].isfinite().all():
        raise ValueError(f"{path} holds NaN or infinity.")
    return tensors[0]


def table_of(adapter: AdapterTensors, given: Tensor, path: str | os.PathLike[str], file: Path) -> Tensor:
    """The item table of an adapter, padding first, from its own copy and the one that was given.

    The table of RecBole 3 has no padding. As many of its rows as there are items are used, and their mean pads.

    Args:
        adapter: The adapter.
        given: The item table that was given.
        path: Where that is from.
        file: Where the adapter is from.

    Returns:
        ``(items + 1, item dimension)`` float32: of two copies, the one with more digits.

    Raises:
        ValueError: If they are not the same table, or the table has no padding row though the reference has one.
    """
    own = adapter.table
    n_rows = len(adapter.heads.get("score.weight", given) if own is None else own)
    padded = given
    if adapter.origin is RECBOLE and len(given) != n_rows:
        items = given[: n_rows - 1]
        padding = items.to(torch.float32).mean(dim=0) if own is None else own[0]
        padded = torch.cat([padding[None].to(given.dtype), items])
    elif len(given) == n_rows - 1:
        raise ValueError(
            f"{path} has {len(given)} rows, {file} has {n_rows}: the table has no row for padding, like those of "
            'the reference\'s other task (task_type="general"), which is not imported.'
        )
    if own is None:
        return padded.to(torch.float32, copy=True)
    if own.shape != padded.shape or not torch.allclose(own.double(), padded.double(), rtol=ROUNDING, atol=SMALLEST):
        raise ValueError(
            f"{file} was trained on another item table (input_embeds, {tuple(own.shape)}) than {path}, "
            f"{tuple(given.shape)}."
        )
    finest = padded if torch.finfo(given.dtype).eps < torch.finfo(own.dtype).eps else own
    return finest.to(torch.float32, copy=True)
