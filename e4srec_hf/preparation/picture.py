"""A picture of a prepared data set: history lengths, item popularity, interactions over time."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from .writing import Counts

logger = logging.get_logger(__name__)

COLOUR = "#2b6cb0"
#: Maximum number of bars for interactions over time.
PERIODS = 60


def draw(counts: Counts, title: str, path: Path) -> bool:
    """Draw the counts.

    Args:
        counts: The counts of the writer.
        title: Title of the picture.
        path: The PNG to write.

    Returns:
        Whether a picture was drawn. Without matplotlib there is only a warning.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        logger.warning_once("The picture of the data set needs matplotlib: pip install 'e4srec-hf[cards]'")
        return False
    figure = Figure(figsize=(8.3, 9.6))
    panels = figure.subplots(3 if counts.days else 2, 1)
    _lengths(panels[0], counts)
    _popularity(panels[1], counts)
    if counts.days:
        _over_time(panels[2], counts)
    for axes in panels:
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", parse_math=False)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=110)
    return True


def _lengths(axes: Any, counts: Counts) -> None:
    lengths = np.array(sorted(counts.lengths))
    users = np.array([counts.lengths[length] for length in lengths])
    longest = int(lengths[-1])
    edges = np.unique(np.geomspace(1, longest + 1, min(40, longest + 1)).round().astype(int))
    axes.hist(lengths, edges if len(edges) > 1 else 1, weights=users, color=COLOUR)
    axes.set_xscale("log")
    _label(axes, "History lengths", "interactions per user", "users")


def _popularity(axes: Any, counts: Counts) -> None:
    ranked = np.sort(counts.of_items[counts.of_items > 0])[::-1]
    ranks = np.unique(np.geomspace(1, len(ranked), min(2000, len(ranked))).round().astype(int))
    axes.loglog(ranks, ranked[ranks - 1], color=COLOUR)
    _label(axes, "Item popularity", "rank of the item", "interactions")


def _over_time(axes: Any, counts: Counts) -> None:
    days = np.array(sorted(counts.days))
    interactions = np.array([counts.days[day] for day in days.tolist()])
    width = -(-int(days[-1] - days[0] + 1) // PERIODS)  # whole days per bar
    bars = np.bincount((days - days[0]) // width, weights=interactions)
    edges = days[0] + np.arange(len(bars) + 1) * width
    axes.bar(edges[:-1], bars, width=width, align="edge", color=COLOUR)
    ticks = np.linspace(edges[0], edges[-1], 6)
    axes.set_xticks(ticks, [_date(tick) for tick in ticks])
    _label(axes, f"Interactions over time, {width} day{'s' if width > 1 else ''} per bar", "UTC", "interactions")


def _date(day: float) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)).strftime("%Y-%m-%d")
    except OverflowError:  # before the year 1
        return f"day {day:.0f}"


def _label(axes: Any, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
