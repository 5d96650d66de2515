"""Text files of sequences in the cache: of MovieLens, which may not be passed on, and of generated readers."""

import re
from pathlib import Path

from datasets import Dataset

from e4srec_hf.data.demo import make_demo_world
from e4srec_hf.data.opening import load_training_data
from e4srec_hf.preparation import SOURCES, prepare

MOVIELENS = "movielens"


def as_text(dataset: Path, cache: Path) -> Path:
    """The data set as a text file, a line a user: it is one, or a folder as MovieLens comes, which is prepared.

    Users and items with fewer than five ratings are left out; every rating is an interaction. ``demo-400`` is 400 users
    as the demo has them.

    Raises:
        FileNotFoundError: If it is none of these.
    """
    if dataset.is_file():
        return dataset
    text = cache / f"{dataset.name}.txt"
    if (readers := re.fullmatch(r"demo-(\d+)", dataset.name)) is not None:
        return _write(make_demo_world(n_users=int(readers[1])).sequences, text)
    raw = next((dataset / name for name in SOURCES[MOVIELENS].log.files if (dataset / name).is_file()), None)
    if raw is None:
        raise FileNotFoundError(f"there is no file {dataset}")
    if text.is_file() and text.stat().st_mtime > raw.stat().st_mtime:
        return text
    folder = cache / "prepared" / dataset.name
    prepare(MOVIELENS, str(raw), folder, user_core=5, item_core=5, overwrite=True)
    return _write(load_training_data(folder).sequences, text)


def _write(rows: Dataset, text: Path) -> Path:
    """Write sequences, whole or not at all."""
    lines = [" ".join([user, *items]) for user, items in zip(rows["user_id"], rows["item_ids"], strict=True)]
    text.parent.mkdir(parents=True, exist_ok=True)
    part = text.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(text)
    return text
