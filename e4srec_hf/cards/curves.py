"""Learning curves, read from the trainer's log and drawn."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.utils import logging

logger = logging.get_logger(__name__)

#: The metric that is drawn.
METRIC = "ndcg@10"
COLOURS = {"SASRec": "#dd8c3c", "E4SRec": "#2b6cb0"}


def learning_curve(state: TrainerState) -> list[dict[str, Any]]:
    """The log of a trainer, with one entry per step at which something was logged.

    Returns:
        Entries with ``epoch``, ``step`` and, if they were logged, ``loss`` (the mean over the steps since the previous
        log) and the ranking metrics on validation. Numbers that are not finite are left out.
    """
    curve: dict[int, dict[str, Any]] = {}
    for logged in state.log_history:
        found = {name.removeprefix("eval_"): value for name, value in logged.items() if _is_metric(name)}
        if found := {name: value for name, value in found.items() if math.isfinite(value)}:
            step = int(logged["step"])
            entry = curve.setdefault(step, {"epoch": logged["epoch"], "step": step})
            entry.update(found)
    return list(curve.values())


def _is_metric(name: str) -> bool:
    return name == "loss" or name == "eval_mrr" or name.startswith(("eval_hr@", "eval_ndcg@"))


def draw_learning_curves(stages: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Draw NDCG@10 on validation, and the training loss, over the epochs of each training.

    Args:
        stages: Name of a model to its training as in ``training.json``: ``curve`` and, if the weights were selected on
            validation, ``selected``.
        path: The PNG to write.

    Returns:
        Whether a picture was drawn. None is drawn if nothing was logged, or, with a warning, if matplotlib is not
        installed.
    """
    panels = [
        (metric, title)
        for metric, title in ((METRIC, "NDCG@10 on validation"), ("loss", "Training loss"))
        if any(metric in entry for stage in stages.values() for entry in stage.get("curve", []))
    ]
    if not panels:
        return False
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        logger.warning_once("matplotlib draws the learning curves of a model card: pip install 'e4srec-hf[cards]'")
        return False
    figure = Figure(figsize=(4.6 * len(panels), 2.9))
    for axes, (metric, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, stage in stages.items():
            points = [(entry["epoch"], entry[metric]) for entry in stage.get("curve", []) if metric in entry]
            _draw_curve(axes, name, points, stage.get("selected") if metric == METRIC else None)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("epochs", fontsize=9)
        axes.tick_params(labelsize=9)
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize=9, frameon=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    return True


def _draw_curve(
    axes: Any, name: str, points: Sequence[tuple[float, float]], selected: Mapping[str, Any] | None
) -> None:
    """Draw a line, with a ring around the epoch whose weights were selected."""
    if not points:
        return
    colour = COLOURS.get(name)
    axes.plot(*zip(*points, strict=True), label=name, color=colour, linewidth=1.4, marker=".", markersize=4)
    if selected is not None and METRIC in selected:
        ring = {"markersize": 9, "markerfacecolor": "none", "color": colour}
        axes.plot([selected["epoch"]], [selected[METRIC]], marker="o", **ring)
