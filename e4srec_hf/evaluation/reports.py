"""Reports of evaluations: figures with their protocol, as a table and as ``evaluation.json``."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import EVALUATION_NAME, read_json, write_json
from .metrics import Estimate


@dataclass(frozen=True)
class RankingReport:
    """What an evaluation found, and under which protocol.

    Attributes:
        metrics: Name to mean and 95% interval over users.
        ranks: ``(users,)`` rank of each target; ``inf`` for a target that is hidden with the seen items. Empty in a
            report that was read from a file.
        n_users: Users in the means.
        n_without_target: Users left out because their target is not in the catalogue.
        exclude_seen: Whether the items of a user's history were hidden.
        candidates: What a target was ranked among: the whole catalogue, or how many sampled negatives; and how many
            items are retired.
    """

    metrics: dict[str, Estimate]
    ranks: NDArray[np.float64] = field(repr=False)
    n_users: int
    n_without_target: int
    exclude_seen: bool
    candidates: str

    @property
    def protocol(self) -> str:
        """The protocol in words."""
        seen = "hidden" if self.exclude_seen else "kept"
        left_out = f", {self.n_without_target} users without a target left out" if self.n_without_target else ""
        return f"ranked among {self.candidates}, seen items {seen}, {self.n_users} users{left_out}"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the ranks, for JSON."""
        return {
            "metrics": {name: estimate._asdict() for name, estimate in self.metrics.items()},
            "n_users": self.n_users,
            "n_without_target": self.n_without_target,
            "exclude_seen": self.exclude_seen,
            "candidates": self.candidates,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RankingReport":
        """The report that [`to_dict`] wrote, without the ranks."""
        metrics = {name: Estimate(**estimate) for name, estimate in content["metrics"].items()}
        return cls(**{**content, "metrics": metrics, "ranks": np.empty(0)})


def results_table(reports: Mapping[str, RankingReport], names: Sequence[str] = ("hr@10", "ndcg@10")) -> str:
    """A Markdown table: a row a model, a column a metric, each mean with its interval."""
    header = ["model", *(name.upper() for name in names)]
    rows = [
        [model, *(f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in (report.metrics[name] for name in names))]
        for model, report in reports.items()
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save_reports(reports: Mapping[str, Mapping[str, RankingReport]], directory: str | os.PathLike[str]) -> None:
    """Write ``evaluation.json`` beside a model.

    Args:
        reports: Kind of ranking (``full``, ``sampled``) to model name to report.
        directory: The folder.
    """
    content = {kind: {name: report.to_dict() for name, report in table.items()} for kind, table in reports.items()}
    write_json(Path(directory, EVALUATION_NAME), content)


def load_reports(directory: str | os.PathLike[str]) -> dict[str, dict[str, RankingReport]]:
    """What [`save_reports`] wrote, without the ranks; empty where there is no ``evaluation.json``.

    Raises:
        ValueError: If the file holds anything else.
    """
    path = Path(directory, EVALUATION_NAME)
    content = read_json(path)
    try:
        return {
            kind: {name: RankingReport.from_dict(report) for name, report in table.items()}
            for kind, table in content.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not hold the reports of evaluations ({error!r}): remove it, and rank the test targets again."
        ) from error
