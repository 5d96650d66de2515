"""A folder of MovieLens as a text file of sequences, in the cache: MovieLens may not be passed on."""

from pathlib import Path

from e4srec_hf.data.opening import load_training_data
from e4srec_hf.preparation import SOURCES, prepare

MOVIELENS = "movielens"


def as_text(dataset: Path, cache: Path) -> Path:
    """The data set as a text file, a line a user: it is one, or a folder as MovieLens comes, which is prepared.

    Users and items with fewer than five ratings are left out; every rating is an interaction.

    Raises:
        FileNotFoundError: If it is neither.
    """
    if dataset.is_file():
        return dataset
    raw = next((dataset / name for name in SOURCES[MOVIELENS].log.files if (dataset / name).is_file()), None)
    if raw is None:
        raise FileNotFoundError(f"there is no file {dataset}")
    text = cache / f"{dataset.name}.txt"
    if text.is_file() and text.stat().st_mtime > raw.stat().st_mtime:
        return text
    folder = cache / "prepared" / dataset.name
    prepare(MOVIELENS, str(raw), folder, user_core=5, item_core=5, overwrite=True)
    rows = load_training_data(folder).sequences
    lines = [" ".join([user, *items]) for user, items in zip(rows["user_id"], rows["item_ids"], strict=True)]
    cache.mkdir(parents=True, exist_ok=True)
    part = text.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(text)
    return text
