"""SASRec: a small causal transformer over item vectors. It makes the vectors for E4SRec and is its baseline."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput

from .configuration_sasrec import SASRecConfig
from .histories import (
    FIRST_ITEM_ID,
    IGNORE_INDEX,
    PAD_ID,
    check_item_ids,
    known_items,
    pack_right_padded,
    target_positions,
)
from .packing import segments_of
from .pushing import PushMixin
from .ranking import catalogue_scores
from .recommender import Recommender, mean_over_targets


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


class SASRecModel(Recommender, PushMixin):
    """Self-attentive sequential recommendation (Kang and McAuley, 2018) in the dialect of causal language models.

    The item table serves at both ends: as input and, by dot product, as the scoring head.
    """

    config_class = SASRecConfig
    config: SASRecConfig
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
            input_ids: ``(batch, seq)`` item ids. Special tokens and what the mask hides are passed over.
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
            vectors = self.next_item_vectors(*self._known_history(input_ids, attention_mask))
            return CausalLMOutput(logits=catalogue_scores(vectors, self.catalogue_parts))  # type: ignore[arg-type]
        check_item_ids(input_ids, self.config.vocab_size, "input_ids")
        check_item_ids(labels, self.config.vocab_size, "labels", ignore_index=IGNORE_INDEX)
        known = known_items(input_ids, attention_mask)
        rows, columns = target_positions(input_ids, labels)
        preceding = (known.cumsum(1) - known.long())[rows, columns]  # (targets,) known items before each
        scored = preceding > 0
        rows, columns, preceding = rows[scored], columns[scored], preceding[scored]
        vectors = self._vectors(pack_right_padded(input_ids, known)[0], rows, preceding)
        targets = labels[rows, columns]
        if self.config.loss == "ce":
            return self._cross_entropy(vectors, targets, num_items_in_batch)
        loss = self._sampled_loss(vectors, targets, input_ids.masked_fill(~known, PAD_ID)[rows])
        loss = mean_over_targets(loss, len(targets), num_items_in_batch)
        logits = None if self.training else catalogue_scores(vectors, self.catalogue_parts)
        return CausalLMOutput(loss=loss, logits=logits)  # type: ignore[arg-type]

    @property
    def scores_first_item(self) -> bool:
        """Without a prompt there is nothing to predict the first item from."""
        return False

    @property
    def catalogue(self) -> Tensor:
        """The item table, ``(vocab, hidden)``."""
        return self.item_embeddings.weight

    def next_item_vectors(self, items: Tensor, n_items: Tensor) -> Tensor:
        """What comes after each history: ``(rows, items)`` right-padded ids and their numbers to ``(rows, hidden)``."""
        return self._vectors(items, torch.arange(len(items), device=items.device), n_items)

    def _vectors(self, items: Tensor, rows: Tensor, preceding: Tensor) -> Tensor:
        """``(targets, hidden)`` vectors of the targets in ``rows`` that follow ``preceding`` of the ``items``."""
        segments = segments_of(rows, preceding, self.config.max_history)
        states = self._encode(segments.item_ids(items))  # (segments, items, hidden)
        return states[segments.of_target, segments.items_before - 1]

    def _encode(self, ids: Tensor) -> Tensor:
        """``(batch, seq)`` right-padded ids to ``(batch, seq, hidden)`` states; causality hides the padding."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.item_embeddings(ids) * self.config.hidden_size**0.5 + self.position_embeddings(positions)
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)

    def _sampled_loss(self, states: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
        """Sum over the targets of the loss against sampled negatives: a softmax, or the mean of binary losses.

        Args:
            states: ``(targets, hidden)``.
            targets: ``(targets,)``.
            seen: ``(targets, seq)`` item ids that must not be drawn; ``[PAD]`` is passed over.
        """
        negatives = sample_unseen(seen, self.config.vocab_size, self.config.num_negatives)  # (targets, negatives)
        table = self.item_embeddings.weight
        positive_scores = (states * table[targets]).sum(-1)  # (targets,)
        negative_scores = (table[negatives] @ states.unsqueeze(2)).squeeze(2)  # (targets, negatives)
        if self.config.loss == "sampled_softmax":
            scores = torch.cat([positive_scores.unsqueeze(1), negative_scores], dim=1)
            return F.cross_entropy(scores, torch.zeros_like(targets), reduction="sum")
        return -F.logsigmoid(positive_scores).sum() - F.logsigmoid(-negative_scores).mean(dim=1).sum()


def sample_unseen(seen: Tensor, vocab_size: int, count: int) -> Tensor:
    """Draw items evenly from those that a row has not seen, exactly and without rejection.

    The ``k``-th unseen item is ``k`` shifted past every seen item that does not stand above it.

    Args:
        seen: ``(rows, any)`` item ids; special tokens are passed over, repeats count once.
        vocab_size: Rows of the item table.
        count: Draws a row, with replacement.

    Returns:
        ``(rows, count)`` item ids.

    Raises:
        ValueError: If a row has seen the whole catalogue.
    """
    ordered = seen.sort(dim=1).values
    counts = ordered >= FIRST_ITEM_ID  # each seen item once
    counts[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    n_unseen = (vocab_size - FIRST_ITEM_ID) - counts.sum(dim=1)  # (rows,)
    if (n_unseen < 1).any():
        raise ValueError("A row holds every item of the catalogue: there is no negative to sample.")
    # seen item number j (in order) has `ordered - FIRST_ITEM_ID - j` unseen items below it
    unseen_below = ordered - FIRST_ITEM_ID - (counts.cumsum(1) - 1)
    unseen_below = unseen_below.masked_fill(~counts, vocab_size)
    draw = torch.randint(2**62, (len(seen), count), device=seen.device) % n_unseen[:, None]
    skipped = (unseen_below.unsqueeze(1) <= draw.unsqueeze(2)).sum(-1)
    return FIRST_ITEM_ID + draw + skipped


SASRecModel.register_for_auto_class("AutoModel")
