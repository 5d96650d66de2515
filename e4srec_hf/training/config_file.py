"""A YAML file of settings, read as the flags that it stands for."""

import json
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError, closest


def read_config(path: str | Path, known: set[str]) -> dict[str, Any]:
    """The settings in a YAML file, names with ``-`` or ``_``.

    Raises:
        UsageError: If there is no such file, it is not YAML, or it has a setting that does not exist.
    """
    if not Path(path).is_file():
        raise UsageError(f"--config: no such file: {path}")
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        where = "" if mark is None else f", line {mark.line + 1}"
        raise UsageError(f"--config: {path}{where} is not YAML: {problem}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UsageError(f"--config: {path} must have lines of the form 'name: value'.")
    settings = {str(name).replace("-", "_"): value for name, value in settings.items()}
    if unknown := sorted(set(settings) - known):
        raise UsageError(
            f"{path} has settings that are no flags: {', '.join(unknown_setting(name, known) for name in unknown)}"
        )
    return settings


def unknown_setting(flag: str, known: set[str]) -> str:
    """An unknown setting and the one that may have been meant, spelled as the user spells."""
    given = flag.partition("=")[0]
    dashes, name = ("--", given[2:]) if given.startswith("--") else ("", given)
    close = closest(name.replace("-", "_"), known)
    if close is None:
        return f"{given}: there is no such setting"
    meant = close.replace("_", "-") if "-" in name else close
    return f"{given}: did you mean {dashes}{meant}?"


def as_flags(settings: dict[str, Any]) -> list[str]:
    """Settings of a YAML file as command-line flags, so that they are checked like them."""
    flags: list[str] = []
    for name, value in settings.items():
        if isinstance(value, list):
            flags += [f"--{name}", *map(str, value)] if value else []  # no list is the default
        elif value is not None:
            flags.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    return flags
