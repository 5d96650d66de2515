"""Training: the trainer, packed reading, losses, and what a training leaves on disk."""

from .prepare import prepare_for_training
from .saving import save_trained
from .start import StartFit, rates_of_parts, start_from_sasrec
from .tiny_base import make_tiny_base
from .trainer import SELECT_ON_VALIDATION, RankingTrainer

__all__ = [
    "SELECT_ON_VALIDATION",
    "RankingTrainer",
    "StartFit",
    "make_tiny_base",
    "prepare_for_training",
    "rates_of_parts",
    "save_trained",
    "start_from_sasrec",
]
