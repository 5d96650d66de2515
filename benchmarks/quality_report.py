"""What quality.py shows: a table, a paired bootstrap and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from e4srec_hf.evaluation.metrics import user_metrics

COLOURS = {"baseline": "#b8c2cc", "sasrec": "#dd8c3c", "e4srec": "#2b6cb0"}
#: Of models that a reader is to find at once.
OWN_COLOURS = {"e4srec-pretrained": "#2f855a", "e4srec-twin": "#9f7aea"}


class PairedDifference(NamedTuple):
    """A mean difference over users, its 95% interval, and how often a resample was above zero."""

    difference: float
    low: float
    high: float
    share_above_zero: float


def paired_bootstrap(
    ours: Sequence[Mapping[str, NDArray[np.float64]]],
    theirs: Sequence[Mapping[str, NDArray[np.float64]]],
    protocol: str,
    metric: str,
    resamples: int = 10_000,
) -> PairedDifference:
    """How far one model is above another, users being what is resampled.

    A user's value is the mean over the seeds, so the interval holds for these trained models; another seed's would
    differ by the spread of the table.

    Args:
        ours: Ranks by protocol, an entry a seed; users in the same order everywhere.
        theirs: Likewise.
        protocol: Which ranks.
        metric: Of `user_metrics`.
        resamples: Number of resamples.
    """
    means = [np.mean([user_metrics(ranks[protocol])[metric] for ranks in model], axis=0) for model in (ours, theirs)]
    difference = means[0] - means[1]  # (users,)
    generator = np.random.default_rng(0)
    drawn = np.array(
        [difference[generator.integers(len(difference), size=len(difference))].mean() for _ in range(resamples)]
    )
    low, high = np.quantile(drawn, [0.025, 0.975])
    return PairedDifference(float(difference.mean()), float(low), float(high), float((drawn > 0).mean()))


def markdown_table(results: Mapping[str, Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> str:
    """A row a model, a column a protocol and metric: the mean over the seeds ± their standard deviation."""
    header = ["model", *(f"{metric.upper()}, {protocol}" for protocol, metric in columns)]
    header += ["NDCG@10, validation", "seconds of a run"]
    lines = [header, ["---"] * len(header)]
    for result in results.values():
        cells = []
        for protocol, metric in columns:
            value = result["test"][protocol][metric]
            spread = "" if value["spread"] is None else f" ± {_short(value['spread'])}"
            cells.append(_short(value["mean"]) + spread)
        chosen = [run["validation"]["ndcg@10"] for run in result["runs"] if run["validation"]]
        seconds = float(np.mean([run["seconds"] for run in result["runs"]]))
        lines.append([result["model"], *cells, _short(float(np.mean(chosen))) if chosen else "", f"{seconds:.0f}"])
    return _as_table(lines)


def difference_table(results: Mapping[str, Mapping[str, Any]], differences: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a model that another one is compared with: how far that one is above it, and the 95% interval."""
    lines = [["the pretrained base against", "HR@10", "NDCG@10"], ["---"] * 3]
    for name, by_metric in differences.items():
        values = [by_metric[metric] for metric in ("hr@10", "ndcg@10")]
        cells = [f"{v['difference']:+.4f} [{v['low']:+.4f}, {v['high']:+.4f}]" for v in values]
        lines.append([results[name]["model"], *cells])
    return _as_table(lines)


def _as_table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _colour(name: str, result: Mapping[str, Any]) -> str:
    return OWN_COLOURS.get(name, COLOURS[result["kind"]])


def _short(value: float) -> str:
    """Four decimals without the zero in front, as the field prints them."""
    return f"{value:.4f}".removeprefix("0")


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Bars of the test figures, and the learning curves on validation, a line a seed."""
    figure, (bars, curves) = plt.subplots(1, 2, figsize=(13, 0.9 + 0.42 * max(len(results), 6)), width_ratios=[1.25, 1])
    _bars(bars, results)
    for name, result in results.items():
        trained = [run for run in result["runs"] if run["curve"]]
        for run in trained:
            curve = [(entry["epoch"], entry["ndcg@10"]) for entry in run["curve"]]
            style = "-" if name.endswith("-best") or name in OWN_COLOURS else ":"
            curves.plot(*zip(*curve, strict=True), style, color=_colour(name, result), linewidth=1)
        if trained:
            curves.annotate(name, curve[-1], fontsize=7, xytext=(3, 0), textcoords="offset points", va="center")
    curves.set_title("NDCG@10 on validation, a line a seed", fontsize=10, loc="left")
    curves.set_xlabel("epochs", fontsize=9)
    for axes in (bars, curves):
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    part = path.with_name(f".{path.stem}.part.png")
    figure.savefig(part, dpi=110)
    part.replace(path)
    plt.close(figure)


def _bars(axes: Axes, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Horizontal bars in the order of the table, with the spread over seeds."""
    values = [result["test"]["seen hidden"]["ndcg@10"] for result in results.values()]
    axes.barh(
        [result["model"] for result in results.values()],
        [value["mean"] for value in values],
        xerr=[value["spread"] or 0 for value in values],
        color=[_colour(name, result) for name, result in results.items()],
        error_kw={"linewidth": 1},
    )
    for place, value in enumerate(values):
        axes.text(value["mean"], place - 0.28, f" {_short(value['mean'])}", va="center", fontsize=7)
    axes.invert_yaxis()
    axes.set_title("NDCG@10 on the test targets, whole catalogue, seen items hidden", fontsize=10, loc="left")
