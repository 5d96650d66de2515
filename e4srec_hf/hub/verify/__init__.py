"""Verify that a repo contains what a release of this package writes, and nothing else, before you load it.

Nothing in the repo is imported, executed or unpickled: Python files are compared by hash, JSON is parsed, and only the
header of the weights is read.
"""

import os

from ...modeling import E4SRecConfig
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

    The Python files must equal those of one release, byte for byte. The weights must be one safetensors file with
    exactly the tensors that the config requires. The config and the tokenizer must not refer to other code, repos or
    paths. Other files must be of a kind known to be harmless.

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
