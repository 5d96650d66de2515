"""An output folder that is written completely or not at all, even if the run is killed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import PreparationError

#: Only a folder with this file may be replaced.
PREPARATION_NAME = "preparation.json"
#: The end of the name of the folder for a preparation under way.
WORK = ".preparing"
#: Names of a complete data set on its way into a mount point: while old files are removed there, and while its move.
CLEARING, MOVING = "clearing", "moving"
#: What an empty folder may hold: our own, and what file systems put into their root.
NO_CONTENT = {WORK, "lost+found"}


@contextmanager
def workplace(output: Path, *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Yield a folder to fill and a folder for temporary files, both next to ``output``.

    If the block ends without an error, the first is renamed to ``output``; the second is always removed. The next run
    for the same ``output`` removes the remains of a killed run. A mount point cannot be renamed: there both folders are
    inside it, and the files move one by one; the next run goes on with that where it was stopped.

    Args:
        output: The final folder, an absolute path.
        overwrite: Whether to replace an existing prepared data set.

    Raises:
        PreparationError: If ``output`` exists and may not be replaced, or if another run is preparing it.
    """
    mounted = os.path.ismount(output)
    work = output / WORK if mounted else output.parent / f".{output.name}{WORK}"
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(work / "lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise PreparationError(f"{output} is being prepared by another run.") from error
    old, stage, scratch = (work / name for name in ("old", "new", "scratch"))
    try:
        _finish_moving(work, output)  # of a run that was stopped in it
        if old.exists() and not output.exists():  # killed between the two renames below
            old.rename(output)
        check_output(output, overwrite=overwrite)
        _clear(work, "lock")  # also an old data set: the check has passed, so it was replaced
        stage.mkdir()
        scratch.mkdir()
        yield stage, scratch
        check_output(output, overwrite=overwrite)
        if mounted:
            stage.rename(work / CLEARING)
            _finish_moving(work, output)
        else:
            _replace(output, stage, old)
    finally:
        _clear(work, "lock", old.name, CLEARING, MOVING)
        (work / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # it may still hold an old data set, or be gone
            work.rmdir()
        lock.release()


def _finish_moving(work: Path, output: Path) -> None:
    """Put a complete data set into its mount point, from wherever this was stopped."""
    clearing, moving = work / CLEARING, work / MOVING
    if clearing.exists():
        _clear(output, *NO_CONTENT)
        clearing.rename(moving)
    if moving.exists():
        for path in moving.iterdir():
            path.rename(output / path.name)
        moving.rmdir()


def _replace(output: Path, stage: Path, old: Path) -> None:
    if output.exists():
        output.rename(old)
    try:
        os.rename(stage, output)
    except BaseException:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(folder: Path, *kept: str) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_output(output: Path, *, overwrite: bool) -> None:
    """Check that ``output`` may be written.

    Raises:
        PreparationError: If it exists and is not a prepared data set, or ``overwrite`` is false.
    """
    if not output.exists() or (output.is_dir() and not {path.name for path in output.iterdir()} - NO_CONTENT):
        return
    if not (output / PREPARATION_NAME).is_file():
        raise PreparationError(f"{output} exists and is not a prepared data set: choose another --output.")
    if not overwrite:
        raise PreparationError(f"{output} exists: use --overwrite to replace it.")
