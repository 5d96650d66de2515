"""The popularity baseline, in the dialect of the models it is compared with."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from .data.item_tokenizer import item_token_ids


class PopularityModel(nn.Module):
    """Scores every item by how often it stands in the training sequences, whoever asks.

    Args:
        sequences: Training sequences as lists of raw ids.
        tokenizer: The item tokenizer.
        retired_items: Tokens of items that are never recommended, as in the config of the model beside it.
    """

    counts: Tensor
    retired: Tensor | None

    def __init__(
        self, sequences: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase, retired_items: Sequence[int] = ()
    ) -> None:
        super().__init__()
        tokens = torch.tensor(item_token_ids(tokenizer, [item for items in sequences for item in items]))
        self.register_buffer("counts", torch.bincount(tokens.long(), minlength=len(tokenizer)).float())
        self.register_buffer("retired", torch.tensor(retired_items) if retired_items else None)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> CausalLMOutput:
        """``logits``: ``(batch, vocab)``, the same in every row."""
        return CausalLMOutput(logits=self.counts.expand(len(input_ids), -1))
