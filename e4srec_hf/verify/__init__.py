"""Verify before you trust: is a repo what a release of this package writes, and nothing else?

Nothing of the repo is imported, executed or unpickled: Python files are compared by their hashes, JSON is parsed, and
of the weights only the header is read.
"""

import os

from ..modeling import E4SRecConfig
from .bases import folder_of_base, model_type_of, read_base_config
from .configs import read_config
from .files import check_files, read_documents
from .findings import Finding, Verification, unchecked
from .released_code import check_code
from .sources import UnreadableError, open_source
from .tokenizers import check_tokenizer
from .weights import check_weights

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

    Its Python files must be those of one release, byte for byte; its weights one safetensors file with exactly the
    tensors that its config asks for; its config and its tokenizer may lead to no other code, repo or path; and nothing
    else may lie there but kinds of files that are known to be harmless.

    Args:
        source: Folder or Hub id of a model, E4SRec or SASRec.
        revision: Branch, tag or commit on the Hub. What was looked at is one commit: load that one.
        token: Token for the Hub.
        cache_dir: The cache of the Hub that files are read through.
        check_base: Whether the ``config.json`` of a base on the Hub is read, without which the shapes of LoRA weights
            are not known. That of a base inside the repo is always read.

    Returns:
        The verdict. What cannot be read does not raise: it is among the findings, and then there is no pass.
    """
    name = os.fspath(source)
    try:
        repo = open_source(name, revision, token, cache_dir)
    except UnreadableError as error:
        return Verification(name, None, None, (unchecked(name, "cannot be read", str(error)),))
    documents, findings = read_documents(repo)
    content = documents.get("config.json")
    config, found = read_config(repo, documents)
    findings += found
    base = None
    inside = folder_of_base(content) is not None
    if isinstance(config, E4SRecConfig) and config.tuning == "lora" and (check_base or inside):
        base, found = read_base_config(config, documents, token=token, cache_dir=cache_dir)
        findings += found
    findings += check_files(repo, documents, folder_of_base(content))
    release, found = check_code(repo, model_type_of(content))
    findings += found
    findings += check_tokenizer(documents, None if config is None else config.vocab_size)
    findings += check_weights(repo, config, base)
    findings.sort(key=lambda finding: ("failed", "unchecked", "note").index(finding.kind))
    return Verification(repo.name, repo.commit, release, tuple(findings))
