"""A prepared data set as a Hub repo: whole sequences, the leave-one-out splits, the items with their titles, a card."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from .cards import kept_licence, template
from .data.sequences import catalogue
from .data.splits import LEAVE_ONE_OUT, MIN_ITEMS, describe_split, leave_one_out
from .json_files import read_json, write_json
from .markdown import name_value_table, plain, python_literal, table
from .modeling.saving import staged_directory
from .training_facts import describe_data

SEQUENCES_NAME = "sequences.parquet"
ITEMS_NAME = "items.parquet"
#: Name and sizes of the data, for its card.
FACTS_NAME = "dataset.json"
#: Bad records of the raw logs, as they were: they stay here when a data set is pushed.
REJECTED_NAME = "rejected.jsonl"
#: A picture of what is in it, where it was prepared from raw logs.
PICTURE_NAME = "preparation.png"
SPLITS = ("train", "validation", "test")
SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


def save_dataset(
    sequences: Dataset,
    directory: str | os.PathLike[str],
    *,
    name: str | None = None,
    titles: Mapping[str, str] | None = None,
    source: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,  # noqa: A002 - as DatasetCardData calls it
) -> None:
    """Write a prepared data set to a folder that `load_sequences` reads and that can be uploaded as it is.

    It holds ``sequences.parquet`` (``user_id``, ``item_ids``, ``timestamps`` if there are any; one row a user),
    ``leave_one_out/train.parquet``, ``…/validation.parquet`` and ``…/test.parquet`` (see `leave_one_out`),
    ``items.parquet`` (``item_id`` and ``title``, in the order of the catalogue), ``dataset.json`` and the card.

    Args:
        sequences: Whole sequences as `load_sequences` gives them, before any split.
        directory: The folder.
        name: What the data set is called; by default as the repo or the folder.
        titles: Item id to title. Items of it that no sequence has are part of the catalogue too.
        source: Where the data is from and how it was prepared: Markdown for the card.
        repo_id: How the examples on the card call it; by default the folder.
        license: Of the data, as the Hub names licences; by default the card of the folder keeps the one it has.

    Raises:
        ValueError: If the sequences are not whole or empty.
    """
    if missing := [column for column in ("user_id", "item_ids") if column not in sequences.column_names]:
        raise ValueError(f"The sequences have no column {missing}; give what load_sequences returns.")
    if not len(sequences):
        raise ValueError("There are no sequences: the data set is empty.")
    name = name or (repo_id or Path(directory).absolute().name).rsplit("/", 1)[-1]
    titles = titles or {}
    items = list(dict.fromkeys([*titles, *catalogue(sequences)]))
    splits = leave_one_out(sequences)
    with staged_directory(directory) as stage:
        sequences.to_parquet(stage / SEQUENCES_NAME)
        (stage / "leave_one_out").mkdir()
        for split in SPLITS:
            splits[split].to_parquet(stage / "leave_one_out" / f"{split}.parquet")
        Dataset.from_dict({"item_id": items, "title": [titles.get(item) for item in items]}).to_parquet(
            stage / ITEMS_NAME
        )
        facts = {
            **describe_data(name, sequences, len(items)),
            "titles": len(titles),
            "source": source,
            "short": sum(len(history) < MIN_ITEMS for history in sequences["item_ids"]),
            "split": LEAVE_ONE_OUT,
            "splits": {split: len(splits[split]) for split in SPLITS},
        }
        write_json(stage / FACTS_NAME, facts)
        fields = kept_licence(directory) if license is None else {"license": license}
        _write_card(stage, facts, repo_id or os.fspath(directory), fields)


def refresh_dataset_card(
    directory: str | os.PathLike[str],
    repo_id: str | None = None,
    *,
    license: str | None = None,  # noqa: A002 - as DatasetCardData calls it
) -> None:
    """Write ``README.md`` of a folder of [`save_dataset`] or `prepare` anew.

    Args:
        directory: The folder.
        repo_id: How the examples call the repo; by default the folder.
        license: Of the data; by default the card keeps the one it has.

    Raises:
        FileNotFoundError: If it is no such folder.
    """
    facts = read_json(Path(directory, FACTS_NAME))
    if not facts:
        raise FileNotFoundError(f"{directory} holds no {FACTS_NAME}: write the data set with save_dataset.")
    fields = kept_licence(directory) if license is None else {"license": license}
    with staged_directory(directory) as stage:
        _write_card(stage, facts, repo_id or os.fspath(directory), fields)


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
    """Upload a prepared data set with its items and its card to the Hub, in one commit.

    Args:
        data: Sequences as for [`save_dataset`], or the folder of a data set that `save_dataset` or `prepare` wrote. Its
            card says the repo's name in its examples; bad records (``rejected.jsonl``) are not sent.
        repo_id: ``namespace/name`` of the data set; it is made where it does not exist.
        private: Whether a repo that is made is private; by default as the account says.
        revision: Branch to commit to, made where it does not exist; ``main`` by default.
        commit_message: Of the commit.
        token: By default the one that is logged in.
        contents: For sequences, ``name``, ``titles``, ``source`` and ``license`` as for [`save_dataset`]; for a folder,
            ``license``.

    Returns:
        The address of the commit.

    Raises:
        ValueError: As [`save_dataset`], or if ``repo_id`` is no name of a repo.
        FileNotFoundError: If the folder holds no data set.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "dataset")
        if isinstance(data, Dataset):
            save_dataset(data, folder, repo_id=repo_id, **contents)
        else:
            folder.mkdir()
            for name in ("README.md", FACTS_NAME):  # the card is written anew, the rest is sent from where it lies
                if Path(data, name).is_file():
                    shutil.copy(Path(data, name), folder)
            refresh_dataset_card(folder, repo_id, **contents)
        files = {} if isinstance(data, Dataset) else _files_of(Path(data))
        files.pop(REJECTED_NAME, None)
        files |= _files_of(folder)
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, repo_type="dataset", exist_ok=True)
        # not upload_folder, which cuts an upload into several commits where hf_xet is installed
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


def load_facts_of_dataset(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, Any]:
    """The content of ``dataset.json`` of a prepared data set; empty where `source` is none.

    Args:
        source: A folder or a Hub id.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.
    """
    try:
        file = _find_file(source, FACTS_NAME, **hub_arguments)
    except RepositoryNotFoundError:
        return {}
    return {} if file is None else read_json(file)


def load_split(
    source: str | os.PathLike[str], kind: str, split: str, *, streaming: bool = False, **hub_arguments: Any
) -> Any:
    """A split of a prepared data set, or its whole sequences.

    Args:
        source: A folder or a Hub id.
        kind: ``kind`` of the split in ``dataset.json``; ``""`` for the whole sequences.
        split: ``train``, ``validation`` or ``test``; of the whole sequences ``train``.
        streaming: Give an iterable data set that reads as it goes, instead of one in memory-mapped files.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Returns:
        A `Dataset`, or an `IterableDataset`.
    """
    if not Path(source).is_dir():
        return load_dataset(os.fspath(source), kind or "sequences", split=split, streaming=streaming, **hub_arguments)
    file = Path(source, kind, f"{split}.parquet") if kind else Path(source, SEQUENCES_NAME)
    return load_dataset("parquet", data_files={split: str(file)}, split=split, streaming=streaming)


def load_catalogue(source: str | os.PathLike[str], **hub_arguments: Any) -> dict[str, str | None]:
    """The items that a prepared data set brings along, in order, each with its title or ``None``.

    Args:
        source: What `load_sequences` was given. A file has no items beside it; neither have other data sets.
        hub_arguments: ``revision``, ``token``, …, for a Hub id.

    Returns:
        Empty if there are none.
    """
    file = _find_file(source, ITEMS_NAME, **hub_arguments)
    if file is None:
        return {}
    items = Dataset.from_parquet(str(file), keep_in_memory=True)
    if not {"item_id", "title"} <= set(items.column_names):
        return {}
    return dict(zip(items["item_id"], items["title"], strict=True))


def _find_file(source: str | os.PathLike[str], name: str, **hub_arguments: Any) -> Path | None:
    """A file of a folder or of a data set on the Hub; ``None`` where there is none."""
    if Path(source).exists():
        file = Path(source, name)
        return file if file.is_file() else None
    try:
        return Path(hf_hub_download(os.fspath(source), name, repo_type="dataset", **hub_arguments))
    except EntryNotFoundError:  # also offline, of a data set that was read without it
        return None


def _write_card(directory: Path, facts: Mapping[str, Any], repo_id: str, fields: dict[str, Any]) -> None:
    counts = {count: f"{facts[count]:,}" for count in ("users", "items", "interactions")}
    counts["interactions a user"] = f"{facts['interactions'] / facts['users']:.1f}"
    counts["items with a title"] = f"{facts['titles']:,}"
    split_facts = facts.get("split", LEAVE_ONE_OUT)
    kind = split_facts["kind"]
    data = DatasetCardData(
        pretty_name=facts["name"],
        size_categories=next((category for most, category in SIZE_CATEGORIES if facts["users"] < most), "10M<n<100M"),
        task_categories=["other"],
        tags=["sequential-recommendation", "recommendation"],
        configs=[
            {"config_name": "sequences", "default": True, "data_files": [_file("train", SEQUENCES_NAME)]},
            {
                "config_name": kind,
                "data_files": [_file(split, f"{kind}/{split}.parquet") for split in SPLITS],
            },
            {"config_name": "items", "data_files": [_file("train", ITEMS_NAME)]},
        ],
        **fields,
    )
    card = DatasetCard.from_template(
        data,
        template_str=template("dataset_card.md"),
        title=plain(facts["name"]),
        source=facts["source"],
        sizes=name_value_table(("size", ""), counts | {"SHA-256": facts["sha256"]}),
        splits=table(("split", "rows"), [(split, f"{facts['splits'][split]:,}") for split in SPLITS]),
        kind=kind,
        protocol=describe_split(split_facts),
        picture=facts.get("picture"),
        short=f"{facts['short']:,}" if facts["short"] else None,
        min_items=MIN_ITEMS,
        repo_id=python_literal(repo_id),
        shell_id=shlex.quote(repo_id),
    )
    card.save(directory / "README.md")


def _file(split: str, path: str) -> dict[str, str]:
    return {"split": split, "path": path}
