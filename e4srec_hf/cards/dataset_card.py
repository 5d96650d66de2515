"""The data set card: sizes, splits and protocol of a prepared data set, from its ``dataset.json``."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from ..data.prepared import FACTS_NAME, ITEMS_NAME, SEQUENCES_NAME
from ..data.prepared_checks import SPLITS
from ..data.splits import LEAVE_ONE_OUT, MIN_ITEMS, describe_split
from ..files import CARD_NAME, read_json
from ..modeling.saving import staged_directory
from .markdown import name_value_table, plain, python_literal, table
from .model_card import kept_licence, template

SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


def refresh_dataset_card(
    directory: str | os.PathLike[str],
    repo_id: str | None = None,
    *,
    license: str | None = None,  # noqa: A002 - as DatasetCardData calls it
) -> None:
    """Write ``README.md`` in a folder that `save_dataset` or `prepare` wrote.

    Args:
        directory: The folder.
        repo_id: The repo that the examples load; by default the folder.
        license: Licence of the data; by default the one on the present card is kept.

    Raises:
        FileNotFoundError: If the folder has no ``dataset.json``.
    """
    facts = read_json(Path(directory, FACTS_NAME))
    if not facts:
        raise FileNotFoundError(f"{directory} holds no {FACTS_NAME}: write the data set with save_dataset.")
    fields = kept_licence(directory) if license is None else {"license": license}
    with staged_directory(directory) as stage:
        write_dataset_card(stage, facts, repo_id or os.fspath(directory), fields)


def write_dataset_card(directory: Path, facts: Mapping[str, Any], repo_id: str, fields: dict[str, Any]) -> None:
    """Write the card of a data set.

    Args:
        directory: Folder to write ``README.md`` to.
        facts: The content of ``dataset.json``.
        repo_id: Repo or folder that the examples load; ``./name`` from the folder around it.
        fields: Further metadata, such as the licence.
    """
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
        here=repo_id == f"./{Path(repo_id).name}",
        repo_id=python_literal(repo_id),
        shell_id=shlex.quote(repo_id),
    )
    card.save(directory / CARD_NAME)


def _file(split: str, path: str) -> dict[str, str]:
    return {"split": split, "path": path}
