"""Verify that a repo contains what a release of this package writes, and nothing else, before you load it.

Nothing in the repo is imported, executed or unpickled: Python files are compared by hash, JSON is parsed, and the
weights are read as numbers. What is read and what a repo may ask for is bounded: see `limits.py`.
"""

import os
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ...files import EVALUATION_NAME
from ...modeling import E4SRecConfig
from ...modeling.saving import WEIGHTS_NAME
from .base_tokenizers import check_base_tokenizer, check_prompt_tokens
from .base_weights import build_base, check_base_weights
from .bases import folder_of_base, model_type_of, read_base_config
from .configs import read_config
from .documents import read_documents
from .files import check_files
from .findings import Finding, Verification, failed, in_order, unchecked
from .headers import Header, read_header
from .released_code import check_code
from .sources import Source, UnreadableError, open_source
from .tokenizers import check_tokenizer
from .training_folders import without_training
from .weights import check_figures, check_same_save, check_values, check_weights

__all__ = ["Finding", "Verification", "verify"]


def verify(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    check_base: bool = True,
) -> Verification:
    """Compare a folder or Hub repo with what a release of this package writes.

    The Python files must equal those of one release, byte for byte. The weights must be one safetensors file with
    exactly the tensors that the config requires, all numbers. The config must be usable, and must not refer to other
    code, repos or paths; the item tokenizer must be what `build_item_tokenizer` writes for its catalogue. A base inside
    the repo must be complete. Other files must be of a kind known to be harmless. A folder in which a model was
    trained is checked without its checkpoints and its SASRec.

    Args:
        source: Folder or Hub id of a model, E4SRec or SASRec.
        revision: Branch, tag or commit on the Hub. The verdict names the commit that was checked: load that one.
        token: Token for the Hub.
        cache_dir: Cache folder for files from the Hub.
        check_base: Whether to read the ``config.json`` of a base on the Hub, which is needed to check the shapes of
            LoRA weights. The config of a base inside the repo is always read.

    Returns:
        The verdict. Unreadable files do not raise an error; they become findings, and the repo does not pass.
    """
    name = os.fspath(source)
    try:
        repo = open_source(name, revision, token, cache_dir)
    except UnreadableError as error:
        return Verification(name, None, None, (unchecked(name, "cannot be read", str(error)),))
    repo = without_training(repo)
    findings: list[Finding] = []
    header = _header(repo, findings)
    table = None if header is None else header.tensors.get("item_embeddings.weight")
    documents, found = read_documents(repo, 0 if table is None or not table.shape else table.shape[0])
    findings += found
    content = documents.get("config.json")
    config, found = read_config(repo, documents)
    findings += found
    folder = folder_of_base(content)
    findings += check_files(repo, documents, folder)
    if folder is not None:
        findings += check_base_tokenizer(folder, documents)
    release, found = check_code(repo, model_type_of(content))
    findings += found
    findings += check_tokenizer(documents, None if config is None else config.vocab_size)
    if header is not None and config is not None:
        base = _base(repo, config, documents, findings, check_base, token=token, cache_dir=cache_dir)
        findings += check_weights(header, config, content, base)
    if not any(finding.kind == "failed" for finding in findings):  # what takes long comes last
        findings += check_values(repo, sorted(path for path in repo.files if path.endswith(".safetensors")))
        if folder is not None:
            findings += check_prompt_tokens(repo, folder, documents)
        findings += check_same_save(repo, content)
        findings += check_figures(repo, documents.get(EVALUATION_NAME))
    return Verification(repo.name, repo.commit, release, in_order(findings))


def _header(repo: Source, findings: list[Finding]) -> Header | None:
    if WEIGHTS_NAME not in repo.files:
        return None  # check_files reports it
    try:
        return read_header(repo, WEIGHTS_NAME)
    except UnreadableError as error:
        findings.append(unchecked(WEIGHTS_NAME, "could not be read", str(error)))
    except ValueError as error:
        what = f"is not a complete safetensors file: {error}"
        findings.append(failed(WEIGHTS_NAME, what, "It is truncated or another kind."))
    return None


def _base(
    repo: Source,
    config: PreTrainedConfig,
    documents: Mapping[str, Any],
    findings: list[Finding],
    check_base: bool,
    **hub_arguments: Any,
) -> PreTrainedModel | None:
    """The base on the meta device, if the model has one beside its weights and it may be read."""
    folder = folder_of_base(documents["config.json"])
    if not isinstance(config, E4SRecConfig) or config.tuning != "lora" or not (check_base or folder is not None):
        return None
    base_config, found = read_base_config(config, documents, **hub_arguments)
    findings += found
    if base_config is None:
        return None
    where = f"{folder or config.base_model_name_or_path}/config.json"
    try:
        base = build_base(base_config)
    except Exception as error:  # whatever a model raises that cannot be built
        findings.append(failed(where, f"no base can be built from it: {error}", "Loading fails too."))
        return None
    if folder is not None:
        findings += (found := list(check_base_weights(repo, folder, documents, base)))
        if any(finding.kind == "failed" for finding in found):
            return None  # LoRA is not put into a base that is not the one of the config
    return base
