"""SASRec: a small causal transformer over item vectors. It makes the ID vectors for E4SRec and is its baseline."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import cached_file

from .configuration_sasrec import SASRecConfig
from .histories import (
    IGNORE_INDEX,
    PAD_ID,
    check_item_ids,
    known_items,
    pack_right_padded,
    target_positions,
    windows_of,
)
from .ranking import catalogue_scores
from .recommender import Recommender
from .saving import WEIGHTS_NAME, check_saved


class SASRecBlock(nn.Module):
    """Causal self-attention and a point-wise network, each behind a layer norm and beside a residual."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads, self.dropout = config.num_attention_heads, config.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(width, width)
        )
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(batch, seq, hidden)`` both ways."""
        qkv = self.query_key_value(self.attention_norm(hidden))  # (batch, seq, 3 * hidden)
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
        )  # (batch, heads, seq, head_dim)
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        hidden = hidden + self.residual_dropout(self.attention_output(mixed.transpose(1, 2).flatten(-2)))
        return hidden + self.residual_dropout(self.feed_forward(self.feed_forward_norm(hidden)))


class SASRecModel(Recommender):
    """Self-attentive sequential recommendation (Kang and McAuley, 2018) with the interface of causal language models.

    The item table serves at both ends: as input and, by dot product, as the scoring head.
    """

    config_class = SASRecConfig
    config: SASRecConfig
    scores_first_item = False  # without a prompt there is nothing to predict it from
    _supports_sdpa = True

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__(config)
        self.item_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=PAD_ID)
        self.position_embeddings = nn.Embedding(config.max_history, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(SASRecBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> Any:
        """As `PreTrainedModel.from_pretrained`, but strict, and only safetensors are read.

        Raises:
            ValueError: If the file does not hold exactly the tensors of this model; it names them.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **{"use_safetensors": True, **kwargs}
        )
        model, info = loaded
        problems = [
            f"{kind}: {name}"
            for kind, names in (("missing", info["missing_keys"]), ("surplus", info["unexpected_keys"]))
            for name in sorted(names)
        ]
        if problems:
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} do not fit SASRec:\n  " + "\n  ".join(problems)
            )
        where = {
            name: kwargs[name] for name in ("subfolder", "cache_dir", "token", "local_files_only") if name in kwargs
        }
        file = cached_file(
            pretrained_model_name_or_path, WEIGHTS_NAME, revision=getattr(model.config, "_commit_hash", None), **where
        )
        check_saved(str(file), getattr(model.config, "weights_digest", None))
        for parameter in model.parameters():  # off the mapped file, whose alignment changes the last bit of a product
            parameter.data = parameter.data.clone()
        return (model, info) if wants_info else model

    def get_input_embeddings(self) -> nn.Embedding:
        """The item table, ``(vocab, hidden)``."""
        return self.item_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Score the catalogue for each target, or without labels for what follows the whole history.

        Args:
            input_ids: ``(batch, seq)`` item ids. Special tokens and what the mask hides are ignored.
            attention_mask: ``(batch, seq)``, 0 where nothing is to be read.
            labels: ``(batch, seq)`` unshifted: the item at a position is predicted from the items before it. -100
                where nothing is to be predicted; the first item of a row is never scored.
            num_items_in_batch: Number of targets to divide the loss by; the `Trainer` gives it when it accumulates.
            kwargs: Ignored; the `Trainer` passes what other models use.

        Returns:
            ``logits``: ``(targets, vocab)`` in row-major order, ``(batch, vocab)`` without labels; ``loss``. While
            training with labels ``logits`` is ``None``.

        Raises:
            ValueError: If an id is outside the vocabulary, or a history without labels has no known item.
        """
        if labels is None:
            vectors = self.history_vectors(*self.known_histories(input_ids, attention_mask))
            return CausalLMOutput(logits=catalogue_scores(vectors, self.scoring_parts))  # type: ignore[arg-type]
        check_item_ids(input_ids, self.config.vocab_size, "input_ids")
        check_item_ids(labels, self.config.vocab_size, "labels", ignore_index=IGNORE_INDEX)
        known = known_items(input_ids, attention_mask)
        rows, columns = target_positions(input_ids, labels)
        preceding = (known.cumsum(1) - known.long())[rows, columns]  # (targets,) known items before each
        scored = preceding > 0
        rows, columns, preceding = rows[scored], columns[scored], preceding[scored]
        vectors = self.target_vectors(pack_right_padded(input_ids, known)[0], rows, preceding)
        seen = input_ids.masked_fill(~known, PAD_ID)[rows]
        return self._output(vectors, labels[rows, columns], seen, num_items_in_batch)

    @property
    def scoring_vectors(self) -> Tensor:  # type: ignore[override]
        """The item table, ``(vocab, hidden)``."""
        return self.item_embeddings.weight

    def history_vectors(self, items: Tensor, n_items: Tensor) -> Tensor:
        """Vectors of whole histories: ``(rows, items)`` right-padded ids and their numbers to ``(rows, hidden)``."""
        return self.target_vectors(items, torch.arange(len(items), device=items.device), n_items)

    def target_vectors(self, items: Tensor, rows: Tensor, preceding: Tensor) -> Tensor:
        """``(targets, hidden)`` vectors of the targets in ``rows`` that follow ``preceding`` of the ``items``."""
        windows = windows_of(rows, preceding, self.config.max_history, shared=True)
        states = self._encode(windows.item_ids(items))  # (windows, items, hidden)
        return states[windows.of_target, windows.items_before - 1]

    def _encode(self, ids: Tensor) -> Tensor:
        """``(batch, seq)`` right-padded ids to ``(batch, seq, hidden)`` states; causality hides the padding."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.item_embeddings(ids) * self.config.hidden_size**0.5 + self.position_embeddings(positions)
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)


SASRecModel.register_for_auto_class("AutoModel")
