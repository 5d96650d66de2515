"""The base that an adapter names: does it lead out of the repo, and can it be built without code of its own?"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.utils import cached_file

from ..modeling import E4SRecConfig
from .files import REDIRECTIONS, has_auto_map
from .findings import Finding, failed, note, unchecked

#: A model with more layers, or experts, is one that is meant to stop who builds it.
MOST_PARTS = 2048
NEEDS_CODE = "Loading it would take remote code, which E4SRec never runs."
UNKNOWN_SHAPES = "The shapes of the LoRA weights follow from it. check_base=False does without."


def model_type_of(content: Any) -> str | None:
    """What the parsed config of a model says that it is."""
    found = content.get("model_type") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def check_numbers_of_parts(where: str, content: dict[str, Any]) -> Iterator[Finding]:
    """Refuse a model with so many layers or experts that building it would never end."""
    if too_many := sorted(part for part in _numbers_of_parts(content) if part[1] > MOST_PARTS):
        yield failed(where, f"asks for {too_many}", f"No model has more than {MOST_PARTS} layers or experts.")


def _numbers_of_parts(document: Any) -> Iterator[tuple[str, int]]:
    for name, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, dict):
            yield from _numbers_of_parts(value)
        elif isinstance(value, int) and re.search(r"(layers?|experts|blocks|depth)$", name):
            yield name, value


def check_base_config(where: str, content: Any) -> Iterator[Finding]:
    """The config of a base: can `transformers` build it with its own code, and does it lead nowhere else?"""
    if not isinstance(content, dict):
        yield failed(where, "is no dictionary", "No base can be built from it.")
        return
    if (model_type := model_type_of(content)) not in MODEL_MAPPING_NAMES:
        yield failed(where, f"has the model type {model_type!r}, which is not in transformers", NEEDS_CODE)
    if "configuration_files" in content:
        yield failed(where, "hands over to other files (configuration_files)", "They were not checked.")
    for name in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        if "/" in str(content.get(name)):
            yield failed(where, f"{name} is {content[name]!r}", "A kernel from the Hub is compiled code that is run.")
    yield from check_numbers_of_parts(where, content)


def check_base_name(content: dict[str, Any]) -> Iterator[Finding]:
    """Where ``base_model_name_or_path`` and ``base_model_revision`` of a parsed ``config.json`` lead."""
    where, name, revision = "config.json", content.get("base_model_name_or_path"), content.get("base_model_revision")
    if content.get("tuning", "lora") == "full":
        if name is not None or revision is not None:
            yield failed(where, f"names a base, {name!r}", 'With tuning="full" the base is in the weights.')
        return
    if name is None:
        yield note(where, "does not say which base it was trained on", "It loads with base_model= alone.")
    elif not isinstance(name, str) or _leads_outside(name):
        yield failed(
            where,
            f"base_model_name_or_path is {name!r}, outside the repo",
            "Whatever lies there on the reader's machine would be loaded. Name a Hub id, or keep the base inside "
            "(./base).",
        )
    elif not name.startswith("./"):
        yield from _check_hub_id(name, revision)


def _check_hub_id(name: str, revision: Any) -> Iterator[Finding]:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        yield failed("config.json", f"base_model_name_or_path is {name!r}, no Hub id", str(error))
    if revision is not None and not isinstance(revision, str):
        yield failed("config.json", f"base_model_revision is {revision!r}", "It must be the name of a commit.")
    elif not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        what = f"the base {name} is not pinned to a commit (base_model_revision is {revision!r})"
        yield note("config.json", what, "Its owner may change it after the adapter was checked.")


def _leads_outside(name: str) -> bool:
    return (
        os.path.isabs(name)
        or name.startswith("~")
        or "\\" in name
        or ":" in name
        or ".." in PurePosixPath(name).parts
        or PurePosixPath(name) == PurePosixPath()  # the repo itself: all its files would be the base's
        or not name.isprintable()
    )


def folder_of_base(content: Any) -> str | None:
    """The folder inside the repo that holds the base, by the repo's ``config.json``; ``None`` where none does."""
    name = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    if not isinstance(name, str) or not name.startswith("./") or _leads_outside(name):
        return None
    return str(PurePosixPath(name))


def read_base_config(
    config: E4SRecConfig, documents: Mapping[str, Any], **hub_arguments: Any
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """The ``config.json`` of a base, and nothing else of it.

    Args:
        config: The config of the adapter, which names a folder in the repo (``./…``) or a Hub id.
        documents: The parsed JSON files of the repo.
        hub_arguments: ``token``, ``cache_dir``.

    Returns:
        The config where it is sound, and what was found.
    """
    name, hub_arguments["revision"] = config.base_model_name_or_path, config.base_model_revision
    if name is None:
        return None, [unchecked("config.json", "the base is not named, and was not read", UNKNOWN_SHAPES)]
    if name.startswith("./"):
        where = str(PurePosixPath(name, "config.json"))
        if where not in documents:
            return None, [failed(where, "is missing, or no JSON", "The adapter's base should be here.")]
        content = documents[where]
    else:
        where = f"{name}/config.json"
        try:
            file = cached_file(name, "config.json", **hub_arguments)
            content = json.loads(Path(str(file)).read_text(encoding="utf-8"))
            redirection = cached_file(
                name, "adapter_config.json", _raise_exceptions_for_missing_entries=False, **hub_arguments
            )
        except (OSError, HTTPError, ValueError, RecursionError) as error:
            return None, [unchecked(name, f"the base could not be read: {error}", UNKNOWN_SHAPES)]
        if redirection is not None:
            return None, [failed(name, "the base has an adapter_config.json", REDIRECTIONS["adapter_config.json"])]
    findings = list(check_base_config(where, content))
    if has_auto_map(content) and not name.startswith("./"):  # in the repo itself that is a failure
        findings.append(note(where, "has an auto_map", "The base has code of its own, which E4SRec never runs."))
    return (None if any(finding.kind == "failed" for finding in findings) else content), findings
