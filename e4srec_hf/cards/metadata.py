"""Read the metadata at the head of a card, whoever wrote it."""

from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

#: Characters of the metadata, and YAML values one inside the other.
LONGEST, DEEPEST = 64 * 1024, 16
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_metadata(card: str) -> dict[str, Any]:
    """The metadata of a card; empty if it has none.

    Raises:
        ValueError: If it is not a mapping in YAML, too long or too deep, or has an alias, by which a few lines can
            stand for billions of values.
    """
    block = REGEX_YAML_BLOCK.search(card)
    if block is None:
        return {}
    if len(block[2]) > LONGEST:
        raise ValueError(f"they have {len(block[2])} characters, more than {LONGEST}")
    try:
        _check_events(block[2])
        metadata = yaml.load(block[2], Loader=_LOADER)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(metadata, dict | None):
        raise ValueError(f"they are a {type(metadata).__name__}; expected names and values")
    return metadata or {}


def _check_events(block: str) -> None:
    depth = 0
    for event in yaml.parse(block, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"they have an alias, *{event.anchor}: write its value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"they have more than {DEEPEST} values inside each other")
