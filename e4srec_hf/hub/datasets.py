"""Save and push a prepared data set: whole sequences, leave-one-out splits, the items with their titles, a card."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import CommitOperationAdd, HfApi

from ..cards.dataset_card import refresh_dataset_card, write_dataset_card
from ..cards.model_card import kept_licence
from ..data.description import describe_data
from ..data.prepared import FACTS_NAME, ITEMS_NAME, REJECTED_NAME, SEQUENCES_NAME
from ..data.prepared_checks import SPLITS
from ..data.sequences import catalogue_of, sequences_from_table
from ..data.splits import LEAVE_ONE_OUT, MIN_ITEMS, leave_one_out
from ..data.titles import checked_titles
from ..errors import reaching_hub
from ..files import CARD_NAME, write_json
from ..modeling.saving import staged_directory


def save_dataset(
    sequences: Dataset,
    directory: str | os.PathLike[str],
    *,
    name: str | None = None,
    titles: Mapping[str, str | None] | None = None,
    source: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,  # noqa: A002 - as DatasetCardData calls it
) -> None:
    """Write a prepared data set to a folder that `load_sequences` reads and that can be uploaded as it is.

    The folder has ``sequences.parquet`` (``user_id``, ``item_ids``, ``timestamps`` if there are any; one row per user),
    ``leave_one_out/train.parquet``, ``…/validation.parquet`` and ``…/test.parquet`` (see `leave_one_out`),
    ``items.parquet`` (``item_id`` and ``title``, in the order of the catalogue), ``dataset.json`` and the card.

    Args:
        sequences: Whole sequences as `load_sequences` gives them, before any split.
        directory: The folder.
        name: Name of the data set; by default that of the repo or the folder.
        titles: Item id to title. Items that are in no sequence belong to the catalogue too.
        source: Origin and preparation of the data, as Markdown for the card.
        repo_id: The repo that the examples on the card load; by default the folder.
        license: Licence of the data, as the Hub names licences; by default the one on the present card is kept.

    Raises:
        TypeError: If the titles are no mapping.
        ValueError: If a column is missing, there are no sequences, or a title is none.
    """
    if missing := [column for column in ("user_id", "item_ids") if column not in sequences.column_names]:
        raise ValueError(f"The sequences have no column {missing}; pass what load_sequences returns.")
    if not len(sequences):
        raise ValueError("There are no sequences: the data set is empty.")
    timed = "timestamps" if "timestamps" in sequences.column_names else None
    sequences = sequences_from_table(sequences, timestamps_column=timed)  # ids as text
    name = name or (repo_id or Path(directory).absolute().name).rsplit("/", 1)[-1]
    known = checked_titles(titles, "titles")
    items = list(dict.fromkeys([*(titles or {}), *catalogue_of(sequences)]))
    splits = leave_one_out(sequences)
    with staged_directory(directory) as stage:
        sequences.to_parquet(stage / SEQUENCES_NAME)
        (stage / "leave_one_out").mkdir()
        for split in SPLITS:
            splits[split].to_parquet(stage / "leave_one_out" / f"{split}.parquet")
        Dataset.from_dict({"item_id": items, "title": [known.get(item) for item in items]}).to_parquet(
            stage / ITEMS_NAME
        )
        facts = {
            **describe_data(name, sequences, len(items)),
            "titles": len(known),
            "source": source,
            "short": sum(len(history) < MIN_ITEMS for history in sequences["item_ids"]),
            "split": LEAVE_ONE_OUT,
            "splits": {split: len(splits[split]) for split in SPLITS},
        }
        write_json(stage / FACTS_NAME, facts)
        fields = kept_licence(directory) if license is None else {"license": license}
        write_dataset_card(stage, facts, repo_id or os.fspath(directory), fields)


@reaching_hub("nothing was pushed")
def push_dataset(
    data: Dataset | str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload a prepared data set",
    token: str | None = None,
    **contents: Any,
) -> str:
    """Push a prepared data set with its items and its card to the Hub, in one commit.

    Args:
        data: Sequences as for [`save_dataset`], or the folder of a data set that `save_dataset` or `prepare` wrote. The
            examples on the card load the repo; rejected records (``rejected.jsonl``) are not pushed.
        repo_id: ``namespace/name`` of the data set; created if it does not exist.
        private: Visibility, if the repo is created; by default that of the account.
        revision: Branch, created if it does not exist; ``main`` by default.
        commit_message: Commit message.
        token: Token of an account that may write; by default the one you are logged in with.
        contents: For sequences, ``name``, ``titles``, ``source`` and ``license`` as for [`save_dataset`]; for a folder,
            ``license``.

    Returns:
        The URL of the commit.

    Raises:
        ValueError: As [`save_dataset`], or if ``repo_id`` is not a valid name of a repo.
        FileNotFoundError: If the folder has no data set.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "dataset")
        if isinstance(data, Dataset):
            save_dataset(data, folder, repo_id=repo_id, **contents)
        else:
            folder.mkdir()
            for name in (CARD_NAME, FACTS_NAME):  # only the card is rewritten
                if Path(data, name).is_file():
                    shutil.copy(Path(data, name), folder)
            refresh_dataset_card(folder, repo_id, **contents)
        files = {} if isinstance(data, Dataset) else _files_of(Path(data))
        files.pop(REJECTED_NAME, None)
        files |= _files_of(folder)
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, repo_type="dataset", exist_ok=True)
        # not upload_folder, which makes several commits if hf_xet is installed
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(name, path) for name, path in sorted(files.items())],
            commit_message=commit_message,
            repo_type="dataset",
            revision=revision,
        )
    return commit.commit_url


def _files_of(folder: Path) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}
