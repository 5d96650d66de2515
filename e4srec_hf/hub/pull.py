"""Model repos on the Hub: pulling one, and what lies in it besides the model."""

import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from transformers.utils import cached_file

from ..files import REQUIRED_FILES, TITLES_NAME, is_model_file, read_json
from ..modeling.saving import staged_directory


def pull(
    repo_id: str,
    directory: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Bring a model from the Hub into a folder, whole or not at all, and nothing else. Nothing of it is run.

    Args:
        repo_id: ``org/name``.
        directory: Where to: a new folder, or an empty one.
        revision: Branch, tag or commit.
        token: For a private repo.

    Returns:
        The commit.

    Raises:
        FileExistsError: If there is something in the folder.
        FileNotFoundError: If the repo is none of a model of this package; what it lacks is named.
    """
    if Path(directory).is_dir() and any(Path(directory).iterdir()):
        raise FileExistsError(f"{directory} is not empty: pull to a new folder.")
    api = HfApi(token=token)
    commit = str(api.model_info(repo_id, revision=revision).sha)
    names = [name for name in api.list_repo_files(repo_id, revision=commit) if is_model_file(name)]
    if missing := [name for name in REQUIRED_FILES if name not in names]:
        raise FileNotFoundError(f"{repo_id} is no model of this package: it lacks {', '.join(missing)}.")
    snapshot = Path(snapshot_download(repo_id, revision=commit, token=token, allow_patterns=names))
    with staged_directory(directory) as stage:
        for name in names:
            (stage / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(snapshot / name, stage / name)
    return commit


def item_titles(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, str]:
    """The titles that a folder or Hub repo brings along; empty if it has none.

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
