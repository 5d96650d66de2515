"""EASE, the linear autoencoder of Steck (arXiv 1905.03375): a strong baseline in closed form that ignores order."""

import logging
from collections.abc import Iterable

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from ..data.item_tokenizer import item_token_ids
from ..modeling.histories import FIRST_ITEM_ID, PAD_ID
from .ranking import evaluate_ranking

#: Regularisation strengths to choose from.
PENALTIES = (25.0, 50.0, 100.0, 200.0, 400.0, 800.0)
#: Largest catalogue: three square matrices of this size take 10 GB.
MOST_ITEMS = 30_000

logger = logging.getLogger(__name__)


class EASE(nn.Module):
    """Scores every item by a weighted sum over the items of the history, each counted once.

    The weights ``B`` minimise ``|X - X B|² + penalty · |B|²`` with a zero diagonal, ``X`` being users by items, 0 or 1.
    With ``P = (XᵀX + penalty · I)⁻¹`` they are ``-P[i, j] / P[j, j]``.

    Args:
        gram: ``(vocab, vocab)`` ``XᵀX``, see [`gram_matrix`].
        penalty: Strength of the L2 regularisation.
    """

    weights: Tensor

    def __init__(self, gram: Tensor, penalty: float) -> None:
        super().__init__()
        weights = torch.cholesky_inverse(torch.linalg.cholesky(gram + torch.diag(gram.new_full((len(gram),), penalty))))
        weights /= -weights.diagonal().clone()
        weights.fill_diagonal_(0)
        self.register_buffer("weights", weights)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> CausalLMOutput:
        """``logits``: ``(batch, vocab)``."""
        ids = input_ids.masked_fill((attention_mask == 0) | (input_ids < FIRST_ITEM_ID), PAD_ID).sort(dim=1).values
        repeats = ids[:, 1:] == ids[:, :-1]
        ids[:, 1:] = ids[:, 1:].masked_fill(repeats, PAD_ID)
        logits = F.embedding_bag(ids, self.weights, mode="sum", padding_idx=PAD_ID)
        return CausalLMOutput(logits=logits)  # type: ignore[arg-type]


def gram_matrix(sequences: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """``(vocab, vocab)``: the number of users who have both items of a pair."""
    gram = torch.zeros(len(tokenizer), len(tokenizer), dtype=torch.float32)
    for items in sequences:
        seen = torch.tensor(item_token_ids(tokenizer, items), dtype=torch.long).unique()
        seen = seen[seen >= FIRST_ITEM_ID]
        gram[seen[:, None], seen] += 1
    return gram


def best_ease(
    train: Dataset, validation: Dataset, tokenizer: PreTrainedTokenizerBase, device: str = "cpu"
) -> tuple[EASE, dict[str, float]]:
    """The EASE with the best penalty on validation, and a dictionary of the penalty and its metrics there."""
    gram = gram_matrix(train["item_ids"], tokenizer).to(device)
    found = []
    for penalty in PENALTIES:
        metrics = evaluate_ranking(EASE(gram, penalty), validation, tokenizer).metrics
        found.append({"penalty": penalty} | {name: metrics[name].value for name in ("hr@10", "ndcg@10")})
        logger.info(f"EASE: {found[-1]}")
    best = max(found, key=lambda entry: entry["ndcg@10"])
    if best["penalty"] in (PENALTIES[0], PENALTIES[-1]):
        logger.warning(f"The best penalty of EASE is at an end of the grid {PENALTIES}: a better one may lie outside.")
    return EASE(gram, best["penalty"]), best
