"""Names that users give: whether they mean a file or folder here, and what to say if it is missing."""

import os
from pathlib import Path

from .errors import closest

#: Suffixes of files, which no repo on the Hub has in its name.
FILE_SUFFIXES = (
    *(".bin", ".gguf", ".npy", ".pkl", ".pt", ".pth", ".safetensors"),
    *(
        ".arrow",
        ".csv",
        ".dat",
        ".json",
        ".jsonl",
        ".ndjson",
        ".parquet",
        ".tsv",
        ".txt",
        ".xls",
        ".xlsx",
        ".yaml",
        ".yml",
    ),
    *(".gz", ".zip"),
)


def check_exists(name: str | os.PathLike[str], *, bare_names: bool = False) -> None:
    """Refuse a missing file or folder before it is looked for on the Hub.

    Args:
        name: What the user gave: a file, a folder or a Hub id.
        bare_names: Whether a repo on the Hub may be named without its namespace, like ``gpt2``.

    Raises:
        FileNotFoundError: If there is nothing here of that name, and it cannot be a Hub id or looks like a path.
    """
    text = os.fspath(name)
    if os.path.exists(text) or not (looks_like_path(text) or ("/" not in text and not bare_names)):
        return
    kind = "file" if Path(text).suffix.lower() in FILE_SUFFIXES else "folder"
    hint = "" if looks_like_path(text) else " (on the Hub, a name is org/name)"
    raise FileNotFoundError(f"no such {kind}: {text}{_similar(text) or hint}")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse a folder that does not exist.

    Raises:
        FileNotFoundError: If it does not.
        NotADirectoryError: If it is a file.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such folder: {os.fspath(path)}{_similar(os.fspath(path))}")
    if not os.path.isdir(path):
        raise NotADirectoryError(f"{os.fspath(path)} is a file; expected a folder.")


def check_writable(folder: str | os.PathLike[str], option: str) -> None:
    """Refuse a folder to write to, before any work is done for it.

    Args:
        folder: It may not exist yet.
        option: What the user calls it.

    Raises:
        OSError: If it is a file or under one, or may not be written.
    """
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise NotADirectoryError(f"{option} {os.fspath(folder)}: {there} is no folder; choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} {os.fspath(folder)}: {there} may not be written to; choose another one")


def looks_like_path(name: str) -> bool:
    """Whether a name can only mean a file or folder here: by its form, or because its parent folder is here."""
    path = Path(name)
    return (
        name.startswith((".", "/", "~"))
        or name.endswith("/")
        or "\\" in name
        or name.count("/") > 1
        or path.suffix.lower() in FILE_SUFFIXES
        or ("/" in name and path.parent.is_dir())
    )


def _similar(name: str) -> str:
    """A question after the name that the user may have meant."""
    path = Path(name)
    beside = {entry.name: entry for entry in path.parent.iterdir()} if path.parent.is_dir() else {}
    close = closest(path.name, beside, similarity=0.75)
    return f"; did you mean {beside[close]}?" if close else ""
