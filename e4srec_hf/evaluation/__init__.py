"""Evaluation: full ranking of targets, metrics, reports and baselines."""

from .ease import EASE, best_ease
from .fingerprint import folder_fingerprint, model_fingerprint
from .item_transitions import ItemTransitions, best_item_transitions
from .metrics import mean_metrics, metrics_with_intervals, user_metrics
from .popularity import PopularityModel, popularity_skew
from .protocols import PROTOCOLS, Protocol
from .ranking import evaluate_ranking, rank_targets, target_ranks
from .reports import Evaluation, RankingReport, load_evaluation, load_reports, results_table, save_reports

__all__ = [
    "EASE",
    "PROTOCOLS",
    "Evaluation",
    "ItemTransitions",
    "PopularityModel",
    "Protocol",
    "RankingReport",
    "best_ease",
    "best_item_transitions",
    "evaluate_ranking",
    "folder_fingerprint",
    "load_evaluation",
    "load_reports",
    "mean_metrics",
    "metrics_with_intervals",
    "model_fingerprint",
    "popularity_skew",
    "rank_targets",
    "results_table",
    "save_reports",
    "target_ranks",
    "user_metrics",
]
