"""Evaluation: full ranking of targets, metrics, reports and baselines."""

from .ease import EASE, best_ease
from .metrics import mean_metrics, metrics_with_intervals, user_metrics
from .popularity import PopularityModel, popularity_skew
from .ranking import evaluate_ranking, rank_targets, target_ranks
from .reports import RankingReport, load_reports, results_table, save_reports

__all__ = [
    "EASE",
    "PopularityModel",
    "RankingReport",
    "best_ease",
    "evaluate_ranking",
    "load_reports",
    "mean_metrics",
    "metrics_with_intervals",
    "popularity_skew",
    "rank_targets",
    "results_table",
    "save_reports",
    "target_ranks",
    "user_metrics",
]
