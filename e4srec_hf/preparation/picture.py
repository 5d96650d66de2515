"""A picture of a prepared data set: history lengths, item popularity, interactions over time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from .writing import Counts

logger = logging.get_logger(__name__)

COLOUR, APART = "#2b6cb0", "#c05621"
#: Maximum number of bars of a panel.
BARS = 50
#: The bars reach beyond the numbers with this share of the counts by as much as these span; the rest stands apart.
CENTRAL = 0.9


@dataclass(frozen=True)
class Bars:
    """Counts of whole numbers in bars of equally many numbers.

    Attributes:
        width: Whole numbers of each bar.
        starts: ``(bars,)`` first number of each bar.
        heights: ``(bars,)`` counts in each bar.
        below: Count of the numbers before the first bar, and the smallest of them; ``None`` if there are none.
        above: Count of the numbers after the last bar, and the largest of them.
    """

    width: int
    starts: NDArray[np.int64]
    heights: NDArray[np.int64]
    below: tuple[int, int] | None
    above: tuple[int, int] | None


def make_bars(counts: Mapping[int, int], most: int = BARS) -> Bars:
    """Put counts of whole numbers into at most ``most`` bars; numbers far from all others are counted apart."""
    numbers = np.array(sorted(counts), np.int64)
    weights = np.array([counts[number] for number in numbers.tolist()], np.int64)
    shares = np.cumsum(weights) / weights.sum()
    tail = (1 - CENTRAL) / 2
    low, high = (int(numbers[np.searchsorted(shares, share, side="right")]) for share in (tail, 1 - tail))
    span = high - low + 1
    shown = (numbers >= low - span) & (numbers <= high + span)
    first, last = int(numbers[shown][0]), int(numbers[shown][-1])
    width = -(-(last - first + 1) // most)
    heights = np.bincount((numbers[shown] - first) // width, weights=weights[shown]).astype(np.int64)
    before, after = numbers < first, numbers > last
    return Bars(
        width,
        first + np.arange(len(heights)) * width,
        heights,
        (int(weights[before].sum()), int(numbers[0])) if before.any() else None,
        (int(weights[after].sum()), int(numbers[-1])) if after.any() else None,
    )


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
    bars = make_bars(counts.lengths)
    _draw_bars(axes, bars, "{:,}".format)
    _label(axes, f"History lengths, {_per_bar(bars, 'length')}", "interactions per user", "users")


def _popularity(axes: Any, counts: Counts) -> None:
    ranked = np.sort(counts.of_items[counts.of_items > 0])[::-1]
    ranks = np.unique(np.geomspace(1, len(ranked), min(2000, len(ranked))).round().astype(int))
    axes.loglog(ranks, ranked[ranks - 1], color=COLOUR, marker="o" if len(ranks) <= BARS else None, markersize=3)
    from matplotlib.ticker import MaxNLocator, NullLocator

    _label(axes, "Item popularity", "rank of the item", "interactions")
    if len(ranks) > 1:
        axes.set_xlim(1, len(ranked))
    for axis, values in ((axes.xaxis, ranks), (axes.yaxis, ranked)):
        if values.max() == values.min():
            axis.set_ticks([values.max()], minor=False)
            axis.set_minor_locator(NullLocator())
        elif values.max() < 10 * values.min():  # the ticks of a logarithmic axis are a factor of ten apart
            axis.set_major_locator(MaxNLocator(5, integer=True))
            axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:,.0f}")


def _over_time(axes: Any, counts: Counts) -> None:
    bars = make_bars(counts.days)
    _draw_bars(axes, bars, _date)
    _label(axes, f"Interactions over time, {_per_bar(bars, 'day')}", "UTC", "interactions")


def _draw_bars(axes: Any, bars: Bars, name: Callable[[int], str]) -> None:
    """Draw bars with ticks in their middle if they are single numbers, else at their start; mark what is apart."""
    middle = 0 if bars.width > 1 else 0.5
    places = np.arange(len(bars.starts))
    axes.bar(places, bars.heights, width=1, align="edge", color=COLOUR, edgecolor="white", linewidth=0.4)
    ticks = places[:: -(-len(places) // 8)]
    axes.set_xticks(ticks + middle, [name(int(bars.starts[tick])) for tick in ticks])
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    left, right = 0.0, float(len(places))
    room = 0.17 * right
    for apart, place, word in ((bars.below, -room / 2, "from"), (bars.above, right + room / 2, "up to")):
        if apart is None:
            continue
        count, outermost = apart
        axes.bar(place, count, width=room / 4, color=APART)
        text = f"{count:,}\n{word} {name(outermost)}"
        axes.annotate(text, (place, count), ha="center", va="bottom", fontsize=7, color=APART)
        left, right = min(left, place - room / 2), max(right, place + room / 2)
    axes.set_xlim(left, right)


def _per_bar(bars: Bars, unit: str) -> str:
    return f"{bars.width:,} {unit}{'s' if bars.width > 1 else ''} per bar"


def _date(day: int) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)).strftime("%Y-%m-%d")
    except OverflowError:  # before the year 1
        return f"day {day}"


def _label(axes: Any, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
