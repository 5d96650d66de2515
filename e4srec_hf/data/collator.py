"""From rows of sequences to the batches that both models read."""

import zlib
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
    """Turns rows with ``item_ids`` into ``input_ids``, ``attention_mask`` and ``labels``, left-padded.

    Labels are unshifted and -100 where nothing is to be predicted, on unknown items above all.

    Args:
        tokenizer: The item tokenizer.
        targets: ``"all"`` for training: the last ``max_history`` items of a row are targets, and a longer row is cut
            to one item more, so that each target has a history of at least one item and at most ``max_history``.
            ``"last"`` for evaluation: only the last item is a target, and the row is left whole, so that every item
            the user has seen can be hidden.
        max_history: How many items a model sees before a target.
        first_item: Whether the first known item of a user is a target (a prompt can predict it; SASRec cannot).
        max_targets: At most so many targets of a row, drawn at random; ``None`` is all of them. What stands before
            them stays in view.
        shuffle_histories: Share of the training rows, drawn anew each epoch, whose items, those of a cut row that are
            left, are put in random order. What a model learns of items that go together it then learns of both,
            whichever came first. The item of a cut row that is no target, for want of a history, is a random one.
        seed: Draws depend on it, on the epoch that [`set_epoch`] says and on the row, and so not on the order of rows
            or on where a training was resumed.
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
            raise ValueError(f"shuffle_histories is a share of the rows, from 0 to 1, not {self.shuffle_histories}")
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # workers that live on see it change

    def set_epoch(self, epoch: int) -> None:
        """Draw other targets and orders from now on."""
        self._epoch.fill_(epoch)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Collate rows; a column ``candidates`` of raw ids becomes ``candidates``, ``(batch, most)``, 0-padded.

        Raises:
            ValueError: If a candidate is not in the catalogue.
        """
        histories = [row["item_ids"] for row in rows]
        if self.targets == "all":
            histories = [items[-self.max_history - 1 :] for items in histories]
            if self.shuffle_histories:
                histories = [self._shuffled(items) for items in histories]
        batch = tokenize_histories(self.tokenizer, histories)
        ids, mask = batch["input_ids"], batch["attention_mask"]  # (batch, seq)
        known = mask.bool()
        labels = ids.masked_fill(~known, IGNORE_INDEX)
        if self.targets == "last":
            labels[:, :-1] = IGNORE_INDEX
        else:
            is_cut = torch.tensor([len(row["item_ids"]) > self.max_history for row in rows])[:, None]
            is_first = known & (known.cumsum(1) == 1)
            labels = labels.masked_fill(is_first & (is_cut | (not self.first_item)), IGNORE_INDEX)
            if self.max_targets is not None:
                for row, items in enumerate(histories):
                    self._keep_targets(labels[row], items, self.max_targets)
        out = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if "candidates" in rows[0]:
            out["candidates"] = tokenize_histories(
                self.tokenizer, [row["candidates"] for row in rows], on_unknown="error"
            )["input_ids"]
        return out

    def _shuffled(self, items: list[str]) -> list[str]:
        """The items of a row in random order, if the row is among those that are drawn."""
        generator = self._generator(items, 1)
        if generator.random() >= self.shuffle_histories:
            return items
        return [items[place] for place in generator.permutation(len(items))]

    def _keep_targets(self, labels: Tensor, items: list[str], count: int) -> None:
        """Leave ``count`` targets in the labels of a row."""
        places = (labels >= FIRST_ITEM_ID).nonzero().squeeze(1).numpy()
        if len(places) > count:
            labels[self._generator(items).choice(places, len(places) - count, replace=False)] = IGNORE_INDEX

    def _generator(self, items: list[str], *purpose: int) -> np.random.Generator:
        """Draws for a row in this epoch, others for another purpose."""
        return np.random.default_rng([self.seed, int(self._epoch), zlib.crc32("\0".join(items).encode()), *purpose])


def has_target(labels: Tensor) -> Tensor:
    """Whether a row has anything to predict: ``(batch, seq)`` to ``(batch,)`` booleans."""
    return (labels >= FIRST_ITEM_ID).any(dim=1)
