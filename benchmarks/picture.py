"""Draw docs/speed.png from benchmarks/results.

pip install '.[benchmarks]' && python benchmarks/picture.py
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from measuring import RESULTS

COLOURS = {"ours": "#2b6cb0", "theirs": "#b8c2cc"}


def read(results: Path, name: str) -> dict[str, Any]:
    """A result of a CPU."""
    return json.loads((results / f"{name}-cpu.json").read_text(encoding="utf-8"))


def bars(axes: Axes, title: str, values: dict[str, float], unit: str) -> None:
    """Horizontal bars, ours first."""
    names = list(values)
    colours = [COLOURS["ours"], *[COLOURS["theirs"]] * (len(names) - 1)]
    axes.barh(names, list(values.values()), color=colours)
    axes.invert_yaxis()
    for place, value in enumerate(values.values()):
        axes.text(value, place, f" {value:,.0f}", va="center", fontsize=9)
    axes.set_xlim(0, max(values.values()) * 1.18)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(unit, fontsize=9)
    axes.tick_params(labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def memory(axes: Axes, measurements: list[dict[str, Any]]) -> None:
    """Peak memory of a training step over the size of the catalogue."""
    for way, label in (("ours", "in chunks"), ("naive", "all scores at once")):
        points = [m for m in measurements if m["what"] == "train" and m["head"] == "linear" and "bytes" in m[way]]
        axes.loglog(
            [m["items"] for m in points],
            [m[way]["bytes"] / 2**20 for m in points],
            marker="o",
            label=label,
            color=COLOURS["ours" if way == "ours" else "theirs"],
        )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks([100, 300, 1000, 3000, 10_000], ["100", "300", "1,000", "3,000", "10,000"])
    axes.set_title("Training step, linear head", fontsize=10, loc="left")
    axes.set_xlabel("items in the catalogue", fontsize=9)
    axes.set_ylabel("MiB above weights\nand gradients", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=9, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--picture", default=Path(__file__).parent.parent / "docs" / "speed.png", help="Where to draw it."
    )
    parser.add_argument("--results", default=RESULTS, help="Folder of results.")
    arguments = parser.parse_args()
    results = Path(arguments.results)
    training, recommending = read(results, "training_throughput"), read(results, "recommend_throughput")
    figure, axes = plt.subplots(1, 3, figsize=(13, 2.7), width_ratios=[1.1, 1.1, 1])
    rates = {
        name.replace("one row a target, ", "a row a target,\n"): v for name, v in training["targets_per_second"].items()
    }
    bars(axes[0], "Training (4 layers, width 512)", rates, "targets a second")
    users = recommending["users_per_second"]
    shown = {
        "in batches": users["in batches"],
        "in batches, instruction\nread for each": users["in batches, instruction read for each"],
        "one at a time, instruction\nread for each": users["alone"],
    }
    bars(axes[1], "recommend() (2 layers, width 128)", shown, "users a second")
    memory(axes[2], read(results, "large_catalogue")["measurements"])
    hardware = training["hardware"]
    figure.text(
        0.005, 0.01, f"{hardware['device']}, {hardware['threads']} threads, torch {hardware['torch']}", fontsize=7
    )
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
