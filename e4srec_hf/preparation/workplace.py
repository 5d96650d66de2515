"""A folder that appears whole or not at all, however its making ends."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import PreparationError

#: What makes a folder one that may be replaced.
PREPARATION_NAME = "preparation.json"


@contextmanager
def workplace(output: Path, *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Yield a folder to fill, and one for what is needed on the way, both beside ``output``.

    The first becomes ``output`` once the block has ended without an error; both are gone then. What a killed run left
    is removed by the next one for the same ``output``.

    Args:
        output: Where the folder appears, an absolute path.
        overwrite: Whether a prepared data set that is there is replaced.

    Raises:
        PreparationError: If something is there that may not be replaced, or another run is at work on it.
    """
    work = output.parent / f".{output.name}.preparing"
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(work / "lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise PreparationError(f"{output} is being prepared by another run.") from error
    old, stage, scratch = work / "old", work / "new", work / "scratch"
    try:
        if old.exists() and not output.exists():  # killed between the two renames below
            old.rename(output)
        check_output(output, overwrite=overwrite)
        _clear(work, "lock")  # an old data set was replaced, since what is there is prepared
        stage.mkdir()
        scratch.mkdir()
        yield stage, scratch
        check_output(output, overwrite=overwrite)
        if output.exists():
            output.rename(old)
        try:
            os.rename(stage, output)
        except BaseException:
            if old.exists():
                old.rename(output)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        _clear(work, "lock", old.name)
        (work / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # an old data set may still be in it, or the folder is gone
            work.rmdir()
        lock.release()


def _clear(folder: Path, *kept: str) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse to replace what is no prepared data set, or may not be replaced.

    Raises:
        PreparationError: If so.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / PREPARATION_NAME).is_file():
        raise PreparationError(f"{output} exists and is no prepared data set: choose another --output.")
    if not overwrite:
        raise PreparationError(f"{output} exists: --overwrite replaces it.")
