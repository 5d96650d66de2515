"""Configuration of SASRec, the ID model that makes the item vectors and stands as the baseline."""

from typing import Any

from .item_config import ItemConfig, check_catalogue_fields, check_whole_number


class SASRecConfig(ItemConfig):
    """Shape and loss of a [`SASRecModel`] (Kang and McAuley, 2018, arXiv 1808.09781).

    Args:
        vocab_size: Rows of the item table: ``[PAD]``, ``[UNK]``, then the items.
        hidden_size: Width of the item vectors and of the model.
        num_hidden_layers: Number of transformer blocks.
        num_attention_heads: Attention heads a block.
        max_history: How many items before the target the model sees: the last ones.
        dropout: Dropout on the embeddings, the attention and both halves of a block.
        loss: ``"ce"`` (softmax cross-entropy over the whole catalogue), ``"sampled_softmax"`` (cross-entropy over the
            target and sampled negatives, arXiv 2508.06450), or ``"bce"`` (binary cross-entropy of the
            target against sampled negatives, as in the original paper).
        num_negatives: Negatives a target for the latter two, drawn evenly from the items that are not in the row.
        initializer_range: Standard deviation of the initial weights.
        grown_from: Rows that the item table had before each time that items were added without training, empty if
            never. The parts are scored in products of their own, so that old scores stay as they were to the last bit.
            Empty it once the model has been trained further: all its rows are trained ones then.
        retired_items: Ids of items that are never recommended. Histories that hold them are read as before.

    Raises:
        ValueError: If a field has a value that no model can be built from.
    """

    model_type = "sasrec"

    def __init__(
        self,
        vocab_size: int = 2,
        hidden_size: int = 64,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 1,
        max_history: int = 50,
        dropout: float = 0.2,
        loss: str = "ce",
        num_negatives: int = 1,
        initializer_range: float = 0.02,
        grown_from: list[int] | None = None,
        retired_items: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if loss not in ("ce", "sampled_softmax", "bce"):
            raise ValueError(f'loss must be "ce", "sampled_softmax" or "bce", not {loss!r}')
        sizes = {"vocab_size": vocab_size, "hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}
        sizes |= {"num_attention_heads": num_attention_heads, "max_history": max_history}
        for name, value in {**sizes, "num_negatives": num_negatives}.items():
            check_whole_number(value, name, 2 if name == "vocab_size" else 1)
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
        self.vocab_size = int(vocab_size)
        self.hidden_size = int(hidden_size)
        self.num_hidden_layers = int(num_hidden_layers)
        self.num_attention_heads = int(num_attention_heads)
        self.max_history = int(max_history)
        self.dropout = dropout
        self.loss = loss
        self.num_negatives = int(num_negatives)
        self.initializer_range = initializer_range
        self.grown_from, self.retired_items = check_catalogue_fields(vocab_size, grown_from, retired_items)
        kwargs.setdefault("pad_token_id", 0)  # [PAD] of the item tokenizer
        super().__init__(**kwargs)


SASRecConfig.register_for_auto_class()
