"""Configuration of an E4SRec adapter: its base, its catalogue, its prompt, its LoRA and its head."""

import logging
import re
from typing import Any

from .item_config import ItemConfig, check_catalogue_fields, check_whole_number

# what PEFT imports warns of a missing kernel for 4-bit weights on a CPU, whatever the base is
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

#: The newest layout of files that this code reads. Version 2 has retired items, which older code would recommend.
FORMAT_VERSION = 2

#: The two prompt texts of the paper (arXiv 2312.02443, the Alpaca template); the items stand between them.
PAPER_INSTRUCTION = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nGiven the user’s purchase history, predict next possible item to be purchased.\n\n"
    "### Input:\n"
)
PAPER_RESPONSE = "\n\n### Response:\n"

#: The LoRA of the paper: rank 16 on the three matrices of the MLP.
PAPER_LORA: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "target_modules": ["gate_proj", "down_proj", "up_proj"],
}

#: A module, or the end of the name of one, without anything of a regular expression.
PLAIN_NAME = re.compile(r"\w+([.-]\w+)*")


def check_lora(lora: dict[str, Any]) -> None:
    """Raise a `ValueError` if LoRA has impossible settings, or names layers by a regular expression: some never end."""
    check_whole_number(lora["r"], "lora: r", 1)
    if type(lora["lora_alpha"]) not in (int, float) or not 0 < lora["lora_alpha"] < float("inf"):
        raise ValueError(f"lora: lora_alpha must be a number above 0, not {lora['lora_alpha']!r}")
    for field in ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"):
        names = [lora[field]] if isinstance(lora.get(field), str) else lora.get(field) or []
        if not isinstance(names, list | tuple | dict) or not all(PLAIN_NAME.fullmatch(str(name)) for name in names):
            raise ValueError(f"lora: {field} must be plain names of layers, not {lora[field]!r}")


class E4SRecConfig(ItemConfig):
    """What it takes to rebuild an [`E4SRecModel`] around a base language model.

    Args:
        base_model_name_or_path: Hub id, folder or GGUF file of the base. A path that starts with ``./`` is inside the
            folder that holds this config. ``None`` for ``tuning="full"``, whose base is in the weights.
        base_model_revision: Revision of the base on the Hub.
        base_layers: Read only the first so many layers of the base; ``None`` reads all. With ``tuning="full"``,
            ``base_config`` has these.
        vocab_size: Rows of the item table: ``[PAD]``, ``[UNK]``, then the items.
        item_embedding_dim: Width of the item vectors (64 in the paper).
        instruction: Prompt text before the items, tokenized without special tokens. May be empty.
        response: Prompt text after the items, likewise.
        instruction_ids: ``instruction`` in the tokens of the recorded base; ``response_ids`` likewise.
        max_history: How many items before the target the model sees: the last ones.
        lora: Fields of `peft.LoraConfig`; what is left out is as in the paper (:data:`PAPER_LORA`).
        head: ``"linear"`` (the paper's ``Linear(hidden, vocab, bias=False)``) or ``"tied"`` (the hidden state is
            projected to ``item_embedding_dim`` and multiplied with the item table).
        tuning: ``"lora"`` (the base is frozen and not saved) or ``"full"`` (the base is trained and saved whole).
        train_item_embeddings: Whether the item vectors are trained too. The paper freezes them.
        projection_init: How input projection and head start: ``"random"``, or ``"orthogonal"``, which keeps angles and
            lengths and lets the head invert the projection.
        item_dropout: Dropout on the item vectors that are read (not those that score), in training; not in the paper.
        base_dropout: Dropout on what each layer of the base adds to its input, in training; not in the paper.
        base_config: Config of the base as a dictionary; for ``tuning="full"`` only.
        grown_from: Rows of the item table each time before items were added without training. The parts are scored
            separately, so that old scores keep every bit. Empty it once the model has been trained further.
        retired_items: Ids of items that are never recommended. Histories that hold them are read as before.
        format_version: Layout of the files that this config was read from; 2 where it has retired items, 1 otherwise.

    Raises:
        ValueError: If a field has a value that no model can be built from, or the format is a newer one.
    """

    model_type = "e4srec"

    def __init__(
        self,
        base_model_name_or_path: str | None = None,
        base_model_revision: str | None = None,
        base_layers: int | None = None,
        vocab_size: int = 2,
        item_embedding_dim: int = 64,
        instruction: str = PAPER_INSTRUCTION,
        response: str = PAPER_RESPONSE,
        instruction_ids: list[int] | None = None,
        response_ids: list[int] | None = None,
        max_history: int = 50,
        lora: dict[str, Any] | None = None,
        head: str = "linear",
        tuning: str = "lora",
        train_item_embeddings: bool = False,
        projection_init: str = "random",
        item_dropout: float = 0.0,
        base_dropout: float = 0.0,
        base_config: dict[str, Any] | None = None,
        grown_from: list[int] | None = None,
        retired_items: list[int] | None = None,
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ) -> None:
        if format_version > FORMAT_VERSION:
            raise ValueError(
                f"This config has format_version {format_version}, this code reads up to {FORMAT_VERSION}: upgrade "
                "e4srec-hf, or load it with trust_remote_code=True where e4srec-hf is not installed."
            )
        choices = {"head": ("linear", "tied"), "tuning": ("lora", "full"), "projection_init": ("random", "orthogonal")}
        for name, value in {"head": head, "tuning": tuning, "projection_init": projection_init}.items():
            if value not in choices[name]:
                raise ValueError(f'{name} must be "{choices[name][0]}" or "{choices[name][1]}", not {value!r}')
        sizes = {"vocab_size": vocab_size, "item_embedding_dim": item_embedding_dim, "max_history": max_history}
        for name, size in sizes.items():
            check_whole_number(size, name, 2 if name == "vocab_size" else 1)
        if base_layers is not None:
            check_whole_number(base_layers, "base_layers", 1)
        for name, ids in (("instruction_ids", instruction_ids), ("response_ids", response_ids)):
            for token in ids or []:
                check_whole_number(token, f"each of {name}", 0)
        for name, dropout in (("item_dropout", item_dropout), ("base_dropout", base_dropout)):
            if not 0 <= dropout < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {dropout}")
        self.base_model_name_or_path = base_model_name_or_path
        self.base_model_revision = base_model_revision
        self.base_layers = None if base_layers is None else int(base_layers)
        self.vocab_size, self.item_embedding_dim = int(vocab_size), int(item_embedding_dim)
        self.instruction = instruction
        self.response = response
        self.instruction_ids = list(instruction_ids or [])
        self.response_ids = list(response_ids or [])
        self.max_history = int(max_history)
        self.lora: dict[str, Any] = {
            name: sorted(value) if isinstance(value, set) else value  # JSON knows no sets
            for name, value in {**PAPER_LORA, **(lora or {})}.items()
        }
        check_lora(self.lora)
        self.head = head
        self.tuning = tuning
        self.train_item_embeddings = train_item_embeddings
        self.projection_init = projection_init
        self.item_dropout = item_dropout
        self.base_dropout = base_dropout
        self.base_config = base_config
        self.grown_from, self.retired_items = check_catalogue_fields(vocab_size, grown_from, retired_items)
        kwargs.setdefault("pad_token_id", 0)  # [PAD] of the item tokenizer
        super().__init__(**kwargs)

    @property
    def format_version(self) -> int:
        """The oldest layout that can hold this config."""
        return 2 if self.retired_items else 1

    def to_dict(self) -> dict[str, Any]:
        """Every field and the format version."""
        return {**super().to_dict(), "format_version": self.format_version}


E4SRecConfig.register_for_auto_class()
