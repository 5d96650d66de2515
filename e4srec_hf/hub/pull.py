"""Pull a model from the Hub, and read the item titles in its repo."""

import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from transformers.utils import cached_file

from ..errors import reaching_hub
from ..files import REQUIRED_FILES, TITLES_NAME, is_model_file, read_json
from ..modeling.saving import staged_directory


@reaching_hub("nothing was pulled")
def pull(
    repo_id: str,
    directory: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Download the files of a model from the Hub to a folder, all or nothing. None of its code is run.

    Args:
        repo_id: ``org/name``.
        directory: A new or empty folder.
        revision: Branch, tag or commit.
        token: Token for a private repo.

    Returns:
        The commit.

    Raises:
        FileExistsError: If the folder is not empty.
        FileNotFoundError: If the repo has no model of this package; the missing files are named.
    """
    if Path(directory).is_dir() and any(Path(directory).iterdir()):
        raise FileExistsError(f"{directory} is not empty: pull to a new folder.")
    api = HfApi(token=token)
    commit = str(api.model_info(repo_id, revision=revision).sha)
    names = [name for name in api.list_repo_files(repo_id, revision=commit) if is_model_file(name)]
    if missing := [name for name in REQUIRED_FILES if name not in names]:
        raise FileNotFoundError(f"{repo_id} is not a model of this package: it lacks {', '.join(missing)}.")
    snapshot = Path(snapshot_download(repo_id, revision=commit, token=token, allow_patterns=names))
    with staged_directory(directory) as stage:
        for name in names:
            (stage / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(snapshot / name, stage / name)
    return commit


def item_titles(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, str]:
    """Raw item id to title, from a folder or Hub repo; empty if it has no titles.

    Args:
        source: Folder or Hub id of a model.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.
    """
    file = cached_file(
        source,
        TITLES_NAME,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_arguments,
    )
    return {} if file is None else read_json(file)
