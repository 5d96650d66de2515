"""Training: the trainer, packed reading, losses, and what a training leaves on disk."""

from .prepare import prepare_for_training
from .saving import save_trained
from .tiny_base import make_tiny_base
from .trainer import SELECT_ON_VALIDATION, RankingTrainer

__all__ = ["SELECT_ON_VALIDATION", "RankingTrainer", "make_tiny_base", "prepare_for_training", "save_trained"]
