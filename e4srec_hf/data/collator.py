"""Collate sequences into the batches that both models read."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..modeling.histories import FIRST_ITEM_ID, IGNORE_INDEX
from .item_tokenizer import tokenize_histories


@dataclass
class SequenceCollator:
    """Turns rows with ``item_ids`` into left-padded ``input_ids``, ``attention_mask`` and ``labels``.

    Labels are unshifted, and -100 at positions that are not targets, including all unknown items.

    Args:
        tokenizer: The item tokenizer.
        targets: ``"all"`` for training: the last ``max_history`` items of a row are targets. A longer row is cut to
            ``max_history + 1`` items, so that each target has a history of 1 to ``max_history`` items. ``"last"`` for
            evaluation: only the last item is a target, and the row is not cut, so that all seen items can be hidden.
        max_history: Maximum number of items a model reads before a target.
        first_item: Whether the first known item of a user is a target (a prompt can predict it; SASRec cannot).
        max_targets: Maximum number of targets per row, drawn at random; ``None`` keeps all. The history of a target
            does not change.
        shuffle_histories: Share of the training rows, drawn in each epoch, whose items (after cutting) are shuffled.
            The model then learns co-occurrence in both directions. The item of a cut row that is not a target, because
            it has no history, is then a random one.
        seed: Random draws depend on the seed, the epoch given to [`set_epoch`] and the row, but not on the order of the
            rows or on whether training was resumed.
    """

    tokenizer: PreTrainedTokenizerBase
    targets: str = "all"
    max_history: int = 50
    first_item: bool = True
    max_targets: int | None = None
    shuffle_histories: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.targets not in ("all", "last"):
            raise ValueError(f'targets must be "all" or "last", not {self.targets!r}')
        if self.max_targets is not None and self.max_targets < 1:
            raise ValueError(f"max_targets must be at least 1, not {self.max_targets}")
        if isinstance(self.shuffle_histories, bool) or not 0 <= self.shuffle_histories <= 1:
            raise ValueError(f"shuffle_histories must be between 0 and 1, not {self.shuffle_histories}")
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # shared with persistent workers

    def set_epoch(self, epoch: int) -> None:
        """Use the random draws of this epoch from now on."""
        self._epoch.fill_(epoch)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Collate rows. A column ``candidates`` of raw ids becomes ``(batch, candidates)`` token ids, padded with 0.

        Raises:
            ValueError: If a candidate is not in the catalogue.
        """
        histories = [row["item_ids"] for row in rows]
        if self.targets == "all":
            histories = [items[-self.max_history - 1 :] for items in histories]
            if self.shuffle_histories:
                histories = [self._shuffled(items) for items in histories]
        out = label(tokenize_histories(self.tokenizer, histories), self.targets)
        if self.targets == "all":
            labels, known = out["labels"], out["attention_mask"].bool()  # (batch, seq)
            is_cut = torch.tensor([len(row["item_ids"]) > self.max_history for row in rows])[:, None]
            is_first = known & (known.cumsum(1) == 1)
            labels.masked_fill_(is_first & (is_cut | (not self.first_item)), IGNORE_INDEX)
            if self.max_targets is not None:
                for row, items in enumerate(histories):
                    self._keep_targets(labels[row], items, self.max_targets)
        if "candidates" in rows[0]:
            out["candidates"] = tokenize_histories(
                self.tokenizer, [row["candidates"] for row in rows], on_unknown="error"
            )["input_ids"]
        return out

    def _shuffled(self, items: list[str]) -> list[str]:
        """The items of a row, in random order if the row is drawn for shuffling."""
        generator = self._generator(items, 1)
        if generator.random() >= self.shuffle_histories:
            return items
        return [items[place] for place in generator.permutation(len(items))]

    def _keep_targets(self, labels: Tensor, items: list[str], count: int) -> None:
        """Keep ``count`` random targets in the labels of a row."""
        places = (labels >= FIRST_ITEM_ID).nonzero().squeeze(1).numpy()
        if len(places) > count:
            labels[self._generator(items).choice(places, len(places) - count, replace=False)] = IGNORE_INDEX

    def _generator(self, items: list[str], *purpose: int) -> np.random.Generator:
        """The random generator of a row in this epoch, a different one for each purpose."""
        return np.random.default_rng([self.seed, int(self._epoch), zlib.crc32("\0".join(items).encode()), *purpose])


def label(batch: Mapping[str, Tensor], targets: str) -> dict[str, Tensor]:
    """Add ``labels`` to ``(batch, seq)`` histories: all known items, or with ``targets="last"`` only a last one."""
    labels = batch["input_ids"].masked_fill(~batch["attention_mask"].bool(), IGNORE_INDEX)
    if targets == "last":
        labels[:, :-1] = IGNORE_INDEX
    return {**batch, "labels": labels}


def has_target(labels: Tensor) -> Tensor:
    """Whether a row has a target: ``(batch, seq)`` to ``(batch,)`` booleans."""
    return (labels >= FIRST_ITEM_ID).any(dim=1)
