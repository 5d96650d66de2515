"""Vectors of texts, such as the titles of items, from the hidden states of a language model."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base_models import check_is_base
from ..modeling.bases import open_base, origin, text_embeddings, text_tokenizer

#: Tokens of a text that are read; the rest is cut off.
MOST_TOKENS = 128
#: Texts that are held as tokens at a time, and tokens that are read in one pass.
TEXTS_AT_A_TIME, TOKENS_A_PASS = 2**14, 2**10


@torch.no_grad()
def text_vectors(
    texts: Iterable[str],
    base_model: str | os.PathLike[str] | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    layer: int | None = None,
    pooling: str = "both",
) -> Tensor:
    """A vector for each text: hidden states of its tokens in one layer of a language model.

    Tokens that the tokenizer adds, such as one of the beginning, are read and not counted. Texts of the same number of
    tokens are read together, without padding: but for rounding, a vector does not depend on the other texts. A text
    that comes again is read once. The defaults are those that told most of item vectors, on items that were held out.

    Args:
        texts: The texts; none may be blank.
        base_model: Hub id, folder, GGUF file, or a loaded model: a decoder or an encoder. The base of a loaded E4SRec
            model is read as it was before LoRA; its weights are not copied.
        tokenizer: The text tokenizer; by default the one beside the base.
        layer: Which hidden states: 0 is the token embeddings, -1 the last layer. By default the layer after a third
            of them.
        pooling: ``"last"`` for the last token, which has read all others in a decoder; ``"mean"`` for the mean over
            the tokens, as in encoders of sentences; ``"both"`` for the two side by side.

    Returns:
        ``(texts, hidden)`` float32 on the CPU, twice as wide with ``"both"``.

    Raises:
        ValueError: If a text is blank, not valid Unicode or not read as any token, the base is no language model that
            reads texts alone, was trained whole or has an adapter merged into it, or it is from memory and
            ``tokenizer`` is missing.
        OSError: If the base cannot be found.
    """
    if pooling not in ("last", "mean", "both"):
        raise ValueError(f'pooling must be "last", "mean" or "both", not {pooling!r}.')
    texts = list(texts)
    if blank := [place for place, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]:
        raise ValueError(f"{len(blank)} text(s) are blank or no text, the first is text {blank[0]}.")
    if (half := re.search("[\ud800-\udfff]", "".join(texts))) is not None:
        raise ValueError(f"A text holds {half[0]!r}, a half of a character: it cannot be written as UTF-8.")
    base, tokenizer = _open(base_model, tokenizer)
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    waiting = list(distinct)
    width = text_embeddings(base).embedding_dim * (2 if pooling == "both" else 1)
    vectors = torch.empty(len(waiting), width)
    for start in range(0, len(waiting), TEXTS_AT_A_TIME):
        for places, found in _read(base, tokenizer, waiting[start : start + TEXTS_AT_A_TIME], layer, pooling):
            vectors[start + places] = found
    return vectors[[distinct[text] for text in texts]]


def standard_scores(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of vectors of titles; infinity for one that never varies.

    Raises:
        ValueError: If all rows are the same.
    """
    spread = vectors.std(dim=0)
    if not spread.max() > 1e-9 * vectors.abs().max():
        raise ValueError("What reads them gives all titles of the catalogue the same vector: they tell nothing.")
    return vectors.mean(dim=0), spread.where(spread > 1e-6 * spread.max(), torch.inf)


def _open(
    base_model: str | os.PathLike[str] | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The bare base in evaluation mode, and its text tokenizer."""
    if isinstance(base_model, str | os.PathLike):
        check_is_base(base_model)
    base = open_base(base_model, tuning="lora").eval()
    if base.config.is_encoder_decoder or base.config.model_type == "sasrec":
        raise ValueError(f"{type(base).__name__} does not read texts alone: give a decoder or an encoder.")
    name, commit = origin(base)
    if tokenizer is None:
        if name is None:
            raise ValueError("The base is from memory: pass its text tokenizer as tokenizer=.")
        tokenizer = text_tokenizer(name, commit)
    return base, tokenizer


def _read(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], layer: int | None, pooling: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Places of some of the texts, and their vectors."""
    longest = min(MOST_TOKENS, getattr(base.config, "max_position_embeddings", MOST_TOKENS))
    read = tokenizer(list(texts), truncation=True, max_length=longest, return_special_tokens_mask=True)
    by_length: dict[int, list[int]] = {}
    for place, (tokens, added) in enumerate(zip(read["input_ids"], read["special_tokens_mask"], strict=True)):
        if all(added):
            raise ValueError(f"The tokenizer of the base reads no token in the text {texts[place]!r}.")
        if max(tokens) >= text_embeddings(base).num_embeddings:
            raise ValueError(f"The tokenizer has token {max(tokens)}, which the base has not: it is for another base.")
        by_length.setdefault(len(tokens), []).append(place)
    for length, places in by_length.items():
        for part in torch.tensor(places).split(max(TOKENS_A_PASS // length, 1)):
            ids = torch.tensor([read["input_ids"][place] for place in part])  # (texts, tokens)
            layers = base(input_ids=ids.to(base.device), output_hidden_states=True).hidden_states
            states = layers[max((len(layers) - 1) // 3, 1) if layer is None else layer].float().cpu()
            weights = torch.stack([_weights(read["special_tokens_mask"][place], pooling) for place in part])
            yield part, torch.einsum("nth,npt->nph", states, weights).flatten(1)


def _weights(added: Sequence[int], pooling: str) -> Tensor:
    """``(1 or 2, tokens)`` what each token counts; those that the tokenizer ``added`` count nothing."""
    own = torch.tensor(added) == 0
    last = own & (own.cumsum(0) == own.sum())
    chosen = {"last": [last], "mean": [own], "both": [last, own]}[pooling]
    weights = torch.stack(chosen).float()
    return weights / weights.sum(dim=1, keepdim=True)
