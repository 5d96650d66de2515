"""HR@K, NDCG@K and MRR from the ranks of targets, as an `evaluate` metric."""

from typing import Any

import datasets
import evaluate

from e4srec_hf.evaluation.metrics import HR_CUTOFFS, NDCG_CUTOFFS, user_metrics

_DESCRIPTION = """
Ranking metrics for one target per user, in closed form from its rank: HR@K is 1 if the rank is at most K, NDCG@K is
then 1 / log2(1 + rank), MRR is 1 / rank. A rank of infinity is a miss.
"""

_INPUTS = """
Args:
    predictions (list of float): the rank of each user's target, 1 is best.
    hr_cutoffs (list of int): the K of HR@K.
    ndcg_cutoffs (list of int): the K of NDCG@K.
Returns:
    dict of float: the means over users, named "hr@K", "ndcg@K" and "mrr".
"""


class RankingMetric(evaluate.Metric):  # type: ignore[name-defined]
    """Load it with ``evaluate.load(e4srec_hf.evaluation.ranking_metric.PATH)``; the predictions are ranks."""

    def _info(self) -> Any:
        return evaluate.MetricInfo(  # type: ignore[attr-defined]
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("float64")}),
        )

    def _compute(
        self,
        predictions: list[float],
        hr_cutoffs: tuple[int, ...] = HR_CUTOFFS,
        ndcg_cutoffs: tuple[int, ...] = NDCG_CUTOFFS,
    ) -> dict[str, float]:
        values = user_metrics(predictions, hr_cutoffs=hr_cutoffs, ndcg_cutoffs=ndcg_cutoffs)
        return {name: float(value.mean()) for name, value in values.items()}
