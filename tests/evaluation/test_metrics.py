"""Metrics against another library, closed forms and a plain bootstrap."""

import math

import evaluate
import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Success, nDCG

from e4srec_hf.evaluation import ranking_metric
from e4srec_hf.evaluation.metrics import HR_CUTOFFS, NDCG_CUTOFFS, mean_metrics, metrics_with_intervals, user_metrics


def test_metrics_equal_those_of_ir_measures_on_random_rankings():
    generator = np.random.default_rng(0)
    n_items, run, qrels, ranks = 40, [], [], []
    for user in range(200):
        order = generator.permutation(n_items)
        target = int(generator.integers(n_items))
        ranks.append(1 + int(np.flatnonzero(order == target)[0]))
        qrels.append(ir_measures.Qrel(str(user), str(target), 1))
        run += [ir_measures.ScoredDoc(str(user), str(item), -place) for place, item in enumerate(order)]
    theirs = ir_measures.calc_aggregate(
        [RR, *(Success @ k for k in HR_CUTOFFS), *(nDCG @ k for k in NDCG_CUTOFFS)], qrels, run
    )
    ours = mean_metrics(ranks)
    assert ours["mrr"] == pytest.approx(theirs[RR], abs=1e-12)
    for k in HR_CUTOFFS:
        assert ours[f"hr@{k}"] == pytest.approx(theirs[Success @ k], abs=1e-12)
    for k in NDCG_CUTOFFS:
        assert ours[f"ndcg@{k}"] == pytest.approx(theirs[nDCG @ k], abs=1e-12)


def test_closed_forms_at_the_edges():
    values = user_metrics([1, 5, 6, 10, 11, 20, 21, math.inf])
    assert values["hr@5"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert values["hr@10"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert values["hr@20"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert values["hr@1"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert values["ndcg@10"][:4].tolist() == pytest.approx([1, *(1 / math.log2(1 + r) for r in (5, 6, 10))])
    assert values["ndcg@10"][4:].tolist() == [0, 0, 0, 0]
    assert values["mrr"].tolist() == pytest.approx([1, 1 / 5, 1 / 6, 1 / 10, 1 / 11, 1 / 20, 1 / 21, 0])


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([1, math.nan], r"Ranks start at 1, but ranks\[1\] is nan"),
        ([0], r"Ranks start at 1, but ranks\[0\] is 0.0"),
        ([], r"at least one number, not of the shape \(0,\)"),
        ([[1, 2]], r"not of the shape \(1, 2\)"),
    ],
)
def test_numbers_that_are_no_ranks_are_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        user_metrics(ranks)


def test_intervals_are_those_of_a_plain_bootstrap_over_users():
    generator = np.random.default_rng(1)
    ranks = np.where(generator.random(400) < 0.1, np.inf, generator.geometric(0.05, 400))
    estimates = metrics_with_intervals(ranks, resamples=4000)
    means = mean_metrics(ranks)
    for name, values in user_metrics(ranks).items():
        resampled = [generator.choice(values, len(values)).mean() for _ in range(4000)]
        low, high = np.quantile(resampled, [0.025, 0.975])
        assert estimates[name].value == pytest.approx(means[name])
        assert estimates[name].low == pytest.approx(low, abs=0.006)
        assert estimates[name].high == pytest.approx(high, abs=0.006)
    assert metrics_with_intervals(ranks) == metrics_with_intervals(ranks)


def test_one_user_has_an_interval_without_width():
    assert metrics_with_intervals([2.0])["hr@5"] == (1.0, 1.0, 1.0)


def test_the_evaluate_metric_loads_by_path_and_takes_batches():
    metric = evaluate.load(ranking_metric.PATH)
    ranks = [1, 3, 12, math.inf, 7]
    metric.add_batch(predictions=ranks[:2])
    metric.add_batch(predictions=ranks[2:])
    assert metric.compute() == pytest.approx(mean_metrics(ranks))
    assert metric.compute(predictions=ranks, hr_cutoffs=(3,), ndcg_cutoffs=()) == pytest.approx(
        {"hr@3": 0.4, "mrr": mean_metrics(ranks)["mrr"]}
    )
