"""EASE, the linear autoencoder of Steck (arXiv 1905.03375): a strong baseline that knows no order, in closed form."""

import logging
from collections.abc import Iterable

import torch
from datasets import Dataset
from e4srec_hf.modeling.histories import FIRST_ITEM_ID, PAD_ID
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from e4srec_hf.data.item_tokenizer import item_token_ids
from e4srec_hf.evaluation import evaluate_ranking

#: What the regularisation is chosen from.
PENALTIES = (100.0, 200.0, 400.0, 800.0)

logger = logging.getLogger(__name__)


class EASE(nn.Module):
    """Scores every item by a weighted sum over the items of the history, each counted once.

    The weights ``B`` minimise ``|X - X B|² + penalty · |B|²`` with a zero diagonal, ``X`` being users by items, 0 or 1.
    With ``P = (XᵀX + penalty · I)⁻¹`` they are ``-P[i, j] / P[j, j]``. Takes three dense matrices of items by items.

    Args:
        sequences: Training sequences as lists of raw ids.
        tokenizer: The item tokenizer.
        penalty: Of the weights.
    """

    weights: Tensor

    def __init__(self, sequences: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase, penalty: float) -> None:
        super().__init__()
        vocab = len(tokenizer)
        gram = torch.zeros(vocab, vocab)
        for items in sequences:
            seen = torch.tensor(item_token_ids(tokenizer, items)).unique()
            seen = seen[seen >= FIRST_ITEM_ID]
            gram[seen[:, None], seen] += 1
        gram.diagonal().add_(penalty)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        del gram
        weights = inverse / -inverse.diagonal()
        weights.fill_diagonal_(0)
        self.register_buffer("weights", weights)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> CausalLMOutput:
        """``logits``: ``(batch, vocab)``."""
        counted = torch.zeros(len(input_ids), len(self.weights))
        counted.scatter_(1, input_ids.masked_fill(attention_mask == 0, PAD_ID), 1.0)
        counted[:, :FIRST_ITEM_ID] = 0
        return CausalLMOutput(logits=counted @ self.weights)  # type: ignore[arg-type]


def best_ease(train: Dataset, validation: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[EASE, dict[str, float]]:
    """The EASE whose penalty is best on validation, the penalty, and its figures there."""

    def fit(penalty: float) -> tuple[EASE, dict[str, float]]:
        model = EASE(train["item_ids"], tokenizer, penalty)
        metrics = evaluate_ranking(model, validation, tokenizer).metrics
        found = {"penalty": penalty} | {name: metrics[name].value for name in ("hr@10", "ndcg@10")}
        logger.info(f"EASE: {found}")
        return model, found

    return max(map(fit, PENALTIES), key=lambda fitted: fitted[1]["ndcg@10"])
