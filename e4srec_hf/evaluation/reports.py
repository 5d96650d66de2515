"""Reports of evaluations: metrics with their protocol, as a table and as ``evaluation.json``."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from ..files import EVALUATION_NAME, read_json, write_json
from ..modeling.saving import AtomicSaveMixin
from .fingerprint import folder_fingerprint, model_fingerprint
from .metrics import Estimate
from .protocols import REFERENCE_PROTOCOL, STRICT, protocol_of

#: What the targets were ranked among, unless there were sampled negatives.
WHOLE_CATALOGUE = "the whole catalogue"

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class RankingReport:
    """Metrics of one model, with the protocol of the evaluation.

    Attributes:
        metrics: Metric name to its mean over users and 95% interval.
        ranks: ``(users,)`` rank of each target; ``inf`` for a target that is hidden with the seen items. Empty in a
            report that was read from a file.
        n_users: Number of users that the means are taken over.
        n_without_target: Number of users left out because their target is not in the catalogue.
        exclude_seen: Whether the items of a user's history were hidden.
        candidates: What the targets were ranked among, in words: the whole catalogue or sampled negatives, and how
            many items are retired.
        n_seen: Number of targets that their user had before: certain misses where seen items are hidden.
        rules: Name of the [`Protocol`].
    """

    metrics: dict[str, Estimate]
    ranks: NDArray[np.float64] = field(repr=False, compare=False)
    n_users: int
    n_without_target: int
    exclude_seen: bool
    candidates: str
    n_seen: int = 0
    rules: str = STRICT.name

    @property
    def protocol(self) -> str:
        """The protocol in words."""
        rules = protocol_of(self.rules)
        parts = [f"ranked among {self.candidates}", f"seen items {'hidden' if self.exclude_seen else 'kept'}"]
        if self.exclude_seen and self.n_seen:
            parts[-1] += f" ({self.n_seen} of the targets: misses)"
        if not rules.ties_against:
            parts.append("ties count for the target")
        if rules.places is not None:
            parts.append(f"misses after place {rules.places}")
        parts.append(f"{self.n_users} users")
        if self.n_without_target:
            what = (
                "of them without a target, counted as misses"
                if rules.counts_everyone
                else "users without a target left out"
            )
            parts.append(f"{self.n_without_target} {what}")
        return ("as the reference implementation evaluates: " if rules is REFERENCE_PROTOCOL else "") + ", ".join(parts)

    @property
    def remark(self) -> str:
        """What a reader must know who compares with published figures; may be empty."""
        if self.rules != STRICT.name or not self.exclude_seen or self.candidates.startswith(WHOLE_CATALOGUE):
            return ""
        return (
            "Seen items are hidden among sampled negatives too. The reference implementation keeps them there, and the "
            f"{self.n_seen} targets that are seen items can then be found: e4srec evaluate --protocol reference."
        )

    def to_dict(self) -> dict[str, Any]:
        """The report without the ranks, for JSON."""
        return {
            "metrics": {name: estimate._asdict() for name, estimate in self.metrics.items()},
            "n_users": self.n_users,
            "n_without_target": self.n_without_target,
            "exclude_seen": self.exclude_seen,
            "candidates": self.candidates,
            "n_seen": self.n_seen,
            "rules": self.rules,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RankingReport":
        """The report that [`to_dict`] wrote, without the ranks."""
        metrics = {name: Estimate(**estimate) for name, estimate in content["metrics"].items()}
        return cls(**{**content, "metrics": metrics, "ranks": np.empty(0)})


def results_table(reports: Mapping[str, RankingReport], names: Sequence[str] = ("hr@10", "ndcg@10")) -> str:
    """A Markdown table: one row per model, one column per metric, each mean with its interval."""
    header = ["model", *(name.upper() for name in names)]
    rows = [
        [model, *(f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in (report.metrics[name] for name in names))]
        for model, report in reports.items()
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluation.json`` says of a model.

    Attributes:
        reports: Kind of ranking (``full``, ``sampled``) to model name to report, without the ranks.
        popularity_skew: What `popularity_skew` found; ``None`` where it was not measured.
        validation: Model name to its report on the validation targets, without the ranks.
        warnings: What went wrong with the training, a sentence or two each.
    """

    reports: dict[str, dict[str, RankingReport]] = field(default_factory=dict)
    popularity_skew: dict[str, Any] | None = None
    validation: dict[str, RankingReport] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def save_reports(
    reports: Mapping[str, Mapping[str, RankingReport]],
    directory: str | os.PathLike[str],
    *,
    popularity_skew: Mapping[str, Any] | None = None,
    validation: Mapping[str, RankingReport] | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write ``evaluation.json`` beside a saved model, with the model's fingerprint.

    Args:
        reports: Kind of ranking (``full``, ``sampled``) to model name to report.
        directory: Folder of the model that was evaluated.
        popularity_skew: What `popularity_skew` found.
        validation: Model name to its report on the validation targets.
        warnings: What went wrong with the training; the card shows it.
    """
    content: dict[str, Any] = {"fingerprint": folder_fingerprint(directory)}
    if warnings:
        content["warnings"] = list(warnings)
    if popularity_skew is not None:
        content["popularity_skew"] = dict(popularity_skew)
    for kind, rows in {**reports, **({"validation": validation} if validation else {})}.items():
        content[kind] = {name: report.to_dict() for name, report in rows.items()}
    write_json(Path(directory, EVALUATION_NAME), content)


def load_evaluation(directory: str | os.PathLike[str], model: AtomicSaveMixin | None = None) -> Evaluation:
    """What [`save_reports`] wrote; empty where there is no ``evaluation.json``, or it belongs to another model.

    Args:
        directory: Folder of a model.
        model: The model that the figures must belong to; by default the one in the folder.

    Raises:
        ValueError: If the file holds anything else.
    """
    path = Path(directory, EVALUATION_NAME)
    content = read_json(path)
    if not content:
        return Evaluation()
    fingerprint = folder_fingerprint(directory) if model is None else model_fingerprint(model)
    if content.pop("fingerprint", None) != fingerprint:
        logger.warning_once(
            f"{path} has figures of another model (weights, catalogue, prompt, history, LoRA or base): not used."
        )
        return Evaluation()
    try:
        skew, warnings = content.pop("popularity_skew", None), list(content.pop("warnings", []))
        reports = {
            kind: {name: RankingReport.from_dict(report) for name, report in rows.items()}
            for kind, rows in content.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not hold the reports of evaluations ({error!r}): remove it, and evaluate the model again."
        ) from error
    return Evaluation(reports, skew, reports.pop("validation", {}), warnings)


def load_reports(directory: str | os.PathLike[str]) -> dict[str, dict[str, RankingReport]]:
    """The reports of [`load_evaluation`]: kind of ranking to model name to report."""
    return load_evaluation(directory).reports
