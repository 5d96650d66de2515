"""Data: sequences, splits, the item tokenizer, batches, and a demo world."""

from .collator import SequenceCollator
from .demo import DemoWorld, make_demo_world
from .item_texts import with_text
from .item_tokenizer import build_item_tokenizer, item_catalogue, tokenize_histories
from .item_vectors import load_item_embeddings
from .negatives import draw_negatives, with_candidates, with_sampled_negatives
from .opening import TrainingData, load_training_data
from .sequences import (
    catalogue_of,
    load_sequences,
    read_negatives,
    read_sequences,
    sequences_from_table,
    sequences_sha256,
)
from .splits import cut_into_segments, leave_one_out
from .streaming import StreamedSequences
from .texts import text_vectors

__all__ = [
    "DemoWorld",
    "SequenceCollator",
    "StreamedSequences",
    "TrainingData",
    "build_item_tokenizer",
    "catalogue_of",
    "cut_into_segments",
    "draw_negatives",
    "item_catalogue",
    "leave_one_out",
    "load_item_embeddings",
    "load_sequences",
    "load_training_data",
    "make_demo_world",
    "read_negatives",
    "read_sequences",
    "sequences_from_table",
    "sequences_sha256",
    "text_vectors",
    "tokenize_histories",
    "with_candidates",
    "with_sampled_negatives",
    "with_text",
]
