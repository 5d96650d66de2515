"""The YAML on top of a card, and what the Hub says against it."""

import re
from typing import Any

import yaml

_FRONT_MATTER = re.compile(r"^\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", re.DOTALL)
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_metadata(card: str) -> Any:
    """The metadata of a card, `None` if it has none.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    match = _FRONT_MATTER.match(card)
    return yaml.safe_load(match[1]) if match else None


def check_card(card: str, repo_type: str) -> tuple[list[str], list[str]]:
    """Errors, for which the Hub refuses a card, and warnings."""
    try:
        metadata = read_metadata(card)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"], []
    if metadata in (None, {}):
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ["YAML Metadata Error: the metadata must be a mapping"], []
    errors = _check_fields(metadata)
    if repo_type == "model":
        errors += _check_model_index(metadata.get("model-index"))
    return errors, []


def _check_fields(metadata: dict) -> list[str]:
    errors = []
    for name in ("tags", "language", "license", "datasets", "base_model", "metrics"):
        values = metadata.get(name)
        for value in values if isinstance(values, list) else [] if values is None else [values]:
            if not isinstance(value, str) or not value:
                errors.append(f'"{name}" must be a string or a list of strings, not {value!r}')
            elif name in ("datasets", "base_model") and not _REPO_ID.fullmatch(value):
                errors.append(f'"{name}" with value "{value}" is not valid. Use the id of a {name} of the Hub.')
    for name in ("library_name", "pipeline_tag"):
        if not isinstance(metadata.get(name, ""), str):
            errors.append(f'"{name}" must be a string')
    return errors


def _check_model_index(index: Any) -> list[str]:
    """`model-index`: models with results, each with a task, a data set and metrics."""
    if index is None:
        return []
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    errors = []
    for number, model in enumerate(index):
        place = f"model-index[{number}]"
        errors += _missing(model, place, "name", "results")
        for row, result in enumerate(model.get("results") or []):
            inner = f"{place}.results[{row}]"
            errors += _missing(result, inner, "task", "dataset", "metrics")
            errors += _missing(result.get("task"), f"{inner}.task", "type")
            errors += _missing(result.get("dataset"), f"{inner}.dataset", "type", "name")
            for column, metric in enumerate(result.get("metrics") or []):
                errors += _missing(metric, f"{inner}.metrics[{column}]", "type", "value")
    return errors


def _missing(mapping: Any, place: str, *keys: str) -> list[str]:
    present = mapping if isinstance(mapping, dict) else {}
    return [f'"{place}.{key}" is required' for key in keys if present.get(key) in (None, "")]
