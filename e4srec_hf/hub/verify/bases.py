"""Check the base of an adapter: it must not lead outside the repo, and must load without custom code."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.utils import cached_file

from ...modeling import E4SRecConfig
from .base_fields import check_labels, check_numbers, check_texts
from .files import REDIRECTIONS
from .findings import Finding, failed, note, unchecked
from .json_files import has_auto_map, parse
from .limits import LARGEST_JSON

NEEDS_CODE = "Loading it would need remote code, which E4SRec never runs."
UNKNOWN_SHAPES = "It determines the shapes of the LoRA weights. check_base=False skips this check."


def model_type_of(content: Any) -> str | None:
    """The ``model_type`` of a parsed config, if it has one."""
    found = content.get("model_type") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def check_base_config(where: str, content: Any, n_places: int) -> Iterator[Finding]:
    """Check that `transformers` can build the base without custom code, and that it can read ``n_places`` places."""
    if not isinstance(content, dict):
        yield failed(where, "is not a dictionary", "No base can be built from it.")
        return
    if (model_type := model_type_of(content)) not in MODEL_MAPPING_NAMES:
        yield failed(where, f"has the model type {model_type!r}, which is not in transformers", NEEDS_CODE)
    yield from check_labels(where, content)
    yield from check_numbers(where, content)
    yield from check_texts(where, content)
    places, vocab = content.get("max_position_embeddings"), content.get("vocab_size")
    padding = content.get("pad_token_id")
    if type(padding) is type(vocab) is int and padding >= vocab:
        yield failed(where, f"pad_token_id is {padding}, but it has {vocab} tokens", "No base can be built with it.")
    if type(places) is int and places < n_places:
        what = f"max_position_embeddings is {places}, but the prompt and max_history need {n_places}"
        yield failed(where, what, "The base cannot read the histories that the model reads.")


def places_of(content: Any) -> int:
    """The places that the prompt and the longest history of a model need, as far as its config says so."""
    prompt = [content.get(name) for name in ("instruction_ids", "response_ids")]
    longest = content.get("max_history")
    return sum(len(ids) for ids in prompt if isinstance(ids, list)) + (longest if type(longest) is int else 0)


def check_base_name(content: dict[str, Any]) -> Iterator[Finding]:
    """Check ``base_model_name_or_path`` and ``base_model_revision`` of a parsed ``config.json``."""
    where, name, revision = "config.json", content.get("base_model_name_or_path"), content.get("base_model_revision")
    if content.get("tuning", "lora") == "full":
        if name is not None or revision is not None:
            yield failed(where, f"names a base, {name!r}", 'With tuning="full" the base is in the weights.')
        return
    if name is None:
        yield note(where, "does not name the base it was trained on", "It can only be loaded with base_model=.")
    elif not isinstance(name, str) or _leads_outside(name):
        yield failed(
            where,
            f"base_model_name_or_path is {name!r}, outside the repo",
            "Loading would read that path on the user's machine. Give a Hub id, or store the base inside the repo "
            "(./base).",
        )
    elif not name.startswith("./"):
        yield from _check_hub_id(name, revision)
    elif revision is not None:
        yield failed(where, f"base_model_revision is {revision!r}", "A base inside the repo has no revision.")


def _check_hub_id(name: str, revision: Any) -> Iterator[Finding]:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        yield failed("config.json", f"base_model_name_or_path is {name!r}, which is not a Hub id", str(error))
    if revision is not None and not isinstance(revision, str):
        yield failed("config.json", f"base_model_revision is {revision!r}", "It must be a commit hash.")
    elif not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        what = f"the base {name} is not pinned to a commit (base_model_revision is {revision!r})"
        yield note("config.json", what, "Its owner can change it after this check.")


def _leads_outside(name: str) -> bool:
    return (
        os.path.isabs(name)
        or name.startswith("~")
        or "\\" in name
        or ":" in name
        or ".." in PurePosixPath(name).parts
        or PurePosixPath(name) == PurePosixPath()  # the repo itself: all its files would belong to the base
        or not name.isprintable()
    )


def folder_of_base(content: Any) -> str | None:
    """The folder inside the repo that holds the base according to ``config.json``; ``None`` if there is none."""
    name = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    if not isinstance(name, str) or not name.startswith("./") or _leads_outside(name):
        return None
    return str(PurePosixPath(name))


def read_base_config(
    config: E4SRecConfig, documents: Mapping[str, Any], **hub_arguments: Any
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Read and check the ``config.json`` of a base; no other file of it is read.

    Args:
        config: The config of the adapter; its base is a folder in the repo (``./…``) or a Hub id.
        documents: The parsed JSON files of the repo.
        hub_arguments: ``token``, ``cache_dir``.

    Returns:
        The config, or ``None`` if it fails the checks, and the findings.
    """
    name, hub_arguments["revision"] = config.base_model_name_or_path, config.base_model_revision
    if name is None:
        return None, [unchecked("config.json", "names no base, so none was read", UNKNOWN_SHAPES)]
    if name.startswith("./"):
        where = str(PurePosixPath(name, "config.json"))
        if where not in documents:
            return None, [failed(where, "is missing or not valid JSON", "config.json says that the base is here.")]
        content = documents[where]
    else:
        where = f"{name}/config.json"
        try:
            file = cached_file(name, "config.json", **hub_arguments)
            with Path(str(file)).open("rb") as opened:
                content = parse(opened.read(LARGEST_JSON))
            redirection = cached_file(
                name, "adapter_config.json", _raise_exceptions_for_missing_entries=False, **hub_arguments
            )
        except (OSError, HTTPError, ValueError, RecursionError) as error:
            return None, [unchecked(name, f"the base could not be read: {error}", UNKNOWN_SHAPES)]
        if redirection is not None:
            return None, [failed(name, "the base has an adapter_config.json", REDIRECTIONS["adapter_config.json"])]
    findings = list(check_base_config(where, content, places_of(documents["config.json"])))
    if has_auto_map(content) and not name.startswith("./"):  # inside the repo it is reported as a failure
        findings.append(note(where, "has an auto_map", "The base has custom code, which E4SRec never runs."))
    return (None if any(finding.kind == "failed" for finding in findings) else content), findings
