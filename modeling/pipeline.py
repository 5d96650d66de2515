"""``pipeline("sequential-recommendation")``: histories of raw item ids in, recommendations out.

recommender = pipeline("sequential-recommendation", model="org/e4srec-beauty", trust_remote_code=True)
recommender(["B001", "B002"], top_k=10)  # [{"item": "B003", "score": 7.1, "title": "…"}, …]
"""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Pipeline
from transformers.utils import logging

from .histories import FIRST_ITEM_ID, PAD_ID

logger = logging.get_logger(__name__)


def is_history(value: Any) -> bool:
    """Whether it is a list of raw item ids."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value)


class SequentialRecommendationPipeline(Pipeline):
    """Calls a model's ``recommend`` with its item tokenizer.

    A history is a list of raw item ids, the oldest first, and gives a list of dictionaries, the best first: ``item``,
    ``score``, and ``title``, which is empty where none is known. Many histories, a `datasets` column too, give a list
    of such lists. Options, here or when the pipeline is made: ``top_k``, by default 10; ``exclude_seen``, by default
    true; ``batch_size``, as `recommend` has it; ``skip_unknown``, by default false: an id that is not in the catalogue
    is a `ValueError`.
    """

    model: Any
    tokenizer: Any
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.titles: dict[str, str] = {}
        try:
            if file := self.model.file_beside("item_titles.json"):
                self.titles = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # of a private repo too: the token does not come here
            logger.warning(f"There are no titles, because they cannot be read: {error}")

    def __call__(self, inputs: Iterable[Any], **options: Any) -> list[Any]:  # type: ignore[override]
        """Recommend for one history, or for each of many."""
        rows = inputs if isinstance(inputs, str) else list(inputs)
        histories = [rows] if (one := is_history(rows)) else rows
        if not all(map(is_history, histories)):
            raise TypeError(f"Give a list of raw item ids, or a list of such lists, not {inputs!r:.80}")
        given = self._sanitize_parameters(**options)
        made_with = self._preprocess_params, self._forward_params, self._postprocess_params
        found = self.run_single(histories, *(old | new for old, new in zip(made_with, given, strict=True)))
        return found[0] if one else found

    def _sanitize_parameters(self, skip_unknown: bool | None = None, **options: Any) -> tuple[dict, dict, dict]:
        if wrong := options.keys() - {"top_k", "exclude_seen", "batch_size"}:
            raise TypeError(f"This pipeline does not know the option(s) {', '.join(sorted(wrong))}")
        if getattr(self, "_batch_size", None) is not None:  # given when the pipeline was made
            options.setdefault("batch_size", self._batch_size)
        return {} if skip_unknown is None else {"skip_unknown": skip_unknown}, options, {}

    def preprocess(self, input_: Any, skip_unknown: bool = False) -> dict[str, Any]:  # type: ignore[override]
        """Raw ids to ``(histories, longest)`` tokens, right-padded."""
        rows = [self.tokenizer.convert_tokens_to_ids(list(history)) for history in input_]
        pairs = zip(chain.from_iterable(input_), chain.from_iterable(rows), strict=True)
        if not skip_unknown and (unknown := [item for item, token in pairs if token < FIRST_ITEM_ID]):
            raise ValueError(f"{len(unknown)} item id(s) are not in the catalogue: {', '.join(unknown[:5])}")
        tokens = [torch.tensor(row, dtype=torch.long) for row in rows] or [torch.empty(0, dtype=torch.long)]
        return {"input_ids": pad_sequence(tokens, batch_first=True, padding_value=PAD_ID)[: len(rows)]}

    def _forward(self, input_tensors: dict[str, Any], top_k: int | None = None, **options: Any) -> Any:  # type: ignore[override]
        top_k = min(10, self.model.config.vocab_size - FIRST_ITEM_ID) if top_k is None else top_k
        return self.model.recommend(**input_tensors, top_k=top_k, **options)

    def postprocess(self, model_outputs: Any) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        """Tokens to raw ids and titles; fewer than ``top_k`` where no more items are left."""
        found = []
        for scores, tokens in zip(*(part.tolist() for part in model_outputs), strict=True):
            items = self.tokenizer.convert_ids_to_tokens(tokens)
            best = [(item, score) for item, score in zip(items, scores, strict=True) if score != -math.inf]
            found.append([{"item": item, "score": score, "title": self.titles.get(item, "")} for item, score in best])
        return found
