"""What both configs share: the pipeline, and checks of whole numbers, growth and retirement, and item vectors."""

from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import PreTrainedConfig

from .histories import FIRST_ITEM_ID

if TYPE_CHECKING:  # transformers finds by this line that it travels, and imports it when it is asked for
    from .pipeline import SequentialRecommendationPipeline  # noqa: F401

PIPELINE_TASK = "sequential-recommendation"


class ItemConfig(PreTrainedConfig):
    """A config of a model that reads item ids, with the pipeline that takes raw ones."""

    @property
    def custom_pipelines(self) -> dict[str, Any]:
        """What ``pipeline("sequential-recommendation")`` takes from the repo, made anew: transformers changes it."""
        return {PIPELINE_TASK: {"impl": "pipeline.SequentialRecommendationPipeline", "pt": ["AutoModel"]}}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """As `PreTrainedConfig.from_pretrained`. A pipeline of another task is a `ValueError`: it would read text."""
        if (task := kwargs.get("_from_pipeline")) not in (None, PIPELINE_TASK):
            raise ValueError(f'This model reads item ids, not text: pipeline("{PIPELINE_TASK}", …), not "{task}".')
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)


def check_whole_number(value: Any, name: str, least: int) -> None:
    """Raise a `ValueError` if ``value``, called ``name``, is not a whole number of at least ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def check_catalogue_fields(vocab_size: int, grown_from: Any, retired_items: Any) -> tuple[list[int], list[int]]:
    """``grown_from`` and ``retired_items`` of a config as sorted lists.

    It is a `ValueError` if the former do not grow from at least 2 to below ``vocab_size``, or the latter are no items.
    """
    for number in [*(grown_from or []), *(retired_items or [])]:
        check_whole_number(number, "each of grown_from and retired_items", 0)
    grown_from, retired_items = [*map(int, grown_from or [])], sorted(set(map(int, retired_items or [])))
    sizes = [FIRST_ITEM_ID - 1, *grown_from, vocab_size]
    if grown_from and not all(before < after for before, after in pairwise(sizes)):
        raise ValueError(f"grown_from must be growing numbers of rows below vocab_size {vocab_size}, not {grown_from}")
    if unknown := [item for item in retired_items if not FIRST_ITEM_ID <= item < vocab_size]:
        raise ValueError(f"retired_items must be item ids from {FIRST_ITEM_ID} to {vocab_size - 1}, not {unknown[0]}")
    return grown_from, retired_items


def check_item_table(table: Tensor, vocab_size: int | None, item_embedding_dim: int | None) -> None:
    """Raise a `ValueError` if item vectors are not a finite matrix of the size that was asked for."""
    if table.dim() != 2:
        raise ValueError(f"item_embeddings must have the shape (vocab, item dimension), not {tuple(table.shape)}")
    check_finite(table, "item_embeddings")
    if any(want not in (None, got) for want, got in zip((vocab_size, item_embedding_dim), table.shape, strict=True)):
        raise ValueError(
            f"item_embeddings have {len(table)} rows of width {table.shape[1]}, but vocab_size is {vocab_size} and "
            f"item_embedding_dim {item_embedding_dim}: one row a token of the item tokenizer, [PAD] and [UNK] first."
        )


def check_finite(vectors: Tensor, name: str) -> None:
    """Raise a `ValueError` that names the first of ``(rows, width)`` vectors with NaN or infinity."""
    if (broken := ~vectors.isfinite().all(dim=1)).any():
        raise ValueError(
            f"{name} hold NaN or infinity in {int(broken.sum())} of {len(vectors)} rows, "
            f"the first is row {int(broken.nonzero()[0])}."
        )
